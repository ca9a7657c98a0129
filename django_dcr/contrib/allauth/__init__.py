"""Logins with registered clients through django-allauth, as a provider beside its own ones."""
