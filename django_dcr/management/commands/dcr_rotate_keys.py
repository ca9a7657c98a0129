from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.management import CommandError
from django.db import models, router

from django_dcr.fields import rotate_keys, secret_fields
from django_dcr.management.output import DCRCommand

_MAX_NAMED = 10


class Command(DCRCommand):
    help = (
        "Encrypt every stored secret with the first of DCR_ENCRYPTION_KEYS, those in models of "
        "the site's own included."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--check",
            action="store_true",
            help="write nothing; fail while another key than the first is needed",
        )

    def handle(self, *, check: bool, **options: Any) -> None:
        found = {
            _name(model): rotate_keys(_rows(model), check=check)
            for model in apps.get_models()
            if secret_fields(model)
        }
        old = sum(rotation.rotated for rotation in found.values())
        unreadable = [
            {"model": name, "id": pk, "column": column}
            for name, rotation in found.items()
            for pk, column in rotation.unreadable
        ]
        self.write_document(
            {
                "current": sum(rotation.current for rotation in found.values()),
                "to_rotate" if check else "rotated": old,
                "unreadable": unreadable if self.as_json else len(unreadable) or None,
            }
        )
        if unreadable:
            first = unreadable[:_MAX_NAMED]
            places = ", ".join("{model} {id} {column}".format(**each) for each in first)
            if len(unreadable) > len(first):
                places += f" and {len(unreadable) - len(first)} more"
            raise CommandError(
                f"No key opens {len(unreadable)} stored values; put their key back into "
                f"DCR_ENCRYPTION_KEYS, or register again: {places}."
            )
        if check and old:
            raise CommandError(
                f"{old} stored values need an older key. Run: manage.py dcr_rotate_keys"
            )


def _rows(model: type[models.Model]) -> models.QuerySet[Any]:
    return model._base_manager.using(router.db_for_write(model))


def _name(model: type[models.Model]) -> str:
    """Return what to call a model; those of other apps with the name of their app."""
    own = model._meta.app_label == "django_dcr"
    return str(model._meta.object_name if own else model._meta.label)
