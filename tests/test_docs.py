"""The README and docs/, compared with the code that they describe."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import responses
from asgiref.sync import iscoroutinefunction
from django.core.management import call_command
from django.dispatch import Signal
from oauth2_provider.settings import DEFAULTS

from django_dcr import exceptions, services, signals
from django_dcr.checks import TYPES
from django_dcr.conf import Settings
from django_dcr.models import ClientRegistration
from tests import reference
from tests.reference import COMMANDS, PACKAGE, SETTINGS

ROOT = Path(__file__).parent.parent
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
GENERATED = re.compile("(?s)<!-- generated: .*?<!-- end -->")
#: Secrets that commands read from the environment.
VARIABLES = [
    "DCR_INITIAL_ACCESS_TOKEN",
    "DCR_CLIENT_SECRET",
    "DCR_REGISTRATION_ACCESS_TOKEN",
]
ISSUER = "https://login.example.com/realms/shop"
#: An excerpt from a file of the example project.
SHOWN = r"(?s)<!-- of: (\S+) -->\n```python\n(.*?)```"
CALLBACK = "https://shop.example/callback"


def section(page: str, title: str) -> str:
    """Return the section under a heading, subsections included."""
    text = DOCUMENTS[page]
    heading = re.search(rf"(?m)^(#+) `?{re.escape(title)}`?$", text)
    assert heading, f"{page} has no section {title}"
    return re.split(rf"(?m)^#{{1,{len(heading[1])}}} ", text[heading.end() :])[0]


def table(page: str) -> dict[str, list[str]]:
    """Return the rows of a page's first table by the code in their first column."""
    rule = re.search(r"(?m)^\|---.*\n", DOCUMENTS[page])
    assert rule, f"{page} has no table"
    text = DOCUMENTS[page][rule.end() :].partition("\n\n")[0]
    lines = re.findall(r"(?m)^\| `(.*?)` \| (.*) \|$", text)
    rows = {name: rest.split(" | ") for name, rest in lines}
    assert len(rows) == len(lines), "a row is repeated"
    return rows


def example(page: str, name: str) -> str:
    found = re.search(rf"(?s)<!-- example: {name} -->\n```python\n(.*?)```", DOCUMENTS[page])
    assert found, f"{page} has no example {name}"
    return found[1]


def test_generated_parts_are_up_to_date() -> None:
    for name, text in DOCUMENTS.items():
        assert text == reference.refreshed(text), f"update {name} with: make reference"


def test_generated_parts_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "Checks:\n<!-- generated: checks -->\noutdated\n<!-- end -->\nEnd.\n"
    )
    reference.write(tmp_path)
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("Checks:\n<!-- generated: checks -->\n| id | what is wrong |\n")
    assert "outdated" not in text
    assert text.endswith("\n<!-- end -->\nEnd.\n")


def test_servers_that_were_not_run_keep_their_outcomes(tmp_path: Path) -> None:
    from tests.interop.report import Table  # late, so that pytest can rewrite its assertions

    page = tmp_path / "servers.md"
    page.write_text(DOCUMENTS["docs/servers.md"])
    Table().write_into(page)
    assert page.read_text() == DOCUMENTS["docs/servers.md"]


def test_settings_checks_statuses_and_commands_are_generated() -> None:
    parts = [
        name for text in DOCUMENTS.values() for name in re.findall("<!-- generated: (.+) -->", text)
    ]
    named = {"settings", "checks", "states", "server", "resource", "selection", "format"}
    assert sorted(parts) == sorted([*named, *COMMANDS])


@pytest.mark.parametrize("name", SETTINGS)
def test_the_unit_of_a_setting_is_documented(name: str) -> None:
    described, (_fits, kind) = vars(Settings)[name].__doc__, TYPES.get(name, (None, ""))
    for unit in ("seconds", "bytes", "timedelta"):
        assert (unit in described) == (unit in kind)


def test_every_error_is_documented() -> None:
    classes = {name: value for name, value in vars(exceptions).items() if inspect.isclass(value)}
    errors = [name for name, value in classes.items() if issubclass(value, exceptions.DCRError)]
    assert list(table("docs/errors.md")) == errors


def test_every_signal_is_documented() -> None:
    sent = [name for name, value in vars(signals).items() if isinstance(value, Signal)]
    assert list(table("docs/signals.md")) == sent


#: The async services, which docs/async.md lists.
ASYNC = [name for name in services.__all__ if iscoroutinefunction(getattr(services, name))]
SYNC = [name for name in services.__all__ if name not in ASYNC]


@pytest.mark.parametrize("name", SYNC)
def test_every_service_is_documented_with_its_parameters(name: str) -> None:
    signature = inspect.signature(getattr(services, name))
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    call = f"{name}{inspect.Signature(bare)}".replace("'", '"')
    assert call in table("docs/services.md")


def test_every_documented_service_exists() -> None:
    assert {call.partition("(")[0] for call in table("docs/services.md")} == {*SYNC}


@pytest.mark.parametrize("shown", re.findall(SHOWN, DOCUMENTS["docs/mcp.md"]))
def test_excerpts_of_the_example_are_up_to_date(shown: tuple[str, str]) -> None:
    file, code = shown
    assert code in (ROOT / file).read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section_that_starts_with_its_usage(name: str) -> None:
    text = section("docs/commands.md", name).lstrip()
    assert text.startswith(f"<!-- generated: {name} -->\n```text\nmanage.py {name} ")


def options_of(name: str) -> set[str]:
    actions = reference.arguments_of(reference.parser_of(name))
    return {option for action in actions for option in action.option_strings}


def test_every_command_in_a_message_exists() -> None:
    for file in PACKAGE.rglob("*.py"):
        advice = re.findall(r"manage\.py (dcr_\w+)([^\n\"'.;,]*)", file.read_text())
        for name, arguments in advice:
            assert {*re.findall("--[a-z-]+", arguments)} <= options_of(name), f"{file}: {name}"


@pytest.mark.parametrize(
    "line",
    [
        line
        for text in DOCUMENTS.values()
        for line in re.findall(r"manage.py (dcr_[^|)`\n]+)", GENERATED.sub("", text))
    ],
)
def test_every_documented_command_line_is_valid(line: str) -> None:
    name, *arguments = shlex.split(line)
    assert reference.parser_of(name).parse_args(arguments)


def test_every_system_check_is_listed_in_the_order_of_their_ids() -> None:
    sources = "".join((PACKAGE / file).read_text() for file in ("checks.py", "fields.py"))
    ids = set(re.findall(r"\"(dcr\.[EW]\d+)\"", sources))
    assert re.findall(r"`(dcr\.[EW]\d+)`", reference.all_checks()) == sorted(ids)


def test_every_documented_make_target_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    for name, text in DOCUMENTS.items():
        assert set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", text)) <= targets, name


def test_every_documented_file_exists() -> None:
    places = [ROOT, PACKAGE, ROOT / "tests", ROOT / "example_project/example"]
    for name, text in DOCUMENTS.items():
        links = re.findall(r"\]\(([^:)#]+)\)", text)
        files = re.findall(r"`([\w/*.]+\.(?:py|md|cfg|txt))`", text)
        written = re.findall("<!-- file: (.+) -->", text)  # by the reader
        for file in {*links, *files}.difference(["manage.py"], written):
            found = any([*place.glob(file)] for place in [(ROOT / name).parent, *places])
            assert found, f"{name} names {file}"


def test_every_linked_heading_exists() -> None:
    for name, text in DOCUMENTS.items():
        for page, anchor in re.findall(r"\]\(([\w./-]*)#([^)]+)\)", text):
            path = (ROOT / name).parent / page if page else ROOT / name
            linked = DOCUMENTS[str(path.resolve().relative_to(ROOT))]
            headings = re.findall(r"(?m)^#+ (.+)$", linked)
            anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
            assert anchor in anchors, f"{name} links {page}#{anchor}"


def test_every_page_is_in_the_navigation_once() -> None:
    trees = re.findall(r"(?s)```{toctree}\n(.*?)```", DOCUMENTS["docs/index.md"])
    listed = re.findall(r"(?m)^([\w-]+)$", "".join(trees))
    assert sorted(["index", *listed]) == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


def test_every_documented_setting_exists() -> None:
    # Registration settings of django-oauth-toolkit have the same prefix.
    known = {*SETTINGS, *VARIABLES, *DEFAULTS}
    for name, text in DOCUMENTS.items():
        assert set(re.findall("DCR_[A-Z_]+", text)) <= known, name


def test_the_readme_names_the_supported_versions() -> None:
    versions = re.findall(r"(?m):: (\d+\.\d+)$", (ROOT / "setup.cfg").read_text())
    stated = re.findall(r"\d+\.\d+", section("README.md", "Requirements").strip().splitlines()[0])
    assert {*stated} <= {*versions}
    assert {version for version in versions if version[0] != "3"} <= {*stated}


def test_the_settings_in_the_readme_work() -> None:
    names: dict[str, Any] = {"INSTALLED_APPS": []}
    exec(example("README.md", "settings"), names)  # noqa: S102
    assert names["INSTALLED_APPS"] == ["django_dcr"]


def stub_server(stubs: responses.RequestsMock, **issued: Any) -> None:
    """Answer discovery, and one registration with the metadata of the README."""
    metadata = {
        "issuer": ISSUER,
        "registration_endpoint": f"{ISSUER}/register",
        "token_endpoint": f"{ISSUER}/token",
    }
    url = "https://login.example.com/.well-known/oauth-authorization-server/realms/shop"
    stubs.get(url, json=metadata)
    client = {"client_id": "shop", "client_secret": "a secret", "client_secret_expires_at": 0}
    requested = {"redirect_uris": [CALLBACK]}
    sent = responses.matchers.json_params_matcher(requested, strict_match=False)
    stubs.post(f"{ISSUER}/register", status=201, json={**client, **issued}, match=[sent])


@pytest.mark.django_db
def test_the_examples_register_and_use_a_client(mocked_responses: responses.RequestsMock) -> None:
    stub_server(mocked_responses)
    names: dict[str, Any] = {"code": "a code"}
    exec(example("README.md", "registration"), names)  # noqa: S102
    registration = ClientRegistration.objects.get()
    assert (registration.status, registration.owner) == ("active", "customer-42")
    assert registration.requested["client_name"] == "Shop (customer-42)"

    form = {"grant_type": "authorization_code", "code": "a code", "redirect_uri": CALLBACK}
    sent = responses.matchers.urlencoded_params_matcher(form)
    mocked_responses.post(f"{ISSUER}/token", json={"access_token": "x"}, match=[sent])
    exec(example("docs/services.md", "token"), names)  # noqa: S102
    assert names["answer"].json() == {"access_token": "x"}


@pytest.mark.django_db
def test_the_three_commands_register_show_and_revoke(
    mocked_responses: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"{ISSUER}/register/shop"
    stub_server(mocked_responses, registration_client_uri=uri, registration_access_token="t")
    mocked_responses.delete(uri, status=204)
    lines = re.findall("manage.py (dcr_.+)", section("README.md", "Use it in a shell"))
    states = []
    for line in lines:
        call_command(*shlex.split(line))
        states.append(ClientRegistration.objects.get().status)
    assert states == ["active", "active", "revoked"]
    assert "customer-42" in capsys.readouterr().out
