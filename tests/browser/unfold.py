"""The admin of a site that uses django-unfold: the same pages, by the mixins.

Not collected by its name: ``make browser`` runs it, in a process whose settings are below.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests import settings as plain

PAGES = """
import django
django.setup()
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
import unfold.admin
from django_dcr.admin import AuthorizationServerAdminMixin, ClientRegistrationAdminMixin
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.factories import make_registration

admin.site.unregister([AuthorizationServer, ClientRegistration])

@admin.register(AuthorizationServer)
class ServerAdmin(AuthorizationServerAdminMixin, unfold.admin.ModelAdmin):
    pass

@admin.register(ClientRegistration)
class RegistrationAdmin(ClientRegistrationAdminMixin, unfold.admin.ModelAdmin):
    pass

call_command("migrate", verbosity=0)
client = Client(headers={"host": "localhost"})
client.force_login(User.objects.create_superuser("admin"))
row = make_registration()
for path in (
    "authorizationserver/",
    f"authorizationserver/{row.server_id}/change/",
    "clientregistration/",
    "clientregistration/add/",
    f"clientregistration/{row.pk}/change/",
    f"clientregistration/{row.pk}/delete/",
):
    answer = client.get(f"/admin/django_dcr/{path}")
    assert answer.status_code == 200, (path, answer.status_code)
    assert b"unfold/" in answer.content, path
page = client.get(f"/admin/django_dcr/clientregistration/{row.pk}/change/").content.decode()
for button in ("Read from the server", "Revoke", "Reveal the secret"):
    assert f">{button}</button>" in page, button
answer = client.post(
    "/admin/django_dcr/clientregistration/",
    {"action": "forget", "_selected_action": row.pk, "_from_page": "1"},
)
assert b"whatever their servers say" in answer.content
secret = client.post(
    f"/admin/django_dcr/clientregistration/{row.pk}/reveal/", {"_confirmed": "1"}
)
assert b">s1<" in secret.content
print("all pages", end="")
"""


def test_a_site_with_unfold_has_the_same_pages_by_the_mixins() -> None:
    command = [sys.executable, "-c", PAGES]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": __name__}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "all pages", done.stderr


# -- the settings of that process ------------------------------------------------------------------

globals().update({name: value for name, value in vars(plain).items() if name.isupper()})
INSTALLED_APPS = ["unfold", *plain.INSTALLED_APPS]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
