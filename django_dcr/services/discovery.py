"""Asking a server for its metadata document."""

from __future__ import annotations

from django_dcr.exceptions import UnsupportedError
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services.fetching import ask_again, ensure_fresh, was_refreshed


def discover(server: AuthorizationServer, *, refresh: bool = False) -> AuthorizationServer:
    """Make sure that the row holds fresh metadata (RFC 8414 section 3, OpenID Discovery 4).

    A fresh row costs nothing. When the server cannot be asked, the last good document is
    served on, and so it is while another process refreshes it, unless ``refresh`` insists on a
    new one. After a failure the server is not asked again until a pause has passed, except with
    ``refresh``: its error is raised again, with ``retry_after``.
    Raises NotAllowedError, NetworkError, InvalidResponseError, RequestRejectedError,
    UnsupportedError where no document exists, or ConflictError where ``requests_per_minute``
    does not allow to ask.
    """
    with server.errors():
        server.check_allowed()
        if server.metadata_by_hand:
            _check_entered(server)
        elif refresh:
            ask_again(server, insists=True)
        else:
            ensure_fresh(server)
    return server


def discover_for(registration: ClientRegistration) -> AuthorizationServer:
    """As ``discover()`` of the registration's server, whatever failed a short while ago.

    Work that somebody asked for by name is not held back; other work ``is_calm``.
    """
    server = registration.server
    if registration.is_calm or server.metadata_by_hand:
        return discover(server)
    server.check_allowed()
    if not (server.is_fresh or was_refreshed(server)):
        ask_again(server)
    return server


def _check_entered(server: AuthorizationServer) -> None:
    """Check that there is the metadata of a server that is never asked for it."""
    if not (server.has_metadata or was_refreshed(server)):
        raise UnsupportedError(
            "The metadata of this server is entered by hand, and none is stored. Store it with: "
            f"manage.py dcr_server {server.issuer} --metadata FILE"
        )
