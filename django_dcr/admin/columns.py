"""What the admin shows of a client registration: a method for each column and field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import islice
from typing import Any, NamedTuple

from django.contrib import admin
from django.contrib.admin.utils import display_for_value, quote
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from django.utils.timesince import timeuntil
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr.admin.actions import ServiceAdminMixin
from django_dcr.admin.display import MAX_SHOWN, NOTHING, badge, first_lines, lines, stored, terms
from django_dcr.conf import conf
from django_dcr.exceptions import DCRError, NotAllowedError
from django_dcr.lifecycle import STATES, Status, state_of
from django_dcr.mechanisms import MECHANISMS, SIGNS, refusal
from django_dcr.models import ClientRegistration
from django_dcr.text import clean

# A row that an earlier release stored may have any number of members.
_MAX_COMPARED = 1000


class RegistrationColumnsMixin(ServiceAdminMixin):
    """The columns of the list, and the read-only fields of the form."""

    @admin.display(description=_("No."), ordering="pk")
    def number(self, registration: ClientRegistration) -> str:
        return str(registration.pk)

    @admin.display(description=_("server"), ordering="server__issuer")
    def issuer(self, registration: ClientRegistration) -> str:
        return clean(registration.server.issuer, 80)

    @admin.display(description=_("Client name"))
    def client_name(self, registration: ClientRegistration) -> str:
        """The name that the server granted, else the one that the row requests."""
        for metadata in (registration.metadata, registration.requested_metadata):
            if isinstance(metadata, dict) and metadata.get("client_name"):
                return clean(metadata["client_name"], 60)
        return NOTHING

    @admin.display(description=_("drift"), ordering="has_drift")
    def drifted(self, registration: ClientRegistration) -> str:
        if not registration.metadata:
            return NOTHING
        if registration.has_drift:
            return badge(gettext("differs"), "warn")
        return badge(gettext("as requested"))

    # -- status --------------------------------------------------------------------------------

    @admin.display(description=_("status"), ordering="status")
    def state(self, registration: ClientRegistration) -> str:
        """The status, with links to the rows that this one replaced and was replaced by."""
        tone = STATES[Status(registration.status)].tone
        parts = [
            badge(registration.get_status_display(), tone),
            self._link(gettext("in place of %(number)d"), registration.replaces),
            self._successor(registration),
        ]
        return format_html_join(" ", "{}", ((part,) for part in parts if part))

    def _successor(self, registration: ClientRegistration) -> str:
        return self._link(gettext("replaced by %(number)d"), registration.replaced_by)

    def _link(self, text: str, pk: int | None) -> str:
        if pk is None:
            return ""
        url = self.url("change", quote(pk))
        return format_html('<a href="{}">{}</a>', url, text % {"number": pk})

    @admin.display(description=_("mechanism"))
    def how(self, registration: ClientRegistration) -> str:
        meaning = MECHANISMS[registration.mechanism].meaning
        signs = f" {SIGNS}" if registration.signs else ""
        return f"{registration.get_mechanism_display()}: {meaning}{signs}"

    @admin.display(description=_("next step"))
    def next_step(self, registration: ClientRegistration) -> str:
        if not registration.is_only_a_record:
            return " ".join([str(state_of(registration).meaning), *_advice(registration)])
        text = gettext(
            "This row is kept as a record. Continue with the registration that replaced it:"
        )
        return format_html("{} {}.", text, self._successor(registration))

    @admin.display(description=_("warnings"))
    def shown_warnings(self, registration: ClientRegistration) -> str:
        return "\n".join(clean(warning, 300) for warning in registration.warnings)

    @admin.display(description=_("server's terms"))
    def terms(self, registration: ClientRegistration) -> str:
        uris = [f"{label}: {' '.join(uri)}" for label, uri in terms(registration.server)]
        return "\n".join(uris) or NOTHING

    # -- metadata ------------------------------------------------------------------------------

    @admin.display(description=_("requested and granted"))
    def comparison(self, registration: ClientRegistration) -> str:
        try:
            members, left_out = compare(registration)
        except NotAllowedError as exc:
            return str(exc)
        template = "admin/django_dcr/clientregistration/comparison.html"
        return render_to_string(template, {"members": members, "more": left_out})

    @admin.display(description=_("deviations in responses"))
    def shown_deviations(self, registration: ClientRegistration) -> str:
        return "\n".join(first_lines(registration.deviations, 300)) or NOTHING

    # -- credentials ---------------------------------------------------------------------------

    @admin.display(description=_("client ID"))
    def shown_client_id(self, registration: ClientRegistration) -> str:
        return clean(registration.client_id, 500) or NOTHING

    @admin.display(description=_("metadata document"))
    def document(self, registration: ClientRegistration) -> str:
        """The document as it is served."""
        if not registration.client_id:
            return NOTHING
        members = {"client_id": registration.client_id, **registration.metadata}
        return format_html("<code>{}</code>", clean(json.dumps(members, ensure_ascii=False), 5000))

    @admin.display(description=_("client secret"))
    def secret(self, registration: ClientRegistration) -> str:
        return stored(registration.client_secret)

    @admin.display(description=_("expires"), ordering="client_secret_expires_at")
    def expiry(self, registration: ClientRegistration) -> str:
        """The time until the secret expires; a badge where that is soon."""
        if registration.client_secret is None:
            return NOTHING
        if registration.secret_has_expired:
            return badge(gettext("expired"), "bad")
        expiry = registration.secret_expiry
        if expiry is None:
            never = registration.client_secret_expires_at == 0
            return gettext("never") if never else gettext("unknown")
        words = gettext("in %(time)s") % {"time": timeuntil(expiry, depth=1)}
        return badge(words, "warn") if _is_due(registration) else words

    @admin.display(description=_("expires"))
    def expiry_date(self, registration: ClientRegistration) -> str:
        """The same with the date, where there is one."""
        date, words = registration.secret_expiry, self.expiry(registration)
        if date is None or registration.client_secret is None:
            return words
        return format_html("{} {}", display_for_value(date, NOTHING), words)

    @admin.display(description=_("issued"))
    def issued(self, registration: ClientRegistration) -> str:
        seconds = registration.client_id_issued_at
        at = None if seconds is None else datetime.fromtimestamp(seconds, tz=timezone.utc)
        return display_for_value(at, NOTHING)

    @admin.display(description=_("registration access token"))
    def access_token(self, registration: ClientRegistration) -> str:
        return stored(registration.registration_access_token)

    @admin.display(description=_("client configuration endpoint"))
    def endpoint(self, registration: ClientRegistration) -> str:
        return clean(registration.registration_client_uri, 500) or NOTHING


def _advice(registration: ClientRegistration) -> Iterator[str]:
    """Yield what to do about an active registration."""
    if registration.status != Status.ACTIVE:
        return
    try:
        registration.check_authentication()
    except DCRError as exc:
        yield str(exc)
    if _has_expired(registration) or _is_due(registration):
        yield _expiry_advice(registration)
    text = MECHANISMS[registration.mechanism].drift
    if registration.has_drift and text and not registration.is_manageable:
        yield str(text)
    elif registration.has_drift:
        yield gettext(
            "What the server granted differs from what is requested: update the client at the "
            "server, or change what is requested."
        )


def _has_expired(registration: ClientRegistration) -> bool:
    return registration.client_secret is not None and registration.secret_has_expired


def _is_due(registration: ClientRegistration) -> bool:
    """Whether the site itself would renew the secret now."""
    is_due = registration.secret_expires_within(conf.DCR_RENEW_BEFORE)
    has_secret = registration.client_secret is not None
    return has_secret and is_due and not registration.seconds_until_renewal


def _expiry_advice(registration: ClientRegistration) -> str:
    """Return when the secret expires or has expired, and what to do about it."""
    values = {"date": display_for_value(registration.secret_expiry, NOTHING)}
    expired, refused = _has_expired(registration), refusal(registration, "renew")
    if refused:
        past, future = _("Its secret expired on %(date)s."), _("Its secret expires on %(date)s.")
        date = str(past if expired else future) % values
        return f"{date} " + clean(f"{registration.pk} {refused}.", 400)
    if expired:
        return gettext("Its secret expired on %(date)s: renew it.") % values
    return gettext("Its secret expires on %(date)s: renew it.") % values


class Member(NamedTuple):
    """A line of the table of what was requested and what was granted."""

    name: str
    requested: list[str]
    granted: list[str]
    differs: bool
    #: Whether this app chose what was requested.
    is_chosen: bool


def compare(registration: ClientRegistration) -> tuple[list[Member], int]:
    """Return requested and granted side by side, the differences first, and how many are left out.

    Raises NotAllowedError where the requested members are not client metadata.
    """
    # Language tags are compared without regard to case (RFC 7591 section 2.2).
    chosen = {name.lower(): value for name, value in registration.chosen.items()}
    requested = {name.lower(): value for name, value in registration.requested.items()} | chosen
    compared = compared_members(registration)
    granted = {name.lower(): value for name, value in compared.items()}
    drift = {name.lower() for name in registration.drift_from(compared)}
    names = sorted(requested.keys() | granted.keys(), key=lambda name: (name not in drift, name))
    members = [
        Member(
            clean(name, 100),
            lines(requested.get(name)),
            lines(granted.get(name)),
            differs=name in drift,
            is_chosen=name in chosen,
        )
        for name in names[:MAX_SHOWN]
    ]
    return members, len(names) - len(members) + len(registration.metadata) - len(compared)


def compared_members(registration: ClientRegistration) -> dict[str, Any]:
    """Return the granted members to compare: the requested ones, and not too many others."""
    metadata: dict[str, Any] = registration.metadata
    if len(metadata) <= _MAX_COMPARED:
        return metadata
    requested = {name: metadata[name] for name in registration.requested if name in metadata}
    return {**requested, **dict(islice(metadata.items(), _MAX_COMPARED))}
