from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.db import models

from django_dcr.fields import digest
from django_dcr.management.output import DCRCommand, moment
from django_dcr.models import AuthorizationServer
from django_dcr.text import clean

_EDITABLE = (
    "issuer",
    "name",
    "enabled",
    "client_metadata",
    "trusted_origins",
    "send_client_secret",
    "requests_per_minute",
    "rejects_with_503",
)


class Command(DCRCommand):
    help = "Show what is stored of an authorization server, change it, or remove it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("issuer", help="the issuer identifier, exactly as it is stored")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            dest="changes",
            metavar="NAME=VALUE",
            help=f"change one of {', '.join(_EDITABLE)}; objects and lists are JSON. The issuer "
            "can be changed while nothing is registered there",
        )
        parser.add_argument(
            "--remove",
            action="store_true",
            help="remove the server, at which nothing may be registered",
        )

    def handle(self, *, issuer: str, changes: list[str], remove: bool, **options: Any) -> None:
        server = AuthorizationServer.objects.filter(issuer_digest=digest(issuer)).first()
        if server is None:
            raise CommandError(
                "No server of that issuer is stored. Add it with: manage.py dcr_discover ISSUER"
            )
        if remove and changes:
            raise CommandError("Give --set or --remove, not both.")
        if remove:
            self._remove(server)
            return
        if changes:
            self._change(server, dict(_read(change) for change in changes))
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

    def _change(self, server: AuthorizationServer, values: Mapping[str, Any]) -> None:
        columns = {*values, "updated_at"}
        moves = values.get("issuer", server.issuer) != server.issuer
        if moves and not server.shares_origin(values["issuer"]):
            server.initial_access_token = None  # it is for the server that it was stored for
            columns.add("initial_access_token")
        for name, value in values.items():
            setattr(server, name, value)
        try:
            server.full_clean()
        except ValidationError as exc:
            lines = [f"{name}: {' '.join(said)}" for name, said in exc.message_dict.items()]
            raise CommandError("\n".join(lines)) from exc
        if moves:
            columns |= server.forget_metadata()
            self.note("Find out what the server offers with: manage.py dcr_discover ISSUER")
        server.save(update_fields=columns)


def _read(change: str) -> tuple[str, Any]:
    name, equals, text = change.partition("=")
    if name not in _EDITABLE or not equals:
        raise CommandError(f"--set takes NAME=VALUE, with one of {', '.join(_EDITABLE)}.")
    if name == "trusted_origins" and not text.startswith("["):
        return name, text.split()
    field = AuthorizationServer._meta.get_field(name)
    if isinstance(field, models.BooleanField):
        if text not in ("true", "false"):
            raise CommandError(f"--set {name} takes true or false.")
        return name, text == "true"
    try:
        value = field.formfield().clean(text)  # type: ignore[union-attr]
    except ValidationError as exc:
        raise CommandError(f"--set {name}: {' '.join(exc.messages)}") from exc
    return name, field.get_default() if value is None else value  # type: ignore[union-attr]


def _described(server: AuthorizationServer) -> dict[str, Any]:
    token = server.initial_access_token
    return {
        "id": server.pk,
        **{name: getattr(server, name) for name in _EDITABLE},
        "initial_access_token": None if token is None else str(token),
        "registrations": server.registrations.count(),
        "metadata_url": server.metadata_url,
        "fetched_at": moment(server.fetched_at),
        "fresh_until": moment(server.fresh_until),
        "untrusted_origins": server.untrusted_origins,
        "last_error": server.last_error,
        "metadata": server.metadata,
    }
