"""Backing off: what failed a short while ago is not sent again; the stored error is raised.

This concerns work that nobody requested by name: a user opened a page, or a queue ran a job.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services.operation import refuse_inside_atomic


@contextmanager
def admitted(registration: ClientRegistration, task: str) -> Iterator[None]:
    """Raise the remembered error of ``task``, or of the server, until its pause is over.

    After the pause one caller runs the block, and for the others the error is still raised until
    the outcome is known. A caller in the block that waits for another process raises that
    process's error. Raises ConflictError inside a transaction, where nothing may be sent.
    """
    server = registration.server
    rows: list[AuthorizationServer | ClientRegistration] = []
    if server.is_held_back:
        rows.append(server)
    if registration.failed_at(task):
        rows.append(registration)
    _admit(rows, server.issuer)
    registration.is_calm = True
    try:
        yield
    finally:
        registration.is_calm = False


def admit_at(server: AuthorizationServer) -> None:
    """Raise the remembered error of the server, where there is no registration yet."""
    _admit([server] if server.is_held_back else [], server.issuer)


def _admit(rows: list[AuthorizationServer | ClientRegistration], issuer: str) -> None:
    rows = [row for row in rows if not row.may_retry]
    for row in rows:
        if row.seconds_until_retry:
            raise row.remembered(issuer)
    for row in rows:
        refuse_inside_atomic()
        if not row.claim_retry():
            raise row.remembered(issuer)
