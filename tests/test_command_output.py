"""What the commands print for people: tables that fit, lists that end, errors with a way on."""

from __future__ import annotations

import io
import logging
import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, OperationalError, connection
from django.utils import timezone

from django_dcr.logs import log
from django_dcr.management.failures import describe_error, describe_interruption
from django_dcr.management.table import columns_of, cut_in_the_middle, fitted
from django_dcr.models import ClientRegistration, RegistrationEvent
from django_dcr.services import rotate_client_key
from tests.factories import ISSUER, make_draft, make_registration, make_server, stored
from tests.test_commands import Terminal, fail, fail_json, make_registrations, run, run_json

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db


# -- tables --------------------------------------------------------------------------------------


def table(monkeypatch: pytest.MonkeyPatch, columns: int, *arguments: str) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    return run("dcr_list", *arguments, out=Terminal())[0].splitlines()


def test_issuers_that_begin_alike_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for tenant in ("north", "south"):
        server = make_server(issuer=f"https://login.example.com/very/long/realms/{tenant}")
        make_registration(server=server, owner="a customer with a name", client_id="c" * 40)
    heading, north, south = table(monkeypatch, 80)
    assert max(map(len, (heading, north, south))) <= 80
    assert "…" in north
    assert ("s/north " in north, "s/south " in south) == (True, True)


def test_what_helps_least_is_left_out_before_an_issuer_is_cut_to_nothing() -> None:
    row = {
        "id": "1",
        "issuer": "https://login.example.com/very/long/realms/north",
        "owner": "a customer",
        "status": "registering",
        "client_id": "c" * 40,
        "expires": "in 30 days",
        "drift": "2",
        "error": "The server refused with 400 and many more words about it.",
    }
    headings = {width: next(fitted([row], width)).split() for width in (200, 109, 80, 60)}
    assert headings[200] == list(row)
    assert headings[109] == ["id", "issuer", "owner", "status", "client_id", "expires", "error"]
    assert headings[80] == ["id", "issuer", "owner", "status", "error"]
    assert headings[60] == ["id", "issuer", "status", "error"]
    for width in headings:
        assert max(map(len, fitted([row], width))) <= width


def test_a_column_without_a_value_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    make_draft()
    assert table(monkeypatch, 80)[0].split() == ["id", "issuer", "status", "mechanism"]
    assert run("dcr_list")[0].split("\n")[0].count("\t") == 7, "a pipe gets them all"


@pytest.mark.parametrize("columns", range(2, 12))
def test_the_middle_of_a_text_gives_way(columns: int) -> None:
    for text in ("https://as.example", "株式会社と株式会社", "a株b株c株d株e"):
        shown = cut_in_the_middle(text, columns)
        assert columns_of(shown) <= columns
        assert "…" in shown
        assert shown[0] in (text[0], "…")
    assert cut_in_the_middle("as", columns) == "as"


def test_an_empty_list_says_so_on_a_terminal_only() -> None:
    assert run("dcr_list", out=Terminal())[0] == "No registrations.\n"
    assert run("dcr_list")[0] == ""
    assert run_json("dcr_list") == []


@pytest.mark.parametrize(
    "options",
    [["--owner", "nobody"], ["--mechanism", "dynamic"], ["--expiring", "3"], ["--status", "gone"]],
    ids=" ".join,
)
def test_a_list_that_nothing_matches_does_not_deny_the_registrations(options: list[str]) -> None:
    make_registration(mechanism="pre_registered")
    expected = "No registration matches. See all with: manage.py dcr_list\n"
    assert run("dcr_list", *options, out=Terminal())[0] == expected


@pytest.mark.parametrize("last_resort", [logging.StreamHandler(), None], ids=["default", "none"])
def test_a_failure_is_not_logged_to_the_terminal_where_no_logging_is_configured(
    monkeypatch: pytest.MonkeyPatch, last_resort: logging.Handler | None
) -> None:
    records: list[logging.LogRecord] = []
    if last_resort is not None:
        monkeypatch.setattr(last_resort, "emit", records.append)
    monkeypatch.setattr(logging, "lastResort", last_resort)
    monkeypatch.setattr(logging.getLogger("django_dcr"), "propagate", False)  # pytest's handlers
    fail("dcr_read", make_registration(registration_client_uri="https://other.example/").pk)
    assert records == []
    log("stale", "Serving the stored metadata.")
    log("failed", "A job failed.")
    expected = ["stale", "failed"] if last_resort else []
    assert [vars(record)["event"] for record in records] == expected


def test_work_on_nothing_says_so_on_a_terminal() -> None:
    make_registration()
    assert run("dcr_renew", out=Terminal()) == ("Nothing to do.\n", "0 of 0 renewed.\n")


def test_a_terminal_shows_the_reason_of_a_failure_once() -> None:
    row = make_draft(status="unknown")
    for command in (["dcr_read", str(row.pk)], ["dcr_reconcile"]):
        for out, err in ((Terminal(), Terminal()), (Terminal(), io.StringIO())):
            with pytest.raises(CommandError) as caught:
                call_command(*command, stdout=out, stderr=err)
            reason = str(caught.value).partition(": ")[2][:20]
            repeated = "see below" not in out.getvalue()
            assert repeated is not err.isatty()
            assert (reason in out.getvalue()) is repeated


def test_what_has_nothing_to_do_does_not_deny_the_registrations() -> None:
    make_registration()
    assert run("dcr_reconcile", out=Terminal())[0] == "Nothing to settle.\n"
    assert run("dcr_client_keys", out=Terminal())[0] == (
        "No client keys. Make the first with: manage.py dcr_client_keys --rotate\n"
    )
    for option in (["--owner", ""], ["--algorithm", "RS256"]):
        assert run("dcr_client_keys", *option, out=Terminal())[0].startswith("No such client keys.")


def test_a_narrow_terminal_shows_whole_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = make_registration()
    event = RegistrationEvent.objects.create(
        registration=row,
        actor="manage.py dcr_replace",
        action="replace",
        outcome="revoking",
        error="UnsupportedError",
        new_secret=True,
    )
    shown = run("dcr_show", str(row.pk), "--history", out=Terminal())[0]
    assert shown.split("\n")[1].startswith(f"{event.at:%Y-%m-%dT%H:%M:%S} ")
    key = rotate_client_key()
    head, line = run("dcr_client_keys", out=Terminal())[0].splitlines()
    assert head.split() == [
        "kid",
        "algorithm",
        "state",
        "signs_from",
        "signs_until",
        "published_until",
    ]
    assert line.endswith(f"{key.signs_until:%Y-%m-%d}   {key.published_until:%Y-%m-%d}")


def test_many_values_that_no_key_opens_are_ten_and_a_number(settings: Settings) -> None:
    make_registrations(20)
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    sentence, out = fail("dcr_rotate_keys", "--check")
    assert out == "current: 0\nto_rotate: 0\nunreadable: 40\n"
    assert sentence.count("ClientRegistration ") == 10
    assert sentence.endswith(" and 30 more.")
    assert len(fail_json("dcr_rotate_keys", "--check")[1]["unreadable"]) == 40


# -- errors of the database ----------------------------------------------------------------------


class PsycopgError(Exception):
    sqlstate = "55P03"


class Psycopg2Error(Exception):
    pgcode = "42P01"


def refusal(cause: Exception) -> OperationalError:
    error = OperationalError(*cause.args)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OperationalError("no such column: x"), "run manage.py migrate"),
        (refusal(Psycopg2Error("Relation »x« existiert nicht")), "run manage.py migrate"),
        (refusal(Exception(1146, "Table 'x' doesn't exist")), "run manage.py migrate"),
        (OperationalError("database is locked"), "try again in a moment."),
        (refusal(PsycopgError("Sperre nicht verfügbar")), "try again in a moment."),
        (OperationalError("attempt to write a readonly database"), "who may write the file"),
        (refusal(Exception(1290, "--read-only option")), "does not name a replica."),
        (OperationalError("database or disk is full"), "Make room on its disk"),
        (OperationalError("unable to open database file"), "check DATABASES"),
        (IntegrityError("x\nDETAIL: Key (owner)=(acme)"), "See its log"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_of_the_database_is_told_by_its_kind(error: DatabaseError, advice: str) -> None:
    sentence = describe_error(error)
    assert sentence.startswith("The database refused (")
    assert advice in sentence
    assert "migrate" not in sentence or "migrate" in advice
    assert "acme" not in sentence


# -- interruptions -------------------------------------------------------------------------------


def leased(**values: Any) -> ClientRegistration:
    row = make_draft(status="registering", lease="x", **values)
    ClientRegistration.objects.filter(pk=row.pk).update(
        lease_until=timezone.now() + timedelta(hours=1)
    )
    return row


def test_an_interruption_names_the_rows_that_may_be_unfinished() -> None:
    row = leased()
    said = re.fullmatch(
        f"A process may still be at work on registration {row.pk}; if it has ended, its lease "
        r"expires within (\d+) seconds\. Then settle what is left with: manage\.py dcr_reconcile",
        describe_interruption(),
    )
    assert said
    # Rounded up, by the clock of the database: ten minutes are for a machine that stands still.
    assert 3000 < int(said[1]) <= 3601
    for number in range(10):
        leased(server=row.server, owner=str(number))
    assert " and 1 more; if" in describe_interruption()
    ClientRegistration.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert describe_interruption() == "Settle what is left with: manage.py dcr_reconcile"


def test_an_interruption_is_told_where_the_database_has_failed_too() -> None:
    def broken(*_: Any) -> None:
        raise OperationalError("no connection")

    with connection.execute_wrapper(broken):
        assert describe_interruption().startswith("The state of each request is recorded;")


def test_reconcile_names_the_rows_that_it_had_to_leave() -> None:
    row = leased()
    out, err = run("dcr_reconcile")
    assert out == ""
    assert err.startswith(
        f"0 of 0 settled.\nA process may still be at work on registration {row.pk};"
    )
    assert err.endswith("seconds. Then run this again.\n")


# -- questions and previews ----------------------------------------------------------------------


class Keyboard(io.StringIO):
    """Standard input of somebody at a terminal."""

    def isatty(self) -> bool:
        return True


def answer(monkeypatch: pytest.MonkeyPatch, typed: str, *arguments: object) -> tuple[str, str]:
    """Run dcr_revoke on a terminal; return how it ended, and what it asked."""
    monkeypatch.setattr(sys, "stdin", Keyboard(typed))
    err, end = io.StringIO(), ""
    try:
        call_command("dcr_revoke", *map(str, arguments), stdout=io.StringIO(), stderr=err)
    except CommandError as exc:
        end = str(exc)
    return end, err.getvalue()


def drafts(count: int) -> list[ClientRegistration]:
    server = make_server()
    return [make_draft(server=server, owner=f"o{number}") for number in range(count)]


@pytest.mark.parametrize("typed", ["", "n\n", "\n", "yesterday\n"], ids=repr)
def test_a_terminal_is_asked_before_many_are_revoked(
    monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    first, *_rest = drafts(3)
    make_draft(server=make_server(issuer="https://other.example"))
    end, said = answer(monkeypatch, typed, "--all")
    assert end == "Nothing was revoked."
    assert said == (
        "This deletes 4 registrations at the server and wipes the credentials:\n"
        f"  3 at {ISSUER}\n"
        "  1 at https://other.example\n"
        "This cannot be undone. Continue? [y/N] "
    )
    assert stored(first).status == "draft"


def test_yes_revokes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    [row] = drafts(1)
    end, said = answer(monkeypatch, "Y\n", "--issuer", ISSUER, "--forget")
    assert end == ""
    assert said.startswith("This closes 1 registration here, whatever the server says,")
    assert stored(row).status == "revoked"


@pytest.mark.parametrize("option", ["--no-input", "--noinput", "id"])
def test_what_is_named_by_its_id_and_scripts_are_not_asked(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    [row] = drafts(1)
    arguments = [row.pk] if option == "id" else ["--all", option]
    assert answer(monkeypatch, "", *arguments) == ("", "1 of 1 revoked.\n")


def test_clients_that_no_command_can_delete_are_not_asked_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, by_hand = make_server(), {"mechanism": "pre_registered"}
    row = make_registration(server=server, registration_access_token=None, **by_hand)
    end, said = answer(monkeypatch, "", "--all")
    assert "delete it in the server's console" in end
    assert said == ""
    make_registration(server=server, owner="b", client_id="c2", **by_hand)
    assert "This deletes 1 registration at" in answer(monkeypatch, "", "--all")[1]
    assert "This closes 2 registrations here" in answer(monkeypatch, "", "--all", "--forget")[1]
    assert stored(row).status == "active"


def test_nothing_to_revoke_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(monkeypatch, "", "--all") == ("", "0 of 0 revoked.\n")


def test_of_many_servers_the_first_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        make_draft(server=make_server(issuer=f"https://as{number}.example"))
    said = answer(monkeypatch, "", "--all")[1]
    assert said.count("  1 at https://as") == 10
    assert "\n  and more at 2 other servers\n" in said


@pytest.mark.parametrize(
    ("arguments", "done"),
    [
        (["dcr_read", "--all"], "read"),
        (["dcr_update", "--all", "--set", "client_name=Other"], "updated"),
        (["dcr_renew", "--all"], "renewed"),
        (["dcr_replace", "--all"], "replaced"),
        (["dcr_replace", "--all", "--mechanism", "metadata_document"], "replaced"),
        (["dcr_revoke", "--all"], "revoked"),
        (["dcr_revoke", "--all", "--queue"], "revoked"),
    ],
    ids=" ".join,
)
def test_a_dry_run_prints_what_is_meant_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], done: str
) -> None:
    row = make_registration()
    monkeypatch.setattr(sys, "stdin", Keyboard())
    out, err = run(*arguments, "--dry-run")
    assert out.splitlines()[1].startswith(f"{row.pk}\t")
    assert err == f"1 of 1 would be {done}; nothing was sent or stored.\n"
    kept = stored(row)
    assert (kept.status, kept.requested_metadata) == ("active", row.requested_metadata)


def test_a_dry_run_refuses_what_could_not_be_sent() -> None:
    make_registration()
    sentence, _out = fail("dcr_update", "--all", "--set", "contacts=[1]", "--dry-run")
    assert "contacts must be" in sentence


@pytest.mark.parametrize("options", [[], ["--forget"]], ids=str)
def test_a_dry_run_of_reconcile_settles_nothing(options: list[str]) -> None:
    row = make_draft(status="unknown")
    out, err = run("dcr_reconcile", "--dry-run", *[*options, *[str(row.pk)][: len(options)]])
    assert out.splitlines()[1].startswith(f"{row.pk}\t")
    assert "nothing was sent or stored" in err
    assert stored(row).status == "unknown"
