"""The history of each registration: when, who, which action, with what outcome."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import Error, models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_dcr import signals
from django_dcr.lifecycle import Status
from django_dcr.logs import log
from django_dcr.models.persistence import savepoint_if_nested
from django_dcr.text import clean

#: How many events are kept of each registration: enough for a year of weekly renewals.
MAX_EVENTS = 50
_MAX_NAME = 150  # characters, as many as a user name of Django's may have

_actor: ContextVar[str] = ContextVar("django_dcr_actor", default="")


@contextmanager
def actor(name: str) -> Iterator[None]:
    """Name who requested the actions inside the block, in the events that they record.

    Applies to the current thread or task only. The actor of other events is "".
    """
    token = _actor.set(clean(name, _MAX_NAME))
    try:
        yield
    finally:
        _actor.reset(token)


class RegistrationEvent(models.Model):
    """One action on one registration. Contains no text from a server, and no secret."""

    registration = models.ForeignKey(
        "ClientRegistration", on_delete=models.CASCADE, related_name="events"
    )
    at = models.DateTimeField(_("When"), default=timezone.now)
    actor = models.CharField(_("Who"), max_length=_MAX_NAME, blank=True)
    action = models.CharField(_("Step"), max_length=16)
    #: The status that the action left the registration in.
    outcome = models.CharField(_("Outcome"), max_length=16, choices=Status.choices)
    #: The class of the error that ended it, or "".
    error = models.CharField(max_length=60, blank=True)
    #: Whether a renewal brought a new secret; null for all other actions.
    new_secret = models.BooleanField(null=True)

    #: Why it was done in this way, where there was a choice, in this app's words.
    note = models.CharField(max_length=200, blank=True, default="", db_default="")

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.action}: {self.outcome}"


def record(
    registration: models.Model,
    action: str,
    outcome: str,
    *,
    error: str = "",
    new_secret: bool | None = None,
    note: str = "",
) -> None:
    """Write an event, and delete all but the newest ``MAX_EVENTS`` of the registration.

    A database error is logged, not raised: the action has been carried out.
    """
    alias = router.db_for_write(RegistrationEvent, instance=registration)
    events = RegistrationEvent.objects.using(alias).filter(registration=registration.pk)
    try:
        with savepoint_if_nested(alias):
            event = RegistrationEvent.objects.using(alias).create(
                registration_id=registration.pk,
                actor=_actor.get(),
                action=action,
                outcome=outcome,
                error=error,
                new_secret=new_secret,
                note=note,
            )
            oldest = events.order_by("-pk").values_list("pk", flat=True)[MAX_EVENTS:]
            for pk in oldest[:1]:
                events.filter(pk__lte=pk).delete()
    except Error as exc:
        log("not_noted", "No event was written for registration %s: %s", registration.pk, exc)
    else:
        signals.recorded.send_robust(RegistrationEvent, registration=registration, event=event)
