from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from django.core.management import CommandError

from django_dcr.management.failures import ERRORS, describe_error
from django_dcr.management.output import DCRCommand
from django_dcr.models import ClientKey
from django_dcr.protocol import KEY_TYPES
from django_dcr.runs import one_run
from django_dcr.services import rotate_client_key, update
from django_dcr.services.key_rotation import outdated


class Command(DCRCommand):
    help = (
        "List the keys with which clients sign; or, with --rotate, make the next ones where they "
        "are due, and send them to servers that store keys. Made to be run daily."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--rotate",
            action="store_true",
            help="make the first key, or the next of each kind that is due; else change nothing",
        )
        parser.add_argument(
            "--force",
            action="store_true",
            help="with --rotate, make the next key before it is due",
        )
        parser.add_argument("--owner", help='only keys of this owner; "" is the site itself')
        parser.add_argument("--algorithm", choices=KEY_TYPES, help="only keys for this algorithm")

    def handle(self, *, rotate: bool, force: bool, **options: Any) -> None:
        if force and not rotate:
            raise CommandError("--force goes with --rotate.")
        owner, algorithm = options["owner"], options["algorithm"]
        failures: dict[int, str] = {}
        if rotate:
            for whose, kind in _kinds(owner, algorithm):
                rotate_client_key(whose, algorithm=kind, force=force)
            with one_run():  # a server that does not answer is not waited for at each row
                failures = self._update_registrations()
        is_narrowed = owner is not None or algorithm
        self.write_rows(
            self._described(_selected(owner, algorithm)),
            none="No such client keys. See all with: manage.py dcr_client_keys"
            if is_narrowed
            else "No client keys. Make the first with: manage.py dcr_client_keys --rotate",
        )
        if failures:
            lines = [f"  {pk}: {error}" for pk, error in failures.items()]
            text = (
                "These registrations were not updated, and sign with the keys that they were "
                "registered with:"
            )
            raise CommandError("\n".join([text, *lines]))

    def _update_registrations(self) -> dict[int, str]:
        """Update registrations that contain keys; return the errors by primary key."""
        failures = {}
        rows = outdated()
        for registration in rows:
            try:
                update(registration)
            except ERRORS as exc:
                failures[registration.pk] = describe_error(exc)
        if rows:
            self.note(f"{len(rows) - len(failures)} of {len(rows)} registrations updated.")
        return failures

    def _described(self, keys: Iterable[ClientKey]) -> Iterator[dict[str, Any]]:
        for key in keys:
            moments = {
                "created": key.created_at,
                "signs_from": key.signs_from,
                "signs_until": key.signs_until,
                "published_until": key.published_until,
            }
            yield {
                "kid": key.kid,
                "owner": key.owner,
                "algorithm": key.algorithm,
                "state": key.state,
                **{name: self._moment(value) for name, value in moments.items()},
            }

    def _moment(self, value: datetime) -> str:
        if value.tzinfo:
            value = value.astimezone(timezone.utc)
        if self.as_json:
            return value.isoformat()
        # A terminal has no room for four times of day.
        return f"{value:%Y-%m-%d}" if self.stdout.isatty() else f"{value:%Y-%m-%d %H:%M}"


def _selected(owner: str | None, algorithm: str | None) -> list[ClientKey]:
    rows = ClientKey.objects.order_by("pk")
    if owner is not None:
        rows = rows.of(owner).order_by("pk")
    return list(rows.filter(algorithm=algorithm) if algorithm else rows)


def _kinds(owner: str | None, algorithm: str | None) -> list[tuple[str, str]]:
    """Return the owners and algorithms of the keys; where there is none, those of the first."""
    found = [(key.owner, key.algorithm) for key in _selected(owner, algorithm)]
    return list(dict.fromkeys(found)) or [(owner or "", algorithm or "ES256")]
