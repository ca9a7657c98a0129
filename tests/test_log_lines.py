"""One line of the log for each thing that happens to a client, without a secret."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from django_dcr.services import read, reconcile, register, renew, retry, revoke, update
from tests.factories import (
    ENDPOINT,
    ISSUER,
    URI,
    client_information,
    make_draft,
    make_registration,
)

if TYPE_CHECKING:
    from responses import RequestsMock

    from django_dcr.models import ClientRegistration

pytestmark = pytest.mark.django_db


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "django_dcr")

    def told() -> list[str]:
        assert not [secret for secret in ("s1", "t1", "s2", "t2") if f'"{secret}"' in caplog.text]
        return [record.getMessage() for record in caplog.records if record.levelname == "INFO"]

    return told


def line(done: str, row: ClientRegistration, client: str = "c1", instead: str = "") -> str:
    return (
        f'{done}: registration {row.pk}, owner "acme", issuer {ISSUER}, client "{client}"{instead}.'
    )


def test_a_registration_is_a_line(
    mocked_responses: RequestsMock, lines: Callable[[], list[str]]
) -> None:
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    row = register(make_draft(owner="acme"))
    assert lines() == [line("Registered", row)]


def test_an_update_and_a_renewal_and_a_revocation_are_a_line_each(
    mocked_responses: RequestsMock, lines: Callable[[], list[str]]
) -> None:
    row = make_registration(owner="acme")
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information(client_secret="s2"))
    mocked_responses.delete(URI, status=204)
    update(row)
    mocked_responses.put(URI, json=client_information(client_secret="s3"))
    renew(row)
    read(row)
    revoke(row)
    assert lines() == [line(done, row) for done in ("Updated", "Renewed", "Revoked")]


def test_a_replacement_names_both_rows(
    mocked_responses: RequestsMock, lines: Callable[[], list[str]]
) -> None:
    lost = make_draft(owner="acme", status="unknown")
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_id="c2"))
    row = retry(lost)
    instead = f", in place of registration {lost.pk}"
    assert lines() == [line("Replaced", row, "", instead), line("Registered", row, "c2")]


def test_what_is_settled_is_told_and_what_a_person_typed_stays_on_the_line(
    mocked_responses: RequestsMock, lines: Callable[[], list[str]]
) -> None:
    row = make_registration(owner="a\ncme", status="revoking")
    mocked_responses.delete(URI, status=204)
    reconcile()
    assert lines() == [
        f'Revoked: registration {row.pk}, owner "a cme", issuer {ISSUER}, client "c1".'
    ]


def shape(text: str) -> str:
    """A line without what differs from one to the next."""
    return re.sub('"[^"]*"|https://[^,]*|[0-9]+', "_", text)


def test_the_documented_lines_are_those_that_are_written(
    mocked_responses: RequestsMock, lines: Callable[[], list[str]]
) -> None:
    page = (Path(__file__).parent.parent / "docs/logging.md").read_text()
    documented = page.partition("## What happened")[2].split("```")[1].strip().splitlines()
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_id="c2"))
    retry(make_draft(owner="acme", status="unknown"))
    assert sorted(map(shape, lines())) == sorted(map(shape, documented))
