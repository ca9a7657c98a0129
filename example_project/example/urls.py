from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path, re_path
from oauth2_provider.urls import metadata_urlpatterns

from example import login, server, tools

tool_patterns = [
    path("tools/", tools.index, name="tools"),
    path("tools/connect", tools.connect, name="tools-connect"),
    path("tools/callback", tools.callback, name="tools-callback"),
    path("tools/<int:pk>/", tools.detail, name="tools-connection"),
    path("tools/<int:pk>/call", tools.call, name="tools-call"),
    path("tools/<int:pk>/disconnect", tools.disconnect, name="tools-disconnect"),
]
urlpatterns = [
    # The client
    path("", login.home, name="home"),
    path("login", login.log_in, name="log-in"),
    path("callback", login.callback, name="callback"),
    path("logout", login.log_out, name="log-out"),
    *tool_patterns,
    path("oauth/", include("django_dcr.urls")),
    # Both
    path("admin/", admin.site.urls),
    # The server
    path("o/login/", LoginView.as_view(template_name="example/server_login.html"), name="login"),
    path("o/whoami/", server.userinfo, name="userinfo"),
    # RFC 8414 section 3.1 inserts the well-known part between host and path: outside of /o/.
    path(
        ".well-known/oauth-authorization-server/<path:issuer_path>",
        server.MetadataView.as_view(),
        name="oauth-server-metadata-issuer",
    ),
    # The patterns below would answer at other places, too, as if there were other issuers.
    re_path(r"^(?:o/)?\.well-known/oauth-authorization-server", server.no_metadata),
    path("o/", include("oauth2_provider.urls")),
    path("", include(metadata_urlpatterns)),
]
