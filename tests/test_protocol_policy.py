"""What a site may ask for, checked before anything is sent."""

from __future__ import annotations

import pytest

from django_dcr.exceptions import NotAllowedError
from django_dcr.protocol import METADATA_MEMBERS, check_client_metadata

REDIRECT = "https://app.example/callback"
CIRCULAR: dict[str, object] = {}
CIRCULAR["a"] = CIRCULAR


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def web(**members: object) -> dict[str, object]:
    return {"redirect_uris": [REDIRECT], **members}


ALLOWED = {
    "plain": web(),
    "R-056 name and page": web(client_name="Acme", client_uri="https://app.example/"),
    "client credentials need no redirect": {"grant_types": ["client_credentials"]},
    "device flow": {"grant_types": ["urn:ietf:params:oauth:grant-type:device_code"]},
    "R-055 code and refresh": web(
        grant_types=["authorization_code", "refresh_token"], response_types=["code"]
    ),
    "R-055 hybrid": web(
        grant_types=["implicit", "authorization_code"], response_types=["code id_token"]
    ),
    "R-055 several types": web(
        grant_types=["implicit", "authorization_code"], response_types=["code", "token"]
    ),
    "R-055 type none": web(response_types=["code", "none"]),
    "R-053 http on loopback": {
        "redirect_uris": ["http://127.0.0.1:8000/cb", "http://[::1]/cb", "http://localhost/cb"]
    },
    "R-053 private use": {"redirect_uris": ["com.example.app:/cb", "cursor://anysphere/cb"]},
    "R-053 https with query": web(redirect_uris=["https://app.example/cb?issuer=1"]),
    "R-053 scheme that starts like http": {"redirect_uris": ["httpx:/cb"]},
    "R-054 jwks": web(jwks={"keys": [{"kty": "RSA", "n": "a" * 342, "e": "AQAB"}]}),
    "R-183 keys that fit": web(
        token_endpoint_auth_method="private_key_jwt",
        token_endpoint_auth_signing_alg="RS256",
        jwks={"keys": [{"kty": "EC", "crv": "P-256"}, {"kty": "RSA", "n": "a" * 342}]},
    ),
    "R-186 secret that fits": web(
        token_endpoint_auth_method="client_secret_jwt", token_endpoint_auth_signing_alg="HS512"
    ),
    "R-183 algorithm of the future": web(
        token_endpoint_auth_method="private_key_jwt",
        token_endpoint_auth_signing_alg="ML-DSA-44",
        jwks={"keys": [{"kty": "AKP"}]},
    ),
    "R-054 jwks_uri": web(jwks_uri="https://app.example/jwks"),
    "R-057 page with fragment": web(tos_uri="https://app.example/legal#terms"),
    "R-058 scope": web(scope="openid https://api.example/read"),
    "R-059 software": web(software_id="4NRB1", software_version="2.1"),
    "R-060 tags": {**web(client_name="A"), "client_name#ja-Jpan-JP": "B", "x#de": "C"},
    "R-061 statement": web(software_statement="eyJ.eyJ.c2ln"),
    "R-121 native": {"redirect_uris": ["http://localhost/cb"], "application_type": "native"},
    "R-121 web implicit": web(grant_types=["implicit"], response_types=["id_token"]),
    "R-121 native implicit, not stated": {
        "redirect_uris": ["http://localhost/cb"],
        "grant_types": ["implicit"],
        "response_types": ["token"],
    },
    "R-122 one host": web(subject_type="pairwise", redirect_uris=[REDIRECT, REDIRECT + "2"]),
    "R-122 sector": web(
        subject_type="pairwise",
        redirect_uris=[REDIRECT, "https://b.example/cb"],
        sector_identifier_uri="https://app.example/uris.json",
    ),
    "R-122 several hosts, public subject": web(redirect_uris=[REDIRECT, "https://b.example/cb"]),
    "R-123 request_uris with hash": web(request_uris=["https://app.example/r#sha256"]),
    "R-130 logout": web(
        post_logout_redirect_uris=["https://app.example/bye"],
        backchannel_logout_uri="http://internal.example/logout",
        backchannel_logout_session_required=True,
    ),
    "numbers": web(default_max_age=0),
    "extension": web(x_vendor={"a": [1, None, True]}),
    "tuple": {"redirect_uris": (REDIRECT,)},
}


@pytest.mark.parametrize("metadata", ALLOWED.values(), ids=ALLOWED.keys())
def test_valid_metadata_is_allowed(metadata):
    check_client_metadata(metadata)


def redirects(uri: str) -> dict[str, object]:
    return {"redirect_uris": [REDIRECT, uri]}


REFUSED = {
    "list": ([], "JSON object, not a list"),
    "name that is a number": ({1: 2}, "name is not text"),
    "empty name": ({"": 2}, "name is not text"),
    "value that is not JSON": (web(x={1, 2}), "not JSON"),
    "NaN": (web(x=float("nan")), "not JSON"),
    "circular": (web(x=CIRCULAR), "not JSON"),
    "too deep to encode": (web(x=nested(100_000)), "not JSON"),
    "40 deep": (web(x=nested(40)), "not JSON"),
    "NUL": (web(client_name="a\x00"), "no database can store"),
    "surrogate": (web(client_name="a\ud800"), "not JSON"),
    "beyond 64 bits": (web(x=2**63), "no database can store"),
    "R-065 client_id": (web(client_id="mine"), "client_id is assigned by the server"),
    "R-065 client_secret": (web(client_secret="mine"), "client_secret is assigned"),
    "R-066 token": (web(registration_access_token="a"), "registration_access_token is assigned"),
    "R-066 uri": (web(registration_client_uri="https://a"), "registration_client_uri is assigned"),
    "R-066 issued": (web(client_id_issued_at=1), "client_id_issued_at is assigned"),
    "R-066 expires": (web(client_secret_expires_at=0), "client_secret_expires_at is assigned"),
    "redirect_uris text": ({"redirect_uris": REDIRECT}, "redirect_uris must be a list of strings"),
    "redirect_uris of numbers": ({"redirect_uris": [1]}, "redirect_uris must be a list of strings"),
    "R-064 empty in a list": (web(contacts=[""]), "contacts must be a list of strings"),
    "R-064 null": (web(client_uri=None), "client_uri must be text"),
    "R-064 empty text": (web(software_id=""), "software_id must be text"),
    "client_name number": (web(client_name=7), "client_name must be text"),
    "tagged name number": ({**web(), "client_name#ja": 7}, "client_name#ja must be text"),
    "age text": (web(default_max_age="1"), "default_max_age must be a whole number"),
    "age true": (web(default_max_age=True), "default_max_age must be a whole number"),
    "switch text": (web(require_auth_time="yes"), "require_auth_time must be true or false"),
    "jwks text": (web(jwks="{}"), "jwks must be an object"),
    "R-058 scope list": (web(scope=["a", "b"]), "scope must be one string"),
    "R-058 scope spaces": (web(scope="a  b"), "scope must be one string"),
    "R-058 scope quote": (web(scope='a"'), "scope must be one string"),
    "R-060 tag empty": ({**web(), "client_name#": "a"}, "malformed language tag"),
    "R-060 tag long": ({**web(), "client_name#abcdefghi": "a"}, "malformed language tag"),
    "R-060 tag underscore": ({**web(), "client_name#pt_BR": "a"}, "malformed language tag"),
    "R-060 no member": ({**web(), "#de": "a"}, "malformed language tag"),
    "R-140 password": (web(grant_types=["password"]), "must not contain password"),
    "R-055 code without grant": (
        web(grant_types=["client_credentials"], response_types=["code"]),
        "add authorization_code to grant_types",
    ),
    "R-055 token without grant": (web(response_types=["code", "token"]), "add implicit"),
    "R-055 id_token without grant": (web(response_types=["code id_token"]), "add implicit"),
    "R-055 grant without code": (
        web(grant_types=["authorization_code"], response_types=["none"]),
        "add code to response_types",
    ),
    "R-055 implicit without type": (web(grant_types=["implicit"]), "add token or id_token"),
    "R-052 none": ({}, "authorization_code needs redirect_uris"),
    "R-120 empty": ({"redirect_uris": []}, "authorization_code needs redirect_uris"),
    "R-052 implicit": (
        {"grant_types": ["implicit"], "response_types": ["token"]},
        "implicit needs redirect_uris",
    ),
    "R-053 R-142 http": (redirects("http://app.example/cb"), "another machine"),
    "R-053 relative": (redirects("/cb"), "is not an absolute URL; write it in full"),
    "R-053 no scheme": (redirects("app.example/cb"), "is not an absolute URL"),
    "R-053 fragment": (redirects(REDIRECT + "#a"), "has a fragment"),
    "R-053 empty fragment": (redirects("com.example:/cb#"), "has a fragment"),
    "R-053 userinfo": (redirects("https://a@b.example/"), "write it in full"),
    "R-053 wildcard host": (redirects("https://*.example/cb"), "write it in full"),
    "R-053 javascript": (redirects("JavaScript:alert(1)"), "no server may redirect to"),
    "R-053 data": (redirects("data:text/html,a"), "no server may redirect to"),
    "R-053 file": (redirects("file:///etc/passwd"), "no server may redirect to"),
    "R-053 vbscript": (redirects("vbscript:a"), "no server may redirect to"),
    "R-053 about": (redirects("about:blank"), "no server may redirect to"),
    "R-053 blob": (redirects("blob:https://a.example/1"), "no server may redirect to"),
    "R-053 ws": (redirects("ws://a.example/"), "no server may redirect to"),
    "R-053 ftp": (redirects("ftp://a.example/"), "no server may redirect to"),
    "R-053 out of band": (redirects("urn:ietf:wg:oauth:2.0:oob"), "no server may redirect to"),
    "R-053 space": (redirects("com.example:/a b"), "no server may redirect to"),
    "R-053 scheme only": (redirects("com.example:"), "no server may redirect to"),
    "R-053 after logout": (
        web(post_logout_redirect_uris=["http://app.example/"]),
        "In post_logout_redirect_uris, ",
    ),
    "R-054 both": (web(jwks={"keys": []}, jwks_uri="https://a.example/"), "cannot both be sent"),
    "R-129 no keys": (web(jwks={"kty": "RSA"}), "jwks must be an object such as"),
    "R-054 keys of text": (web(jwks={"keys": ["a"]}), "jwks must be an object such as"),
    "R-054 private": (web(jwks={"keys": [{"kty": "EC", "d": "a"}]}), "holds a private key"),
    "R-054 symmetric": (web(jwks={"keys": [{"kty": "oct", "k": "a"}]}), "holds a private key"),
    "R-183 short": (web(jwks={"keys": [{"kty": "RSA", "n": "a" * 171}]}), "fewer than 2048 bits"),
    "R-183 shared secret": (
        web(token_endpoint_auth_method="private_key_jwt", token_endpoint_auth_signing_alg="HS256"),
        "cannot sign by HS256",
    ),
    "R-186 key": (
        web(
            token_endpoint_auth_method="client_secret_jwt", token_endpoint_auth_signing_alg="ES256"
        ),
        "signs by HS256, HS384, HS512 only",
    ),
    "R-183 other key": (
        web(
            token_endpoint_auth_method="private_key_jwt",
            token_endpoint_auth_signing_alg="ES256",
            jwks={"keys": [{"kty": "EC", "crv": "P-384"}, {"kty": "RSA", "n": "a" * 342}]},
        ),
        "holds no key for ES256",
    ),
    "R-054 jwks_uri http": (web(jwks_uri="http://a.example/"), "jwks_uri must be an absolute"),
    "R-057 client_uri": (web(client_uri="http://a.example/"), "client_uri must be an absolute"),
    "R-057 logo_uri": (web(logo_uri="data:image/png,a"), "logo_uri must be an absolute https"),
    "R-057 tos_uri": (web(tos_uri="/terms"), "tos_uri must be an absolute https URL"),
    "R-057 tagged": ({**web(), "policy_uri#de": "javascript:a"}, "policy_uri#de must be"),
    "R-123 request_uris": (web(request_uris=["http://a.example/r"]), "request_uris must be"),
    "R-123 login": (web(initiate_login_uri="http://a.example/"), "initiate_login_uri must be"),
    "R-122 sector http": (web(sector_identifier_uri="http://a.example"), "sector_identifier_uri"),
    "logout uri": (web(backchannel_logout_uri="/logout"), "backchannel_logout_uri must be"),
    "R-121 native https": (web(application_type="native"), '"native" has https redirect_uris'),
    "R-121 web implicit localhost": (
        {
            "redirect_uris": ["http://localhost/cb"],
            "application_type": "web",
            "grant_types": ["implicit"],
            "response_types": ["token"],
        },
        "not localhost",
    ),
    "R-121 web implicit https localhost": (
        web(
            redirect_uris=["https://localhost/cb"],
            grant_types=["implicit"],
            response_types=["token"],
        ),
        "not localhost",
    ),
    "R-122": (
        web(subject_type="pairwise", redirect_uris=[REDIRECT, "https://b.example/cb"]),
        "need sector_identifier_uri",
    ),
    "R-013 none": (web(token_endpoint_auth_signing_alg="none"), "must not be"),
    "long hostile value": (redirects("x\x1b[31m\n" + "a" * 10_000), "is not an absolute URL"),
}


@pytest.mark.parametrize(("metadata", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_metadata_is_refused_before_it_is_sent(metadata, reason):
    with pytest.raises(NotAllowedError, match=reason) as caught:
        check_client_metadata(metadata)
    assert len(str(caught.value)) <= 500
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "needs redirect_uris"),
        ({"grant_types": ["implicit"]}, "add token or id_token"),
        ({"response_types": ["code id_token"]}, "add implicit"),
        ({"application_type": "native", "redirect_uris": [REDIRECT]}, "has https redirect_uris"),
        (
            {"subject_type": "pairwise", "redirect_uris": [REDIRECT, "https://b.example/cb"]},
            "need sector_identifier_uri",
        ),
    ],
    ids=["R-052", "R-055 grant", "R-055 response type", "R-121", "R-122"],
)
def test_incomplete_defaults_are_allowed(metadata, reason):
    """The missing members may be in another layer; complete metadata like it is refused."""
    check_client_metadata(metadata, complete=False)
    with pytest.raises(NotAllowedError, match=reason):
        check_client_metadata(metadata)


@pytest.mark.parametrize(
    "metadata",
    [{"redirect_uris": ["javascript:a"]}, {"grant_types": ["password"]}, {"client_id": "a"}],
    ids=["R-053", "R-140", "R-065"],
)
def test_each_member_of_incomplete_defaults_is_checked(metadata):
    with pytest.raises(NotAllowedError, match=next(iter(metadata))):
        check_client_metadata(metadata, complete=False)


def test_every_known_member_has_a_json_type():
    assert set(METADATA_MEMBERS.values()) == {str, list, dict, bool, int}
