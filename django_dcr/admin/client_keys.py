"""Client keys in the admin: when each signs, and for which clients. No page has a private key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr.admin.actions import ServiceAdminMixin, permission_method
from django_dcr.admin.display import NOTHING, badge
from django_dcr.admin.forms import OneErrorEach
from django_dcr.exceptions import DCRError
from django_dcr.models import ClientKey, ClientRegistration, signing_key
from django_dcr.services import rotate_client_key
from django_dcr.text import clean

# How many clients the page of a key looks at.
_MAX_CLIENTS = 50

_STATES = {
    "next": (_("signs later"), "quiet"),
    "signing": (_("signs"), "good"),
    "published": (_("has signed"), "quiet"),
    "retired": (_("no longer published"), "quiet"),
}


class ClientKeyForm(OneErrorEach):
    """Creates the first key of an owner for an algorithm."""

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if ClientKey.objects.newest(values.get("owner", ""), values.get("algorithm", "")):
            raise ValidationError(
                _("This owner has keys for this algorithm already. Rotate the newest one.")
            )
        return values


class ClientKeyAdminMixin(ServiceAdminMixin):
    """A key, its state in the rotation, and the clients that sign with it."""

    form = ClientKeyForm
    actions = ["rotate"]
    list_display = ["kid", "whose", "algorithm", "standing", "signs_from", "signs_until"]
    list_filter = ["algorithm"]
    search_fields = ["kid", "owner"]
    has_rotate_permission = permission_method("rotate")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ["owner", "algorithm"]
        moments = ["created_at", "signs_from", "signs_until", "published_until"]
        return ["kid", "whose", "algorithm", "standing", *moments, "public", "clients"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.get_fields(request, obj) if obj else []

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # nothing of a key is edited: its dates follow from the rotation

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        made = rotate_client_key(obj.owner, algorithm=obj.algorithm)
        obj.pk = made.pk
        obj.refresh_from_db()

    @admin.action(permissions=["rotate"], description=_("Rotate"))
    def rotate(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        done = gettext("The new key starts to sign once servers have had a day to fetch it.")
        return self.perform(request, queryset, "rotate", _rotate, done)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Protect the keys that sign: without them no login of their clients works."""
        deleted, counts, forbidden, protected = super().get_deleted_objects(objs, request)
        signing = [key for key in objs if key.state == "signing"]
        reason = gettext("%(key)s signs: rotate it, and wait until the next one signs")
        protected = [*protected, *(reason % {"key": key.kid} for key in signing)]
        return deleted, counts, forbidden, protected

    @admin.display(description=_("status"))
    def standing(self, key: ClientKey) -> str:
        text, tone = _STATES[key.state]
        return badge(str(text), tone)

    @admin.display(description=_("public key"))
    def public(self, key: ClientKey) -> str:
        return json.dumps(key.public_key, indent=2, sort_keys=True)

    @admin.display(description=_("clients that sign with it"))
    def clients(self, key: ClientKey) -> str:
        names = [(quote(row.pk), clean(row, 200)) for row in _signing_with(key)]
        if self.other_admin(ClientRegistration) is None:
            return "\n".join(name for _pk, name in names) or NOTHING
        links = ((self.url("change", pk, model=ClientRegistration), name) for pk, name in names)
        return format_html_join("", '<a href="{}">{}</a><br>', links) or NOTHING


def _rotate(key: ClientKey) -> ClientKey:
    return rotate_client_key(key.owner, algorithm=key.algorithm, force=True)


def _signing_with(key: ClientKey) -> Sequence[ClientRegistration]:
    """Return the newest of the clients that sign with a key now."""
    rows = ClientRegistration.objects.live().active().signing()
    if key.owner:
        rows = rows.filter(owner=key.owner)
    newest = rows.select_related("server").order_by("-pk")[:_MAX_CLIENTS]
    return [row for row in newest if _signs_with(row, key)]


def _signs_with(registration: ClientRegistration, key: ClientKey) -> bool:
    try:
        return signing_key(registration).pk == key.pk
    except DCRError:
        return False


@admin.register(ClientKey)
class ClientKeyAdmin(ClientKeyAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Client keys in Django's own admin."""
