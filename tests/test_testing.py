"""``django_dcr.testing``: what a site's tests may rely on."""

from __future__ import annotations

import base64
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet

from django_dcr import pytest_plugin, transport
from django_dcr.exceptions import (
    InvalidResponseError,
    NetworkError,
    RegistrationGoneError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import AuthorizationServer as Server
from django_dcr.models import ClientRegistration
from django_dcr.services import (
    adopt,
    discover,
    get_or_register,
    read,
    revoke,
    rotate_client_key,
    update,
)
from django_dcr.testing import HABITS, AuthorizationServer, LoginRefusedError, Request
from django_dcr.testing.habits import FAILURES
from django_dcr.testing.messages import ENDPOINTS
from tests.factories import WISHES

pytestmark = pytest.mark.django_db

CALLBACK = WISHES["redirect_uris"][0]
#: A verifier and its challenge, of RFC 7636 appendix B.
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.fixture(name="server")
def _server(settings: Any) -> Any:
    settings.DCR_CLIENT_METADATA = dict(WISHES)
    with AuthorizationServer() as server:
        yield server


def posted(
    server: AuthorizationServer, path: str, form: dict[str, str], **headers: str
) -> tuple[int, Any]:
    """Send a form, as the code of a site may; return status and document."""
    body = urlencode(form).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    reply = transport.send("POST", f"{server.base}{path}", body=body, headers=headers)
    return reply.status, json.loads(reply.body)


def authorization_url(server: AuthorizationServer, client_id: str, **changes: str) -> str:
    query = {"response_type": "code", "client_id": client_id, "redirect_uri": CALLBACK, **changes}
    return f"{server.base}/authorize?{urlencode(query)}"


def code_of(callback: str) -> str:
    return parse_qs(urlsplit(callback).query)["code"][0]


def test_the_fixture_is_a_server_that_is_started(
    authorization_server_fixture: AuthorizationServer,
) -> None:
    assert get_or_register("https://login.test", metadata=WISHES).status == "active"
    assert [*authorization_server_fixture.clients] == ["client-1"]


@pytest.fixture
def authorization_server_fixture() -> Any:
    """The body of the fixture that pytest finds, whose name another one has here."""
    yield from pytest_plugin.authorization_server.__wrapped__()


def test_a_server_that_is_stopped_is_not_reached(server: AuthorizationServer) -> None:
    server.stop()
    with pytest.raises(NetworkError):
        # The stub of the network refuses what nobody answers.
        discover(Server.objects.for_issuer(server.issuer))
    server.start()
    assert discover(Server.objects.for_issuer(server.issuer), refresh=True).metadata


def test_one_issuer_is_one_server(server: AuthorizationServer) -> None:
    with pytest.raises(ValueError, match="is mounted already"):
        AuthorizationServer(server.issuer).start()


def test_servers_may_share_an_origin(settings: Any) -> None:
    settings.DCR_CLIENT_METADATA = dict(WISHES)
    with (
        AuthorizationServer("https://sso.test/a") as a,
        AuthorizationServer("https://sso.test/b/") as b,
    ):
        for server in (a, b, b):
            get_or_register(server.issuer, "acme")
        assert len(a.clients) == len(b.clients) == 1


def test_every_thread_reaches_the_server(server: AuthorizationServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        urls = [f"{server.base}/jwks"] * 40
        assert {reply.status for reply in pool.map(transport.send, ["GET"] * 40, urls)} == {200}
    assert len(server.asked("jwks", "GET")) == 40


def test_what_was_asked_is_on_record(server: AuthorizationServer) -> None:
    registration = get_or_register(server.issuer)
    [request] = server.asked("registration", "POST")
    assert request.json["redirect_uris"] == WISHES["redirect_uris"]
    assert request.path == "/register"
    posted(server, "/token", {"grant_type": "unknown"}, Authorization="Basic !")
    assert server.requests[-1].form == {"grant_type": "unknown"}
    read(registration)
    assert server.asked("configuration")[0].bearer_token.startswith("registration-access-token")
    with pytest.raises(ValueError, match="'registartion' is not a known endpoint: authorization, "):
        server.asked("registartion")


def test_a_session_of_the_sites_own_reaches_a_server_it_is_mounted_on(
    server: AuthorizationServer,
) -> None:
    with requests.Session() as session:
        server.mount_on(session)
        assert session.get(f"{server.base}/jwks", timeout=1).json()["keys"]
        assert session.post(f"{server.base}/token", data="x=1", timeout=1).status_code == 401
        server.switch_on("hangs")
        with pytest.raises(requests.ReadTimeout):
            session.get(f"{server.base}/jwks", timeout=1)


def test_a_session_of_a_thread_that_has_sent_nothing_may_fail_too(
    server: AuthorizationServer,
) -> None:
    server.switch_on("is_unreachable")

    def ask() -> None:
        with requests.Session() as session:
            server.mount_on(session)
            session.get(f"{server.base}/jwks", timeout=1)

    with ThreadPoolExecutor(1) as pool, pytest.raises(requests.ConnectionError):
        pool.submit(ask).result()


def test_an_address_that_is_none_is_not_found(server: AuthorizationServer) -> None:
    for path in ("/", "/revoke", "/.well-known/openid-configuration/other"):
        assert transport.send("GET", f"{server.issuer}{path}").status == 404


def test_a_misspelt_habit_is_an_error(server: AuthorizationServer) -> None:
    with pytest.raises(ValueError, match="'rotates_token' is not a known habit: breaks_off, "):
        server.switch_on("rotates_token")
    with pytest.raises(ValueError, match="'regsiter' is not a known endpoint"):
        server.switch_on("hangs", at="regsiter")
    with pytest.raises(ValueError, match="'refuses' is not a known habit with endpoints"):
        server.switch_on("refuses", at="token")
    with pytest.raises(ValueError, match="'hang' is not a known habit"):
        AuthorizationServer(habits=["hang"])
    with pytest.raises(ValueError, match="'hang' is not a known habit"):
        server.switch_off("hang")


@pytest.mark.parametrize(
    ("habit", "error", "status"),
    [
        ("breaks_off", "The connection broke off", "unknown"),
        ("fails", "503", "unknown"),
        ("hangs", "did not complete its answer", "unknown"),
        ("is_unreachable", "cannot be reached", "draft"),
        ("rate_limits", "429", "rejected"),
        ("shows_a_page", "not", "unknown"),
    ],
)
def test_a_failure_looks_like_that_of_a_real_server(
    server: AuthorizationServer, habit: str, error: str, status: str
) -> None:
    discover(Server.objects.for_issuer(server.issuer))
    server.switch_on(habit, at=["registration"])
    with pytest.raises((NetworkError, RequestRejectedError, InvalidResponseError), match=error):
        get_or_register(server.issuer)
    assert ClientRegistration.objects.get().status == status
    # What it has carried out although it did not say so.
    assert len(server.clients) == (habit in ("breaks_off", "hangs"))


def test_every_failure_is_a_row_of_the_test_above() -> None:
    [mark] = test_a_failure_looks_like_that_of_a_real_server.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in mark.args[1]} == {*FAILURES}


def test_habits_are_switched_off_by_name_or_all_together(server: AuthorizationServer) -> None:
    server.switch_on("refuses", "hangs", "fails")
    server.switch_off("hangs", "fails")
    with pytest.raises(RequestRejectedError):
        get_or_register(server.issuer)
    server.switch_off()
    row = ClientRegistration.objects.get()
    ClientRegistration.objects.update(failure=None, retry_at=None)
    assert get_or_register(server.issuer).pk == row.pk


def test_tokens_and_secrets_are_rotated(server: AuthorizationServer) -> None:
    registration = get_or_register(server.issuer)
    before = registration.client_secret.reveal(), registration.registration_access_token.reveal()
    server.switch_on("rotates_secrets", "rotates_tokens")
    update(read(registration))
    after = registration.client_secret.reveal(), registration.registration_access_token.reveal()
    assert not {*before} & {*after}
    read(registration)


def test_a_client_without_a_secret_gets_none(server: AuthorizationServer) -> None:
    server.switch_on("rotates_secrets", "expires_secrets")
    wishes = {**WISHES, "token_endpoint_auth_method": "none"}
    registration = update(get_or_register(server.issuer, metadata=wishes))
    assert registration.client_secret is None


def test_secrets_expire_when_they_are_said_to(server: AuthorizationServer) -> None:
    server.switch_on("expires_secrets")
    registration = get_or_register(server.issuer)
    assert 3000 < registration.client_secret_expires_at - time.time() <= 3600
    headers, form = registration.client_authentication()
    ask = {"grant_type": "client_credentials", **form}
    assert posted(server, "/token", ask, **headers)[0] == 200
    server.clients[registration.client_id]["client_secret_expires_at"] = 1
    assert posted(server, "/token", ask, **headers) == (401, {"error": "invalid_client"})


def test_a_server_may_offer_less(server: AuthorizationServer) -> None:
    server.switch_on("grants_less", "omits_management")
    registration = get_or_register(server.issuer, metadata={**WISHES, "scope": "openid email"})
    assert [*registration.drift] == ["scope"]
    assert not registration.is_manageable
    server.switch_on("offers_no_registration")
    discover(registration.server, refresh=True)
    with pytest.raises(UnsupportedError, match="registration"):
        get_or_register(server.issuer, "acme")
    answer = transport.send("POST", f"{server.base}/register", body=b"{}")
    assert answer.status == 404


def test_a_server_may_want_an_initial_access_token(server: AuthorizationServer) -> None:
    server.switch_on("requires_a_token")
    with pytest.raises(RequestRejectedError, match="initial access token"):
        get_or_register(server.issuer)
    row = Server.objects.get()
    row.initial_access_token = server.initial_access_token
    row.save()
    assert get_or_register(server.issuer).status == "active"


def test_a_server_may_refuse_an_update(server: AuthorizationServer) -> None:
    registration = get_or_register(server.issuer)
    server.switch_on("refuses")
    with pytest.raises(RequestRejectedError, match="changes no client"):
        update(registration)


def test_a_server_that_forgets_knows_its_clients_again_when_it_does_not(
    server: AuthorizationServer,
) -> None:
    registration = get_or_register(server.issuer)
    server.switch_on("forgets")
    with pytest.raises(RegistrationGoneError):
        read(registration)
    server.switch_off("forgets")
    assert read(registration).status == "active"


def test_a_client_of_the_console_may_be_managed(server: AuthorizationServer) -> None:
    client = server.add_client(managed=True, **WISHES)
    names = ("client_id", "client_secret", "registration_client_uri", "registration_access_token")
    registration = adopt(server.issuer, **{name: client[name] for name in names})
    assert read(registration).metadata["redirect_uris"] == WISHES["redirect_uris"]
    revoke(registration)
    assert server.clients == {}


def test_members_of_the_metadata_may_be_changed(server: AuthorizationServer) -> None:
    server.metadata_changes = {"jwks_uri": None, "service_documentation": "https://login.test/doc"}
    metadata = discover(Server.objects.for_issuer(server.issuer)).metadata
    assert "jwks_uri" not in metadata
    assert metadata["service_documentation"] == "https://login.test/doc"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client_id": "another"}, "No such client"),
        ({"redirect_uri": "https://evil.test/"}, "not a registered one"),
    ],
)
def test_a_login_that_the_server_does_not_send_back_is_an_error(
    server: AuthorizationServer, changes: dict[str, str], message: str
) -> None:
    client = server.add_client(**WISHES)
    with pytest.raises(LoginRefusedError, match=message):
        server.log_in(authorization_url(server, **{"client_id": client["client_id"], **changes}))


@pytest.mark.parametrize("url", ["https://evil.test/authorize?x", "https://login.test/token"])
def test_a_login_anywhere_else_is_an_error(server: AuthorizationServer, url: str) -> None:
    with pytest.raises(LoginRefusedError, match="Not the authorization endpoint of"):
        server.log_in(url)


def test_what_is_not_the_code_flow_is_sent_back_with_an_error(server: AuthorizationServer) -> None:
    query = "https://site.example/callback?tenant=1"
    client = server.add_client(redirect_uris=[query])
    url = authorization_url(server, client["client_id"], response_type="token", redirect_uri=query)
    answer = server.log_in(url)
    assert answer.startswith(f"{query}&")
    assert "error=unsupported_response_type" in answer


def test_an_id_token_says_who_has_logged_in_and_may_be_checked(server: AuthorizationServer) -> None:
    client = server.add_client(**WISHES, token_endpoint_auth_method="client_secret_post")
    asked = {"scope": "openid", "nonce": "n-1", "state": "s-1"}
    callback = server.log_in(authorization_url(server, client["client_id"], **asked), sub="joe")
    assert parse_qs(urlsplit(callback).query)["state"] == ["s-1"]
    status, token = posted(server, "/token", redemption(client, callback))
    assert status == 200
    keys = KeySet.import_key_set(json.loads(transport.send("GET", f"{server.base}/jwks").body))
    claims = jwt.decode(token["id_token"], keys, algorithms=["RS256"]).claims
    assert (claims["iss"], claims["sub"], claims["nonce"]) == (server.issuer, "joe", "n-1")
    assert claims["aud"] == client["client_id"]
    userinfo = transport.send("GET", f"{server.base}/userinfo", token=token["access_token"])
    assert json.loads(userinfo.body)["sub"] == "joe"
    assert transport.send("GET", f"{server.base}/userinfo", token="wrong").status == 401
    refresh = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
    credentials = {name: client[name] for name in ("client_id", "client_secret")}
    assert posted(server, "/token", {**refresh, **credentials})[0] == 200
    wrong = {**refresh, "refresh_token": "wrong"}
    assert posted(server, "/token", {**wrong, **credentials})[0] == 400
    assert posted(server, "/token", {"grant_type": "password", **credentials})[0] == 400


def redemption(client: dict[str, Any], callback: str, **changes: str) -> dict[str, str]:
    """The form that exchanges the code in ``callback``."""
    form = {
        "grant_type": "authorization_code",
        "code": code_of(callback),
        "redirect_uri": CALLBACK,
        "client_id": client["client_id"],
        "client_secret": client["client_secret"],
    }
    return {**form, **changes}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"code": "wrong"}, 400),
        ({"code_verifier": "wrong"}, 400),
        ({"redirect_uri": "https://site.example/other"}, 400),
        ({"client_secret": "wrong"}, 401),
    ],
)
def test_a_code_is_redeemed_by_who_was_given_it(
    server: AuthorizationServer, changes: dict[str, str], status: int
) -> None:
    client = server.add_client(**WISHES, token_endpoint_auth_method="client_secret_post")
    url = authorization_url(server, client["client_id"], code_challenge=CHALLENGE)
    form = redemption(client, server.log_in(url), code_verifier=VERIFIER)
    status_now, document = posted(server, "/token", {**form, **changes})
    assert status_now == status
    assert "id_token" not in document  # for no openid was asked for


def test_a_code_is_no_other_clients(server: AuthorizationServer) -> None:
    first, second = (
        server.add_client(**WISHES, token_endpoint_auth_method="client_secret_post")
        for _ in range(2)
    )
    callback = server.log_in(authorization_url(server, first["client_id"]))
    assert posted(server, "/token", redemption(second, callback))[0] == 400


def test_a_plain_oauth_server_issues_no_id_token(server: AuthorizationServer) -> None:
    server.switch_on("omits_id_tokens")
    client = server.add_client(**WISHES, token_endpoint_auth_method="client_secret_post")
    callback = server.log_in(authorization_url(server, client["client_id"], scope="openid"))
    assert "id_token" not in posted(server, "/token", redemption(client, callback))[1]


def test_a_client_authenticates_by_its_registered_method_only(server: AuthorizationServer) -> None:
    client = server.add_client(**WISHES)
    form = {"grant_type": "client_credentials", "client_id": client["client_id"]}
    assert posted(server, "/token", {**form, "client_secret": client["client_secret"]})[0] == 401
    registration = adopt(
        server.issuer, client_id=client["client_id"], client_secret=client["client_secret"]
    )
    headers, _ = registration.client_authentication()
    assert posted(server, "/token", {"grant_type": "client_credentials"}, **headers)[0] == 200
    both = {**form, "client_secret": client["client_secret"]}
    assert posted(server, "/token", both, **headers)[0] == 401


CLAIMS = {
    "iss": "client-1",
    "sub": "client-1",
    "aud": "https://login.test",
    "exp": 2**40,
    "jti": "1",
}


def jws(header: dict[str, Any], claims: dict[str, Any], signature: str = "AAAA") -> str:
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).decode() for part in parts), signature])


@pytest.mark.parametrize("method", ["private_key_jwt", "client_secret_jwt"])
def test_an_assertion_is_good_once_and_from_its_client_only(
    server: AuthorizationServer, settings: Any, method: str
) -> None:
    rotate_client_key()
    wishes = {**WISHES, "token_endpoint_auth_method": method}
    registration = get_or_register(server.issuer, metadata=wishes)
    ask = {"grant_type": "client_credentials"}
    _, form = registration.client_authentication()
    assert posted(server, "/token", {**ask, **form})[0] == 200
    assert posted(server, "/token", {**ask, **form})[0] == 401
    _, form = registration.client_authentication()
    message, _, signature = form["client_assertion"].rpartition(".")
    changed = f"{message}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    assert posted(server, "/token", {**ask, **form, "client_assertion": changed})[0] == 401
    del form["client_id"]  # which the assertion names too
    assert posted(server, "/token", {**ask, **form})[0] == 200


@pytest.mark.parametrize(
    "assertion",
    [
        "no assertion",
        "%%%.%%%.%%%",
        pytest.param(jws({"alg": "none"}, {}), id="no claims"),
        pytest.param(jws({"alg": "none", "kid": "k"}, CLAIMS), id="no signature"),
        pytest.param(jws({"alg": "ES256", "kid": "k"}, CLAIMS), id="a key that is none"),
        pytest.param(jws({"alg": "PS256", "kid": "k"}, CLAIMS), id="a key of another type"),
        pytest.param(jws({"alg": "ES256", "kid": "?"}, CLAIMS), id="no such key"),
    ],
)
def test_a_malformed_assertion_is_refused(server: AuthorizationServer, assertion: str) -> None:
    jwks = {"keys": [{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "k"}]}
    client = server.add_client(**WISHES, token_endpoint_auth_method="private_key_jwt", jwks=jwks)
    form = {"grant_type": "client_credentials", "client_id": client["client_id"]}
    assert posted(server, "/token", {**form, "client_assertion": assertion})[0] == 401


@pytest.mark.parametrize(
    "client_id", ["https://evil.test/doc", "https://shop.test/nothing", "no url", "http://["]
)
def test_only_documents_of_this_site_are_fetched(
    server: AuthorizationServer, settings: Any, client_id: str
) -> None:
    server.switch_on("takes_documents")
    settings.DCR_BASE_URL = "https://shop.test"
    assert server.find_client(client_id) is None
    settings.DCR_BASE_URL = ""
    assert server.find_client(client_id) is None


def test_a_request_without_a_body_is_an_empty_document() -> None:
    request = Request("registration", "POST", "https://login.test/register")
    assert (request.json, request.form, request.query, request.bearer_token) == ({}, {}, {}, "")


PAGE = (Path(__file__).parent.parent / "docs/testing.md").read_text()


def test_every_habit_is_documented() -> None:
    table = dict(re.findall(r"(?m)^\| `(\w+)` \| (.*?) \|$", PAGE))
    assert {name: table[name] for name in HABITS} == HABITS


def test_every_endpoint_is_documented() -> None:
    assert {*ENDPOINTS} <= {*re.findall("`([a-z]+)`", PAGE)}


def test_the_code_of_the_how_to_is_that_of_the_sample_site() -> None:
    files = (Path(__file__).parent / "sample_site").glob("*.py")
    code = "\n".join(file.read_text() for file in files)
    blocks = re.findall(r"(?s)```python\n(.*?)```", PAGE)
    assert blocks
    assert [block for block in blocks if block not in code] == []
