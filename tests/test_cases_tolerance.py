"""Cases from the field: legitimate documents and answers that are used, and noted where odd."""

from __future__ import annotations

import json
from typing import Any

import pytest
import responses

from django_dcr import services
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    UnsupportedError,
)
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.protocol import check_issuer, client_information, redirect_target
from django_dcr.services import (
    discover,
    for_login,
    get_or_register,
    login_endpoint,
    register,
    revoke,
)
from tests.factories import make_draft, make_registration, make_server, stored

Stubs = responses.RequestsMock

pytestmark = pytest.mark.django_db

ISSUER = "https://as.example"
FIRST = f"{ISSUER}/.well-known/oauth-authorization-server"
SECOND = f"{ISSUER}/.well-known/openid-configuration"
REGISTER = f"{ISSUER}/register"
CALLBACK = "https://site.example/callback"
METADATA: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "registration_endpoint": REGISTER,
}
A: dict[str, Any] = {
    "client_id": "c1",
    "client_secret": "s1",
    "client_secret_expires_at": 0,
    "redirect_uris": [CALLBACK],
}
PUBLIC: dict[str, Any] = {
    "client_id": "p",
    "redirect_uris": [CALLBACK],
    "token_endpoint_auth_method": None,
}
WISHES = {"redirect_uris": [CALLBACK]}


def server(**changes: Any) -> AuthorizationServer:
    return make_server(issuer=ISSUER, metadata={**METADATA, **changes}, metadata_url=FIRST)


def registration(owner: str = "", **changes: Any) -> ClientRegistration:
    return make_registration(server=server(**changes), owner=owner)


def odd(row: ClientRegistration, words: str) -> bool:
    return any(words in sentence for sentence in stored(row).deviations)


# --- metadata ----------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", None], ids=["empty", "null"])
@pytest.mark.parametrize("name", ["userinfo_endpoint", "jwks_uri", "end_session_endpoint"])
def test_an_endpoint_that_is_empty_is_absent(
    name: str, empty: object, mocked_responses: Stubs
) -> None:
    mocked_responses.get(FIRST, json={**METADATA, name: empty})
    found = discover(AuthorizationServer(issuer=ISSUER))
    assert name not in found.metadata
    row = make_registration(server=found)
    assert for_login(ISSUER) == row
    with pytest.raises(UnsupportedError, match=f"metadata has no {name}"):
        login_endpoint(row, name)


def test_an_empty_endpoint_that_was_stored_earlier_is_absent_too() -> None:
    row = registration(userinfo_endpoint="")
    assert for_login(ISSUER) == row


WITHHELD = {
    "another origin": ("end_session_endpoint", "https://www.example/logout", NotAllowedError),
    "inside": ("introspection_endpoint", "http://as.internal.example:8080/i", InvalidResponseError),
    "no URL": ("userinfo_endpoint", "/userinfo", InvalidResponseError),
    "no text": ("jwks_uri", ["https://as.example/keys"], InvalidResponseError),
}


@pytest.mark.parametrize(("name", "url", "kind"), WITHHELD.values(), ids=WITHHELD.keys())
def test_an_endpoint_that_must_not_be_used_is_withheld_and_named_where_it_is_needed(
    name: str, url: object, kind: type[DCRError]
) -> None:
    """RFC 9700 section 4.4: it may be another server's, and so no login library gets it."""
    row = registration(**{name: url})
    found = for_login(ISSUER)
    assert found == row
    assert name not in found.server.metadata
    assert found.server.metadata == METADATA
    with pytest.raises(kind) as caught:
        login_endpoint(found, name)
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "login")
    assert stored(row).server.metadata[name] == url


def test_a_withheld_endpoint_comes_back_once_its_origin_is_trusted() -> None:
    row = registration(end_session_endpoint="https://www.example/logout")
    row.server.trusted_origins = ["https://www.example"]
    row.server.save()
    found = for_login(ISSUER)
    assert found.server.metadata["end_session_endpoint"] == "https://www.example/logout"
    assert login_endpoint(found, "end_session_endpoint") == "https://www.example/logout"


def test_what_was_withheld_is_not_lost_by_a_refresh(mocked_responses: Stubs) -> None:
    """The server is asked for the whole document again, not whether it has changed."""
    document = {**METADATA, "end_session_endpoint": "https://www.example/logout"}
    mocked_responses.get(FIRST, json=document, headers={"ETag": '"2"'})
    row = registration(end_session_endpoint="https://www.example/logout")
    AuthorizationServer.objects.update(etag='"1"')
    found = for_login(ISSUER)
    discover(found.server, refresh=True)
    assert "If-None-Match" not in mocked_responses.calls[0].request.headers
    assert stored(row).server.metadata == document


def test_all_foreign_origins_are_named_at_once() -> None:
    """At registering already, before the first of them is needed at a login."""
    spread = {
        "registration_endpoint": "https://r.example/register",
        "authorization_endpoint": "https://a.example/authorize",
        "token_endpoint": "https://t.example/token",
        "jwks_uri": "https://t.example/keys",
        "userinfo_endpoint": "http://u.example/userinfo",
    }
    draft = make_draft(server=server(**spread))
    every = "at https://a.example, https://r.example, https://t.example, which are not the issuer's"
    with pytest.raises(NotAllowedError, match=every):
        register(draft)
    public = {"token_endpoint_auth_method": "none"}
    ClientRegistration.objects.update(status="active", client_id="c1", metadata=public)
    with pytest.raises(NotAllowedError, match=every):
        for_login(ISSUER)


@pytest.mark.parametrize(
    "first",
    [
        {"json": {}},
        {"json": {**METADATA, "issuer": None}},
        {"json": {**METADATA, "issuer": ""}},
        {"json": {**METADATA, "registration_endpoint": None}},
        {"json": {**METADATA, "registration_endpoint": ""}},
    ],
    ids=["empty", "issuer null", "issuer empty", "registration null", "registration empty"],
)
def test_a_useless_first_document_makes_the_second_be_asked(
    first: Any, mocked_responses: Stubs
) -> None:
    mocked_responses.get(FIRST, **first)
    mocked_responses.get(SECOND, json=METADATA)
    mocked_responses.post(REGISTER, status=201, json=A)
    row = get_or_register(ISSUER, metadata=WISHES)
    assert (row.status, row.server.metadata_url) == ("active", SECOND)


def test_documents_without_an_issuer_are_named_where_there_is_no_other(
    mocked_responses: Stubs,
) -> None:
    mocked_responses.get(FIRST, json={})
    mocked_responses.get(SECOND, json={"registration_endpoint": REGISTER})
    with pytest.raises(UnsupportedError, match=f"{FIRST} names no issuer; {SECOND} names no"):
        discover(AuthorizationServer(issuer=ISSUER))


# --- a document that has moved -----------------------------------------------------------------

MOVED = "/index.php/.well-known/openid-configuration"


@pytest.mark.parametrize("location", [MOVED, ISSUER + MOVED, "//as.example:443" + MOVED])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_of_a_document_within_its_origin_is_followed(
    status: int, location: str, mocked_responses: Stubs
) -> None:
    mocked_responses.get(FIRST, status=404)
    mocked_responses.get(SECOND, status=status, headers={"Location": location})
    mocked_responses.get(redirect_target(SECOND, location), json=METADATA)
    found = discover(AuthorizationServer(issuer=ISSUER))
    assert (found.metadata, found.metadata_url) == (METADATA, SECOND)


NOT_FOLLOWED = {
    "another origin": ("https://www.as.example/doc", "a redirect to https://www.as.example,"),
    "another port": ("https://as.example:8443/doc", "a redirect to https://as.example:8443,"),
    "without TLS": ("http://as.example/doc", "a redirect to http://as.example,"),
    "another host": ("//evil.example/doc", "a redirect to https://evil.example,"),
    "a password": ("https://u:p@evil.example/", "a redirect to something that is not a URL,"),
    "a script": ("javascript:alert(1)", "a redirect to something that is not a URL,"),
    "upwards": ("/a/../b", "a redirect to something that is not a URL,"),
    "a backslash": ("/\\evil.example", "a redirect to something that is not a URL,"),
    "nowhere": ("", "a redirect to something that is not a URL,"),
}


@pytest.mark.parametrize(("location", "words"), NOT_FOLLOWED.values(), ids=NOT_FOLLOWED.keys())
def test_a_redirect_elsewhere_is_named_and_refused(
    location: str, words: str, mocked_responses: Stubs
) -> None:
    mocked_responses.get(FIRST, status=301, headers={"Location": location})
    mocked_responses.get(SECOND, status=404)
    with pytest.raises(NetworkError, match=f"answered 301, {words} which is not followed") as error:
        discover(AuthorizationServer(issuer=ISSUER))
    assert error.value.status == 301
    assert "u:p" not in str(error.value)


def test_only_one_redirect_is_followed(mocked_responses: Stubs) -> None:
    mocked_responses.get(FIRST, status=301, headers={"Location": MOVED})
    mocked_responses.get(ISSUER + MOVED, status=301, headers={"Location": FIRST})
    mocked_responses.get(SECOND, status=404)
    with pytest.raises(NetworkError, match="a redirect again, which is not followed"):
        discover(AuthorizationServer(issuer=ISSUER))


def test_a_document_that_has_moved_may_be_unchanged(mocked_responses: Stubs) -> None:
    mocked_responses.get(FIRST, status=301, headers={"Location": MOVED})
    mocked_responses.get(ISSUER + MOVED, status=304)
    known = server()
    known.etag = '"1"'
    assert discover(known, refresh=True).metadata == METADATA
    assert mocked_responses.calls[1].request.headers["If-None-Match"] == '"1"'


def test_a_redirect_of_a_registration_is_not_followed(mocked_responses: Stubs) -> None:
    mocked_responses.post(REGISTER, status=307, headers={"Location": f"{REGISTER}/"})
    draft = make_draft(server=server())
    with pytest.raises(NetworkError, match=f"a redirect to {ISSUER}, which is not followed"):
        register(draft)


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "********", " "], ids=["empty", "masked", "blank"])
@pytest.mark.parametrize("uri", [None, f"{REGISTER}/c1"], ids=["alone", "with a URI"])
def test_an_empty_access_token_makes_a_client_that_is_not_manageable(
    uri: str | None, token: str, mocked_responses: Stubs
) -> None:
    answer = {**A, "registration_access_token": token, "registration_client_uri": uri}
    mocked_responses.post(REGISTER, status=201, json=answer)
    row = register(make_draft(server=server()))
    assert (row.status, row.client_id, row.is_manageable) == ("active", "c1", False)
    assert odd(row, "registration_access_token is empty or masked")


@pytest.mark.parametrize("method", [None, ""], ids=["null", "empty"])
@pytest.mark.parametrize("wish", [{}, {"token_endpoint_auth_method": "client_secret_post"}])
def test_a_method_that_is_null_without_a_secret_is_a_public_client(
    wish: dict[str, str], method: str | None, mocked_responses: Stubs
) -> None:
    answer = {**PUBLIC, "token_endpoint_auth_method": method}
    mocked_responses.post(REGISTER, status=201, json=answer)
    draft = make_draft(server=server(), requested_metadata={**WISHES, **wish})
    row = register(draft)
    assert (row.status, row.client_id) == ("active", "p")
    assert row.metadata["token_endpoint_auth_method"] == "none"
    assert row.client_authentication() == ({}, {"client_id": "p"})
    assert odd(row, "so the client counts as public")


@pytest.mark.parametrize("wish", ["none", "private_key_jwt"])
def test_a_method_without_a_secret_stays_as_it_was_requested(wish: str) -> None:
    information = client_information(PUBLIC, requested={"token_endpoint_auth_method": wish})
    assert information.metadata["token_endpoint_auth_method"] == wish
    assert (information.faults, information.deviations) == ((), ())


def test_where_a_client_cannot_be_public_the_text_says_what_to_ask_for(
    mocked_responses: Stubs,
) -> None:
    """A method that is left out is the requested one (RFC 7591 section 3.2.1)."""
    answer = {"client_id": "p", "redirect_uris": [CALLBACK]}
    mocked_responses.post(REGISTER, status=201, json=answer)
    with pytest.raises(InvalidResponseError, match='ask for token_endpoint_auth_method "none"'):
        register(make_draft(server=server()))


# --- one client for several owners -------------------------------------------------------------

MANAGED = {"registration_client_uri": f"{REGISTER}/p", "registration_access_token": "t1"}


def two_owners(stubs: Stubs, **changes: Any) -> list[ClientRegistration]:
    server()
    stubs.post(REGISTER, status=201, json={**PUBLIC, **changes})
    return [get_or_register(ISSUER, owner, metadata=WISHES) for owner in ("a", "b")]


@pytest.mark.parametrize("changes", [{}, MANAGED], ids=["plain", "managed"])
def test_the_same_public_client_may_be_two_owners(
    changes: dict[str, str], mocked_responses: Stubs
) -> None:
    """RFC 7591 section 3.2.1."""
    rows = two_owners(mocked_responses, **changes)
    assert [(stored(row).status, stored(row).client_id) for row in rows] == [("active", "p")] * 2
    assert all(row.is_shared for row in rows)
    assert rows == [get_or_register(ISSUER, owner) for owner in ("a", "b")]


def test_a_shared_client_is_deleted_at_the_server_with_its_last_row(
    mocked_responses: Stubs,
) -> None:
    first, second = two_owners(mocked_responses, **MANAGED)
    revoke(first)
    assert stored(first).status == "revoked"
    assert "Another registration uses this client" in stored(first).last_error
    assert stored(second).status == "active"
    assert len(mocked_responses.calls) == 2
    mocked_responses.delete(MANAGED["registration_client_uri"], status=204)
    revoke(second)
    assert stored(second).status == "revoked"


def test_a_faulty_answer_with_a_client_in_use_does_not_delete_it(mocked_responses: Stubs) -> None:
    make_registration(
        server=server(),
        owner="a",
        client_id="p",
        client_secret=None,
        metadata={**WISHES, "token_endpoint_auth_method": "none"},
    )
    answer = {**PUBLIC, **MANAGED, "token_endpoint_auth_method": "none", "error": "x"}
    mocked_responses.post(REGISTER, status=201, json=answer)
    with pytest.raises(InvalidResponseError, match="the answer is an error"):
        get_or_register(ISSUER, "b", metadata=WISHES)
    assert len(mocked_responses.calls) == 1
    assert ClientRegistration.objects.get(owner="b").status == "rejected"


def test_who_comes_too_late_does_not_delete_the_client_that_is_in_use(
    mocked_responses: Stubs,
) -> None:
    """Another process was given the same public client for this very row."""

    def overtake(_request: Any) -> tuple[int, dict[str, str], str]:
        metadata = {**WISHES, "token_endpoint_auth_method": "none"}
        rows = ClientRegistration.objects.filter(status="registering")
        rows.update(lease="another", status="active", client_id="p", metadata=metadata)
        return 201, {}, json.dumps({**PUBLIC, **MANAGED})

    mocked_responses.add_callback("POST", REGISTER, overtake)
    draft = make_draft(server=server())
    with pytest.raises(ConflictError, match="was taken over while this process waited"):
        register(draft)
    assert len(mocked_responses.calls) == 1
    assert list(ClientRegistration.objects.values_list("status", "client_id")) == [("active", "p")]


def test_public_clients_that_differ_in_case_are_not_shared() -> None:
    public = {"client_secret": None, "metadata": {"token_endpoint_auth_method": "none"}}
    row = make_registration(server=server(), owner="a", client_id="p", **public)
    make_registration(server=row.server, owner="b", client_id="P", **public)
    assert not row.is_shared


def test_a_client_with_a_secret_is_one_owners(mocked_responses: Stubs) -> None:
    """Its secret would be that of the last who asked."""
    with pytest.raises(InvalidResponseError, match="another registration already holds"):
        two_owners(mocked_responses, **{**A, "token_endpoint_auth_method": "client_secret_basic"})


def test_a_public_client_that_is_found_again_is_shared_again(mocked_responses: Stubs) -> None:
    first, second = two_owners(mocked_responses, **MANAGED)
    ClientRegistration.objects.filter(pk=first.pk).update(status="gone", live=None)
    mocked_responses.get(MANAGED["registration_client_uri"], json={**PUBLIC, **MANAGED})
    services.read(stored(first))
    assert [stored(row).status for row in (first, second)] == ["active", "active"]


# --- an address that was pasted for an issuer --------------------------------------------------

PASTED = {
    "https://as.example/.well-known/openid-configuration": "https://as.example",
    "https://as.example/.well-known/oauth-authorization-server": "https://as.example",
    "https://as.example/realm/.well-known/openid-configuration": "https://as.example/realm",
    "https://as.example/.well-known/oauth-authorization-server/realm/a": (
        "https://as.example/realm/a"
    ),
    "https://as.example:8443/.well-known/openid-configuration/": "https://as.example:8443/",
}


@pytest.mark.parametrize(("pasted", "issuer"), PASTED.items(), ids=PASTED.keys())
def test_a_pasted_address_of_a_document_says_what_the_issuer_probably_is(
    pasted: str, issuer: str
) -> None:
    with pytest.raises(NotAllowedError, match=f'the issuer is probably "{issuer}"\\. '):
        get_or_register(pasted)
    assert not AuthorizationServer.objects.exists()


# --- an issuer that is hard to read ------------------------------------------------------------

SPELLINGS = {
    "umlaut": (
        "https://anmeldung.müller.example/x",
        "write https://anmeldung.xn--mller-kva.example/x",
    ),
    "port": ("https://bücher.example:8443", "write https://xn--bcher-kva.example:8443"),
    "blank inside": ("https://as. example", "character 12 is a space"),
    "blank behind": ("https://as.example\u00a0", "character 19 is a space"),
    "zero width": ("https://as\u200b.example", "character 11 is invisible"),
    "no host name": ("https://" + "ü" * 80 + ".example", "of plain characters. An"),
    "path": ("https://as.example/ü", "of plain characters. An"),
}


@pytest.mark.parametrize(("issuer", "words"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_an_issuer_is_told_in_which_spelling_it_can_be_used(issuer: str, words: str) -> None:
    with pytest.raises(NotAllowedError) as caught:
        check_issuer(issuer)
    assert words in str(caught.value)


# --- URLs as they came -------------------------------------------------------------------------


@pytest.mark.parametrize("character", ["\0", "\ud800", "\n"], ids=ascii)
@pytest.mark.parametrize(
    "place", [REGISTER, "https://as.example/regi{}ster"], ids=["end", "inside"]
)
def test_a_url_is_checked_as_it_came_and_not_mended(
    place: str, character: str, mocked_responses: Stubs
) -> None:
    url = place.format(character) if "{}" in place else place + character
    document = {**METADATA, "registration_endpoint": url}
    mocked_responses.get(FIRST, body=json.dumps(document))
    draft = make_draft(server=AuthorizationServer.objects.create(issuer=ISSUER))
    with pytest.raises(InvalidResponseError, match="gave an address that is not an absolute"):
        register(draft)
    assert len(mocked_responses.calls) == 1


# --- a method that this app cannot use ---------------------------------------------------------


@pytest.mark.parametrize("method", ["tls_client_auth", "attest_jwt_client_auth", "x"])
def test_a_method_that_this_app_cannot_use_is_noted_at_registering(
    method: str, mocked_responses: Stubs
) -> None:
    answer = {**A, "token_endpoint_auth_method": method}
    mocked_responses.post(REGISTER, status=201, json=answer)
    row = register(make_draft(server=server()))
    assert row.status == "active"
    assert odd(row, f"with the method {method}, which this app does not support for logins")


def test_a_method_that_the_site_asked_for_itself_is_not_odd() -> None:
    wishes = {"token_endpoint_auth_method": "tls_client_auth"}
    assert client_information({"client_id": "c1"}, requested=wishes).deviations == ()
