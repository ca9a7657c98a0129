"""What the server adds to django-oauth-toolkit, so that a client can find out who has logged in."""

from __future__ import annotations

import json
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from oauth2_provider.decorators import protected_resource
from oauth2_provider.views import OAuthServerMetadataView

#: The path of the issuer, under which django-oauth-toolkit is mounted.
PATH = "o"


def no_metadata(request: HttpRequest) -> HttpResponse:
    """Respond with 404: there is no server of that issuer."""
    raise Http404("There is no metadata document at this URL.")


class MetadataView(OAuthServerMetadataView):  # type: ignore[misc]
    """The server's metadata (RFC 8414), with its userinfo endpoint."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if kwargs.get("issuer_path") != PATH:
            return no_metadata(request)
        answer: HttpResponse = super().get(request, *args, **kwargs)
        place = request.build_absolute_uri(reverse("userinfo"))
        answer.content = json.dumps({**json.loads(answer.content), "userinfo_endpoint": place})
        return answer


# Not OpenID Connect: django-oauth-toolkit has no key for the ID tokens of a client that has
# registered itself.
@protected_resource(scopes=["profile"])  # type: ignore[untyped-decorator]
def userinfo(request: HttpRequest) -> HttpResponse:
    user = request.resource_owner  # type: ignore[attr-defined]
    return JsonResponse({"sub": str(user.pk), "name": user.get_full_name() or user.username})
