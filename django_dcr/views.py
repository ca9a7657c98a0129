"""What this site publishes for authorization servers."""

from __future__ import annotations

import hashlib

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control
from django.views.decorators.http import etag, require_safe

from django_dcr import protocol
from django_dcr.services import documents, key_rotation

# In seconds: how long servers may cache a key set. A key is published for a day before it signs.
_KEYS_MAX_AGE = 3600


@login_not_required
@require_safe
@transaction.non_atomic_requests
def client_document(request: HttpRequest, slug: str) -> HttpResponse:
    """Serve a Client ID Metadata Document (section 4 of the draft): directly, to anyone.

    Slugs that never existed, were closed, or are another site's all give the same 404.
    """
    body = documents.published(slug)
    if body is None:
        return HttpResponse(status=404)
    return _public(request, body, "application/json", max_age=protocol.DOCUMENT_MAX_AGE)


@login_not_required
@require_safe
@transaction.non_atomic_requests
def jwks(request: HttpRequest, owner: str = "") -> HttpResponse:
    """Serve the public keys of the site, or of the owner of this digest (RFC 7517)."""
    body = key_rotation.published(owner)
    if body is None:
        return HttpResponse(status=404)
    return _public(request, body, "application/jwk-set+json", max_age=_KEYS_MAX_AGE)


def _public(request: HttpRequest, body: bytes, content_type: str, *, max_age: int) -> HttpResponse:
    response: HttpResponse = _unless_unchanged(request, body, content_type)
    patch_cache_control(response, public=True, max_age=max_age)
    response["Access-Control-Allow-Origin"] = "*"
    return response


def _entity_tag(_request: HttpRequest, body: bytes, _content_type: str) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


@etag(_entity_tag)
def _unless_unchanged(_request: HttpRequest, body: bytes, content_type: str) -> HttpResponse:
    return HttpResponse(body, content_type=content_type)
