"""The mechanisms by which a row becomes a client, and which actions each of them supports.

Services, admin, commands and documentation read this table. A new mechanism is a member of
``Mechanism`` and an entry of ``MECHANISMS``; one that a site can carry out itself is an entry of
``AUTOMATIC`` too, and has its case in ``register_by_choice()``, ``update()`` and ``revoke()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    # Translated where it is shown, or the same in every language.
    Text = str | _StrPromise


class Mechanism(models.TextChoices):
    PRE_REGISTERED = "pre_registered", _("pre-registered")  # by a person, and adopted here
    METADATA_DOCUMENT = "metadata_document", _("metadata document")  # served by this site
    DYNAMIC = "dynamic", _("dynamic registration")  # RFC 7591


@dataclass(frozen=True)
class Support:
    """How a mechanism supports one of the lifecycle's actions."""

    #: What happens, or what to do instead: a cell of the table in docs/mechanisms.md.
    how: str
    #: What an error says after "Registration 7" where the action is not possible; ``{pk}`` and
    #: ``{issuer}`` are filled in. Empty where it is.
    refusal: str = ""
    #: Whether the action needs RFC 7592 credentials; with them a ``refusal`` does not apply.
    managed: bool = False
    #: The admin's text before and after the action; empty where the lifecycle's own applies.
    prospect: Text = ""
    done: Text = ""


@dataclass(frozen=True)
class StateText:
    """What a status means for clients of one mechanism; see ``lifecycle.State``."""

    meaning: Text
    next_step: str


@dataclass(frozen=True)
class MechanismInfo:
    """What is specific to the clients of one mechanism."""

    #: The admin's explanation.
    meaning: Text
    #: By the name of the action; each one is listed.
    actions: Mapping[str, Support]
    #: By status, where the lifecycle's own text does not apply.
    states: Mapping[str, StateText] = field(default_factory=dict)
    #: The admin's hint where the granted metadata is not the requested; empty for the usual one.
    drift: Text = ""
    #: What to do when the token endpoint no longer accepts the client or its credentials.
    when_refused: str = ""


_STORE_AGAIN = "manage.py dcr_adopt {issuer} --owner OWNER --client-id CLIENT_ID --replace"

_PRE_REGISTERED = MechanismInfo(
    meaning=_("A person registered this client in the server's console, and it was entered here."),
    actions={
        "register": Support(
            how="in the server's console; then `dcr_adopt`",
            refusal="was registered by a person; store another one with: manage.py dcr_adopt",
        ),
        "read": Support(
            how="RFC 7592, with its credentials; else in the server's console",
            refusal=(
                "was registered by a person and has no registration access token here, so it "
                "cannot be read at the server; look it up in the server's console"
            ),
            managed=True,
        ),
        "update": Support(
            how="RFC 7592, with its credentials; else in the server's console",
            refusal=(
                "was registered by a person and has no registration access token here; change it "
                "in the server's console"
            ),
            managed=True,
        ),
        "renew": Support(
            how="RFC 7592, with its credentials; else in the server's console, then `dcr_adopt`",
            refusal=(
                "was registered by a person and has no registration access token here; get a new "
                f"secret in the server's console, then store it with: {_STORE_AGAIN}"
            ),
            managed=True,
        ),
        "replace": Support(
            how="`dcr_adopt --replace`; or by another mechanism, with `dcr_replace --mechanism`",
            refusal=(
                "was registered by a person; register another client in the server's console, "
                f"then store it with: {_STORE_AGAIN}; or move to another mechanism with: "
                "manage.py dcr_replace {pk} --mechanism dynamic"
            ),
        ),
        "retry": Support(
            how="in the server's console; then `dcr_adopt`",
            refusal=(
                "was registered by a person, who has to register another client; then store it "
                "with: manage.py dcr_adopt"
            ),
        ),
        "revoke": Support(
            how="RFC 7592, with its credentials; else in the server's console, then forget it",
            refusal=(
                "was registered by a person and has no registration access token here; delete it "
                "in the server's console, then close it with: manage.py dcr_revoke {pk} --forget"
            ),
            managed=True,
        ),
        "forget": Support(
            how="closed here; the server keeps the client",
            done=_("Closed here. The client is still in the server's console: delete it there."),
        ),
    },
    states={
        "active": StateText(
            meaning=_("This client was registered in the server's console and is used as entered."),
            next_step="is stored already; see it with: manage.py dcr_show {pk}",
        ),
        "gone": StateText(
            meaning=_(
                "The server refused this client's token, or no longer knows the client. Look in "
                "its console; then forget this row, and enter the client that is there."
            ),
            next_step=(
                "is no longer accepted by the server; look in the server's console, then close "
                "it with: manage.py dcr_revoke {pk} --forget"
            ),
        ),
    },
    drift=_(
        "What is requested differs from what was entered: change the client in the server's "
        "console."
    ),
    when_refused=f"Compare it with the server's console; store what is there: {_STORE_AGAIN}.",
)

_METADATA_DOCUMENT = MechanismInfo(
    meaning=_("This site serves the client's metadata, and its client ID is the document's URL."),
    actions={
        "register": Support(
            how="the document is published",
            prospect=_("The metadata is published as a document, which %(issuer)s fetches."),
            done=_("The document is published."),
        ),
        "read": Support(
            how="nothing to ask: the document is the registration; `dcr_document` checks it",
            refusal=(
                "is a document that this site serves, so there is nothing to read at the server; "
                "check the document with: manage.py dcr_document {pk}"
            ),
        ),
        "update": Support(
            how="the document changes; servers see it when their copy expires",
            prospect=_(
                "The document %(client)s is changed to what is requested here. These members "
                "differ now: %(members)s."
            ),
            done=_("The document was changed. Servers see it when their copy expires."),
        ),
        "renew": Support(
            how="nothing to renew: a document has no secret",
            refusal=(
                "is a document and has no secret to renew; give it another URL with: "
                "manage.py dcr_replace {pk}"
            ),
        ),
        "replace": Support(
            how="a document under another URL; the old URL answers 404",
            prospect=_(
                "The document is published under another URL, which is a new client to every "
                "server. The document %(client)s is then taken down."
            ),
        ),
        "retry": Support(
            how="never needed",
            refusal="is a document that this site serves; publish it with: manage.py dcr_register",
        ),
        "revoke": Support(
            how="the document is taken down: its URL answers 404",
            prospect=_("The document %(client)s is taken down, so no server accepts the client."),
            done=_("The document is taken down."),
        ),
        "forget": Support(
            how="the document is taken down: its URL answers 404",
            prospect=_("The document %(client)s is taken down, so no server accepts the client."),
            done=_("The document is taken down."),
        ),
    },
    states={
        "draft": StateText(
            meaning=_("The document is not published yet. Register it next."),
            next_step="is not published yet; register it first",
        ),
        "registering": StateText(
            meaning=_("A process is publishing the document. If it ended, run dcr_reconcile."),
            next_step="is being published by another process; try again in a moment",
        ),
        "active": StateText(
            meaning=_("The document is published. To change the client, change it here."),
            next_step="is published already; update, replace or revoke it instead",
        ),
        "revoked": StateText(
            meaning=_("Closed; the document is taken down."),
            next_step="is closed, its document taken down; register again instead",
        ),
    },
    drift=_("The document does not contain what is requested yet: update it."),
    when_refused="Check its document with: manage.py dcr_document {pk}.",
)

_DYNAMIC = MechanismInfo(
    meaning=_("This site registered the client at the server's registration endpoint."),
    actions={
        "register": Support(how="RFC 7591"),
        "read": Support(how="RFC 7592", managed=True),
        "update": Support(how="RFC 7592", managed=True),
        "renew": Support(how="RFC 7592; else a new client takes its place"),
        "replace": Support(how="a new client is registered, then the old one deleted by RFC 7592"),
        "retry": Support(how="a new client is registered; the old row stays as a record"),
        "revoke": Support(how="RFC 7592", managed=True),
        "forget": Support(how="RFC 7592 where the server answers; closed here in any case"),
    },
    when_refused=(
        "Ask for a new secret: manage.py dcr_renew {pk}; if the server has none, revoke this "
        "registration and register again."
    ),
)

MECHANISMS: dict[str, MechanismInfo] = {
    Mechanism.PRE_REGISTERED: _PRE_REGISTERED,
    Mechanism.METADATA_DOCUMENT: _METADATA_DOCUMENT,
    Mechanism.DYNAMIC: _DYNAMIC,
}

#: By action, why it is refused for a client that signs, whatever its mechanism.
SIGNING = {
    "renew": (
        "signs with a key and needs no secret, so there is nothing to renew. Its keys are rotated "
        "by: manage.py dcr_client_keys --rotate"
    )
}
#: The admin's explanation for such a client.
SIGNS = _("It signs with a key, so it has no secret that could be renewed: rotate its keys.")

#: The mechanisms that a site can carry out itself, which DCR_MECHANISMS may list.
AUTOMATIC = [Mechanism.METADATA_DOCUMENT.value, Mechanism.DYNAMIC.value]


def support(row: Any, action: str) -> Support:
    """Return how the row's mechanism supports the action."""
    return MECHANISMS[row.mechanism].actions.get(action, Support(how=""))


def refusal(row: Any, action: str) -> str:
    """Return why the action is not possible for this registration, "" where it is."""
    if row.signs and action in SIGNING:
        return SIGNING[action]
    found = support(row, action)
    if not found.refusal or (found.managed and row.is_manageable):
        return ""
    return found.refusal.format(pk=row.pk, issuer=row.server.issuer)
