"""Exchanges with a client's configuration endpoint (RFC 7592), for a row that is held."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.db import IntegrityError
from django.views.decorators.debug import sensitive_variables

from django_dcr import protocol, signals, transport
from django_dcr.exceptions import (
    InvalidResponseError,
    RegistrationGoneError,
    UnsupportedError,
)
from django_dcr.fields import Secret
from django_dcr.models import ClientRegistration
from django_dcr.services import pacing
from django_dcr.services.leases import announce, conflict, unusable
from django_dcr.services.pacing import Turn

# Statuses that may come with new credentials; which are right is judged once those are safe.
_SUCCESS = range(200, 300)


def fetch(
    registration: ClientRegistration,
    *,
    step: str,
    release: bool = False,
    turn: Turn = Turn.FIRST,
) -> None:
    """GET the client and store the answer (section 2.1), and be done with the row or not."""
    turned = registration.registration_access_token
    reply = send("GET", registration, step=step, turn=turn, accepted=_SUCCESS)
    _store(registration, reply, turned, registration.metadata, step=step, release=release)


def replace_metadata(
    registration: ClientRegistration,
    *,
    wanted: Mapping[str, Any],
    defaults: Mapping[str, Any],
    removed: Collection[str],
) -> None:
    """PUT the granted metadata with the ``wanted`` changes (section 2.2).

    A PUT replaces everything, so what the server holds is read first, where it can be.
    """
    known = _fetch_where_offered(registration)
    try:
        _put(registration, wanted, defaults, removed)
    except RegistrationGoneError as exc:
        if not known or exc.status == 401:
            raise
        raise UnsupportedError(
            "The server knows this client, and offers no updates of it. Revoke it and register "
            "anew with the metadata that you need.",
            issuer=registration.server.issuer,
            step="update",
            status=exc.status,
        ) from exc


def _fetch_where_offered(registration: ClientRegistration) -> bool:
    try:
        fetch(registration, step="update")
    except UnsupportedError:
        if not registration.is_manageable:
            raise
        return False
    return True


@sensitive_variables()
def _put(
    registration: ClientRegistration,
    wanted: Mapping[str, Any],
    defaults: Mapping[str, Any],
    removed: Collection[str],
) -> None:
    secret = registration.client_secret if registration.server.send_client_secret else None
    body = protocol.update_request(
        {**defaults, **registration.metadata},
        wanted,
        client_id=registration.client_id,
        client_secret=None if secret is None else secret.reveal(),
        removed=removed,
    )
    turned = registration.registration_access_token
    reply = send("PUT", registration, step="update", turn=Turn.MIDWAY, accepted=_SUCCESS, body=body)
    if reply.status == 204:
        fetch(registration, step="update", release=True, turn=Turn.MIDWAY)
    else:
        sent = {k: v for k, v in body.items() if k not in ("client_id", "client_secret")}
        _store(registration, reply, turned, sent, step="update", release=True)


@sensitive_variables()
def send(
    method: str,
    registration: ClientRegistration,
    *,
    step: str,
    turn: Turn,
    accepted: Collection[int],
    body: Mapping[str, Any] | None = None,
) -> transport.Reply:
    """Send one request to the configuration endpoint, with the registration access token.

    The URL is used as given, and only where the server's issuer or an operator vouches for its
    origin (RFC 7592 section 3 and appendix B).
    """
    server, uri = registration.server, registration.registration_client_uri
    token = registration.registration_access_token
    if not uri or token is None:
        raise UnsupportedError(
            f"The server gave registration {registration.pk} no means to be read, updated or "
            "deleted (RFC 7592).",
            issuer=server.issuer,
            step=step,
        )
    registration.check_attached(step)
    issuer, bearer = server.issuer, token.reveal()
    protocol.vouched(uri, issuer=issuer, trusted_origins=server.trusted_origins, step=step)
    payload = None if body is None else protocol.encode(body)
    reply = pacing.send(
        method, uri, server=server, step=step, turn=turn, token=bearer, body=payload
    )
    secrets = [bearer] if body is None else [bearer, body.get("client_secret", "")]
    protocol.check_status(reply, accepted, issuer=issuer, step=step, secrets=secrets)
    return reply


@sensitive_variables()
def _store(
    registration: ClientRegistration,
    reply: transport.Reply,
    turned: Secret | None,
    known: Mapping[str, Any],
    *,
    step: str,
    release: bool,
) -> None:
    """Commit what an answer issues, and then judge the rest of it."""
    issuer = registration.server.issuer
    # No variable here has the document, whose secrets a traceback would show.
    information = protocol.client_information(
        protocol.parse_object(reply.body, issuer=issuer, step=step), headers=reply.headers
    )
    if information.client_id != registration.client_id:
        raise InvalidResponseError(
            "The server answered about another client. Nothing was changed; report this to the "
            "server's operator.",
            issuer=issuer,
            step=step,
        )
    secret = registration.client_secret  # stays this very object unless there is a new one
    # Members that an answer leaves out are as they were asked (RFC 7591 section 3.2.1).
    adoptable = reply.status == 200 and not information.faults
    metadata = protocol.overlaid(known, information.metadata) if adoptable else None
    try:
        stored = registration.store(
            information, metadata=metadata, turned=turned, release=release and adoptable
        )
    except IntegrityError as exc:
        raise conflict(registration, "was replaced while this process waited", step) from exc
    if not stored:
        raise conflict(registration, "was taken over while this process waited", step)
    if registration.client_secret is not secret:
        announce(signals.secret_changed, registration)
    protocol.check_status(reply, {200}, issuer=issuer, step=step)
    if information.faults:
        raise unusable(registration, information, step)
