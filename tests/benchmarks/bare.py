"""What Django alone takes to answer with a document of JSON."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse

from tests.benchmarks.models import Bare


def bare_document(request: HttpRequest) -> JsonResponse:
    """The metadata of a registration, by one query and without any header of its own."""
    return JsonResponse(Bare.objects.get(pk=request.GET["pk"]).metadata)
