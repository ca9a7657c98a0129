from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.utils.dateparse import parse_datetime
from django.views.decorators.debug import sensitive_variables

from django_dcr.exceptions import ConflictError, InvalidResponseError
from django_dcr.management import arguments
from django_dcr.management.failures import ERRORS, describe_error
from django_dcr.management.output import DCRCommand, Row
from django_dcr.models import ClientRegistration, Status, live_registration
from django_dcr.protocol import parse_object
from django_dcr.services import adopt
from django_dcr.text import SensitiveBytes, SensitiveDict, clean, hides_variables

_MEMBERS = {
    "issuer": str,
    "owner": str,
    "client_id": str,
    "client_secret": str,
    "client_secret_expires_at": int,
    "registration_client_uri": str,
    "registration_access_token": str,
    "metadata": dict,
}


class Command(DCRCommand):
    help = (
        "Store a client that exists at a server already: one that a person registered in its "
        "console, or another tool did."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("issuer", nargs="?", help="the issuer identifier, as the server has it")
        parser.add_argument("--owner", default="", help="whose client this is")
        parser.add_argument("--client-id", help="the client's id at the server")
        parser.add_argument(
            "--client-secret-file",
            metavar="FILE",
            help='a file that holds the client secret; "-" is standard input. Else the '
            "environment's DCR_CLIENT_SECRET is stored",
        )
        parser.add_argument(
            "--client-secret-expires-at",
            type=_moment,
            metavar="TIME",
            help="when the secret expires: seconds since 1970, a date and time, or 0 for never",
        )
        parser.add_argument(
            "--registration-client-uri",
            default="",
            metavar="URL",
            help="where the client can be managed (RFC 7592)",
        )
        parser.add_argument(
            "--registration-access-token-file",
            dest="token_file",
            metavar="FILE",
            help='a file that holds the token for that; "-" is standard input. Else the '
            "environment's DCR_REGISTRATION_ACCESS_TOKEN is stored",
        )
        arguments.add_metadata(parser)
        parser.add_argument(
            "--replace",
            action="store_true",
            help="let it replace the client that the owner has there; with the same client id, "
            "store its new credentials",
        )
        parser.add_argument(
            "--lines",
            metavar="FILE",
            help='store many: a file with one JSON object per line, "-" is standard input. Members '
            "are named as the arguments of services.adopt(). Clients that are stored are skipped",
        )
        arguments.refuse_secrets(
            parser, "--client-secret", "--registration-access-token", "--token"
        )

    @sensitive_variables()
    def handle(self, *, issuer: str | None, lines: str | None, **options: Any) -> None:
        if (issuer is None) == (lines is None):
            raise CommandError("Name the issuer of one client, or --lines FILE for many.")
        if lines is not None:
            self._adopt_lines(lines, replace=options["replace"])
        else:
            self.write_registration(adopt(str(issuer), **_arguments(options)))

    def _adopt_lines(self, file: str, *, replace: bool) -> None:
        """Adopt the client of each line, each on its own."""
        done, failures = [], []

        def rows() -> Iterator[Row]:
            for number, line in enumerate(_lines(file), start=1):
                if not line.strip():
                    continue
                try:
                    row = _adopt(_read(line), replace)
                except (*ERRORS, CommandError) as exc:
                    failures.append(f"  line {number}: {describe_error(exc)}")
                    continue
                done.append(number)
                yield row, {"error": None}

        self.write_registrations(rows())
        self.sum_up(f"{len(done)} of {len(done) + len(failures)} adopted.", failures)


@sensitive_variables()
def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    secret_file, token_file = options["client_secret_file"], options["token_file"]
    arguments.check_one_stdin(secret_file, token_file, options["metadata"])
    if not options["client_id"]:
        raise CommandError("Name the client, as the server's console shows it: --client-id ID")
    requested = arguments.read_metadata(options["metadata"], options["changes"])
    return {
        "owner": options["owner"],
        "client_id": options["client_id"],
        "client_secret": arguments.read_secret(secret_file, "DCR_CLIENT_SECRET"),
        "client_secret_expires_at": options["client_secret_expires_at"],
        "registration_client_uri": options["registration_client_uri"],
        "registration_access_token": arguments.read_secret(
            token_file, "DCR_REGISTRATION_ACCESS_TOKEN"
        ),
        "metadata": requested({}),
        "replace": options["replace"],
    }


def _lines(file: str) -> Iterator[bytes]:
    """Yield the lines one by one, so that only one is in memory."""
    try:
        if file == "-":
            yield from map(SensitiveBytes, sys.stdin.buffer)
            return
        with Path(file).open("rb") as stream:
            yield from map(SensitiveBytes, stream)
    except (OSError, ValueError) as exc:
        raise arguments.unreadable(file, exc) from exc


@sensitive_variables()
def _read(line: bytes) -> dict[str, Any]:
    try:
        members = parse_object(line)
    except InvalidResponseError as exc:
        raise CommandError(f"it is not one JSON object: {arguments.json_fault(exc)}") from None
    for name, value in members.items():
        kind = _MEMBERS.get(name)
        if kind is None:
            known = ", ".join(_MEMBERS)
            raise CommandError(f"{clean(name, 60)} is not a member; the members are {known}.")
        if value is not None and not isinstance(value, kind):
            raise CommandError(f"{name} has the wrong type; write {kind.__name__}.")
    missing = [name for name in ("issuer", "client_id") if not members.get(name)]
    if missing:
        raise CommandError(f"{missing[0]} is missing.")
    return SensitiveDict({name: value for name, value in members.items() if value is not None})


@hides_variables
def _adopt(members: dict[str, Any], replace: bool) -> ClientRegistration:
    try:
        return adopt(**members, replace=replace and not _stored(members))
    except ConflictError:
        if (stored := _stored(members)) is None:
            raise
        return stored


@sensitive_variables()
def _stored(members: dict[str, Any]) -> ClientRegistration | None:
    """Return the row with these members, as an earlier run has stored it."""
    row = live_registration(members["issuer"], members.get("owner", ""))
    if row is None or row.status != Status.ACTIVE or row.client_id != members["client_id"].strip():
        return None
    secret = members.get("client_secret")
    if secret is not None and not row.secret_equals("client_secret", secret.strip()):
        return None
    return row


def _moment(text: str) -> int:
    """Read a time from the command line, in seconds since 1970."""
    if re.fullmatch("[0-9]{1,11}", text):
        return int(text)
    try:
        moment: datetime | None = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise ArgumentTypeError(
            "write seconds since 1970, 0 for never, or such as 2027-01-31T12:00:00Z"
        )
    return int((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp())
