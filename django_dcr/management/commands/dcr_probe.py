from __future__ import annotations

from typing import Any

from django_dcr.exceptions import RequestRejectedError
from django_dcr.management.selection import RegistrationsCommand
from django_dcr.mechanisms import refusal
from django_dcr.models import ClientRegistration, Status
from django_dcr.services.login import refused_advice
from django_dcr.services.probing import Probe, probe


class Command(RegistrationsCommand):
    help = (
        "Find out whether servers still accept clients that they cannot be asked about: by a token "
        "request with a code that nobody issued, and an authorization request that no user sees."
    )

    def handle(self, **options: Any) -> None:
        self.work(self.choose(options, Status.ACTIVE), self._probe, done="not refused")

    def _probe(self, registration: ClientRegistration) -> ClientRegistration:
        found = probe(registration)
        fault = _fault(registration, found)
        if fault:
            raise RequestRejectedError(fault, issuer=registration.server.issuer, step="login")
        if found.credentials_accepted is None:
            self.note(
                f"Registration {registration.pk}: nothing can be said of the client. The token "
                f"endpoint {found.token_endpoint}; the authorization endpoint "
                f"{found.authorization_endpoint}."
            )
        return registration


def _fault(registration: ClientRegistration, found: Probe) -> str:
    if found.client_known is False:
        refused = refusal(registration, "replace")
        advice = f"put another in its place: manage.py dcr_replace {registration.pk}"
        if refused:
            advice = f"registration {registration.pk} {refused}"
        return f"The server no longer knows this client, or not with this redirect URI; {advice}"
    if found.credentials_accepted is False:
        known = "knows this client and " if found.client_known else ""
        return f"The server {known}refuses its credentials. {refused_advice(registration)}"
    return ""
