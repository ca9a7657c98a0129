"""A column for encrypted secrets, and one that makes long texts unique and searchable."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models, router, transaction
from django.db.models.expressions import BaseExpression
from django.db.models.lookups import Exact
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from django_dcr.conf import conf
from django_dcr.exceptions import DecryptionError
from django_dcr.text import MASK, SensitiveText

if TYPE_CHECKING:
    from cryptography import fernet
    from typing_extensions import Self

    # The types assigned and loaded: a string is encrypted when it is assigned.
    _TextField = models.TextField["str | Secret | None", "Secret | None"]
    _CharField = models.CharField[Any, Any]
else:
    # Imported when the first secret is sealed or revealed, which many processes never do.
    fernet = SimpleLazyObject(lambda: import_module("cryptography.fernet"))
    _TextField, _CharField = models.TextField, models.CharField  # generic for type checkers only


@dataclass(frozen=True, repr=False)
class Secret:
    """A stored secret: ciphertext that only ``reveal()`` decrypts.

    Printing it shows a mask; pickling, serializing and comparing use the ciphertext. So a row can
    be listed, copied and saved without decrypting its secret, and without the key.
    """

    ciphertext: str
    #: The column it belongs to, which is encrypted with it: in another column it is rejected.
    column: str

    @classmethod
    @sensitive_variables()
    def seal(cls, value: str, column: str) -> Secret:
        """Encrypt ``value`` for ``column`` with the first of ``DCR_ENCRYPTION_KEYS``."""
        return cls(_keyring().encrypt(f"{column}\0{value}".encode()).decode("ascii"), column)

    @sensitive_variables()
    def reveal(self) -> str:
        """Return the plaintext; raise DecryptionError if no key decrypts it.

        Its ``repr()`` is masked, and so are tracebacks that show variables.
        """
        try:
            column, value = _decrypted(self.ciphertext)
        except (fernet.InvalidToken, UnicodeError):
            raise DecryptionError(
                f"None of DCR_ENCRYPTION_KEYS opens the stored {self.column}. "
                "Put the key it was encrypted with back into the list."
            ) from None
        if column != self.column:
            raise DecryptionError(
                f"The stored {self.column} was encrypted as {column}: it has been moved there. "
                "Restore the row from a backup."
            )
        return value

    @property
    def is_current(self) -> bool:
        """Whether it is encrypted with the first of ``DCR_ENCRYPTION_KEYS``."""
        try:
            _multifernet((_keys()[0],)).decrypt(self.ciphertext.encode("ascii"))
        except (fernet.InvalidToken, UnicodeError):
            return False
        return True

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"<Secret {MASK}>"


@sensitive_variables()
def _decrypted(ciphertext: str) -> tuple[str, SensitiveText]:
    plaintext = _keyring().decrypt(ciphertext.encode("ascii")).decode()
    column, _separator, value = plaintext.partition("\0")
    return column, SensitiveText(value)


def _keyring() -> fernet.MultiFernet:
    return _multifernet(_keys())


@sensitive_variables()
def _keys() -> tuple[str, ...]:
    keys = conf.DCR_ENCRYPTION_KEYS
    if isinstance(keys, str) or not keys:
        raise ImproperlyConfigured("DCR_ENCRYPTION_KEYS must be a list of at least one Fernet key.")
    return tuple(keys)


# Making the key objects takes longer than using them, and a site has one list of keys.
@lru_cache(maxsize=8)
@sensitive_variables()
def _multifernet(keys: tuple[str, ...]) -> fernet.MultiFernet:
    try:
        return fernet.MultiFernet([fernet.Fernet(key) for key in keys])
    except (ValueError, TypeError):
        # The original message may contain the key.
        raise ImproperlyConfigured(
            "DCR_ENCRYPTION_KEYS holds a value that is not a valid Fernet key."
        ) from None


class _SealedAttribute:
    """A descriptor that encrypts what is assigned, so that the attribute is a Secret or None."""

    def __init__(self, field: SecretField) -> None:
        self.field = field

    def __get__(self, instance: models.Model | None, owner: type[models.Model]) -> Any:
        if instance is None:
            return self
        if self.field.attname not in instance.__dict__:
            instance.refresh_from_db(fields=[self.field.attname])  # it was deferred
        return instance.__dict__[self.field.attname]

    @sensitive_variables("value")
    def __set__(self, instance: models.Model, value: object) -> None:
        instance.__dict__[self.field.attname] = self.field.sealed(value)


class SecretField(_TextField):
    """A text column whose value is encrypted when assigned, and still encrypted when loaded.

    Assign a ``str``, read a ``Secret``. The only lookup is ``isnull``: equal values have different
    ciphertexts.
    """

    description = _("Encrypted text")

    @property
    def label(self) -> str:
        return f"{self.model._meta.db_table}.{self.column}"

    @sensitive_variables()
    def sealed(self, value: object) -> Secret | None:
        """Return ``value`` as a Secret of this column; raise TypeError for other types."""
        if value is None or isinstance(value, models.NOT_PROVIDED):
            return None
        if isinstance(value, Secret):
            return value if value.column == self.label else Secret.seal(value.reveal(), self.label)
        if isinstance(value, str):
            return Secret.seal(value, self.label)
        raise self._no_secret(value)

    def _no_secret(self, value: object) -> TypeError:
        kind = type(value).__name__
        return TypeError(f"{self.name} takes a str, a Secret or None, not {kind}.")

    def contribute_to_class(
        self, cls: type[models.Model], name: str, private_only: bool = False
    ) -> None:
        super().contribute_to_class(cls, name, private_only)
        setattr(cls, self.attname, _SealedAttribute(self))

    def from_db_value(self, value: str | None, expression: object, connection: object) -> Any:
        return None if value is None else Secret(value, self.label)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        # bulk_update() passes an expression of this very field, whose values are encrypted; those
        # of any other would be stored unencrypted.
        if isinstance(value, BaseExpression) and value.output_field is not self:
            raise self._no_secret(value)
        return super().get_db_prep_save(value, connection)

    def get_prep_value(self, value: object) -> Any:
        secret = self.sealed(value)
        return None if secret is None else secret.ciphertext

    def to_python(self, value: object) -> Any:
        # Deserializers pass what ``value_to_string`` returned: ciphertext.
        return Secret(value, self.label) if isinstance(value, str) else self.sealed(value)

    def value_to_string(self, obj: models.Model) -> Any:
        secret = self.value_from_object(obj)
        return None if secret is None else secret.ciphertext

    def get_lookup(self, lookup_name: str) -> Any:
        return super().get_lookup(lookup_name) if lookup_name == "isnull" else None

    def get_transform(self, lookup_name: str) -> Any:
        return None

    def formfield(self, **kwargs: Any) -> Any:
        # A form would send the value to the browser, or store the mask as a new value.
        return None

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        return [*super().check(**kwargs), *self._check_default()]

    def _check_default(self) -> list[checks.CheckMessage]:
        if not self.has_default() or self.default is None:
            return []
        return [checks.Error("SecretField accepts no default.", obj=self, id="dcr.E101")]


_Model = TypeVar("_Model", bound=models.Model)


@dataclass
class Rotation:
    """What ``rotate_keys`` did, as counts of stored secrets."""

    #: Already encrypted with the first key.
    current: int = 0
    #: Encrypted again; with ``check``, to be encrypted again.
    rotated: int = 0
    #: (primary key, column) of each value that no key decrypts; it is not changed.
    unreadable: list[tuple[Any, str]] = field(default_factory=list)


class SecretQuerySet(models.QuerySet[_Model]):
    """A QuerySet of a model with secret columns."""

    def primary(self) -> Self:
        """These rows from the database that is written to: a replica may lag."""
        return self.using(router.db_for_write(self.model))

    def rotate_keys(self, *, check: bool = False) -> Rotation:
        """Encrypt the secrets of these rows again; see the function ``rotate_keys()``."""
        return rotate_keys(self, check=check)


# Rows to encrypt at a time.
_PAGE = 200


def secret_fields(model: type[models.Model]) -> list[SecretField]:
    """Return the secret columns of the model's own table, without those of parent models."""
    fields = model._meta.concrete_fields
    return [each for each in fields if isinstance(each, SecretField) and each.model is model]


def rotate_keys(rows: models.QuerySet[Any], *, check: bool = False) -> Rotation:
    """Encrypt every secret of these rows with the first of ``DCR_ENCRYPTION_KEYS``.

    The rows may be of any model. A value is replaced only if it is still unchanged, so that
    readers and writers need not stop, and an interrupted run can be started again. With ``check``
    nothing is written.
    """
    fields = secret_fields(rows.model)
    result = Rotation()
    rows = rows.only("pk", *(each.attname for each in fields)).order_by("pk")
    page = list(rows[:_PAGE])
    while page:
        for each in fields:
            found = [_rotated(row, each.attname, result) for row in page]
            changes = [change for change in found if change]
            if changes and not check:
                _replace(rows.db, each, changes)
        page = list(rows.filter(pk__gt=page[-1].pk)[:_PAGE])
    return result


def _replace(alias: str, field: SecretField, changes: list[tuple[str, Any, str]]) -> None:
    # Many at once, since a commit and a query object for each row would take most of the time,
    # but not too many, since a transaction locks its rows.
    connection, model = connections[alias], field.model._meta
    names = [model.db_table, str(field.column), str(model.pk.column)]
    table, column, key = map(connection.ops.quote_name, names)
    replace = f"UPDATE {table} SET {column} = %s WHERE {key} = %s AND {column} = %s"  # noqa: S608
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        cursor.executemany(replace, changes)


def _rotated(row: models.Model, name: str, result: Rotation) -> tuple[str, Any, str] | None:
    """Return the new ciphertext, the primary key and the old ciphertext; None for no change."""
    secret: Secret | None = getattr(row, name)
    if secret is None or secret.is_current:
        result.current += secret is not None
        return None
    try:
        fresh = Secret.seal(secret.reveal(), secret.column)
    except DecryptionError:
        result.unreadable.append((row.pk, name))
        return None
    result.rotated += 1
    return fresh.ciphertext, row.pk, secret.ciphertext


def ciphertext_is(name: str, secret: Secret) -> models.Q:
    """A condition: column ``name`` still has exactly this ciphertext."""
    stored = models.ExpressionWrapper(models.F(name), output_field=models.TextField())
    return models.Q(Exact(stored, secret.ciphertext))


class DigestField(_CharField):
    """The SHA-256 of other values of the row, which makes long texts unique and searchable.

    MariaDB cannot index a text of 2,000 characters, and ignores letter case. ``source`` names a
    method of the model that returns the values to digest, or None for no digest.
    """

    def __init__(self, *args: Any, source: str = "", **kwargs: Any) -> None:
        self.source = source
        super().__init__(*args, **{"max_length": 64, "editable": False, **kwargs})

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "source": self.source}

    def pre_save(self, model_instance: models.Model, add: bool) -> str | None:
        parts: Callable[[], tuple[str, ...] | None] = getattr(model_instance, self.source)
        value = parts()
        result = None if value is None else digest(*value)
        setattr(model_instance, self.attname, result)
        return result


def digest(*parts: str) -> str:
    """Return the SHA-256 of ``parts`` in hexadecimal; it also depends on where each part ends."""
    sizes = ",".join(str(len(part)) for part in parts)
    text = f"{sizes}\0{''.join(parts)}"
    # A value that no database can store may be looked up, but is not found.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def keyed_digest(purpose: str, *parts: str) -> str:
    """Return an HMAC-SHA-256 of ``parts`` in hexadecimal, keyed with SECRET_KEY.

    Without the key nobody can compute it, or check a guess of the parts against it.
    """
    key = str(settings.SECRET_KEY).encode()
    message = "\0".join((f"django_dcr {purpose}", *parts))
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()
