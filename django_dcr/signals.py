"""Signals for what happens to registrations, and for each exchange with a server.

Those about a registration are sent after the change is committed, with ``registration=row`` and
``sender=ClientRegistration``. All are sent by ``send_robust()``: an error that a receiver raises
is logged by Django and has no other effect.
"""

from __future__ import annotations

from django.dispatch import Signal

#: A client was registered.
registered = Signal()
#: The server accepted an update of the client's metadata.
updated = Signal()
#: The client has a new secret.
secret_changed = Signal()
#: The secret was renewed; if a new client replaced the old one, with ``replaced=row`` too.
renewed = Signal()
#: The client was deleted at the server, or closed locally.
revoked = Signal()
#: The server refused the registration's token, or no longer knows the client.
gone = Signal()
#: A protected resource names other authorization servers than before; with
#: ``sender=ProtectedResource, resource=row`` and ``before``, a list of issuers.
servers_changed = Signal()
#: An event was written to a registration's history; with ``sender=RegistrationEvent``, and it as
#: ``event``.
recorded = Signal()
#: A request was sent, whether or not it was answered. It has no sender and no row, but ``issuer``
#: and ``step`` ("" if unknown), ``registration`` (a primary key or None), ``method``, ``status``
#: (None without a response), ``outcome`` (one of ``OUTCOMES``), and ``duration`` in seconds. It is
#: sent in the thread that waits for the response, so receivers should be fast.
exchanged = Signal()

#: How an exchange ends: with a response of status 2xx, 3xx, 4xx or 5xx; with one that is malformed,
#: too large or incomplete; with none within DCR_TIMEOUT; without a connection; or interrupted here.
OUTCOMES = (
    "success",
    "redirect",
    "rejected",
    "failed",
    "broken",
    "timeout",
    "unreachable",
    "interrupted",
)
