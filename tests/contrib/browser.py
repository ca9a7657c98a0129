"""Someone's browser, on a site whose pages have the paths of a library."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

from django.http import HttpResponse
from django.test import Client


class Browser:
    """Speaks https, follows nothing, and may change an address on its way."""

    def __init__(self) -> None:
        self.client = Client()

    def get(self, url: str, **query: str) -> HttpResponse:
        return self.client.get(url, query or None, secure=True)

    def post(self, url: str) -> HttpResponse:
        return self.client.post(url, secure=True)

    def end(self, url: str, **changes: str | None) -> HttpResponse:
        """Come back by ``url``, with parameters changed, or taken away by None."""
        place = urlsplit(url)
        parameters = {name: values[0] for name, values in parse_qs(place.query).items()}
        kept = {name: text for name, text in {**parameters, **changes}.items() if text is not None}
        return self.get(place._replace(query=urlencode(kept)).geturl())
