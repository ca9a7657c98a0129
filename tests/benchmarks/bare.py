"""What Django alone takes to answer with JSON from the database."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse

from django_dcr.models import ClientKey
from tests.benchmarks.models import Bare


def bare_document(request: HttpRequest) -> JsonResponse:
    """The metadata of a registration, without a header of its own."""
    return JsonResponse(Bare.objects.get(pk=request.GET["pk"]).metadata)


def bare_keys(request: HttpRequest) -> JsonResponse:
    """All public keys."""
    return JsonResponse({"keys": list(ClientKey.objects.values_list("public_key", flat=True))})
