"""The keys with which this site's clients sign instead of having secrets."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.db import connections, models, router, transaction
from django.db.models.signals import post_delete, post_migrate, post_save
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from django_dcr import protocol
from django_dcr.conf import conf
from django_dcr.exceptions import UnsupportedError
from django_dcr.fields import DigestField, Secret, SecretField, SecretQuerySet, digest
from django_dcr.models.persistence import retry_on_db_error
from django_dcr.text import clean, hides_variables

if TYPE_CHECKING:
    from django_dcr.models.client import ClientModel

#: How long a key signs.
LIFETIME = timedelta(days=90)
#: How long a key is published before it signs: longer than servers keep a key set.
PUBLISHED_BEFORE = timedelta(days=1)
#: How long it is published after it has signed: some servers bind a session to its first key.
PUBLISHED_AFTER = timedelta(days=30)
#: How long before a key stops signing it is due for rotation: long enough for a cron job to fail
#: a few times.
DUE_BEFORE = timedelta(days=7)

# For how many seconds, and for at most how many owners, a process caches the keys.
_REMEMBERED = 60.0
_MAX_OWNERS = 1000


class ClientKeyQuerySet(SecretQuerySet["ClientKey"]):
    def of(self, owner: str) -> ClientKeyQuerySet:
        """The keys of this owner alone; "" is the site."""
        return self.filter(owner_digest=digest(owner))

    def published(self) -> ClientKeyQuerySet:
        """The keys that servers must know: those that sign, will sign, or signed recently."""
        return self.filter(published_until__gt=timezone.now()).order_by("pk")

    def newest(self, owner: str, algorithm: str) -> ClientKey | None:
        """The last key that was made of this owner and algorithm."""
        return self.of(owner).filter(algorithm=algorithm).order_by("number").last()


class ClientKey(models.Model):
    """A key pair: the private key never leaves this row, the public key is published.

    The keys of one owner and algorithm follow one another. Each is published for a day before it
    signs and for a month afterwards, so that servers that keep a key set know the one in use.
    """

    owner = models.TextField(
        _("owner"),
        blank=True,
        default="",
        help_text=_(
            "The owner whose clients sign with it; empty for all who have no key of their own."
        ),
    )
    owner_digest = DigestField(source="_owner_parts")
    kid = models.CharField(_("key ID"), max_length=64, unique=True, editable=False)
    algorithm = models.CharField(
        _("algorithm"),
        max_length=16,
        default="ES256",
        choices=[(name, name) for name in protocol.KEY_TYPES],
    )
    #: Its place among the keys of the same owner and algorithm.
    number = models.PositiveIntegerField(default=1, editable=False)
    private_key = SecretField(_("private key"), editable=False)
    public_key = models.JSONField(_("public key"), editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    signs_from = models.DateTimeField(_("signs from"), editable=False)
    signs_until = models.DateTimeField(_("signs until"), editable=False)
    published_until = models.DateTimeField(_("published until"), editable=False)

    objects = ClientKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("client key")
        verbose_name_plural = _("client keys")
        permissions = [("rotate_clientkey", "Can rotate client keys")]
        constraints = [
            models.UniqueConstraint(
                fields=["owner_digest", "algorithm", "number"], name="dcr_one_next_key"
            )
        ]

    def __str__(self) -> str:
        return self.kid

    def _owner_parts(self) -> tuple[str, ...]:
        return (self.owner,)

    @property
    def state(self) -> str:
        """Its part in the rotation: "next", "signing", "published" or "retired"."""
        now = timezone.now()
        if now >= self.published_until:
            return "retired"
        if now < self.signs_from:
            return "next"
        return "signing" if now < self.signs_until else "published"

    @property
    def is_due(self) -> bool:
        """Whether it is time to make the next key."""
        return timezone.now() >= self.signs_until - DUE_BEFORE

    def sign(self, message: bytes) -> bytes:
        """Return the JWS signature of ``message``, the only use of the private key.

        Raises DecryptionError, and UnsupportedError if the stored key is malformed.
        """
        return protocol.signature(self._opened(), self.algorithm, message)

    @sensitive_variables()
    def _opened(self) -> Any:
        try:
            return _opened(self.private_key, self.algorithm, tuple(conf.DCR_ENCRYPTION_KEYS or ()))
        except ValueError as exc:
            raise UnsupportedError(
                f"The stored key {self.kid} {exc}, so nothing was signed. Make another with: "
                f"manage.py dcr_client_keys --rotate --force --algorithm {self.algorithm}"
            ) from None

    @classmethod
    @hides_variables
    def follow(cls, last: ClientKey | None, *, owner: str, algorithm: str) -> ClientKey:
        """Make and store the key that follows ``last``, or the first of this owner and algorithm.

        The first may sign at once: no server can have cached a key set without it. Raises
        IntegrityError if another process has just done the same.
        """
        alias = router.db_for_write(cls)
        key, now = protocol.make_key(algorithm), timezone.now()
        begins = now if last is None else last.ends(now)

        def store() -> ClientKey:
            with transaction.atomic(using=alias):
                following = cls.objects.using(alias).create(
                    owner=owner,
                    algorithm=algorithm,
                    kid=key.kid,
                    number=1 if last is None else last.number + 1,
                    private_key=key.private,
                    public_key=key.public,
                    **_moments(begins),
                )
                if last is not None:
                    last.hand_over(begins)
            return following

        return retry_on_db_error(store, alias)

    def hand_over(self, at: datetime) -> None:
        """Stop signing at ``at``, in favour of the next key."""
        if at != self.signs_until:
            self.signs_until, self.published_until = at, at + PUBLISHED_AFTER
            alias = router.db_for_write(type(self), instance=self)
            self.save(using=alias, update_fields=["signs_until", "published_until"])

    def ends(self, now: datetime) -> datetime:
        """When a key made now takes over: as planned, if that leaves servers enough time."""
        soonest = now + PUBLISHED_BEFORE
        is_planned = self.is_due and self.signs_until >= soonest
        return self.signs_until if is_planned else soonest


def _moments(begins: datetime) -> dict[str, Any]:
    ends = begins + LIFETIME
    return {"signs_from": begins, "signs_until": ends, "published_until": ends + PUBLISHED_AFTER}


# Parsing an RSA key takes longer than signing a hundred times.
@lru_cache(maxsize=128)
@sensitive_variables()
def _opened(private_key: Secret, algorithm: str, encryption_keys: tuple[str, ...]) -> Any:
    return protocol.open_key(private_key.reveal(), algorithm)


def signing_key(registration: ClientModel) -> ClientKey:
    """Return the key with which this client signs now, from the cache or by one query.

    It is one that the server can know: in the key set that the client was registered with, and of
    the registered algorithm or one that the server lists. Raises UnsupportedError if there is
    none.
    """
    metadata, server = registration.metadata, registration.server
    algorithm = metadata.get("token_endpoint_auth_signing_alg")
    listed = server.offered("token_endpoint_auth_signing_alg_values_supported")
    order = list(protocol.KEY_TYPES)
    algorithms = [algorithm] if algorithm else listed or order
    possible = [name for name in order if name in algorithms]
    keys = _registered(registration, remembered_keys(registration.owner))
    now = timezone.now()
    usable = [key for key in keys if key.algorithm in possible and key.signs_from <= now]
    if not usable:
        raise _no_key(registration, algorithms)
    known = now - PUBLISHED_BEFORE

    def preference(key: ClientKey) -> tuple[Any, ...]:
        # An overdue key is better than no login, and one that all servers know is better than
        # the first one of another algorithm.
        is_known = key.created_at <= known
        return key.signs_until > now, is_known, -order.index(key.algorithm), key.number

    return max(usable, key=preference)


def _registered(registration: ClientModel, keys: list[ClientKey]) -> list[ClientKey]:
    """The keys of the set that the client was registered with."""
    sent, address = registration.metadata.get("jwks"), registration.metadata.get("jwks_uri")
    if sent and not address:  # the server knows just these keys
        return [key for key in keys if protocol.has_key(sent, key.public_key)]
    now, owner = timezone.now(), digest(registration.owner)
    published = [key for key in keys if key.published_until > now]
    own = [key for key in published if key.owner_digest == owner]
    if own and (not address or owner in address):
        return own
    return [key for key in published if key.owner_digest == digest("")]


def _no_key(registration: ClientModel, algorithms: Collection[str]) -> UnsupportedError:
    pk, ours = registration.pk, [name for name in protocol.KEY_TYPES if name in algorithms]
    if not ours:
        text = (
            f"Registration {pk} has to sign by {clean(', '.join(algorithms), 100)}, for which this "
            "app makes no keys. Choose another token_endpoint_auth_method."
        )
    elif "jwks" in registration.metadata:
        text = (
            f"The jwks of registration {pk} has no key with which this site signs. Send the "
            f"present ones: manage.py dcr_update {pk}"
        )
    else:
        text = (
            f"Registration {pk} has to sign by {' or '.join(ours)}, and this site has no key for "
            f"that. Make one: manage.py dcr_client_keys --rotate --algorithm {ours[0]}"
        )
    return UnsupportedError(text, issuer=registration.server.issuer, step="login")


# By database and owner: until when it is cached, by time.monotonic(), and the keys.
_known: dict[tuple[Any, ...], tuple[float, list[ClientKey]]] = {}


def remembered_keys(owner: str) -> list[ClientKey]:
    """Return the keys of the site and of the owner, by one query a minute."""
    alias = router.db_for_write(ClientKey)
    connection = connections[alias]
    place = (alias, connection.settings_dict["NAME"], owner)
    until, keys = _known.get(place, (0.0, []))
    if until > time.monotonic():
        return keys
    owners = {digest(""), digest(owner)}
    keys = list(ClientKey.objects.using(alias).filter(owner_digest__in=owners).order_by("pk"))
    # What is visible inside a transaction may never be committed.
    if not connection.in_atomic_block:
        if len(_known) >= _MAX_OWNERS:
            _known.clear()
        _known[place] = time.monotonic() + _REMEMBERED, keys
    return keys


def forget_keys(**_signal: Any) -> None:
    """Clear the cache: keys have changed."""
    _known.clear()


for _signal in (post_save, post_delete):
    _signal.connect(forget_keys, sender=ClientKey, dispatch_uid="django_dcr.forget_keys")
post_migrate.connect(forget_keys, dispatch_uid="django_dcr.forget_keys")
