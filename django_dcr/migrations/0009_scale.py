"""Make what a large site looks for findable by an index: owners, client IDs, the admin's filters."""

from django.db import migrations, models

import django_dcr.fields
from django_dcr.fields import digest

_PAGE = 1000


def fill_digests(apps, schema_editor):
    registrations = apps.get_model("django_dcr", "ClientRegistration")
    connection = schema_editor.connection
    rows = registrations.objects.using(connection.alias).order_by("pk")
    rows = rows.values_list("pk", "owner", "client_id")
    table = connection.ops.quote_name(registrations._meta.db_table)
    columns = "owner_digest = %s, client_id_digest = %s"
    statement = f"UPDATE {table} SET {columns} WHERE id = %s"  # noqa: S608
    page = list(rows[:_PAGE])
    with connection.cursor() as cursor:
        while page:
            found = [
                (digest(owner), digest(client_id) if client_id else None, pk)
                for pk, owner, client_id in page
            ]
            cursor.executemany(statement, found)
            page = list(rows.filter(pk__gt=page[-1][0])[:_PAGE])


class Migration(migrations.Migration):
    dependencies = [("django_dcr", "0008_protected_resources")]

    operations = [
        migrations.AddField(
            model_name="clientregistration",
            name="client_id_digest",
            field=django_dcr.fields.DigestField(
                editable=False, max_length=64, null=True, source="_client_id_parts"
            ),
        ),
        migrations.AddField(
            model_name="clientregistration",
            name="owner_digest",
            field=django_dcr.fields.DigestField(
                editable=False, max_length=64, null=True, source="_owner_parts"
            ),
        ),
        # Before the indexes, which are made faster at once than row by row.
        migrations.RunPython(fill_digests, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name="clientregistration",
            index=models.Index(fields=["client_id_digest"], name="dcr_client_id"),
        ),
        migrations.AddIndex(
            model_name="clientregistration",
            index=models.Index(fields=["owner_digest"], name="dcr_owner"),
        ),
        migrations.AddIndex(
            model_name="clientregistration",
            index=models.Index(fields=["status", "id"], name="dcr_status"),
        ),
        migrations.AddIndex(
            model_name="clientregistration",
            index=models.Index(fields=["mechanism", "id"], name="dcr_by_mechanism"),
        ),
        migrations.AddIndex(
            model_name="clientregistration",
            index=models.Index(fields=["has_drift", "id"], name="dcr_drift"),
        ),
    ]
