"""Client information responses (RFC 7591 section 3.2.1, RFC 7592 section 3).

Parsing is strict about credentials, which are kept exactly or not at all, and tolerant otherwise.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from django_dcr import uris
from django_dcr.protocol.authentication import ASSERTION_METHODS, AUTHENTICATION_METHODS
from django_dcr.protocol.client_metadata import (
    KEY_MEMBERS,
    SECRET_METHODS,
    claimed_metadata,
    merge_metadata,
    parse_metadata,
)
from django_dcr.protocol.errors import quoted
from django_dcr.protocol.headers import http_date
from django_dcr.text import SensitiveText, clean, hides_variables

MAX_CLIENT_ID_LENGTH = 16_384
MAX_CLIENT_SECRET_LENGTH = 262_144
MAX_ACCESS_TOKEN_LENGTH = 16_384
#: In seconds since 1970; larger numbers are milliseconds or meaningless.
MAX_TIMESTAMP = 10**11
MAX_DEVIATIONS = 50

# In seconds; smaller differences are ignored, and larger ones are not a clock's error.
_MIN_CLOCK_OFFSET = 60
MAX_CLOCK_OFFSET = 24 * 3600

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class ClientInformation:
    """A parsed client information response, which may be used where ``faults`` is empty.

    None stands for a member that is missing or unusable; timestamps are seconds since 1970.
    """

    client_id: str | None
    client_secret: str | None = field(repr=False)
    #: 0 means never.
    client_secret_expires_at: int | None
    client_id_issued_at: int | None
    registration_client_uri: str | None
    registration_access_token: str | None = field(repr=False)
    #: The granted client metadata in its RFC types: no credentials, nothing null or empty.
    metadata: dict[str, Any]
    #: A sentence for each deviation that was tolerated.
    deviations: tuple[str, ...]
    #: The reasons why the response cannot be used.
    faults: tuple[str, ...]
    #: Seconds by which this site's clock is ahead of the server's; 0 where they differ by less than
    #: a minute, or where it is unknown.
    clock_offset: int = 0
    #: The error in the response, cleaned, as part of a sentence.
    error: str = ""


@hides_variables
def client_information(
    document: Mapping[str, Any],
    *,
    requested: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
    secrets: Collection[str] | None = None,
) -> ClientInformation:
    """Parse a response; never raises.

    ``requested`` is the body of a registration request: members that the response omits were
    granted as requested, and the credentials must be complete. The Date in ``headers`` gives the
    server's clock. ``secrets`` are removed from the text of an error; without them there is none.
    """
    metadata, deviations = parse_metadata(document)
    reader = _Reader(document, deviations)
    client_id = reader.client_id()
    client_secret = reader.client_secret()
    expires_at = reader.timestamp("client_secret_expires_at")
    if client_secret is not None and document.get("client_secret_expires_at") is None:
        reader.deviations.append(
            "The member client_secret_expires_at is missing, so the expiry is unknown."
        )
    issued_at = reader.timestamp("client_id_issued_at")
    method = str({**(requested or {}), **metadata}.get("token_endpoint_auth_method"))
    offset = reader.clock_offset(
        expires_at,
        None if requested is None else issued_at,
        headers.get("Date", ""),
        signs=method in ASSERTION_METHODS,
    )
    uri = reader.registration_client_uri()
    token = reader.registration_access_token()
    if document.get("error"):
        reader.faults.append("the answer is an error")
    if requested is not None:
        reader.statement(requested.get("software_statement"))
        wanted = merge_metadata(parse_metadata(requested)[0], claimed_metadata(requested))
        metadata = merge_metadata(wanted, metadata, reader.public_client(wanted, client_secret))
        reader.compare(wanted, metadata)
        reader.suffices(metadata, wanted, client_secret, uri, token)
    return ClientInformation(
        client_id=client_id,
        client_secret=client_secret,
        client_secret_expires_at=expires_at,
        client_id_issued_at=issued_at,
        registration_client_uri=uri,
        registration_access_token=token,
        metadata=metadata,
        deviations=tuple(clean(sentence) for sentence in reader.deviations[:MAX_DEVIATIONS]),
        faults=tuple(reader.faults),
        clock_offset=offset,
        error=reader.error(secrets),
    )


class _Reader:
    """Parses one response and collects its deviations and faults."""

    def __init__(self, document: Mapping[str, Any], deviations: list[str]) -> None:
        self.document = document
        self.deviations = deviations
        self.faults: list[str] = []

    def error(self, secrets: Collection[str] | None) -> str:
        if secrets is None or not self.document.get("error"):
            return ""
        names = ("client_secret", "registration_access_token")
        issued = [self.document[name] for name in names if name in self.document]
        return quoted(
            self.document, [*secrets, *(text for text in issued if isinstance(text, str))]
        )

    def client_id(self) -> str | None:
        value = self.document.get("client_id")
        if value is None:
            self.faults.append("client_id is missing")
        elif not _is_text(value, MAX_CLIENT_ID_LENGTH) or not value.strip():
            self.faults.append("client_id is not usable text")
        else:
            return str(value)
        return None

    def client_secret(self) -> str | None:
        value = self.document.get("client_secret")
        if value is None or value == "":
            return None
        if not _is_text(value, MAX_CLIENT_SECRET_LENGTH):
            self.faults.append("client_secret is not usable text")
            return None
        if set(value) <= set("*•"):
            self.deviations.append("The member client_secret is masked, so it counts as absent.")
            return None
        return SensitiveText(value)

    def registration_access_token(self) -> str | None:
        value = self.document.get("registration_access_token")
        if value is None:
            return None
        if value == "" or (isinstance(value, str) and set(value) <= set("*• ")):
            self.deviations.append(
                "The member registration_access_token is empty or masked, so it counts as absent."
            )
            return None
        # What a header may contain, which is more than RFC 6750 section 2.1 allows in a token.
        visible = isinstance(value, str) and re.fullmatch("[!-~]+", value)
        if not visible or len(value) > MAX_ACCESS_TOKEN_LENGTH:
            self.faults.append("registration_access_token is not usable in a header")
            return None
        return SensitiveText(value)

    def registration_client_uri(self) -> str | None:
        value = self.document.get("registration_client_uri")
        if value is None or value == "":
            return None
        try:
            uris.parse(value)
        except ValueError as exc:
            self.deviations.append(f"The member registration_client_uri was dropped: it {exc}.")
            return None
        return str(value)

    def timestamp(self, name: str) -> int | None:
        value = self.document.get(name)
        if value is None:
            return None
        seconds = _whole_number(value)
        if seconds is None or not 0 <= seconds <= MAX_TIMESTAMP:
            self.deviations.append(f"The member {name} was dropped: it is not a time in seconds.")
            return None
        if not isinstance(value, int):
            self.deviations.append(f"The member {name} came as {type(value).__name__}.")
        return seconds

    def clock_offset(
        self, expires_at: int | None, issued_at: int | None, date: str, *, signs: bool
    ) -> int:
        """Return the seconds by which this clock is ahead of the server's, by the response.

        The Date header gives the server's clock, unless a proxy with another clock wrote it: then
        the secret would have expired before it was issued, and ``issued_at`` of a new client is
        used.
        """
        if not expires_at and not signs:
            return 0  # no time depends on it
        now = time.time()
        sent_at = http_date(date)
        if sent_at is None or (issued_at is not None and issued_at < (expires_at or 0) <= sent_at):
            sent_at = issued_at
        # In whole minutes, so that it is the same each time.
        offset = 0 if sent_at is None else round((now - sent_at) / 60) * 60
        if not _MIN_CLOCK_OFFSET < abs(offset) <= MAX_CLOCK_OFFSET:
            return 0
        side = "behind" if offset > 0 else "ahead of"
        what = "secret's expiry is" if expires_at else "times in what the client signs are"
        self.deviations.append(
            f"The server's clock is {abs(offset) // 60} minutes {side} this site's, so the "
            f"{what} calculated by the server's."
        )
        return offset

    def statement(self, sent: object) -> None:
        """Record a software statement that is not the one sent (RFC 7591 section 3.2.1)."""
        if self.document.get("software_statement") not in (None, sent):
            self.deviations.append("The member software_statement came back changed.")

    def public_client(self, requested: Mapping[str, Any], secret: str | None) -> dict[str, str]:
        """Return the method "none" where it is stated as null or "" and there is no secret.

        A member that is omitted was granted as requested, but one that is null was not.
        """
        name = "token_endpoint_auth_method"
        stated = self.document.get(name, ...)
        needs_secret = requested.get(name, "client_secret_basic") in SECRET_METHODS
        if secret is not None or stated not in (None, "") or not needs_secret:
            return {}
        self.deviations.append(
            f"The member {name} is empty and there is no client_secret, so the client counts as "
            "public."
        )
        return {name: "none"}

    def compare(self, requested: Mapping[str, Any], granted: Mapping[str, Any]) -> None:
        """Record what was requested and not granted (RFC 7591 section 3.2.1)."""
        for name in ("redirect_uris", "grant_types"):
            if not set(requested.get(name, ())) <= set(granted.get(name, ())):
                self.deviations.append(f"The member {name} lacks what was requested.")

    def suffices(
        self,
        granted: Mapping[str, Any],
        requested: Mapping[str, Any],
        secret: str | None,
        uri: str | None,
        token: str | None,
    ) -> None:
        """Record where the credentials do not suffice for what was granted."""
        method = granted.get("token_endpoint_auth_method", "client_secret_basic")
        if secret is None and method in SECRET_METHODS:
            self.faults.append(
                f"client_secret is missing, which {method} needs; if this server registers public "
                'clients, ask for token_endpoint_auth_method "none"'
            )
        wanted = requested.get("token_endpoint_auth_method")
        if method != wanted and not _can_authenticate(granted, method):
            self.deviations.append(
                f"The client was registered with the method {clean(method, 100)}, which this "
                "app does not support for logins."
            )
        if secret is not None and method == "none":
            self.deviations.append("The member client_secret came although the client is public.")
        # OpenID Connect Registration section 3.2: both or neither.
        if (uri is None) != (token is None):
            missing = "registration_client_uri" if uri is None else "registration_access_token"
            self.deviations.append(f"The member {missing} is missing, so this cannot be managed.")


def _can_authenticate(granted: Mapping[str, Any], method: object) -> bool:
    # Without granted keys the server knows none.
    has_keys = any(granted.get(name) for name in KEY_MEMBERS)
    return method in AUTHENTICATION_METHODS and (method != "private_key_jwt" or has_keys)


def _is_text(value: object, limit: int) -> bool:
    return isinstance(value, str) and len(value) <= limit and not _CONTROLS.search(value)


def _whole_number(value: object) -> int | None:
    # True is an int to isinstance().
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch("[0-9]{1,12}", value):
        return int(value)
    return None
