"""What a site keeps for itself: users' tokens, encrypted by this app (docs/resources.md)."""

from __future__ import annotations

from django.db import models

from django_dcr.fields import SecretField


class Token(models.Model):
    """The tokens of one owner for one resource."""

    owner = models.CharField(max_length=100)
    resource = models.TextField()
    issuer = models.TextField()
    access_token = SecretField()
    refresh_token = SecretField(null=True)

    def __str__(self) -> str:
        return f"{self.owner} at {self.resource}"


class LabelledToken(Token):
    """A row of two tables, the secrets in the first."""

    label = models.CharField(max_length=100)


class NewestToken(Token):
    """The same table by another name."""

    class Meta:
        proxy = True
