"""A site that is nothing but an authorization server: django-oauth-toolkit at its root.

The settings of a process of its own, and its URLs. The environment says where its database is
who may register (anyone, or who shows a token of a user), and what other options to set.
"""

from __future__ import annotations

import json
import os

from django.urls import path

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = __name__
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("LIVE_DATABASE", ":memory:"),
    }
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "oauth2_provider",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # A user's access token is good for registering: an initial access token (RFC 7591 section 3).
    "oauth2_provider.middleware.OAuth2TokenMiddleware",
]
AUTHENTICATION_BACKENDS = ["oauth2_provider.backends.OAuth2Backend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # PBKDF2 takes 0.3 s

OAUTH2_PROVIDER = {
    "DCR_ENABLED": True,
    "DCR_REGISTRATION_PERMISSION_CLASSES": [
        f"oauth2_provider.dcr.{os.environ.get('LIVE_PERMISSION', 'IsAuthenticatedDCRPermission')}"
    ],
    **json.loads(os.environ.get("LIVE_OPTIONS", "{}")),
}

# By its name, which is imported when the first request comes and the apps are ready.
urlpatterns = [path("", ("oauth2_provider.urls", "oauth2_provider", "oauth2_provider"))]
