from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError
from django.db import models
from django.views.decorators.debug import sensitive_variables

from django_dcr.exceptions import InvalidResponseError
from django_dcr.fields import SecretField, digest
from django_dcr.management import arguments
from django_dcr.management.failures import check_row
from django_dcr.management.output import DCRCommand, moment
from django_dcr.models import AuthorizationServer, check_issuer
from django_dcr.text import clean


class Command(DCRCommand):
    help = "Show what is stored of an authorization server, change it, or remove it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("issuer", help="the issuer identifier, exactly as the server has it")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            dest="changes",
            metavar="NAME=VALUE",
            help=f"one of {', '.join(_columns())}; true, false, numbers, lists and objects are "
            "JSON; no VALUE restores the default. The issuer can be changed while nothing is "
            "registered there",
        )
        parser.add_argument(
            "--metadata",
            metavar="FILE",
            help='the server\'s metadata document, for a server that publishes none; "-" is '
            "standard input. It is then never fetched",
        )
        parser.add_argument(
            "--initial-access-token-file",
            dest="token_file",
            metavar="FILE",
            help='a file that holds the token to store for registrations; "-" is standard input',
        )
        parser.add_argument(
            "--remove",
            action="store_true",
            help="remove the server; it must have no registrations",
        )
        arguments.refuse_secrets(parser, "--initial-access-token", "--token")

    @sensitive_variables()
    def handle(
        self,
        *,
        issuer: str,
        changes: list[str],
        token_file: str | None,
        metadata: str | None,
        remove: bool,
        **options: Any,
    ) -> None:
        arguments.check_one_stdin(metadata, token_file)
        values = _values(changes)
        if token_file is not None:
            token = arguments.read_secret(token_file, "")
            values["initial_access_token"] = (token or "").strip() or None
        document = arguments.read_document(metadata)
        if not (values or document is not None):
            server = _stored(issuer)
        elif remove:
            raise CommandError("Either change the server or give --remove, not both.")
        else:
            server = self._edit(issuer, values, document)
        if remove:
            self._remove(server)
        else:
            self.write_document(_described(server))

    def _remove(self, server: AuthorizationServer) -> None:
        document = _described(server)
        try:
            server.delete()
        except models.ProtectedError as exc:
            raise CommandError(
                f"It has registrations ({document['registrations']}). Revoke them with: manage.py "
                f"dcr_revoke --issuer {clean(server.issuer)}; then delete their rows, and the "
                "server, in the admin."
            ) from exc
        if self.as_json:
            self.write_document(document)
        self.note("Removed.")

    @sensitive_variables()
    def _edit(
        self, issuer: str, values: dict[str, Any], document: dict[str, Any] | None
    ) -> AuthorizationServer:
        is_renamed = values.get("issuer", issuer) != issuer
        # A misspelt issuer can be corrected although the site does not allow it.
        server = _stored(issuer) if is_renamed else AuthorizationServer.objects.for_issuer(issuer)
        columns = {*values, "updated_at"}
        if is_renamed and not server.shares_origin(values["issuer"]):
            server.initial_access_token = None  # no other server may see it
            columns.add("initial_access_token")
        for name, value in values.items():
            setattr(server, name, value)
        check_row(server)
        if is_renamed:
            columns |= server.forget_metadata()
            self.note("Find out what the server offers with: manage.py dcr_discover ISSUER")
        if document is not None:
            server.enter_metadata(document)
        server.save(update_fields=columns)
        return server


def _columns() -> dict[str, models.Field[Any, Any]]:
    """Return the columns that an operator may set, except secrets."""
    return {
        field.name: field
        for field in AuthorizationServer._meta.concrete_fields
        if field.editable
        and not isinstance(field, SecretField)
        and field.name not in ("id", "issuer_digest")
    }


def _stored(issuer: str) -> AuthorizationServer:
    server = AuthorizationServer.objects.filter(issuer_digest=digest(issuer)).first()
    if server is None:
        check_issuer(issuer)
        raise CommandError(
            "No server of this issuer is stored. Fetch its metadata with: "
            f"manage.py dcr_discover {issuer}"
        )
    return server


def _values(assignments: list[str]) -> dict[str, Any]:
    columns, values = _columns(), {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if name not in columns:
            raise CommandError(
                f"{clean(name, 60)} is not a column to set; choose from {', '.join(columns)}."
            )
        if not equals:
            raise CommandError("--set takes NAME=VALUE, such as --set enabled=false")
        values[name] = _value(columns[name], text)
    return values


def _value(field: models.Field[Any, Any], text: str) -> Any:
    if not text:
        return field.get_default()
    if isinstance(field, (models.TextField, models.CharField)):
        return text
    if field.name == "trusted_origins" and not text.startswith("["):
        return text.split()
    try:
        return arguments.parse_value(text)
    except InvalidResponseError as exc:
        raise CommandError(
            f"--set {field.name} takes JSON, such as true, 60 or a list in brackets."
        ) from exc


def _described(server: AuthorizationServer) -> dict[str, Any]:
    return {
        "id": server.pk,
        **{name: getattr(server, name) for name in _columns()},
        "has_initial_access_token": server.initial_access_token is not None,
        "registrations": server.registrations.count(),
        "metadata_url": server.metadata_url,
        "fetched_at": moment(server.fetched_at),
        "fresh_until": moment(server.fresh_until),
        "untrusted_origins": server.untrusted_origins,
        "last_error": server.last_error,
        "metadata": server.metadata,
    }
