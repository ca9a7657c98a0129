"""Checks for django-health-check 4 (the extra ``health-check``).

::

    checks = [
        "django_dcr.contrib.health_check.Registrations",
        "django_dcr.contrib.health_check.ClientKeys",
    ]
    path("health/", HealthCheckView.as_view(checks=checks))
"""

from __future__ import annotations

import dataclasses

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

from django_dcr.conf import conf
from django_dcr.models import ClientKey, ClientRegistration, Status, may_expire

_MAX_NAMED = 10


@dataclasses.dataclass
class Registrations(HealthCheck):
    """Fails while a registration cannot be used, or soon cannot, unless an operator acts.

    That is: its secret has expired; it expires within ``DCR_RENEW_BEFORE`` and the last exchange
    with the server failed; the server has lost the client; or a registration was not answered.
    Takes one query and sends no request.
    """

    async def run(self) -> None:
        found = [pk async for pk in _ailing().values_list("pk", flat=True)[: _MAX_NAMED + 1]]
        if not found:
            return
        # Numbers, not names: such a page is often open to anyone, and owners are customers.
        named = ", ".join(map(str, sorted(found)[:_MAX_NAMED]))
        more = " and more" if len(found) > _MAX_NAMED else ""
        raise ServiceUnavailable(
            f"Client registrations {named}{more} need attention. "
            "Each says why with: manage.py dcr_show ID"
        )


@dataclasses.dataclass
class ClientKeys(HealthCheck):
    """Fails while clients sign with a key past its date, or there is none to prefer.

    A daily ``manage.py dcr_client_keys --rotate`` prevents that. Takes one query, and another
    one with ``DCR_PREFER_KEYS``.
    """

    async def run(self) -> None:
        late = [kid async for kid in _late().values_list("kid", flat=True)[: _MAX_NAMED + 1]]
        if late:
            more = " and more" if len(late) > _MAX_NAMED else ""
            raise ServiceUnavailable(
                f"Client keys {', '.join(sorted(late)[:_MAX_NAMED])}{more} should have been "
                "rotated. Run daily: manage.py dcr_client_keys --rotate"
            )
        if conf.DCR_PREFER_KEYS and not await ClientKey.objects.of("").aexists():
            raise ServiceUnavailable(
                "DCR_PREFER_KEYS is on, and there is no client key. Make one with: "
                "manage.py dcr_client_keys --rotate"
            )


def _late() -> QuerySet[ClientKey]:
    """The newest keys of each kind whose time to sign has passed."""
    kind = {"owner_digest": OuterRef("owner_digest"), "algorithm": OuterRef("algorithm")}
    newer = ClientKey.objects.filter(**kind, number__gt=OuterRef("number"))
    return ClientKey.objects.filter(~Exists(newer), signs_until__lte=timezone.now())


def _ailing() -> QuerySet[ClientRegistration]:
    rows, now = ClientRegistration.objects, timezone.now()
    soon = now + conf.DCR_RENEW_BEFORE
    expired = Q(pk__in=rows.expiring(now))
    ending = rows.expiring(soon).filter(expired | ~Q(last_error=""))
    newer = rows.filter(key_digest=OuterRef("key_digest"), pk__gt=OuterRef("pk"))
    lost = rows.filter(~Exists(newer), status=Status.GONE)  # and not replaced
    doubtful = rows.live().filter(status=Status.UNKNOWN)
    found = rows.any_of(may_expire(soon), Q(status__in=[Status.GONE, Status.UNKNOWN]))
    return (ending | lost | doubtful).filter(pk__in=found.values("pk"), server__enabled=True)
