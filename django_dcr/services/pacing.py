"""Every request of the services starts here, no faster than its server bears."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from enum import Enum

from django.views.decorators.debug import sensitive_variables

from django_dcr import transport
from django_dcr.conf import conf
from django_dcr.exceptions import ConflictError
from django_dcr.models import AuthorizationServer
from django_dcr.services.leases import refuse_inside_atomic


class Turn(Enum):
    """Where in its work a request stands, which says how it waits for its turn."""

    #: Nothing was sent yet: the caller had better come back than wait for long.
    FIRST = "first"
    #: What was sent before would be in vain: wait for as long as the lease has room.
    MIDWAY = "midway"
    #: It was waited for with ``await_turn``, before an intent was committed.
    TAKEN = "taken"


@sensitive_variables()
def send(
    method: str,
    url: str,
    *,
    server: AuthorizationServer,
    step: str,
    turn: Turn = Turn.FIRST,
    token: str | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> transport.Reply:
    """Wait for the server's turn, and send one request; see ``transport.send``.

    Raises ConflictError, with nothing sent, where the turn is too far away.
    """
    if turn is not Turn.TAKEN:
        await_turn(server, step=step, turn=turn)
    issuer = server.issuer
    return transport.send(
        method, url, issuer=issuer, step=step, token=token, body=body, headers=headers
    )


def await_turn(server: AuthorizationServer, *, step: str, turn: Turn = Turn.FIRST) -> None:
    """Wait until ``requests_per_minute`` allows one more request, for DCR_TIMEOUT at most.

    Raises ConflictError with ``retry_after`` where that would be longer, and inside a
    transaction, which would keep every other process waiting.
    """
    if not server.requests_per_minute:
        return
    refuse_inside_atomic(step)
    patience = conf.DCR_LEASE / 2 if turn is Turn.MIDWAY else conf.DCR_TIMEOUT
    wait = server.reserve(patience)
    if wait > patience:
        raise ConflictError(
            f"{server.issuer} is asked {server.requests_per_minute} times a minute already, and "
            f"no more is allowed. Try again in {math.ceil(wait)} seconds.",
            issuer=server.issuer,
            step=step,
            retry_after=math.ceil(wait),
        )
    time.sleep(wait)
