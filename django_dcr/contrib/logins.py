"""What the modules for login libraries share. It needs none of these libraries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict
from django.views.decorators.debug import sensitive_variables

from django_dcr import services
from django_dcr.exceptions import MAX_LENGTH
from django_dcr.logs import log
from django_dcr.models import ClientRegistration
from django_dcr.text import SensitiveBytes, clean


def response_of(request: HttpRequest) -> QueryDict:
    """Return the parameters of an authorization response (response_mode "query", "form_post")."""
    return request.GET if request.method == "GET" else request.POST


def check_response(
    registration: ClientRegistration, attempt: Mapping[str, str], response: QueryDict
) -> None:
    """Check an authorization response as ``services.check_login`` does."""
    # A response with a code is not an error, whatever else is in it.
    is_error = not response.get("code")
    services.check_login(registration, attempt, response.get("iss"), is_error=is_error)


@sensitive_variables()
def authenticate(registration: ClientRegistration, headers: Any, body: str) -> SensitiveBytes:
    """Add the client authentication to a token request: to its headers, and to the form returned.

    The libraries' own Basic does not form-urlencode (RFC 6749 section 2.3.1). They may log the
    body, whose type masks it.
    """
    credentials, parameters = registration.client_authentication()
    headers.update(credentials)
    return SensitiveBytes("&".join(filter(None, [body, urlencode(parameters)])).encode())


def join_query(url: str, endpoint: str) -> str:
    """Correct a ``url`` that was built from ``endpoint``, "?" and parameters.

    The endpoint may have a query already (RFC 6749 section 3.1).
    """
    return url.replace(f"{endpoint}?", f"{endpoint}&", 1) if "?" in endpoint else url


def log_failure(error: Exception) -> None:
    """Log why a login failed, which the user's page does not say."""
    log("login_failed", "A login failed. %s", clean(error, MAX_LENGTH))
