"""The table of registrations as a model without any of this app: what Django alone takes."""

from __future__ import annotations

from django.db import models

from django_dcr.fields import DigestField, SecretField
from django_dcr.models import ClientRegistration


def _plain(field: models.Field) -> models.Field:
    """The same column, without what this app adds to it."""
    if isinstance(field, SecretField):
        return models.TextField(null=True)
    if isinstance(field, DigestField):
        return models.CharField(max_length=64, null=True)
    if isinstance(field, models.ForeignKey):
        return models.ForeignKey(
            "django_dcr.AuthorizationServer", models.DO_NOTHING, related_name="+"
        )
    return field.clone()


class Bare(models.Model):
    class Meta:
        managed = False
        db_table = ClientRegistration._meta.db_table


for _field in ClientRegistration._meta.concrete_fields:
    if not _field.primary_key:
        _plain(_field).contribute_to_class(Bare, _field.name)
