"""When not to ask: what failed a moment ago is on its row, and raised again from there.

That is for those who ask because a user came by or a queue had a job. Who asks for something by
name is never held back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services.operation import refuse_inside_atomic


@contextmanager
def admitted(registration: ClientRegistration, task: str) -> Iterator[None]:
    """Raise the remembered error of ``task``, or of the server, while its pause lasts.

    Of those who come after it one is let through, and the others raise it until that one knows
    more. Raises ConflictError inside a transaction where somebody would be let through. In the
    block the caller is content with what another process, for which it waits, fails with.
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
    """The same where there is no registration yet."""
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
