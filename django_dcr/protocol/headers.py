"""Header fields of responses: dates, caching, redirects and challenges (RFC 9110, RFC 9111)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime

from django_dcr import uris

# RFC 9110 section 8.8.3; any other value could not be sent back in a request.
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,250}"')
#: A longer header is ignored: half of a URL would be another URL.
MAX_LENGTH = 64 * 1024

_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PARAMETER = re.compile(
    rf"(?P<name>{_NAME})[ \t]*=[ \t]*"
    # An unquoted value is a token; many servers write a URL or a date there.
    r'(?:"(?P<quoted>[^"\\]*(?:\\.[^"\\]*)*)"|(?P<plain>[^\s,"=][^\s,"]*))',
    re.DOTALL,
)
_SCHEME = re.compile(rf"({_NAME})(?=[\s,]|$)")
_TOKEN68 = re.compile(r"[ \t]+([A-Za-z0-9._~+/-]+=*)[ \t]*(?=,|$)")
_SEPARATORS = re.compile(r"[\s,]*")
_MALFORMED = re.compile(r'[^\s,"]+')


def delta_seconds(text: str) -> float | None:
    """Return the number of seconds in a header (RFC 9110 section 10.2.3), or None.

    Never raises: a number with very many digits is infinity.
    """
    text = text.strip(" \t")
    return float(text) if re.fullmatch("[0-9]+", text) else None


def http_date(text: str) -> float | None:
    """Return a date in a header (RFC 9110 section 5.6.7) in seconds since 1970, or None."""
    try:
        moment = parsedate_to_datetime(text[:64])
        # "-0000" gives a date without a zone.
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def freshness(headers: Mapping[str, str], limit: float) -> float:
    """Return for how many seconds a response is fresh (RFC 9111 section 4.2).

    At most ``limit`` seconds, which is also the default where the headers state nothing valid.
    """
    directives = _directives(headers.get("Cache-Control", ""))
    if "no-store" in directives or "no-cache" in directives:
        return 0.0
    lifetime = delta_seconds(directives.get("max-age", ""))
    if lifetime is None:
        return limit
    age = delta_seconds(headers.get("Age", "")) or 0.0
    return min(lifetime - age, limit) if age < lifetime else 0.0


def entity_tag(headers: Mapping[str, str]) -> str:
    """Return a response's ETag (RFC 9110 section 8.8.3), "" where it is malformed or very long."""
    tag = headers.get("ETag", "")
    return tag if _ENTITY_TAG.fullmatch(tag) else ""


def _directives(header: str) -> dict[str, str]:
    parts = (part.partition("=") for part in header.split(","))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in parts}


def redirect_target(url: str, location: str) -> str:
    """Return where a redirect of ``url`` leads (RFC 9110 section 10.2.2).

    Raises ValueError for a target that is neither an absolute URL nor an absolute path.
    """
    home = uris.parse(url)
    if location.startswith("//"):
        location = f"{home.scheme}:{location}"
    elif location.startswith("/"):
        location = home.origin + location
    uris.parse(location)
    return location


@dataclass(frozen=True)
class Challenge:
    """The challenges of one response (RFC 9110 section 11.6.1), of whatever schemes.

    Where several of them have the same parameter, the first one counts.
    """

    #: The scheme and the parameters of each challenge; schemes and names are in lower case.
    parts: tuple[tuple[str, Mapping[str, str]], ...] = ()

    @property
    def resource_metadata(self) -> str:
        """Where the resource's metadata is (RFC 9728 section 5.1), or ""."""
        return self.parameter("resource_metadata")

    @property
    def scope(self) -> str:
        """The scope that the request needs (RFC 6750 section 3), exactly as written, or ""."""
        return self.parameter("scope")

    @property
    def error(self) -> str:
        """The error code, such as "invalid_token" or "insufficient_scope", or ""."""
        return self.parameter("error")

    def parameter(self, name: str) -> str:
        """Return a parameter of any challenge by its name in lower case, or ""."""
        return next((values[name] for _scheme, values in self.parts if name in values), "")


def parse_challenge(headers: str | Iterable[str]) -> Challenge:
    """Parse the WWW-Authenticate header of a response, or all of them where it has several.

    Never raises. Any scheme may have the parameters of OAuth (RFC 9728 section 5.1). Malformed
    parts and incomplete parameters are skipped, and headers of more than 64 KiB are ignored.
    """
    header = headers if isinstance(headers, str) else ", ".join(headers)
    return Challenge() if len(header) > MAX_LENGTH else Challenge(tuple(_challenges(header)))


def _challenges(header: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    scheme, parameters = "", dict[str, str]()
    position = _skip(header, 0)
    while position < len(header):
        if header[position] == '"':
            break  # a quotation mark out of place: what follows cannot be trusted
        if parameter := _PARAMETER.match(header, position):
            quoted, plain = parameter["quoted"], parameter["plain"]
            value = plain if quoted is None else re.sub(r"(?s)\\(.)", r"\1", quoted)
            parameters.setdefault(parameter["name"].lower(), value)
            position = parameter.end()
        elif found := _SCHEME.match(header, position):
            if scheme:
                yield scheme, parameters
            scheme, parameters = found[1].lower(), {}
            position = found.end()
            if credentials := _TOKEN68.match(header, position):
                position = credentials.end()
        else:
            position = _after_malformed(header, position)
        position = _skip(header, position)
    if scheme:
        yield scheme, parameters


def _skip(header: str, position: int) -> int:
    found = _SEPARATORS.match(header, position)
    return found.end() if found else position


def _after_malformed(header: str, position: int) -> int:
    found = _MALFORMED.match(header, position)
    return found.end() if found else position + 1
