"""Storing a client that was registered in the server's console or by another tool."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError
from django.views.decorators.debug import sensitive_variables

from django_dcr import protocol, signals
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NotAllowedError,
    NotStoredError,
    errors_at,
)
from django_dcr.models import (
    AuthorizationServer,
    ClientRegistration,
    Mechanism,
    Status,
    check_owner,
)
from django_dcr.services.configuration import fetch, revoke_replaced
from django_dcr.services.operation import (
    Operation,
    announce,
    conflict,
    operation,
    refuse_inside_atomic,
)
from django_dcr.services.replacement import finish, make_live
from django_dcr.text import SensitiveText, clean, hides_variables

# What consoles show in place of a secret or part of one.
_MASKED = re.compile(r"[*\u2022\u25cf\u00b7\u2026]{3}|^[xX]{4,}$|^\.{3,}$")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# A row in one of these statuses has no client, and is replaced by the adopted one.
_WITHOUT_CLIENT = (Status.DRAFT, Status.REJECTED, Status.UNKNOWN)
_IN_USE = (Status.ACTIVE, Status.REVOKING)
_MAX_LENGTH = 16_384
_MAX_TIMESTAMP = 10**11


@hides_variables
@sensitive_variables()
def adopt(
    issuer: str,
    owner: str = "",
    *,
    client_id: str,
    client_secret: str | None = None,
    client_secret_expires_at: int | None = None,
    registration_client_uri: str = "",
    registration_access_token: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> ClientRegistration:
    """Store a client that already exists at ``issuer``, and return its active row.

    ``client_secret_expires_at`` is in seconds since 1970, 0 for never. With
    ``registration_client_uri`` and ``registration_access_token`` (RFC 7592) the client is read
    first, and can then be managed like any other. ``metadata`` is what the client was registered
    with; its ``token_endpoint_auth_method`` is used as stated.
    With ``replace`` the client takes the place of the one that the owner has there, which is
    then revoked. A new secret of the same client is stored in this way, too: whatever is not
    given again is kept. A row without a client ("draft", "rejected" or "unknown") is replaced in
    any case.

    Raises NotAllowedError for what cannot be a credential, such as a masked secret, and for a
    ``registration_client_uri`` that is not on an origin of this server; ConflictError where the
    client, or another one of this owner, is already stored; and what ``read()`` raises. Nothing
    is stored then.
    """
    with errors_at(issuer, "register"):
        registration = ClientRegistration(
            server=_allowed_server(issuer, owner),
            owner=owner,
            mechanism=Mechanism.PRE_REGISTERED,
            requested_metadata=protocol.as_stored(metadata or {}),
            client_id=_credential("client_id", client_id),
            client_secret=_optional("client_secret", client_secret),
            client_secret_expires_at=_expiry(client_secret_expires_at, client_secret),
            registration_client_uri=registration_client_uri.strip(),
            registration_access_token=_optional(
                "registration_access_token", registration_access_token
            ),
        )
        _check_management(registration)
        predecessor = _predecessor(registration, replace=replace)
        if predecessor is None:
            _fill_metadata(registration)
            _insert(registration)
            _confirm(registration, reads=registration.is_manageable)
            announce(signals.registered, registration)
        else:
            _take_the_place(registration, predecessor)
    return registration


def _allowed_server(issuer: str, owner: str) -> AuthorizationServer:
    check_owner(owner)
    server = AuthorizationServer.objects.for_issuer(issuer)
    server.check_allowed()
    return server


def _optional(name: str, value: str | None) -> str | None:
    return None if value is None else _credential(name, value)


@sensitive_variables()
def _credential(name: str, value: str) -> str:
    """Return a pasted value without surrounding white space; raise NotAllowedError if malformed."""
    found = SensitiveText(value.strip())
    fault = ""
    if not found:
        fault = "is blank"
    elif _MASKED.search(found):
        fault = "is masked, as the server's console shows it; copy the value, or make a new one"
    elif _CONTROL.search(found) or len(found) > _MAX_LENGTH:
        fault = "has line breaks or other control characters in it, or is too long"
    elif name == "registration_access_token" and not re.fullmatch("[!-~]+", found):
        fault = "has spaces or characters that are not allowed in a token (RFC 6750)"
    if fault:
        raise NotAllowedError(f"The {name} {fault}. Nothing was stored.")
    return found


def _expiry(moment: int | None, secret: str | None) -> int | None:
    if moment is None:
        return None
    fault = ""
    if isinstance(moment, bool) or not isinstance(moment, int) or not 0 <= moment < _MAX_TIMESTAMP:
        fault = "is not a number of seconds since 1970; write 0 for never"
    elif secret is None:
        fault = "is given without a client_secret; leave it out"
    if fault:
        raise NotAllowedError(f"The client_secret_expires_at {fault}.")
    return moment


def _check_management(registration: ClientRegistration) -> None:
    """Check that the URI and token of RFC 7592 are both given, and the URI is this server's."""
    uri, token = registration.registration_client_uri, registration.registration_access_token
    server = registration.server
    if bool(uri) != (token is not None):
        raise NotAllowedError(
            "To be managed (RFC 7592) a client needs registration_client_uri and "
            "registration_access_token; give both, or neither."
        )
    if uri:
        _check_origin(uri, server)
        refuse_inside_atomic()  # the server may issue a new token when read


def _check_origin(uri: str, server: AuthorizationServer) -> None:
    issuer, trusted = server.issuer, server.trusted_origins
    try:
        protocol.check_trusted_origin(uri, issuer=issuer, trusted_origins=trusted)
    except (InvalidResponseError, NotAllowedError) as exc:
        raise NotAllowedError(
            f"The registration_client_uri {clean(uri, 150)} is not an https URL at {issuer}, so it "
            "may be another server's. If it is this server's, trust its origin: manage.py "
            f"dcr_server {issuer} --set trusted_origins=ORIGINS"
        ) from exc


def _fill_metadata(registration: ClientRegistration) -> None:
    """Set the client's metadata to what was stated, with its authentication method.

    A method that is not stated is derived: "none" without a secret, and otherwise one that the
    server offers, as for a registration (RFC 7591 section 2).
    """
    requested = registration.requested
    protocol.check_client_metadata(requested, complete=False)
    method = requested.get("token_endpoint_auth_method") or protocol.secret_method(
        registration.server.metadata, has_secret=registration.client_secret is not None
    )
    if method in protocol.SECRET_METHODS and registration.client_secret is None:
        raise NotAllowedError(
            f"The method {clean(method, 60)} requires a client_secret, and none was given."
        )
    registration.metadata = {**requested, "token_endpoint_auth_method": method}
    registration.has_drift = bool(registration.drift)


def _predecessor(registration: ClientRegistration, *, replace: bool) -> ClientRegistration | None:
    """Return the row to replace; raise ConflictError where one is in the way."""
    held_by = registration.rivals().select_related("server").first()
    twin = registration.duplicates().select_related("server").first()
    if twin is not None and twin != held_by:
        raise conflict(
            twin,
            "already has this client, and one row is enough; where it may serve every owner, "
            "check “shared client” on the server's page",
        )
    if held_by is None or replace or held_by.status in _WITHOUT_CLIENT:
        return held_by
    same = held_by.client_id == registration.client_id
    what = (
        "already has this client; to store new credentials for it, adopt it with --replace"
        if same
        else "is this owner's at the server; adopt with --replace to put another in its place"
    )
    raise conflict(held_by, what)


def _inherit(registration: ClientRegistration, predecessor: ClientRegistration) -> None:
    """Keep what was not given again for the same client: only its secret may be new."""
    groups = (
        ("client_secret", "client_secret_expires_at"),
        ("registration_access_token", "registration_client_uri"),
    )
    for group in groups:
        if getattr(registration, group[0]) is None:
            for name in group:
                setattr(registration, name, getattr(predecessor, name))
    if not registration.requested_metadata:
        registration.requested_metadata = predecessor.requested_metadata
        method = predecessor.metadata.get("token_endpoint_auth_method")
        takes_secret = method in protocol.SECRET_METHODS
        if method and takes_secret == (registration.client_secret is not None):
            stated = {"token_endpoint_auth_method": method}
            registration.requested_metadata = {**stated, **registration.requested_metadata}


def _insert(registration: ClientRegistration, **values: Any) -> None:
    try:
        registration.insert(task="adopt", status=Status.ACTIVE, **values)
    except IntegrityError as exc:
        raise ConflictError(
            "Another process has just stored this client or a registration of this owner. "
            "See it with: manage.py dcr_list"
        ) from exc


def _confirm(registration: ClientRegistration, *, reads: bool) -> None:
    """Read the client where that is possible, and release the row; delete it if that fails.

    The row is stored before, so that a token issued in the response is not lost with this process.
    """
    pasted_token = registration.registration_access_token
    if not reads:
        registration.confirm()
        return
    try:
        work = Operation(registration, "read")
        with work.errors():
            fetch(work, release=True)
    except NotStoredError:
        raise  # the row is marked as interrupted, and reconcile() reads the client
    except DCRError as exc:
        if registration.registration_access_token is pasted_token:
            registration.withdraw()
            exc.args = (f"Nothing was stored, because the client could not be read: {exc}",)
        else:
            registration.fail(exc)
        raise


def _take_the_place(registration: ClientRegistration, predecessor: ClientRegistration) -> None:
    """Become the live row in place of another, whose client, if it has one, is then revoked."""
    had_client, reads = predecessor.status in _IN_USE, registration.is_manageable
    with (
        operation(predecessor, "register") as work,
        work.lease(*_IN_USE, *_WITHOUT_CLIENT, task="replace"),
    ):
        if predecessor.client_id == registration.client_id:
            _inherit(registration, predecessor)
        _fill_metadata(registration)
        _insert(registration, live=None)
        _confirm(registration, reads=reads)
        make_live(registration, predecessor)
        # Where it had the same client, it is closed already.
        was_empty = not had_client and predecessor.status == Status.REVOKING
        if was_empty and not predecessor.is_manageable:
            predecessor.clear(f"Registration {registration.pk} took its place.")
    if had_client:
        finish(registration, predecessor)
        return
    announce(signals.registered, registration)
    if predecessor.status == Status.REVOKING:  # it had a client that could not be used
        revoke_replaced(predecessor)
