"""Pages of registrations besides Django's own: confirming, entering a client, showing a secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from django_dcr import services
from django_dcr.admin.actions import CONFIRMED, FROM_PAGE, ServiceAdminMixin, permission_method
from django_dcr.admin.columns import compared_members
from django_dcr.admin.forms import WIDE, LinesField, WideField, primary_key
from django_dcr.exceptions import DCRError, DecryptionError, NotAllowedError
from django_dcr.lifecycle import ACTIONS, EVENTS
from django_dcr.mechanisms import refusal, support
from django_dcr.models import AuthorizationServer, ClientRegistration, actor
from django_dcr.text import clean

#: The form field that asks to delete the row, too, once the server no longer has the client.
THEN_DELETE = "_then_delete"

_ADOPT = _("Enter a client from a server's console")
# What clients of a console have; "none" is a client without a secret.
_METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
_NOT_REVEALED = {
    True: _("There is no client secret to show."),
    False: _(
        "Another process is working on this registration and may change the secret. Try again in "
        "a moment."
    ),
}


class RegistrationPagesMixin(ServiceAdminMixin):
    """The views, with links to them from the list and from the page of a registration."""

    has_register_permission = permission_method("register")
    has_reveal_permission = permission_method("reveal")

    def get_urls(self) -> list[URLPattern]:
        prefix = f"{self.opts.app_label}_{self.opts.model_name}"
        adopt = self.admin_site.admin_view(self.adopt_view)
        reveal = self.admin_site.admin_view(self.reveal_view)
        return [
            path("adopt/", adopt, name=f"{prefix}_adopt"),
            path("<path:object_id>/reveal/", reveal, name=f"{prefix}_reveal"),
            *super().get_urls(),
        ]

    @transaction.non_atomic_requests
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context: dict[str, Any] = {"adopt_label": _ADOPT}
        if self.may_adopt(request):
            context["adopt_url"] = self.url("adopt")
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = context["original"]
        if row and row.client_secret is not None and self.has_reveal_permission(request, row):
            context["reveal_url"] = self.url("reveal", quote(row.pk))
            context["reveal_label"] = EVENTS["reveal"]
        return super().render_change_form(request, context, *args, **kwargs)

    # -- confirming an action ------------------------------------------------------------------

    def question(self, request: HttpRequest, rows: Sequence[Any], name: str) -> HttpResponse:
        """Return the page that says what will happen at which server, and asks whether to do it."""
        marks = [mark for mark in (FROM_PAGE, THEN_DELETE) if mark in request.POST]
        page = FROM_PAGE in marks or name == "reveal"
        return self.page(
            request,
            "confirmation",
            title=str(EVENTS[name]),
            action=name,
            rows=[(row, prospect(row, name)) for row in rows],
            action_checkbox_name=helpers.ACTION_CHECKBOX_NAME,
            markers=[CONFIRMED, *marks],
            then_delete=THEN_DELETE in marks,
            is_final=name in self.final_actions,
            original=rows[0] if page else None,
            back=self.url("change", quote(rows[0].pk)) if page else request.get_full_path(),
        )

    # -- entering a client ---------------------------------------------------------------------

    def may_adopt(self, request: HttpRequest) -> bool:
        """Whether the user may add registrations, and register clients."""
        return self.has_add_permission(request) and self.has_register_permission(request)

    # The service commits by itself, and refuses inside the transaction of ATOMIC_REQUESTS.
    @method_decorator(transaction.non_atomic_requests)
    @method_decorator(sensitive_post_parameters("client_secret", "registration_access_token"))
    @sensitive_variables()
    def adopt_view(self, request: HttpRequest) -> HttpResponse:
        """Show the form for a client of a server's console, and store the client."""
        if not self.may_adopt(request):
            raise PermissionDenied
        key = primary_key(request.GET.get("server", ""))
        server = AuthorizationServer.objects.filter(pk=key).first()
        form = AdoptionForm(
            request.POST or None, initial={"issuer": server.issuer if server else ""}
        )
        if form.is_valid():
            try:
                with actor(request.user.get_username()):
                    row = services.adopt(**form.arguments())
            except DCRError as exc:
                form.add_error(None, str(exc))
            else:
                done = gettext("%(action)s: done.") % {"action": EVENTS["adopt"]}
                self.log_addition(request, row, done)
                text = gettext("The client is stored and used from now on.")
                self.message_user(request, text, messages.SUCCESS)
                return self.to_page(row)
        return self.page(request, "adopt", title=_ADOPT, form=form, back=self.url("changelist"))

    # -- showing a secret ----------------------------------------------------------------------

    # The event is committed before the secret is shown.
    @method_decorator(transaction.non_atomic_requests)
    def reveal_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for confirmation, then record that the client secret is shown, and show it."""
        row = self.get_queryset(request).filter(pk=primary_key(object_id)).first()
        if row is None:
            return HttpResponse(status=404)
        if not self.has_reveal_permission(request, row):
            raise PermissionDenied
        if request.method != "POST":  # the address was opened again
            return self.to_page(row)
        if CONFIRMED not in request.POST:
            return self.question(request, [row], "reveal")
        return self._revealed(request, row)

    @sensitive_variables()
    def _revealed(self, request: HttpRequest, row: ClientRegistration) -> HttpResponse:
        label = str(EVENTS["reveal"])
        with actor(request.user.get_username()):
            noted = row.note("reveal")
        if not noted or row.client_secret is None:
            self.message_user(request, _NOT_REVEALED[noted], messages.ERROR)
            return self.to_page(row)
        try:
            secret = row.client_secret.reveal()
        except DecryptionError as exc:
            self.log_failure(request, row, label, exc)
            self.message_user(request, str(exc), messages.ERROR)
            return self.to_page(row)
        self.log_change(request, row, gettext("%(action)s: done.") % {"action": label})
        back = self.url("change", quote(row.pk))
        shown = {"row": row, "original": row, "secret": secret}
        response = self.page(request, "secret", title=label, back=back, **shown)
        response["Cache-Control"] = "no-store"
        return response


class _Secret(forms.CharField):
    """Is never shown again, not even after an error in another field."""

    widget = forms.PasswordInput(attrs={"autocomplete": "new-password", **WIDE})


class AdoptionForm(forms.Form):
    """What is in the server's console, for ``services.adopt()``."""

    issuer = WideField(label=_("Issuer"), help_text=_("Exactly as the server writes it."))
    owner = WideField(label=_("Owner"), required=False, help_text=_("Empty for the site itself."))
    client_id = WideField(label=_("Client ID"))
    client_secret = _Secret(
        label=_("Client secret"),
        required=False,
        help_text=_("Stored encrypted. Empty for a client without a secret."),
    )
    client_secret_expires_at = forms.DateTimeField(
        label=_("The secret expires"),
        required=False,
        help_text=_("Such as 2027-01-31 12:00. Empty if the console shows no expiry."),
    )
    token_endpoint_auth_method = forms.ChoiceField(
        label=_("Client authentication"),
        required=False,
        choices=[("", _("Let the site choose")), *((name, name) for name in _METHODS)],
    )
    redirect_uris = LinesField(
        label=_("Redirect URIs"), required=False, help_text=_("One per line.")
    )
    scope = WideField(label=_("Scope"), required=False)
    registration_client_uri = WideField(
        label=_("Client configuration endpoint"),
        required=False,
        help_text=_("With its token, the client can be managed from here (RFC 7592)."),
    )
    registration_access_token = _Secret(label=_("Registration access token"), required=False)
    replace = forms.BooleanField(
        label=_("Replace the client that this owner has there"),
        required=False,
        help_text=_("Also to store a new secret of the same client."),
    )

    def arguments(self) -> dict[str, Any]:
        """Return what was filled in, as arguments of ``services.adopt()``."""
        values = self.cleaned_data
        members = ("token_endpoint_auth_method", "redirect_uris", "scope")
        end = values["client_secret_expires_at"]
        return {
            **{name: values[name] for name in ("issuer", "owner", "client_id", "replace")},
            "client_secret": values["client_secret"] or None,
            "client_secret_expires_at": None if end is None else int(end.timestamp()),
            "registration_client_uri": values["registration_client_uri"],
            "registration_access_token": values["registration_access_token"] or None,
            "metadata": {name: values[name] for name in members if values[name]},
        }


def prospect(registration: ClientRegistration, action: str) -> str:
    """Return what an action will do to a registration, and at which server."""
    refused = refusal(registration, action)
    if refused:
        return clean(f"{registration.pk} {refused}", 400)
    return _prospect(registration, action) % {
        "status": registration.get_status_display(),
        "issuer": clean(registration.server.issuer, 200),
        "client": clean(registration.client_id, 100) or gettext("of unknown ID"),
        "members": _drifting(registration),
    }


def _prospect(registration: ClientRegistration, action: str) -> str:
    if action == "reveal":
        return gettext(
            "The secret of the client %(client)s at %(issuer)s is shown on the next page, and the "
            "history records that you have seen it."
        )
    closes = action in ("revoke", "forget")
    if closes and registration.status in ACTIONS["register"].statuses:
        return gettext("%(issuer)s has no client of this row. It is closed here, nothing is sent.")
    if registration.status not in ACTIONS[action].statuses:
        return gettext("This will be refused, because its status is “%(status)s”.")
    text = support(registration, action).prospect or ACTIONS[action].prospect
    return str(text) or _deletion(registration, forget=action == "forget")


def _deletion(registration: ClientRegistration, forget: bool) -> str:
    if not registration.is_manageable:
        if forget:
            return gettext(
                "Nothing is sent. Its credentials are wiped here, and %(issuer)s may keep the "
                "client %(client)s."
            )
        return gettext(
            "This will be refused: %(issuer)s offers no way to delete the client %(client)s. "
            "Delete it in the server's console, then forget it here."
        )
    deletion = gettext(
        "The client %(client)s is deleted at %(issuer)s, and its credentials are wiped here."
    )
    if not forget:
        return deletion
    return f"{deletion} " + gettext(
        "Where the server refuses or does not answer, they are wiped anyway, and the server may "
        "keep the client."
    )


def _drifting(registration: ClientRegistration) -> str:
    try:
        drift = [*registration.drift_from(compared_members(registration))]
    except NotAllowedError:
        return "?"
    return ", ".join(clean(name, 60) for name in drift[:10]) or gettext("none")
