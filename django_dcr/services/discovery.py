"""Asking a server for its metadata document."""

from __future__ import annotations

from django_dcr.exceptions import UnsupportedError
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services.fetching import ask_again, ensure_fresh, was_refreshed


def discover(server: AuthorizationServer, *, refresh: bool = False) -> AuthorizationServer:
    """Make sure that the row holds fresh metadata (RFC 8414 section 3, OpenID Discovery 4).

    A fresh row costs neither query nor request. While the server cannot be reached, or another
    process is refreshing the row, the last good document remains in use, unless ``refresh``
    insists on a new one. After a failure no request is sent until a pause has passed, except
    with ``refresh``: the error is raised again, with ``retry_after`` in seconds.
    Raises NotAllowedError, NetworkError, InvalidResponseError, RequestRejectedError,
    UnsupportedError where no document exists, or ConflictError where ``requests_per_minute``
    allows no further request.
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
    """As ``discover()`` for the registration's server, even after a recent failure.

    Work that somebody requested by name does not back off; other work ``is_calm`` and does.
    """
    server = registration.server
    if registration.is_calm or server.metadata_by_hand:
        return discover(server)
    server.check_allowed()
    if not (server.is_fresh or was_refreshed(server)):
        ask_again(server)
    return server


def _check_entered(server: AuthorizationServer) -> None:
    """Check that metadata is stored for a server whose metadata is entered by hand."""
    if not (server.has_metadata or was_refreshed(server)):
        raise UnsupportedError(
            "The metadata of this server is entered by hand, and none is stored. Store it with: "
            f"manage.py dcr_server {server.issuer} --metadata FILE"
        )
