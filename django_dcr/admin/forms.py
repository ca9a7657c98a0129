"""What people type into the admin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.forms.fields import InvalidJSONInput
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from django_dcr.models import AuthorizationServer

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[AuthorizationServer]
else:  # generic for type checkers only
    _ModelForm = forms.ModelForm


class IndentedJSONField(forms.JSONField):
    """JSON for people: indented, what was typed is shown again as it was, blank means empty."""

    def to_python(self, value: Any) -> Any:
        try:
            result = super().to_python(value)
        except RecursionError as exc:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from exc
        return self.initial() if result is None else result

    def bound_data(self, data: Any, initial: Any) -> Any:
        return InvalidJSONInput(data or "")

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, InvalidJSONInput):
            return value
        return json.dumps(value, ensure_ascii=False, indent=2)


class AuthorizationServerForm(_ModelForm):
    """Takes an initial access token and never shows one, not even after a mistake elsewhere."""

    initial_access_token = forms.CharField(
        label=_("Initial access token"),
        required=False,
        validators=[RegexValidator("^[!-~]+$", _("A token has plain characters and no blanks."))],
        widget=forms.PasswordInput(
            attrs={"autocomplete": "new-password", "class": "vTextField dcr-wide"}
        ),
    )
    remove_initial_access_token = forms.BooleanField(
        label=_("Remove the stored initial access token"), required=False
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["initial_access_token"] = ""
        self.fields["initial_access_token"].help_text = (
            _("One is stored, encrypted. Leave this blank to keep it.")
            if self.instance.initial_access_token
            else _("None is stored. Some servers want one from whoever registers a client.")
        )

    @sensitive_variables()
    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        kept, token = self.instance.initial_access_token, values.get("initial_access_token")
        if values.get("remove_initial_access_token"):
            if token:
                self.add_error("initial_access_token", _("Write a new one or remove the old one."))
            self.changed_data.append("initial_access_token")
            kept = None
        values["initial_access_token"] = token or kept
        return values
