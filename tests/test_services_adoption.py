"""Adopting a client that exists at its server already."""

from __future__ import annotations

import time
from typing import Any

import pytest
import responses
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.signals import pre_save

from django_dcr import services
from django_dcr.exceptions import (
    ConflictError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    RegistrationGoneError,
    UnsupportedError,
)
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.authorization_server import AuthorizationServer as FakeServer
from tests.factories import (
    CALLBACK,
    ISSUER,
    URI,
    WISHES,
    client_information,
    events_of,
    make_registration,
    make_server,
    stored,
)
from tests.interruptions import shown

pytestmark = pytest.mark.django_db

MANAGED = {"registration_client_uri": URI, "registration_access_token": "t1"}


def adopt(owner: str = "", **values: Any) -> ClientRegistration:
    return services.adopt(ISSUER, owner, **{"client_id": "c1", "client_secret": "s1", **values})


def test_an_adopted_client_is_active_and_handed_out() -> None:
    row = adopt("acme", client_secret_expires_at=0, metadata=WISHES)
    assert (row.status, row.mechanism, row.live) == ("active", "pre_registered", True)
    found = services.get_or_register(ISSUER, "acme", metadata=WISHES)
    assert (found.pk, found.client_id) == (row.pk, "c1")
    assert found.client_secret.reveal() == "s1"
    assert found.client_secret_expires_at == 0
    assert [(event.action, event.outcome) for event in events_of(row)] == [("adopt", "active")]
    assert not found.lease


def test_white_space_around_pasted_values_is_not_stored() -> None:
    row = stored(adopt(client_id=" c1\n", client_secret="\ts 1 \r\n"))
    assert (row.client_id, row.client_secret.reveal()) == ("c1", "s 1")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"client_secret": "********"}, "masked"),
        ({"client_secret": "sk_****1234"}, "masked"),
        ({"client_secret": "••••••"}, "masked"),
        ({"client_secret": "xxxxxxxx"}, "masked"),
        ({"client_secret": "..."}, "masked"),
        ({"client_secret": " \n"}, "client_secret is blank"),
        ({"client_secret": "a\nb"}, "control characters"),
        ({"client_secret": "a" * 16_385}, "too long"),
        ({"client_id": " "}, "client_id is blank"),
        ({**MANAGED, "registration_access_token": "two words"}, "not allowed in a token"),
        ({"registration_client_uri": URI}, "give both, or neither"),
        ({"registration_access_token": "t1"}, "give both, or neither"),
        ({**MANAGED, "registration_client_uri": "https://other.example/c1"}, "trusted_origins"),
        ({**MANAGED, "registration_client_uri": "http://as.example/c1"}, "not an https URL"),
        ({**MANAGED, "registration_client_uri": "register/c1"}, "not an https URL"),
        ({"client_secret_expires_at": 1_800_000_000_000}, "seconds since 1970"),
        ({"client_secret_expires_at": -1}, "seconds since 1970"),
        ({"client_secret_expires_at": True}, "seconds since 1970"),
        ({"client_secret": None, "client_secret_expires_at": 0}, "without a client_secret"),
        (
            {
                "client_secret": None,
                "metadata": {"token_endpoint_auth_method": "client_secret_post"},
            },
            "client_secret_post requires a client_secret",
        ),
        ({"metadata": {"client_secret": "s1"}}, "client_secret is assigned"),
        ({"metadata": {"scope": {1}}}, "one JSON object"),
        ({"owner": "a\0"}, "Null characters"),
    ],
)
def test_malformed_credentials_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(NotAllowedError, match=message) as caught:
        adopt(**values)
    assert not ClientRegistration.objects.exists()
    assert "s1" not in str(caught.value)


def test_a_disabled_server_takes_no_adopted_client() -> None:
    make_server(enabled=False)
    with pytest.raises(NotAllowedError, match="disabled"):
        adopt()


@pytest.mark.parametrize(
    ("secret", "offered", "stated", "method"),
    [
        ("s1", None, {}, "client_secret_basic"),
        ("s1", ["client_secret_post", "private_key_jwt"], {}, "client_secret_post"),
        ("s1", ["tls_client_auth"], {}, "client_secret_basic"),
        (
            "s1",
            ["client_secret_post"],
            {"token_endpoint_auth_method": "client_secret_basic"},
            "client_secret_basic",
        ),
        (None, ["client_secret_post"], {}, "none"),
        (None, None, {"token_endpoint_auth_method": "private_key_jwt"}, "private_key_jwt"),
    ],
)
def test_a_stated_method_is_used_and_a_missing_one_is_derived(
    secret: str | None, offered: list[str] | None, stated: dict[str, str], method: str
) -> None:
    make_server(metadata={"issuer": ISSUER, "token_endpoint_auth_methods_supported": offered})
    row = adopt(client_secret=secret, metadata=stated)
    assert stored(row).metadata["token_endpoint_auth_method"] == method


def test_a_public_client_authenticates_by_its_id() -> None:
    row = adopt(client_secret=None)
    assert row.client_authentication() == ({}, {"client_id": "c1"})
    assert row.client_secret_expires_at is None


def test_management_credentials_are_tried_by_a_read(
    mocked_responses: responses.RequestsMock,
) -> None:
    sent = responses.matchers.header_matcher({"Authorization": "Bearer t1"})
    mocked_responses.get(URI, json=client_information(scope="a"), match=[sent])
    row = adopt(**MANAGED)
    assert (row.status, row.metadata["scope"], row.is_manageable) == ("active", "a", True)
    assert events_of(row)[0].action == "adopt"


def test_a_token_that_the_read_issues_is_stored(mocked_responses: responses.RequestsMock) -> None:
    mocked_responses.get(
        URI, json=client_information(registration_access_token="t2", client_secret="s2")
    )
    row = stored(adopt(**MANAGED))
    assert row.registration_access_token.reveal() == "t2"
    assert row.client_secret.reveal() == "s2"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status": 401}, RegistrationGoneError),
        ({"json": client_information(client_id="c2")}, InvalidResponseError),
        ({"body": b"<html>"}, InvalidResponseError),
        ({"body": OSError("down")}, NetworkError),
    ],
    ids=["refused", "another client", "a page", "no answer"],
)
def test_a_client_that_cannot_be_read_is_not_stored(
    answer: dict[str, Any], error: type[Exception], mocked_responses: responses.RequestsMock
) -> None:
    mocked_responses.get(URI, **answer)
    with pytest.raises(error, match="Nothing was stored"):
        adopt(**MANAGED)
    assert not ClientRegistration.objects.exists()


def test_a_new_token_outlasts_an_answer_that_is_of_no_use(
    mocked_responses: responses.RequestsMock,
) -> None:
    information = client_information(registration_access_token="t2")
    mocked_responses.get(URI, status=202, json=information)
    with pytest.raises(InvalidResponseError):
        adopt(**MANAGED)
    row = ClientRegistration.objects.get()
    assert row.registration_access_token.reveal() == "t2"
    assert row.last_error


def test_a_client_that_is_stored_already_is_refused_with_the_next_step() -> None:
    row = adopt("acme")
    with pytest.raises(ConflictError, match=f"{row.pk} already has this client.*--replace"):
        adopt("acme")
    with pytest.raises(ConflictError, match=f"{row.pk} is this owner's.*--replace"):
        adopt("acme", client_id="c2")
    with pytest.raises(ConflictError, match=f"{row.pk} already has this client.*shared client"):
        adopt("other")
    assert ClientRegistration.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_another_process_may_be_faster() -> None:
    make_server()

    def overtake(**_values: Any) -> None:
        pre_save.disconnect(overtake, sender=ClientRegistration)
        adopt(client_id="faster")

    pre_save.connect(overtake, sender=ClientRegistration)
    with pytest.raises(ConflictError, match="Another process has just stored"):
        adopt()
    assert ClientRegistration.objects.get().client_id == "faster"


def test_a_new_secret_of_the_same_client_takes_the_place_of_the_old() -> None:
    old = adopt("acme")
    new = adopt("acme", client_secret="s2", replace=True)
    old.refresh_from_db()
    assert (old.status, old.live, old.client_secret) == ("revoked", None, None)
    assert f"Registration {new.pk} holds this client now" in old.last_error
    assert services.get_or_register(ISSUER, "acme").client_secret.reveal() == "s2"


def test_omitted_credentials_are_kept() -> None:
    """Only the secret was changed in the console."""
    wishes = {**WISHES, "token_endpoint_auth_method": "client_secret_post"}
    old = adopt("acme", metadata=wishes)
    rows = ClientRegistration.objects.filter(pk=old.pk)
    rows.update(registration_client_uri=URI)
    row = rows.get()
    row.registration_access_token = "t1"
    row.save()
    new = stored(adopt("acme", client_secret="s2", client_secret_expires_at=0, replace=True))
    assert new.client_secret.reveal() == "s2"
    assert new.requested_metadata == wishes
    assert new.metadata["token_endpoint_auth_method"] == "client_secret_post"
    assert new.registration_access_token.reveal() == "t1"  # without another read
    assert new.is_manageable


def test_new_metadata_leaves_the_secret() -> None:
    adopt("acme", client_secret_expires_at=0)
    new = adopt("acme", client_secret=None, metadata={"scope": "a"}, replace=True)
    assert (new.client_secret.reveal(), new.client_secret_expires_at) == ("s1", 0)
    assert new.requested_metadata == {"scope": "a"}


def test_a_method_that_was_derived_stays_unless_it_cannot() -> None:
    server = make_server(
        metadata={"issuer": ISSUER, "token_endpoint_auth_methods_supported": ["client_secret_post"]}
    )
    adopt("acme")
    server.metadata = {"issuer": ISSUER}
    server.save()
    again = adopt("acme", client_secret="s2", replace=True)
    assert again.metadata["token_endpoint_auth_method"] == "client_secret_post"
    adopt("public", client_id="c2", client_secret=None)
    secret = adopt("public", client_id="c2", client_secret="s1", replace=True)
    assert secret.metadata["token_endpoint_auth_method"] == "client_secret_basic"


def test_another_client_takes_the_place_of_a_registered_one_which_is_then_deleted(
    mocked_responses: responses.RequestsMock,
) -> None:
    old = make_registration(owner="acme")
    mocked_responses.delete(URI, status=204)
    new = adopt("acme", client_id="c2", replace=True)
    assert services.get_or_register(ISSUER, "acme").pk == new.pk
    assert stored(old).status == "revoked"


def test_replacing_nothing_adopts() -> None:
    assert adopt(replace=True).status == "active"


def test_a_client_that_is_read_is_not_adopted_inside_a_transaction(settings: Any) -> None:
    with transaction.atomic():
        assert adopt("local").status == "active"  # asks nobody


@pytest.mark.network
@pytest.mark.django_db(transaction=True)
def test_an_adopted_client_is_managed_like_any_other(authorization_server: FakeServer) -> None:
    issued = authorization_server.register({**WISHES, "token_endpoint_auth_method": "none"})
    row = services.adopt(
        authorization_server.issuer,
        "acme",
        client_id=issued["client_id"],
        client_secret=issued["client_secret"],
        registration_client_uri=issued["registration_client_uri"],
        registration_access_token=issued["registration_access_token"],
        metadata=WISHES,
    )
    assert row.metadata["token_endpoint_auth_method"] == "none"  # as the server says
    authorization_server.rotates_secrets = True
    row.requested_metadata = {**WISHES, "scope": "a"}
    assert services.update(row).metadata["scope"] == "a"
    assert services.read(row).status == "active"
    assert services.renew(row).pk == row.pk
    assert services.revoke(row).status == "revoked"
    assert authorization_server.clients == {}


@pytest.mark.network
@pytest.mark.django_db(transaction=True)
def test_a_managed_client_is_not_adopted_inside_a_transaction(
    authorization_server: FakeServer,
) -> None:
    uri = f"{authorization_server.issuer}/register/c1"
    with transaction.atomic(), pytest.raises(ConflictError, match="inside a transaction"):
        services.adopt(
            authorization_server.issuer,
            client_id="c1",
            registration_client_uri=uri,
            registration_access_token="t1",
        )
    assert authorization_server.requests == []


@pytest.mark.parametrize("name", ["read", "update", "renew", "revoke", "retry"])
def test_refusals_are_worded_for_the_mechanism(name: str) -> None:
    row = adopt("acme")
    if name == "retry":
        ClientRegistration.objects.filter(pk=row.pk).update(status="gone", live=None)
    with pytest.raises(UnsupportedError, match="registered by a person") as caught:
        getattr(services, name)(row)
    assert "7592" not in str(caught.value)
    assert caught.value.issuer == ISSUER


def test_registering_an_adopted_client_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="dcr_adopt"):
        services.register(adopt())


def test_other_wishes_are_noted_for_a_person() -> None:
    row = adopt("acme", metadata=WISHES)
    wishes = {**WISHES, "redirect_uris": [CALLBACK, "https://site.example/second"]}
    found = services.get_or_register(ISSUER, "acme", metadata=wishes)
    assert (found.pk, found.has_drift) == (row.pk, True)
    assert stored(row).requested_metadata == wishes
    assert stored(row).metadata["redirect_uris"] == [CALLBACK]


def test_an_expired_secret_is_renewed_by_a_person() -> None:
    adopt("acme", client_secret_expires_at=int(time.time()) - 10)
    with pytest.raises(UnsupportedError, match="--replace"):
        services.get_or_register(ISSUER, "acme")


def test_an_adopted_client_whose_secret_ends_is_not_replaced_by_a_registration(
    mocked_responses: responses.RequestsMock,
) -> None:
    make_server()
    soon = int(time.time()) + 3600
    information = client_information(client_secret_expires_at=soon)
    mocked_responses.get(URI, json=information)
    row = adopt("acme", client_secret_expires_at=soon, **MANAGED)
    mocked_responses.get(URI, json=information)
    mocked_responses.put(URI, json=information)
    with pytest.raises(UnsupportedError, match="dcr_adopt"):
        services.renew(row)
    assert stored(row).status == "active"


def test_forgetting_says_where_the_client_still_is() -> None:
    row = services.revoke(adopt(), forget=True)
    assert row.status == "revoked"
    assert "may still hold the client" in row.last_error


def test_a_refused_login_tells_to_compare_with_the_console() -> None:
    row = adopt("acme")
    services.client_refused(row)
    assert "Compare it with the server's console" in stored(row).last_error


def test_an_interrupted_adoption_is_closed_and_its_client_kept(
    mocked_responses: responses.RequestsMock,
) -> None:
    """A spare row of a registration is deleted at the server; a person's own client is not."""
    row = make_registration(mechanism="pre_registered", live=None)
    services.reconcile()
    assert (stored(row).status, stored(row).last_error) == (
        "revoked",
        "Its adoption was interrupted; adopt it again.",
    )


def test_no_traceback_shows_what_was_pasted(mocked_responses: responses.RequestsMock) -> None:
    mocked_responses.get(URI, body=OSError("down"))
    pasted = {"client_secret": "hidden-secret", "registration_access_token": "hidden-token"}
    with pytest.raises(NetworkError) as caught:
        services.adopt(ISSUER, client_id="c1", registration_client_uri=URI, **pasted)
    inner = caught.value.with_traceback(caught.value.__traceback__.tb_next)  # not this test's frame
    assert "hidden-" not in shown(inner)


def test_a_pasted_secret_is_in_no_representation() -> None:
    row = adopt()
    assert "s1" not in repr(vars(row))
    assert AuthorizationServer.objects.count() == 1


@pytest.mark.parametrize("status", ["draft", "rejected", "unknown"])
def test_a_registration_that_came_to_nothing_gives_way(status: str, heard: list[Any]) -> None:
    """Somebody has looked in the console, and found the client or made one."""
    none = {"client_id": "", "client_secret": None, "registration_client_uri": ""}
    old = make_registration(
        owner="acme", status=status, registration_access_token=None, metadata={}, **none
    )
    row = adopt("acme")
    assert services.get_or_register(ISSUER, "acme").pk == row.pk
    assert (stored(old).status, stored(old).live) == ("revoked", None)
    assert stored(old).last_error == f"Registration {row.pk} took its place."
    assert [name for name, *_rest in heard] == ["registered"]


def test_a_client_that_was_of_no_use_is_deleted(mocked_responses: responses.RequestsMock) -> None:
    """Its registration was answered with something that cannot be used, and a token."""
    old = make_registration(owner="acme", status="unknown")
    mocked_responses.delete(URI, status=204)
    adopt("acme", client_id="c2")
    assert stored(old).status == "revoked"


def test_the_client_of_an_unknown_registration_may_be_the_one_that_is_adopted() -> None:
    old = make_registration(owner="acme", status="unknown")
    row = adopt("acme")
    assert row.status == "active"
    assert f"{row.pk} holds this client now" in stored(old).last_error


def test_a_registration_under_way_is_left_alone() -> None:
    make_registration(owner="acme", status="registering")
    with pytest.raises(ConflictError, match="--replace"):
        adopt("acme")


def test_a_gone_client_of_a_console_is_for_a_person() -> None:
    row = make_registration(mechanism="pre_registered", status="gone", live=None)
    with pytest.raises(UnsupportedError, match="registered by a person"):
        services.get_or_register(ISSUER)
    assert adopt().pk != row.pk


def test_metadata_in_a_console_need_not_be_repeated() -> None:
    row = adopt()
    row.clean()
    row.requested_metadata = {"redirect_uris": ["nowhere"]}
    with pytest.raises(ValidationError):
        row.clean()
