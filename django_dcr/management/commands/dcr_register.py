from __future__ import annotations

import os
import re
from argparse import SUPPRESS, ArgumentParser
from typing import Any

from django.core.management import CommandError
from django.views.decorators.debug import sensitive_variables

from django_dcr import protocol
from django_dcr.exceptions import ConflictError, errors_at
from django_dcr.fields import digest
from django_dcr.lifecycle import ACTIONS
from django_dcr.management import client_metadata
from django_dcr.management.output import DCRCommand
from django_dcr.models import (
    AuthorizationServer,
    ClientRegistration,
    check_issuer,
    check_owner,
)
from django_dcr.services import get_or_register, register
from django_dcr.services.operation import check_state
from django_dcr.text import clean


class Command(DCRCommand):
    help = "Register this site as a client of an authorization server (RFC 7591)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("issuer", help="the issuer identifier, exactly as the server has it")
        parser.add_argument("--owner", default="", help="whose registration this is")
        client_metadata.add_arguments(parser)
        parser.add_argument(
            "--initial-access-token-file",
            dest="token_file",
            metavar="FILE",
            help='a file that holds the token the server wants; "-" is standard input. Else the '
            "environment's DCR_INITIAL_ACCESS_TOKEN or the stored server's token is sent",
        )
        parser.add_argument(
            "--if-missing",
            action="store_true",
            help="succeed where this owner is registered there; update it to the metadata given",
        )
        parser.add_argument(
            "--client-secret", "--initial-access-token", "--token", dest="secret", help=SUPPRESS
        )

    @sensitive_variables()
    def handle(
        self,
        *,
        issuer: str,
        owner: str,
        metadata: str | None,
        changes: list[str],
        token_file: str | None,
        if_missing: bool,
        secret: str | None,
        **options: Any,
    ) -> None:
        if secret is not None:
            raise CommandError(
                "Secrets are not taken on the command line, where every user of this machine can "
                "read them. Put the token into a file: --initial-access-token-file FILE"
            )
        if metadata == token_file == "-":
            raise CommandError("Only one of the two files can be standard input.")
        check_issuer(issuer)
        check_owner(owner)
        registration = _live(issuer, owner)
        registration.requested_metadata = client_metadata.requested(
            registration.requested_metadata,
            client_metadata.read_document(metadata),
            client_metadata.read_changes(changes),
        )
        token = _initial_access_token(token_file)
        protocol.check_client_metadata(registration.asked)
        registration = _registered(registration, token, if_missing=if_missing)
        self.write_registration(registration)


def _live(issuer: str, owner: str) -> ClientRegistration:
    """Return the row that is, or can become, the owner's; a new one is not saved yet."""
    rows = ClientRegistration.objects.for_key(issuer, owner).live().select_related("server")
    servers = AuthorizationServer.objects.filter(issuer_digest=digest(issuer))
    server = servers.first() or AuthorizationServer(issuer=issuer)
    return rows.first() or ClientRegistration(server=server, owner=owner)


def _initial_access_token(file: str | None) -> str | None:
    if file is None:
        source, token = "DCR_INITIAL_ACCESS_TOKEN", os.environ.get("DCR_INITIAL_ACCESS_TOKEN", "")
        if not token:
            return None
    else:
        source, token = (
            clean(file),
            client_metadata.read_bytes(file).decode("ascii", "replace").strip(),
        )
    if not re.fullmatch("[!-~]+", token):
        raise CommandError(f"{source} must hold the token and nothing else, on one line.")
    return token


@sensitive_variables()
def _registered(
    registration: ClientRegistration, token: str | None, *, if_missing: bool
) -> ClientRegistration:
    issuer, owner = registration.server.issuer, registration.owner
    if not if_missing:
        with errors_at(registration.server.issuer, "register"):
            check_state(registration, *ACTIONS["register"].statuses)
    if registration.status in ACTIONS["register"].statuses:
        registration.server = AuthorizationServer.objects.for_issuer(issuer)
        try:
            return register(registration, initial_access_token=token)
        except ConflictError:
            if not if_missing:
                raise  # another process was faster
    return get_or_register(issuer, owner, metadata=registration.requested_metadata)
