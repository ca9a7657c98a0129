"""What people type into the admin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import copy
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
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
    """Return a primary key that an address or a form names; 0, which no row has, for no number."""
    text = str(value)
    # No database has integers of more than 18 digits, and other scripts have digits, too.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0


def _place_of_mistake(text: str) -> Iterator[str]:
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


class IndentedJSONField(forms.JSONField):
    """JSON for people: indented, what was typed is shown again as it was, blank means empty."""

    def to_python(self, value: Any) -> Any:
        try:
            result = super().to_python(value)
        except RecursionError as exc:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from exc
        except ValidationError as exc:
            raise ValidationError([exc, *_place_of_mistake(value)]) from exc
        return self.initial() if result is None else result

    def bound_data(self, data: Any, initial: Any) -> Any:
        return InvalidJSONInput(data or "")

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, InvalidJSONInput):
            return value
        return json.dumps(value, ensure_ascii=False, indent=2)


#: The form field of the button that takes over the issuer that was probably meant.
USE_ISSUER = "_issuer"


def issuer_button(error: DCRError) -> SafeString:
    """Return a button that stores the issuer that an error suggests, or "" where it has none."""
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
    """What the button says wins over what was typed."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        return data.get(USE_ISSUER) or super().value_from_datadict(data, files, name)


class OneErrorEach(_ModelForm):
    """The model looks at all values, and repeats what was said of a field already."""

    def add_error(self, field: str | None, error: Any) -> None:
        errors = getattr(error, "error_dict", {})
        for name in errors.keys() & self.errors.keys():
            del errors[name]
        super().add_error(field, error)


class AuthorizationServerForm(OneErrorEach):
    """Takes an initial access token and never shows one, not even after a mistake elsewhere."""

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
        widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false"}),
    )
    remove_initial_access_token = forms.BooleanField(
        label=_("Remove the stored initial access token"), required=False
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["initial_access_token"] = ""
        if "issuer" in self.fields:
            self.fields["issuer"].widget = IssuerInput(attrs=self.fields["issuer"].widget.attrs)
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
                said = format_html("{} {}", str(exc), issuer_button(exc))
                raise ValidationError(said) from exc
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
        elif kept is not None and not token and not self._stays():
            # It is for the server that it was stored for.
            self.changed_data.append("initial_access_token")
            kept = None
        values["initial_access_token"] = token or kept
        self._check_entered(values)
        return values

    def _stays(self) -> bool:
        """Whether the issuer stays, or is changed to one on the same origin."""
        issuer = self.cleaned_data.get("issuer", self.instance.issuer)
        is_same: bool = issuer == self.instance.issuer or self.instance.shares_origin(issuer)
        return is_same

    def _check_entered(self, values: dict[str, Any]) -> None:
        """Check the metadata that was entered by hand, and that it is meant to be used."""
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


class LinesField(forms.CharField):
    """A list of strings, one a line."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (value or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != self.to_python(data))


class ClientRegistrationForm(OneErrorEach):
    """The common client metadata in fields, the rest as JSON; blank is what is not requested.

    What a field has no form for, such as null, stays in the JSON.
    """

    #: The fields that are members of ``requested_metadata``, with the type of their values.
    members = {
        "client_name": str,
        "redirect_uris": list,
        "scope": str,
        "grant_types": list,
        "token_endpoint_auth_method": str,
    }

    client_name = forms.CharField(
        label=_("Client name"),
        required=False,
        widget=forms.TextInput(attrs=WIDE),
    )
    redirect_uris = LinesField(
        label=_("Redirect URIs"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField dcr-wide"}),
    )
    scope = forms.CharField(
        label=_("Scope"),
        required=False,
        widget=forms.TextInput(attrs=WIDE),
    )
    grant_types = forms.MultipleChoiceField(
        label=_("Grant types"), required=False, widget=forms.CheckboxSelectMultiple
    )
    token_endpoint_auth_method = forms.ChoiceField(label=_("Client authentication"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The members that were written into the box for JSON.
        self.written_as_json: frozenset[str] = frozenset()
        server = self.add_prefix("server")
        if self.data.get(server) and not primary_key(self.data[server]):
            # Django's widget would ask the database for whatever stands there.
            posted: Any = copy(self.data)  # one that may be changed
            posted[server] = "0"
            self.data = posted
        #: What the row requested before the form was filled in.
        self.stored_request = self.instance.requested_metadata
        stored = self.stored_request
        rest = dict(stored) if isinstance(stored, dict) else stored
        for name, kind in self.members.items():
            if isinstance(rest, dict) and _fits(rest.get(name), kind):
                self.initial[name] = rest.pop(name)
        self.initial["requested_metadata"] = rest
        if "requested_metadata" in self.fields:  # not where nothing can be edited
            self.fields["requested_metadata"].label = _("Other client metadata")
            self.fields["requested_metadata"].help_text = _(
                "Further members of RFC 7591 as one JSON object; null removes a default."
            )
            self._offer(self._server())

    def _server(self) -> AuthorizationServer:
        """Return the server that is chosen, or one that says nothing of itself."""
        chosen = primary_key(self.instance.server_id or self["server"].value())
        return AuthorizationServer.objects.filter(pk=chosen).first() or AuthorizationServer()

    def _offer(self, server: AuthorizationServer) -> None:
        """Let people choose from what the server offers, and say what else would be requested."""
        methods = _offered(server, "token_endpoint_auth_methods_supported", [*USABLE])
        methods.append(self.initial.get("token_endpoint_auth_method", ""))
        grants = _offered(server, "grant_types_supported", _GRANTS)
        grants += self.initial.get("grant_types", [])
        fields: dict[str, Any] = self.fields
        choose = ("", _("Let the site choose"))
        fields["token_endpoint_auth_method"].choices = [choose, *_marked(_choices(methods))]
        fields["grant_types"].choices = _choices(grants)
        self.fields["client_name"].help_text = _("What the server shows to users, such as “Shop”.")
        self.fields["redirect_uris"].help_text = _(
            "One per line, such as https://shop.example/callback."
        )
        self.fields["scope"].help_text = _(
            "Words with spaces between them, such as “openid profile”."
        )
        scopes = server.offered("scopes_supported")
        if scopes:
            text = _("The server offers: %(scopes)s.")
            self._hint("scope", text % {"scopes": clean(" ".join(scopes), 300)})
        for name, value in _defaults(server, self.instance.owner).items():
            text = _("Default: %(default)s.")
            default = ", ".join(value) if isinstance(value, list) else value
            self._hint(name, text % {"default": clean(default, 200)})

    def _hint(self, name: str, text: str) -> None:
        # Django prints help texts as HTML, and a server or an owner may have said this one.
        parts = filter(None, [self.fields[name].help_text, text])
        self.fields[name].help_text = format_html_join(" ", "{}", ((part,) for part in parts))

    def add_error(self, field: str | None, error: Any) -> None:
        """Put what the model says of a member at the member's own field."""
        errors = getattr(error, "error_dict", {})
        if "requested_metadata" in errors and "requested_metadata" not in self.errors:
            for fault in errors.pop("requested_metadata"):
                super().add_error(self._place(fault.message), fault)
        super().add_error(field, error)

    def _place(self, fault: str) -> str:
        """Return the field that a sentence is about: the first member of a field that it names."""
        named = (name for name in re.findall(r"\w+", fault) if name in self.members)
        member = next(named, "")
        is_in_json = not member or member in self.written_as_json
        return "requested_metadata" if is_in_json else member

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        rest = values.get("requested_metadata", {})
        if not isinstance(rest, dict):
            return values  # the model says what is wrong with it
        self.written_as_json = frozenset(rest)
        requested = {name: values[name] for name in self.members if values.get(name)}
        for name in sorted(requested.keys() & rest.keys()):
            text = _("Request this here or under “Other client metadata”, not in both.")
            self.add_error(name, text)
        values["requested_metadata"] = {**requested, **rest}
        return values


_MAX_CHOICES = 100

USABLE = ClientRegistration.AUTHENTICATION_METHODS
# What most servers take, for one that does not say what it offers.
_GRANTS = ["authorization_code", "refresh_token", "client_credentials"]


def _offered(server: AuthorizationServer, member: str, usual: list[str]) -> list[str]:
    # The password is refused whatever the server says (RFC 9700 section 2.4).
    offered = server.offered(member)[:_MAX_CHOICES] or usual
    return [name for name in offered if name != "password"]


def _choices(names: list[str]) -> list[tuple[str, str]]:
    return [(name, clean(name, 100)) for name in dict.fromkeys(names) if name]


def _marked(methods: list[tuple[str, str]]) -> list[tuple[str, Any]]:
    """Mark what this app cannot authenticate by, which stands last."""
    text = _("%(method)s (only with code of your own)")
    usable = [choice for choice in methods if choice[0] in USABLE]
    others = [(name, text % {"method": shown}) for name, shown in methods if name not in USABLE]
    return [*usable, *others]


def _fits(value: object, kind: type) -> bool:
    """Whether a field can show the value of a member."""
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, str) and value.splitlines() == [value]


def _defaults(server: AuthorizationServer, owner: str) -> dict[str, Any]:
    """Return what is requested of the server where the row says nothing else."""
    try:
        requested = ClientRegistration(server=server, owner=owner).requested
    except NotAllowedError:
        return {}
    members = ClientRegistrationForm.members
    return {
        name: requested[name] for name, kind in members.items() if _fits(requested.get(name), kind)
    }
