"""How a row becomes a client, and what can be done to a client that came about in that way.

Services, admin, commands and documentation read this table. A new mechanism is a member of
``Mechanism`` and an entry of ``MECHANISMS``; one that a site carries out by itself is an entry of
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
class Way:
    """What one of the lifecycle's actions is for clients of one mechanism."""

    #: What happens, or what to do instead: a cell of the table in docs/mechanisms.md.
    how: str
    #: What an error says after "Registration 7" where it cannot be done; ``{pk}`` and
    #: ``{issuer}`` are filled in. Empty where it can.
    refusal: str = ""
    #: Whether it takes RFC 7592 credentials; with them a ``refusal`` does not hold.
    managed: bool = False
    #: What the pages say before and after it is done; empty where the action's own text fits.
    prospect: Text = ""
    done: Text = ""


@dataclass(frozen=True)
class Words:
    """What a status means for clients of one mechanism; see ``lifecycle.State``."""

    meaning: Text
    next_step: str


@dataclass(frozen=True)
class Kind:
    """What a mechanism is."""

    #: What the pages say of a client that came about in this way.
    meaning: Text
    #: By the name of the action, each of which is listed.
    ways: Mapping[str, Way]
    #: By status, where the lifecycle's own words do not fit.
    words: Mapping[str, Words] = field(default_factory=dict)
    #: What the pages say where the client is not as it is asked for; empty where the usual fits.
    drift: Text = ""
    #: What to do when the token endpoint no longer knows the client or its credentials.
    when_refused: str = ""


_STORE_AGAIN = "manage.py dcr_adopt {issuer} --owner OWNER --client-id CLIENT_ID --replace"

_PRE_REGISTERED = Kind(
    meaning=_("A person registered this client in the server's console, and it was entered here."),
    ways={
        "register": Way(
            how="in the server's console; then `dcr_adopt`",
            refusal="was registered by a person; store another one with: manage.py dcr_adopt",
        ),
        "read": Way(
            how="RFC 7592, with its credentials; else in the server's console",
            refusal=(
                "was registered by a person and has no registration access token here, so the "
                "server cannot be asked about it; look it up in the server's console"
            ),
            managed=True,
        ),
        "update": Way(
            how="RFC 7592, with its credentials; else in the server's console",
            refusal=(
                "was registered by a person and has no registration access token here; change it "
                "in the server's console"
            ),
            managed=True,
        ),
        "renew": Way(
            how="RFC 7592, with its credentials; else in the server's console, then `dcr_adopt`",
            refusal=(
                "was registered by a person and has no registration access token here; get a new "
                f"secret in the server's console, then store it with: {_STORE_AGAIN}"
            ),
            managed=True,
        ),
        "replace": Way(
            how="`dcr_adopt --replace`; or by another mechanism, with `dcr_replace --mechanism`",
            refusal=(
                "was registered by a person; register another client in the server's console, "
                f"then store it with: {_STORE_AGAIN}; or move to another mechanism with: "
                "manage.py dcr_replace {pk} --mechanism dynamic"
            ),
        ),
        "retry": Way(
            how="in the server's console; then `dcr_adopt`",
            refusal=(
                "was registered by a person, who has to register another client; then store it "
                "with: manage.py dcr_adopt"
            ),
        ),
        "revoke": Way(
            how="RFC 7592, with its credentials; else in the server's console, then forget it",
            refusal=(
                "was registered by a person and has no registration access token here; delete it "
                "in the server's console, then close it with: manage.py dcr_revoke {pk} --forget"
            ),
            managed=True,
        ),
        "forget": Way(
            how="closed here; the server keeps the client",
            done=_("Closed here. The client is still in the server's console: delete it there."),
        ),
    },
    words={
        "active": Words(
            meaning=_("This client was registered in the server's console and is used as entered."),
            next_step="is stored already; see it with: manage.py dcr_show {pk}",
        ),
        "gone": Words(
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

_METADATA_DOCUMENT = Kind(
    meaning=_("This site serves the client's metadata, and its client ID is the document's URL."),
    ways={
        "register": Way(
            how="the document is published",
            prospect=_("The metadata is published as a document, which %(issuer)s fetches."),
            done=_("The document is published."),
        ),
        "read": Way(
            how="nothing to ask: the document is the registration; `dcr_document` checks it",
            refusal=(
                "is a document that this site serves, so there is nothing to ask the server; "
                "check the document with: manage.py dcr_document {pk}"
            ),
        ),
        "update": Way(
            how="the document changes; servers see it when their copy expires",
            prospect=_(
                "The document %(client)s is changed to what is requested here. These members "
                "differ now: %(members)s."
            ),
            done=_("The document was changed. Servers see it when their copy expires."),
        ),
        "renew": Way(
            how="nothing to renew: a document has no secret",
            refusal=(
                "is a document and has no secret to renew; give it another URL with: "
                "manage.py dcr_replace {pk}"
            ),
        ),
        "replace": Way(
            how="a document under another URL; the old URL answers 404",
            prospect=_(
                "The document is published under another URL, which is a new client to every "
                "server. The document %(client)s is then taken down."
            ),
        ),
        "retry": Way(
            how="never needed",
            refusal="is a document that this site serves; publish it with: manage.py dcr_register",
        ),
        "revoke": Way(
            how="the document is taken down: its URL answers 404",
            prospect=_("The document %(client)s is taken down, so no server accepts the client."),
            done=_("The document is taken down."),
        ),
        "forget": Way(
            how="the document is taken down: its URL answers 404",
            prospect=_("The document %(client)s is taken down, so no server accepts the client."),
            done=_("The document is taken down."),
        ),
    },
    words={
        "draft": Words(
            meaning=_("The document is not published yet. Register it next."),
            next_step="is not published yet; register it first",
        ),
        "registering": Words(
            meaning=_("A process is publishing the document. If it ended, run dcr_reconcile."),
            next_step="is being published by another process; try again in a moment",
        ),
        "active": Words(
            meaning=_("The document is published. To change the client, change it here."),
            next_step="is published already; update, replace or revoke it instead",
        ),
        "revoked": Words(
            meaning=_("Closed; the document is taken down."),
            next_step="is closed, its document taken down; register again instead",
        ),
    },
    drift=_("The document does not say yet what is requested: update it."),
    when_refused="Check its document with: manage.py dcr_document {pk}.",
)

_DYNAMIC = Kind(
    meaning=_("This site registered the client at the server's registration endpoint."),
    ways={
        "register": Way(how="RFC 7591"),
        "read": Way(how="RFC 7592", managed=True),
        "update": Way(how="RFC 7592", managed=True),
        "renew": Way(how="RFC 7592; else a new client takes its place"),
        "replace": Way(how="a new client is registered, then the old one deleted by RFC 7592"),
        "retry": Way(how="a new client is registered; the old row stays as a record"),
        "revoke": Way(how="RFC 7592", managed=True),
        "forget": Way(how="RFC 7592 where the server answers; closed here in any case"),
    },
    when_refused=(
        "Ask for a new secret: manage.py dcr_renew {pk}; if the server has none, revoke this "
        "registration and register again."
    ),
)

MECHANISMS: dict[str, Kind] = {
    Mechanism.PRE_REGISTERED: _PRE_REGISTERED,
    Mechanism.METADATA_DOCUMENT: _METADATA_DOCUMENT,
    Mechanism.DYNAMIC: _DYNAMIC,
}

#: By action, what is refused to a client that signs, whatever its mechanism.
SIGNING = {
    "renew": (
        "signs with a key and needs no secret, so there is nothing to renew. Its keys are rotated "
        "by: manage.py dcr_client_keys --rotate"
    )
}
#: What the pages say of such a client.
SIGNS = _("It signs with a key, so it has no secret that could be renewed: rotate its keys.")

#: The mechanisms that a site carries out by itself, and DCR_MECHANISMS may name.
AUTOMATIC = [Mechanism.METADATA_DOCUMENT.value, Mechanism.DYNAMIC.value]


def way(row: Any, action: str) -> Way:
    """Return what the action ``action`` is for this registration."""
    return MECHANISMS[row.mechanism].ways.get(action, Way(how=""))


def refusal(row: Any, action: str) -> str:
    """Return why the action cannot be done to this registration, "" where it can."""
    if row.signs and action in SIGNING:
        return SIGNING[action]
    found = way(row, action)
    if not found.refusal or (found.managed and row.is_manageable):
        return ""
    return found.refusal.format(pk=row.pk, issuer=row.server.issuer)
