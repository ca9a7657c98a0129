"""The changes of a registration's state: each is one write, fenced by the row's lease."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import Error, IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_dcr import protocol, text
from django_dcr.exceptions import NotStoredError
from django_dcr.fields import DigestField, Secret, ciphertext_is, digest
from django_dcr.lifecycle import Status
from django_dcr.logs import log_registration
from django_dcr.mechanisms import Mechanism
from django_dcr.models.client import ClientModel
from django_dcr.models.failures import NO_FAILURE, RememberingModel
from django_dcr.models.leases import LeasedModel
from django_dcr.models.persistence import retry_on_db_error
from django_dcr.models.registrationevent import record

if TYPE_CHECKING:
    from typing_extensions import Self

#: The columns that the server issues.
_ISSUED = (
    "client_id",
    "client_id_issued_at",
    "client_secret",
    "client_secret_expires_at",
    "registration_client_uri",
    "registration_access_token",
)
_CREDENTIALS = ("client_secret", "client_secret_expires_at", "registration_access_token")
_REPLACED: dict[str, Any] = {"live": None, "client_digest": None, "status": Status.REVOKING}
_NO_CREDENTIALS: dict[str, Any] = {
    "client_id": "",
    "client_digest": None,
    "client_secret": None,
    "registration_access_token": None,
    "registration_client_uri": "",
}


class ClientTransitionsModel(ClientModel, LeasedModel, RememberingModel):
    """A registration's state, and the methods that change it."""

    #: Why this mechanism was chosen, for the history.
    reason = ""

    # True or NULL: a unique index allows any number of NULLs, and so of past rows.
    live = models.BooleanField(null=True, default=True, editable=False)
    status = models.CharField(
        _("status"), max_length=16, choices=Status.choices, default=Status.DRAFT, editable=False
    )
    client_digest = DigestField(source="_client_parts", null=True, unique=True)
    #: When a token endpoint last refused the client, after which its server was asked about it.
    refused_at = models.DateTimeField(null=True, editable=False)
    last_error = models.TextField(_("last error"), blank=True, default="", editable=False)

    class Meta:
        abstract = True

    def _client_parts(self) -> tuple[str, ...] | None:
        # A digest, since letter case is significant and MariaDB's collation ignores it. Past rows
        # have none, since a server may issue the ID again.
        is_own = self.live and self.client_id and not self.is_public
        return (self.server.issuer, self.client_id) if is_own else None

    def _own_client(self, client_id: str, secret: object, metadata: dict[str, Any]) -> str | None:
        """Return the digest of a client that no other live row may have, None for a public one."""
        public = self._is_public(secret, metadata)
        return None if public else digest(self.server.issuer, client_id)

    @property
    def is_public(self) -> bool:
        """Whether the client has no credentials, so that several owners may share it.

        RFC 7591 section 3.2.1 lets a server issue the same ID to all instances of a client.
        """
        return self._is_public(self.client_secret, self.metadata)

    @staticmethod
    def _is_public(secret: object, metadata: dict[str, Any]) -> bool:
        return secret is None and metadata.get("token_endpoint_auth_method") == "none"

    def store(
        self,
        information: protocol.ClientInformation,
        *,
        metadata: dict[str, Any] | None,
        superseded: Secret | None = None,
        release: bool = False,
    ) -> bool:
        """Save what the server issued; with the ``metadata`` it granted, as an active client.

        Missing credentials never replace stored ones. Returns False, without a change, if another
        process has taken the row over. ``superseded`` is the access token that the response
        superseded: while the row still has it, the new one is saved even without the lease, and
        nothing but credentials if the row is no longer live.
        """
        values = self._issued(information)
        if metadata is not None:
            values |= self._granted(information, metadata)
            if release or metadata != self.metadata:  # otherwise nothing was requested or granted
                values["has_drift"] = self._drifts(metadata)
            if self.status == Status.GONE:  # but the server still knows it
                secret = values.get("client_secret", self.client_secret)
                own = self._own_client(self.client_id, secret, metadata)
                values |= {"live": True, "client_digest": own}
        if release:  # the step is complete
            values |= self._completed(values)
        self.interrupted = self.interrupted and metadata is None
        if not release and all(getattr(self, name) == value for name, value in values.items()):
            return True  # nothing to save yet
        try:
            return self._store(values, superseded, release=release)
        except IntegrityError:
            raise
        except Error as exc:
            self.interrupted = True
            raise self._not_stored(values, exc) from exc

    def _granted(
        self, information: protocol.ClientInformation, metadata: dict[str, Any]
    ) -> dict[str, Any]:
        """The columns of an active client to which the server granted ``metadata``."""
        values: dict[str, Any] = {
            "status": Status.ACTIVE,
            "metadata": metadata,
            "deviations": list(information.deviations),
            "last_error": "",
        }
        stated = information.metadata.get("token_endpoint_auth_method")
        if stated in protocol.ASSERTION_METHODS:
            values["clock_offset"] = information.clock_offset
        if metadata.get("token_endpoint_auth_method") == "private_key_jwt":
            # Some servers issue a secret as well. It is stored, but never renewed.
            values["client_secret_expires_at"] = None
        return values

    def _completed(self, values: dict[str, Any]) -> dict[str, Any]:
        """The columns that a completed step writes, with its event."""
        new = "client_secret" in values and self.client_secret is not None
        event: dict[str, Any] = {"outcome": Status.ACTIVE.value}
        if self.task == "renew" or new:
            event["new_secret"] = new
        # A refusal by the token endpoint before this step says nothing about the client now.
        completed = {"event": event, **NO_FAILURE, "refused_at": None}
        if self.task == "update":
            # Saved only now: a rejected request must not replace the previous one.
            completed["requested_metadata"] = self.requested_metadata
        return completed

    def _store(self, values: dict[str, Any], superseded: Secret | None, *, release: bool) -> bool:
        until = self._last_attempt()
        if self._write(release=release, atomic=superseded is None, until=until, **values):
            return True
        if superseded is None:
            return False
        not_yet_rotated = ciphertext_is("registration_access_token", superseded)
        if self._write(not_yet_rotated & models.Q(live=self.live), release=release, **values):
            return True
        # The row was marked "gone" because of the old credentials: store the new ones.
        secrets = {name: values[name] for name in _CREDENTIALS if name in values}
        self._write(not_yet_rotated, **secrets)
        return False

    def _not_stored(self, values: dict[str, Any], cause: Error) -> NotStoredError:
        lost = [name for name in ("client_secret", "registration_access_token") if name in values]
        what = f"its new {' and '.join(lost)}" if lost else "it"
        pk, reason = self.pk, text.clean(cause, 80)
        return NotStoredError(
            f"The server answered about registration {pk}, and the database did not store {what} "
            f"({reason}). When the database works again, run: manage.py dcr_read {pk}. If the "
            "server then refuses the old token, register a new client with: "
            f"manage.py dcr_reconcile --retry {pk}"
        )

    def _issued(self, information: protocol.ClientInformation) -> dict[str, Any]:
        issued = {name: getattr(information, name) for name in _ISSUED}
        values = {name: value for name, value in issued.items() if value is not None}
        for name in ("client_secret", "registration_access_token"):
            if name in values and self.secret_equals(name, issued[name]):
                del values[name]
        if "client_secret" in values:
            # A new secret must not inherit the lifetime of the old one.
            values["client_secret_expires_at"] = issued["client_secret_expires_at"]
        if "client_secret_expires_at" in values:
            values["clock_offset"] = information.clock_offset
            if self.task == "renew" and self._is_renewed(values):
                values["renewed_at"] = timezone.now()
        if self.live and information.client_id:
            secret = information.client_secret or self.client_secret
            granted = {**self.metadata, **information.metadata}
            values["client_digest"] = self._own_client(information.client_id, secret, granted)
        return values

    def _is_renewed(self, values: dict[str, Any]) -> bool:
        end = values["client_secret_expires_at"]
        return "client_secret" in values or end != self.client_secret_expires_at

    def record_orphan(self, information: protocol.ClientInformation) -> None:
        """Store a client that was issued too late and could not be deleted in a row of its own."""
        orphan = type(self)(
            server=self.server,
            owner=self.owner,
            live=None,
            status=Status.UNKNOWN,
            requested_metadata=self.requested_metadata,
            last_error="An orphaned client: another process had registered meanwhile. Revoke it.",
        )
        orphan._assign(orphan._issued(information))
        retry_on_db_error(partial(orphan.save, using=self._alias), self._alias)
        record(orphan, self.task, Status.UNKNOWN.value)

    def fail(self, error: object, status: str | None = None) -> bool:
        """Record an error and the resulting status, and release the lease.

        Returns False, without a change, if another process has taken the row over.
        """
        values: dict[str, Any] = {
            "last_error": str(error),
            **self.failure_columns(error, self.task),
        }
        self.may_retry = False
        fence = None
        if status is not None:
            values["status"] = status
            self.interrupted = self.interrupted and status == Status.ACTIVE
        if status == Status.GONE:
            values |= {"live": None, "client_digest": None}
            # A process whose lease had expired may have stored a newer token than the refused one.
            token: Any = self.registration_access_token  # there is one, since it was refused
            fence = self.owned_by_me() & ciphertext_is("registration_access_token", token)
        if status in (Status.DRAFT, Status.REJECTED):
            values |= _NO_CREDENTIALS
        event = {"outcome": status or self.status}
        if isinstance(error, Exception):
            event["error"] = type(error).__name__
        written = self._write(fence, release=True, event=event, **values)
        if written and status == Status.GONE:
            log_registration("lost", "Lost", self)
        elif written:
            log_registration("failed", "Failed", self, f", now {self.status}. {error}")
        return written

    def clear(self, note: str = "") -> bool:
        """Wipe the credentials and close the row (RFC 7592 section 2.3)."""
        values = {**_NO_CREDENTIALS, "status": Status.REVOKED, "live": None, "last_error": note}
        values |= NO_FAILURE
        self.interrupted = False
        values.pop("client_id")  # names the tombstone, and opens nothing
        return self._write(release=True, event={"outcome": Status.REVOKED.value}, **values)

    def publish(
        self,
        members: dict[str, Any],
        warnings: Sequence[str],
        *,
        others: Sequence[Self] = (),
    ) -> bool:
        """Save the members of a metadata document, as an active client, and release the lease.

        ``others`` are the rows of the same client at other servers, which get the same metadata.
        Returns False, without a change, if another process has taken the row over.
        """
        request = {"requested_metadata": self.requested_metadata, "metadata": members}
        values = {
            **request,
            "status": Status.ACTIVE,
            "deviations": [text.clean(warning, 300) for warning in warnings],
            "last_error": "",
            "has_drift": self._drifts(members),
            "event": {"outcome": Status.ACTIVE.value},
        }
        if self.live:
            values["client_digest"] = digest(self.server.issuer, self.client_id)
        self.interrupted = False
        with transaction.atomic(using=self._alias):
            if not self._write(release=True, **values):
                return False
            for other in others:
                moment = {"updated_at": other._next_moment(), "has_drift": other._drifts(members)}
                other._row().update(**request, **moment)
        return True

    def save_request(self) -> None:
        """Save the requested metadata of a client that cannot be updated at its server."""
        self.has_drift = self._drifts(self.metadata)
        self.save(update_fields=["requested_metadata", "has_drift", "updated_at"])

    def confirm(self) -> bool:
        """Record an event without any other change, and release the lease."""
        return self._write(release=True, event={"outcome": self.status})

    def withdraw(self) -> None:
        """Delete a row whose registration was abandoned, if this process still holds the lease."""
        self._row().filter(self.owned_by_me()).delete()

    def note(self, action: str) -> bool:
        """Record an event without any other change; False if another process holds the lease."""
        held = self.claim(*Status, task=action)
        return held and self._write(release=True, event={"outcome": self.status})

    def record_refusal(self) -> None:
        """Record that a token endpoint refused the client just now."""
        self._write(refused_at=timezone.now())

    def _write(
        self,
        fence: models.Q | None = None,
        *,
        event: dict[str, Any] | None = None,
        **values: Any,
    ) -> bool:
        if "client_id" in values:
            client_id = values["client_id"]
            values["client_id_digest"] = digest(client_id) if client_id else None
        written = super()._write(fence, **values)
        if written and event:
            record(self, self.task, note=self.reason, **event)
            self.reason = ""
        return written

    def successor(self, mechanism: str = Mechanism.DYNAMIC, *, action: str = "retry") -> Self:
        """Create a draft that replaces this row as the live one of its server and owner.

        ``action`` is the name of the event in the history.
        """
        draft: Self = retry_on_db_error(partial(self._make_way, mechanism), self._alias)
        self.live = None
        record(self, action, self.status)
        return draft

    def _make_way(self, mechanism: str) -> Self:
        draft = type(self)(
            server=self.server,
            owner=self.owner,
            mechanism=mechanism,
            requested_metadata=self.requested_metadata,
        )
        past = {"live": None, "client_digest": None, "updated_at": self._next_moment()}
        with transaction.atomic(using=self._alias):
            self._row().update(**past)
            draft.save(using=self._alias)
        return draft

    def replace(self, predecessor: Self) -> bool:
        """Replace ``predecessor``, from now on "revoking", as the live row of its key.

        Returns False, without a change, if another process has taken that row over.
        """
        client_digest = self._own_client(self.client_id, self.client_secret, self.metadata)
        replaced = {**_REPLACED, "updated_at": predecessor._next_moment()}
        live = {"live": True, "client_digest": client_digest, "updated_at": self._next_moment()}

        def replace() -> bool:
            with transaction.atomic(using=self._alias):
                old = predecessor._row().filter(predecessor.owned_by_me(), live=True)
                # Another process may be deleting this row as the rest of an interrupted renewal.
                new = self._row().filter(status=Status.ACTIVE, live__isnull=True)
                if old.update(**replaced) and new.update(**live):
                    return True
                transaction.set_rollback(True, using=self._alias)
            return False

        if not retry_on_db_error(replace, self._alias):
            return False
        self._assign(live)
        predecessor._assign(replaced)
        record(predecessor, predecessor.task, Status.REVOKING.value)
        return True
