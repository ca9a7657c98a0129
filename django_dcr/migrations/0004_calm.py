"""Remember on each row how the last attempt failed, and when the next one may be made.

The columns may be null, so that the previous release can run until all of a site's processes are
updated.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("django_dcr", "0003_events")]

    operations = [
        migrations.AddField(
            model_name=model,
            name=name,
            field=field,
        )
        for model in ("authorizationserver", "clientregistration")
        for name, field in (
            ("failure", models.JSONField(editable=False, null=True)),
            (
                "retry_at",
                models.DateTimeField(editable=False, null=True, verbose_name="next attempt"),
            ),
        )
    ]
