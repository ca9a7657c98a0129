"""What no library expects in the middle of its work, and all that is shown of it afterwards."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from traceback import TracebackException

from django.test import override_settings
from django.views.debug import ExceptionReporter


class TimeLimitExceeded(Exception):  # noqa: N818 - as the engine has it
    """Stands for an engine's time limit."""


@contextlib.contextmanager
def interrupted(kind: type[BaseException]) -> Iterator[None]:
    """Raise ``kind`` from a signal handler in a moment, wherever the program is then."""

    def handler(number: int, frame: object) -> None:
        raise kind

    # A signal's handler runs in the main thread, and so does a test.
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def shown(error: BaseException, *, brief: bool = False) -> str:
    """All that Django's pages and mails, and trackers that look at variables, show of it."""
    pages = [TracebackException.from_exception(error, capture_locals=True).format()]
    for debug in () if brief else (True, False):
        with override_settings(DEBUG=debug):
            reporter = ExceptionReporter(None, type(error), error, error.__traceback__)
            pages += [reporter.get_traceback_html(), reporter.get_traceback_text()]
    return "".join(line for page in pages for line in page)
