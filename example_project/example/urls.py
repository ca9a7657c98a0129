from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView
from oauth2_provider.urls import metadata_urlpatterns

urlpatterns = [
    path("", TemplateView.as_view(template_name="example/home.html"), name="home"),
    path("admin/", admin.site.urls),
    path("o/", include("oauth2_provider.urls")),
    # RFC 8414 section 3.1 inserts the well-known part between host and path: outside of /o/.
    path("", include(metadata_urlpatterns)),
]
