"""What the admin shows of a client registration: a method for each column and field."""

from __future__ import annotations

from datetime import datetime, timezone

from django.contrib import admin
from django.contrib.admin.utils import display_for_value, quote
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr.admin import display
from django_dcr.admin.actions import ServiceAdminMixin
from django_dcr.exceptions import NotAllowedError
from django_dcr.models import ClientRegistration
from django_dcr.text import clean

_TEMPLATES = "admin/django_dcr/clientregistration"


class RegistrationColumnsMixin(ServiceAdminMixin):
    """The columns of the list, and the read-only fields of the form."""

    @admin.display(description=_("server"), ordering="server__issuer")
    def issuer(self, registration: ClientRegistration) -> str:
        return clean(registration.server.issuer, 80)

    @admin.display(description=_("No."))
    def number(self, registration: ClientRegistration) -> str:
        return str(registration.pk)

    @admin.display(description=_("Client name"))
    def client_name(self, registration: ClientRegistration) -> str:
        return display.client_name(registration)

    @admin.display(description=_("owner"), ordering="owner")
    def whose(self, registration: ClientRegistration) -> str:
        return clean(registration.owner, 80) or gettext("this site")

    @admin.display(description=_("expires"), ordering="client_secret_expires_at")
    def expiry(self, registration: ClientRegistration) -> str:
        return display.expiry(registration)

    @admin.display(description=_("expires"))
    def expiry_date(self, registration: ClientRegistration) -> str:
        return display.expiry_date(registration)

    @admin.display(description=_("drift"), ordering="has_drift")
    def drifted(self, registration: ClientRegistration) -> str:
        return display.drift(registration)

    @admin.display(description=_("mechanism"), ordering="mechanism")
    def how(self, registration: ClientRegistration) -> str:
        return display.mechanism(registration)

    @admin.display(description=_("status"), ordering="status")
    def state(self, registration: ClientRegistration) -> str:
        """The status, and the rows whose place this one took, or that took its place."""
        places = [
            self._place(gettext("in place of %(number)d"), registration.replaces),
            self._successor(registration),
        ]
        shown = [display.state(registration), *filter(None, places)]
        return format_html_join(" ", "{}", ((part,) for part in shown))

    def _successor(self, registration: ClientRegistration) -> str:
        return self._place(gettext("replaced by %(number)d"), registration.replaced_by)

    def _place(self, text: str, pk: int | None) -> str:
        if pk is None:
            return ""
        url = self.url("change", quote(pk))
        return format_html('<a href="{}">{}</a>', url, text % {"number": pk})

    @admin.display(description=_("next step"))
    def next_step(self, registration: ClientRegistration) -> str:
        if not registration.is_only_a_record:
            return display.next_step(registration)
        text = gettext("This is only a record. Continue with the registration that took its place:")
        return format_html("{} {}.", text, self._successor(registration))

    @admin.display(description=_("remarks"))
    def remarks(self, registration: ClientRegistration) -> str:
        return "\n".join(clean(warning, 300) for warning in registration.warnings)

    @admin.display(description=_("next attempt"))
    def next_attempt(self, registration: ClientRegistration) -> str:
        return display.next_attempt(registration)

    @admin.display(description=_("last error"))
    def error(self, registration: ClientRegistration) -> str:
        return clean(registration.last_error, 500) or display.NOTHING

    @admin.display(description=_("server's terms"))
    def terms(self, registration: ClientRegistration) -> str:
        lines = [f"{label}: {' '.join(uri)}" for label, uri in display.terms(registration.server)]
        return "\n".join(lines) or display.NOTHING

    @admin.display(description=_("requested and granted"))
    def comparison(self, registration: ClientRegistration) -> str:
        try:
            members, more = display.comparison(registration)
        except NotAllowedError as exc:
            return str(exc)
        context = {"members": members, "more": more}
        return render_to_string(f"{_TEMPLATES}/comparison.html", context)

    @admin.display(description=_("deviations in responses"))
    def shown_deviations(self, registration: ClientRegistration) -> str:
        lines = display.first_lines(registration.deviations, 300)
        return "\n".join(lines) or display.NOTHING

    @admin.display(description=_("client ID"))
    def shown_client_id(self, registration: ClientRegistration) -> str:
        return clean(registration.client_id, 500) or display.NOTHING

    @admin.display(description=_("metadata document"))
    def document(self, registration: ClientRegistration) -> str:
        return display.document(registration)

    @admin.display(description=_("client secret"))
    def secret(self, registration: ClientRegistration) -> str:
        return display.stored(registration.client_secret)

    @admin.display(description=_("registration access token"))
    def access_token(self, registration: ClientRegistration) -> str:
        return display.stored(registration.registration_access_token)

    @admin.display(description=_("issued"))
    def issued(self, registration: ClientRegistration) -> str:
        seconds = registration.client_id_issued_at
        at = None if seconds is None else datetime.fromtimestamp(seconds, tz=timezone.utc)
        return display_for_value(at, display.NOTHING)

    @admin.display(description=_("client configuration endpoint"))
    def endpoint(self, registration: ClientRegistration) -> str:
        return clean(registration.registration_client_uri, 500) or display.NOTHING
