"""Client keys: made, rotated, chosen for a signature, and what becomes of bad ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.fernet import Fernet
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_dcr.exceptions import ConflictError, DecryptionError, NotAllowedError, UnsupportedError
from django_dcr.models import ClientKey, ClientRegistration, clientkey
from django_dcr.models.clientkey import DUE_BEFORE, LIFETIME, PUBLISHED_AFTER, PUBLISHED_BEFORE
from django_dcr.services import rotate_client_key
from tests.clocks import Clock
from tests.factories import GRANTED, ISSUER, in_threads, make_registration, make_server

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

SIGNED = {**GRANTED, "token_endpoint_auth_method": "private_key_jwt"}


def age(key: ClientKey, by: timedelta) -> None:
    """Let time pass for a key, as if it had been made earlier."""
    for name in ("created_at", "signs_from", "signs_until", "published_until"):
        setattr(key, name, getattr(key, name) - by)
    key.save()


def signing(metadata: dict[str, Any] | None = None, **values: Any) -> ClientRegistration:
    """A registration whose client signs."""
    values = {"client_secret": None, **values}
    return make_registration(metadata={**SIGNED, **(metadata or {})}, **values)


def header_of(registration: ClientRegistration) -> dict[str, Any]:
    headers, form = registration.client_authentication()
    assert headers == {}
    return jwt.get_unverified_header(form["client_assertion"])


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    clientkey.forget_keys()
    yield
    clientkey.forget_keys()


# --- rotation -----------------------------------------------------------------------------------


def test_the_first_key_signs_at_once() -> None:
    key = rotate_client_key()
    assert (key.owner, key.algorithm, key.state, key.number) == ("", "ES256", "signing", 1)
    assert key.signs_until - key.signs_from == LIFETIME
    assert key.published_until - key.signs_until == PUBLISHED_AFTER


def test_nothing_is_made_while_nothing_is_due() -> None:
    key = rotate_client_key()
    age(key, LIFETIME - DUE_BEFORE - timedelta(minutes=1))
    assert rotate_client_key() == key
    assert ClientKey.objects.count() == 1


def test_the_next_key_takes_over_when_the_last_one_ends() -> None:
    """R-184: published before it signs, and the old one after."""
    last = rotate_client_key()
    age(last, LIFETIME - DUE_BEFORE)
    following = rotate_client_key()
    assert (following.number, following.state) == (2, "next")
    assert following.kid != last.kid
    assert following.signs_from == last.signs_until
    assert following.signs_from - timezone.now() > PUBLISHED_BEFORE
    assert rotate_client_key() == following
    assert [*ClientKey.objects.published()] == [last, following]


def test_a_rotation_that_comes_late_leaves_servers_a_day() -> None:
    """R-184: the old key signs on, past its date."""
    last = rotate_client_key()
    age(last, LIFETIME + timedelta(days=3))
    assert last.state == "published"
    following = rotate_client_key()
    last.refresh_from_db()
    assert last.signs_until == following.signs_from
    assert abs(following.signs_from - timezone.now() - PUBLISHED_BEFORE) < timedelta(minutes=1)
    assert header_of(signing())["kid"] == last.kid


def test_a_forced_rotation_makes_one_key_before_it_is_due() -> None:
    last = rotate_client_key()
    following = rotate_client_key(force=True)
    assert following.state == "next"
    assert rotate_client_key(force=True) == following
    last.refresh_from_db()
    assert last.signs_until == following.signs_from
    assert last.published_until == following.signs_from + PUBLISHED_AFTER


def test_a_key_retires_when_it_is_published_no_more() -> None:
    key = rotate_client_key()
    age(key, LIFETIME + PUBLISHED_AFTER)
    assert key.state == "retired"
    assert not ClientKey.objects.published().exists()


def test_each_owner_and_algorithm_has_keys_of_its_own() -> None:
    kinds = [("", "ES256"), ("", "RS256"), ("a", "ES256"), ("A", "ES256"), ("a ", "ES256")]
    made = [rotate_client_key(owner, algorithm=algorithm) for owner, algorithm in kinds]
    assert [(key.owner, key.algorithm, key.number) for key in made] == [(*k, 1) for k in kinds]
    assert [*ClientKey.objects.of("a")] == [made[2]]


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RSA-OAEP", ""])
def test_no_key_is_made_for_what_it_cannot_sign(algorithm: str) -> None:
    with pytest.raises(NotAllowedError, match="Choose one of ES256"):
        rotate_client_key(algorithm=algorithm)
    assert not ClientKey.objects.exists()


@pytest.mark.parametrize("force", [False, True])
def test_of_many_processes_one_makes_the_next_key(database_file: Any, force: bool) -> None:
    age(rotate_client_key(), timedelta() if force else LIFETIME)
    made = in_threads(*[partial(rotate_client_key, force=force)] * 6)
    assert len({key.pk for key in made}) == 1
    assert ClientKey.objects.count() == 2


def test_of_many_processes_one_makes_the_first_key(database_file: Any) -> None:
    assert len({key.pk for key in in_threads(*[rotate_client_key] * 6)}) == 1


def test_a_key_that_another_process_made_and_nobody_here_can_see_is_a_conflict() -> None:
    """As in a transaction that began before: tried a few times, and not for ever."""
    inserts: list[str] = []

    def taken(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("INSERT"):
            inserts.append(sql)
            raise IntegrityError("UNIQUE constraint failed")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(taken), pytest.raises(ConflictError, match="Try again"):
        rotate_client_key()
    assert len(inserts) == 3


# --- which key signs ----------------------------------------------------------------------------


def test_a_client_signs_with_the_sites_key() -> None:
    """R-183."""
    key = rotate_client_key()
    header = {"alg": "ES256", "kid": key.kid, "typ": "client-authentication+jwt"}
    assert header_of(signing()) == header


@pytest.mark.parametrize(
    ("registered", "listed", "algorithm"),
    [
        (None, None, "ES256"),
        ("RS256", ["ES256", "RS256"], "RS256"),
        ("RS256", None, "RS256"),
        (None, ["RS256", "EdDSA"], "EdDSA"),
        (None, ["RS256"], "RS256"),
    ],
    ids=["anything", "registered", "registered only", "preferred of the list", "listed"],
)
def test_the_algorithm_is_the_registered_one_or_of_the_servers_list(
    registered: str | None, listed: list[str] | None, algorithm: str
) -> None:
    """R-183."""
    made = {name: rotate_client_key(algorithm=name) for name in ("RS256", "EdDSA", "ES256")}
    offer = {"token_endpoint_auth_signing_alg_values_supported": listed} if listed else {}
    stated = {"token_endpoint_auth_signing_alg": registered} if registered else {}
    row = signing(stated, server=make_server(metadata={"issuer": ISSUER, **offer}))
    header = header_of(row)
    assert (header["alg"], header["kid"]) == (algorithm, made[algorithm].kid)


def test_the_first_key_of_another_kind_waits_until_servers_know_it() -> None:
    """R-184: where a client may sign by either."""
    old = rotate_client_key(algorithm="RS256")
    age(old, PUBLISHED_BEFORE)
    new, row = rotate_client_key(), signing()
    assert header_of(row)["kid"] == old.kid
    age(new, PUBLISHED_BEFORE)
    assert header_of(row)["kid"] == new.kid


def test_a_client_signs_with_a_key_of_the_set_that_was_sent() -> None:
    """R-184: a server that holds the keys themselves knows no newer one."""
    old = rotate_client_key()
    row = signing({"jwks": {"keys": [old.public_key]}})
    age(old, LIFETIME + PUBLISHED_AFTER)
    new = rotate_client_key()
    age(new, PUBLISHED_BEFORE)
    assert header_of(row)["kid"] == old.kid
    row.metadata["jwks"]["keys"].append(new.public_key)
    assert header_of(row)["kid"] == new.kid


def test_a_server_may_echo_the_keys_in_its_own_way() -> None:
    """Without ids, and beside the address that it has fetched them from."""
    old = rotate_client_key()
    bare = {name: old.public_key[name] for name in ("kty", "crv", "x", "y")}
    row = signing({"jwks": {"keys": [{"kty": "RSA", "n": "a"}, {**bare, "kid": None}]}})
    assert header_of(row)["kid"] == old.kid
    age(old, LIFETIME - DUE_BEFORE)
    new = rotate_client_key()
    age(new, LIFETIME - DUE_BEFORE)
    row.metadata["jwks_uri"] = "https://site.example/oauth/jwks.json"
    assert header_of(row)["kid"] == new.kid


def test_an_owners_keys_are_its_own() -> None:
    """Where the server was told of them: another set of keys would be refused."""
    site, own = rotate_client_key(), rotate_client_key("o")
    address = f"https://site.example/jwks/{own.owner_digest}.json"
    server = make_server()
    told = signing({"jwks_uri": address}, server=server, owner="o")
    untold = signing({"jwks_uri": "https://site.example/jwks.json"}, client_id="c2", server=server)
    untold.owner = "o"
    silent = signing(client_id="c3", server=server, owner="p")
    silent.owner = "o"
    assert [header_of(row)["kid"] for row in (told, untold, silent)] == [
        own.kid, site.kid, own.kid,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, r"no key for that\. Make one: manage\.py dcr_client_keys --rotate --algorithm ES256"),
        ({"token_endpoint_auth_signing_alg": "RS384"}, "--algorithm RS384"),
        ({"token_endpoint_auth_signing_alg": "HS256"}, "sign by HS256, for which this app"),
        ({"token_endpoint_auth_signing_alg": "none"}, "sign by none, for which this app"),
        ({"jwks": {"keys": [{"kty": "EC", "kid": "x"}]}}, "manage.py dcr_update"),
        ({"jwks": {"keys": [7, {"kid": []}, {}]}}, "manage.py dcr_update"),
        ({"jwks": {"keys": "x"}}, "manage.py dcr_update"),
    ],
    ids=[
        "no keys",
        "another algorithm",
        "HS256",
        "none",
        "others in jwks",
        "no keys in jwks",
        "no list in jwks",
    ],
)
def test_a_client_without_a_key_is_told_what_to_do(metadata: Any, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        signing(metadata).client_authentication()


def test_a_key_that_does_not_sign_yet_does_not_sign() -> None:
    age(rotate_client_key(), -timedelta(hours=1))
    with pytest.raises(UnsupportedError, match="no key for that"):
        signing().client_authentication()


@pytest.mark.parametrize(
    ("private", "reason"),
    [("{}", "is of the wrong type or size for ES256"), ("?", "cannot be read")],
)
def test_a_stored_value_that_is_no_key_is_named(private: str, reason: str) -> None:
    key = rotate_client_key()
    key.private_key = private
    key.save()
    with pytest.raises(UnsupportedError, match=f"{reason}, so nothing was signed"):
        signing().client_authentication()


def test_a_lost_encryption_key_stops_signing_and_nothing_else(settings: Settings) -> None:
    key, row = rotate_client_key(), signing()
    row.client_authentication()
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(DecryptionError):
        row.client_authentication()
    assert [*ClientKey.objects.published()] == [key]
    assert rotate_client_key() == key


# --- what is signed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "audience", "expected"),
    [
        ({}, None, ISSUER),
        ({"assertion_audience": "token_endpoint"}, None, "https://as.example/token"),
        ({}, "https://as.example/par", "https://as.example/par"),
        ({"assertion_audience": "token_endpoint"}, "https://as.example/x", "https://as.example/x"),
    ],
    ids=["issuer", "token endpoint", "another", "another than the endpoint"],
)
def test_the_audience_is_one_text_and_the_servers_row_says_which(
    server: Any, audience: str | None, expected: str
) -> None:
    """R-182."""
    key = rotate_client_key()
    metadata = {"issuer": ISSUER, "token_endpoint": "https://as.example/token"}
    row = signing(server=make_server(metadata=metadata, **server))
    _headers, form = row.client_authentication(audience)
    public = jwt.PyJWK(key.public_key)
    claims = jwt.decode(form["client_assertion"], public, audience=expected)
    assert claims["aud"] == expected


@pytest.mark.parametrize(("typ", "expected"), [("JWT", "JWT"), ("", None)])
def test_the_type_is_what_the_servers_row_says(typ: str, expected: str | None) -> None:
    """R-182."""
    rotate_client_key()
    assert header_of(signing(server=make_server(assertion_typ=typ))).get("typ") == expected


def test_a_server_without_the_endpoint_that_is_to_be_addressed_is_named() -> None:
    rotate_client_key()
    row = signing(server=make_server(assertion_audience="token_endpoint"))
    with pytest.raises(UnsupportedError, match="no token_endpoint"):
        row.client_authentication()


def test_a_secret_signs_for_client_secret_jwt() -> None:
    """R-186."""
    secret = "a secret that is as long as it should be"
    method = {"token_endpoint_auth_method": "client_secret_jwt"}
    row = signing(method, client_secret=secret)
    _headers, form = row.client_authentication()
    assert jwt.decode(form["client_assertion"], secret, ["HS256"], audience=ISSUER)["sub"] == "c1"
    row.metadata["token_endpoint_auth_signing_alg"] = "HS384"
    assert header_of(row)["alg"] == "HS384"


def test_client_secret_jwt_needs_a_secret() -> None:
    row = signing({"token_endpoint_auth_method": "client_secret_jwt"})
    with pytest.raises(UnsupportedError, match="client_secret_jwt needs a client secret"):
        row.client_authentication()


# --- costs --------------------------------------------------------------------------------------


def queries(row: ClientRegistration) -> int:
    with CaptureQueriesContext(connection) as captured:
        row.client_authentication()
    return len(captured)


def test_a_signature_costs_one_query_a_minute(
    database_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(clientkey, "time", clock)
    rotate_client_key()
    row = signing()
    assert [queries(row), queries(row)] == [1, 0]
    clock.now += 60
    assert [queries(row), queries(row)] == [1, 0]
    rotate_client_key(force=True)
    assert [queries(row), queries(row)] == [1, 0]
    ClientKey.objects.last().delete()  # type: ignore[union-attr]
    assert [queries(row), queries(row)] == [1, 0]


def test_what_a_transaction_sees_is_not_remembered(database_file: Any) -> None:
    row = signing()
    with transaction.atomic():
        key = rotate_client_key()
        assert header_of(row)["kid"] == key.kid
        transaction.set_rollback(True)
    with pytest.raises(UnsupportedError, match="no key"):
        row.client_authentication()


def test_only_so_many_owners_are_remembered(
    database_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clientkey, "_MAX_OWNERS", 2)
    rotate_client_key()
    for owner in "abc":
        clientkey.remembered_keys(owner)
    assert [place[2] for place in clientkey._known] == ["c"]
