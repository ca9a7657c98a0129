"""Every error this app raises.

::

    DCRError                     the base, never raised itself
      NotAllowedError            the site's own policy forbids it (issuer, address, metadata)
      NetworkError               no answer, or one that must not be read
      InvalidResponseError       the answer breaks the specification
      RequestRejectedError       the server said no
        RegistrationGoneError    ... because it refuses this registration's token or forgot it
      UnsupportedError           the server offers no such endpoint
      ConflictError              the row is not in a state for this, or another process has it
      DecryptionError            no key opens the stored value
      NotStoredError             the database did not store what the server issued

Messages say what to do next and carry no secret. Wrong settings are not in this tree: they are
Django's ``ImproperlyConfigured``.
"""

from __future__ import annotations

import re
from contextvars import ContextVar, Token
from typing import NamedTuple

from django.db import utils as db

from django_dcr.text import clean

MAX_LENGTH = 500

#: The statuses with which a server refuses a request before it acts on it (RFC 9110 section 15,
#: RFC 6585 section 4). Not among them are the redirects, 408 and 499 (a connection that ended
#: early), 409 and 425 (another attempt may have succeeded), and 503 (a proxy's answer, too).
NOT_CARRIED_OUT = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429, 501})
# With these codes a server says that it failed, which may have been half-way (RFC 6749
# section 4.1.2.1, and the names that others give to it).
_FAILURES = re.compile("(internal_?)?(server_?)?(error|exception)", re.IGNORECASE)


class DCRError(Exception):
    """The base of all errors; ``str()`` of one is a single line of at most 500 characters."""

    #: The issuer identifier the call was about, or "".
    issuer: str
    #: "discover", "register", "read", "update", "delete" or "login", or "" where no server was
    #: involved.
    step: str
    #: The HTTP status that was received, or None.
    status: int | None
    #: Seconds after which to try again, at most one hour where a server says so, or None.
    retry_after: int | None
    #: From ``discover()``: each place that was asked, with its outcome.
    attempts: tuple[tuple[str, str], ...] = ()
    #: The protected resource the call was about, or "".
    resource: str = ""
    #: The issuer that was probably meant, where the one that was named is misspelt, or "".
    suggested_issuer: str = ""

    # Keyword attributes live in __dict__, which pickle restores after calling cls(*args).
    def __init__(
        self,
        message: str = "",
        *,
        issuer: str = "",
        step: str = "",
        status: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.issuer = issuer
        self.step = step
        self.status = status
        self.retry_after = retry_after

    @property
    def was_refused(self) -> bool:
        """Whether the answer says for certain that the request was not carried out.

        Anything else may come from a proxy whose server went on to do it.
        """
        return self.status in NOT_CARRIED_OUT

    def __str__(self) -> str:
        return clean(self.args[0], MAX_LENGTH)


class Work(NamedTuple):
    """What is being done: at which issuer, in which step, for the registration of which number."""

    issuer: str = ""
    step: str = ""
    registration: int | None = None


_work: ContextVar[Work] = ContextVar("django_dcr_work", default=Work())  # noqa: B039 - immutable


def work_at_hand() -> Work:
    """Return what the innermost ``errors_at`` block of this thread or task is about."""
    return _work.get()


class errors_at:  # noqa: N801 - a context manager, as contextlib names its own
    """Let each DCRError that leaves the block say at which issuer and in which step it was raised.

    Or about which protected resource. What an inner block has said stays. Until then
    ``work_at_hand()`` says it, to what counts and logs in the block.
    """

    _outer: Token[Work]

    def __init__(
        self,
        issuer: str = "",
        step: str = "",
        registration: int | None = None,
        *,
        resource: str = "",
    ) -> None:
        self.issuer = issuer
        self.step = step
        self.registration = registration
        self.resource = resource

    def __enter__(self) -> None:
        outer = _work.get()
        issuer = self.issuer if self.resource else self.issuer or outer.issuer
        number = outer.registration if self.registration is None else self.registration
        self._outer = _work.set(Work(issuer, self.step, number))

    def __exit__(self, kind: object, error: BaseException | None, _traceback: object) -> None:
        _work.reset(self._outer)
        if isinstance(error, DCRError):
            self.locate(error)

    def locate(self, error: DCRError) -> None:
        """Say it of an error that is not raised, or not yet."""
        error.issuer = error.issuer or self.issuer
        error.step = error.step or self.step
        error.resource = error.resource or self.resource


class NotAllowedError(DCRError):
    """The site's own policy forbids this, so nothing was sent."""


class NetworkError(DCRError):
    """No answer came, or one that must not be read.

    ``sent`` is False where it is certain that no byte of the request left this machine.
    """

    sent: bool

    def __init__(
        self,
        message: str = "",
        *,
        issuer: str = "",
        step: str = "",
        status: int | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message, issuer=issuer, step=step, status=status)
        self.sent = sent


class InvalidResponseError(DCRError):
    """The server answered, and the answer breaks the specification."""


class RequestRejectedError(DCRError):
    """The server said no (RFC 7591 section 3.2.2, RFC 6750 section 3.1)."""

    #: The server's error code, cleaned, or "" where it gave none.
    error: str
    #: The server's own words, cleaned, or "".
    error_description: str

    def __init__(
        self,
        message: str = "",
        *,
        issuer: str = "",
        step: str = "",
        status: int | None = None,
        error: str = "",
        error_description: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, issuer=issuer, step=step, status=status, retry_after=retry_after)
        self.error = error
        self.error_description = error_description

    @property
    def was_refused(self) -> bool:
        """As of every error; an OAuth error in the body says so with any status."""
        said_no = bool(self.error) and not _FAILURES.fullmatch(self.error)
        return said_no or super().was_refused


class RegistrationGoneError(RequestRejectedError):
    """The server refuses this registration's token, or no longer knows the client."""


class UnsupportedError(DCRError):
    """The server does not offer this."""


class ConflictError(DCRError):
    """The row is not in a state for this, or another process is at work on it.

    ``retry_after`` is set where that passes: the other process ends, the server's rate allows it.
    """


class DecryptionError(DCRError):
    """None of ``DCR_ENCRYPTION_KEYS`` opens the stored value."""


class NotStoredError(DCRError, db.OperationalError):
    """The server answered, and the database did not store what it issued.

    The row stays marked, so ``reconcile()`` looks after it. Also a ``django.db.OperationalError``,
    for code that handles those of the database, whose own error is the ``__cause__``.
    """
