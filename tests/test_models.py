from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.db.models import ProtectedError
from django.utils.timezone import now

from django_dcr.exceptions import (
    DecryptionError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    NotStoredError,
    UnsupportedError,
)
from django_dcr.fields import digest
from django_dcr.models import (
    AuthorizationServer,
    ClientRegistration,
    InDoubtError,
    Status,
    live_registration,
)
from django_dcr.models.leases import DatabaseNow
from django_dcr.protocol import client_information
from tests.factories import (
    CALLBACK,
    GRANTED,
    ISSUER,
    WISHES,
    in_threads,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
    stored,
)
from tests.factories import client_information as answer

pytestmark = pytest.mark.django_db


# --- the server: who may be asked --------------------------------------------------------------


def test_the_row_of_an_issuer_is_made_once_and_found_again() -> None:
    server = AuthorizationServer.objects.for_issuer(ISSUER)
    assert (server.issuer, server.enabled, server.metadata) == (ISSUER, True, {})
    assert AuthorizationServer.objects.for_issuer(ISSUER) == server
    assert AuthorizationServer.objects.count() == 1


@pytest.mark.parametrize(
    "other",
    [
        "https://as.example/tenant/",
        "https://as.example/Tenant",
        "https://AS.example/tenant",
        "https://as.example:443/tenant",
        "https://as.example/tenant2",
        "https://as.example",
    ],
)
def test_issuers_are_compared_exactly(other: str) -> None:
    """R-006, B23, faults 72 to 77: the issuer is kept byte for byte."""
    server = AuthorizationServer.objects.for_issuer(ISSUER)
    another = AuthorizationServer.objects.for_issuer(other)
    assert another != server
    assert another.issuer == other


def test_the_scheme_belongs_to_the_issuer(settings: Any) -> None:
    """B23."""
    settings.DCR_INTERNAL_ORIGINS = ["http://as.example"]
    rows = {AuthorizationServer.objects.for_issuer(f"{s}://as.example") for s in ("http", "https")}
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("issuer", "reason"),
    [
        pytest.param("", "is not a URL", id="empty"),
        pytest.param("as.example", "is not an absolute", id="no scheme"),
        pytest.param("http://as.example", "is not https", id="http"),
        pytest.param("https://as.example?x", "has a query", id="query"),
        pytest.param("https://as.example#x", "has a fragment", id="fragment"),
        pytest.param("https://me:pw@as.example", "has a user name", id="userinfo"),
        pytest.param("https://as.example/{tenant}", "is a template", id="template"),
        pytest.param("https://as.example\ud800", "is not an absolute", id="surrogate"),
    ],
)
def test_what_is_no_issuer_is_refused_and_not_stored(issuer: str, reason: str) -> None:
    """R-007, fault 75."""
    with pytest.raises(NotAllowedError, match=reason) as caught:
        AuthorizationServer.objects.for_issuer(issuer)
    assert "pw" not in str(caught.value)
    assert not AuthorizationServer.objects.exists()
    with pytest.raises(ValidationError, match=reason):
        AuthorizationServer(issuer=issuer).full_clean()


def test_an_issuer_without_tls_may_be_allowed(settings: Any) -> None:
    """R-007, fault 37."""
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]
    assert AuthorizationServer.objects.for_issuer("http://127.0.0.1:8000/o").pk


def test_only_listed_issuers_may_be_used(settings: Any) -> None:
    settings.DCR_ALLOWED_ISSUERS = [ISSUER]
    AuthorizationServer.objects.for_issuer(ISSUER).check_allowed()
    with pytest.raises(NotAllowedError, match="is not in DCR_ALLOWED_ISSUERS") as caught:
        AuthorizationServer.objects.for_issuer(ISSUER + "/")
    assert caught.value.issuer == ISSUER + "/"
    assert AuthorizationServer.objects.count() == 1


def test_a_server_may_lose_its_allowance(settings: Any) -> None:
    server = make_server()
    server.check_allowed()
    settings.DCR_ALLOWED_ISSUERS = ["https://other.example"]
    with pytest.raises(NotAllowedError, match="is not in DCR_ALLOWED_ISSUERS"):
        server.check_allowed()
    settings.DCR_ALLOWED_ISSUERS = []
    server.enabled = False
    with pytest.raises(NotAllowedError, match="is disabled") as caught:
        server.check_allowed()
    assert caught.value.issuer == ISSUER


# --- the server: the row is the cache ----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "fresh"),
    [
        ({}, True),
        ({"fresh_until": None}, False),
        ({"fresh_until": datetime(2020, 1, 1, tzinfo=timezone.utc)}, False),
        ({"metadata": {}}, False),
        ({"metadata": server_metadata(issuer=ISSUER + "/")}, False),
        ({"issuer": ISSUER + "2"}, False),
    ],
    ids=["fresh", "never fetched", "too old", "none", "of another issuer", "issuer edited"],
)
def test_metadata_is_fresh_for_its_time_and_its_issuer_only(
    changes: dict[str, Any], fresh: bool
) -> None:
    """Fault 82: also what is in the cache must be of this issuer."""
    assert make_server(**changes).is_fresh is fresh


def test_metadata_is_stored_with_its_lifetime() -> None:
    server = AuthorizationServer(issuer=ISSUER, last_error="x")
    server.store(server_metadata(), url="https://as.example/x", etag='"1"', lifetime=60)
    server.refresh_from_db()
    assert server.metadata == server_metadata()
    assert (server.metadata_url, server.etag, server.last_error) == (
        "https://as.example/x",
        '"1"',
        "",
    )
    assert server.is_fresh
    assert server.fresh_until - server.fetched_at == timedelta(seconds=60)


def test_a_failed_refresh_is_recorded_and_keeps_the_document() -> None:
    server = make_server(fresh_until=None)
    server.name = "not saved"
    server.fail(NetworkError("no answer"), silent=True)
    server.refresh_from_db()
    assert (server.last_error, server.metadata, server.name) == ("no answer", server_metadata(), "")
    assert server.may_serve_stale
    server.fail(InvalidResponseError("an impostor"), silent=False, distrusted=True)
    assert not server.may_serve_stale


@pytest.mark.parametrize(
    ("announced", "expected"),
    [
        ({}, False),
        ({"code_challenge_methods_supported": ["S256"]}, True),
        ({"code_challenge_methods_supported": ["plain"]}, False),
        ({"code_challenge_methods_supported": "S256"}, False),
        ({"code_challenge_methods_supported": "nonS256"}, False),
        ({"code_challenge_methods_supported": None}, False),
    ],
    ids=str,
)
def test_pkce_is_supported_where_it_is_announced(announced: Any, expected: bool) -> None:
    """R-012, R-139, fault 99: a substring is no member."""
    server = AuthorizationServer(metadata=server_metadata(**announced))
    assert server.supports_pkce is expected


# --- the server: what a person may enter -------------------------------------------------------


def test_a_sound_server_is_clean() -> None:
    make_server(trusted_origins=["https://register.example", "https://[::1]:8443"]).full_clean()


def test_an_issuer_is_listed_once() -> None:
    make_server()
    with pytest.raises(ValidationError, match="is already listed"):
        AuthorizationServer(issuer=ISSUER).full_clean()


@pytest.mark.parametrize(
    "origins",
    [
        ["https://register.example/"],
        ["https://register.example/path"],
        ["HTTPS://register.example"],
        ["https://register.example:443"],
        ["register.example"],
        ["*"],
        [7],
        "https://register.example",
        {"https://register.example": 1},
    ],
    ids=repr,
)
def test_a_trusted_origin_is_written_as_one(origins: object) -> None:
    with pytest.raises(ValidationError, match="Write a list of origins"):
        AuthorizationServer(issuer=ISSUER, trusted_origins=origins).full_clean()


@pytest.mark.parametrize(
    ("defaults", "reason"),
    [
        ({"client_secret": "mine"}, "is assigned by the server"),
        ({"grant_types": ["password"]}, "must not contain password"),
        (["scope"], "one JSON object"),
    ],
    ids=["assigned", "password", "list"],
)
def test_defaults_that_may_not_be_sent_are_refused(defaults: object, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as caught:
        make_server(client_metadata=defaults).full_clean()
    assert "client_metadata" in caught.value.message_dict


def test_an_issuer_that_is_allowed_no_more_does_not_bar_the_other_columns(settings: Any) -> None:
    server = make_server()
    settings.DCR_ALLOWED_ISSUERS = ["https://other.example"]
    server.full_clean()
    server.issuer += "2"
    with pytest.raises(ValidationError, match="is not in DCR_ALLOWED_ISSUERS"):
        server.full_clean()


def test_a_server_is_called_by_its_name_or_its_issuer() -> None:
    assert str(AuthorizationServer(issuer=ISSUER)) == ISSUER
    assert str(AuthorizationServer(issuer=ISSUER, name="Bank")) == "Bank"


def test_a_server_with_registrations_is_not_deleted() -> None:
    row = make_registration()
    with pytest.raises(ProtectedError):
        row.server.delete()


# --- the registration: keys --------------------------------------------------------------------


def test_a_key_has_one_live_row_and_any_number_of_past_ones() -> None:
    """Promise 1, B9: retired rows do not block."""
    row = make_registration()
    for client_id in ("c2", "c3"):
        make_registration(server=row.server, live=None, client_id=client_id, status="revoked")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_draft(server=row.server)
    rows = ClientRegistration.objects.for_key(ISSUER)
    assert rows.count() == 3
    assert rows.live().get() == row


@pytest.mark.parametrize("owner", ["bob", "Bob", "bob ", "bób", "店"], ids=ascii)
def test_owners_are_compared_exactly(owner: str) -> None:
    row = make_registration(owner="someone")
    make_registration(server=row.server, owner=owner, client_id="c2")
    assert ClientRegistration.objects.for_key(ISSUER, owner).get().owner == owner


def test_client_ids_that_differ_in_case_are_two_clients() -> None:
    """Fault 104."""
    row = make_registration(client_id="abc")
    other = make_registration(server=row.server, owner="another", client_id="ABC")
    assert not row.has_duplicate("ABC" + "x")
    assert row.has_duplicate("ABC")
    assert not other.has_duplicate("ABC")


def test_a_client_belongs_to_one_live_row() -> None:
    row = make_registration()
    with pytest.raises(IntegrityError), transaction.atomic():
        make_registration(server=row.server, owner="another")
    make_registration(server=row.server, owner="another", live=None)
    elsewhere = make_server(issuer="https://other.example")
    make_registration(server=elsewhere)


def test_long_texts_are_stored_and_found() -> None:
    """B8, faults 102 and L25."""
    server = make_server(issuer="https://as.example/" + "a" * 2000)
    row = make_registration(
        server=server,
        owner="o" * 2000,
        client_id="c" * 16_000,
        client_secret="s" * 100_000,
        registration_client_uri="https://as.example/" + "u" * 8000,
    )
    found = ClientRegistration.objects.for_key(server.issuer, "o" * 2000).get()
    assert found.client_id == row.client_id
    assert found.client_secret.reveal() == "s" * 100_000


def test_a_registration_is_called_by_owner_and_server() -> None:
    row = make_registration(client_secret="the secret")
    assert str(row) == f"this site at {ISSUER}"
    row.owner = "bob"
    assert str(row) == f"bob at {ISSUER}"
    assert "the secret" not in repr(row)


# --- the registration: what a person may enter -------------------------------------------------


def test_a_sound_registration_is_clean() -> None:
    make_registration(owner="bób").full_clean()


@pytest.mark.parametrize("owner", ["a\0b", "a\ud800b"], ids=ascii)
def test_an_owner_is_text_that_every_database_stores(owner: str) -> None:
    row = ClientRegistration(server=make_server(), requested_metadata=WISHES, owner=owner)
    with pytest.raises(ValidationError, match="are not allowed in an owner") as caught:
        row.full_clean()
    assert "owner" in caught.value.message_dict


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ({}, "needs redirect_uris"),
        ({**WISHES, "client_secret": "mine"}, "is assigned by the server"),
        (["redirect_uris"], "one JSON object"),
        ("redirect_uris", "one JSON object"),
        ({**WISHES, "grant_types": ["password"]}, "must not contain password"),
    ],
    ids=["none", "secret", "list", "text", "password"],
)
def test_metadata_that_may_not_be_sent_is_refused(wishes: object, reason: str) -> None:
    """R-065, R-140."""
    row = ClientRegistration(server=make_server(), requested_metadata=wishes)
    with pytest.raises(ValidationError, match=reason) as caught:
        row.full_clean()
    assert "requested_metadata" in caught.value.message_dict


def test_a_registration_without_a_server_is_told_that_alone() -> None:
    with pytest.raises(ValidationError) as caught:
        ClientRegistration(requested_metadata=WISHES).full_clean()
    assert caught.value.message_dict.keys() == {"server"}


def test_an_owner_is_entered_once_for_each_server() -> None:
    row = make_registration()
    with pytest.raises(ValidationError, match="already has a registration"):
        ClientRegistration(server=row.server, requested_metadata=WISHES).full_clean()
    row.full_clean()
    ClientRegistration(server=row.server, requested_metadata=WISHES, owner="another").full_clean()
    ClientRegistration(server=row.server, requested_metadata=WISHES, live=None).full_clean()


# --- the registration: what it says ------------------------------------------------------------


def test_asked_is_the_sites_then_the_servers_then_its_own(settings: Any) -> None:
    settings.DCR_CLIENT_METADATA = {
        "client_name": "{owner} at the shop",
        "client_name#fr": "{owner}, la boutique",
        "scope": "site",
        "tos_uri": "https://site.example/tos",
    }
    server = make_server(client_metadata={"scope": "server", "contacts": ["a@site.example"]})
    row = ClientRegistration(
        server=server,
        owner="bob",
        requested_metadata={"redirect_uris": [CALLBACK], "scope": "row", "tos_uri": None},
    )
    assert row.requested == {
        "client_name": "bob at the shop",
        "client_name#fr": "bob, la boutique",
        "scope": "row",
        "contacts": ["a@site.example"],
        "redirect_uris": [CALLBACK],
    }


def test_drift_is_what_was_asked_and_not_granted() -> None:
    """R-102."""
    row = make_registration(metadata={**GRANTED, "client_name": "Else", "scope": "admin"})
    assert row.drift == {"client_name": {"asked": "Shop", "granted": "Else"}}
    assert make_draft(server=row.server, owner="another").drift == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"registration_client_uri": ""}, False),
        ({"registration_access_token": None}, False),
    ],
    ids=["both", "no URI", "no token"],
)
def test_both_uri_and_token_are_needed_to_manage_a_client(changes: Any, expected: bool) -> None:
    """R-125, fault 115."""
    assert make_registration(**changes).is_manageable is expected


def test_a_registration_belongs_to_the_issuer_it_was_made_at() -> None:
    """Fault L31."""
    row = make_registration()
    assert stored(row).belongs_to_server
    row.server.issuer = "https://evil.example"
    row.server.save()
    assert not stored(row).belongs_to_server


def in_seconds(moment: datetime) -> int:
    return int(moment.timestamp())


@pytest.mark.parametrize(
    ("delay", "expired"),
    [
        pytest.param(None, False, id="unknown"),
        pytest.param(timedelta(seconds=-1), True, id="just now"),
        pytest.param(timedelta(seconds=30), True, id="in half a minute"),
        pytest.param(timedelta(seconds=90), False, id="in a minute and a half"),
        pytest.param(timedelta(days=3650), False, id="in ten years"),
    ],
)
def test_a_secret_expires_at_its_second(delay: timedelta | None, expired: bool) -> None:
    """B12, B15, R-071: seconds, never milliseconds, and a minute of margin."""
    moment = None if delay is None else now().replace(microsecond=0) + delay
    row = make_registration(client_secret_expires_at=moment and in_seconds(moment))
    assert stored(row).secret_expiry == moment
    assert stored(row).secret_has_expired is expired


def test_zero_is_never_and_not_1970() -> None:
    """B11, B14."""
    row = make_registration(client_secret_expires_at=0)
    assert row.secret_expiry is None
    assert not row.secret_has_expired
    row.client_secret_expires_at = 1
    assert row.secret_expiry == datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc)
    assert row.secret_has_expired


@pytest.mark.parametrize("offset", [10**11, 10**11 - 1])
def test_the_latest_expiry_that_is_stored_can_be_told(offset: int) -> None:
    """Fault 111: a time far in the future is no crash."""
    row = make_registration(client_secret_expires_at=offset)
    assert row.secret_expiry.year == 5138
    assert not row.secret_has_expired


def test_expiring_are_active_clients_whose_secret_ends_before_a_moment() -> None:
    server = make_server()
    soon, late = in_seconds(now() + timedelta(days=1)), in_seconds(now() + timedelta(days=9))
    for number, (expires, status, live) in enumerate(
        [
            (soon, "active", True),
            (1, "active", True),
            (late, "active", True),
            (0, "active", True),
            (None, "active", True),
            (soon, "revoked", None),
            (soon, "unknown", True),
            (soon, "active", None),
        ]
    ):
        make_registration(
            server=server,
            owner=str(number),
            client_id=str(number),
            client_secret_expires_at=expires,
            status=status,
            live=live,
        )
    rows = ClientRegistration.objects.expiring(now() + timedelta(days=7))
    assert sorted(rows.values_list("owner", flat=True)) == ["0", "1"]


# --- the registration: authentication ----------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "parameters"),
    [
        ({}, {}),
        ({"token_endpoint_auth_method": "client_secret_basic"}, {}),
        (
            {"token_endpoint_auth_method": "client_secret_post"},
            {"client_id": "c1", "client_secret": "s1"},
        ),
        ({"token_endpoint_auth_method": "none"}, {"client_id": "c1"}),
    ],
    ids=["default", "basic", "post", "none"],
)
def test_a_client_authenticates_by_the_registered_method(metadata: Any, parameters: Any) -> None:
    """R-081, R-136, B24."""
    row = make_registration(
        requested_metadata={**WISHES, "token_endpoint_auth_method": "client_secret_post"},
        metadata=metadata,
    )
    headers, form = row.client_authentication()
    assert form == parameters
    assert headers == ({} if parameters else {"Authorization": "Basic YzE6czE="})


def test_a_client_without_a_secret_cannot_authenticate_with_one() -> None:
    with pytest.raises(UnsupportedError, match="needs a client secret"):
        make_registration(client_secret=None).client_authentication()


def test_a_secret_without_its_key_cannot_authenticate(settings: Any) -> None:
    row = make_registration()
    settings.DCR_ENCRYPTION_KEYS = ["A" * 43 + "="]
    with pytest.raises(DecryptionError):
        row.client_authentication()


# --- the registration: changes of state --------------------------------------------------------


def information(**changes: Any) -> Any:
    return client_information(answer(**changes))


def test_absent_credentials_never_replace_stored_ones() -> None:
    """R-095, promise 2."""
    row = make_registration(client_secret_expires_at=5)
    before = row.client_secret, row.registration_access_token
    absent = dict.fromkeys(
        [
            "client_secret",
            "client_secret_expires_at",
            "registration_access_token",
            "registration_client_uri",
        ],
        ...,
    )
    assert row.store(information(**absent), metadata=GRANTED)
    row = stored(row)
    assert (row.client_secret, row.registration_access_token) == before
    assert row.client_secret_expires_at == 5
    assert row.registration_client_uri


def test_the_same_credentials_keep_their_ciphertext() -> None:
    row = make_registration()
    before = row.client_secret, row.registration_access_token
    assert row.store(information(), metadata=GRANTED)
    assert (stored(row).client_secret, stored(row).registration_access_token) == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client_secret": "s2", "client_secret_expires_at": ...}, None),
        ({"client_secret": "s2", "client_secret_expires_at": "never"}, None),
        ({"client_secret": "s2", "client_secret_expires_at": 7}, 7),
        ({"client_secret_expires_at": 7}, 7),
        ({"client_secret_expires_at": ...}, 5),
        ({"client_secret": ..., "client_secret_expires_at": 7}, 7),
    ],
    ids=[
        "new without",
        "new with nonsense",
        "new with",
        "same with",
        "same without",
        "only expiry",
    ],
)
def test_a_new_secret_does_not_inherit_the_old_lifetime(changes: Any, expected: int | None) -> None:
    """Faults 111 and 112."""
    row = make_registration(client_secret_expires_at=5)
    row.store(information(**changes), metadata=GRANTED)
    assert stored(row).client_secret_expires_at == expected


def test_credentials_whose_key_is_lost_are_replaced_by_new_ones(settings: Any) -> None:
    row = make_registration()
    settings.DCR_ENCRYPTION_KEYS = ["A" * 43 + "="]
    row = stored(row)
    row.store(information(client_secret=..., registration_access_token="t2"), metadata=GRANTED)
    assert stored(row).registration_access_token.reveal() == "t2"
    with pytest.raises(DecryptionError):
        stored(row).client_secret.reveal()


def test_credentials_alone_do_not_make_a_client_active() -> None:
    row = make_draft(status="registering")
    row.store(information(client_secret="s2"), metadata=None)
    row = stored(row)
    assert (row.status, row.metadata, row.client_secret.reveal()) == ("registering", {}, "s2")
    assert row.client_digest == digest(ISSUER, "c1")


def test_a_row_that_was_taken_over_is_not_written() -> None:
    """Fault L10: fencing."""
    row = make_registration()
    sleeper = stored(row)
    assert sleeper.claim(Status.ACTIVE)
    ClientRegistration.objects.update(lease="another", last_error="another's")
    assert not sleeper.store(information(client_secret="s2"), metadata=GRANTED)
    assert not sleeper.fail("mine", Status.GONE)
    assert not sleeper.clear()
    sleeper.release()
    row = stored(row)
    assert (row.status, row.lease, row.last_error) == ("active", "another", "another's")
    assert row.client_secret.reveal() == "s1"
    assert sleeper.client_secret.reveal() == "s1"
    assert sleeper.status == "active"


def test_a_token_that_superseded_the_stored_one_is_saved_without_the_lease() -> None:
    """Promise 2: while the row holds the superseded token, nobody got further."""
    row = make_registration()
    sleeper = stored(row)
    assert sleeper.claim(Status.ACTIVE)
    turned = sleeper.registration_access_token
    ClientRegistration.objects.update(lease="another")
    new = information(registration_access_token="t2")
    assert sleeper.store(new, metadata=GRANTED, superseded=turned)
    assert stored(row).registration_access_token.reveal() == "t2"
    assert not sleeper.store(
        information(registration_access_token="t3"), metadata=GRANTED, superseded=turned
    )
    assert stored(row).registration_access_token.reveal() == "t2"


def test_a_row_given_up_as_gone_gets_the_token_and_stays_gone() -> None:
    """Fault L10: an active row that is not live would be found by nobody."""
    row = make_registration()
    sleeper = stored(row)
    assert sleeper.claim(Status.ACTIVE)
    turned = sleeper.registration_access_token
    ClientRegistration.objects.update(lease="", lease_until=None)
    other = stored(row)
    assert other.claim(Status.ACTIVE)
    assert other.fail("401", Status.GONE)
    new = information(registration_access_token="t2")
    assert not sleeper.store(new, metadata=GRANTED, superseded=turned)
    late = stored(row)
    assert (late.status, late.live, late.client_digest) == ("gone", None, None)
    assert late.registration_access_token.reveal() == "t2"


@pytest.mark.parametrize(
    ("status", "live", "client_id"),
    [
        (None, True, "c1"),
        ("active", True, "c1"),
        ("unknown", True, "c1"),
        ("gone", None, "c1"),
        ("rejected", True, ""),
        ("draft", True, ""),
    ],
)
def test_a_failure_is_recorded_with_the_state_it_leaves(
    status: str | None, live: bool | None, client_id: str
) -> None:
    row = make_registration()
    assert row.claim(Status.ACTIVE)
    assert row.fail(NotAllowedError("the reason"), status)
    row = stored(row)
    assert (row.status, row.live, row.client_id) == (status or "active", live, client_id)
    assert (row.last_error, row.lease, row.lease_until) == ("the reason", "", None)
    assert (row.client_secret is None) is (client_id == "")
    assert (row.client_digest is None) is (client_id == "" or live is None)


def test_a_closed_row_holds_nothing_that_opens_anything() -> None:
    """R-107: the id names the tombstone."""
    row = make_registration()
    assert row.clear("closed")
    row = stored(row)
    assert (row.status, row.live, row.client_id, row.last_error) == (
        "revoked",
        None,
        "c1",
        "closed",
    )
    assert (row.client_secret, row.registration_access_token) == (None, None)
    assert (row.registration_client_uri, row.client_digest) == ("", None)


def test_a_successor_takes_the_place_of_the_row_at_once() -> None:
    row = make_registration()
    successor = make_registration(server=row.server, live=None, client_id="c2")
    assert successor.replace(row)
    assert (stored(row).live, stored(row).client_digest) == (None, None)
    assert stored(successor).live
    assert stored(successor).client_digest == digest(ISSUER, "c2")
    assert (row.live, successor.live) == (None, True)


# --- the registration: the lease ---------------------------------------------------------------


def test_only_one_can_hold_a_row() -> None:
    row = make_registration()
    first, second = stored(row), stored(row)
    assert first.claim(Status.ACTIVE)
    assert not second.claim(Status.ACTIVE)
    assert second.lease == ""
    assert (len(first.lease), first.lease) == (32, stored(row).lease)
    first.release()
    assert second.claim(Status.ACTIVE)
    assert second.lease != first.lease


def test_a_row_is_held_in_the_states_asked_for_only() -> None:
    row = make_registration()
    assert not stored(row).claim(Status.DRAFT, Status.REJECTED)
    assert stored(row).claim(Status.DRAFT, Status.ACTIVE)


def test_who_comes_again_in_vain_only_looks(django_assert_num_queries: Any) -> None:
    """It would lock what the holder is about to write."""
    row = make_registration()
    waiting = stored(row)
    assert row.claim(Status.ACTIVE)
    assert not waiting.claim(Status.ACTIVE)
    waiting.reload()
    with django_assert_num_queries(1) as queries:
        assert not waiting.claim(Status.ACTIVE)
    assert queries[0]["sql"].startswith("SELECT")


def test_a_claim_writes_its_values_and_loads_the_row_afresh() -> None:
    row = make_draft()
    changes = {"last_error": "meanwhile", "owner": "another"}
    ClientRegistration.objects.update(**changes, updated_at=now())
    row.requested_metadata = {"client_name": "the caller's wish"}
    assert row.claim(Status.DRAFT, status=Status.REGISTERING)
    assert (row.status, row.last_error) == ("registering", "meanwhile")
    assert (row.claimed_as, row.owner) == ("draft", "")
    assert row.requested_metadata == {"client_name": "the caller's wish"}
    assert stored(row).requested_metadata == WISHES
    assert stored(row).status == "registering"


@pytest.mark.parametrize("known", ["made", "loaded", "loaded in part", "saved", "held before"])
def test_a_row_that_may_have_changed_is_loaded_afresh(known: str) -> None:
    """What a sleeper, or anybody else, has stored meanwhile must not be overlooked."""
    row = make_registration()
    if known == "loaded in part":
        row = ClientRegistration.objects.defer("metadata").get()
    elif known != "made":
        row = stored(row)
    if known == "held before":
        assert row.claim(Status.ACTIVE)
        row.release()
    ClientRegistration.objects.update(registration_access_token="t2", updated_at=now())
    if known == "saved":
        row.save(update_fields=["requested_metadata", "updated_at"])
    assert row.claim(Status.ACTIVE)
    assert row.registration_access_token.reveal() == "t2"


def test_the_hosts_clocks_cannot_hide_a_write() -> None:
    """Fault L23: two writes at one moment, or the later one by a clock that is behind."""
    row = make_registration()
    ahead = now() + timedelta(days=1)
    ClientRegistration.objects.update(updated_at=ahead)
    first, second = stored(row), stored(row)
    assert first.claim(Status.ACTIVE)
    assert first.store(information(registration_access_token="t2"), metadata=GRANTED, release=True)
    assert stored(row).updated_at > ahead
    assert second.claim(Status.ACTIVE)
    assert second.registration_access_token.reveal() == "t2"


def test_a_lease_runs_out_by_the_databases_clock(settings: Any) -> None:
    """Faults L9 and L23."""
    settings.DCR_LEASE = 600
    row = make_registration()
    assert row.claim(Status.ACTIVE)
    left = ClientRegistration.objects.annotate(now=DatabaseNow()).get()
    assert timedelta(seconds=500) < left.lease_until - left.now <= timedelta(seconds=600)
    assert not stored(row).claim(Status.ACTIVE)
    ClientRegistration.objects.update(lease_until=left.now - timedelta(seconds=1))
    assert stored(row).claim(Status.ACTIVE)


def test_the_clock_of_mariadb_is_asked_for_utc() -> None:
    """Fault L23: its CURRENT_TIMESTAMP is in the zone of the session."""
    compiler = ClientRegistration.objects.all().query.get_compiler(connection.alias)
    sql, _parameters = DatabaseNow().as_mysql(compiler, connection)
    assert sql == "UTC_TIMESTAMP(6)"


def test_releasing_what_is_not_held_writes_nothing(django_assert_num_queries: Any) -> None:
    row = make_registration()
    with django_assert_num_queries(0):
        row.release()


def test_unsettled_is_what_nobody_works_on_any_more() -> None:
    server = make_server()
    past, future = now() - timedelta(minutes=1), now() + timedelta(minutes=1)
    for number, (status, until, live) in enumerate(
        [
            ("registering", None, True),
            ("registering", past, True),
            ("registering", future, True),
            ("revoking", past, None),
            ("revoking", future, True),
            ("unknown", None, True),
            ("unknown", None, None),
            ("active", past, True),
            ("draft", None, True),
            ("active", None, None),
            ("active", future, True),
            ("gone", past, None),
        ]
    ):
        make_draft(server=server, owner=str(number), status=status, lease_until=until, live=live)
    rows = ClientRegistration.objects.needs_reconciliation()
    assert sorted(map(int, rows.values_list("owner", flat=True))) == [0, 1, 3, 5, 7, 9, 11]


def test_the_client_of_a_renewal_under_way_is_not_unsettled() -> None:
    row = make_registration(lease="x", lease_until=now() + timedelta(minutes=1))
    spare = make_registration(server=row.server, client_id="c2", live=None)
    assert not ClientRegistration.objects.needs_reconciliation().exists()
    ClientRegistration.objects.filter(pk=row.pk).update(lease="", lease_until=None)
    assert ClientRegistration.objects.needs_reconciliation().get() == spare


# --- the registration: writing when the connection has died ------------------------------------


def spoil(connection: Any) -> None:
    """Let this very connection fail to write from now on, as one that the server has closed."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")


@pytest.mark.usefixtures("database_file")
def test_a_write_is_repeated_on_a_new_connection() -> None:
    """Fault L4."""
    row = make_registration()
    assert row.claim(Status.ACTIVE)
    spoil(connection)
    assert row.store(information(client_secret="s2"), metadata=GRANTED, release=True)
    assert stored(row).client_secret.reveal() == "s2"
    assert stored(row).lease == ""


@pytest.mark.usefixtures("database_file")
def test_a_write_whose_commit_was_not_confirmed_counts_if_it_happened() -> None:
    """Fault L2: the reply was lost, and the row shows that it was committed."""
    row = make_registration()
    assert row.claim(Status.ACTIVE)

    def lose_the_reply(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and not lost:
            lost.append(sql)
            context["connection"].connection.commit()
            raise OperationalError("server closed the connection unexpectedly")
        return result

    lost: list[str] = []
    with connection.execute_wrapper(lose_the_reply):
        assert row.store(information(client_secret="s2"), metadata=GRANTED, release=True)
    assert stored(row).client_secret.reveal() == "s2"
    assert row.lease == ""


@pytest.mark.usefixtures("database_file")
def test_a_write_that_fails_twice_is_an_error() -> None:
    row = make_registration()
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER broken BEFORE UPDATE ON django_dcr_clientregistration"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    with pytest.raises(IntegrityError, match="disk full"):
        row.fail("x")
    assert row.last_error == ""


@pytest.mark.usefixtures("database_file")
@pytest.mark.parametrize(
    ("happened", "can_look", "error"),
    [
        pytest.param(True, True, None, id="committed"),
        pytest.param(False, True, OperationalError, id="not committed"),
        pytest.param(False, False, InDoubtError, id="nobody can tell"),
    ],
)
def test_commits_without_reply_are_looked_after(
    happened: bool, can_look: bool, error: type[Exception] | None, settings: Any
) -> None:
    """Fault L2: both attempts to write end so."""
    settings.DCR_LEASE = 1
    row = make_registration()
    assert row.claim(Status.ACTIVE)

    def lose(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT") and not can_look:
            raise InterfaceError("connection already closed")
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and happened:
            context["connection"].connection.commit()
            raise OperationalError("server closed the connection unexpectedly")
        return result

    new = information(client_secret="s2")
    with nullcontext() if happened else unable_to_commit(), connection.execute_wrapper(lose):
        if error is None:
            assert row.store(new, metadata=GRANTED)
        else:
            with pytest.raises(NotStoredError) as caught:
                row.store(new, metadata=GRANTED)
            assert type(caught.value.__cause__) is error
    assert stored(row).client_secret.reveal() == ("s2" if happened else "s1")


@pytest.mark.usefixtures("database_file")
def test_a_write_that_cannot_even_begin_is_in_no_doubt() -> None:
    row = make_registration()

    def refuse(execute: Any, *args: Any) -> Any:
        raise OperationalError("connection refused")

    with connection.execute_wrapper(refuse), pytest.raises(OperationalError) as caught:
        row.fail("x")
    assert caught.type is OperationalError


@pytest.mark.usefixtures("database_file")
@pytest.mark.parametrize("step", ["claim", "insert", "successor", "replace", "fail"])
def test_what_the_database_gives_up_is_done_again(step: str) -> None:
    """Of two that wait for each other MariaDB ends one, and says to try again."""
    server = make_server()
    row = make_registration(server=server)
    new = make_registration(server=server, live=None, client_id="c2")
    assert step in ("claim", "insert") or row.claim(Status.ACTIVE)
    act = {
        "claim": lambda: row.claim(Status.ACTIVE),
        "insert": lambda: ClientRegistration(server=server, owner="o").insert(task="register"),
        "successor": row.successor,
        "replace": lambda: new.replace(row),
        "fail": lambda: row.fail("x"),
    }[step]
    given_up = 0

    def give_up(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal given_up
        if sql.startswith(("UPDATE", "INSERT")) and given_up < 2:
            given_up += 1
            raise OperationalError(1213, "Deadlock found when trying to get lock")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(give_up):
        assert act() is not False
    assert given_up == 2
    live = ClientRegistration.objects.live().for_key(server.issuer, row.owner).get()
    assert {
        "claim": live.lease == row.lease != "",
        "insert": ClientRegistration.objects.count() == 3,
        "successor": live.pk not in (row.pk, new.pk),
        "replace": live == new,
        "fail": live.last_error == "x",
    }[step]


@pytest.mark.usefixtures("database_file")
def test_a_claim_whose_reply_was_lost_is_known_by_its_lease() -> None:
    row = make_registration()
    lost = False

    def lose(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal lost
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and not lost:
            lost = True
            raise OperationalError("server closed the connection unexpectedly")
        return result

    with connection.execute_wrapper(lose):
        assert row.claim(Status.ACTIVE)
    assert lost
    assert stored(row).lease == row.lease != ""


@contextmanager
def unable_to_commit() -> Iterator[None]:
    """Let an open reader keep SQLite from committing what it lets begin."""
    connection.settings_dict["OPTIONS"] = {"timeout": 0, "init_command": "PRAGMA synchronous=OFF"}
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=DELETE")
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM django_dcr_clientregistration").fetchone()
        yield


def test_a_write_in_a_transaction_is_not_repeated() -> None:
    """The transaction, a test case's, would be lost with its connection."""
    row = make_registration()

    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE"):
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse), pytest.raises(OperationalError):
        row.fail("x")
    assert stored(row).last_error == ""


@pytest.mark.usefixtures("database_file")
def test_one_of_many_threads_gets_the_row() -> None:
    """Fault L8."""
    row = make_registration()
    won: list[str] = []

    def compete() -> None:
        rival = stored(row)
        barrier.wait()
        if rival.claim(Status.ACTIVE):
            won.append(rival.lease)
        connection.close()

    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [stored(row).lease]


@pytest.mark.usefixtures("database_file")
@pytest.mark.parametrize("returning", [True, False])
def test_an_insert_brings_the_primary_key(returning: bool, monkeypatch: Any) -> None:
    """MySQL has no RETURNING."""
    features = type(connection.features)
    monkeypatch.setattr(features, "can_return_columns_from_insert", returning)
    server = make_server()
    row = ClientRegistration(server=server, owner="o")
    in_threads(lambda: row.insert(task="register", status="registering"))  # on its own connection
    found = ClientRegistration.objects.get()
    assert (found.pk, found.owner, found.status) == (row.pk, "o", "registering")
    assert (row._state.adding, row._state.db) == (False, "default")
    assert found.updated_at == row.updated_at


@pytest.mark.usefixtures("database_file")
def test_each_thread_loads_a_hit_on_its_own_connection() -> None:
    registration = make_registration(owner="o")
    found = in_threads(*[lambda: live_registration(ISSUER, "o")] * 3)
    assert found == [registration] * 3


@pytest.mark.parametrize("time_zones", [True, False])
def test_one_query_loads_a_hit_as_django_loads_it(
    time_zones: bool, settings: Any, django_assert_num_queries: Any
) -> None:
    settings.USE_TZ = time_zones
    server = make_server(initial_access_token="iat", requests_per_minute=9, trusted_origins=["x"])
    server.store(server_metadata(), url="https://as.example/", etag='"e"', lifetime=60)
    row = make_registration(server=server, deviations=["odd"])
    usual = ClientRegistration.objects.select_related("server").get(pk=row.pk)
    with django_assert_num_queries(1):
        found = live_registration(ISSUER, "")
        assert found is not None
        check_same_columns(found, usual)
        check_same_columns(found.server, usual.server)
    assert found.get_deferred_fields() == {"deviations"}
    assert found.deviations == ["odd"]
    with django_assert_num_queries(1):
        check_same_columns(AuthorizationServer.objects.for_issuer(ISSUER), usual.server)


def check_same_columns(loaded: Any, usual: Any) -> None:
    fields = {field.attname for field in usual._meta.concrete_fields}
    for name in fields - loaded.get_deferred_fields():
        value, expected = getattr(loaded, name), getattr(usual, name)
        assert (value, type(value)) == (expected, type(expected)), name
    assert vars(loaded).keys() <= vars(usual).keys()
    assert (loaded._state.adding, loaded._state.db) == (False, "default")


@pytest.mark.parametrize("live", [True, None])
def test_no_row_with_a_client_is_saved_under_another_issuer(live: bool | None) -> None:
    row = make_registration(live=live)
    row = ClientRegistration.objects.get(pk=row.pk)
    row.server = make_server(issuer="https://evil.example")
    with pytest.raises(NotAllowedError, match="must not go to another server"):
        row.save()
    assert stored(row).server.issuer == ISSUER


def test_a_row_may_change_its_owner() -> None:
    row = make_registration(live=None)
    for loaded in (row, stored(row)):
        loaded.owner += "x"
        loaded.save()
    assert stored(row).owner == "x"
    assert stored(row).belongs_to_server
