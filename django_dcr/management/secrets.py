"""Secrets for commands: from a file, from standard input or from the environment."""

from __future__ import annotations

import os
from argparse import SUPPRESS, ArgumentParser

from django.core.management import CommandError
from django.views.decorators.debug import sensitive_variables

from django_dcr.management.client_metadata import read_bytes
from django_dcr.text import SensitiveText, clean

_REFUSED = "given_secret"


def refuse_options(parser: ArgumentParser, *options: str) -> None:
    """Take what people may try, to say why a secret has no place there."""
    parser.add_argument(*options, dest=_REFUSED, help=SUPPRESS)


def check_none_given(options: dict[str, object]) -> None:
    """Raise CommandError where a secret was written on the command line."""
    if options.pop(_REFUSED) is not None:
        raise CommandError(
            "Secrets are not taken on the command line, where every user of this machine can read "
            "them. Put the secret into a file, and name that with the option ending in -file."
        )


@sensitive_variables()
def read(file: str | None, variable: str) -> str | None:
    """Return the secret in ``file``, "-" being standard input, else that of the environment."""
    if file is None:
        return SensitiveText(os.environ[variable]) if os.environ.get(variable) else None
    try:
        return SensitiveText(read_bytes(file).decode())
    except UnicodeDecodeError:
        raise CommandError(f"{clean(file)} must hold the secret and nothing else.") from None
