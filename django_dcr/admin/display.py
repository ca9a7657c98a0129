"""What the pages say, in words; all that a server wrote is cleaned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from django.contrib.admin.utils import display_for_value
from django.utils.html import format_html
from django.utils.timesince import timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_dcr.conf import conf
from django_dcr.exceptions import DCRError, NotAllowedError
from django_dcr.lifecycle import ACTIONS, EVENTS, STATES, Status, state_of
from django_dcr.mechanisms import MECHANISMS, SIGNS, refusal, way
from django_dcr.models import (
    AuthorizationServer,
    CachedDocument,
    ClientRegistration,
    RegistrationEvent,
)
from django_dcr.text import clean

#: What is shown where there is nothing.
NOTHING = "-"
# A row that an earlier release stored may have any number of members.
_MAX_SHOWN = 100
_MAX_LOOKED_AT = 1000
# RFC 8414 section 2, OpenID Connect Discovery section 3 and RP-Initiated Logout section 2.1.
_ENDPOINTS = {
    "authorization_endpoint",
    "end_session_endpoint",
    "introspection_endpoint",
    "registration_endpoint",
    "revocation_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
}

# Colour is not all that tells the badges apart: each has words and, but for the quiet, a sign.
_SIGNS = {"good": "✓", "warn": "!", "bad": "✕"}


def badge(text: str, tone: str = "quiet") -> str:
    """Return words with a sign and a background: "good", "warn", "bad" or "quiet"."""
    sign = _SIGNS.get(tone)
    if sign is None:
        return format_html('<span class="dcr-badge">{}</span>', text)
    return format_html(
        '<span class="dcr-badge dcr-{}"><span aria-hidden="true">{}</span> {}</span>',
        tone,
        sign,
        text,
    )


def state(registration: ClientRegistration) -> str:
    """Return the status as a badge."""
    tone = STATES[Status(registration.status)].tone
    return badge(registration.get_status_display(), tone)


def client_name(registration: ClientRegistration) -> str:
    """Return the name that the server granted, else the one that the row asks for."""
    for metadata in (registration.metadata, registration.requested_metadata):
        if isinstance(metadata, dict) and metadata.get("client_name"):
            return clean(metadata["client_name"], 60)
    return NOTHING


def next_step(registration: ClientRegistration) -> str:
    """Return what the status means, and what to do about it."""
    return " ".join([str(state_of(registration).meaning), *_needs(registration)])


def _needs(registration: ClientRegistration) -> Iterator[str]:
    """Yield what is to be done about an active registration."""
    if registration.status != Status.ACTIVE:
        return
    try:
        registration.check_authentication()
    except DCRError as exc:
        yield str(exc)
    if _has_expired(registration) or _expires_soon(registration):
        yield _expiry_advice(registration)
    text = MECHANISMS[registration.mechanism].drift
    if registration.has_drift and text and not registration.is_manageable:
        yield str(text)
    elif registration.has_drift:
        yield _(
            "What it granted differs from what is requested: update it at the server, or change "
            "what is requested."
        )


def _has_expired(registration: ClientRegistration) -> bool:
    return registration.client_secret is not None and registration.secret_has_expired


def mechanism(registration: ClientRegistration) -> str:
    """Return how the client came about."""
    meaning = str(MECHANISMS[registration.mechanism].meaning)
    signs = f" {SIGNS}" if registration.signs else ""
    return f"{registration.get_mechanism_display()}: {meaning}{signs}"


_EXPIRES = gettext_lazy("Its secret expires on %(date)s.")


def _expiry_advice(registration: ClientRegistration) -> str:
    """Return when the secret expires or has expired, and what to do about it."""
    date = display_for_value(registration.secret_expiry, NOTHING)
    expired, refused = _has_expired(registration), refusal(registration, "renew")
    if refused:
        text = _("Its secret expired on %(date)s.") if expired else _EXPIRES
        return f"{text % {'date': date}} " + clean(f"{registration.pk} {refused}.", 400)
    if expired:
        return _("Its secret expired on %(date)s: renew it.") % {"date": date}
    return _("Its secret expires on %(date)s: renew it.") % {"date": date}


def document(registration: ClientRegistration) -> str:
    """Return the metadata document as it is served, for people."""
    members = {"client_id": registration.client_id, **registration.metadata}
    if not registration.client_id:
        return NOTHING
    shown = clean(json.dumps(members, ensure_ascii=False), 5000)
    return format_html("<code>{}</code>", shown)


def _expires_soon(registration: ClientRegistration) -> bool:
    """Whether the site itself would renew the secret now."""
    is_due = registration.secret_expires_within(conf.DCR_RENEW_BEFORE)
    has_secret = registration.client_secret is not None
    return has_secret and is_due and not registration.seconds_until_renewal


def expiry(registration: ClientRegistration) -> str:
    """Return when the client secret expires, as people say it; a badge where that is soon."""
    if registration.client_secret is None:
        return NOTHING
    if registration.secret_has_expired:
        return badge(_("expired"), "bad")
    expiry = registration.secret_expiry
    if expiry is None:
        return _("never") if registration.client_secret_expires_at == 0 else _("unknown")
    words = _("in %(time)s") % {"time": timeuntil(expiry, depth=1)}
    return badge(words, "warn") if _expires_soon(registration) else words


def expiry_date(registration: ClientRegistration) -> str:
    """Return when the client secret expires, with the date where there is one."""
    expires, words = registration.secret_expiry, expiry(registration)
    if expires is None or registration.client_secret is None:
        return words
    return format_html("{} {}", display_for_value(expires, NOTHING), words)


def drift(registration: ClientRegistration) -> str:
    """Return whether the last answer granted what was requested."""
    if not registration.metadata:
        return NOTHING
    return badge(_("differs"), "warn") if registration.has_drift else badge(_("as requested"))


def who(event: RegistrationEvent) -> str:
    """Return who asked for the action of an event."""
    return clean(event.actor) or _("this site's code")


def step(event: RegistrationEvent) -> str:
    """Return what was done, as the buttons call it."""
    return str(EVENTS.get(event.action, event.action))


def outcome(event: RegistrationEvent) -> str:
    """Return the status that an event left the registration in, with the error or the secret."""
    label = str(Status(event.outcome).label)
    if event.note:
        return f"{label} ({clean(event.note)})"
    if event.new_secret is not None:
        return f"{label} ({_('new secret') if event.new_secret else _('no new secret')})"
    return f"{label} ({event.error})" if event.error else label


def stored(secret: object) -> str:
    """Return whether there is a secret. It stays closed, so a lost key breaks no page."""
    return _("none") if secret is None else _("stored, encrypted")


def prospect(registration: ClientRegistration, action: str) -> str:
    """Return what an action would do to a registration, and at which server."""
    values = {
        "status": registration.get_status_display(),
        "issuer": clean(registration.server.issuer, 200),
        "client": clean(registration.client_id, 100) or _("of unknown ID"),
        "members": _drifting(registration),
    }
    refused = refusal(registration, action)
    if refused:
        return clean(f"{registration.pk} {refused}", 400)
    text = way(registration, action).prospect
    if text and registration.status in ACTIONS[action].statuses:
        return str(text) % values
    if action in ("revoke", "forget"):
        return _fate(registration, forget=action == "forget") % values
    if action == "reveal":
        return _REVEALED % values
    entry = ACTIONS[action]
    if registration.status not in entry.statuses:
        return _REFUSED % values
    return str(entry.prospect) % values


_REFUSED = gettext_lazy("This will be refused, for its status is “%(status)s”.")
_REVEALED = gettext_lazy(
    "The secret of the client %(client)s at %(issuer)s is shown on the next page, and the "
    "history says that you have seen it."
)


def _drifting(registration: ClientRegistration) -> str:
    try:
        drift = registration.drift_from(_first_members(registration))
        names = [clean(name, 60) for name in drift]
    except NotAllowedError:
        return "?"
    return ", ".join(names[:10]) or _("none")


def _fate(registration: ClientRegistration, forget: bool) -> str:
    status = registration.status
    if status in ACTIONS["register"].statuses:
        return _("%(issuer)s holds no client of this row. It is closed here, nothing is sent.")
    if status not in ACTIONS["forget"].statuses:
        return str(_REFUSED)
    if not registration.is_manageable:
        if forget:
            return _(
                "Nothing is sent. Its credentials are wiped here, and %(issuer)s may keep the "
                "client %(client)s."
            )
        return _(
            "This will be refused: %(issuer)s gives no way to delete the client %(client)s. "
            "Delete it there by hand, then forget it here."
        )
    deletion = _("The client %(client)s is deleted at %(issuer)s, its credentials are wiped here.")
    if not forget:
        return deletion
    return f"{deletion} " + _(
        "Where the server refuses or does not answer, they are wiped nevertheless, and the server "
        "may keep the client."
    )


def protected(registration: ClientRegistration) -> str:
    """Return why a row cannot be deleted now."""
    return _("%(row)s (%(status)s): revoke or forget it first") % {
        "row": clean(registration, 200),
        "status": registration.get_status_display(),
    }


class Member(NamedTuple):
    """A line of the table of what was requested and what was granted."""

    name: str
    requested: list[str]
    granted: list[str]
    differs: bool
    #: Whether this app chose what was requested.
    is_chosen: bool


def comparison(registration: ClientRegistration) -> tuple[list[Member], int]:
    """Return requested and granted side by side, the differences first, and how many are left out.

    Raises NotAllowedError where the requested members are not client metadata.
    """
    # Language tags are compared without regard to case (RFC 7591 section 2.2).
    chosen = {name.lower(): value for name, value in registration.chosen.items()}
    requested = {name.lower(): value for name, value in registration.requested.items()} | chosen
    looked_at = _first_members(registration)
    granted = {name.lower(): value for name, value in looked_at.items()}
    drift = {name.lower() for name in registration.drift_from(looked_at)}
    names = sorted(requested.keys() | granted.keys(), key=lambda name: (name not in drift, name))
    members = [
        Member(
            clean(name, 100),
            _lines(requested.get(name)),
            _lines(granted.get(name)),
            differs=name in drift,
            is_chosen=name in chosen,
        )
        for name in names[:_MAX_SHOWN]
    ]
    return members, len(names) - len(members) + len(registration.metadata) - len(looked_at)


def _first_members(registration: ClientRegistration) -> dict[str, Any]:
    """The granted members to look at: those that were requested, and not too many others."""
    metadata: dict[str, Any] = registration.metadata
    if len(metadata) <= _MAX_LOOKED_AT:
        return metadata
    first = dict(islice(metadata.items(), _MAX_LOOKED_AT))
    return {
        **{name: metadata[name] for name in registration.requested if name in metadata},
        **first,
    }


def offer(server: AuthorizationServer) -> list[tuple[str, list[str]]]:
    """Return what a server offers to clients, as labels with their values."""
    metadata = server.metadata
    if not metadata:
        return []
    methods = server.offered("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    grants = server.offered("grant_types_supported") or ["authorization_code", "implicit"]
    endpoints = [name for name in metadata if name.endswith("_endpoint")]
    # No number of others hides those that matter.
    endpoints.sort(key=lambda name: (name not in _ENDPOINTS, name))
    shown = sorted(endpoints[:_MAX_SHOWN])
    more = _more(len(endpoints) - len(shown))
    return [
        *((clean(name, 100), _lines(metadata[name])) for name in shown),
        *([(_("Further endpoints"), more)] if more else []),
        # What is left out means this (RFC 8414 section 2).
        (_("Client authentication"), _lines(methods)),
        (_("Grant types"), _lines(grants)),
        (_("Response types"), _lines(metadata.get("response_types_supported"))),
        (_("Scopes"), _lines(metadata.get("scopes_supported"))),
        (_("PKCE with S256"), [_("yes") if server.supports_pkce else _("no")]),
        *terms(server),
    ]


def registration(server: AuthorizationServer) -> str:
    """Return whether, and on what terms, a server registers clients."""
    if not server.metadata:
        return _("unknown")
    problems = " ".join(obstacles(server))
    if problems:
        return problems
    terms = _terms_of_registration(server)
    if not server.takes_documents:
        return terms
    taken = _("It takes metadata documents that sites serve.")
    return f"{taken} {terms}" if "registration_endpoint" in server.metadata else taken


def _terms_of_registration(server: AuthorizationServer) -> str:
    if server.initial_access_token is not None:
        return _("Yes; the initial access token that is stored here is shown to it.")
    return _(
        "Yes, openly as far as can be told: a server that wants an initial access token says so "
        "only when a client is registered."
    )


def obstacles(server: AuthorizationServer) -> Iterator[str]:
    """Yield what keeps this site from registering, or from logging in, at a server."""
    if "registration_endpoint" not in server.metadata and not server.takes_documents:
        yield _(
            "It offers no registration: its metadata names no registration endpoint. Ask its "
            "operator to turn that on."
        )
    origins = server.untrusted_origins
    if origins:
        text = _(
            "Some of its endpoints are on other origins, and are not used until “Trusted origins” "
            "lists these: %(origins)s."
        )
        yield text % {"origins": clean(json.dumps(origins[:_MAX_SHOWN]), 500)}


def freshness(row: CachedDocument) -> str:
    """Return until when the metadata is used without asking again."""
    if isinstance(row, AuthorizationServer) and row.metadata_by_hand:
        return _("Entered by hand; the server is never asked.")
    if row.fresh_until is None:
        return NOTHING
    at = display_for_value(row.fresh_until, NOTHING)
    if not row.is_fresh:
        return _("%(at)s: the server is asked again at the next use") % {"at": at}
    return _("%(at)s, in %(time)s") % {"at": at, "time": timeuntil(row.fresh_until, depth=1)}


def next_attempt(row: CachedDocument | ClientRegistration) -> str:
    """Return when the site retries by itself what failed; a person may retry at any time."""
    if row.rests_until is None:
        return NOTHING
    at, left = display_for_value(row.rests_until, NOTHING), timeuntil(row.rests_until, depth=1)
    return _("%(at)s, in %(time)s") % {"at": at, "time": left}


def terms(server: AuthorizationServer) -> Iterator[tuple[str, list[str]]]:
    """Yield the server's policy and terms, for whoever registers (RFC 8414 section 2).

    As text: a link that a server wrote may lead anywhere.
    """
    labels = {"op_policy_uri": _("Policy"), "op_tos_uri": _("Terms of service")}
    for name, label in labels.items():
        if server.metadata.get(name):
            yield label, _lines(server.metadata[name])


def _lines(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return first_lines(value, 200)
    return [clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 500)]


def first_lines(texts: list[str], limit: int) -> list[str]:
    """Return the first texts, cleaned, and a line with the number of the others."""
    shown = [clean(text, limit) for text in texts[:_MAX_SHOWN]]
    return [*shown, *_more(len(texts) - len(shown))]


def _more(count: int) -> list[str]:
    return [_("and %(count)d more") % {"count": count}] if count > 0 else []
