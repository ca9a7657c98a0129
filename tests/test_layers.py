r"""The layers of the package, checked against its imports.

::

    interfaces       admin   management   contrib   views   checks
                          \       |       /
    use cases             tasks -> services
                            /     |    \
    kinds of work      models     |    transport
                       /    \     |
                   fields    protocol
    leaves           conf  exceptions  lifecycle  logs  mechanisms  runs  signals  text  uris

Imports run down only. One may skip levels if the table below allows it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import django_dcr
from django_dcr import protocol

PACKAGE = Path(django_dcr.__file__).parent
LEAVES = {
    "conf",
    "exceptions",
    "lifecycle",
    "logs",
    "mechanisms",
    "runs",
    "signals",
    "text",
    "uris",
}

# What each module may import; any other import fails.
ALLOWED = {
    # interfaces
    "admin": {"tasks", "services", "models"} | LEAVES,
    "management": {"tasks", "services", "models", "fields", "protocol"} | LEAVES,
    "contrib": {"tasks", "services", "models", "fields", "protocol", "transport"} | LEAVES,
    "checks": {"tasks", "models", "fields", "protocol"} | LEAVES,
    "apps": {"checks", "tasks"},
    # for the tests of sites
    "pytest_plugin": {"testing"},
    "testing": {"protocol", "transport"} | LEAVES,
    "urls": {"views"},
    "views": {"services", "protocol"},
    "migrations": {"fields"},
    # use cases
    "tasks": {"services", "models"} | LEAVES,
    "services": {"models", "fields", "protocol", "transport"} | LEAVES,
    # kinds of work
    "models": {"fields", "protocol"} | LEAVES,
    "fields": LEAVES,
    "transport": LEAVES,
    "protocol": {"exceptions", "text", "uris"},  # pure: not even the settings
    # leaves
    "__init__": set(),
    "conf": {"uris"},
    "exceptions": {"text"},
    "lifecycle": {"mechanisms"},
    "logs": {"exceptions", "text"},
    "mechanisms": set(),
    "runs": set(),
    "signals": set(),
    "text": set(),
    "uris": set(),
}
SOURCES = {path.relative_to(PACKAGE): path.read_text() for path in PACKAGE.rglob("*.py")}
FILES = sorted(SOURCES)


@cache
def nodes(source: str) -> list[ast.AST]:
    return [*ast.walk(ast.parse(source))]


def imports(source: str, file: Path) -> Iterator[str]:
    """Yield the full name of every module or member that ``source`` imports."""
    package = ["django_dcr", *file.parent.parts]
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer(file: Path) -> str:
    """Return the key in ``ALLOWED`` that ``file`` belongs to."""
    return file.parts[0].removesuffix(".py")


def forbidden_imports(source: str, file: Path) -> set[str]:
    names = [name.split(".") for name in imports(source, file)]
    inside = {parts[1] for parts in names if parts[0] == "django_dcr" and len(parts) > 1}
    known = inside & {*ALLOWED}  # the rest are names such as __version__
    return known - ALLOWED[layer(file)] - {layer(file)}


def imported_packages(source: str, file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(source, file)}


def local_imports(source: str) -> list[int]:
    """Return the line numbers of imports inside functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    return [
        node.lineno
        for function in nodes(source)
        if isinstance(function, functions)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def test_every_file_is_in_the_table() -> None:
    assert {layer(file) for file in FILES} <= {*ALLOWED}


def test_every_import_is_allowed_by_the_table() -> None:
    wrong = {str(file): forbidden_imports(source, file) for file, source in SOURCES.items()}
    assert {file: names for file, names in wrong.items() if names} == {}


def test_only_the_transport_imports_requests() -> None:
    libraries = {"requests", "urllib3"}
    users = {
        file.parts[0]
        for file, source in SOURCES.items()
        if imported_packages(source, file) & libraries
    }
    assert users == {"transport"}


def test_protocol_imports_neither_django_nor_the_network() -> None:
    impure = {"django", "requests", "urllib3", "http", "socket", "ssl", "sqlite3", "os"}
    used = {
        name
        for file in FILES
        if layer(file) == "protocol"
        for name in imported_packages(SOURCES[file], file)
    }
    assert used & impure == set()


def test_nothing_is_imported_inside_a_function() -> None:
    lines = {str(file): local_imports(source) for file, source in SOURCES.items()}
    assert {Path(file).name for file, numbers in lines.items() if numbers} <= {"apps.py"}


def test_libraries_for_keys_are_imported_only_when_a_key_is_used() -> None:
    """Importing them takes a twentieth of a second."""
    program = (
        "import sys, django; django.setup(); import django_dcr.services, django_dcr.views; "
        "from django_dcr import protocol; "
        "assert not {'cryptography', 'joserfc', 'requests'} & {*sys.modules}; "
        "protocol.make_key('EdDSA'); assert 'joserfc' in sys.modules"
    )
    settings = "INSTALLED_APPS=['django.contrib.auth','django.contrib.contenttypes','django_dcr']"
    configure = f"from django.conf import settings; settings.configure({settings}); {program}"
    subprocess.run([sys.executable, "-c", configure], check=True, timeout=600)


def test_an_unknown_name_in_protocol_raises_attributeerror() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'forge'"):
        protocol.forge  # noqa: B018


@pytest.mark.parametrize(
    "source",
    [
        "import django_dcr.services",
        "import django_dcr.services as use_cases",
        "from django_dcr import exceptions, services",
        "from django_dcr.services import register",
        "from .. import services",
        "from ..services import register",
        "def late():\n    from django_dcr import services",
    ],
)
def test_every_form_of_import_is_found(source: str) -> None:
    assert forbidden_imports(source, Path("protocol/answers.py")) == {"services"}


def test_imports_inside_functions_are_found() -> None:
    assert local_imports("import os\nclass A:\n    def b(self):\n        import sys\n") == [4]
