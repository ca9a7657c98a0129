from __future__ import annotations

import copy
import hashlib
import json
import pickle
from collections import Counter
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core import serializers
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.core.management import call_command
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Upper
from django.forms import model_to_dict, modelform_factory
from django.template import Context, Template
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.views.debug import ExceptionReporter

from django_dcr.exceptions import DecryptionError
from django_dcr.fields import (
    MASK,
    DigestField,
    Rotation,
    Secret,
    SecretField,
    ciphertext_is,
    digest,
)
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.factories import make_draft, make_registration, make_server

pytestmark = pytest.mark.django_db

COLUMN = "django_dcr_clientregistration.client_secret"
OLD, NEW, LOST = (Fernet.generate_key().decode() for _ in range(3))


@pytest.fixture(autouse=True)
def _keys(settings: Any) -> None:
    settings.DCR_ENCRYPTION_KEYS = [OLD]


def ciphertext(row: models.Model, column: str = "client_secret") -> str | None:
    """What the database holds."""
    table = row._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {table} WHERE id = %s", [row.pk])  # noqa: S608
        return cursor.fetchone()[0]


def overwrite(row: models.Model, value: str | None, column: str = "client_secret") -> None:
    """Write to the database as its administrator might."""
    table = row._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {column} = %s WHERE id = %s", [value, row.pk])  # noqa: S608


def loaded(row: ClientRegistration) -> ClientRegistration:
    return ClientRegistration.objects.get(pk=row.pk)


# --- Secret ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["s1", "", " both ends ", "a\0b", "pässword 🔑", "x" * 100_000], ids=repr
)
def test_a_secret_opens_to_exactly_what_was_sealed(value: str) -> None:
    """Fault 109."""
    assert Secret.seal(value, COLUMN).reveal() == value


@pytest.mark.parametrize(
    "show",
    [str, repr, format, "{:}".format, "{!r}".format, "%s".__mod__, lambda s: f"{[s]} {s}"],
    ids=["str", "repr", "format", "str.format", "repr in a format", "percent", "in a list"],
)
def test_whatever_prints_a_secret_shows_the_mask(show: Any) -> None:
    """Fault A12."""
    secret = Secret.seal("s1", COLUMN)
    shown = show(secret)
    assert MASK in shown
    assert secret.ciphertext not in shown


def test_a_template_shows_the_mask() -> None:
    """Fault A11."""
    row = make_registration()
    template = Template("{{ row.client_secret }} {{ row.client_secret|default:'none' }} {{ row }}")
    assert template.render(Context({"row": row})) == f"{MASK} {MASK} {row}"


def test_pickles_and_copies_hold_ciphertext() -> None:
    row = make_registration(client_secret="in the clear")
    for twin in (pickle.loads(pickle.dumps(row)), copy.deepcopy(row), copy.copy(row)):  # noqa: S301
        assert twin.client_secret == row.client_secret
        assert twin.client_secret.reveal() == "in the clear"
    assert b"in the clear" not in pickle.dumps(row)
    assert b"in the clear" not in pickle.dumps(ClientRegistration.objects.all())


@pytest.mark.parametrize("encoder", [json.JSONEncoder, DjangoJSONEncoder])
def test_json_takes_no_secret(encoder: type[json.JSONEncoder]) -> None:
    with pytest.raises(TypeError, match="Secret is not JSON serializable"):
        json.dumps({"client_secret": Secret.seal("s1", COLUMN)}, cls=encoder)


def test_secrets_are_compared_by_their_ciphertext() -> None:
    secret = Secret.seal("s1", COLUMN)
    assert secret == copy.copy(secret)
    assert hash(secret) == hash(copy.copy(secret))
    assert secret != Secret.seal("s1", COLUMN)
    assert secret != "s1"


# --- what cannot be opened ---------------------------------------------------------------------


def flipped(text: str) -> str:
    """The same with one bit of its signature turned."""
    return text[:-5] + ("A" if text[-5] != "A" else "B") + text[-4:]


@pytest.mark.parametrize(
    "damage",
    [flipped, lambda text: text[:-10], lambda text: "", lambda text: "s1", lambda text: "ö"],
    ids=["a flipped bit", "cut", "empty", "in clear", "not ASCII"],
)
def test_a_damaged_value_is_an_error_and_not_ciphertext(damage: Any) -> None:
    """Fault L18."""
    row = make_registration()
    overwrite(row, damage(ciphertext(row)))
    with pytest.raises(DecryptionError, match=f"^None of DCR_ENCRYPTION_KEYS opens .* {COLUMN}"):
        loaded(row).client_secret.reveal()


@pytest.mark.parametrize("keys", [[NEW], [NEW, LOST]], ids=["replaced", "two wrong ones"])
def test_a_lost_key_is_an_error_and_not_ciphertext(keys: list[str], settings: Any) -> None:
    """Faults L14 and L16."""
    row = make_registration()
    settings.DCR_ENCRYPTION_KEYS = keys
    with pytest.raises(DecryptionError, match="Put the key it was encrypted with back"):
        loaded(row).client_secret.reveal()


def test_a_lost_key_breaks_neither_lists_nor_saving(settings: Any) -> None:
    """Fault L14: saving other fields leaves the ciphertext byte-identical."""
    row = make_registration()
    before = ciphertext(row)
    settings.DCR_ENCRYPTION_KEYS = [LOST]
    row = loaded(row)
    assert f"{row} {row.client_secret} {row.is_manageable} {row.drift}"
    row.owner = "another"
    row.full_clean()
    row.save()
    assert ciphertext(row) == before
    settings.DCR_ENCRYPTION_KEYS = [OLD]
    assert loaded(row).client_secret.reveal() == "s1"


def test_a_value_moved_to_another_column_does_not_open() -> None:
    """Fault L17."""
    row = make_registration()
    overwrite(row, ciphertext(row, "registration_access_token"))
    with pytest.raises(DecryptionError, match="registration_access_token: it has been moved"):
        loaded(row).client_secret.reveal()


def test_a_value_that_is_no_text_does_not_open() -> None:
    row = make_registration()
    overwrite(row, Fernet(OLD).encrypt(b"\xff\xfe").decode())
    with pytest.raises(DecryptionError, match="None of DCR_ENCRYPTION_KEYS"):
        loaded(row).client_secret.reveal()


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        pytest.param([], "must be a list of at least one Fernet key", id="none"),
        pytest.param(None, "must be a list of at least one Fernet key", id="null"),
        pytest.param(OLD, "must be a list of at least one Fernet key", id="text"),
        pytest.param(["in the clear"], "is not a valid Fernet key", id="malformed"),
        pytest.param([OLD, "in the clear"], "is not a valid Fernet key", id="second malformed"),
        pytest.param([OLD[:-4]], "is not a valid Fernet key", id="too short"),
        pytest.param(["ö"], "is not a valid Fernet key", id="not ASCII"),
        pytest.param([7], "is not a valid Fernet key", id="number"),
    ],
)
def test_wrong_keys_are_a_wrong_setting_that_is_never_quoted(
    keys: Any, text: str, settings: Any
) -> None:
    """Fault L15: and nothing is written."""
    settings.DCR_ENCRYPTION_KEYS = keys
    with pytest.raises(ImproperlyConfigured, match=text) as caught:
        make_registration()
    assert not ClientRegistration.objects.exists()
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    for key in (OLD, OLD[:-4], "in the clear"):
        assert key not in str(caught.value)


# --- the attribute -----------------------------------------------------------------------------


def test_an_assigned_text_is_sealed_at_once() -> None:
    row = ClientRegistration(client_secret="in the clear")
    assert isinstance(row.client_secret, Secret)
    assert "in the clear" not in repr(vars(row))
    row.client_secret = "another"
    assert row.client_secret.reveal() == "another"
    row.client_secret = None
    assert row.client_secret is None


def test_a_secret_of_another_column_is_sealed_again() -> None:
    server = AuthorizationServer(initial_access_token="t1")
    row = ClientRegistration(registration_access_token=server.initial_access_token)
    assert row.registration_access_token.column == (
        "django_dcr_clientregistration.registration_access_token"
    )
    assert row.registration_access_token.reveal() == "t1"


@pytest.mark.parametrize("value", [b"s1", 7, ["s1"], F("client_id"), Value("s1")], ids=repr)
def test_nothing_but_text_can_be_a_secret(value: object) -> None:
    with pytest.raises(TypeError, match="client_secret takes a str, a Secret or None, not"):
        ClientRegistration(client_secret=value)
    with pytest.raises(TypeError, match="client_secret takes a str, a Secret or None, not"):
        ClientRegistration().client_secret = value


def test_the_class_has_the_descriptor() -> None:
    assert ClientRegistration.client_secret.field.name == "client_secret"


def test_a_deferred_secret_is_loaded_when_it_is_asked_for() -> None:
    row = make_registration()
    for rows in (
        ClientRegistration.objects.defer("client_secret"),
        ClientRegistration.objects.only("client_id"),
    ):
        found = rows.get()
        assert found.get_deferred_fields() >= {"client_secret"}
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert found.client_secret == row.client_secret
            assert found.client_secret.reveal() == "s1"
        assert len(queries) == 1


def test_a_row_is_refreshed_from_the_database() -> None:
    row = make_registration()
    other = loaded(row)
    other.client_secret = "s2"
    other.save(update_fields=["client_secret"])
    row.refresh_from_db()
    assert row.client_secret.reveal() == "s2"
    overwrite(row, None)
    row.refresh_from_db(fields=["client_secret"])
    assert row.client_secret is None


# --- the QuerySet ------------------------------------------------------------------------------


def test_the_database_holds_ciphertext_and_null() -> None:
    row = make_registration(registration_access_token=None)
    assert Fernet(OLD).decrypt(ciphertext(row)) == f"{COLUMN}\0s1".encode()
    assert ciphertext(row, "registration_access_token") is None


def test_saving_another_field_keeps_the_ciphertext() -> None:
    """Fault L14."""
    row = make_registration()
    before = ciphertext(row)
    row.last_error = "x"
    row.save()
    found = loaded(row)
    found.last_error = "y"
    found.save()
    assert ciphertext(row) == before


@pytest.mark.parametrize(
    "write",
    [
        lambda rows: rows.update(client_secret="s2"),
        lambda rows: rows.update(client_secret=Secret.seal("s2", COLUMN)),
        lambda rows: rows.update_or_create(owner="", defaults={"client_secret": "s2"}),
        lambda rows: rows.bulk_update(changed(rows), ["client_secret"]),
    ],
    ids=["update with text", "update with a secret", "update_or_create", "bulk_update"],
)
def test_every_way_to_write_encrypts(write: Any) -> None:
    row = make_registration()
    write(ClientRegistration.objects.all())
    assert Fernet(OLD).decrypt(ciphertext(row)) == f"{COLUMN}\0s2".encode()


def changed(rows: Any) -> list[ClientRegistration]:
    row = rows.get()
    row.client_secret = "s2"
    return [row]


def test_every_way_to_create_encrypts() -> None:
    server = make_server()
    bulk = [ClientRegistration(server=server, owner=o, client_secret="s2") for o in ("1", "2")]
    ClientRegistration.objects.bulk_create(bulk)
    ClientRegistration.objects.get_or_create(
        server=server, owner="3", defaults={"client_secret": "s2"}
    )
    for row in ClientRegistration.objects.all():
        assert Fernet(OLD).decrypt(ciphertext(row)) == f"{COLUMN}\0s2".encode()
        assert row.client_secret.reveal() == "s2"
    assert ClientRegistration.objects.count() == 3


@pytest.mark.parametrize(
    "expression",
    [Value("in the clear"), Upper(Value("in the clear")), F("client_id")],
    ids=["value", "function", "another column"],
)
def test_no_expression_stores_its_value_in_clear(expression: Any) -> None:
    row = make_registration(client_id="in the clear")
    before = ciphertext(row)
    refused = pytest.raises(TypeError, match="client_secret takes a str, a Secret or None, not")
    with refused, transaction.atomic():
        ClientRegistration.objects.update(client_secret=expression)
    assert ciphertext(row) == before


def test_values_are_secrets() -> None:
    """Fault A11."""
    row = make_registration()
    rows = ClientRegistration.objects.all()
    assert rows.values("client_secret").get() == {"client_secret": row.client_secret}
    assert rows.values_list("client_secret", flat=True).get() == row.client_secret
    assert str(list(rows.values())).count(MASK) == 2
    assert rows.annotate(copied=F("client_secret")).get().copied == row.client_secret


@pytest.mark.parametrize(
    "lookup",
    [
        {"client_secret": "s1"},
        {"client_secret": None},
        {"client_secret__exact": "s1"},
        {"client_secret__in": ["s1"]},
        {"client_secret__startswith": "s"},
        {"client_secret__icontains": "s"},
        {"client_secret__regex": "s"},
        {"client_secret__gt": "s"},
        {"client_secret__length": 2},
        {"server__initial_access_token": "s1"},
    ],
    ids=lambda lookup: next(iter(lookup)),
)
def test_a_lookup_is_refused(lookup: dict[str, Any]) -> None:
    with pytest.raises(FieldError, match=r"Unsupported lookup '.*' for SecretField"):
        ClientRegistration.objects.filter(**lookup)
    with pytest.raises(FieldError, match=r"Unsupported lookup '.*' for SecretField"):
        ClientRegistration.objects.exclude(**lookup)


def test_rows_with_and_without_a_secret_can_be_told_apart() -> None:
    with_secret = make_registration()
    without = make_draft(server=with_secret.server, owner="another")
    rows = ClientRegistration.objects.all()
    assert list(rows.filter(client_secret__isnull=False)) == [with_secret]
    assert list(rows.filter(client_secret__isnull=True)) == [without]
    assert list(rows.exclude(client_secret__isnull=True)) == [with_secret]


def test_a_condition_can_ask_for_one_very_ciphertext() -> None:
    row = make_registration()
    rows = ClientRegistration.objects.all()
    assert rows.filter(ciphertext_is("client_secret", row.client_secret)).exists()
    assert not rows.filter(ciphertext_is("client_secret", Secret.seal("s1", COLUMN))).exists()


# --- forms, serialisers, checks ----------------------------------------------------------------


def test_no_form_has_a_secret() -> None:
    """Fault A6."""
    form = modelform_factory(AuthorizationServer, fields="__all__")
    assert "issuer" in form.base_fields
    assert "initial_access_token" not in form.base_fields
    server = make_server(initial_access_token="in the clear")
    assert str(model_to_dict(server)["initial_access_token"]) == MASK


@pytest.mark.parametrize("kind", ["json", "jsonl", "python", "xml"])
def test_serialisers_give_ciphertext_and_take_it_back(kind: str) -> None:
    row = make_registration(client_secret="in the clear", registration_access_token=None)
    dumped = serializers.serialize(kind, [row])
    assert "in the clear" not in str(dumped)
    before = ciphertext(row)
    row.delete()
    (again,) = serializers.deserialize(kind, dumped)
    again.save()
    assert ciphertext(again.object) == before
    assert loaded(again.object).client_secret.reveal() == "in the clear"
    assert loaded(again.object).registration_access_token is None


def test_a_dump_is_loaded_elsewhere_with_the_same_key(tmp_path: Any) -> None:
    row = make_registration()
    file = tmp_path / "dump.json"
    call_command("dumpdata", "django_dcr", output=str(file))
    assert ciphertext(row) in file.read_text()
    server = row.server
    row.delete()
    server.delete()
    call_command("loaddata", str(file), verbosity=0)
    row = ClientRegistration.objects.get()
    assert row.client_secret.reveal() == "s1"
    assert row.belongs_to_server


def test_a_row_is_cleaned_without_its_secret_being_touched() -> None:
    row = make_registration()
    before = row.client_secret
    row.full_clean()
    assert row.client_secret == before


@isolate_apps("django_dcr")
def test_a_default_for_a_secret_is_a_mistake() -> None:
    class Row(models.Model):  # noqa: DJ008
        sound = SecretField(null=True, default=None)
        wrong = SecretField(default="in the clear")

        class Meta:
            app_label = "django_dcr"

    [fault] = Row.check()
    assert (fault.id, fault.obj.name) == ("dcr.E101", "wrong")


def frames(error: pytest.ExceptionInfo[BaseException]) -> str:
    """What an error page shows of this app's own frames."""
    shown = ExceptionReporter(None, *error._excinfo).get_traceback_frames()
    return str([frame["vars"] for frame in shown if frame["filename"].endswith("/fields.py")])


def test_an_error_page_shows_neither_a_value_nor_a_key(settings: Any) -> None:
    """Fault A12."""
    row = make_registration()
    overwrite(row, Secret.seal("in the clear", "elsewhere").ciphertext)
    with pytest.raises(DecryptionError) as moved:
        loaded(row).client_secret.reveal()
    with pytest.raises(TypeError) as no_text:
        row.client_secret = b"in the clear"
    settings.DCR_ENCRYPTION_KEYS = ["a malformed key"]
    with pytest.raises(ImproperlyConfigured) as malformed:
        row.client_secret = "in the clear"
    settings.DCR_ENCRYPTION_KEYS = "a malformed key"
    with pytest.raises(ImproperlyConfigured) as no_list:
        row.client_secret = "in the clear"
    for error in (moved, no_text, malformed, no_list):
        assert "self" in frames(error)
        assert "in the clear" not in frames(error)
        assert "a malformed key" not in frames(error)


# --- rotation of keys --------------------------------------------------------------------------


def test_the_first_key_encrypts_and_all_decrypt(settings: Any) -> None:
    row = make_registration()
    settings.DCR_ENCRYPTION_KEYS = [NEW, OLD]
    assert loaded(row).client_secret.reveal() == "s1"
    assert not loaded(row).client_secret.is_current
    row.client_secret = "s2"
    row.save()
    assert Fernet(NEW).decrypt(ciphertext(row)) == f"{COLUMN}\0s2".encode()
    assert row.client_secret.is_current


@pytest.mark.parametrize("ciphertext", ["", "in clear", "ö"])
def test_what_no_key_opens_is_not_current(ciphertext: str) -> None:
    assert not Secret(ciphertext, COLUMN).is_current


def test_keys_are_rotated(settings: Any) -> None:
    """Fault L19: the old key can go afterwards, and a second run has nothing to do."""
    row = make_registration(server=make_server(initial_access_token="t0"))
    make_draft(server=row.server, owner="without secrets")
    settings.DCR_ENCRYPTION_KEYS = [NEW, OLD]
    assert ClientRegistration.objects.rotate_keys() == Rotation(current=0, rotated=2)
    assert AuthorizationServer.objects.rotate_keys() == Rotation(current=0, rotated=1)
    settings.DCR_ENCRYPTION_KEYS = [NEW]
    assert loaded(row).client_secret.reveal() == "s1"
    assert loaded(row).registration_access_token.reveal() == "t1"
    assert loaded(row).server.initial_access_token.reveal() == "t0"
    assert ClientRegistration.objects.rotate_keys() == Rotation(current=2, rotated=0)


def test_all_rows_are_rotated_however_many(settings: Any) -> None:
    """Fault L29: in pages, each of which is read and written in one statement."""
    statements: Counter[tuple[str, bool]] = Counter()

    def count(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        statements[sql.split()[0], many] += 1
        return execute(sql, parameters, many, context)

    server = make_server()
    ClientRegistration.objects.bulk_create(
        ClientRegistration(server=server, owner=str(n), client_secret="s") for n in range(450)
    )
    settings.DCR_ENCRYPTION_KEYS = [NEW, OLD]
    with connection.execute_wrapper(count):
        assert ClientRegistration.objects.rotate_keys() == Rotation(rotated=450)
    assert (statements["SELECT", False], statements["UPDATE", True]) == (4, 3)
    assert statements["UPDATE", False] == 0
    assert ClientRegistration.objects.rotate_keys(check=True) == Rotation(current=450)


def test_a_check_of_the_keys_writes_nothing(settings: Any) -> None:
    row = make_registration()
    before = ciphertext(row)
    settings.DCR_ENCRYPTION_KEYS = [NEW, OLD]
    assert ClientRegistration.objects.rotate_keys(check=True) == Rotation(rotated=2)
    assert ciphertext(row) == before


def test_what_no_key_opens_is_named_and_left_as_it_is(settings: Any) -> None:
    row = make_registration()
    settings.DCR_ENCRYPTION_KEYS = [LOST]
    row.registration_access_token = "t2"
    row.save()
    before = ciphertext(row), ciphertext(row, "registration_access_token")
    settings.DCR_ENCRYPTION_KEYS = [NEW, OLD]
    found = ClientRegistration.objects.rotate_keys()
    assert found == Rotation(rotated=1, unreadable=[(row.pk, "registration_access_token")])
    assert ciphertext(row) != before[0]
    assert ciphertext(row, "registration_access_token") == before[1]


def test_a_secret_that_changed_meanwhile_wins_over_the_rotation(settings: Any) -> None:
    """Fault L19: compare and set."""
    row = make_registration()
    settings.DCR_ENCRYPTION_KEYS = [NEW, OLD]

    def change(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and not changes:
            changes.append(sql)
            ClientRegistration.objects.update(client_secret="s2")
        return execute(sql, params, many, context)

    changes: list[str] = []
    with connection.execute_wrapper(change):
        ClientRegistration.objects.rotate_keys()
    assert changes
    assert loaded(row).client_secret.reveal() == "s2"
    assert loaded(row).registration_access_token.is_current


def test_a_rotation_keeps_to_the_rows_it_is_asked_for(settings: Any) -> None:
    row = make_registration()
    other = make_registration(server=row.server, owner="another", client_id="c2")
    settings.DCR_ENCRYPTION_KEYS = [NEW, OLD]
    ClientRegistration.objects.filter(pk=row.pk).rotate_keys()
    assert loaded(row).client_secret.is_current
    assert not loaded(other).client_secret.is_current


# --- DigestField -------------------------------------------------------------------------------


def test_a_digest_is_of_the_parts_and_of_how_they_are_cut() -> None:
    # Stored digests must stay findable, so this is for ever.
    known = hashlib.sha256(b"18,3\0https://as.examplebob").hexdigest()
    assert digest("https://as.example", "bob") == known
    parts = [("a", "bc"), ("ab", "c"), ("abc", ""), ("abc",), ("a", "b", "c"), ("A", "bc"), ()]
    assert len({digest(*each) for each in parts}) == len(parts)


def test_a_digest_is_saved_with_the_row() -> None:
    """Faults 104 and L25: exact, and short however long the texts are."""
    server = make_server(issuer="https://as.example/" + "a" * 2000)
    row = make_registration(server=server, owner="b" * 2000, client_id="c" * 2000)
    found = loaded(row)
    assert server.issuer_digest == digest(server.issuer)
    assert found.key_digest == row.key_digest == digest(server.issuer, row.owner)
    assert found.client_digest == digest(server.issuer, row.client_id)


def test_there_is_no_digest_of_nothing() -> None:
    assert make_draft().client_digest is None


def test_a_digest_field_is_reconstructed_by_migrations() -> None:
    field = ClientRegistration._meta.get_field("key_digest")
    _name, path, args, kwargs = field.deconstruct()
    assert path == "django_dcr.fields.DigestField"
    twin = DigestField(*args, **kwargs)
    assert (twin.source, twin.max_length, twin.editable) == ("_key_parts", 64, False)
