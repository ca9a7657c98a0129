"""What each operation costs, in statements to the database and requests to the server.

Times are measured by ``make bench``; these numbers are the same on every machine. One that
grows is a decision.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_dcr import services
from django_dcr.admin.actions import FirstPages
from django_dcr.exceptions import NetworkError, RequestRejectedError, UnsupportedError
from django_dcr.models import ClientRegistration, ProtectedResource
from tests.authorization_server import AuthorizationServer
from tests.factories import WISHES, make_registration, make_registration_at, make_server

pytestmark = [pytest.mark.network, pytest.mark.django_db(transaction=True)]

DAY = 86_400
#: A new client's credentials: what fails before the COMMIT has surely not been stored.
STORE = ["BEGIN", "UPDATE", "COMMIT"]
#: One event, and a look for those that are too many.
EVENT = ["INSERT", "SELECT"]


def costs(server: AuthorizationServer, act: Callable[[], object]) -> tuple[list[str], list[str]]:
    """Return the first words of the statements, and the methods of the requests."""
    server.requests.clear()
    with CaptureQueriesContext(connection) as queries:
        act()
    statements = [query["sql"].split()[0] for query in queries.captured_queries]
    return statements, [request.split()[0] for request in server.requests]


def registered(server: AuthorizationServer) -> ClientRegistration:
    """A registration as the commands load it."""
    rows = ClientRegistration.objects.select_related("server")
    return rows.get(pk=make_registration_at(server, owner="o").pk)


def test_a_hit_costs_one_query(authorization_server: AuthorizationServer) -> None:
    registered(authorization_server)

    def hit() -> str:
        found = services.get_or_register(authorization_server.issuer, "o")
        secret: str = found.client_secret.reveal()
        return secret

    assert costs(authorization_server, hit) == (["SELECT"], [])


def test_fresh_metadata_costs_nothing(authorization_server: AuthorizationServer) -> None:
    server = registered(authorization_server).server
    assert costs(authorization_server, lambda: services.discover(server)) == ([], [])


def test_a_hit_for_a_resource_costs_a_query_more(
    authorization_server: AuthorizationServer,
) -> None:
    server = registered(authorization_server).server
    pkce = {"code_challenge_methods_supported": ["S256"]}
    server.store({**server.metadata, **pkce}, url="", etag="", lifetime=60)
    url = f"{server.issuer}/mcp"
    document = {"resource": url, "authorization_servers": [server.issuer]}
    resource = ProtectedResource.objects.for_resource(url)
    resource.store(document, url=f"{server.issuer}/metadata", etag="", lifetime=60)

    def hit() -> ClientRegistration:
        return services.get_or_register_for(url, "o")

    assert costs(authorization_server, hit) == (["SELECT", "SELECT"], [])


def test_a_remembered_failure_of_a_resource_costs_one_query(
    authorization_server: AuthorizationServer,
) -> None:
    url = f"{authorization_server.issuer}/mcp"

    def ask() -> None:
        with pytest.raises(UnsupportedError):
            services.get_or_register_for(url, "o")

    ask()  # its document names no resource
    assert costs(authorization_server, ask) == (["SELECT"], [])


def test_registering_costs_an_insert_and_an_update(
    authorization_server: AuthorizationServer,
) -> None:
    server = registered(authorization_server).server
    draft = ClientRegistration(server=server, owner="new", requested_metadata=WISHES)
    statements, requests = costs(authorization_server, lambda: services.register(draft))
    assert (statements, requests) == (["INSERT", *STORE, *EVENT], ["POST"])


def test_a_miss_looks_for_the_row_the_server_and_past_rows(
    authorization_server: AuthorizationServer,
) -> None:
    issuer = registered(authorization_server).server.issuer
    statements, requests = costs(
        authorization_server, lambda: services.get_or_register(issuer, "new", metadata=WISHES)
    )
    assert (statements, requests) == (["SELECT"] * 3 + ["INSERT", *STORE, *EVENT], ["POST"])


def test_a_remembered_refusal_costs_one_query(authorization_server: AuthorizationServer) -> None:
    issuer = registered(authorization_server).server.issuer
    authorization_server.refuses = True
    for expected in ((["SELECT"] * 3 + ["INSERT", "UPDATE", *EVENT], ["POST"]), (["SELECT"], [])):

        def ask() -> None:
            with pytest.raises(RequestRejectedError):
                services.get_or_register(issuer, "new", metadata=WISHES)

        assert costs(authorization_server, ask) == expected


def test_a_remembered_outage_costs_a_look_for_the_row_and_one_for_the_server(
    authorization_server: AuthorizationServer,
) -> None:
    server = registered(authorization_server).server
    server.record_outage(NetworkError("no answer"), "register")

    def ask() -> None:
        with pytest.raises(NetworkError):
            services.get_or_register(server.issuer, "new", metadata=WISHES)

    assert costs(authorization_server, ask) == (["SELECT", "SELECT"], [])


def test_refreshing_the_metadata_costs_a_claim_and_an_update(
    authorization_server: AuthorizationServer,
) -> None:
    server = registered(authorization_server).server
    type(server).objects.update(fresh_until=None)
    server.refresh_from_db()
    found = costs(authorization_server, lambda: services.discover(server))
    assert found == (["SELECT", "UPDATE", "UPDATE"], ["GET"])


@pytest.mark.parametrize(
    ("service", "statements", "requests"),
    [
        (services.read, ["UPDATE", "UPDATE", *EVENT], ["GET"]),
        (services.update, ["UPDATE", "UPDATE", *EVENT], ["GET", "PUT"]),
        (services.revoke, ["UPDATE", "UPDATE", *EVENT], ["DELETE"]),
    ],
    ids=["read", "update", "revoke"],
)
def test_managing_costs_a_claim_and_an_update(
    authorization_server: AuthorizationServer,
    service: Callable[[ClientRegistration], object],
    statements: list[str],
    requests: list[str],
) -> None:
    registration = registered(authorization_server)
    found = costs(authorization_server, lambda: service(registration))
    assert found == (statements, requests)


def test_renewing_in_place_costs_as_much_as_an_update(
    authorization_server: AuthorizationServer,
) -> None:
    registration = registered(authorization_server)
    authorization_server.rotates_secrets = True
    found = costs(authorization_server, lambda: services.renew(registration))
    assert found == (["UPDATE", "UPDATE", *EVENT], ["GET", "PUT"])


def test_renewing_by_a_new_client_costs_a_registration_and_a_revocation_too(
    authorization_server: AuthorizationServer,
) -> None:
    authorization_server.secret_expires_at = int(time.time()) + DAY
    registration = registered(authorization_server)
    statements, requests = costs(authorization_server, lambda: services.renew(registration))
    assert requests == ["GET", "PUT", "POST", "DELETE"]
    assert len(statements) == 22


def test_a_page_of_the_list_costs_six_queries_and_counts_no_whole_table() -> None:
    for number in range(3):
        server = make_server(issuer=f"https://as{number}.example")
        make_registration(server=server, client_id=f"c-{number}")
    staff = Client()
    staff.force_login(User.objects.create_superuser("staff"))
    path = "/admin/django_dcr/clientregistration/"
    with CaptureQueriesContext(connection) as queries:
        assert staff.get(path).status_code == 200
    session, user, size, servers, count, rows = (query["sql"] for query in queries.captured_queries)
    assert ("session" in session, "auth_user" in user, "LIMIT 30" in servers) == (True,) * 3
    assert f"LIMIT 1 OFFSET {FirstPages.most}" in size
    assert "COUNT(*)" in count
    assert f"LIMIT {FirstPages.most}" in count
    assert "COUNT(*)" not in rows


def test_no_more_rows_are_counted_than_the_list_has_pages_for() -> None:
    server = make_server()
    for number in range(3):
        make_registration(server=server, owner=str(number), client_id=f"c-{number}")
    pages = FirstPages(ClientRegistration.objects.order_by("-pk"), 1)
    pages.most = 2
    assert (pages.count, pages.num_pages) == (2, 2)


@pytest.mark.only_on("sqlite")  # others scan a table that is small
def test_what_is_to_be_done_is_found_by_index() -> None:
    rows, soon = ClientRegistration.objects.all(), timezone.now() + timedelta(days=7)
    for wanted in (rows.needs_reconciliation(), rows.expiring(soon), rows.for_key("a", "b").live()):
        assert " USING INDEX " in wanted.explain()
        assert "SCAN" not in wanted.explain()
