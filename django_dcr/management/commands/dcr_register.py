from __future__ import annotations

import os
import re
from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError
from django.views.decorators.debug import sensitive_variables

from django_dcr.management import client_metadata, secrets
from django_dcr.management.output import DCRCommand
from django_dcr.mechanisms import AUTOMATIC
from django_dcr.models import ClientRegistration
from django_dcr.services.provision import register_named
from django_dcr.text import clean


class Command(DCRCommand):
    help = "Make this site a client of an authorization server, by whatever way it offers."

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
            "--mechanism",
            choices=AUTOMATIC,
            help="how the client comes about (default: the first that is possible of the "
            "server's mechanisms, or DCR_MECHANISMS)",
        )
        secrets.refuse_options(parser, "--client-secret", "--initial-access-token", "--token")

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
        mechanism: str | None,
        **options: Any,
    ) -> None:
        secrets.check_none_given(options)
        if metadata == token_file == "-":
            raise CommandError("Only one of the two files can be standard input.")
        registration = ClientRegistration.objects.live_or_new(issuer, owner)
        stored = registration.requested_metadata
        document = client_metadata.read_document(metadata)
        members = client_metadata.read_changes(changes)
        token = _initial_access_token(token_file)
        registration.request_metadata(client_metadata.requested(stored, document, members))
        registration = register_named(
            registration,
            initial_access_token=token,
            mechanism=mechanism,
            if_missing=if_missing,
        )
        self.write_registration(registration)


def _initial_access_token(file: str | None) -> str | None:
    if file is None:
        source, token = "DCR_INITIAL_ACCESS_TOKEN", os.environ.get("DCR_INITIAL_ACCESS_TOKEN", "")
        if not token:
            return None
    else:
        content = client_metadata.read_bytes(file)
        source, token = clean(file), content.decode("ascii", "replace").strip()
    if not re.fullmatch("[!-~]+", token):
        raise CommandError(f"{source} must hold the token and nothing else, on one line.")
    return token
