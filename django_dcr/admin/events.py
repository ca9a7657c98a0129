"""The history of a registration, on its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_dcr.admin import display
from django_dcr.models import RegistrationEvent

if TYPE_CHECKING:
    _TabularInline = admin.TabularInline[Any, Any]
    _BaseInlineFormSet = BaseInlineFormSet[Any, Any, Any]
else:  # generic for type checkers only
    _TabularInline, _BaseInlineFormSet = admin.TabularInline, BaseInlineFormSet


class ReadOnlyFormSet(_BaseInlineFormSet):
    """Rows that are shown and never taken from a request, whatever it holds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ignored = ("data", "files", "save_as_new")
        kept = {name: value for name, value in kwargs.items() if name not in ignored}
        super().__init__(*args, **kept)

    def is_valid(self) -> bool:
        return True

    def save(self, commit: bool = True) -> list[Any]:
        self.new_objects: list[Any] = []
        self.changed_objects: list[Any] = []
        self.deleted_objects: list[Any] = []
        return []


class EventInline(_TabularInline):
    """What happened to the registration, the newest first; ``MAX_EVENTS`` of them are kept."""

    model = RegistrationEvent
    formset = ReadOnlyFormSet
    ordering = ["-pk"]
    fields = ("at", "who", "step", "result")
    readonly_fields = fields
    extra = max_num = 0
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True  # whoever may see the registration

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=_("Who"))
    def who(self, event: RegistrationEvent) -> str:
        return display.who(event)

    @admin.display(description=_("Step"))
    def step(self, event: RegistrationEvent) -> str:
        return display.step(event)

    @admin.display(description=_("Outcome"))
    def result(self, event: RegistrationEvent) -> str:
        return display.outcome(event)
