"""Signals, sent after the change is committed with ``sender=ClientRegistration, registration=row``.

They are sent robustly: a receiver that raises is logged by Django and changes nothing.
"""

from __future__ import annotations

from django.dispatch import Signal

#: A client was registered.
registered = Signal()
#: The server took an update of the client's metadata.
updated = Signal()
#: The row holds another client secret than before.
secret_changed = Signal()
#: The secret's lifetime was extended; where that took a new client, also ``replaced=row``.
renewed = Signal()
#: The client was deleted at the server, or closed locally.
revoked = Signal()
#: The server refused the registration's token, or no longer knows the client.
gone = Signal()
#: A protected resource names other authorization servers than before; with
#: ``sender=ProtectedResource, resource=row`` and ``before``, a list of issuers.
servers_changed = Signal()
