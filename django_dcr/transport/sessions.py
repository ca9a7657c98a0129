"""The remembered ``requests`` session of each thread."""

from __future__ import annotations

import os
import threading
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from django_dcr.conf import conf
from django_dcr.transport.connections import Connection, TLSConnection


class _Thread(threading.local):
    """One session per thread: neither ``requests`` nor a socket may be shared between them."""

    session: requests.Session
    made_for: tuple[object, ...] = ()


_thread = _Thread()

#: What answers in this process, by the beginning of the URL; see ``mounts``.
mounts: dict[str, BaseAdapter] = {}


def session() -> requests.Session:
    """Return the session, which remembers connections, and nothing that a server says."""
    # A child process must not speak on its parent's connections, nor one made under other rules.
    rules = (os.getpid(), conf.DCR_CA_BUNDLE, *conf.DCR_INTERNAL_ORIGINS, *mounts.items())
    if _thread.made_for != rules:
        _thread.session = _new_session()
        _thread.made_for = rules
    return _thread.session


def _new_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no .netrc, no proxies and authorities from the environment
    transport = _Transport(pool_connections=16, pool_maxsize=1)
    session.mount("https://", transport)
    session.mount("http://", transport)
    for prefix, mount in mounts.items():
        session.mount(prefix, mount)
    return session


class _Transport(HTTPAdapter):
    """``requests`` over the connections of this package; it retries nothing, as is its default."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = TLSConnection if pool.scheme == "https" else Connection
        return pool

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Leave the context alone, to which ``requests`` would add certifi's authorities."""
