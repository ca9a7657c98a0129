"""The only door to the network.

``requests`` prepares and parses, in one remembered session a thread without cookies, ``.netrc``,
proxies from the environment and redirects (``sessions``). The ``connections`` below it decide
where they may go, and an ``exchange`` how long, and how many bytes, it may go on for.
"""

from django_dcr.transport.adapter import harden_session
from django_dcr.transport.exchange import is_silence
from django_dcr.transport.mounts import mounted
from django_dcr.transport.sending import Reply, send

__all__ = ["Reply", "harden_session", "is_silence", "mounted", "send"]
