"""Habits of real authorization servers, which a test switches on by their names."""

from __future__ import annotations

from collections.abc import Collection

from django_dcr.testing.messages import ENDPOINTS, Request

#: Failures of an endpoint, whatever the request.
FAILURES = {
    "breaks_off": "Carries out the request, and closes the connection without a response.",
    "fails": "Responds with 503 and does nothing.",
    "hangs": "Carries out the request, and never responds: DCR_TIMEOUT passes at once.",
    "is_unreachable": "Accepts no connections.",
    "rate_limits": "Responds with 429 and does nothing; Retry-After is 60 seconds.",
    "shows_a_page": "Responds with 200 and an HTML page, and does nothing.",
}
#: Each habit, and what it means.
HABITS = {
    **FAILURES,
    "denies": "The user does not consent: the login ends with access_denied.",
    "expires_secrets": "New secrets expire after `secret_lifetime` seconds.",
    "forges_id_tokens": "Signs ID tokens with an unpublished key.",
    "forgets": "Knows no clients, as after a restored backup; switched off, it knows them again.",
    "grants_less": "Registers clients for the scope `openid` only.",
    "names_another_issuer": "The response to a login names another issuer (a mix-up).",
    "offers_no_registration": "Has no registration endpoint.",
    "omits_id_tokens": "Is an OAuth server without OpenID Connect.",
    "omits_issuer": "Omits `iss` from the response to a login (RFC 9207).",
    "omits_management": "Does not support reading, updating and deleting clients (RFC 7592).",
    "refuses": "Rejects every registration and update.",
    "requires_a_token": "Registers only with `initial_access_token`.",
    "rotates_secrets": "Issues a new client secret with every update.",
    "rotates_tokens": "Issues a new registration access token with every response about a client.",
    "takes_documents": "Supports Client ID Metadata Documents.",
}


class Habits:
    """The habits that are switched on, and the endpoints at which they are."""

    def __init__(self) -> None:
        self._places: dict[str, frozenset[str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def switch_on(self, names: Collection[str], places: Collection[str]) -> None:
        check("habit", names, HABITS)
        check("endpoint", places, ENDPOINTS)
        if places:
            check("habit with endpoints of its own", names, FAILURES)
        self._places |= dict.fromkeys(names, frozenset(places or ENDPOINTS))

    def switch_off(self, names: Collection[str]) -> None:
        check("habit", names, HABITS)
        self._places = {k: v for k, v in self._places.items() if names and k not in names}

    def failure(self, request: Request) -> str:
        """Return the one of ``FAILURES`` that this request meets, "" for none."""
        found = (name for name in FAILURES if request.endpoint in self._places.get(name, ()))
        return next(found, "")


def check(kind: str, names: Collection[str], known: Collection[str]) -> None:
    """Raise ValueError for a misspelt name, which would change nothing."""
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not a known {kind}: {', '.join(sorted(known))}.")
