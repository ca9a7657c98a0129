"""The only module that uses the network.

``requests`` prepares requests and parses responses, with one session per thread that has no
cookies, ``.netrc``, environment proxies or redirects (``sending``). ``connections`` decide which
addresses are allowed, and an ``exchange`` limits time and bytes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_dcr.transport.adapter import harden_session
    from django_dcr.transport.exchange import is_silence
    from django_dcr.transport.mounts import mounted
    from django_dcr.transport.sending import Reply, send

__all__ = ["Reply", "harden_session", "is_silence", "mounted", "send"]

_MODULES = {
    "Reply": "sending",
    "harden_session": "adapter",
    "is_silence": "exchange",
    "mounted": "mounts",
    "send": "sending",
}


def __getattr__(name: str) -> Any:
    """Import ``requests`` only when it is needed: most processes send nothing at start."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found
