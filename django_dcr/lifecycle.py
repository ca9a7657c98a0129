"""The lifecycle of a registration: its statuses, and the actions that each of them allows.

Services, admin, commands, jobs and documentation read these two tables. A new status is a member
of ``Status`` and an entry of ``STATES``; a new action is an entry of ``ACTIONS`` and a service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_dcr.mechanisms import MECHANISMS, refusal, support

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    # A lazy translation, or a text that is the same in every language.
    Text = str | _StrPromise


class Status(models.TextChoices):
    DRAFT = "draft", _("draft")  # never sent
    REGISTERING = "registering", _("registering")  # intent committed, response awaited
    ACTIVE = "active", _("active")  # usable
    REJECTED = "rejected", _("rejected")  # the server refused the request
    UNKNOWN = "unknown", _("unknown")  # the server may hold a client that cannot be named
    REVOKING = "revoking", _("revoking")  # deletion committed, response awaited
    REVOKED = "revoked", _("revoked")  # credentials wiped
    GONE = "gone", _("gone")  # the server refuses the token or no longer knows the client


@dataclass(frozen=True)
class State:
    """What a status means."""

    #: The admin's explanation, with the next step.
    meaning: Text
    #: What an error says after "Registration 7"; ``{pk}`` is the registration's number.
    next_step: str
    #: The admin's color for it: "good", "warn", "bad" or "quiet".
    tone: str = "quiet"
    #: Whether the server may hold the row's client, so that the row must not be deleted.
    may_hold_client: bool = True


STATES: dict[Status, State] = {
    Status.DRAFT: State(
        meaning=_("Nothing was sent to the server yet. Register it next."),
        next_step="has not been sent to the server yet; register it first",
        may_hold_client=False,
    ),
    Status.REGISTERING: State(
        meaning=_(
            "A process awaits the server's answer. If that process ended, run manage.py "
            "dcr_reconcile."
        ),
        next_step="is being registered by another process; try again in a moment",
        tone="warn",
    ),
    Status.ACTIVE: State(
        meaning=_("The server knows this client."),
        next_step="is registered already; update, renew or revoke it instead",
        tone="good",
    ),
    Status.REJECTED: State(
        meaning=_("The server refused. Edit the metadata and register again."),
        next_step="was refused by the server; correct its metadata and register it again",
        tone="bad",
        may_hold_client=False,
    ),
    Status.UNKNOWN: State(
        meaning=_(
            "The server's answer was lost, and it may hold a client that cannot be named here. "
            "Look there; then try again, which registers a new client, or forget this one."
        ),
        next_step=(
            "was sent and the answer was lost, so the server may hold a client that cannot be "
            "named; decide with: manage.py dcr_reconcile --retry {pk}, or --forget {pk}"
        ),
        tone="bad",
    ),
    Status.REVOKING: State(
        meaning=_("The deletion was sent and its answer has not come. Revoke again to finish."),
        next_step="is being revoked; finish with: manage.py dcr_revoke {pk}",
        tone="warn",
    ),
    Status.REVOKED: State(
        meaning=_("Closed; its credentials are wiped."),
        next_step="is closed; register again instead",
        may_hold_client=False,
    ),
    Status.GONE: State(
        meaning=_(
            "The server refused this client's token, or no longer knows the client. Read it again; "
            "or try again, which registers a new client, or forget this one."
        ),
        next_step=(
            "is no longer accepted by the server; read it again with: manage.py dcr_read {pk}, or "
            "decide with: manage.py dcr_reconcile --retry {pk}, or --forget {pk}"
        ),
        tone="bad",
    ),
}


def state_of(row: Any) -> State:
    """Return what the row's status means for a client of its mechanism."""
    state = STATES[Status(row.status)]
    text = MECHANISMS[row.mechanism].states.get(row.status)
    return replace(state, meaning=text.meaning, next_step=text.next_step) if text else state


#: The statuses in which a row may be deleted, because no server holds its client.
DELETABLE = [status for status, state in STATES.items() if not state.may_hold_client]


@dataclass(frozen=True)
class Action:
    """Something that can be done to a registration, by the service of the same name."""

    label: Text
    #: The permission for it in the admin, which ``Meta.permissions`` declares.
    permission: str
    #: The statuses in which the service accepts a row.
    statuses: tuple[Status, ...]
    #: The admin's message when it is done.
    done: Text
    #: The admin's text before it is done; "" where it has to be computed.
    prospect: Text = ""
    #: Whether the admin always asks for confirmation, because it cannot be undone.
    asks: bool = False
    #: Statuses in which the admin does not offer it, although the service would accept it.
    not_offered: tuple[Status, ...] = ()
    #: The statuses in which a job that is delivered twice has been performed already.
    finished: tuple[Status, ...] = ()
    #: What else a row has to fulfill.
    condition: Callable[[Any], bool] = field(default=lambda _row: True)
    #: The service, where it has another name, and the arguments it is called with.
    service: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Its key in ``ACTIONS``, and in ``MechanismInfo.actions``.
    name: str = ""

    def allows(self, row: Any) -> bool:
        """Whether the service accepts the row as it is."""
        if row.status not in self.statuses or refusal(row, self.name):
            return False
        manageable = row.is_manageable or not support(row, self.name).managed
        return manageable and self.condition(row)

    def is_offered(self, row: Any) -> bool:
        """Whether the admin offers it for the row as it is."""
        offered = row.status not in self.not_offered and self.allows(row)
        return offered and not row.is_only_a_record


_MANAGED = (Status.ACTIVE, Status.REVOKING, Status.UNKNOWN, Status.GONE)
_NEVER_SENT = (Status.DRAFT, Status.REJECTED)

ACTIONS: dict[str, Action] = {
    "register": Action(
        label=_("Register"),
        permission="register",
        statuses=_NEVER_SENT,
        done=_("Registered at the server."),
        prospect=_("A client is registered at %(issuer)s."),
        finished=(Status.ACTIVE,),
        service="register_by_choice",
    ),
    "read": Action(
        label=_("Read from the server"),
        permission="update",
        statuses=(Status.ACTIVE, Status.REVOKING, Status.GONE),
        done=_("Read from the server."),
        prospect=_("The client %(client)s is read at %(issuer)s, and the response is stored here."),
        # A replaced client must not become active again beside its successor.
        condition=lambda row: row.live or row.status != Status.REVOKING,
    ),
    "update": Action(
        label=_("Update at the server"),
        permission="update",
        statuses=(Status.ACTIVE,),
        done=_("Updated at the server."),
        prospect=_(
            "The client %(client)s at %(issuer)s is changed to what is requested here. These "
            "members differ now: %(members)s."
        ),
    ),
    "renew": Action(
        label=_("Renew the secret"),
        permission="renew",
        statuses=(Status.ACTIVE,),
        done=_("The server issued a new secret."),
        prospect=_(
            "A new secret of the client %(client)s is requested at %(issuer)s. If none is issued "
            "and the old one expires, a new client is registered there and the old one revoked."
        ),
        finished=(Status.REVOKING, Status.REVOKED),  # replaced
    ),
    "replace": Action(
        label=_("Replace"),
        permission="renew",
        statuses=(Status.ACTIVE, Status.GONE),
        done=_("A new client took its place."),
        prospect=_(
            "A new client is registered at %(issuer)s and takes the place of the client "
            "%(client)s, which is then deleted there."
        ),
        asks=True,
        finished=(Status.REVOKING, Status.REVOKED),
        condition=lambda row: row.live or row.status == Status.GONE,
        not_offered=(Status.GONE,),  # where "Try again" says the same
    ),
    "retry": Action(
        label=_("Try again"),
        permission="register",
        statuses=(Status.UNKNOWN, Status.GONE),
        done=_("A new client was registered in its place."),
        prospect=_(
            "A new client is registered at %(issuer)s and takes the place of this one. The server "
            "may keep the old client; this row stays as its record."
        ),
        asks=True,
    ),
    "revoke": Action(
        label=_("Revoke"),
        permission="revoke",
        statuses=_MANAGED,
        done=_("Revoked: the server no longer has this client."),
        asks=True,
        not_offered=(Status.GONE,),
        finished=(Status.REVOKED,),
    ),
    "forget": Action(
        label=_("Forget"),
        permission="revoke",
        statuses=(*_MANAGED, *_NEVER_SENT),
        done=_("Closed: the server no longer has this client."),
        asks=True,
        not_offered=_NEVER_SENT,
        finished=(Status.REVOKED,),
        service="revoke",
        arguments={"forget": True},
    ),
}

ACTIONS = {name: replace(action, name=name) for name, action in ACTIONS.items()}

#: The admin's names of events: the actions, and what else happens to a row.
EVENTS: dict[str, Text] = {
    **{name: action.label for name, action in ACTIONS.items()},
    "adopt": _("Adopt"),
    "reveal": _("Reveal the secret"),
    "reconcile": _("Settle"),
    "login": _("Login refused"),
}
