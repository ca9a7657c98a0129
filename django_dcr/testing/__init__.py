"""An authorization server for a site's own tests, inside the process and without sockets.

::

    with AuthorizationServer("https://login.test") as server:
        response = client.get("/login/")            # the site registers and redirects the user
        client.get(server.log_in(response.url))     # the user logs in there and returns

``switch_on()`` gives the server the habits of real ones. With pytest the fixture
``authorization_server`` is such a server.
"""

from __future__ import annotations

from django_dcr.testing.habits import HABITS
from django_dcr.testing.messages import LoginRefusedError, Request
from django_dcr.testing.server import AuthorizationServer

__all__ = ["HABITS", "AuthorizationServer", "LoginRefusedError", "Request"]
