"""``dcr_adopt``: one client, or many; secrets from anywhere but the command line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_dcr import services
from django_dcr.models import ClientRegistration
from tests.factories import CALLBACK, ISSUER, stored

pytestmark = pytest.mark.django_db


def run(*arguments: object) -> None:
    call_command("dcr_adopt", *map(str, arguments))


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Put ``data`` on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret.txt"
    file.write_text("s1\n")
    return file


def test_a_secret_comes_from_a_file(secret_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(
        ISSUER,
        "--owner",
        "acme",
        "--client-id",
        "c1",
        "--client-secret-file",
        secret_file,
        "--client-secret-expires-at",
        "2100-01-01T00:00:00",
        "--set",
        f"redirect_uris={CALLBACK}",
    )
    row = ClientRegistration.objects.get()
    assert (row.owner, row.client_id, row.client_secret.reveal()) == ("acme", "c1", "s1")
    assert row.client_secret_expires_at == 4_102_444_800
    assert row.requested_metadata == {"redirect_uris": [CALLBACK]}
    out = capsys.readouterr().out
    assert "mechanism: pre_registered" in out
    assert "s1" not in out


def test_a_secret_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, b" s2 \n")
    run(ISSUER, "--client-id", "c1", "--client-secret-file", "-")
    assert ClientRegistration.objects.get().client_secret.reveal() == "s2"


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCR_CLIENT_SECRET", "s3")
    run(ISSUER, "--client-id", "c1", "--client-secret-expires-at", "0")
    row = ClientRegistration.objects.get()
    assert (row.client_secret.reveal(), row.client_secret_expires_at) == ("s3", 0)


def test_a_client_without_a_secret_is_public() -> None:
    run(ISSUER, "--client-id", "c1")
    assert ClientRegistration.objects.get().metadata["token_endpoint_auth_method"] == "none"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([ISSUER, "--client-id", "c1", "--client-secret", "s1"], "command line"),
        ([ISSUER, "--client-id", "c1", "--registration-access-token", "t"], "command line"),
        ([ISSUER], "--client-id ID"),
        ([], "Name the issuer"),
        ([ISSUER, "--lines", "-"], "Name the issuer"),
        (["http://as.example", "--client-id", "c1"], "is not https"),
        ([ISSUER, "--client-id", "c1", "--client-secret-expires-at", "soon"], "seconds since"),
        ([ISSUER, "--client-id", "c1", "--client-secret-expires-at", "2026-99-99T1:00"], "seconds"),
        (
            [ISSUER, "--client-id", "c1", "--client-secret-file", "-", "--metadata", "-"],
            "Only one of the files",
        ),
        ([ISSUER, "--client-id", "c1", "--client-secret-file", "/nowhere"], "cannot be read"),
        (["--lines", "/nowhere"], "cannot be read"),
        (["--lines", "a\0b"], "not a file name"),
    ],
)
def test_what_cannot_be_adopted_is_refused_in_a_sentence(
    arguments: list[str], message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        run(*arguments)
    assert not ClientRegistration.objects.exists()


def test_a_file_that_is_no_text_is_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(CommandError, match="the secret and nothing else"):
        run(ISSUER, "--client-id", "c1", "--client-secret-file", file)


def line(**values: Any) -> str:
    return json.dumps({"issuer": ISSUER, "client_secret": "s1", **values})


def test_many_are_adopted_each_on_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        line(owner="a", client_id="c1", metadata={"scope": "a"}, registration_access_token=None),
        "",
        line(owner="b", client_id="c2", client_secret="********"),
        line(owner="c"),
        line(owner="d", client_id="c4", colour="red"),
        line(owner="e", client_id=5),
        "{",
        line(owner="f", client_id="c6"),
    ]
    give(monkeypatch, "\n".join(lines).encode())
    with pytest.raises(CommandError) as caught:
        run("--lines", "-", "--format", "json")
    owners = [row["owner"] for row in json.loads(capsys.readouterr().out)]
    assert owners == ["a", "f"]
    text = str(caught.value)
    assert text.startswith("2 of 7 adopted. Failed:")
    for told in (
        "line 3: The client_secret is masked",
        "line 4: client_id is missing.",
        "line 5: colour is not a member",
        "line 6: client_id has the wrong type; write str.",
        "line 7: it is not one JSON object",
    ):
        assert told in text


@pytest.mark.parametrize("replace", [[], ["--replace"]])
def test_a_second_run_passes_over_what_is_stored(
    tmp_path: Path, replace: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "clients.jsonl"
    file.write_text("\n".join([line(owner="a", client_id="c1"), line(owner="b", client_id="c2")]))
    services.adopt(ISSUER, "a", client_id="c1", client_secret="s1")
    for _run in range(2):
        run("--lines", file, *replace)
        assert "2 of 2 adopted." in capsys.readouterr().err
    assert ClientRegistration.objects.count() == 2


def test_another_secret_is_no_repetition(tmp_path: Path) -> None:
    file = tmp_path / "clients.jsonl"
    file.write_text(line(owner="a", client_id="c1", client_secret="s2"))
    old = services.adopt(ISSUER, "a", client_id="c1", client_secret="s1")
    with pytest.raises(CommandError, match="--replace"):
        run("--lines", file)
    run("--lines", file, "--replace")
    assert stored(old).status == "revoked"
    assert services.get_or_register(ISSUER, "a").client_secret.reveal() == "s2"
