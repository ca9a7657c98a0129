"""Every code block in the documentation runs here, or a test that names it runs it."""

from __future__ import annotations

import builtins
import dis
import json
import re
import shlex
import sys
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from textwrap import dedent
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import responses
from django.contrib import admin
from django.core.management import get_commands
from django.test import RequestFactory

from django_dcr.models import ClientRegistration
from django_dcr.services import get_or_register, rotate_client_key
from django_dcr.testing import AuthorizationServer
from tests.test_docs import DOCUMENTS, ROOT

if TYPE_CHECKING:
    from pytest_django import Settings

TESTS = "".join(
    file.read_text() for file in sorted((ROOT / "tests").rglob("*.py")) if file != Path(__file__)
)
#: Programs in the documentation that are not part of this app.
PROGRAMS = {
    *("cd", "mkdir", "test", "."),
    *("celery", "django-admin", "git", "make", "pip", "python", "python3", "systemctl"),
    *(".ci/run", ".venv/bin/python", "manage.py"),
}
#: Management commands of apps that the tests do not install.
FOREIGN_COMMANDS = {"db_worker", "health_check"}
ISSUER = "https://login.example.com/realms/shop"


def enqueue(action: str, pk: int) -> None:
    """Stand in for a task queue."""


class Block(NamedTuple):
    page: str
    mark: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {next(iter(self.text.splitlines()), '')[:50]}"


def blocks(*languages: str) -> list[Block]:
    pattern = r"(?m)^(?:<!-- (\w+: [\w./-]+) -->\n)?( *)```([\w{}-]*)\n((?s:.*?))^\2```$"
    return [
        Block(page, mark, language, dedent(text))
        for page, document in DOCUMENTS.items()
        for mark, _indent, language, text in re.findall(pattern, document)
        if language in languages
    ]


def is_run_elsewhere(block: Block) -> bool:
    """Whether a test names the block or contains it.

    Excerpts of the example ("of") are compared by test_docs.py.
    """
    kind, _colon, name = block.mark.partition(": ")
    if kind == "of":
        return True
    named = bool(kind) and (f'"{name}"' in TESTS or block.page == "docs/tutorial.md")
    return named or block.text.strip() in TESTS


PYTHON = [block for block in blocks("python") if not is_run_elsewhere(block)]


RESOURCE = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"


@pytest.fixture
def server(settings: Settings) -> Iterator[None]:
    """The server of the examples, with a registration of the site and one of a customer."""
    settings.DCR_CLIENT_METADATA = {"redirect_uris": ["https://shop.example/callback"]}
    settings.DCR_TASK_RUNNER = "tests.test_documented_code.enqueue"
    with AuthorizationServer(ISSUER):
        rotate_client_key()
        get_or_register(ISSUER)
        get_or_register(ISSUER, "customer-42")
        yield


@pytest.fixture
def shown(server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Names that the pages define elsewhere, and stand-ins for packages not installed."""
    package, unfold = ModuleType("django_rq"), ModuleType("unfold.admin")
    vars(unfold)["ModelAdmin"] = admin.ModelAdmin
    for module in (package, ModuleType("unfold"), unfold):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    registered = dict(admin.site._registry)
    yield {
        "__name__": "shop.views",
        "ClientRegistration": ClientRegistration,
        "INSTALLED_APPS": [],
        "issuer": ISSUER,
        "registration": ClientRegistration.objects.live().first(),
        "request": RequestFactory().get("/"),
    }
    admin.site._registry.clear()
    admin.site._registry.update(registered)


def unknown_names(code: CodeType, known: set[str]) -> set[str]:
    """Return the global names that functions use and nothing defines."""
    used = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return (used - known).union(*(unknown_names(part, known) for part in inner))


@pytest.mark.django_db
@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_block_of_python_runs(
    block: Block, server: None, shown: dict[str, Any], mocked_responses: responses.RequestsMock
) -> None:
    if "https://mcp.example.com/mcp" in block.text:
        resource = {"resource": "https://mcp.example.com/mcp", "authorization_servers": [ISSUER]}
        mocked_responses.get(RESOURCE, json=resource)
    code = compile(block.text, block.page, "exec")
    exec(code, shown)  # noqa: S102
    assert unknown_names(code, {*shown, *vars(builtins)}) == set()


@pytest.mark.parametrize("block", [b for b in blocks("python") if b.mark], ids=str)
def test_a_block_with_a_name_is_run_by_a_test(block: Block) -> None:
    assert is_run_elsewhere(block)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_a_block_of_json_is_json(block: Block) -> None:
    assert json.loads(block.text)


def lines(block: Block) -> list[list[str]]:
    split = [shlex.split(line, comments=True) for line in block.text.splitlines()]
    return [words for words in split if words]


@pytest.mark.parametrize("block", blocks("console", "sh"), ids=str)
def test_a_command_is_real(block: Block) -> None:
    for words in lines(block):
        words = list(dropwhile(lambda word: re.fullmatch("[A-Z_]+=.*", word), words))
        assert words[0] in PROGRAMS, words
        called = words[words.index("manage.py") + 1 :] if "manage.py" in words else []
        assert {*called[:1]} <= {*get_commands(), *FOREIGN_COMMANDS}, words


def test_every_block_has_a_language_whose_blocks_are_checked() -> None:
    checked = {"python", "json", "console", "sh"}
    found = re.findall(r"(?m)^ *```([\w{}-]+)$", "".join(DOCUMENTS.values()))
    assert {*found} - checked == {"text", "ini", "yaml", "{toctree}", "{eval-rst}"}
