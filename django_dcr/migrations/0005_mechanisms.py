"""Say of each registration how it came about; those that exist are registered by RFC 7591.

SQLite copies a table to change it, with the columns that the state has: the column "history",
which the previous release still writes, is in the state for as long as that takes.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_dcr", "0004_calm"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddField(
                    model_name="clientregistration",
                    name="history",
                    field=models.JSONField(
                        blank=True, default=list, editable=False, null=True, verbose_name="history"
                    ),
                )
            ]
        ),
        migrations.AddField(
            model_name="authorizationserver",
            name="discovery_url",
            field=models.TextField(
                blank=True,
                db_default="",
                default="",
                help_text="Where the server's metadata is, if it is at no well-known place. The document must still name the issuer above.",
                verbose_name="discovery URL",
            ),
        ),
        migrations.AddField(
            model_name="authorizationserver",
            name="mechanisms",
            field=models.JSONField(
                blank=True,
                db_default=models.Value([], models.JSONField()),
                default=list,
                help_text='The mechanisms for new clients at this server, the preferred one first, such as ["dynamic"]; empty for DCR_MECHANISMS.',
                verbose_name="mechanisms",
            ),
        ),
        migrations.AddField(
            model_name="authorizationserver",
            name="metadata_by_hand",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Check this for a server without a metadata document; none is fetched.",
                verbose_name="metadata entered by hand",
            ),
        ),
        migrations.AddField(
            model_name="authorizationserver",
            name="shared",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Check this to let the site's own client serve every owner who has none of their own.",
                verbose_name="shared client",
            ),
        ),
        migrations.AddField(
            model_name="clientregistration",
            name="document_slug",
            field=models.CharField(
                blank=True, db_default="", db_index=True, default="", editable=False, max_length=16
            ),
        ),
        migrations.AddField(
            model_name="clientregistration",
            name="mechanism",
            field=models.CharField(
                choices=[
                    ("pre_registered", "pre-registered"),
                    ("metadata_document", "metadata document"),
                    ("dynamic", "dynamic registration"),
                ],
                db_default="dynamic",
                default="dynamic",
                editable=False,
                max_length=20,
                verbose_name="mechanism",
            ),
        ),
        migrations.AddField(
            model_name="registrationevent",
            name="note",
            field=models.CharField(blank=True, db_default="", default="", max_length=200),
        ),
        migrations.AddConstraint(
            model_name="clientregistration",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("mechanism", "metadata_document"),
                        ("client_secret__isnull", True),
                        ("client_secret_expires_at__isnull", True),
                        ("registration_access_token__isnull", True),
                        ("registration_client_uri", ""),
                        models.Q(
                            ("client_id", ""),
                            models.Q(
                                models.Q(("document_slug", ""), _negated=True),
                                ("client_id__endswith", models.F("document_slug")),
                                ("client_id__startswith", "https://"),
                            ),
                            _connector="OR",
                        ),
                    ),
                    models.Q(
                        ("mechanism", "pre_registered"),
                        models.Q(("client_id", ""), _negated=True),
                        ("status__in", ["active", "revoking", "revoked", "gone"]),
                        ("document_slug", ""),
                    ),
                    models.Q(("document_slug", ""), ("mechanism", "dynamic")),
                    _connector="OR",
                ),
                name="dcr_mechanism",
            ),
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField(model_name="clientregistration", name="history")
            ]
        ),
    ]
