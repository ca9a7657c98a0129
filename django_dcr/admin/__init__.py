"""The tables in Django's admin, and the services as its actions."""

from __future__ import annotations

from django_dcr.admin.client_keys import ClientKeyAdmin, ClientKeyAdminMixin
from django_dcr.admin.registrations import ClientRegistrationAdmin, ClientRegistrationAdminMixin
from django_dcr.admin.resources import ProtectedResourceAdmin, ProtectedResourceAdminMixin
from django_dcr.admin.servers import AuthorizationServerAdmin, AuthorizationServerAdminMixin

__all__ = [
    "AuthorizationServerAdmin",
    "AuthorizationServerAdminMixin",
    "ClientKeyAdmin",
    "ClientKeyAdminMixin",
    "ClientRegistrationAdmin",
    "ClientRegistrationAdminMixin",
    "ProtectedResourceAdmin",
    "ProtectedResourceAdminMixin",
]
