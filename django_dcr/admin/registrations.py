"""Client registrations in the admin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr import tasks
from django_dcr.admin.actions import CONFIRMED, FROM_PAGE, Outcome, permission_method
from django_dcr.admin.changelist import RegistrationListMixin
from django_dcr.admin.columns import RegistrationColumnsMixin
from django_dcr.admin.display import terms
from django_dcr.admin.events import EventInline
from django_dcr.admin.forms import ClientRegistrationForm, primary_key
from django_dcr.admin.pages import THEN_DELETE, RegistrationPagesMixin
from django_dcr.exceptions import NetworkError
from django_dcr.lifecycle import ACTIONS, DELETABLE
from django_dcr.mechanisms import Mechanism, refusal, support
from django_dcr.models import ClientRegistration
from django_dcr.runs import Run
from django_dcr.text import clean


class ClientRegistrationAdminMixin(
    RegistrationListMixin, RegistrationPagesMixin, RegistrationColumnsMixin
):
    """A registration: what was requested and granted, its state, and what can be done to it."""

    #: How many rows one request may hand to DCR_TASK_RUNNER. Each is a field of the confirmation's
    #: form, of which Django accepts DATA_UPLOAD_MAX_NUMBER_FIELDS.
    action_max_queued = 500

    form = ClientRegistrationForm
    actions = list(ACTIONS)
    final_actions = [name for name, action in ACTIONS.items() if action.asks]
    has_update_permission = permission_method("update")
    has_renew_permission = permission_method("renew")
    has_revoke_permission = permission_method("revoke")
    autocomplete_fields = ["server"]
    list_display = [
        "number",
        "issuer",
        "whose",
        "client_name",
        "state",
        "expiry",
        "drifted",
        "mechanism",
    ]
    list_display_links = ["number", "issuer"]
    list_select_related = ["server"]
    readonly_fields = [
        "state",
        "how",
        "next_step",
        "error",
        "shown_warnings",
        "next_attempt",
        "terms",
        "comparison",
        "shown_deviations",
        "shown_client_id",
        "document",
        "secret",
        "expiry_date",
        "issued",
        "endpoint",
        "access_token",
        "created_at",
        "updated_at",
    ]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        requested = [*ClientRegistrationForm.members, "requested_metadata"]
        if obj is None:
            return [(None, {"fields": ["server", "owner", *requested]})]
        if not self.has_change_permission(request, obj):
            requested = ["requested_metadata"]
        credentials = ["shown_client_id", "secret", "expiry_date", "issued"]
        credentials += ["access_token", "endpoint"]
        if obj.mechanism == Mechanism.METADATA_DOCUMENT:
            credentials = ["shown_client_id", "document"]
        state = ["server", "whose", "how", "state", "next_step"]
        state += ["error"] if obj.last_error else []
        state += ["shown_warnings"] if obj.warnings else []
        state += ["next_attempt"] if obj.paused_until else []
        state += ["terms"] if list(terms(obj.server)) else []
        compared = ["comparison", "shown_deviations"] if obj.deviations else ["comparison"]
        return [
            (None, {"fields": state}),
            (_("Client metadata"), {"fields": [*compared, *requested]}),
            (_("Credentials"), {"fields": credentials}),
            (_("This row"), {"fields": ["created_at", "updated_at"]}),
        ]

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return [*self.inlines, EventInline] if obj else self.inlines

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # At another server, or of another owner, it would be another registration.
        return [*self.readonly_fields, "server", "whose"] if obj else self.readonly_fields

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Take the server from the URL, where it names one."""
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        if not primary_key(initial.get("server", 0)):
            initial.pop("server", None)
        return initial

    def edited_columns(self, form: Any) -> set[str]:
        # Nothing else of a stored row can be edited.
        changed = form.instance.requested_metadata != form.stored_request
        return set(ClientRegistration.REQUEST_FIELDS) if changed else set()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.request_metadata(obj.requested_metadata)
        super().save_model(request, obj, form, change)
        obj.was_edited = bool(self.edited_columns(form) or not change)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        response = super().response_add(request, obj, post_url_continue)
        self._hint_at_next_step(request, obj)
        return response

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        response = super().response_change(request, obj)
        self._hint_at_next_step(request, obj)
        return response

    def _hint_at_next_step(self, request: HttpRequest, obj: Any) -> None:
        """Say, after Django's own message, what saving has not done."""
        if not obj.was_edited:
            return
        for warning in obj.warnings:
            self.message_user(request, warning, messages.WARNING)
        for name in ("register", "update"):
            if obj.status in ACTIONS[name].statuses and not refusal(obj, name):
                self.hint_at(request, name, gettext("Nothing was sent to the server yet."))

    def get_queryset(self, request: HttpRequest) -> Any:
        rows: Any = super().get_queryset(request)
        return rows.with_replacements()

    # -- actions -------------------------------------------------------------------------------

    def offered_actions(self, row: ClientRegistration) -> Iterable[str]:
        return [name for name, action in ACTIONS.items() if action.is_offered(row)]

    def is_skipped(self, run: Run, row: ClientRegistration, name: str) -> bool:
        return name != "forget" and run.is_silent(row.server_id)  # forgetting needs no response

    def confirm_or_perform(
        self, request: HttpRequest, queryset: models.QuerySet[Any], name: str
    ) -> HttpResponse | None:
        """Carry out one of the lifecycle's actions, or ask for confirmation first."""
        # What cannot be undone needs it everywhere, all else only in the list.
        asks = ACTIONS[name].asks or FROM_PAGE not in request.POST
        if asks and CONFIRMED not in request.POST:
            rows = self.selected(request, queryset, name)
            return self.question(request, rows, name) if rows else None
        if self._queues(request):
            self._queue(request, self.selected(request, queryset, name), name)
            return None
        done = str(ACTIONS[name].done)
        return self.perform(request, queryset, name, tasks.service(name), done)

    def _queues(self, request: HttpRequest) -> bool:
        """Whether this is for DCR_TASK_RUNNER: on a row's own page users wait for the outcome."""
        waits = FROM_PAGE in request.POST or THEN_DELETE in request.POST
        return not waits and tasks.runner() is not None

    def limit(self, request: HttpRequest) -> int:
        return self.action_max_queued if self._queues(request) else super().limit(request)

    def _queue(self, request: HttpRequest, rows: Sequence[Any], name: str) -> None:
        """Queue one job for each row, and say how many."""
        values: dict[str, Any] = {"action": self.label(name), "count": 0}
        for row in rows:
            try:
                tasks.enqueue(name, row.pk)
            except NetworkError as exc:  # the others would fail, too
                self.message_user(request, str(exc), messages.ERROR)
                break
            self.log_change(request, row, gettext("%(action)s: queued.") % values)
            values["count"] += 1
        text = gettext("%(action)s: %(count)d queued. The outcome of each is in its history.")
        if values["count"]:
            self.message_user(request, text % values, messages.INFO)

    def selected(
        self, request: HttpRequest, queryset: models.QuerySet[Any], name: str
    ) -> Sequence[Any]:
        rows = super().selected(request, queryset, name)
        deletable = (self.has_delete_permission(request, row) for row in rows)
        if THEN_DELETE in request.POST and not all(deletable):
            raise PermissionDenied
        return rows

    def attempt(
        self,
        request: HttpRequest,
        row: Any,
        name: str,
        service: Callable[[Any], Any],
        done: str,
    ) -> Outcome:
        before = row.replaced_by
        done = str(support(row, name).done) or done
        outcome = super().attempt(request, row, name, service, done)
        outcome = self._at_successor(outcome, row, before)
        closed = outcome.level != messages.ERROR and row.status in DELETABLE
        if THEN_DELETE not in request.POST or not closed:
            return outcome
        rows = ClientRegistration.objects.filter(pk=row.pk)
        self.log_deletions(request, rows)
        self.delete_queryset(request, rows)
        return outcome._replace(text=f"{outcome.text} " + gettext("The row was deleted."))

    def _at_successor(self, outcome: Outcome, row: Any, before: int | None) -> Outcome:
        """Go on at the row that replaced the one that was acted on, and say so."""
        rows = ClientRegistration.objects.with_replacements().select_related("server")
        now = rows.filter(pk=row.pk).first()
        successor = rows.filter(pk=now.replaced_by or 0).first() if now else None
        if successor is None or successor.pk == before:
            return outcome
        text = gettext("Registration %(old)d was replaced by %(new)d.")
        text = f"{outcome.text} {text % {'old': row.pk, 'new': successor.pk}}"
        return outcome._replace(row=successor, text=text)

    # -- deleting rows -------------------------------------------------------------------------

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Protect the rows whose client the server may have: only they can manage it."""
        deleted, counts, forbidden, protected = super().get_deleted_objects(objs, request)
        for row in objs:
            if row.status not in DELETABLE:
                values = {"row": clean(row, 200), "status": row.get_status_display()}
                reason = gettext("%(row)s (%(status)s): revoke or forget it first") % values
                page = self.url("change", quote(row.pk))
                protected = [*protected, format_html('<a href="{}">{}</a>', page, reason)]
        return deleted, counts, forbidden, protected

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_queryset(request, ClientRegistration.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        # A row may have been registered since the page was shown.
        queryset.filter(status__in=DELETABLE).delete()


def add_actions(mixin: type[ClientRegistrationAdminMixin]) -> None:
    """Give the admin a method for each action of the lifecycle."""
    for name, action in ACTIONS.items():
        decorate = admin.action(permissions=[action.permission], description=action.label)
        setattr(mixin, name, decorate(_action_method(name)))


def _action_method(name: str) -> Any:
    def run(
        self: ClientRegistrationAdminMixin, request: HttpRequest, queryset: models.QuerySet[Any]
    ) -> Any:
        return self.confirm_or_perform(request, queryset, name)

    return run


add_actions(ClientRegistrationAdminMixin)


@admin.register(ClientRegistration)
class ClientRegistrationAdmin(ClientRegistrationAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Client registrations in Django's own admin."""
