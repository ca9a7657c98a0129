"""One site that is both sides: OAuth client (django-dcr) and authorization server (under /o/).

Every setting comes from the environment or from a file ``.env`` beside ``manage.py``;
``.env.example`` lists them. Without either, the site starts with what suits development.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import environ
from cryptography.fernet import Fernet

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")

DEBUG = env.bool("DEBUG", default=True)


def ensure_key(name: str, new: Callable[[], str]) -> None:
    """In development, make a missing key at the first start and keep it for the next ones."""
    if name in env or not DEBUG:
        return
    file = BASE_DIR / f".key-{name}"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(new())
    os.environ[name] = file.read_text()


ensure_key("SECRET_KEY", secrets.token_urlsafe)
ensure_key("DCR_ENCRYPTION_KEYS", lambda: Fernet.generate_key().decode())

SECRET_KEY = env.str("SECRET_KEY")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
LANGUAGE_CODE = env.str("LANGUAGE_CODE", default="en")
TIME_ZONE = env.str("TIME_ZONE", default="UTC")

ROOT_URLCONF = "example.urls"
WSGI_APPLICATION = "example.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"  # as Django 6 has it
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "static"
LOGIN_URL = "login"  # the server's: the client's users have no account here

INSTALLED_APPS = [
    "example",
    "django_dcr",
    "oauth2_provider",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # The commands and the server, two processes, write to this file: with a write-ahead log
    # readers never wait, and a writer waits for the other instead of failing.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        "timeout": 20,  # seconds
        "transaction_mode": "IMMEDIATE",
    }

# The client: django-dcr. The defaults of development let it reach the server on this machine.
LOOPBACK = ["http://127.0.0.1", "http://localhost"] if DEBUG else []
DCR_ENCRYPTION_KEYS = env.list("DCR_ENCRYPTION_KEYS")
DCR_ALLOWED_ISSUERS = env.list("DCR_ALLOWED_ISSUERS", default=[])
DCR_INTERNAL_ORIGINS = env.list("DCR_INTERNAL_ORIGINS", default=LOOPBACK)
DCR_CLIENT_METADATA = env.json(
    "DCR_CLIENT_METADATA",
    default={
        "client_name": "Example site",
        # The server lets the port differ (RFC 8252 section 7.3).
        "redirect_uris": [
            "http://127.0.0.1:8000/callback",
            "http://localhost:8000/callback",
            "http://127.0.0.1:8000/tools/callback",
            "http://localhost:8000/tools/callback",
        ],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    },
)
DCR_PREFER_KEYS = env.bool("DCR_PREFER_KEYS", default=False)
DCR_AUTO_REGISTER = env.bool("DCR_AUTO_REGISTER", default=True)
DCR_METADATA_TTL = env.int("DCR_METADATA_TTL", default=3600)
DCR_METADATA_MIN_TTL = env.int("DCR_METADATA_MIN_TTL", default=300)
DCR_BACKOFF = env.int("DCR_BACKOFF", default=30)
DCR_TIMEOUT = env.float("DCR_TIMEOUT", default=10.0)
DCR_MAX_RESPONSE_BYTES = env.int("DCR_MAX_RESPONSE_BYTES", default=1024 * 1024)
DCR_CA_BUNDLE = env.str("DCR_CA_BUNDLE", default="")
DCR_PROXY = env.str("DCR_PROXY", default="")
DCR_LEASE = env.int("DCR_LEASE", default=60)
DCR_RENEW_BEFORE = env.int("DCR_RENEW_BEFORE", default=7 * 24 * 3600)
DCR_BASE_URL = env.str("DCR_BASE_URL", default="")
DCR_MECHANISMS = env.list("DCR_MECHANISMS", default=["metadata_document", "dynamic"])
DCR_TASK_RUNNER = env.str("DCR_TASK_RUNNER", default="inline")

# The server: django-oauth-toolkit. Open registration is for development.
OPEN_REGISTRATION = env.bool("OPEN_REGISTRATION", default=DEBUG)
# Whether it takes Client ID Metadata Documents, in development also from this machine.
TAKES_DOCUMENTS = env.bool("TAKES_DOCUMENTS", default=False)
OAUTH2_PROVIDER = {
    "CIMD_ENABLED": TAKES_DOCUMENTS,
    "CIMD_METADATA_FETCHER": (
        "example.loopback.LoopbackFetcher" if DEBUG else "oauth2_provider.cimd.SafeMetadataFetcher"
    ),
    "OAUTH2_TOKEN_ENDPOINT_AUTH_METHODS_SUPPORTED": [
        "client_secret_basic",
        "client_secret_post",
        "none",
    ],
    "DCR_ENABLED": True,
    "DCR_REGISTRATION_PERMISSION_CLASSES": [
        "oauth2_provider.dcr.AllowAllDCRPermission"
        if OPEN_REGISTRATION
        else "oauth2_provider.dcr.IsAuthenticatedDCRPermission"
    ],
    "DCR_ROTATE_REGISTRATION_TOKEN_ON_UPDATE": True,
    "SCOPES": {
        "profile": "Your name",
        "tools": "Read your notes at the tool server",
        "tools:write": "Write notes for you at the tool server",
    },
    "DEFAULT_SCOPES": ["profile"],  # where a client requests none
    "ALLOW_LOCALHOST_LOOPBACK": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,  # an answer names its issuer (RFC 9207)
}
