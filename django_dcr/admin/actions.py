"""Actions that send requests to servers: limited, and reported row by row.

The buttons on a row's own page post to the list, as the list's actions do, so that there is one
way in on every Django. The object actions of Django 6.1 run inside the transaction of the change
view, where the services refuse; the view of the list has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.exceptions import NotRegistered
from django.contrib.admin.utils import quote
from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from django_dcr.admin.changelist import FirstPages
from django_dcr.admin.display import CommonColumnsMixin
from django_dcr.admin.forms import WIDE, IndentedJSONField, primary_key
from django_dcr.exceptions import DCRError
from django_dcr.models import actor
from django_dcr.runs import Run, one_run
from django_dcr.text import clean

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:  # sites mix this into whatever admin they have
    _ModelAdmin = object

#: The form field of the buttons on a row's own page, to which the response then returns.
FROM_PAGE = "_from_page"
#: The form field of the page that asks for confirmation.
CONFIRMED = "_confirmed"
# More messages, or longer ones in total, would not fit a cookie.
_MAX_MESSAGES = 10
_MAX_LENGTH = 1200

_WIDGETS: dict[Any, Any] = {
    models.TextField: {"widget": AdminTextInputWidget(attrs=WIDE)},
    models.JSONField: {"form_class": IndentedJSONField, "show_hidden_initial": False},
}


class Outcome(NamedTuple):
    """The outcome of an action on one row."""

    row: Any
    level: int
    text: str
    #: Where a document was looked for, and what was found there.
    attempts: Sequence[tuple[str, str]] = ()
    #: A button that fixes it, or "".
    remedy: SafeString = SafeString()

    def render(self, limit: int) -> str | SafeString:
        """Return the text in at most ``limit`` characters, a line for each attempt, a button."""
        if not self.attempts:
            return clean(self.text, limit)
        text = clean(self.text.partition(self.attempts[0][0])[0], limit)  # which may name them
        lines = ((clean(url, 150), self._outcome(outcome)) for url, outcome in self.attempts)
        listed = format_html_join("", "<br>{} {}", lines)
        return format_html("{}{} {}", text, listed, self.remedy)

    def _outcome(self, outcome: str) -> str:
        kind, _colon, reason = outcome.partition(": ")
        if reason == self.text:
            return kind  # the reason is in the text above
        shown = clean(outcome, 150)
        return shown if shown == outcome else f"{shown.rpartition(' ')[0]} …"


def permission_method(name: str) -> Any:
    """Return a ``has_NAME_permission()``, by which Django decides who may run an action.

    It holds for users who may see the row and have the permission ``name`` for its model.
    """

    def has_permission(self: ServiceAdminMixin, request: HttpRequest, obj: Any = None) -> bool:
        codename = get_permission_codename(name, self.opts)
        permitted = request.user.has_perm(f"{self.opts.app_label}.{codename}")
        return permitted and self.has_view_or_change_permission(request, obj)

    return has_permission


class ServiceAdminMixin(CommonColumnsMixin, _ModelAdmin):
    """The admin of rows that services work on."""

    #: How many rows one request may act on, and after how many seconds it starts no further one.
    action_max_rows = 50
    action_max_seconds = 20.0

    actions: Sequence[str] = ()
    #: The actions that cannot be undone, whose buttons look like it.
    final_actions: Collection[str] = ()
    ordering = ["-pk"]
    paginator = FirstPages
    show_full_result_count = False

    class Media:
        css = {"all": ["django_dcr/admin.css"]}

    def __init__(self, model: type[models.Model], admin_site: admin.AdminSite) -> None:
        overrides = {**self.formfield_overrides, **_WIDGETS}
        self.formfield_overrides = overrides  # type: ignore[misc]
        super().__init__(model, admin_site)

    # The services commit by themselves, and refuse inside the transaction of ATOMIC_REQUESTS.
    @transaction.non_atomic_requests
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # Django would query the database for whatever was posted as a primary key.
        selected = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)
        if not all(map(primary_key, selected)):
            posted = request.POST.copy()
            keys = [str(primary_key(text)) for text in selected]
            posted.setlist(helpers.ACTION_CHECKBOX_NAME, keys)
            request.POST = posted  # type: ignore[assignment]
        return super().changelist_view(request, extra_context)

    # -- the page of a row ---------------------------------------------------------------------

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row, permitted = context["original"], self.get_actions(request)
        offered = list(self.offered_actions(row)) if row else []
        context["service_actions"] = [
            (name, self.label(name)) for name in offered if name in permitted
        ]
        context["service_lacks"] = self._lacks(name for name in offered if name not in permitted)
        context["service_dangers"] = self.final_actions
        context["service_links"] = self.links(request, row) if row else []
        context["action_checkbox_name"] = helpers.ACTION_CHECKBOX_NAME
        context["from_page"] = FROM_PAGE
        return super().render_change_form(request, context, *args, **kwargs)

    def offered_actions(self, row: Any) -> Iterable[str]:
        """Return the names of the actions that make sense for the row as it is."""
        return self.actions

    def links(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Return links to pages related to the row: URLs with their labels."""
        return []

    def label(self, name: str) -> str:
        """Return what the action ``name`` is called on the pages."""
        return str(getattr(self, name).short_description)

    def permission(self, name: str) -> str:
        """Return the name of the permission for an action, as on Django's own pages."""
        [permission] = getattr(self, name).allowed_permissions
        return str(dict(self.opts.permissions)[get_permission_codename(permission, self.opts)])

    def _lacks(self, names: Iterable[str]) -> str:
        """Return the labels of actions, grouped by the permission that they need."""
        labels: dict[str, list[str]] = {}
        for name in names:
            labels.setdefault(self.permission(name), []).append(self.label(name))
        groups = (f"{', '.join(group)} ({_('“%s”') % name})" for name, group in labels.items())
        return "; ".join(groups)

    def hint_at(self, request: HttpRequest, name: str, why: str) -> None:
        """Say which action comes next, and who may do it where the user may not."""
        if name in self.get_actions(request):
            advice = _("Press “%(action)s” for that.") % {"action": self.label(name)}
        else:
            advice = _(
                "“%(action)s” requires the permission “%(permission)s”, which you do not have: "
                "ask somebody who has it, such as a superuser."
            ) % {"action": self.label(name), "permission": self.permission(name)}
        self.message_user(request, f"{why} {advice}", messages.INFO)

    # -- saving a row --------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Write only what was edited: another process may be storing a response meanwhile."""
        obj.save(update_fields=[*self.edited_columns(form), "updated_at"] if change else None)

    def edited_columns(self, form: Any) -> set[str]:
        """Return the names of the columns that the form has changed."""
        columns = {field.name for field in self.opts.concrete_fields}
        return columns.intersection(form.changed_data)

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        """Redirect to the page of the new row, where the next step is."""
        if self.has_view_or_change_permission(request, obj):
            return self.to_page(obj)
        return super().response_post_save_add(request, obj)

    # -- running an action ---------------------------------------------------------------------

    def perform(
        self,
        request: HttpRequest,
        queryset: models.QuerySet[Any],
        name: str,
        service: Callable[[Any], Any],
        done: str,
    ) -> HttpResponse | None:
        """Run the service on each row, as the action ``name``, and report the outcomes."""
        rows = self.selected(request, queryset, name)
        deadline = time.monotonic() + self.action_max_seconds
        outcomes: list[Outcome] = []
        skipped: list[Any] = []
        with one_run() as run:
            for row in rows:
                if outcomes and time.monotonic() > deadline:
                    break
                if self.is_skipped(run, row, name):
                    skipped.append(row)
                else:
                    outcomes.append(self.attempt(request, row, name, service, done))
        self._report(request, outcomes, skipped, rows[len(outcomes) + len(skipped) :])
        if outcomes and FROM_PAGE in request.POST:
            return self.to_page(outcomes[0].row)
        return None  # Django redirects to the list, with its filters

    def selected(
        self, request: HttpRequest, queryset: models.QuerySet[Any], name: str
    ) -> Sequence[Any]:
        """Return the rows to act on, none where they are too many.

        Raises PermissionDenied where the user may not do this to each of them.
        """
        limit = self.limit(request)
        rows = list(queryset[: limit + 1])
        if len(rows) > limit:
            text = _(
                "Nothing was done: select at most %(limit)d rows. For more of them use the "
                "commands, such as manage.py dcr_read --all."
            )
            self.message_user(request, text % {"limit": limit}, messages.ERROR)
            return []
        for permission in getattr(self, name).allowed_permissions:
            has_permission = getattr(self, f"has_{permission}_permission")
            if not all(has_permission(request, row) for row in rows):
                raise PermissionDenied
        return rows

    def limit(self, request: HttpRequest) -> int:
        """Return how many rows the action of this request may act on."""
        return self.action_max_rows

    def is_skipped(self, run: Run, row: Any, name: str) -> bool:
        """Whether to skip a row because its server has not answered in this run."""
        return False

    def attempt(
        self,
        request: HttpRequest,
        row: models.Model,
        name: str,
        service: Callable[[Any], Any],
        done: str,
    ) -> Outcome:
        """Run the service on one row and log it in Django's history."""
        label = self.label(name)
        try:
            with actor(request.user.get_username()):
                result = service(row)
        except DCRError as exc:
            self.log_failure(request, row, label, exc)
            remedy = self.remedy(request, row, exc)
            return Outcome(row, messages.ERROR, str(exc), exc.attempts, remedy)
        for touched in {row.pk: row, result.pk: result}.values():
            self.log_change(request, touched, _("%(action)s: done.") % {"action": label})
        # What succeeded only in part has stored the rest as the row's last error.
        problem = getattr(result, "last_error", "")
        if problem:
            return Outcome(result, messages.WARNING, problem)
        remark = self.remark(result)
        if remark:
            return Outcome(result, messages.WARNING, f"{done} {remark}")
        return Outcome(result, messages.SUCCESS, done)

    def remark(self, row: Any) -> str:
        """Return a warning about a row for which an action has succeeded, or ""."""
        return ""

    def remedy(self, request: HttpRequest, row: Any, error: DCRError) -> SafeString:
        """Return a button that fixes what an action failed for, or ""."""
        return SafeString()

    def log_failure(self, request: HttpRequest, row: Any, label: str, error: DCRError) -> None:
        # Without the message: what a server wrote stays out of Django's history.
        values = {"action": label, "error": type(error).__name__}
        self.log_change(request, row, _("%(action)s: failed (%(error)s).") % values)

    def _report(
        self,
        request: HttpRequest,
        outcomes: Sequence[Outcome],
        skipped: Sequence[models.Model],
        not_started: Sequence[models.Model],
    ) -> None:
        """Show a message for each of the first rows, the worst first, and list the others."""
        outcomes = sorted(outcomes, key=lambda outcome: -outcome.level)
        shown, more = outcomes[:_MAX_MESSAGES], outcomes[_MAX_MESSAGES:]
        for outcome in shown:
            # The list of attempts is too long beside other messages.
            short = outcome if len(shown) == 1 else outcome._replace(attempts=())
            text = short.render(min(500, _MAX_LENGTH // len(shown)))
            quoted = _("“%s”") % clean(outcome.row, 80)
            # Escaped only where necessary: a cookie has little room.
            message = format_html("{}: {}", quoted, text) if short.attempts else f"{quoted}: {text}"
            self.message_user(request, message, outcome.level)
        failed = [outcome.row for outcome in more if outcome.level == messages.ERROR]
        done = [outcome.row for outcome in more if outcome.level != messages.ERROR]
        silent = _("Skipped, because their server did not respond: %(ids)s.")
        late = _(
            "The time limit was reached before these were started; select them again: %(ids)s."
        )
        for text, rows, level in (
            (_("Also failed: %(ids)s."), failed, messages.ERROR),
            (_("Also done: %(ids)s."), done, messages.SUCCESS),
            (silent, skipped, messages.WARNING),
            (late, not_started, messages.WARNING),
        ):
            if rows:
                ids = ", ".join(str(row.pk) for row in rows)
                self.message_user(request, text % {"ids": ids}, level)

    # -- other pages ---------------------------------------------------------------------------

    def page(self, request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
        """Return a page in the look of the admin, from one of the model's templates."""
        request.current_app = self.admin_site.name
        site = self.admin_site.each_context(request)
        context = {**site, "opts": self.opts, "media": self.media, **context}
        path = f"admin/{self.opts.app_label}/{self.opts.model_name}/{template}.html"
        return TemplateResponse(request, path, context)

    def to_page(self, row: models.Model) -> HttpResponseRedirect:
        return HttpResponseRedirect(self.url("change", quote(row.pk)))

    def url(self, view: str, *args: Any, model: type[models.Model] | None = None) -> str:
        """Return the path of one of the views of this admin, or of another model's."""
        opts = (model or self.model)._meta
        name = f"admin:{opts.app_label}_{opts.model_name}_{view}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    def other_admin(self, model: type[models.Model]) -> Any:
        """Return the site's admin of another model, or None where the site has none."""
        try:
            return self.admin_site.get_model_admin(model)
        except NotRegistered:
            return None
