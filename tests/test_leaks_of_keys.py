"""Private keys, and all the places they could turn up.

As ``test_leaks.py`` does it for secrets: rows and what is made of them, errors with the variables
of every frame, logs, pages, commands, documents and requests.
"""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import pickle
from typing import Any

import pytest
import responses
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.core import serializers
from django.core.management import call_command
from django.db import OperationalError, connection
from django.forms.models import model_to_dict
from django.test import Client, override_settings

from django_dcr import protocol
from django_dcr.exceptions import DCRError
from django_dcr.fields import Secret
from django_dcr.models import ClientKey, ClientRegistration, clientkey
from django_dcr.protocol.client_metadata import PRIVATE_KEY_MEMBERS
from django_dcr.services import register, rotate_client_key
from tests.factories import (
    ENDPOINT,
    GRANTED,
    WISHES,
    client_information,
    make_draft,
    make_registration,
)
from tests.interruptions import TimeLimitExceeded, interrupted, shown

pytestmark = pytest.mark.django_db

METHOD = {"token_endpoint_auth_method": "private_key_jwt"}
EVERY = pytest.mark.parametrize("algorithm", protocol.KEY_TYPES)


def private_parts(key: ClientKey) -> list[str]:
    """Each private member, as it is spelt in a JWK, a page, a number and bytes.

    To be asked for last: a traceback has the variables of the test, too.
    """
    return parts_of(key.private_key)


def parts_of(secret: Secret) -> list[str]:
    document: dict[str, Any] = json.loads(secret.reveal())
    found = []
    for name in PRIVATE_KEY_MEMBERS & document.keys():
        text = document[name]
        raw = base64.urlsafe_b64decode(text + "==")
        number = int.from_bytes(raw, "big")
        found += [text, html.escape(text), raw.hex(), str(number), repr(raw)[2:-1]]
        found += [base64.b64encode(raw).decode().rstrip("=")]
    assert len(found) >= 6
    return found


def leaks(parts: list[str], *places: object) -> list[str]:
    text = "\n".join(map(str, places))
    return [part for part in parts if part in text]


def a_client(key: ClientKey, **values: Any) -> ClientRegistration:
    metadata = {**GRANTED, **METHOD, "token_endpoint_auth_signing_alg": key.algorithm}
    return make_registration(metadata=metadata, client_secret=None, **values)


@EVERY
def test_no_row_and_nothing_made_of_it_has_a_private_part(algorithm: str) -> None:
    """R-185."""
    key = rotate_client_key(algorithm=algorithm)
    a_client(key).client_authentication()
    key.sign(b"")
    parts = private_parts(key)
    row = ClientKey.objects.get()
    assert leaks(parts, row, repr(row), vars(row), model_to_dict(row), row.private_key) == []
    assert leaks(parts, pickle.dumps(row), pickle.dumps(row, 0).decode("latin-1")) == []
    assert leaks(parts, *ClientKey.objects.values(), *ClientKey.objects.values_list()) == []
    for kind in ("json", "xml"):
        assert leaks(parts, serializers.serialize(kind, [row])) == []


@EVERY
def test_no_document_page_or_command_has_a_private_part(
    algorithm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-185."""
    key = rotate_client_key(algorithm=algorithm)
    a_client(key)
    parts = private_parts(key)
    staff = Client()
    staff.force_login(User.objects.create_superuser("staff"))
    page = f"/admin/django_dcr/clientkey/{key.pk}/change/"
    answers = [staff.get(url) for url in (page, "/oauth/jwks.json")]
    answers.append(staff.post("/admin/django_dcr/clientkey/", follow=True))
    out = io.StringIO()
    call_command("dumpdata", "django_dcr", stdout=out)
    call_command("dcr_client_keys", "--rotate", "--force")
    call_command("dcr_client_keys", "--format", "json")
    call_command("dcr_rotate_keys")
    call_command("dcr_list", "--format", "json")
    printed = capsys.readouterr()
    assert leaks(parts, *(answer.content.decode() for answer in answers)) == []
    assert leaks(parts, out.getvalue(), printed.out, printed.err) == []


def test_no_request_has_a_private_part(mocked_responses: responses.RequestsMock) -> None:
    """R-185: also where the column of public keys holds more than it should."""
    key = rotate_client_key()
    private = json.loads(key.private_key.reveal())
    ClientKey.objects.update(public_key={**key.public_key, **private})
    mocked_responses.post(ENDPOINT, status=201, json=client_information(**METHOD))
    register(make_draft(requested_metadata={**WISHES, **METHOD}))
    assert leaks(private_parts(key), mocked_responses.calls[0].request.body) == []


@EVERY
def test_no_error_has_a_private_part(algorithm: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nor a traceback with the variables of every frame, nor a log."""
    caplog.set_level(logging.DEBUG)
    key = rotate_client_key(algorithm=algorithm)
    wrong = ClientKey.objects.get(pk=key.pk)
    wrong.algorithm = "RS256" if algorithm.startswith("E") else "ES256"
    errors: list[Exception] = []
    for row, encryption_keys in ((key, [Fernet.generate_key().decode()]), (wrong, None)):
        settings = {"DCR_ENCRYPTION_KEYS": encryption_keys} if encryption_keys else {}
        with pytest.raises(DCRError) as caught, override_settings(**settings):
            row.sign(b"message")
        errors.append(caught.value)
    pages = [shown(error, brief=True) for error in errors]
    pages += [str(pickle.dumps(error)) for error in errors]
    logs = [caplog.text, *(vars(record) for record in caplog.records)]
    assert leaks(private_parts(key), *pages, *map(vars, errors), *logs) == []


def test_a_key_that_is_not_stored_is_not_shown() -> None:
    """The database fails: nothing of the new key is in the traceback."""
    written: list[str] = []

    def failing(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.startswith("INSERT"):
            return execute(sql, params, many, context)
        written.extend(value for value in params if str(value).startswith("gAAAA"))
        raise OperationalError("database or disk is full")

    with pytest.raises(OperationalError) as caught, connection.execute_wrapper(failing):
        rotate_client_key()
    page = shown(caught.value)
    assert "rotate_client_key" in page
    assert leaks(parts_of(Secret(written[0], "django_dcr_clientkey.private_key")), page) == []


@pytest.mark.parametrize("whole", [True, False], ids=["assertion", "signature"])
def test_signing_that_is_interrupted_shows_no_private_part(whole: bool) -> None:
    """What a time limit raises can end any call below."""
    key = rotate_client_key(algorithm="RS256")
    row = a_client(key)

    def sign_on() -> None:
        while True:
            clientkey._opened.cache_clear()
            row.client_authentication() if whole else key.sign(b"message")

    with pytest.raises(TimeLimitExceeded) as caught, interrupted(TimeLimitExceeded):
        sign_on()
    page = shown(caught.value)
    assert "/keys.py" in page
    assert leaks(private_parts(key), page) == []
