"""The services that speak to a server or read rows, for async views: wrappers, and nothing more.

``sync_to_async`` runs each in the thread that Django keeps for the request, with the context of
the caller: connections to the database are closed with the request, and ``actor()`` holds.
"""

from __future__ import annotations

from asgiref.sync import sync_to_async

from django_dcr.services.adoption import adopt
from django_dcr.services.configuration import read, revoke, update
from django_dcr.services.discovery import discover
from django_dcr.services.login import for_login, resume_login
from django_dcr.services.provision import get_or_register
from django_dcr.services.reconciliation import reconcile, retry
from django_dcr.services.registration import register
from django_dcr.services.renewal import renew
from django_dcr.services.replacement import replace
from django_dcr.services.resources import discover_resource, get_or_register_for

aadopt = sync_to_async(adopt)
adiscover = sync_to_async(discover)
adiscover_resource = sync_to_async(discover_resource)
afor_login = sync_to_async(for_login)
aget_or_register = sync_to_async(get_or_register)
aget_or_register_for = sync_to_async(get_or_register_for)
aread = sync_to_async(read)
areconcile = sync_to_async(reconcile)
aregister = sync_to_async(register)
arenew = sync_to_async(renew)
areplace = sync_to_async(replace)
aresume_login = sync_to_async(resume_login)
aretry = sync_to_async(retry)
arevoke = sync_to_async(revoke)
aupdate = sync_to_async(update)
