"""What lets the server fetch a client's metadata document from the machine that it runs on."""

from __future__ import annotations

from oauth2_provider import cimd


class LoopbackFetcher(cimd.SafeMetadataFetcher):  # type: ignore[misc]
    """The server's own fetcher, which otherwise refuses every address that is not public.

    For a server and a client on one machine, in development. django-oauth-toolkit has no such
    option, for good reasons.
    """


cimd._ip_is_public = lambda address: True
