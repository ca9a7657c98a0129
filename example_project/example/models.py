"""What a site keeps itself: the tokens of its users, which django-dcr does not."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import ClassVar

from django.db import models
from django.utils.timezone import now

from django_dcr.fields import SecretField
from example.grants import Token

# An access token is refreshed this long before it expires.
_EARLY = timedelta(seconds=30)


class Connection(models.Model):
    """A tool server that somebody has connected, with the tokens that were issued for it."""

    #: A name in the browser's session. A site with accounts has a foreign key here.
    owner = models.CharField(max_length=64)
    url = models.CharField("address", max_length=500)
    #: Whom the tokens are for, and who issued them: they are sent to nobody else.
    resource = models.CharField(max_length=500)
    issuer = models.CharField(max_length=500)
    scope = models.TextField(blank=True)
    #: The scope of each authorization since a tool was last called, the first one first.
    requested = models.JSONField(default=list)
    access_token = SecretField()
    refresh_token = SecretField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager[Connection]] = models.Manager()

    class Meta:
        constraints = [  # noqa: RUF012
            models.UniqueConstraint(fields=["owner", "url"], name="example_one_connection")
        ]

    def __str__(self) -> str:
        return self.url

    @property
    def token(self) -> Token:
        return Token(
            access_token=self.access_token.reveal() if self.access_token else "",
            refresh_token=self.refresh_token.reveal() if self.refresh_token else "",
            expires_at=self.expires_at.timestamp() if self.expires_at else None,
            scope=self.scope,
        )

    @token.setter
    def token(self, token: Token) -> None:
        self.access_token, self.refresh_token = token.access_token, token.refresh_token or None
        self.scope, self.expires_at = token.scope, None
        if token.expires_at:
            self.expires_at = datetime.fromtimestamp(token.expires_at, tz=timezone.utc)

    @property
    def is_due(self) -> bool:
        """Whether the access token has to be refreshed before it is used."""
        return self.expires_at is not None and now() > self.expires_at - _EARLY
