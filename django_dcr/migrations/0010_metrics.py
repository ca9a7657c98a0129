"""Index all that metrics count, so that a scrape reads no row."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("django_dcr", "0009_scale")]

    operations = [
        migrations.AddIndex(
            model_name="clientregistration",
            index=models.Index(
                fields=[
                    "server",
                    "status",
                    "mechanism",
                    "live",
                    "client_secret_expires_at",
                    "clock_offset",
                ],
                name="dcr_metrics",
            ),
        ),
    ]
