from __future__ import annotations

import re
from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError
from django.views.decorators.debug import sensitive_variables

from django_dcr.management import arguments
from django_dcr.management.output import DCRCommand
from django_dcr.mechanisms import AUTOMATIC
from django_dcr.models import ClientRegistration
from django_dcr.services.provision import register_named
from django_dcr.text import SensitiveText, clean


class Command(DCRCommand):
    help = "Make this site a client of an authorization server, by whatever way it offers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("issuer", help="the issuer identifier, exactly as the server has it")
        parser.add_argument("--owner", default="", help="whose registration this is")
        arguments.add_metadata(parser)
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
            help="how to get a client (default: the first possible one of the server's "
            "mechanisms, or of DCR_MECHANISMS)",
        )
        arguments.refuse_secrets(parser, "--client-secret", "--initial-access-token", "--token")

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
        arguments.check_one_stdin(metadata, token_file)
        registration = ClientRegistration.objects.live_or_new(issuer, owner)
        requested = arguments.read_metadata(metadata, changes)
        token = _initial_access_token(token_file)
        registration.request_metadata(requested(registration.requested_metadata))
        registration = register_named(
            registration,
            initial_access_token=token,
            mechanism=mechanism,
            if_missing=if_missing,
        )
        self.write_registration(registration)


def _initial_access_token(file: str | None) -> str | None:
    variable = "DCR_INITIAL_ACCESS_TOKEN"
    secret = arguments.read_secret(file, variable)
    if secret is None:
        return None
    token = SensitiveText(secret.strip())
    if not re.fullmatch("[!-~]+", token):
        source = clean(file or variable)
        raise CommandError(f"{source} must hold the token and nothing else, on one line.")
    return token
