"""Signals for what happens to registrations, and for each exchange with a server.

Those about a registration are sent after the change is committed, with ``registration=row`` and
``sender=ClientRegistration``. All are sent robustly: a receiver that raises is
logged by Django and changes nothing.
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
#: An event was written to a registration's history; with ``sender=RegistrationEvent``, and it as
#: ``event``.
recorded = Signal()
#: A request was sent, and answered or not. Without a sender and a row, but with ``issuer``,
#: ``step`` and ``registration`` (a number), "" and None where they are not known; ``method``;
#: ``status``, None without an answer; ``outcome``, one of ``OUTCOMES``; and ``duration`` in
#: seconds. It is sent in the thread that waits for the answer, so receivers should be quick.
exchanged = Signal()

#: What an exchange may end in: an answer of status 2xx, 3xx, 4xx or 5xx; one that is malformed, too
#: large or breaks off; none within DCR_TIMEOUT; no connection; or the end of this process's wait.
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
