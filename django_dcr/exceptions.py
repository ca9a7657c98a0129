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

#: The statuses by which a server refuses a request before it acts on it (RFC 9110 section 15,
#: RFC 6585 section 4). Not among them: redirects, 408 and 499 (the connection ended early), 409 and
#: 425 (another attempt may have succeeded), and 503 (which proxies send as well).
NOT_CARRIED_OUT = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429, 501})
# With these codes a server says that it failed, possibly half-way (RFC 6749 section 4.1.2.1, and
# variants of its code).
_FAILURES = re.compile("(internal_?)?(server_?)?(error|exception)", re.IGNORECASE)


class DCRError(Exception):
    """The base of all errors; ``str()`` of one is a single line of at most 500 characters."""

    #: The issuer identifier the call was about, or "".
    issuer: str
    #: "discover", "register", "read", "update", "delete" or "login"; "" where no server was
    #: involved.
    step: str
    #: The HTTP status of the response, or None.
    status: int | None
    #: Seconds to wait before trying again, or None; at most an hour of what a server says.
    retry_after: int | None
    #: From ``discover()``: each URL that was requested, with its outcome.
    attempts: tuple[tuple[str, str], ...] = ()
    #: The protected resource the call was about, or "".
    resource: str = ""
    #: The issuer that was probably meant, where the given one is misspelt, or "".
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
        """Whether it is certain, by the response, that the request was not carried out.

        Other responses may come from a proxy, while the server carried out the request.
        """
        return self.status in NOT_CARRIED_OUT

    def __str__(self) -> str:
        return clean(self.args[0], MAX_LENGTH)


class ErrorContext(NamedTuple):
    """What errors, log lines and signals name: issuer, step, and the registration's primary key."""

    issuer: str = ""
    step: str = ""
    registration: int | None = None


_context: ContextVar[ErrorContext] = ContextVar(
    "django_dcr_context",
    default=ErrorContext(),  # noqa: B039 - immutable
)


def current_context() -> ErrorContext:
    """Return the context of the innermost ``errors_at`` block of this thread or task."""
    return _context.get()


class errors_at:  # noqa: N801 - a context manager, as contextlib names its own
    """Add the issuer and the step, or the protected resource, to each DCRError of the block.

    What an inner block has added stays. Inside the block ``current_context()`` returns it.
    """

    _token: Token[ErrorContext]

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
        outer = _context.get()
        issuer = self.issuer if self.resource else self.issuer or outer.issuer
        registration = outer.registration if self.registration is None else self.registration
        self._token = _context.set(ErrorContext(issuer, self.step, registration))

    def __exit__(self, kind: object, error: BaseException | None, _traceback: object) -> None:
        _context.reset(self._token)
        if isinstance(error, DCRError):
            self.locate(error)

    def locate(self, error: DCRError) -> None:
        """Add them to an error that is not raised, or not yet."""
        error.issuer = error.issuer or self.issuer
        error.step = error.step or self.step
        error.resource = error.resource or self.resource


class NotAllowedError(DCRError):
    """The site's own policy forbids this, so nothing was sent."""


class NetworkError(DCRError):
    """There was no response, or one that must not be read.

    ``sent`` is False where it is certain that no byte of the request was sent.
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
    """The server's response breaks the specification."""


class RequestRejectedError(DCRError):
    """The server rejected the request (RFC 7591 section 3.2.2, RFC 6750 section 3.1)."""

    #: The server's error code, cleaned, or "" where it gave none.
    error: str
    #: The server's description, cleaned, or "".
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
        """As for every error; an OAuth error code in the body means it whatever the status."""
        rejected = bool(self.error) and not _FAILURES.fullmatch(self.error)
        return rejected or super().was_refused


class RegistrationGoneError(RequestRejectedError):
    """The server refuses this registration's token, or no longer knows the client."""


class UnsupportedError(DCRError):
    """The server does not offer this."""


class ConflictError(DCRError):
    """The row's state does not allow this, or another process holds the row.

    ``retry_after`` is set where waiting helps: the other process ends, or the rate limit allows it.
    """


class DecryptionError(DCRError):
    """None of ``DCR_ENCRYPTION_KEYS`` decrypts the stored value."""


class NotStoredError(DCRError, db.OperationalError):
    """The database did not store what the server issued.

    The row stays marked, and ``reconcile()`` settles it. This is also a
    ``django.db.OperationalError``, for code that handles those; the database's own error is the
    ``__cause__``.
    """
