"""Move the history of each registration from a column into a table of events.

The old column stays, empty for new rows, so that the previous release can run until all of a
site's processes are updated. A later release drops it.
"""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models
from django.utils.dateparse import parse_datetime

_PAGE = 1000


def copy_history(apps, schema_editor):
    registrations = apps.get_model("django_dcr", "ClientRegistration")
    events = apps.get_model("django_dcr", "RegistrationEvent")
    alias = schema_editor.connection.alias
    rows = registrations.objects.using(alias).only("pk", "history").order_by("pk")
    page = list(rows[:_PAGE])
    while page:
        found = [_event(events, row.pk, each) for row in page for each in row.history or ()]
        events.objects.using(alias).bulk_create(found, batch_size=_PAGE)
        page = list(rows.filter(pk__gt=page[-1].pk)[:_PAGE])


def _event(events, pk, event):
    outcome, _colon, detail = event["outcome"].partition(": ")
    new_secret = {"new secret": True, "no new secret": False}.get(detail)
    return events(
        registration_id=pk,
        at=parse_datetime(event["at"]),
        actor=event["who"],
        action=event["step"],
        outcome=outcome,
        error=detail if new_secret is None else "",
        new_secret=new_secret,
    )


class Migration(migrations.Migration):
    dependencies = [("django_dcr", "0002_interruptions_and_clocks")]

    operations = [
        migrations.AlterField(
            model_name="clientregistration",
            name="history",
            field=models.JSONField(
                blank=True, default=list, editable=False, null=True, verbose_name="history"
            ),
        ),
        migrations.AddField(
            model_name="clientregistration",
            name="refused_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.CreateModel(
            name="RegistrationEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="When"),
                ),
                ("actor", models.CharField(blank=True, max_length=150, verbose_name="Who")),
                ("action", models.CharField(max_length=16, verbose_name="Step")),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("draft", "draft"),
                            ("registering", "registering"),
                            ("active", "active"),
                            ("rejected", "rejected"),
                            ("unknown", "unknown"),
                            ("revoking", "revoking"),
                            ("revoked", "revoked"),
                            ("gone", "gone"),
                        ],
                        max_length=16,
                        verbose_name="Outcome",
                    ),
                ),
                ("error", models.CharField(blank=True, max_length=60)),
                ("new_secret", models.BooleanField(null=True)),
                (
                    "registration",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="events",
                        to="django_dcr.clientregistration",
                    ),
                ),
            ],
            options={
                "verbose_name": "event",
                "verbose_name_plural": "events",
                "default_permissions": ("view",),
            },
        ),
        migrations.RunPython(copy_history, migrations.RunPython.noop),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField(model_name="clientregistration", name="history")
            ]
        ),
    ]
