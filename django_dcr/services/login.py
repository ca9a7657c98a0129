"""Login: what an authorization code flow checks, whichever library carries it out.

``for_login()`` in ``provision`` begins one. Every step loads the client from the database, so a
renewed secret is used from the next request on. A login is bound to the issuer that it began at:
a response from another one is refused (mix-up attacks, RFC 9700 section 4.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError
from django.utils import timezone

from django_dcr import protocol, transport
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    RegistrationGoneError,
    RequestRejectedError,
    errors_at,
)
from django_dcr.logs import log
from django_dcr.mechanisms import MECHANISMS, refusal
from django_dcr.models import (
    AuthorizationServer,
    ClientRegistration,
    Status,
    live_registration,
)
from django_dcr.services.configuration import fetch
from django_dcr.services.operation import operation
from django_dcr.text import clean

if TYPE_CHECKING:
    from django_dcr.transport.adapter import AnySession

STEP = "login"

_REQUIRED = ("authorization_endpoint", "token_endpoint")
# How often, at most, the client is read at the server after its token endpoint has refused it.
_READ_AGAIN = timedelta(minutes=5)


def login_endpoint(registration: ClientRegistration, name: str) -> str:
    """Return the URL of an optional endpoint, such as "end_session_endpoint".

    Raises UnsupportedError where the server has none, InvalidResponseError where its URL is
    malformed, and NotAllowedError where it is on an origin that is not trusted.
    """
    server = registration.server
    if not server.metadata.get(name):  # ``check_endpoints()`` may have left it out
        stored = AuthorizationServer.objects.primary().filter(pk=server.pk)
        server = stored.first() or server
    with errors_at(server.issuer, STEP):
        return server.endpoint(name)


def resume_login(attempt: Mapping[str, str]) -> ClientRegistration:
    """Return the registration with which a returning user began the login.

    ``attempt`` is what ``login_attempt`` returned. Nothing is sent to the server: no client is
    registered, renewed or updated, and the stored metadata is used. Raises ConflictError where
    the registration is no longer active or ``attempt`` names none, so that the login has to
    begin again, and NotAllowedError or InvalidResponseError where the server or its metadata
    must not be used for a login.
    """
    issuer, owner = str(attempt.get("issuer", "")), str(attempt.get("owner", ""))
    with errors_at(issuer, STEP):
        registration = live_registration(issuer, owner)
        if registration is None or registration.status != Status.ACTIVE:
            raise ConflictError(
                "The client was revoked or replaced while the user was logging in. Begin the "
                "login again."
            )
        registration.check_attached()
        check_endpoints(registration.server)
    return registration


def check_login_request(registration: ClientRegistration, redirect_uri: str | None = None) -> None:
    """Check, before a user is redirected, what would otherwise fail at the server or afterwards.

    Raises UnsupportedError where the client authenticates by a method that this app cannot use,
    or the server takes no plain authorization requests; NotAllowedError where ``redirect_uri``
    is not one of the client's; and DecryptionError.
    """
    with errors_at(registration.server.issuer, STEP):
        check_plain_requests(registration)
        registration.client_authentication()
        registered = registration.metadata.get("redirect_uris")
        if redirect_uri is not None and registered:
            protocol.check_redirect_uri(redirect_uri, registered)


def check_endpoints(server: AuthorizationServer) -> None:
    """Keep, in this object's metadata, only the endpoints that a login may use.

    Raises what ``AuthorizationServer.endpoint()`` raises for those that every login uses.
    """
    for name in _REQUIRED:
        server.endpoint(name)
    unusable = protocol.unusable_endpoints(
        server.metadata, issuer=server.issuer, trusted_origins=server.trusted_origins
    )
    if unusable:
        usable = {k: v for k, v in server.metadata.items() if k not in unusable}
        # Without the tag a refresh returns the whole document again.
        server.metadata, server.etag = usable, ""


def check_plain_requests(registration: ClientRegistration) -> None:
    """Raise UnsupportedError where the server or client requires signed or pushed requests."""
    protocol.check_plain_requests(registration.server.metadata, registration.metadata)


def login_scope(registration: ClientRegistration) -> str:
    """Return the scope to request at a login, space-separated: what was requested and granted.

    Not what a server granted in addition, such as offline_access. "" where neither is known.
    """
    requested, granted = registration.requested.get("scope"), registration.metadata.get("scope")
    return protocol.requested_scope(str(requested or ""), str(granted or ""))


def code_challenge_method(registration: ClientRegistration) -> str:
    """Return the PKCE method to use (RFC 7636): "S256", or "" where the server refuses that.

    Raises UnsupportedError where the server refuses it to a client without a secret, and where
    the server's row requires it and the server does not announce it.
    """
    method = registration.metadata.get("token_endpoint_auth_method", "client_secret_basic")
    with errors_at(registration.server.issuer, STEP):
        if registration.server.require_pkce:
            registration.server.check_suits([], logs_in=True)
        return protocol.code_challenge_method(registration.server.metadata, method)


def login_attempt(registration: ClientRegistration) -> dict[str, str]:
    """Return what to store with the ``state`` of a new login, for ``resume_login``; no secrets."""
    return {
        "issuer": registration.server.issuer,
        "owner": registration.owner,
        "client_id": registration.client_id,
    }


def check_login(
    registration: ClientRegistration,
    attempt: Mapping[str, str],
    iss: str | None,
    *,
    is_error: bool = False,
) -> None:
    """Check that an authorization response may be used with ``registration`` (RFC 9207).

    Call it for every response, before its code is sent anywhere. ``attempt`` is what
    ``login_attempt`` returned for this ``state``, ``iss`` the response's parameter, None where it
    is missing, and ``is_error`` says that the response is an error without a code. Raises
    InvalidResponseError where the login began at another issuer or the response comes from one,
    and ConflictError where the client was replaced meanwhile, so that the code cannot be redeemed
    and the user has to begin again.
    """
    began = attempt.get("issuer"), attempt.get("owner")
    issuer = registration.server.issuer
    with errors_at(issuer, STEP):
        if began != (issuer, registration.owner):
            raise InvalidResponseError(
                "This login began with another registration, and its response must not be used "
                "with this one. Begin the login again."
            )
        metadata = registration.server.metadata
        protocol.check_response_issuer(iss, metadata, issuer=issuer, is_error=is_error)
        if attempt.get("client_id") != registration.client_id:
            raise ConflictError(
                "The client was replaced while the user was logging in. Begin the login again."
            )


def check_id_token(registration: ClientRegistration, claims: Mapping[str, Any]) -> None:
    """Check the issuer, audience and expiry of an ID token (OpenID Connect Core 3.1.3.7).

    For libraries that do not; they must check its signature and nonce. Raises
    InvalidResponseError.
    """
    with errors_at(registration.server.issuer, STEP):
        protocol.check_id_token(
            claims, issuer=registration.server.issuer, client_id=registration.client_id
        )


def check_signed_claims(registration: ClientRegistration, claims: Mapping[str, Any]) -> None:
    """Check the issuer and audience of signed userinfo (OpenID Connect Core section 5.3.2).

    Unlike an ID token it need not expire. Raises InvalidResponseError.
    """
    with errors_at(registration.server.issuer, STEP):
        protocol.check_signed_claims(
            claims, issuer=registration.server.issuer, client_id=registration.client_id
        )


def client_refused(registration: ClientRegistration, *, error: str = "invalid_client") -> None:
    """Find out why a token endpoint refused the client, and record it on the row.

    ``error`` is the error code of the response, which ``protocol.client_refusal`` finds.
    The client is read at the server (RFC 7592 section 2.1): if the server no longer knows it, the
    row becomes "gone"; a new secret in the response is stored; and where neither explains the
    refusal, it is recorded in ``last_error`` and the history. The login has failed already, so
    this raises nothing: what prevents the read, such as a transaction, is logged.
    """
    try:
        _diagnose(registration, error)
    except (DCRError, DatabaseError) as exc:
        log(
            "login_failed",
            "A login failed: the token endpoint of %s refused registration %s. %s",
            registration.server.issuer,
            registration.pk,
            exc,
        )


def login_session(session: AnySession, registration: ClientRegistration) -> AnySession:
    """Prepare a library's session of ``requests`` for this registration's server; return it.

    Applies ``transport.harden_session``, and calls ``client_refused`` for every response with
    ``invalid_client``, or what token endpoints answer instead.
    """

    def check_response(response: Any, *_args: Any, **_options: Any) -> None:
        reply = transport.Reply(response.status_code, response.headers, response.content)
        refused = protocol.client_refusal(reply)
        # From another endpoint a 404, say, does not concern the client.
        at_token_endpoint = response.url == registration.server.metadata.get("token_endpoint")
        if refused == "invalid_client" or (refused and at_token_endpoint):
            client_refused(registration, error=refused)

    session.hooks["response"].append(check_response)
    return transport.harden_session(
        session, registration.server.issuer, registration=registration.pk
    )


def _diagnose(registration: ClientRegistration, error: str) -> None:
    used = _credentials(registration)
    with operation(registration, "read") as work, work.lease(Status.ACTIVE, task=STEP):
        if _credentials(registration) != used or _was_read(registration):
            return
        registration.record_refusal()
        if refusal(registration, "read"):
            raise _refusal(registration, error)
        try:
            fetch(work)
        except RegistrationGoneError:
            raise
        except DCRError as exc:
            more = f" The client could not be read at the server: {exc}"
            raise _refusal(registration, error, more) from exc
        if _credentials(registration) == used:
            raise _refusal(registration, error)
    registration.note(STEP)


def _credentials(registration: ClientRegistration) -> tuple[Any, ...]:
    """Return what the client authenticates with; assertions contain the time."""
    return registration.client_secret, registration.clock_offset


def _was_read(registration: ClientRegistration) -> bool:
    """Whether the client was read because of a refusal a moment ago."""
    at = registration.refused_at
    return at is not None and timedelta() <= timezone.now() - at < _READ_AGAIN


def refused_advice(registration: ClientRegistration) -> str:
    """Return what to do about a client whose credentials a server refuses."""
    issuer, advice = registration.server.issuer, MECHANISMS[registration.mechanism].when_refused
    if registration.signs:
        advice = (
            "Check that the server can fetch the jwks_uri or has the current keys "
            "(manage.py dcr_update {pk}), that this machine's clock is right, and "
            "assertion_audience and assertion_typ of the server in the admin."
        )
    return advice.format(pk=registration.pk, issuer=issuer)


def _refusal(registration: ClientRegistration, error: str, more: str = "") -> RequestRejectedError:
    return RequestRejectedError(
        f"The token endpoint refused this client's credentials ({clean(error, 60)}), so nobody can "
        f"log in. {refused_advice(registration)}{more}",
        issuer=registration.server.issuer,
        step=STEP,
        error=clean(error, 60),
    )
