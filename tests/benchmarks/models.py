"""The table of registrations as a model without any of this app: what Django alone takes."""

from __future__ import annotations

from django.db import models


class Bare(models.Model):
    server = models.ForeignKey("django_dcr.AuthorizationServer", models.DO_NOTHING)
    owner = models.TextField(default="")
    key_digest = models.CharField(max_length=64)
    live = models.BooleanField(null=True, default=True)
    status = models.CharField(max_length=16)
    requested_metadata = models.JSONField(default=dict)
    metadata = models.JSONField(default=dict)
    deviations = models.JSONField(default=list)
    client_id = models.TextField(default="")
    client_digest = models.CharField(max_length=64, null=True, unique=True)
    client_secret = models.TextField(null=True)
    client_secret_expires_at = models.BigIntegerField(null=True)
    client_id_issued_at = models.BigIntegerField(null=True)
    registration_client_uri = models.TextField(default="")
    registration_access_token = models.TextField(null=True)
    last_error = models.TextField(default="")
    has_drift = models.BooleanField(default=False)
    history = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    lease = models.CharField(max_length=32, default="")
    lease_until = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        managed = False
        db_table = "django_dcr_clientregistration"
