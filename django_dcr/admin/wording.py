"""What the pages say, in words; all that a server wrote is cleaned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.utils.timesince import timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_dcr.models import AuthorizationServer, ClientRegistration, Status
from django_dcr.text import clean

#: What is shown where there is nothing.
NOTHING = "-"

_HINTS = {
    Status.DRAFT: gettext_lazy("Nothing was sent to the server yet. Register it next."),
    Status.REGISTERING: gettext_lazy(
        "A process awaits the server's answer. If that process ended, run manage.py dcr_reconcile."
    ),
    Status.ACTIVE: gettext_lazy("The server knows this client."),
    Status.REJECTED: gettext_lazy("The server refused. Edit the metadata and register again."),
    Status.UNKNOWN: gettext_lazy(
        "The server's answer was lost, and it may hold a client that cannot be named here. Look "
        "there, close this row, and add another registration."
    ),
    Status.REVOKING: gettext_lazy(
        "The deletion was sent and its answer has not come. Revoke again to finish."
    ),
    Status.REVOKED: gettext_lazy("Closed; its credentials are wiped."),
    Status.GONE: gettext_lazy(
        "The server no longer accepts this client's token. Forget this row, and add another "
        "registration."
    ),
}


def state(registration: ClientRegistration) -> str:
    """Return the status with its meaning and the next step."""
    hint = _HINTS[Status(registration.status)]
    return f"{registration.get_status_display()}\n{hint}"


def expiry(registration: ClientRegistration) -> str:
    """Return when the client secret expires, as people say it."""
    if registration.client_secret is None:
        return NOTHING
    if registration.secret_has_expired:
        return _("expired")
    if registration.secret_expiry is None:
        return _("never") if registration.client_secret_expires_at == 0 else _("unknown")
    return _("in %(time)s") % {"time": timeuntil(registration.secret_expiry, depth=1)}


def stored(secret: object) -> str:
    """Return whether there is a secret. It stays closed, so a lost key breaks no page."""
    return _("none") if secret is None else _("stored, encrypted")


def prospect(registration: ClientRegistration, *, forget: bool) -> str:
    """Return what revoking or forgetting would do to a registration, and at which server."""
    values = {
        "status": registration.get_status_display(),
        "issuer": clean(registration.server.issuer, 200),
        "client": clean(registration.client_id, 100) or _("of unknown ID"),
    }
    return _fate(registration, forget) % values


def _fate(registration: ClientRegistration, forget: bool) -> str:
    status = registration.status
    if status in (Status.DRAFT, Status.REJECTED):
        return _("%(issuer)s holds no client of this row. It is closed here, nothing is sent.")
    if status in (Status.REGISTERING, Status.REVOKED):
        return _("This will be refused, for its status is “%(status)s”.")
    if status == Status.GONE or not registration.is_manageable:
        if forget:
            return _(
                "Nothing is sent. Its credentials are wiped here, and %(issuer)s may keep the "
                "client %(client)s."
            )
        return _(
            "This will be refused: %(issuer)s gives no way to delete the client %(client)s. "
            "Delete it there by hand, then forget it here."
        )
    deletion = _("The client %(client)s is deleted at %(issuer)s, its credentials are wiped here.")
    if not forget:
        return deletion
    return f"{deletion} " + _(
        "Where the server refuses or does not answer, they are wiped all the same, and the server "
        "may keep the client."
    )


def protected(registration: ClientRegistration) -> str:
    """Return why a row cannot be deleted now."""
    return _("%(row)s (%(status)s): revoke or forget it first") % {
        "row": clean(registration, 200),
        "status": registration.get_status_display(),
    }


class Member(NamedTuple):
    """A line of the table of what was asked and what was granted."""

    name: str
    asked: list[str]
    granted: list[str]
    differs: bool


def comparison(registration: ClientRegistration) -> list[Member]:
    """Return asked and granted side by side, the differences first.

    Raises NotAllowedError where what is asked is no client metadata.
    """
    # Language tags are compared without regard to case (RFC 7591 section 2.2).
    asked = {name.lower(): value for name, value in registration.asked.items()}
    granted = {name.lower(): value for name, value in registration.metadata.items()}
    drift = {name.lower() for name in registration.drift}
    members = (
        Member(clean(name, 100), _lines(asked.get(name)), _lines(granted.get(name)), name in drift)
        for name in sorted(asked.keys() | granted.keys())
    )
    return sorted(members, key=lambda member: not member.differs)


def offer(server: AuthorizationServer) -> list[tuple[str, list[str]]]:
    """Return what a server offers to clients, as labels with their values."""
    metadata = server.metadata
    if not metadata:
        return []
    methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    grants = metadata.get("grant_types_supported") or ["authorization_code", "implicit"]
    endpoints = sorted(name for name in metadata if name.endswith("_endpoint"))
    return [
        *((clean(name, 100), _lines(metadata[name])) for name in endpoints),
        # What is left out means this (RFC 8414 section 2).
        (_("Client authentication"), _lines(methods)),
        (_("Grant types"), _lines(grants)),
        (_("Response types"), _lines(metadata.get("response_types_supported"))),
        (_("Scopes"), _lines(metadata.get("scopes_supported"))),
        (_("PKCE with S256"), [_("yes") if server.supports_pkce else _("no")]),
        *terms(server),
    ]


def terms(server: AuthorizationServer) -> Iterator[tuple[str, list[str]]]:
    """Yield the server's policy and terms, for whoever registers (RFC 8414 section 2).

    As text: a link that a server wrote may lead anywhere.
    """
    labels = {"op_policy_uri": _("Policy"), "op_tos_uri": _("Terms of service")}
    for name, label in labels.items():
        if server.metadata.get(name):
            yield label, _lines(server.metadata[name])


def _lines(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [clean(item, 200) for item in value[:100]]
    return [clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 500)]
