"""Handing out a usable client: found, or else registered, renewed or updated first.

``get_or_register()`` is what a site calls, ``for_login()`` what a login calls, and
``get_or_register_for()`` what a site calls that knows a protected resource and no server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from django_dcr import protocol
from django_dcr.conf import conf
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    NotAllowedError,
    RegistrationGoneError,
    errors_at,
)
from django_dcr.lifecycle import ACTIONS
from django_dcr.mechanisms import refusal
from django_dcr.models import (
    AuthorizationServer,
    ClientRegistration,
    ProtectedResource,
    Status,
    check_owner,
    live_registration,
)
from django_dcr.models.failures import LONGEST_PAUSE, pause_after
from django_dcr.services.configuration import recover, update
from django_dcr.services.discovery import AnyChallenge, discover, discover_resource
from django_dcr.services.login import check_endpoints, check_plain_requests
from django_dcr.services.operation import (
    attempts,
    backoff,
    check_backoff,
    check_possible,
    check_state,
    conflict,
    refuse_inside_atomic,
)
from django_dcr.services.registration import register, register_by_choice, settle
from django_dcr.services.renewal import renew
from django_dcr.services.replacement import retry


def get_or_register(
    issuer: str, owner: str = "", *, metadata: Mapping[str, Any] | None = None
) -> ClientRegistration:
    """Return the usable registration of ``owner`` at ``issuer``, registering where there is none.

    Usable means: active, the issuer still allowed, the secret not expired (or renewed first)
    and, where ``metadata`` is given, requesting exactly that (or updated first). A hit costs one
    query and works inside a transaction; everything else sends requests to the server and raises
    ConflictError there. Of any number of processes that call at once, one registers and the
    others wait for it.
    Raises any DCRError; a ConflictError says what a person has to decide. What failed is not
    sent again until a pause has passed: until then its error is raised, with ``retry_after``.
    """
    with errors_at(issuer, "register"):
        return _usable(issuer, owner, metadata)


def for_login(
    issuer: str, owner: str = "", *, metadata: Mapping[str, Any] | None = None
) -> ClientRegistration:
    """Return the registration with which to send a user to log in, or to end that login.

    It is usable as with ``get_or_register()``, the metadata in ``.server.metadata`` is fresh,
    and every endpoint in it that a login uses is on an origin that the issuer or the operator
    trusts: one of another server would be the first half of a mix-up attack (RFC 9700 section
    4.4). An optional endpoint that is malformed or on another origin is left out;
    ``login_endpoint()`` says why. Call this for every request and keep nothing of the result.
    Raises any DCRError.
    """
    registration = get_or_register(issuer, owner, metadata=metadata)
    with errors_at(issuer, "login"):
        # A missing secret or key is reported before the user leaves.
        registration.check_authentication()
        check_endpoints(discover(registration.server))
        check_plain_requests(registration)
    return registration


def get_or_register_for(
    url: str,
    owner: str = "",
    *,
    metadata: Mapping[str, Any] | None = None,
    challenge: AnyChallenge = None,
    issuer: str = "",
) -> ClientRegistration:
    """Return the usable registration of ``owner`` for a protected resource (RFC 9728).

    It is at a server that the resource names and this site allows: ``issuer``, else the one that
    is pinned on the resource's row, else the only one. Where there is no registration, one is
    made as by ``get_or_register()``. A server that does not announce PKCE with S256 is refused,
    unless the client sends no users there. ``challenge`` is that of ``discover_resource()``.
    A hit costs at most two queries, and no request while the resource's metadata is fresh; a
    third query where it names several servers and none is chosen, because one may be disabled.
    Raises what these two raise, and ConflictError where a person has to choose a server.
    """
    resource = discover_resource(url, challenge=challenge)
    with resource.errors():
        issuer = resource.choose_issuer(issuer)
        with errors_at(issuer, "register"):
            return _usable(issuer, owner, metadata, resource)


@sensitive_variables()
def register_named(
    registration: ClientRegistration,
    *,
    initial_access_token: str | None = None,
    mechanism: str | None = None,
    if_missing: bool = False,
) -> ClientRegistration:
    """Register a client for an issuer and owner that somebody named; see ``live_or_new()``.

    By ``mechanism``, or by the first that is possible. With ``if_missing`` an existing
    registration is made usable instead, and updated to what this one requests. Raises
    ConflictError, before anything is sent, where there is one and ``if_missing`` is not given,
    and what ``register()`` and ``get_or_register()`` raise.
    """
    issuer, owner = registration.server.issuer, registration.owner
    unsent = ACTIONS["register"].statuses
    with errors_at(issuer, "register"):
        if not if_missing:
            check_state(registration, *unsent)
        if registration.status in unsent:
            registration.server = AuthorizationServer.objects.for_issuer(issuer)
            try:
                if mechanism is None:
                    return register_by_choice(
                        registration, initial_access_token=initial_access_token
                    )
                registration.mechanism = mechanism
                return register(registration, initial_access_token=initial_access_token)
            except ConflictError:
                if not if_missing:
                    raise  # another process was faster
        return get_or_register(issuer, owner, metadata=registration.requested_metadata)


# -- making a registration usable --------------------------------------------------------------


def _usable(
    issuer: str,
    owner: str,
    metadata: Mapping[str, Any] | None,
    resource: ProtectedResource | None = None,
) -> ClientRegistration:
    """As ``get_or_register()``; for a ``resource``, only at a server that suits it.

    At others nothing is registered: UnsupportedError is raised where the server announces no
    PKCE, InvalidResponseError where it disowns the resource.
    """
    requested = None if metadata is None else protocol.as_stored(metadata)
    registration = live_registration(issuer, owner)
    if registration is None or registration.status in (Status.DRAFT, Status.REJECTED):
        registration = _register(registration, issuer, owner, requested, resource)
    registration.server.check_allowed()
    registration.check_attached()
    if registration.status == Status.UNKNOWN and registration.server.retry_unknown:
        registration = _retry(registration)
    if registration.status == Status.REGISTERING:
        _await_answer(registration)
    if _has_failed(registration):
        raise registration.remembered_error(issuer)
    check_state(registration, Status.ACTIVE)
    if registration.lease:
        registration = _recover(registration)
    if registration.secret_has_expired:
        registration = _renew(registration)
    # What one of several owners requests changes nothing for the others.
    is_own = registration.owner == owner
    if is_own and requested is not None and registration.requested_metadata != requested:
        _update(registration, requested)
    _check_server(registration, resource)
    return registration


def _register(
    registration: ClientRegistration | None,
    issuer: str,
    owner: str,
    metadata: dict[str, Any] | None,
    resource: ProtectedResource | None,
) -> ClientRegistration:
    """Register the row, or return the one that another process registers."""
    if not conf.DCR_AUTO_REGISTER:
        raise NotAllowedError(
            "There is no registration, and DCR_AUTO_REGISTER is off. Register with: "
            f"manage.py dcr_register {issuer}" + (f" --owner {owner}" if owner else "")
        )
    if resource is not None and issuer not in resource.known_issuers:
        refuse_inside_atomic()
        resource.record_issuer(issuer)
    if registration is None:
        refuse_inside_atomic()
        registration = _draft(issuer, owner, metadata)
    elif metadata not in (None, registration.requested_metadata) and registration.owner == owner:
        registration.request_metadata(metadata)
    with backoff(registration, "register"):
        _check_server(registration, resource)
        try:
            return register_by_choice(registration)
        except ConflictError:
            # Another process is registering it, has registered it, or has failed to.
            found = live_registration(registration.server.issuer, registration.owner)
            if found is None or not (
                found.status in (Status.REGISTERING, Status.ACTIVE) or _has_failed(found)
            ):
                raise
            return found


def _retry(registration: ClientRegistration) -> ClientRegistration:
    """Register again in place of an unanswered registration, as the server's row allows.

    Each one that stays unanswered doubles the pause, so that the server keeps few unused clients.
    """
    issuer, owner = registration.server.issuer, registration.owner
    rows = ClientRegistration.objects.primary().for_key(issuer, owner)
    pause = pause_after(rows.filter(status=Status.UNKNOWN).count())
    age = (timezone.now() - registration.updated_at).total_seconds()
    if 0 <= age < pause:  # a negative age means that a clock was set back
        wait = math.ceil(pause - age)
        raise conflict(
            registration,
            "was sent and its answer was lost; it is registered again automatically in "
            f"{wait} seconds, or now with: manage.py dcr_reconcile --retry {{pk}}",
            retry_after=wait,
        )
    try:
        return retry(registration)
    except ConflictError:
        # Another process may be registering it, or have done so a moment ago.
        for _ in attempts():
            current = live_registration(issuer, owner)
            if current is None or current.status not in (Status.DRAFT, Status.REGISTERING):
                break
        if current is None or current.status != Status.ACTIVE:
            raise
        return current


def _draft(issuer: str, owner: str, metadata: dict[str, Any] | None) -> ClientRegistration:
    """Return an unsaved row; the unique index lets only one process insert it."""
    check_owner(owner)
    server = AuthorizationServer.objects.for_issuer(issuer)
    check_backoff(server)
    owner = "" if server.shared else owner
    last = ClientRegistration.objects.primary().for_key(issuer, owner).order_by("-pk").first()
    if last is not None and last.status == Status.GONE and not _may_replace_gone(last):
        check_possible(last, "retry")
        raise ConflictError(
            f"The server no longer accepts registration {last.pk}. A new client is not registered "
            f"automatically; decide with: manage.py dcr_reconcile --retry {last.pk}"
        )
    return ClientRegistration(server=server, owner=owner, requested_metadata=metadata or {})


def _may_replace_gone(last: ClientRegistration) -> bool:
    """Whether a "gone" client's secret has expired, so that a new client loses nothing.

    Not within an hour of its registration: at such a server the next one would be gone as soon.
    """
    age = (timezone.now() - last.created_at).total_seconds()
    return last.secret_has_expired and not refusal(last, "retry") and abs(age) >= LONGEST_PAUSE


def _await_answer(registration: ClientRegistration) -> None:
    if _has_failed(registration):
        return  # one process retries, and the others do not wait for it
    for _ in attempts():
        registration.reload()
        settle(registration)
        if registration.status != Status.REGISTERING:
            return


def _has_failed(registration: ClientRegistration) -> bool:
    """Whether there is no client yet, and the last attempt to register one failed."""
    unregistered = (Status.DRAFT, Status.REJECTED, Status.REGISTERING)
    return registration.status in unregistered and registration.failed_at("register")


def _recover(registration: ClientRegistration) -> ClientRegistration:
    """Read the client if the last process at work on its row was interrupted, but not often."""
    age = (timezone.now() - registration.updated_at).total_seconds()
    server = registration.server
    is_recent = abs(age) < conf.DCR_LEASE  # a long negative age means that a clock was set back
    if is_recent or (server.is_held_back and server.seconds_until_retry):
        return registration  # another process is at work, or the server does not answer
    try:
        return recover(registration)
    except RegistrationGoneError:
        raise
    except DCRError:  # recorded on the row, which stays marked; in a transaction nothing is sent
        return registration


def _renew(registration: ClientRegistration) -> ClientRegistration:
    """Renew an expired secret, unless it was renewed less than an hour ago."""
    if not registration.seconds_until_renewal:
        with backoff(registration, "renew"):
            try:
                registration = renew(registration)
            except ConflictError:
                # Another process may have put a new client in its place.
                current = live_registration(registration.server.issuer, registration.owner)
                if current is None or current.status != Status.ACTIVE or current.secret_has_expired:
                    raise
                registration = current
    if registration.secret_expires_within(timedelta()):
        raise ConflictError(
            f"The secret of registration {registration.pk} expired within an hour of its renewal, "
            "and is not renewed again so soon. Ask the server's operator for a longer "
            f"lifetime; renew it now with: manage.py dcr_renew {registration.pk}",
            retry_after=math.ceil(registration.seconds_until_renewal) or None,
        )
    return registration


def _update(registration: ClientRegistration, requested: dict[str, Any]) -> None:
    registration.request_metadata(requested)
    if refusal(registration, "update"):
        registration.save_request()  # a person has to change the client at the server
        return
    with backoff(registration, "update"):
        update(registration)


def _check_server(registration: ClientRegistration, resource: ProtectedResource | None) -> None:
    """Check that the server suits the resource, and offers what its own row requires."""
    server = registration.server
    if resource is None and not server.require_pkce:
        return
    members = registration.metadata or registration.requested
    logs_in = "authorization_code" in members.get("grant_types", ["authorization_code"])
    resources = [] if resource is None else [resource.resource, resource.indicator]
    try:
        server.check_suits(resources, logs_in=logs_in)
    except DCRError:  # according to metadata that may be out of date
        discover(server).check_suits(resources, logs_in=logs_in)
