from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path, PurePath

import pytest

import django_dcr

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "django_dcr"
CONFIG = ConfigParser(comment_prefixes=("#",), interpolation=None)
CONFIG.read(ROOT / "setup.cfg")


def lines(section: str, option: str) -> list[str]:
    return CONFIG[section][option].split("\n")[1:]


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return match[0].lower()


REQUIREMENTS = {
    "install_requires": lines("options", "install_requires"),
    **{extra: lines("options.extras_require", extra) for extra in CONFIG["options.extras_require"]},
}


def test_the_version_has_one_source() -> None:
    assert CONFIG["metadata"]["version"] == "attr: django_dcr.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", django_dcr.__version__)


def test_a_site_needs_these_packages_and_no_more() -> None:
    names = {"cryptography", "django", "joserfc", "requests", "tqdm", "urllib3"}
    assert set(map(name_of, REQUIREMENTS["install_requires"])) == names


@pytest.mark.parametrize("group", REQUIREMENTS)
def test_nothing_unpublished_is_required(group: str) -> None:
    """A name that nobody owns could be published by anybody, and would then be installed."""
    assert "django-cryptography-fields" not in map(name_of, REQUIREMENTS[group])


def test_the_tests_can_import_what_the_example_needs() -> None:
    assert set(REQUIREMENTS["example"]) <= set(REQUIREMENTS["test"])


def test_every_file_that_is_not_python_is_packaged() -> None:
    patterns = lines("options.package_data", "django_dcr")
    files = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file()}
    packaged = {path.relative_to(PACKAGE) for pattern in patterns for path in PACKAGE.glob(pattern)}
    left_out = {f for f in files - packaged if f.suffix != ".py" and "__pycache__" not in f.parts}
    assert left_out == set()
    assert PurePath("py.typed") in packaged


def test_every_folder_with_python_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").exists()} == set()


def test_the_tested_pairs_are_the_ones_promised() -> None:
    classifiers = lines("metadata", "classifiers")
    promised = [line.split(" :: ")[-1] for line in classifiers if re.search(r":: \d+\.\d+$", line)]
    tested = CONFIG["tox:tox"]["env_list"]
    for version in promised:
        major, minor = version.split(".")
        if f"Framework :: Django :: {version}" in classifiers:
            assert re.search(rf"django\D*(\d+,)*{major}{minor}\b", tested)
        else:
            assert re.search(rf"py{major}\{{(\d+,)*{minor}\b", tested)


def test_the_changelog_begins_with_what_is_unreleased_or_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"(?m)^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text)
    assert len(versions) == len(re.findall("(?m)^## ", text))
    (first, dated), *released = versions
    assert (first, bool(dated)) in [("Unreleased", False), (django_dcr.__version__, True)]
    assert all(date for _version, date in released)


def test_the_changelogs_sections_are_in_order() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    order = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for version in re.split(r"(?m)^## ", text)[1:]:
        sections = re.findall(r"(?m)^### (\w+)$", version)
        assert sections == [name for name in order if name in sections]
