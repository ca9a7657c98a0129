"""The site the tests run in: the admin, this app, SQLite unless DATABASE_URL says otherwise."""

from __future__ import annotations

import environ

SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
# tests/databases.py starts other databases and names them here.
DATABASES = {"default": environ.Env().db_url("DATABASE_URL", default="sqlite://:memory:")}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_dcr",
    # For tests/contrib/test_allauth.py.
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "django_dcr.contrib.allauth",
    # A site's own model with secrets.
    "tests.tokens",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DCR_ENCRYPTION_KEYS = ["LZlBjPvLbeZEMWUwjmqJkZQFGpoMbE_xq7-tPeYGmyo="]
