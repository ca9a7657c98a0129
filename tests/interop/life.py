"""The whole life of a client at one server: each step is checked at the server too."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from django_dcr import services
from django_dcr.exceptions import (
    RegistrationGoneError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.interop.server import CALLBACK, NAME, LoginRefusedError, NotOfferedError, Server

METADATA = {"client_name": NAME, "redirect_uris": [CALLBACK]}
YES = "yes"
ADOPTED = ("client_id", "client_secret", "registration_client_uri", "registration_access_token")

_TIMEOUT = 30


def life(server: Server) -> dict[str, str]:
    """Run every step; return the outcomes for the server's table.

    A step in the server's limits must raise the app's error for it, so that this fails when the
    server starts to support the step.
    """
    outcomes = {}
    for name, step in STEPS.items():
        limit = server.limits.get(name)
        if limit is None:
            outcomes[name] = step(server)
        else:
            with pytest.raises((UnsupportedError, NotOfferedError)):
                step(server)
            outcomes[name] = limit
    assert server.limits.keys() <= STEPS.keys()
    return outcomes


def discover(server: Server) -> str:
    row = AuthorizationServer.objects.for_issuer(server.issuer)
    services.discover(row)
    assert row.metadata["issuer"] == server.issuer
    assert row.supports_pkce
    row.client_metadata = dict(server.client_metadata)
    with suppress(NotOfferedError):
        row.initial_access_token = server.initial_access_token()
    row.save()
    return YES


def register(server: Server) -> str:
    row = registered(server)
    assert row.status == "active"
    assert server.client_name(row.client_id) == NAME
    return YES


def log_in(server: Server) -> str:
    row = registered(server)
    assert "access_token" in tokens(server, row)
    return f"{YES}, by {row.metadata['token_endpoint_auth_method']}"


def read(server: Server) -> str:
    row = services.read(registered(server))
    assert row.metadata["client_name"] == NAME
    return YES


def update(server: Server) -> str:
    row = registered(server)
    before = registration_token(row)
    row.requested_metadata = {**METADATA, "client_name": "Shop and café"}
    services.update(row)
    assert server.client_name(row.client_id) == "Shop and café"
    assert "client_name" not in row.drift
    services.read(row)
    return f"{YES}, token kept" if registration_token(row) == before else f"{YES}, token rotated"


def renew(server: Server) -> str:
    row = registered(server)
    before = secret(row), row.client_secret_expires_at
    time.sleep(1.1)  # lifetimes are in whole seconds
    renewed = services.renew(row)
    assert (secret(renewed), renewed.client_secret_expires_at) != before
    assert "access_token" in tokens(server, renewed)
    return how_renewed(server, row, renewed)


def revoke(server: Server) -> str:
    row = registered(server)
    try:
        services.revoke(row)
    except UnsupportedError:
        assert server.client_name(row.client_id) is not None
        services.revoke(row, forget=True)
        assert row.status == "revoked"
        raise
    assert (row.status, row.client_secret) == ("revoked", None)
    assert server.client_name(row.client_id) is None
    return YES


def wrong_token(server: Server) -> str:
    row = registered(server, "wrong token")
    if row.is_manageable:
        row.registration_access_token = "wrong"
        row.save()
    with pytest.raises(RegistrationGoneError):
        services.read(row)
    assert row.status == "gone"
    assert server.client_name(row.client_id) == NAME
    services.revoke(row, forget=True)
    assert row.status == "revoked"
    return YES


def deleted(server: Server) -> str:
    row = registered(server, "deleted there")
    server.forget(row.client_id)
    with pytest.raises(LoginRefusedError):
        tokens(server, row)
    with pytest.raises(RegistrationGoneError):
        services.read(row)
    assert row.status == "gone"
    successor = services.retry(row)
    assert server.client_name(successor.client_id) == NAME
    return YES


def initial_access_token(server: Server) -> str:
    token = server.initial_access_token()
    place = AuthorizationServer.objects.get(issuer=server.issuer)
    kept, place.initial_access_token = place.initial_access_token, None
    place.save()
    row = ClientRegistration(server=place, owner="token", requested_metadata=METADATA)
    for wrong in (None, "wrong"):
        with pytest.raises(RequestRejectedError):
            services.register(row, initial_access_token=wrong)
        assert row.status == "rejected"
    services.register(row, initial_access_token=token)
    assert server.client_name(row.client_id) == NAME
    place.initial_access_token = kept
    place.save()
    return YES


def secret_expires(server: Server) -> str:
    row = registered(server, "secret expires")
    if not row.client_secret_expires_at:
        raise NotOfferedError
    assert row.client_secret_expires_at > time.time()
    # As if that much time had passed at the server and here.
    server.expire_secret(row.client_id)
    ClientRegistration.objects.filter(pk=row.pk).update(client_secret_expires_at=1)
    assert "access_token" not in tokens(server, row)
    renewed = registered(server, "secret expires")
    assert renewed.client_secret_expires_at
    assert renewed.client_secret_expires_at > time.time()
    assert "access_token" in tokens(server, renewed)
    return how_renewed(server, row, renewed)


def token_expires(server: Server) -> str:
    row = registered(server, "token expires")
    server.expire_registration_token(row.client_id)
    with pytest.raises(RegistrationGoneError):
        services.read(row)
    assert row.status == "gone"
    successor = services.retry(row)
    assert server.client_name(successor.client_id) == NAME
    return YES


def document(server: Server) -> str:
    """A client whose metadata document this site serves and the server fetches."""
    place = AuthorizationServer.objects.get(issuer=server.issuer)
    if not place.takes_documents:
        raise NotOfferedError
    AuthorizationServer.objects.filter(pk=place.pk).update(mechanisms=["metadata_document"])
    methods = [method for method in ("none", "private_key_jwt") if method in offered(place)]
    for method in methods:
        wishes = {**METADATA, "token_endpoint_auth_method": method}
        row = services.get_or_register(server.issuer, method, metadata=wishes)
        assert row.mechanism == "metadata_document"
        assert not services.inspect_document(row).faults
        assert "access_token" in tokens(server, row)
    AuthorizationServer.objects.filter(pk=place.pk).update(mechanisms=[])
    return f"{YES}, by {' and '.join(methods)}"


def offered(place: AuthorizationServer) -> list[str]:
    methods: list[str] = place.metadata["token_endpoint_auth_methods_supported"]
    return methods


def adopted(server: Server) -> str:
    """A client that was registered elsewhere: adopted with its secret, then with its token."""
    made = registered_elsewhere(server)
    login = {name: made[name] for name in ("client_id", "client_secret")}
    row = services.adopt(server.issuer, "adopted", **login, metadata=METADATA)
    assert row.mechanism == "pre_registered"
    assert "access_token" in tokens(server, row)
    with pytest.raises(UnsupportedError, match="was registered by a person"):
        services.read(row)
    if "registration_access_token" not in made:
        return f"{YES}, by its secret"
    row = services.adopt(server.issuer, "adopted", **made, replace=True)
    assert services.read(row).metadata["client_name"] == NAME
    assert "access_token" in tokens(server, row)
    return f"{YES}, and manageable"


def registered_elsewhere(server: Server) -> Mapping[str, str]:
    """Register as the operator if there is a console, else with a plain request."""
    with suppress(NotOfferedError):
        return server.register_by_hand()
    endpoint = AuthorizationServer.objects.get(issuer=server.issuer).metadata
    headers = {}
    with suppress(NotOfferedError):
        headers["Authorization"] = f"Bearer {server.initial_access_token()}"
    answer = requests.post(
        endpoint["registration_endpoint"],
        json={**METADATA, **server.client_metadata},
        headers=headers,
        timeout=_TIMEOUT,
    )
    answer.raise_for_status()
    return {name: text for name, text in answer.json().items() if name in ADOPTED}


STEPS: Mapping[str, Callable[[Server], str]] = {
    "discover": discover,
    "register": register,
    "log in": log_in,
    "read": read,
    "update": update,
    "renew": renew,
    "revoke": revoke,
    "wrong token": wrong_token,
    "deleted there": deleted,
    "initial token": initial_access_token,
    "secret expires": secret_expires,
    "token expires": token_expires,
    "document": document,
    "adopted": adopted,
}


def registered(server: Server, owner: str = "") -> ClientRegistration:
    return services.get_or_register(server.issuer, owner)


def secret(row: ClientRegistration) -> str | None:
    return None if row.client_secret is None else row.client_secret.reveal()


def registration_token(row: ClientRegistration) -> str | None:
    token = row.registration_access_token
    return None if token is None else token.reveal()


def how_renewed(server: Server, row: ClientRegistration, renewed: ClientRegistration) -> str:
    if renewed.client_id == row.client_id:
        return f"{YES}, in place"
    old_one_stays = server.client_name(row.client_id) is not None
    return f"{YES}, by a new client" + ("; the old one stays there" if old_one_stays else "")


def tokens(server: Server, row: ClientRegistration) -> dict[str, object]:
    """Log a user in with the client (RFC 6749 section 4.1, RFC 7636); return what is issued."""
    metadata, verifier = row.server.metadata, secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    question = {
        "response_type": "code",
        "client_id": row.client_id,
        "redirect_uri": CALLBACK,
        "state": "a state",
        "code_challenge": challenge.decode().rstrip("="),
        "code_challenge_method": "S256",
        **({"scope": "openid"} if "openid" in metadata.get("scopes_supported", []) else {}),
    }
    landed = server.log_in(f"{metadata['authorization_endpoint']}?{urlencode(question)}")
    answer = parse_qs(urlsplit(landed).query)
    assert answer.get("state") == ["a state"], landed
    headers, parameters = row.client_authentication()
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"][0],
        "redirect_uri": CALLBACK,
        "code_verifier": verifier,
        **parameters,
    }
    place = metadata["token_endpoint"]
    issued: dict[str, object] = requests.post(
        place, headers=headers, data=form, timeout=_TIMEOUT
    ).json()
    return issued
