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


def test_only_these_packages_are_required() -> None:
    names = {"cryptography", "django", "joserfc", "requests", "tqdm", "urllib3"}
    assert set(map(name_of, REQUIREMENTS["install_requires"])) == names


@pytest.mark.parametrize("group", REQUIREMENTS)
def test_no_unpublished_package_is_required(group: str) -> None:
    """Anybody could publish a package under that name, and it would be installed."""
    assert "django-cryptography-fields" not in map(name_of, REQUIREMENTS[group])


def test_the_extra_for_tests_includes_that_of_the_example() -> None:
    assert set(REQUIREMENTS["example"]) <= set(REQUIREMENTS["test"])


def test_every_data_file_is_packaged() -> None:
    patterns = lines("options.package_data", "django_dcr")
    files = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file()}
    packaged = {path.relative_to(PACKAGE) for pattern in patterns for path in PACKAGE.glob(pattern)}
    left_out = {f for f in files - packaged if f.suffix != ".py" and "__pycache__" not in f.parts}
    assert left_out == set()
    assert PurePath("py.typed") in packaged


def test_every_folder_with_python_files_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").exists()} == set()


def test_tox_covers_every_version_in_the_classifiers() -> None:
    classifiers = lines("metadata", "classifiers")
    promised = [line.split(" :: ")[-1] for line in classifiers if re.search(r":: \d+\.\d+$", line)]
    tested = CONFIG["tox:tox"]["env_list"]
    for version in promised:
        major, minor = version.split(".")
        if f"Framework :: Django :: {version}" in classifiers:
            assert re.search(rf"django\D*(\d+,)*{major}{minor}\b", tested)
        else:
            assert re.search(rf"py{major}\{{(\d+,)*{minor}\b", tested)


def test_the_changelog_starts_with_the_unreleased_or_the_current_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"(?m)^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text)
    assert len(versions) == len(re.findall("(?m)^## ", text))
    (first, dated), *released = versions
    assert (first, bool(dated)) in [("Unreleased", False), (django_dcr.__version__, True)]
    assert all(date for _version, date in released)


def test_the_sections_of_the_changelog_are_in_order() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    order = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for version in re.split(r"(?m)^## ", text)[1:]:
        sections = re.findall(r"(?m)^### (\w+)$", version)
        assert sections == [name for name in order if name in sections]
