"""Probing: what a server reveals about a client that cannot be read there (RFC 7592)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from urllib.parse import urlencode

from django.views.decorators.debug import sensitive_variables

from django_dcr import protocol, transport
from django_dcr.exceptions import DCRError, NetworkError
from django_dcr.lifecycle import Status
from django_dcr.models import ClientRegistration
from django_dcr.services.discovery import discover_for
from django_dcr.services.login import code_challenge_method, login_scope
from django_dcr.services.operation import Operation, check_state, operation
from django_dcr.text import SensitiveBytes, clean

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# RFC 7636 section 4.1 requires 43 characters or more; nobody ever redeems this one.
_PKCE = "A" * 43


@dataclass(frozen=True)
class Probe:
    """What a server reveals about a client; None where it is not known."""

    #: Whether the token endpoint accepts the client's credentials, or its ID where it has none.
    credentials_accepted: bool | None
    #: Whether the server knows the client.
    client_known: bool | None
    #: What each endpoint answered, as a text.
    token_endpoint: str
    authorization_endpoint: str


def probe(registration: ClientRegistration) -> Probe:
    """Find out whether a server still knows a client and its credentials, by two or three requests.

    A token request with a code that was never issued is refused because of the code where the
    client is accepted, and because of the client where it is not (RFC 6749 section 5.2). An
    authorization request with ``prompt=none`` (OpenID Connect Core section 3.1.2.1) is redirected
    to the redirect URI where the client is known. Users see none of it, and the row does not
    change. Raises ConflictError for a registration that is neither active nor
    gone, UnsupportedError and DecryptionError where it cannot authenticate, NotAllowedError for
    endpoints on origins that are not trusted, and NetworkError.
    """
    with operation(registration, "login") as work:
        check_state(registration, Status.ACTIVE, Status.GONE)
        registration.check_attached()
        discover_for(registration)
        accepted, at_token_endpoint = _request_token(work)
        known, at_authorization_endpoint = _request_authorization(work)
    if accepted:
        known = True
    elif known is False and accepted is None:
        known = None  # it may have refused the request rather than the client
    return Probe(accepted, known, at_token_endpoint, at_authorization_endpoint)


@sensitive_variables()
def _request_token(work: Operation) -> tuple[bool | None, str]:
    headers, parameters = work.registration.client_authentication()
    reply = _exchange(work, headers, parameters)
    refused = protocol.client_refusal(reply)
    if refused:
        return False, f"refused the client: {clean(refused, 60)}"
    if not protocol.accepts_client(reply):
        return None, f"answered {reply.status}, which says nothing about the client"
    # The same answer to a client that cannot exist would prove nothing.
    control = _exchange(work, {}, {"client_id": f"unknown-{secrets.token_urlsafe(16)}"})
    if protocol.accepts_client(control):
        return None, "answers in the same way to clients that do not exist"
    return True, "accepted the client, and refused the code"


@sensitive_variables()
def _exchange(
    work: Operation, headers: dict[str, str], parameters: dict[str, str]
) -> transport.Reply:
    form = {
        "grant_type": "authorization_code",
        "code": secrets.token_urlsafe(32),
        "code_verifier": _PKCE,
        **({"redirect_uri": _redirect_uri(work)} if _redirect_uri(work) else {}),
        **parameters,
    }
    body = SensitiveBytes(urlencode(form).encode())
    return work.send(
        "POST", work.server.endpoint("token_endpoint"), body=body, headers=_FORM | headers
    )


def _request_authorization(work: Operation) -> tuple[bool | None, str]:
    registration, redirect_uri = work.registration, _redirect_uri(work)
    if not redirect_uri:
        return None, "was not requested: the client has no redirect URI"
    state = secrets.token_urlsafe(16)
    try:
        protocol.check_plain_requests(work.server.metadata, registration.metadata)
        method = code_challenge_method(registration)
        endpoint = work.server.endpoint("authorization_endpoint")
        parameters = {
            "response_type": "code",
            "client_id": registration.client_id,
            "redirect_uri": redirect_uri,
            "state": state,
            "prompt": "none",
            **({"scope": login_scope(registration)} if login_scope(registration) else {}),
            **({"code_challenge": _PKCE, "code_challenge_method": method} if method else {}),
        }
        separator = "&" if "?" in endpoint else "?"
        url = f"{endpoint}{separator}{urlencode(parameters)}"
        reply = work.send("GET", url, headers={"Accept": "text/html, application/json"})
    except NetworkError:
        raise
    except DCRError as exc:
        return None, f"was not requested: {exc}"
    known = protocol.knows_client(reply, redirect_uri, state)
    return known, _OUTCOMES[known].format(reply.status)


_OUTCOMES = {
    True: "sent the answer to the redirect URI",
    False: "answered {} and did not send to the redirect URI",
    None: "answered {}, which says nothing about the client",
}


def _redirect_uri(work: Operation) -> str:
    registered = work.registration.metadata.get("redirect_uris") or [""]
    return str(registered[0])
