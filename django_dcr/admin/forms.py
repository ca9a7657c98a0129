"""The forms of the admin, and their fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import copy
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.forms.fields import InvalidJSONInput
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from django_dcr.exceptions import DCRError, NotAllowedError
from django_dcr.models import AuthorizationServer, ClientRegistration, check_issuer
from django_dcr.text import clean

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Any]
else:  # generic for type checkers only
    _ModelForm = forms.ModelForm

#: The attributes of a text input as wide as the page.
WIDE = {"class": "vTextField dcr-wide"}


def primary_key(value: object) -> int:
    """Return the primary key in a URL or a form; 0, which no row has, for anything else."""
    text = str(value)
    # Databases overflow above 18 digits, and isdecimal() accepts the digits of any script.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0


class IndentedJSONField(forms.JSONField):
    """JSON that is shown indented, or as it was typed; blank means empty."""

    widget = AdminTextareaWidget(attrs={"rows": 5, "spellcheck": "false"})

    def to_python(self, value: Any) -> Any:
        try:
            result = super().to_python(value)
        except RecursionError as exc:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from exc
        except ValidationError as exc:
            raise ValidationError([exc, *_mistake(value)]) from exc
        return self.initial() if result is None else result

    def bound_data(self, data: Any, initial: Any) -> Any:
        return InvalidJSONInput(data or "")

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, InvalidJSONInput):
            return value
        return json.dumps(value, ensure_ascii=False, indent=2)


def _mistake(text: str) -> Iterator[str]:
    try:
        json.loads(text)
    except json.JSONDecodeError as exc:
        near = text[exc.pos :].strip()
        place = {"line": exc.lineno, "column": exc.colno, "near": clean(near, 20)}
        yield (
            gettext("The mistake is in line %(line)d, column %(column)d, at “%(near)s”.") % place
            if near
            else gettext("The text ends too early.")
        )


#: The form field of the button that stores the suggested issuer.
USE_ISSUER = "_issuer"


def issuer_button(error: DCRError) -> SafeString:
    """Return a button that stores the issuer that an error suggests, "" where it suggests none."""
    issuer = error.suggested_issuer
    try:
        check_issuer(issuer)
    except NotAllowedError:
        return SafeString()
    label = gettext("Use %(issuer)s") % {"issuer": clean(issuer, 200)}
    return format_html(
        '<button type="submit" class="button" form="authorizationserver_form" '
        'name="{}" value="{}">{}</button>',
        USE_ISSUER,
        issuer,
        label,
    )


class IssuerInput(AdminTextInputWidget):
    """Prefers the issuer of the button to what was typed."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        return data.get(USE_ISSUER) or super().value_from_datadict(data, files, name)


class OneErrorEach(_ModelForm):
    """Drops what the model's validation repeats about a field that has an error already."""

    def add_error(self, field: str | None, error: Any) -> None:
        errors = getattr(error, "error_dict", {})
        for name in errors.keys() & self.errors.keys():
            del errors[name]
        super().add_error(field, error)


class AuthorizationServerForm(OneErrorEach):
    """Accepts an initial access token and never shows one, even after an error in another field."""

    initial_access_token = forms.CharField(
        label=_("Initial access token"),
        required=False,
        validators=[
            RegexValidator("^[!-~]+$", _("A token consists of ASCII characters without spaces."))
        ],
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", **WIDE}),
    )
    entered_metadata = IndentedJSONField(
        label=_("Metadata document"),
        required=False,
        initial=dict,
        help_text=_("As in RFC 8414, for a server whose metadata is entered by hand."),
    )
    remove_initial_access_token = forms.BooleanField(
        label=_("Remove the stored initial access token"), required=False
    )

    class Meta:
        widgets = {"issuer": IssuerInput(attrs=WIDE)}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["initial_access_token"] = ""
        if self.instance.metadata_by_hand:
            self.initial["entered_metadata"] = self.instance.metadata
        if "assertion_audience" in self.fields:
            self.fields["assertion_audience"].required = False
        self.fields["initial_access_token"].help_text = (
            _("One is stored, encrypted. Leave this empty to keep it.")
            if self.instance.initial_access_token
            else _("None is stored. Some servers require one to register a client.")
        )

    def clean_issuer(self) -> str:
        issuer: str = self.cleaned_data["issuer"]
        if issuer != self.instance.issuer:
            try:
                check_issuer(issuer)
            except NotAllowedError as exc:
                message = format_html("{} {}", str(exc), issuer_button(exc))
                raise ValidationError(message) from exc
        return issuer

    @sensitive_variables()
    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        kept, token = self.instance.initial_access_token, values.get("initial_access_token")
        if values.get("remove_initial_access_token"):
            if token:
                self.add_error("initial_access_token", _("Enter a new one or remove the old one."))
            self.changed_data.append("initial_access_token")
            kept = None
        elif kept is not None and not token and not self._keeps_origin():
            # The stored token was issued by another server.
            self.changed_data.append("initial_access_token")
            kept = None
        values["initial_access_token"] = token or kept
        self._check_entered(values)
        return values

    def _keeps_origin(self) -> bool:
        """Whether the issuer is unchanged, or on the same origin as before."""
        issuer = self.cleaned_data.get("issuer", self.instance.issuer)
        is_same: bool = issuer == self.instance.issuer or self.instance.shares_origin(issuer)
        return is_same

    def _check_entered(self, values: dict[str, Any]) -> None:
        """Check the metadata that was entered by hand, and that it will be used."""
        document = values.get("entered_metadata")
        if not document:
            return
        if not values.get("metadata_by_hand"):
            self.add_error("metadata_by_hand", _("Check this to use the document below."))
            return
        issuer = values.get("issuer", self.instance.issuer)
        try:
            AuthorizationServer(issuer=issuer).checked_metadata(document)
        except DCRError as exc:
            self.add_error("entered_metadata", str(exc))


class WideField(forms.CharField):
    """A text as wide as the page."""

    widget = AdminTextInputWidget(attrs=WIDE)


class LinesField(forms.CharField):
    """A list of strings, one per line."""

    widget = forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField dcr-wide"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (value or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != self.to_python(data))


class ClientRegistrationForm(OneErrorEach):
    """The common client metadata in fields, the rest as JSON; what is blank is not requested.

    Values that no field can show, such as null, stay in the JSON.
    """

    #: The fields that are members of ``requested_metadata``, with the type of their values.
    members = {
        "client_name": str,
        "redirect_uris": list,
        "scope": str,
        "grant_types": list,
        "token_endpoint_auth_method": str,
    }

    client_name = WideField(
        label=_("Client name"),
        required=False,
        help_text=_("What the server shows to users, such as “Shop”."),
    )
    redirect_uris = LinesField(
        label=_("Redirect URIs"),
        required=False,
        help_text=_("One per line, such as https://shop.example/callback."),
    )
    scope = WideField(
        label=_("Scope"),
        required=False,
        help_text=_("Words with spaces between them, such as “openid profile”."),
    )
    grant_types = forms.MultipleChoiceField(
        label=_("Grant types"), required=False, widget=forms.CheckboxSelectMultiple
    )
    token_endpoint_auth_method = forms.ChoiceField(label=_("Client authentication"), required=False)

    class Meta:
        labels = {"requested_metadata": _("Other client metadata")}
        help_texts = {
            "requested_metadata": _(
                "Further members of RFC 7591 as one JSON object; null removes a default."
            )
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The members that were entered as JSON.
        self.written_as_json: frozenset[str] = frozenset()
        server = self.add_prefix("server")
        if self.data.get(server) and not primary_key(self.data[server]):
            # Django's widget would query the database for whatever was posted.
            posted: Any = copy(self.data)  # a mutable copy
            posted[server] = "0"
            self.data = posted
        #: What the row requests before the form is saved.
        self.stored_request = self.instance.requested_metadata
        stored = self.stored_request
        rest = dict(stored) if isinstance(stored, dict) else stored
        for name, kind in self.members.items():
            if isinstance(rest, dict) and _fits(rest.get(name), kind):
                self.initial[name] = rest.pop(name)
        self.initial["requested_metadata"] = rest
        if "requested_metadata" in self.fields:  # not where nothing can be edited
            self._offer(self._server())

    def _server(self) -> AuthorizationServer:
        """Return the chosen server, or one without metadata."""
        chosen = primary_key(self.instance.server_id or self["server"].value())
        return AuthorizationServer.objects.filter(pk=chosen).first() or AuthorizationServer()

    def _offer(self, server: AuthorizationServer) -> None:
        """Let users choose from what the server offers, and show the defaults."""
        methods = _offered(server, "token_endpoint_auth_methods_supported", [*_USABLE])
        methods.append(self.initial.get("token_endpoint_auth_method", ""))
        grants = _offered(server, "grant_types_supported", _GRANTS)
        grants += self.initial.get("grant_types", [])
        fields: dict[str, Any] = self.fields
        choose = ("", _("Let the site choose"))
        fields["token_endpoint_auth_method"].choices = [choose, *_marked(_choices(methods))]
        fields["grant_types"].choices = _choices(grants)
        scopes = server.offered("scopes_supported")
        if scopes:
            text = _("The server offers: %(scopes)s.")
            self._hint("scope", text % {"scopes": clean(" ".join(scopes), 300)})
        for name, value in _defaults(server, self.instance.owner).items():
            text = _("Default: %(default)s.")
            default = ", ".join(value) if isinstance(value, list) else value
            self._hint(name, text % {"default": clean(default, 200)})

    def _hint(self, name: str, text: str) -> None:
        # Django renders help texts as HTML, and this one may come from a server or an owner.
        parts = filter(None, [self.fields[name].help_text, text])
        self.fields[name].help_text = format_html_join(" ", "{}", ((part,) for part in parts))

    def add_error(self, field: str | None, error: Any) -> None:
        """Show what the model's validation says about a member at the member's own field."""
        errors = getattr(error, "error_dict", {})
        if "requested_metadata" in errors and "requested_metadata" not in self.errors:
            for fault in errors.pop("requested_metadata"):
                super().add_error(self._field_of(fault.message), fault)
        super().add_error(field, error)

    def _field_of(self, fault: str) -> str:
        """Return the field that an error is about: that of the first member that it names."""
        named = (name for name in re.findall(r"\w+", fault) if name in self.members)
        member = next(named, "")
        is_in_json = not member or member in self.written_as_json
        return "requested_metadata" if is_in_json else member

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        rest = values.get("requested_metadata", {})
        if not isinstance(rest, dict):
            return values  # the model's validation says what is wrong with it
        self.written_as_json = frozenset(rest)
        requested = {name: values[name] for name in self.members if values.get(name)}
        for name in sorted(requested.keys() & rest.keys()):
            text = _("Request this here or under “Other client metadata”, not in both.")
            self.add_error(name, text)
        values["requested_metadata"] = {**requested, **rest}
        return values


_MAX_CHOICES = 100
_USABLE = ClientRegistration.AUTHENTICATION_METHODS
# What most servers accept, for one that does not say what it offers.
_GRANTS = ["authorization_code", "refresh_token", "client_credentials"]


def _offered(server: AuthorizationServer, member: str, usual: list[str]) -> list[str]:
    # The password grant must not be used (RFC 9700 section 2.4).
    offered = server.offered(member)[:_MAX_CHOICES] or usual
    return [name for name in offered if name != "password"]


def _choices(names: list[str]) -> list[tuple[str, str]]:
    return [(name, clean(name, 100)) for name in dict.fromkeys(names) if name]


def _marked(methods: list[tuple[str, str]]) -> list[tuple[str, Any]]:
    """Mark the methods by which this app cannot authenticate, and put them last."""
    text = _("%(method)s (only with code of your own)")
    usable = [choice for choice in methods if choice[0] in _USABLE]
    others = [(name, text % {"method": shown}) for name, shown in methods if name not in _USABLE]
    return [*usable, *others]


def _fits(value: object, kind: type) -> bool:
    """Whether a field can show the value of a member."""
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, str) and value.splitlines() == [value]


def _defaults(server: AuthorizationServer, owner: str) -> dict[str, Any]:
    """Return what is requested from the server where the row requests nothing else."""
    try:
        requested = ClientRegistration(server=server, owner=owner).requested
    except NotAllowedError:
        return {}
    members = ClientRegistrationForm.members
    return {
        name: requested[name] for name, kind in members.items() if _fits(requested.get(name), kind)
    }
