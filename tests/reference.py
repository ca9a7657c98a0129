"""The parts of docs/ generated from the code: settings, checks, statuses, columns, commands.

``make reference`` writes them between the marks ``<!-- generated: NAME -->`` and ``<!-- end -->``;
``test_docs.py`` fails if one of them is outdated.
"""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterable
from functools import partial
from inspect import getdoc
from pathlib import Path

from django.conf import settings
from django.core.management import BaseCommand, load_command_class
from django.test import override_settings

import django_dcr
from django_dcr import checks
from django_dcr.conf import Settings, conf
from django_dcr.lifecycle import ACTIONS, STATES
from django_dcr.models import AuthorizationServer, CachedDocument, ProtectedResource

PACKAGE = Path(django_dcr.__file__).parent
DOCS = PACKAGE.parent / "docs"
SETTINGS = [name for name in vars(Settings) if name.startswith("DCR_")]
COMMANDS = sorted(path.stem for path in PACKAGE.glob("management/commands/dcr_*.py"))
#: The page with more about a setting.
MORE = {
    "DCR_ENCRYPTION_KEYS": "encryption.md",
    "DCR_INTERNAL_ORIGINS": "networks.md",
    "DCR_CLIENT_METADATA": "services.md",
    "DCR_PREFER_KEYS": "keys.md",
    "DCR_BACKOFF": "retries.md",
    "DCR_METADATA_TTL": "retries.md",
    "DCR_PROXY": "networks.md",
    "DCR_TASK_RUNNER": "background.md",
    "DCR_BASE_URL": "mechanisms.md",
    "DCR_MECHANISMS": "mechanisms.md",
}


def write(folder: Path = DOCS) -> None:
    """Update the generated parts of all pages in ``folder``."""
    for page in folder.glob("*.md"):
        page.write_text(refreshed(page.read_text()))


def refreshed(text: str) -> str:
    """Return a page with its generated parts updated."""
    mark = r"(?s)(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)"
    return re.sub(mark, lambda part: f"{part[1]}{_generated(part[2])}\n{part[3]}", text)


def _generated(name: str) -> str:
    if name in COMMANDS:
        return command(name)
    parts = {"settings": all_settings, "checks": all_checks, "states": states}
    parts |= {"server": partial(columns, AuthorizationServer)}
    parts |= {"resource": partial(columns, ProtectedResource)}
    return parts[name]() if name in parts else _arguments(_shared(name))


# --- settings, checks, statuses ----------------------------------------------------------------


def all_settings() -> str:
    return "\n\n".join(map(_setting, SETTINGS))


def _setting(name: str) -> str:
    described = getdoc(vars(Settings)[name])
    assert described, f"{name} has no docstring"
    kind = checks.TYPES.get(name, (None, ""))[1]
    facts = f"{_sentence(kind)} " if kind else ""
    paragraphs = [
        f"## `{name}`",
        described.replace("``", "`"),
        f"{facts}Default: {_default(name)}.",
    ]
    if name in MORE:
        title = (DOCS / MORE[name]).read_text().partition("\n")[0].removeprefix("# ")
        paragraphs.append(f"See [{title}]({MORE[name]}).")
    return "\n\n".join(paragraphs)


def _default(name: str) -> str:
    with override_settings():
        delattr(settings, name)
        value = getattr(conf, name)
    shown = repr([*value] if isinstance(value, tuple) else value)
    return "none" if name == "DCR_ENCRYPTION_KEYS" else f"`{shown.removeprefix('datetime.')}`"


def all_checks() -> str:
    lines = re.findall(r"(?m)^    (dcr\.[EW]\d+)  (.+)$", checks.__doc__ or "")
    names = r"(DCR_[A-Z_]+|django_dcr\.\w+|SecretField|utf8mb4|http://)"
    rows = [(f"`{name}`", re.sub(names, r"`\1`", text)) for name, text in lines]
    return _table("id", "what is wrong", rows)


def states() -> str:
    rows = [
        (f"`{status}`", str(state.meaning), _codes(_accepting(status)) or "nothing")
        for status, state in STATES.items()
    ]
    return _table("status", "meaning", rows, "what can be done")


def _accepting(status: str) -> list[str]:
    return [name for name, action in ACTIONS.items() if status in action.statuses]


def columns(model: type[CachedDocument]) -> str:
    """Return the editable columns with their help texts."""
    fields = [field for field in model._meta.fields if field.editable]
    rows = [(f"`{field.name}`", str(field.help_text)) for field in fields if field.help_text]
    return _table("column", "meaning", rows)


# --- commands ----------------------------------------------------------------------------------


def command(name: str) -> str:
    """Return a command's usage, description and own arguments."""
    parser = parser_of(name)
    selection, output = map(_names, (_shared("selection"), _shared("format")))
    arguments = [action for action in arguments_of(parser) if not _names([action]) & output]
    selects = selection <= _names(arguments)
    own = [action for action in arguments if not (selects and _names([action]) & selection)]
    usage = " ".join([name, *(["SELECTION"] if selects else []), *map(_usage, own)])
    shown = f"```text\nmanage.py {usage}\n```\n\n{parser.description}"
    return f"{shown}\n\n{_arguments(own)}" if own else shown


def _shared(name: str) -> list[Action]:
    """Return the arguments that select registrations, or that every command has."""
    arguments = arguments_of(parser_of("dcr_list"))
    ours = {
        "selection": {"ID", "--issuer", "--owner", "--status", "--all"},
        "format": {"--format"},
    }
    return [action for action in arguments if _names([action]) & ours[name]]


def parser_of(name: str) -> ArgumentParser:
    return load_command_class("django_dcr", name).create_parser("manage.py", name)


def arguments_of(parser: ArgumentParser) -> list[Action]:
    """Return the visible arguments, without those of every Django command."""
    common = _names(BaseCommand().create_parser("manage.py", "any")._actions)
    actions = [action for action in parser._actions if action.help != SUPPRESS]
    return [action for action in actions if not _names([action]) & common]


def _names(actions: Iterable[Action]) -> set[str]:
    """Return the options, and for positional arguments their name in the usage."""
    return {name for action in actions for name in action.option_strings or [_value(action)]}


def _value(action: Action) -> str:
    name = (*action.option_strings, action.dest)[0].lstrip("-").upper()
    return "" if action.nargs == 0 else str(action.metavar or name)


def _usage(action: Action) -> str:
    shown = f"{' '.join(action.option_strings[-1:])} {_value(action)}".strip()
    dots = "..." if type(action).__name__ == "_AppendAction" or action.nargs == "*" else ""
    return (shown if action.required else f"[{shown}]") + dots


def _arguments(actions: list[Action]) -> str:
    rows = []
    for action in actions:
        names = [
            f"`{f'{name} {_value(action)}'.strip()}`" for name in action.option_strings or [""]
        ]
        choices = ", ".join(f"`{choice}`" for choice in action.choices or ())
        text = re.sub(r"(?<![\w`])(--[a-z][a-z-]+|DCR_[A-Z_]+)", r"`\1`", action.help or "")
        rows.append(
            (", ".join(names), _sentence(text) + (f" One of {choices}." if choices else ""))
        )
    return _table("argument", "meaning", rows)


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _table(first: str, second: str, rows: Iterable[tuple[str, ...]], *further: str) -> str:
    head = (first, second, *further)
    lines = [head, *rows]
    shown = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines]
    return "\n".join([shown[0], "|" + "---|" * len(head), *shown[1:]])
