"""The only door to the network.

``requests`` prepares and parses, in one remembered session a thread without cookies, ``.netrc``,
proxies from the environment and redirects (``sessions``). The ``connections`` below it decide
where they may go, and an ``exchange`` how long, and how many bytes, it may go on for.
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
    """Import ``requests`` when something is sent: most starts of a process send nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found
