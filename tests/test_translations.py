"""The catalogues: complete, compiled, and with the placeholders of the originals."""

from __future__ import annotations

import ast
import re
from gettext import GNUTranslations
from pathlib import Path

import pytest
from django.apps import apps
from django.utils import translation

import django_dcr
from django_dcr.models import AuthorizationServer, ClientRegistration, Status

PACKAGE = Path(django_dcr.__file__).parent
LANGUAGES = ["de", "fr"]
_ENTRY = re.compile(r'^msgid "(.*)"\nmsgstr "(.*)"$', re.MULTILINE)
_IN_TEMPLATE = re.compile(
    r"{% translate '(.*?)' %}|{% blocktranslate %}(.*?){% endblocktranslate %}"
)


def catalogue(language: str) -> dict[str, str]:
    text = (PACKAGE / "locale" / language / "LC_MESSAGES/django.po").read_text()
    entries = text.split("\n\n")[1:]  # after the header
    assert "fuzzy" not in text
    return {_plain(m[1]): _plain(m[2]) for entry in entries for m in _ENTRY.finditer(entry)}


def _plain(quoted: str) -> str:
    return quoted.replace('\\"', '"').replace("\\\\", "\\")


def texts() -> set[str]:
    """Every text that the code and the templates want translated."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in _FUNCTIONS:
                found.add(ast.literal_eval(node.args[0]))
    for file in PACKAGE.rglob("*.html"):
        for plain, block in _IN_TEMPLATE.findall(file.read_text()):
            found.add(plain or re.sub(r"{{ (\w+) }}", r"%(\1)s", block))
    return found


def test_german_has_one_word_for_an_owner_and_capital_nouns() -> None:
    entries = catalogue("de")
    assert [text for text in entries.values() if "Inhaber" in text] == []
    for model in apps.get_app_config("django_dcr").get_models():
        with translation.override("de"):
            assert str(model._meta.verbose_name)[0].isupper()


_FUNCTIONS = {"_", "gettext", "gettext_lazy"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated_and_no_other(language: str) -> None:
    entries = catalogue(language)
    assert texts() == set(entries)
    assert [text for text, translated in entries.items() if not translated] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_placeholders_are_those_of_the_original(language: str) -> None:
    placeholder = re.compile(r"%\(\w+\)[sd]")
    for text, translated in catalogue(language).items():
        assert sorted(placeholder.findall(translated)) == sorted(placeholder.findall(text)), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_catalogue_is_up_to_date(language: str) -> None:
    """Next step where this fails: in django_dcr, django-admin compilemessages."""
    with (PACKAGE / "locale" / language / "LC_MESSAGES/django.mo").open("rb") as file:
        compiled = GNUTranslations(file)
    for text, translated in catalogue(language).items():
        assert compiled.gettext(text) == translated


@pytest.mark.parametrize(("language", "word"), [("de", "wird registriert"), ("en", "registering")])
def test_a_site_shows_its_own_language(language: str, word: str) -> None:
    with translation.override(language):
        assert str(Status.REGISTERING.label) == word


def test_a_registration_is_named_in_the_language_of_the_page() -> None:
    row = ClientRegistration(server=AuthorizationServer(issuer="https://as.example"))
    with translation.override("de"):
        assert str(row) == "diese Website bei https://as.example"
    with translation.override("fr"):
        assert str(row) == "ce site chez https://as.example"


def test_the_documentation_names_the_languages_and_what_is_not_translated() -> None:
    text = (PACKAGE.parent / "docs/languages.md").read_text()
    assert "English, German or French" in text
    for kind in ("error", "commands", "permissions"):
        assert kind in text.partition("English in every language")[2]
