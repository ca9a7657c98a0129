from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import responses
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from django_dcr.management.arguments import read_changes
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.factories import (
    CALLBACK,
    ENDPOINT,
    GRANTED,
    ISSUER,
    URI,
    WELL_KNOWN,
    WISHES,
    client_information,
    events_of,
    make_draft,
    make_registration,
    make_registration_at,
    make_server,
    server_metadata,
    stored,
)
from tests.hostile import HANG
from tests.tokens.models import LabelledToken, Token

if TYPE_CHECKING:
    from pytest_django import Settings

    from tests.authorization_server import AuthorizationServer as LiveServer

ROOT = Path(__file__).parent.parent

Stubs = responses.RequestsMock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(*arguments: object, out: io.StringIO | None = None) -> tuple[str, str]:
    """Run a command in this process; return what it printed on the two streams."""
    out, err = out or io.StringIO(), io.StringIO()
    call_command(*map(str, arguments), stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def run_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--format", "json")[0])


def fail(*arguments: object) -> tuple[str, str]:
    """Run a command that has to fail; return its sentence, and what it printed."""
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command(*map(str, arguments), stdout=out, stderr=io.StringIO())
    assert caught.value.returncode == 1
    return str(caught.value), out.getvalue()


def fail_json(*arguments: object) -> tuple[str, Any]:
    sentence, out = fail(*arguments, "--format", "json")
    return sentence, json.loads(out)


def make_registrations(count: int, **values: Any) -> list[ClientRegistration]:
    server = make_server()
    return [
        make_registration(
            server=server,
            owner=f"o{number}",
            client_id=f"c{number}",
            registration_client_uri=f"{ENDPOINT}/c{number}",
            **values,
        )
        for number in range(1, count + 1)
    ]


def answer_about(row: ClientRegistration, **changes: Any) -> dict[str, Any]:
    uri = row.registration_client_uri
    named = {"client_id": row.client_id, "registration_client_uri": uri}
    return client_information(**{**named, **changes})


def in_days(days: float) -> int:
    return int((timezone.now() + timedelta(days=days, minutes=1)).timestamp())


def nothing_is_stored() -> bool:
    return not (AuthorizationServer.objects.exists() or ClientRegistration.objects.exists())


# --- dcr_discover -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_discover_stores_and_shows_what_the_server_offers(mocked_responses: Stubs) -> None:
    """R-015, R-025: its policy and terms are shown, as text."""
    document = server_metadata(
        op_policy_uri="https://as.example/policy",
        op_tos_uri="javascript:alert(1)\x1b[2J",
        code_challenge_methods_supported=["S256"],
    )
    mocked_responses.get(WELL_KNOWN, json=document)
    out, _ = run("dcr_discover", ISSUER)
    assert f"issuer: {ISSUER}\nmetadata_url: {WELL_KNOWN}\n" in out
    assert f"  registration_endpoint: {ENDPOINT}\n" in out
    assert "  op_policy_uri: https://as.example/policy\n" in out
    assert "  op_tos_uri: javascript:alert(1)[2J\n" in out
    assert "supports_registration: true\nsupports_pkce: true\n" in out
    assert AuthorizationServer.objects.get().metadata["op_policy_uri"]


@pytest.mark.django_db
def test_discover_asks_again_although_the_stored_metadata_is_fresh(mocked_responses: Stubs) -> None:
    make_server()
    mocked_responses.get(WELL_KNOWN, json=server_metadata(scopes_supported=["a"]))
    document = run_json("dcr_discover", ISSUER)
    assert document["metadata"]["scopes_supported"] == ["a"]
    assert document["supports_pkce"] is False
    assert document["fetched_at"] < document["fresh_until"]


@pytest.mark.django_db
@pytest.mark.parametrize("output", ["table", "json"])
def test_discover_of_a_server_that_fails_is_one_sentence(
    mocked_responses: Stubs, output: str
) -> None:
    mocked_responses.get(WELL_KNOWN, json=server_metadata(issuer="https://evil.example"))
    sentence, out = fail("dcr_discover", ISSUER, "--format", output)
    assert 'The metadata is of another issuer, "https://evil.example"' in sentence
    assert out == ""


@pytest.mark.django_db
def test_a_mistyped_issuer_is_not_kept(mocked_responses: Stubs) -> None:
    mocked_responses.get(WELL_KNOWN, json=server_metadata(issuer="https://evil.example"))
    fail("dcr_discover", ISSUER)
    assert not AuthorizationServer.objects.exists()
    make_server()
    fail("dcr_discover", ISSUER)
    assert AuthorizationServer.objects.get().last_error, "one that was stored before is kept"


@pytest.mark.django_db(transaction=True)
def test_a_server_at_which_another_process_registers_meanwhile_is_kept(
    mocked_responses: Stubs,
) -> None:
    def register(_request: Any) -> tuple[int, dict[str, str], str]:
        make_draft(server=AuthorizationServer.objects.get())
        return 500, {}, ""

    mocked_responses.add_callback("GET", WELL_KNOWN, register)
    assert "500" in fail("dcr_discover", ISSUER)[0]
    assert AuthorizationServer.objects.get().registrations.count() == 1


@pytest.mark.django_db
def test_discover_warns_of_what_will_not_work(mocked_responses: Stubs) -> None:
    elsewhere = {f"{name}_endpoint": f"https://{name}.example/" for name in ("token", "userinfo")}
    mocked_responses.get(WELL_KNOWN, json={"issuer": ISSUER, **elsewhere})
    _out, err = run("dcr_discover", ISSUER)
    none, origins = err.splitlines()
    assert none.startswith("Warning: this server offers no registration:")
    assert origins.endswith("list these: https://token.example, https://userinfo.example")
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    assert run("dcr_discover", ISSUER)[1] == ""


# --- dcr_register -------------------------------------------------------------------------------


@pytest.mark.django_db
def test_register_prints_the_registration_without_secrets(mocked_responses: Stubs) -> None:
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_id_issued_at=1))
    changes = ["--set", "client_name=Shop", "--set", f"redirect_uris={CALLBACK}"]
    out, err = run("dcr_register", ISSUER, "--owner", "acme", *changes)
    assert "owner: acme\nstatus: active\nclient_id: c1\n" in out
    assert "client_id_issued_at: 1970-01-01T00:00:01+00:00\n" in out
    assert "client_secret_expires_at: never\n" in out
    assert "client_secret: ********\nregistration_access_token: ********\n" in out
    assert "s1" not in out
    assert err == ""
    assert ClientRegistration.objects.get().requested_metadata == WISHES


@pytest.mark.django_db
def test_register_in_json_is_one_object_without_secrets(mocked_responses: Stubs) -> None:
    make_server()
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    wishes = ["--set", f"redirect_uris={CALLBACK}", "--set", "client_name=Store"]
    document = run_json("dcr_register", ISSUER, *wishes)
    assert document["status"] == "active"
    assert document["client_secret_expires_at"] == 0
    assert document["drift"] == {"client_name": {"asked": "Store", "granted": "Shop"}}
    assert not {"client_secret", "registration_access_token"} & document.keys()


@pytest.mark.django_db
def test_metadata_of_a_file_lies_below_what_is_set(mocked_responses: Stubs, tmp_path: Path) -> None:
    file = tmp_path / "metadata.json"
    file.write_text(json.dumps({**WISHES, "contacts": ["a@site.example"], "tos_uri": "x"}))
    make_server()
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    changes = ["--set", "client_name=Café", "--set", "tos_uri=", "--set", "x=1"]
    run("dcr_register", ISSUER, "--metadata", file, *changes)
    wishes = {**WISHES, "client_name": "Café", "contacts": ["a@site.example"], "x": 1}
    assert ClientRegistration.objects.get().requested_metadata == {**wishes, "tos_uri": None}
    sent = json.loads(mocked_responses.calls[0].request.body or "")
    assert sent == {**wishes, "token_endpoint_auth_method": "client_secret_basic"}


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["client_name=a=b"], {"client_name": "a=b"}),
        (["client_name=1"], {"client_name": "1"}),
        (["client_name#ja=店"], {"client_name#ja": "店"}),
        (["contacts=a,b"], {"contacts": ["a,b"]}),
        (["contacts=a", "contacts=b"], {"contacts": ["a", "b"]}),
        (["contacts=a", 'contacts=["b", "c"]'], {"contacts": ["a", "b", "c"]}),
        (["contacts=", "contacts=b"], {"contacts": ["b"]}),
        (["contacts=a", "contacts="], {"contacts": None}),
        (["client_name=a", "client_name=b"], {"client_name": "b"}),
        (["require_auth_time=true"], {"require_auth_time": True}),
        (["default_max_age=60"], {"default_max_age": 60}),
        (['jwks={"keys": []}'], {"jwks": {"keys": []}}),
        (["extension=text"], {"extension": "text"}),
        (["extension=[1, 2]"], {"extension": [1, 2]}),
        (["extension=false"], {"extension": False}),
        (['extension=1, "other": 2'], {"extension": '1, "other": 2'}),
        (["extension="], {"extension": None}),
        (["token_endpoint_auth_method=none"], {"token_endpoint_auth_method": "none"}),
    ],
    ids=str,
)
def test_set_reads_a_value_by_the_type_of_its_member(
    assignments: list[str], expected: dict[str, Any]
) -> None:
    assert read_changes(assignments) == expected


WRONG = [
    ("no-scheme.example", [], "The issuer is not an absolute http or https URL"),
    ("http://as.example", [], "The issuer is not https"),
    ("https://as.example/\udcff", [], "The issuer is not valid UTF-8"),
    (ISSUER, ["--owner", "a\0b"], "The owner is not valid UTF-8"),
    (ISSUER, [], "authorization_code needs redirect_uris; state at least one"),
    (ISSUER, ["--set", "client_name"], "--set takes NAME=VALUE, such as"),
    (ISSUER, ["--set", "=x"], "--set takes NAME=VALUE, such as"),
    (ISSUER, ["--set", "#ja=x"], "--set takes NAME=VALUE, such as"),
    (ISSUER, ["--set", "require_auth_time=yes"], "--set require_auth_time takes true or false"),
    (ISSUER, ["--set", "require_auth_time=1"], "--set require_auth_time takes true or false"),
    (ISSUER, ["--set", "default_max_age=soon"], "--set default_max_age takes a whole number"),
    (ISSUER, ["--set", "contacts=[1"], "--set contacts takes a text, or a JSON list"),
    (ISSUER, ["--set", "jwks=[]"], "--set jwks takes a JSON object"),
    (ISSUER, ["--set", "redirect_uris=/callback"], '"/callback" is not an absolute URL'),
    (ISSUER, ["--set", "client_id=x"], "client_id is assigned by the server"),
    (ISSUER, ["--set", "client_secret=s3cr3t"], "secrets are not taken on the command line"),
    (ISSUER, ["--set", "client_secret"], "secrets are not taken on the command line"),
    (ISSUER, ["--set", "initial_access_token=s3cr3t"], "secrets are not taken on the command"),
    (ISSUER, ["--token", "s3cr3t"], "Secrets are not taken on the command line"),
    (ISSUER, ["--initial-access-token", "s3cr3t"], "Secrets are not taken on the command line"),
    (ISSUER, ["--client-secret=s3cr3t"], "Secrets are not taken on the command line"),
    (ISSUER, ["--metadata", "missing"], "missing cannot be read: No such file or directory."),
    (ISSUER, ["--metadata", "a\0b"], "ab cannot be read: it is not a file name."),
    (ISSUER, ["--metadata", "bad"], "bad does not hold one JSON object of client metadata: Expec"),
    (ISSUER, ["--metadata", "list"], "of client metadata: it is another JSON value."),
    (ISSUER, ["--metadata", "twice"], "of client metadata: a name occurs twice in one object."),
    (ISSUER, ["--metadata", "latin"], "of client metadata: 'utf-8' codec can't decode"),
    (ISSUER, ["--metadata", "issued"], "client_secret is assigned by the server"),
    (
        ISSUER,
        ["--metadata", "-", "--initial-access-token-file", "-"],
        "Only one of the files",
    ),
    (ISSUER, ["--initial-access-token-file", "missing"], "missing cannot be read: No such file"),
    (ISSUER, ["--initial-access-token-file", "list"], "list must hold the token and nothing el"),
    (ISSUER, ["--initial-access-token-file", "empty"], "empty must hold the token and nothing"),
    (ISSUER, ["--initial-access-token-file", "latin"], "latin must hold the secret and nothing"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("issuer", "options", "sentence"), WRONG, ids=str)
def test_wrong_input_is_one_sentence_and_nothing_is_stored_or_sent(
    issuer: str,
    options: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A9: and no secret is repeated, that was given where it must not be."""
    monkeypatch.chdir(tmp_path)
    Path("bad").write_text("{")
    Path("list").write_text("[1, 2]")
    Path("twice").write_text('{"scope": "a", "scope": "b"}')
    Path("latin").write_bytes(b"{\xe9}")
    Path("issued").write_text(json.dumps({**WISHES, "client_secret": "s3cr3t"}))
    Path("empty").write_text("\n")
    said, out = fail("dcr_register", issuer, *options)
    assert sentence in said
    assert "\n" not in said
    assert "s3cr3t" not in said
    assert out == ""
    assert nothing_is_stored()


@pytest.mark.django_db
def test_an_issuer_that_the_site_does_not_allow_is_not_stored(settings: Settings) -> None:
    settings.DCR_ALLOWED_ISSUERS = ["https://other.example"]
    assert "is not in DCR_ALLOWED_ISSUERS" in fail("dcr_register", ISSUER)[0]
    assert nothing_is_stored()


@pytest.mark.django_db
def test_a_wrong_setting_is_one_sentence(settings: Settings) -> None:
    registration = make_registration()
    settings.DCR_ENCRYPTION_KEYS = []
    sentence, out = fail("dcr_show", registration.pk, "--reveal")
    assert sentence == "DCR_ENCRYPTION_KEYS must be a list of at least one Fernet key."
    assert out == ""


@pytest.mark.django_db
@pytest.mark.parametrize("source", ["file", "stdin", "environment"])
def test_an_initial_access_token_is_sent_and_not_stored(
    mocked_responses: Stubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Fault 133, A9."""
    options = []
    if source == "file":
        (tmp_path / "token").write_text("t0k3n\n")
        options = ["--initial-access-token-file", str(tmp_path / "token")]
    elif source == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"t0k3n\n")))
        options = ["--initial-access-token-file", "-"]
    else:
        monkeypatch.setenv("DCR_INITIAL_ACCESS_TOKEN", "t0k3n")
    make_server()
    mocked_responses.post(
        ENDPOINT,
        status=201,
        json=client_information(),
        match=[responses.matchers.header_matcher({"Authorization": "Bearer t0k3n"})],
    )
    out, err = run("dcr_register", ISSUER, "--set", f"redirect_uris={CALLBACK}", *options)
    assert "t0k3n" not in out + err
    assert AuthorizationServer.objects.get().initial_access_token is None


@pytest.mark.django_db
def test_a_rejected_registration_is_tried_again_with_other_metadata(
    mocked_responses: Stubs,
) -> None:
    draft = make_draft(status="rejected")
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    document = run_json("dcr_register", ISSUER, "--set", "client_name=Other")
    assert document["id"] == draft.pk
    assert stored(draft).requested_metadata == {**WISHES, "client_name": "Other"}


@pytest.mark.django_db
def test_the_servers_refusal_is_the_sentence_and_stays_on_the_row(mocked_responses: Stubs) -> None:
    draft = make_draft()
    refusal = {"error": "invalid_client_metadata", "error_description": "no\x1b[31m"}
    mocked_responses.post(ENDPOINT, status=400, json=refusal)
    sentence, out = fail("dcr_register", ISSUER)
    assert "The server refused with 400 invalid_client_metadata" in sentence
    assert "\x1b" not in sentence
    assert out == ""
    assert stored(draft).status == "rejected"
    assert stored(draft).last_error == sentence


@pytest.mark.django_db
@pytest.mark.parametrize("past", ["gone", "revoked"])
def test_a_past_registration_is_no_obstacle(mocked_responses: Stubs, past: str) -> None:
    make_registration(status=past, live=None, client_digest=None)
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_id="c2"))
    document = run_json("dcr_register", ISSUER, "--set", f"redirect_uris={CALLBACK}")
    assert document["client_id"] == "c2"
    assert ClientRegistration.objects.count() == 2


@pytest.mark.django_db
def test_a_second_registration_of_an_owner_is_refused_before_anything_is_sent() -> None:
    registration = make_registration()
    sentence, _ = fail("dcr_register", ISSUER, "--set", "client_name=Other")
    assert sentence.startswith(f"Registration {registration.pk} is registered already; update")
    assert stored(registration).requested_metadata == WISHES


@pytest.mark.django_db
def test_if_missing_is_content_with_a_registration_that_is_there() -> None:
    registration = make_registration()
    document = run_json("dcr_register", ISSUER, "--if-missing", "--set", "client_name=Shop")
    assert document["id"] == registration.pk


@pytest.mark.django_db
def test_if_missing_updates_to_the_metadata_given(mocked_responses: Stubs) -> None:
    make_registration()
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information(client_name="Other"))
    document = run_json("dcr_register", ISSUER, "--if-missing", "--set", "client_name=Other")
    assert document["metadata"]["client_name"] == "Other"
    assert document["drift"] == {}


@pytest.mark.django_db
def test_if_missing_registers_what_is_missing_where_the_site_does_not_by_itself(
    mocked_responses: Stubs, settings: Settings
) -> None:
    settings.DCR_AUTO_REGISTER = False
    make_server()
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    changes = ["--set", f"redirect_uris={CALLBACK}"]
    assert run_json("dcr_register", ISSUER, "--if-missing", *changes)["status"] == "active"


def another_process_registers(request: Any) -> tuple[int, dict[str, str], str]:
    make_registration(server=AuthorizationServer.objects.get())
    return 200, {}, json.dumps(server_metadata())


@pytest.mark.django_db(transaction=True)
def test_of_two_processes_that_register_one_is_refused(mocked_responses: Stubs) -> None:
    mocked_responses.add_callback("GET", WELL_KNOWN, another_process_registers)
    sentence, _ = fail("dcr_register", ISSUER, "--set", f"redirect_uris={CALLBACK}")
    assert sentence.startswith("Another process is already registering this client.")
    assert ClientRegistration.objects.get().client_id == "c1"


@pytest.mark.django_db(transaction=True)
def test_of_two_processes_that_register_what_is_missing_both_succeed(
    mocked_responses: Stubs,
) -> None:
    mocked_responses.add_callback("GET", WELL_KNOWN, another_process_registers)
    wishes = [word for name in WISHES for word in ("--set", f"{name}={json.dumps(WISHES[name])}")]
    wishes[1] = "client_name=Shop"
    assert run_json("dcr_register", ISSUER, "--if-missing", *wishes)["client_id"] == "c1"


# --- dcr_list and the options that name registrations -------------------------------------------


MEMBERS = {
    *("id", "issuer", "owner", "status", "client_id", "client_secret_expires_at"),
    *("registration_client_uri", "metadata", "drift", "last_error", "deviations"),
}


@pytest.mark.django_db
def test_list_in_json_is_one_list_with_the_promised_members() -> None:
    registration = make_registration(last_error="\x1b[31mé", deviations=["odd"])
    out, err = run("dcr_list", "--format", "json")
    (element,) = json.loads(out)
    assert element.keys() >= MEMBERS
    assert (element["id"], element["issuer"]) == (registration.pk, ISSUER)
    assert element["metadata"] == GRANTED
    assert element["last_error"] == "\x1b[31mé"
    assert out.isascii()
    assert "\x1b" not in out
    assert err == ""


@pytest.mark.django_db
def test_list_shows_and_selects_by_mechanism() -> None:
    server = make_server()
    make_registration(server=server)
    adopted = make_registration(
        server=server, owner="b", client_id="c2", mechanism="pre_registered"
    )
    assert [row["id"] for row in run_json("dcr_list", "--mechanism", "pre_registered")] == [
        adopted.pk
    ]
    lines = run("dcr_list")[0].splitlines()
    assert [line.split("\t")[7] for line in lines] == ["mechanism", "dynamic", "pre_registered"]
    assert run_json("dcr_list", "--mechanism", "metadata_document") == []


@pytest.mark.django_db
def test_an_empty_list_is_an_empty_document_or_nothing() -> None:
    assert run_json("dcr_list") == []
    assert run_json("dcr_list", "--issuer", ISSUER, "--owner", "nobody") == []
    assert run("dcr_list") == ("", "")


@pytest.mark.django_db
def test_list_in_a_pipe_has_whole_values_between_tabs() -> None:
    issuer = "https://as.example/" + "x" * 200
    make_registration(
        server=make_server(issuer=issuer),
        owner="a\tb\x1b[2J",
        client_id="c" * 200,
        client_secret_expires_at=in_days(6),
        metadata={"client_name": "Other"},
    )
    heading, line = run("dcr_list")[0].splitlines()
    assert heading.split("\t") == [
        "id",
        "issuer",
        "owner",
        "status",
        "client_id",
        "expires",
        "drift",
        "mechanism",
    ]
    cells = line.split("\t")
    assert cells[1:] == [issuer, "a b[2J", "active", "c" * 200, "in 6 days", "2", "dynamic"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("days", "shown"),
    [(-1, "expired"), (0.5, "within a day"), (1, "in 1 day"), (30, "in 30 days")],
    ids=str,
)
def test_list_says_when_a_secret_expires(days: float, shown: str) -> None:
    make_registration(client_secret_expires_at=in_days(days))
    assert run("dcr_list")[0].splitlines()[1].split("\t")[5] == shown


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"client_secret_expires_at": 0}, "never"),
        ({"client_secret_expires_at": None}, "unknown"),
        ({"client_secret": None}, ""),
    ],
    ids=str,
)
def test_list_says_what_is_no_date(values: dict[str, Any], shown: str) -> None:
    make_registration(**values)
    assert run("dcr_list")[0].splitlines()[1].split("\t")[5] == shown


@pytest.mark.django_db
def test_a_row_whose_drift_cannot_be_known_does_not_stop_the_list() -> None:
    make_registration(server=make_server(client_metadata=[1]))
    assert run_json("dcr_list")[0]["drift"] is None
    assert run("dcr_list")[0].endswith("never\t\tdynamic\n")


@pytest.mark.django_db
def test_a_lost_key_does_not_stop_the_list(settings: Settings) -> None:
    """L14: nothing is decrypted to list it."""
    make_registration()
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert run_json("dcr_list")[0]["status"] == "active"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "clients"),
    [
        ([], ["site", "acme", "other", "draft"]),
        (["--all"], ["site", "acme", "other", "draft"]),
        (["--issuer", ISSUER], ["site", "acme", "draft"]),
        (["--owner", ""], ["site", "other"]),
        (["--owner", "acme", "--issuer", ISSUER], ["acme"]),
        (["--owner", "ACME"], []),
        (["--status", "draft"], ["draft"]),
        (["--expiring", "3"], ["acme"]),
        (["--expiring", "30.5"], ["acme", "other"]),
        (["--expiring", "30.5", "--issuer", ISSUER], ["acme"]),
    ],
    ids=str,
)
def test_options_say_which_registrations_are_meant(options: list[str], clients: list[str]) -> None:
    server = make_server()
    elsewhere = make_server(issuer="https://other.example")
    make_registration(server=server, client_id="site")
    expires = in_days(2)
    make_registration(
        server=server, owner="acme", client_id="acme", client_secret_expires_at=expires
    )
    make_registration(server=elsewhere, client_id="other", client_secret_expires_at=in_days(9))
    make_draft(server=server, owner="draft", client_id="draft", client_secret_expires_at=expires)
    assert [row["client_id"] for row in run_json("dcr_list", *options)] == clients


@pytest.mark.django_db
def test_ids_say_which_registrations_are_meant() -> None:
    first, second, third = make_registrations(3)
    shown = run_json("dcr_list", third.pk, first.pk)
    assert [row["id"] for row in shown] == [first.pk, third.pk]
    assert [row["id"] for row in run_json("dcr_list", second.pk, "--owner", "o2")] == [second.pk]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "command", ["dcr_list", "dcr_read", "dcr_update", "dcr_renew", "dcr_revoke"]
)
def test_ids_that_do_not_exist_are_all_named_and_nothing_is_done(command: str) -> None:
    registration = make_registration()
    sentence, out = fail(command, registration.pk, 999_999, 888_888)
    assert sentence.startswith("No such registration: 888888, 999999.")
    assert out == ""


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x", "1", "-1", "٣"], "An id is a number, not x, ٣."),
        (["9" * 30], f"An id is a number, not {'9' * 30}."),
        ([], "Name the registrations: by their ids, or with --issuer, --owner, --status or --all."),
        (["1", "--all"], "Give ids or --all, not both."),
        (
            ["--issuer", "https://typo.example"],
            "No registration of that issuer or owner is stored.",
        ),
        (["--owner", "typo"], "No registration of that issuer or owner is stored."),
        (["--owner", "\ud800"], "The owner is not valid UTF-8."),
    ],
    ids=str,
)
def test_a_wrong_choice_is_one_sentence(arguments: list[str], sentence: str) -> None:
    make_registration()
    arguments = [argument for argument in arguments if argument != "-1"]
    assert fail("dcr_revoke", *arguments)[0].startswith(sentence)


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", [["--all"], ["--status", "gone"], ["--owner", "o1"]], ids=str)
def test_a_choice_without_anything_to_do_succeeds(arguments: list[str]) -> None:
    make_registration(owner="o1", status="revoked", live=None)
    assert run("dcr_read", *arguments) == ("", "0 of 0 read.\n")


@pytest.mark.parametrize("text", ["soon", "-1", "1e9", "nan", ""])
def test_days_are_a_number(text: str) -> None:
    sentence, _ = fail("dcr_list", f"--expiring={text}")
    assert "write a number of days, such as 7" in sentence


# --- dcr_show -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_show_prints_secrets_only_when_told_to() -> None:
    registration = make_registration(
        client_secret="  s\u202e 3", client_secret_expires_at=4 * 10**9
    )
    out, _ = run("dcr_show", registration.pk)
    assert "client_secret: ********\nregistration_access_token: ********\n" in out
    assert "client_secret_expires_at: 2096-10-02T07:06:40+00:00, in " in out
    assert "t1" not in out
    shown = run_json("dcr_show", registration.pk)
    assert not {"client_secret", "registration_access_token"} & shown.keys()
    out, _ = run("dcr_show", registration.pk, "--reveal")
    assert "client_secret:   s\u202e 3\nregistration_access_token: t1\n" in out
    shown = run_json("dcr_show", registration.pk, "--reveal")
    assert (shown["client_secret"], shown["registration_access_token"]) == ("  s\u202e 3", "t1")


@pytest.mark.django_db
def test_a_reveal_is_noted_in_the_history() -> None:
    registration = make_registration()
    run("dcr_show", registration.pk)
    assert events_of(registration) == []
    run("dcr_show", registration.pk, "--reveal")
    [event] = events_of(registration)
    assert (event.action, event.actor) == ("reveal", "manage.py dcr_show")


@pytest.mark.django_db
def test_a_row_that_is_held_is_not_revealed() -> None:
    registration = make_registration()
    assert registration.claim("active")
    sentence, out = fail("dcr_show", registration.pk, "--reveal")
    assert "Another process is at work" in sentence
    assert out == ""


@pytest.mark.django_db
def test_show_reveals_nothing_where_there_is_nothing() -> None:
    draft = make_draft()
    assert "client_secret" not in run("dcr_show", draft.pk, "--reveal")[0]
    shown = run_json("dcr_show", draft.pk, "--reveal")
    assert (shown["client_secret"], shown["registration_access_token"]) == (None, None)


@pytest.mark.django_db
def test_show_cleans_what_servers_wrote() -> None:
    """A10, faults 135 and 141."""
    granted = {**GRANTED, "client_name": "\x1b]0;owned\x07\r\n%s {0}", "x\x1b": {"y\n": ["\x9b"]}}
    registration = make_registration(metadata=granted, last_error="\u202eevil")
    out, _ = run("dcr_show", registration.pk)
    assert not [letter for letter in out if letter in "\x1b\x07\r\x9b\u202e"]
    assert "  client_name: ]0;owned %s {0}\n" in out
    assert '  x:\n    y: [""]\n' in out


@pytest.mark.django_db
def test_show_of_a_secret_that_no_key_opens_says_what_to_do(settings: Settings) -> None:
    """L14."""
    registration = make_registration()
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert "client_secret: ********" in run("dcr_show", registration.pk)[0]
    sentence, out = fail("dcr_show", registration.pk, "--reveal", "--format", "json")
    assert sentence.startswith("None of DCR_ENCRYPTION_KEYS opens the stored django_dcr_clientreg")
    assert out == ""


@pytest.mark.django_db
@pytest.mark.parametrize("pk", ["999999", "x", ""])
def test_show_of_what_is_not_there_is_one_sentence(pk: str) -> None:
    assert fail("dcr_show", pk)[0].startswith(
        ("No such registration: 999999.", "An id is a number, not")
    )


# --- dcr_read, dcr_update, dcr_renew, dcr_revoke ------------------------------------------------


def refuse(status: int = 503) -> dict[str, Any]:
    return {"status": status, "json": {"error": "later", "error_description": "s\x1bo"}}


@pytest.mark.django_db
def test_one_failing_row_does_not_stop_the_others_and_is_named(mocked_responses: Stubs) -> None:
    """A10."""
    first, second, third = make_registrations(3)
    for row in (first, third):
        answer = answer_about(row, client_name="Other")
        mocked_responses.get(row.registration_client_uri, json=answer)
    mocked_responses.get(second.registration_client_uri, **refuse())
    sentence, shown = fail_json("dcr_read", "--all")
    assert sentence.startswith(f"2 of 3 read. Failed:\n  {second.pk}: The server refused with 503")
    assert [row["id"] for row in shown] == [first.pk, second.pk, third.pk]
    assert [row["metadata"]["client_name"] for row in shown] == ["Other", "Shop", "Other"]
    assert [row["error"] for row in shown] == [None, stored(second).last_error, None]
    assert shown[1]["last_error"] == shown[1]["error"]


@pytest.mark.django_db
def test_read_of_all_reads_the_active_ones(mocked_responses: Stubs) -> None:
    registration = make_registration()
    make_draft(server=registration.server, owner="draft")
    mocked_responses.get(URI, json=client_information())
    out, err = run("dcr_read", "--all")
    assert out.splitlines()[0].endswith("\tdrift\terror")
    assert len(out.splitlines()) == 2
    assert err == "1 of 1 read.\n"


@pytest.mark.django_db
def test_a_row_in_another_state_fails_where_it_is_named() -> None:
    draft = make_draft()
    for choice in (["--status", "draft"], [str(draft.pk)]):
        assert "has not been sent to the server yet; register it" in fail("dcr_read", *choice)[0]


@pytest.mark.django_db
def test_update_changes_members_of_each_row(mocked_responses: Stubs) -> None:
    rows = make_registrations(2)
    wanted = {**WISHES, "tos_uri": "https://site.example/tos"}
    for row in rows:
        uri = row.registration_client_uri
        mocked_responses.get(uri, json=answer_about(row))
        sent = responses.matchers.json_params_matcher(wanted, strict_match=False)
        mocked_responses.put(uri, json=answer_about(row, **wanted), match=[sent])
    shown = run_json("dcr_update", "--all", "--set", "tos_uri=https://site.example/tos")
    assert [row["drift"] for row in shown] == [{}, {}]
    assert [stored(row).requested_metadata for row in rows] == [wanted, wanted]


@pytest.mark.django_db
def test_update_replaces_the_metadata_by_the_files(
    mocked_responses: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    registration = make_registration()
    wanted = {"redirect_uris": ["https://site.example/new"]}
    document = io.TextIOWrapper(io.BytesIO(json.dumps(wanted).encode()))
    monkeypatch.setattr(sys, "stdin", document)
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information(**wanted))
    run("dcr_update", registration.pk, "--metadata", "-")
    assert stored(registration).requested_metadata == wanted


@pytest.mark.django_db
def test_metadata_that_must_not_be_sent_is_refused_before_anything_is_sent() -> None:
    registration = make_registration()
    AuthorizationServer.objects.update(fresh_until=None)  # it would be asked
    sentence, shown = fail_json("dcr_update", registration.pk, "--set", "redirect_uris=http://x.y")
    assert 'In redirect_uris, "http://x.y" is http on another machine' in sentence
    assert stored(registration).requested_metadata == shown[0]["requested_metadata"] == WISHES


@pytest.mark.django_db
def test_a_malformed_change_is_refused_before_any_row_is_looked_at() -> None:
    make_registration()
    sentence, out = fail("dcr_update", "--all", "--set", "jwks=x", "--format", "json")
    assert sentence.startswith("--set jwks takes a JSON object")
    assert out == ""


def stub_renewal(stubs: Stubs, row: ClientRegistration) -> None:
    uri = row.registration_client_uri
    stubs.get(uri, json=answer_about(row))
    issued = {"client_secret": "s2", "client_secret_expires_at": in_days(90)}
    stubs.put(uri, json=answer_about(row, **issued))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "renewed"),
    [
        ([], ["o1", "o2"]),
        (["--within", "3"], ["o1"]),
        (["--all", "--within", "30"], ["o1", "o2", "o3"]),
        (["--owner", "o3"], ["o3"]),
        (["--owner", "o3", "--within", "2"], []),
        (["--all"], ["o1", "o2", "o3", "o4"]),
    ],
    ids=str,
)
def test_renew_takes_what_is_named_or_what_expires_soon(
    mocked_responses: Stubs, options: list[str], renewed: list[str]
) -> None:
    rows = make_registrations(4)
    for row, expiry in zip(rows, [in_days(2), in_days(5), in_days(20), 0], strict=True):
        ClientRegistration.objects.filter(pk=row.pk).update(client_secret_expires_at=expiry)
        if row.owner in renewed:
            stub_renewal(mocked_responses, row)
    shown = run_json("dcr_renew", *options)
    assert [row["owner"] for row in shown] == renewed
    assert all(row["client_secret_expires_at"] > in_days(80) for row in shown)


@pytest.mark.django_db
def test_renew_names_the_client_that_took_the_old_ones_place(mocked_responses: Stubs) -> None:
    old = make_registration(client_secret_expires_at=in_days(1))
    same = client_information(client_secret_expires_at=old.client_secret_expires_at)
    mocked_responses.get(URI, json=same)
    mocked_responses.put(URI, json=same)
    new = {"client_id": "c2", "client_secret_expires_at": in_days(90)}
    mocked_responses.post(ENDPOINT, status=201, json=client_information(**new))
    mocked_responses.delete(URI, status=204)
    out, err = run("dcr_renew")
    successor = ClientRegistration.objects.get(status="active")
    assert out.splitlines()[1].startswith(f"{successor.pk}\t")
    assert err == f"Registration {old.pk} was replaced by {successor.pk}.\n1 of 1 renewed.\n"


@pytest.mark.django_db
def test_revoke_of_all_closes_what_is_not_closed_yet(mocked_responses: Stubs) -> None:
    registration = make_registration()
    draft = make_draft(server=registration.server, owner="draft")
    make_draft(server=registration.server, owner="past", status="revoked", live=None)
    mocked_responses.delete(URI, status=204)
    shown = run_json("dcr_revoke", "--all")
    assert [row["id"] for row in shown] == [registration.pk, draft.pk]
    assert {row["status"] for row in shown} == {"revoked"}


@pytest.mark.django_db
def test_revoke_forgets_only_when_told_to(mocked_responses: Stubs) -> None:
    """A4."""
    registration = make_registration()
    mocked_responses.delete(URI, **refuse())
    sentence, shown = fail_json("dcr_revoke", registration.pk)
    assert sentence.startswith("0 of 1 revoked. Failed:")
    assert shown[0]["status"] == "active"
    (element,) = run_json("dcr_revoke", registration.pk, "--forget")
    assert (element["status"], element["error"]) == ("revoked", None)
    assert element["last_error"].startswith("Closed here only; the server may still hold the")


Answer = tuple[int, dict[str, str], str]


@pytest.mark.django_db
def test_rows_that_are_removed_meanwhile_are_named(mocked_responses: Stubs) -> None:
    first, second = make_registrations(2)

    def remove(request: Any) -> Answer:
        ClientRegistration.objects.all().delete()
        return 503, {}, ""

    mocked_responses.add_callback("GET", first.registration_client_uri, remove)
    sentence, shown = fail_json("dcr_read", "--all")
    assert sentence.startswith(f"0 of 2 read. Failed:\n  {first.pk}: The server refused with 503")
    assert sentence.endswith(f"\n  {second.pk}: was removed meanwhile")
    assert shown == []


def interrupted(times: int) -> Callable[[Any], Answer]:
    def answer(request: Any) -> Answer:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        return 200, {}, json.dumps(client_information())

    return answer


@pytest.mark.django_db
def test_an_interrupt_lets_the_row_at_work_finish(mocked_responses: Stubs) -> None:
    """L7."""
    first, *_rest = make_registrations(3)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    mocked_responses.add_callback("GET", first.registration_client_uri, interrupted(1))
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("dcr_read", "--all", "--format=json", stdout=out, stderr=io.StringIO())
    assert caught.value.returncode == 130
    assert str(caught.value).startswith("Interrupted. 1 of 3 read.")
    assert [row["id"] for row in json.loads(out.getvalue())] == [first.pk]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Take interrupts as from a terminal: a process in the background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.django_db
def test_a_second_interrupt_acts_at_once_and_leaves_a_whole_document(
    mocked_responses: Stubs,
) -> None:
    """L7."""
    make_registration()
    mocked_responses.add_callback("GET", URI, interrupted(2))
    out = io.StringIO()
    with pytest.raises(
        CommandError, match=r"^Interrupted\. Nothing was left half-done\.$"
    ) as caught:
        call_command("dcr_read", "--all", "--format=json", stdout=out, stderr=io.StringIO())
    assert caught.value.returncode == 130
    assert json.loads(out.getvalue()) == []


@pytest.mark.usefixtures("database_file")
def test_commands_run_in_threads_which_hear_no_signals() -> None:
    draft = make_draft()

    def revoke() -> None:
        run("dcr_revoke", draft.pk)
        connection.close()

    thread = threading.Thread(target=revoke)
    thread.start()
    thread.join()
    assert stored(draft).status == "revoked"


# --- --workers ----------------------------------------------------------------------------------


def read_in_threads(threads: int, *arguments: object) -> tuple[str, str]:
    return run("dcr_read", "--all", "--workers", threads, "--format", "json", *arguments)


@pytest.mark.network
@pytest.mark.usefixtures("database_file")
def test_workers_speak_to_servers_at_the_same_time(authorization_server: LiveServer) -> None:
    rows = [make_registration_at(authorization_server, owner=owner) for owner in "abcdefgh"]
    together = threading.Barrier(3)

    def meet(document: dict[str, Any]) -> None:
        if authorization_server.asked("GET") > 2:  # before it has answered it gets two at most
            together.wait(60)

    authorization_server.while_handling["GET"] = meet
    before = threading.active_count()
    out, err = read_in_threads(3)
    assert {row["id"] for row in json.loads(out)} == {row.pk for row in rows}
    assert err == "8 of 8 read.\n"
    assert {events_of(row)[-1].actor for row in rows} == {"manage.py dcr_read"}
    assert threading.active_count() == before


@pytest.mark.network
@pytest.mark.usefixtures("database_file")
def test_rows_that_fail_do_not_stop_the_workers(authorization_server: LiveServer) -> None:
    rows = [make_registration_at(authorization_server, owner=owner) for owner in "abcd"]
    for row in rows[:3]:
        del authorization_server.clients[row.client_id]
    with pytest.raises(CommandError, match=r"^1 of 4 read\. Failed:") as caught:
        read_in_threads(2)
    named = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert sorted(named) == sorted(str(row.pk) for row in rows[:3])
    assert [stored(row).status for row in rows] == ["gone", "gone", "gone", "active"]


@pytest.mark.network
@pytest.mark.usefixtures("database_file")
def test_an_interrupt_lets_the_rows_at_work_finish(authorization_server: LiveServer) -> None:
    """L7."""
    for owner in "abcdef":
        make_registration_at(authorization_server, owner=owner)
    is_over = threading.Event()

    def interrupt() -> None:
        is_over.set()
        os.kill(os.getpid(), signal.SIGTERM)

    together = threading.Barrier(2, action=interrupt)

    def meet(document: dict[str, Any]) -> None:
        if not is_over.is_set():  # pragma: no branch - a third may come before the signal does
            together.wait(HANG)

    authorization_server.while_handling["GET"] = meet
    with pytest.raises(CommandError, match=r"^Interrupted\. [2-5] of 6 read") as caught:
        read_in_threads(2)
    assert caught.value.returncode == 130


@pytest.mark.network
@pytest.mark.usefixtures("database_file")
def test_a_fault_of_this_app_is_not_taken_for_one_of_a_row(
    authorization_server: LiveServer,
) -> None:
    make_registration_at(authorization_server)
    # This is no mapping, which a form would refuse.
    AuthorizationServer.objects.update(trusted_origins=5)
    with pytest.raises(TypeError):
        read_in_threads(2)


@pytest.mark.parametrize("number", ["0", "-1", "100", "two", ""])
def test_workers_are_a_small_number(number: str) -> None:
    with pytest.raises(CommandError, match="write a number from 1 to 99"):
        run("dcr_read", "--all", f"--workers={number}")


# --- dcr_reconcile ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_reconcile_says_what_it_settled(mocked_responses: Stubs) -> None:
    make_registration(status="revoking")
    mocked_responses.delete(URI, status=404)
    out, err = run("dcr_reconcile")
    assert "\trevoked\t" in out
    assert err == "1 of 1 settled.\n"
    assert run_json("dcr_reconcile") == []


@pytest.mark.django_db
def test_reconcile_names_what_needs_a_person_or_another_run(mocked_responses: Stubs) -> None:
    lost = make_draft(status="registering")
    silent = make_draft(status="unknown", server=lost.server, owner="silent")
    refused = make_registration(status="revoking", server=lost.server, owner="refused")
    mocked_responses.delete(URI, status=500)
    sentence, shown = fail_json("dcr_reconcile")
    assert sentence.splitlines()[:3] == [
        "0 of 3 settled. Not settled:",
        f"  {lost.pk} (unknown): {stored(lost).last_error}",
        f"  {silent.pk} (unknown): The response was lost.",
    ]
    assert f"  {refused.pk} (revoking): The server answered with status 500" in sentence
    assert sentence.endswith("manage.py dcr_reconcile --retry ID, or --forget ID")
    assert [row["id"] for row in shown] == [lost.pk, silent.pk, refused.pk]
    assert all(row["error"] for row in shown)


@pytest.mark.django_db
def test_reconcile_carries_out_what_a_person_decided(mocked_responses: Stubs) -> None:
    lost = make_draft(status="unknown")
    other = make_draft(status="unknown", server=lost.server, owner="other")
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    out, err = run("dcr_reconcile", "--retry", lost.pk, "--forget", other.pk)
    new = ClientRegistration.objects.get(status="active")
    assert out.splitlines()[1].startswith(f"{new.pk}\t")
    assert err == f"Registration {lost.pk} was replaced by {new.pk}.\n2 of 2 decided.\n"
    assert (stored(lost).live, stored(other).status) == (None, "revoked")


@pytest.mark.django_db
def test_a_retry_that_fails_names_the_registration_to_retry_next(mocked_responses: Stubs) -> None:
    lost = make_draft(status="unknown")
    mocked_responses.post(ENDPOINT, status=400, json={"error": "invalid_client_metadata"})
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match=rf"0 of 1 decided\. Failed:\n  {lost.pk}: The server"):
        call_command("dcr_reconcile", "--retry", str(lost.pk), stdout=out, stderr=err)
    new = ClientRegistration.objects.latest("pk")
    assert new.status == "rejected"
    assert err.getvalue() == f"Registration {lost.pk} was replaced by {new.pk}.\n"
    active = make_registration(server=lost.server, owner="active")
    assert f"Registration {active.pk} " in fail("dcr_reconcile", "--retry", active.pk)[0]


@pytest.mark.django_db
def test_a_decision_is_one_or_the_other() -> None:
    lost = make_draft(status="unknown")
    sentence, _ = fail("dcr_reconcile", "--retry", lost.pk, "--forget", lost.pk)
    assert sentence == "Decide for --retry or --forget, not for both."
    assert fail("dcr_reconcile", "--forget", 999_999)[0].startswith("No such registration: 999999.")
    assert stored(lost).status == "unknown"


# --- dcr_rotate_keys ----------------------------------------------------------------------------


@pytest.mark.django_db
def test_rotate_keys_encrypts_with_the_first_key(settings: Settings) -> None:
    make_registration(server=make_server(initial_access_token="t0"))
    assert run_json("dcr_rotate_keys", "--check") == {
        "current": 3,
        "to_rotate": 0,
        "unreadable": [],
    }
    old = settings.DCR_ENCRYPTION_KEYS
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *old]
    sentence, out = fail("dcr_rotate_keys", "--check")
    assert sentence == "3 stored values need an older key. Run: manage.py dcr_rotate_keys"
    assert out == "current: 0\nto_rotate: 3\n"
    assert run_json("dcr_rotate_keys") == {"current": 0, "rotated": 3, "unreadable": []}
    assert run("dcr_rotate_keys", "--check") == ("current: 3\nto_rotate: 0\n", "")
    secret = ClientRegistration.objects.get().client_secret
    settings.DCR_ENCRYPTION_KEYS = settings.DCR_ENCRYPTION_KEYS[:1]
    assert secret.reveal() == "s1"


@pytest.mark.django_db
def test_rotate_keys_encrypts_the_secrets_of_the_sites_own_models(settings: Settings) -> None:
    """Each table once, also where a model inherits it."""
    token = LabelledToken.objects.create(access_token="at-1", refresh_token="rt-1", label="a")
    Token.objects.create(access_token="at-2")
    make_registration()
    old = settings.DCR_ENCRYPTION_KEYS
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *old]
    assert run_json("dcr_rotate_keys") == {"current": 0, "rotated": 5, "unreadable": []}
    settings.DCR_ENCRYPTION_KEYS = settings.DCR_ENCRYPTION_KEYS[:1]
    token.refresh_from_db()
    assert [token.access_token.reveal(), token.refresh_token.reveal()] == ["at-1", "rt-1"]
    assert "at-1" not in f"{token} {token.access_token!r} {token.__dict__} {Token.objects.values()}"
    settings.DCR_ENCRYPTION_KEYS = old
    document = fail_json("dcr_rotate_keys", "--check")[1]
    assert {each["model"] for each in document["unreadable"]} == {
        "ClientRegistration",
        "tokens.Token",
    }


@pytest.mark.django_db
@pytest.mark.parametrize("options", [[], ["--check"]], ids=str)
def test_rotate_keys_names_what_no_key_opens(settings: Settings, options: list[str]) -> None:
    """L14, L19: and leaves it as it is."""
    registration = make_registration()
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    sentence, document = fail_json("dcr_rotate_keys", *options)
    place = f"ClientRegistration {registration.pk} client_secret"
    assert sentence.startswith("No key opens 2 stored values; put their key back into")
    assert f"register again: {place}, ClientReg" in sentence
    assert document["unreadable"][0] == {
        "model": "ClientRegistration",
        "id": registration.pk,
        "column": "client_secret",
    }
    assert stored(registration).client_secret == registration.client_secret


# --- terminals, pipes and what else is around ---------------------------------------------------


@pytest.mark.django_db
def test_a_terminal_gets_columns_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    server = make_server(issuer="https://as.example/" + "x" * 100)
    make_registration(server=server, owner="株式会社" * 9, client_id="c" * 100)
    make_registration(server=server, owner="acme", client_id="short")
    heading, first, second = run("dcr_list", out=Terminal())[0].splitlines()
    wide = sum(letter in "株式会社" for letter in first)
    assert len(heading) == 80
    assert len(first) + wide <= 80
    assert first.count("…") == 3
    assert re.search("https://as[^ ]*…xxx", first)  # by how much depends on the numbers
    assert heading.index("status") == second.index("active")
    assert len(first[: first.index("active")]) + wide == heading.index("status")


@pytest.mark.django_db
@pytest.mark.parametrize("columns", [20, 40])
def test_a_narrow_terminal_gets_a_line_for_each_value(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """L28."""
    monkeypatch.setenv("COLUMNS", str(columns))
    make_registration(owner="acme")
    out, _ = run("dcr_list", out=Terminal())
    assert "owner: acme\nstatus: active\n" in out
    assert f"issuer: {ISSUER}"[: columns - 1] in out
    assert max(map(len, out.splitlines())) <= columns


@pytest.mark.django_db
def test_a_long_table_is_aligned_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    make_registrations(51)
    lines = run("dcr_list", out=Terminal())[0].splitlines()
    assert len(lines) == 53
    assert sum(line.startswith("id ") for line in lines) == 2


@pytest.mark.django_db
def test_a_terminal_sees_the_progress_of_more_than_a_few_rows(
    mocked_responses: Stubs, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_registrations(6)
    for row in rows:
        mocked_responses.get(row.registration_client_uri, json=answer_about(row))
    call_command("dcr_read", "--all", "--format=json", stdout=Terminal(), stderr=Terminal())
    assert "0/6" in capsys.readouterr().err
    call_command("dcr_read", *[str(row.pk) for row in rows[:5]], stderr=Terminal())
    call_command("dcr_read", "--all", stderr=io.StringIO())
    assert "/6" not in capsys.readouterr().err


@pytest.mark.django_db
def test_letters_that_the_output_lacks_are_spelt_out() -> None:
    """L28."""
    make_registration(owner="Käufer")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    call_command("dcr_list", stdout=out)
    assert b"K\\xe4ufer" in out.buffer.getvalue()  # type: ignore[attr-defined]


@contextmanager
def closed_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the block a standard output whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    with monkeypatch.context() as patched, os.fdopen(writer, "w", buffering=1) as pipe:
        patched.setattr(sys, "stdout", pipe)
        yield


@pytest.mark.django_db
def test_a_reader_that_leaves_ends_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """L28."""
    make_registration()
    with closed_pipe(monkeypatch), pytest.raises(SystemExit, match="1"):
        call_command("dcr_list")


@pytest.mark.django_db
def test_a_reader_that_leaves_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """L28."""
    server = make_server()
    drafts = [make_draft(server=server, owner=f"o{number}") for number in range(3)]
    with closed_pipe(monkeypatch):
        call_command("dcr_revoke", "--all", stderr=io.StringIO())
    assert {stored(draft).status for draft in drafts} == {"revoked"}


@pytest.mark.django_db
def test_a_standard_output_that_was_never_open_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """L28."""
    draft = make_draft()
    monkeypatch.setattr(sys, "stdout", None)
    call_command("dcr_revoke", draft.pk, stderr=io.StringIO())
    assert stored(draft).status == "revoked"


@pytest.mark.django_db
def test_a_database_that_fails_is_one_sentence() -> None:
    """L3."""

    def broken(*_: Any) -> None:
        raise OperationalError("no such table: django_dcr_clientregistration\nDETAIL: row")

    with connection.execute_wrapper(broken):
        sentence, out = fail("dcr_list")
    assert sentence == (
        "The database refused (no such table: django_dcr_clientregistration). "
        "Tables or columns are missing: run manage.py migrate"
    )
    assert out == ""


# --- as processes of their own ------------------------------------------------------------------


def spawn(folder: Path, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start ``manage.py`` over the database in ``folder``, and over settings of the test's own."""
    names = {
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "DATABASE_URL": f"sqlite:///{folder / 'site.sqlite3'}",
        "PYTHONPATH": f"{ROOT}:{folder}",
        "PATH": os.environ["PATH"],
    }
    settings = folder / "site_settings.py"
    if not settings.exists():
        settings.write_text("from tests.settings import *\n")
    return subprocess.Popen(
        [sys.executable, "-m", "django", *map(str, arguments)],
        env={**names, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("variables", [{"LANG": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}], ids=str)
def test_a_plain_locale_breaks_no_list(
    database_file: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    """L28."""
    make_registration(owner="Käufer 株式会社", metadata={"client_name": "\u202e😀"})
    process = spawn(tmp_path, "dcr_list", PYTHONCOERCECLOCALE="0", **variables)
    out, err = process.communicate(timeout=HANG)
    assert (process.returncode, err) == (0, "")
    assert "ufer" in out


def test_a_pipe_that_is_closed_early_leaves_no_traceback(
    database_file: Path, tmp_path: Path
) -> None:
    """L28."""
    make_registrations(300)  # more than a pipe's buffer holds back
    process = spawn(tmp_path, "dcr_list")
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=HANG) == 1


def test_missing_tables_and_wrong_settings_leave_no_traceback(tmp_path: Path) -> None:
    process = spawn(tmp_path, "dcr_list")
    out, err = process.communicate(timeout=HANG)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("CommandError: The database refused (no such table: django_dcr_client")
    (tmp_path / "site_settings.py").write_text(
        "from tests.settings import *\nDCR_ENCRYPTION_KEYS = ['s3cr3t']\n"
    )
    process = spawn(tmp_path, "dcr_list")
    out, err = process.communicate(timeout=HANG)
    assert (process.returncode, out) == (1, "")
    assert "(dcr.E002) DCR_ENCRYPTION_KEYS[0] is not a valid Fernet key." in err
    assert "s3cr3t" not in err


@pytest.mark.network
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_lets_the_row_at_work_finish_and_the_next_run_goes_on(
    authorization_server: LiveServer, database_file: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """L7."""
    issuer = authorization_server.issuer
    (tmp_path / "site_settings.py").write_text(
        f"from tests.settings import *\nDCR_INTERNAL_ORIGINS = ['{issuer}']\n"
    )
    for owner in ("a", "b", "c"):
        run("dcr_register", issuer, "--owner", owner, "--set", f"redirect_uris={CALLBACK}")
    started = threading.Event()
    processes: list[subprocess.Popen[str]] = []

    def interrupt(document: dict[str, Any]) -> None:
        assert started.wait(HANG)
        processes[0].send_signal(number)

    authorization_server.while_handling["DELETE"] = interrupt
    processes.append(spawn(tmp_path, "dcr_revoke", "--all", "--format", "json"))
    started.set()
    out, err = processes[0].communicate(timeout=HANG)
    assert processes[0].returncode == 130
    assert [row["status"] for row in json.loads(out)] == ["revoked"]
    assert err.startswith("CommandError: Interrupted. 1 of 3 revoked.")
    authorization_server.while_handling.clear()
    out, err = spawn(tmp_path, "dcr_revoke", "--all").communicate(timeout=HANG)
    assert err == "2 of 2 revoked.\n"
    assert authorization_server.clients == {}


@pytest.mark.django_db
def test_discover_names_the_origins_that_have_to_be_trusted(mocked_responses: Stubs) -> None:
    document = server_metadata(
        token_endpoint="https://t.example/token", jwks_uri="https://k.example/keys"
    )
    mocked_responses.get(WELL_KNOWN, json=document)
    out, err = run("dcr_discover", ISSUER)
    assert 'untrusted_origins: ["https://k.example", "https://t.example"]\n' in out
    assert "on other origins" in err
    assert "list these: https://k.example, https://t.example" in err
    AuthorizationServer.objects.update(trusted_origins=["https://k.example", "https://t.example"])
    assert run_json("dcr_discover", ISSUER)["untrusted_origins"] == []
