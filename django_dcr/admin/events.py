"""The history of a registration, on its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr.lifecycle import EVENTS, Status
from django_dcr.models import RegistrationEvent
from django_dcr.text import clean

if TYPE_CHECKING:
    _TabularInline = admin.TabularInline[Any, Any]
    _BaseInlineFormSet = BaseInlineFormSet[Any, Any, Any]
else:  # generic for type checkers only
    _TabularInline, _BaseInlineFormSet = admin.TabularInline, BaseInlineFormSet


class ReadOnlyFormSet(_BaseInlineFormSet):
    """Rows that are shown, and never read from a request whatever it contains."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "data": None, "files": None})

    def is_valid(self) -> bool:
        return True

    def save(self, commit: bool = True) -> list[Any]:
        self.new_objects = self.changed_objects = self.deleted_objects = []
        return []


class EventInline(_TabularInline):
    """What happened to the registration, the newest first."""

    model = RegistrationEvent
    formset = ReadOnlyFormSet
    ordering = ["-pk"]
    fields = ("at", "who", "step", "result")
    readonly_fields = fields
    extra = max_num = 0
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True  # whoever may see the registration

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=_("Who"))
    def who(self, event: RegistrationEvent) -> str:
        return clean(event.actor) or gettext("this site's code")

    @admin.display(description=_("Step"))
    def step(self, event: RegistrationEvent) -> str:
        """What was done, as the buttons call it."""
        return str(EVENTS.get(event.action, event.action))

    @admin.display(description=_("Outcome"))
    def result(self, event: RegistrationEvent) -> str:
        """The status that the registration was left in, with the error or the new secret."""
        label = str(Status(event.outcome).label)
        if event.note:
            return f"{label} ({clean(event.note)})"
        if event.new_secret is not None:
            secret = gettext("new secret") if event.new_secret else gettext("no new secret")
            return f"{label} ({secret})"
        return f"{label} ({event.error})" if event.error else label
