"""What an action would do to a registration, for the page that asks for confirmation."""

from __future__ import annotations

from django.utils.translation import gettext as _

from django_dcr.admin.columns import compared_members
from django_dcr.exceptions import NotAllowedError
from django_dcr.lifecycle import ACTIONS
from django_dcr.mechanisms import refusal, way
from django_dcr.models import ClientRegistration
from django_dcr.text import clean


def prospect(registration: ClientRegistration, action: str) -> str:
    """Return what an action would do to a registration, and at which server."""
    refused = refusal(registration, action)
    if refused:
        return clean(f"{registration.pk} {refused}", 400)
    return _text(registration, action) % {
        "status": registration.get_status_display(),
        "issuer": clean(registration.server.issuer, 200),
        "client": clean(registration.client_id, 100) or _("of unknown ID"),
        "members": _drifting(registration),
    }


def _text(registration: ClientRegistration, action: str) -> str:
    if action == "reveal":
        return _(
            "The secret of the client %(client)s at %(issuer)s is shown on the next page, and the "
            "history says that you have seen it."
        )
    closes = action in ("revoke", "forget")
    if closes and registration.status in ACTIONS["register"].statuses:
        return _("%(issuer)s holds no client of this row. It is closed here, nothing is sent.")
    if registration.status not in ACTIONS[action].statuses:
        return _("This will be refused, for its status is “%(status)s”.")
    text = way(registration, action).prospect or ACTIONS[action].prospect
    return str(text) or _deletion(registration, forget=action == "forget")


def _deletion(registration: ClientRegistration, forget: bool) -> str:
    if not registration.is_manageable:
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
        "Where the server refuses or does not answer, they are wiped nevertheless, and the server "
        "may keep the client."
    )


def _drifting(registration: ClientRegistration) -> str:
    try:
        drift = [*registration.drift_from(compared_members(registration))]
    except NotAllowedError:
        return "?"
    return ", ".join(clean(name, 60) for name in drift[:10]) or _("none")
