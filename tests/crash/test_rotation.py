"""Keys are rotated while readers and writers go on, and the rotation is killed."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.db.models import TextField
from django.db.models.functions import Cast

from django_dcr.fields import Secret
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.crash.processes import Site, moments, wait_until

pytestmark = pytest.mark.network

OLD, NEW, WRONG = (Fernet.generate_key().decode() for _ in range(3))


@pytest.fixture
def rows(site: Site, settings: Any) -> int:
    """Registrations with two secrets each, under the old key."""
    settings.DCR_INTERNAL_ORIGINS = [site.server.issuer]
    settings.DCR_ENCRYPTION_KEYS = [OLD]
    server = AuthorizationServer.objects.for_issuer(site.server.issuer)
    number = site.size(short=500, full=10_000)
    ClientRegistration.objects.bulk_create(
        (
            ClientRegistration(
                server=server,
                owner=f"key {n}",
                status="active",
                client_id=f"c{n}",
                client_secret=f"secret {n}",
                registration_access_token=f"token {n}",
            )
            for n in range(number)
        ),
        batch_size=500,
    )
    settings.DCR_ENCRYPTION_KEYS = [NEW, OLD]
    return number


def _changed(original: list[tuple[Any, ...]]) -> int:
    return sum(before != after for before, after in zip(original, ciphertexts(), strict=True))


def ciphertexts() -> list[tuple[Any, ...]]:
    stored = (Cast(name, TextField()) for name in ("client_secret", "registration_access_token"))
    return list(ClientRegistration.objects.order_by("pk").values_list("pk", *stored))


def test_a_rotation_that_is_killed_again_and_again_loses_no_secret(site: Site, rows: int) -> None:
    """L19: 10,000 rows, 4 readers, a writer changing 500 secrets, 5 kills."""
    kills, changes = 5, site.size(short=100, full=500)
    both = {"DCR_ENCRYPTION_KEYS": [NEW, OLD]}
    *readers, writer, rotation = site.workers(6, **both)
    for reader in readers:
        reader.start("reveal_until_told", rows=rows)
    writer.start("change_secrets", rows=rows, changes=changes, within=site.size(short=1, full=12))
    original = ciphertexts()
    for moment in moments(kills, rows * 2 // 3):
        rotation.start("rotate_keys")
        wait_until(lambda moment=moment: _changed(original) > moment)
        assert rotation.is_working or not site.full
        rotation.kill()
        rotation = site.worker(**both)
    report = rotation.do("rotate_keys")
    newest = writer.value()
    rotation.do("rotate_keys")  # what the writer's process still sealed, with the same new key
    read = 0
    for reader in readers:
        reader.tell()
        outcome = reader.value()
        assert outcome["failed"] == 0
        read += outcome["read"]
    assert rotation.do("rotate_keys", check=True) == {"current": 2 * rows, "to_rotate": 0}
    strict = site.worker(DCR_ENCRYPTION_KEYS=[NEW])
    assert strict.do("reveal_all", rows=rows, newest=newest) == 2 * rows
    print(f"{kills} kills, {read} reads, the last run rotated {report}")


def test_a_wrong_key_changes_nothing(site: Site, rows: int) -> None:
    """L14, L16: pages open, other fields are saved, and the ciphertexts stay."""
    before = ciphertexts()
    worker = site.worker(DCR_ENCRYPTION_KEYS=[WRONG])
    assert worker.do("save_all") == rows
    assert worker.do("open_list_page") == 200
    worker.start("rotate_keys")
    outcome = worker.result()
    assert outcome["error"] == "CommandError"
    assert f"No key opens {2 * rows} stored values" in outcome["text"]
    assert ciphertexts() == before
    assert Secret(before[0][1], "django_dcr_clientregistration.client_secret").reveal()
