"""What this site publishes for authorization servers."""

from __future__ import annotations

import hashlib

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control
from django.views.decorators.http import etag, require_safe

from django_dcr.protocol import DOCUMENT_MAX_AGE
from django_dcr.services import documents


@login_not_required
@require_safe
@transaction.non_atomic_requests
def client_document(request: HttpRequest, slug: str) -> HttpResponse:
    """Serve a Client ID Metadata Document (section 4 of the draft): directly, to anyone.

    A slug that never was, is closed, or is another site's is the same 404.
    """
    body = documents.published(slug)
    if body is None:
        return HttpResponse(status=404)
    response: HttpResponse = _answer(request, body)
    patch_cache_control(response, public=True, max_age=DOCUMENT_MAX_AGE)
    response["Access-Control-Allow-Origin"] = "*"
    return response


def _entity_tag(_request: HttpRequest, body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


@etag(_entity_tag)
def _answer(_request: HttpRequest, body: bytes) -> HttpResponse:
    return HttpResponse(body, content_type="application/json")
