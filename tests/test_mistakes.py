"""Mistakes of people, each told where it was made, and with what was probably meant."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from django_dcr import protocol
from django_dcr.exceptions import InvalidResponseError, NotAllowedError
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.factories import ISSUER, make_registration, make_server, server_metadata

pytestmark = pytest.mark.django_db


def test_every_mistake_in_the_metadata_is_told_at_once() -> None:
    wishes = {
        "redirect_uris": ["not a url", "https://site.example/cb", "http://site.example/"],
        "logo_uri": "http://site.example/logo",
    }
    row = ClientRegistration(server=make_server(), requested_metadata=wishes)
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    assert caught.value.message_dict["requested_metadata"] == [
        'In redirect_uris, "not a url" is not an absolute URL; write it in full, such as '
        "https://app.example/callback.",
        'In redirect_uris, "http://site.example/" is http on another machine than this; use https.',
        "The member logo_uri must be an absolute https URL.",
    ]


def test_a_rule_that_relies_on_another_waits_for_it() -> None:
    faults = protocol.client_metadata_faults({"redirect_uris": "x", "scope": "a  b"})
    assert len(faults) == 2
    assert protocol.client_metadata_faults({"client_name": "Shop"}) == [
        "The grant type authorization_code needs redirect_uris; state at least one."
    ]
    assert protocol.client_metadata_faults({"client_name": "Shop"}, complete=False) == []


def test_every_origin_that_is_none_is_named() -> None:
    server = AuthorizationServer(issuer=ISSUER, trusted_origins=["https://a.example", "b", 7])
    with pytest.raises(ValidationError) as caught:
        server.full_clean()
    said = caught.value.message_dict["trusted_origins"]
    assert [text.partition(" ")[0] for text in said] == ['"b"', "7"]


@pytest.mark.parametrize(
    ("pasted", "issuer"),
    [
        ("https://as.example/.well-known/oauth-authorization-server", "https://as.example"),
        ("https://as.example/.well-known/oauth-authorization-server/t", "https://as.example/t"),
        ("https://as.example/.well-known/openid-configuration/a/b", "https://as.example/a/b"),
        ("https://as.example/t/.well-known/openid-configuration", "https://as.example/t"),
    ],
)
def test_the_address_of_a_document_is_not_taken_for_an_issuer(pasted: str, issuer: str) -> None:
    with pytest.raises(NotAllowedError, match=f'the issuer is probably "{issuer}"') as caught:
        AuthorizationServer.objects.for_issuer(pasted)
    assert caught.value.suggested_issuer == issuer
    assert not AuthorizationServer.objects.exists()


@pytest.mark.parametrize(
    ("stated", "suggested"),
    [
        (f"{ISSUER}/", f"{ISSUER}/"),
        ("https://other.example", "https://other.example"),
        ("https://as.example/{tenant}", ""),
        (7, ""),
        (None, ""),
    ],
)
def test_a_document_of_another_issuer_says_which_one_was_meant(
    stated: object, suggested: str
) -> None:
    with pytest.raises(InvalidResponseError) as caught:
        protocol.check_server_metadata(server_metadata(issuer=stated), issuer=ISSUER)
    assert caught.value.suggested_issuer == suggested


def test_an_issuer_is_corrected_only_where_nothing_is_registered() -> None:
    row = make_registration()
    server = AuthorizationServer.objects.get()
    server.issuer = "https://other.example"
    with pytest.raises(ValidationError, match="It has registrations"):
        server.full_clean()
    row.delete()
    server.full_clean()
    server.save(update_fields=server.forget_metadata())
    server.refresh_from_db()
    assert (server.issuer, server.metadata, server.has_metadata) == (server.issuer, {}, False)
    assert AuthorizationServer.objects.for_issuer("https://other.example") == server


def test_the_origins_of_endpoints_that_are_not_used_are_all_known() -> None:
    metadata = server_metadata(
        token_endpoint="https://token.example/t",
        jwks_uri="https://token.example/keys",
        userinfo_endpoint="https://user.example/u",
        revocation_endpoint="oops",
        introspection_endpoint=7,
        service_documentation="https://docs.example/",
    )
    server = make_server(metadata=metadata)
    assert server.untrusted_origins == ["https://token.example", "https://user.example"]
    server.trusted_origins = ["https://token.example"]
    assert server.untrusted_origins == ["https://user.example"]
    server.trusted_origins = 5
    assert len(server.untrusted_origins) == 2
    server.issuer = "as.example"
    assert server.untrusted_origins == []  # of what has no origin nothing is elsewhere
