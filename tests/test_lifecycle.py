"""One table says what a status means and what can be done; every way in reads it."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import RequestFactory

import django_dcr
from django_dcr import services, tasks
from django_dcr.admin import ClientRegistrationAdmin
from django_dcr.admin.pages import prospect
from django_dcr.admin.registrations import ClientRegistrationAdminMixin, add_actions
from django_dcr.exceptions import ConflictError, NetworkError
from django_dcr.lifecycle import ACTIONS, DELETABLE, EVENTS, STATES, Action, Status
from django_dcr.models import ClientRegistration
from django_dcr.services.operation import check_state
from tests.factories import WISHES, make_registration, stored

pytestmark = pytest.mark.django_db

PACKAGE = Path(django_dcr.__file__).parent


def test_every_status_has_a_meaning_a_next_step_and_a_tone() -> None:
    assert set(STATES) == set(Status)
    assert {state.tone for state in STATES.values()} <= {"good", "warn", "bad", "quiet"}
    assert DELETABLE == ["draft", "rejected", "revoked"]


@pytest.mark.parametrize("status", Status)
def test_errors_and_pages_use_the_texts_of_the_table(status: Status) -> None:
    row = make_registration(status=status)
    others = [other for other in Status if other != status]
    with pytest.raises(ConflictError) as caught:
        check_state(row, *others)
    assert STATES[status].next_step.format(pk=row.pk) in str(caught.value)
    page = ClientRegistrationAdmin(ClientRegistration, admin.site)
    assert page.next_step(row).startswith(str(STATES[status].meaning))


def test_no_other_module_keeps_a_table_of_statuses() -> None:
    for file in PACKAGE.rglob("*.py"):
        if file.name == "lifecycle.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            keys = node.keys if isinstance(node, ast.Dict) else []
            named = [key for key in keys if isinstance(key, ast.Attribute)]
            statuses = [key for key in named if getattr(key.value, "id", "") == "Status"]
            assert len(statuses) < 3, f"{file}:{getattr(node, 'lineno', 0)}"


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_is_complete(name: str) -> None:
    action = ACTIONS[name]
    assert callable(tasks.service(name))
    assert f"{action.permission}_clientregistration" in dict(ClientRegistration._meta.permissions)
    assert EVENTS[name] == action.label
    assert action.done
    row = make_registration(status=action.statuses[0])
    assert prospect(row, name)
    commands = [f"management/commands/dcr_{each}.py" for each in (name, action.service)]
    assert any((PACKAGE / command).exists() for command in commands) or (
        name == "retry"  # an option of dcr_reconcile
    )


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("live", [True, None])
@pytest.mark.usefixtures("mocked_responses")  # no server answers
def test_the_service_accepts_what_a_page_offers(
    status: Status, live: bool | None, name: str
) -> None:
    if status == Status.GONE:
        live = None  # it gave its place up
    row = make_registration(status=status, live=live, requested_metadata=WISHES)
    if not ACTIONS[name].is_offered(row):
        return
    refusals = [state.next_step.format(pk=row.pk) for state in STATES.values()]
    with suppress(NetworkError):
        tasks.service(name)(row)
        return
    assert not any(refusal in stored(row).last_error for refusal in refusals)


def test_a_replaced_row_that_is_being_revoked_is_not_offered_to_be_read() -> None:
    row = make_registration(status="revoking", live=None)
    assert not ACTIONS["read"].is_offered(row)
    with pytest.raises(ConflictError, match="is being revoked"):
        services.read(row)
    row.live = True
    assert ACTIONS["read"].is_offered(row)


def test_a_new_action_is_found_by_every_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    ping = Action(
        label="Ping", permission="update", statuses=(Status.ACTIVE,), done="Pinged.", prospect="?"
    )
    monkeypatch.setitem(ACTIONS, "ping", ping)
    monkeypatch.setitem(EVENTS, "ping", "Ping")
    monkeypatch.setattr(services, "ping", lambda registration: registration, raising=False)

    bases = (ClientRegistrationAdminMixin, admin.ModelAdmin)
    mixin = type("Admin", bases, {"actions": list(ACTIONS)})
    add_actions(mixin)
    site = mixin(ClientRegistration, admin.site)
    row = make_registration()
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("admin")
    assert "ping" in site.offered_actions(row)
    assert site.label("ping") == "Ping"
    assert "ping" in site.get_actions(request)
    assert prospect(row, "ping") == "?"
    tasks.perform("ping", row.pk)
    row.status = "gone"
    assert not ping.allows(row)


def test_the_documented_states_are_those_of_the_table() -> None:
    text = (PACKAGE.parent / "docs/states.md").read_text()
    table = text.partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == Status.values
