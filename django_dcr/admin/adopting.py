"""A form for a client that a person registered in a server's console."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from django_dcr import services
from django_dcr.admin.actions import ServiceAdminMixin, permission_method
from django_dcr.admin.forms import LinesField, primary_key
from django_dcr.exceptions import DCRError
from django_dcr.lifecycle import EVENTS
from django_dcr.models import AuthorizationServer, ClientRegistration, actor

_TITLE = _("Enter a client of a server's console")
_WIDE = {"class": "vTextField dcr-wide"}
# What clients of a console have; "none" is a client without a secret.
_METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]


class _Text(forms.CharField):
    widget = AdminTextInputWidget(attrs=_WIDE)


class _Secret(forms.CharField):
    """Is never shown again, not even after an error in another field."""

    widget = forms.PasswordInput(attrs={"autocomplete": "new-password", **_WIDE})


class AdoptionForm(forms.Form):
    """What is in the server's console, as ``services.adopt()`` takes it."""

    issuer = _Text(label=_("Issuer"), help_text=_("Exactly as the server writes it."))
    owner = _Text(label=_("Owner"), required=False, help_text=_("Empty for the site itself."))
    client_id = _Text(label=_("Client ID"))
    client_secret = _Secret(
        label=_("Client secret"),
        required=False,
        help_text=_("Stored encrypted. Empty for a client without a secret."),
    )
    client_secret_expires_at = forms.DateTimeField(
        label=_("The secret expires"),
        required=False,
        help_text=_("As 2027-01-31 12:00. Empty where the console names no end."),
    )
    token_endpoint_auth_method = forms.ChoiceField(
        label=_("Client authentication"),
        required=False,
        choices=[("", _("Let the site choose")), *((name, name) for name in _METHODS)],
    )
    redirect_uris = LinesField(
        label=_("Redirect URIs"),
        required=False,
        help_text=_("One a line."),
        widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField dcr-wide"}),
    )
    scope = _Text(label=_("Scope"), required=False)
    registration_client_uri = _Text(
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


class AdoptionAdminMixin(ServiceAdminMixin):
    """Adds the form to the list of registrations."""

    has_register_permission = permission_method("register")

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_adopt"
        view = self.admin_site.admin_view(self.adopt_view)
        return [path("adopt/", view, name=name), *super().get_urls()]

    def may_adopt(self, request: HttpRequest) -> bool:
        """Whether the user may add registrations, and register clients."""
        return self.has_add_permission(request) and self.has_register_permission(request)

    @transaction.non_atomic_requests
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context: dict[str, Any] = {"adopt_label": _TITLE}
        if self.may_adopt(request):
            context["adopt_url"] = self.url("adopt")
        return super().changelist_view(request, {**context, **(extra_context or {})})

    # The service commits by itself, and refuses inside the transaction of ATOMIC_REQUESTS.
    @method_decorator(transaction.non_atomic_requests)
    @method_decorator(sensitive_post_parameters("client_secret", "registration_access_token"))
    @sensitive_variables()
    def adopt_view(self, request: HttpRequest) -> HttpResponse:
        """Show the form for a client of a server's console, and store the client."""
        if not self.may_adopt(request):
            raise PermissionDenied
        form = AdoptionForm(request.POST or None, initial=_initial(request))
        if form.is_valid():
            try:
                with actor(request.user.get_username()):
                    row = services.adopt(**form.arguments())
            except DCRError as exc:
                form.add_error(None, str(exc))
            else:
                return self._adopted(request, row)
        return self.page(request, "adopt", title=_TITLE, form=form, back=self.url("changelist"))

    def _adopted(self, request: HttpRequest, row: ClientRegistration) -> HttpResponseRedirect:
        label = EVENTS["adopt"]
        self.log_addition(request, row, gettext("%(action)s: done.") % {"action": label})
        text = gettext("The client is stored, and handed out from now on.")
        self.message_user(request, text, messages.SUCCESS)
        return self.to_page(row)


def _initial(request: HttpRequest) -> dict[str, str]:
    """Return the issuer of the server that the URL names, if there is one."""
    key = primary_key(request.GET.get("server", ""))
    server = AuthorizationServer.objects.filter(pk=key).first() if key else None
    return {} if server is None else {"issuer": server.issuer}
