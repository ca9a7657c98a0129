"""The same with the standard library's test cases."""

from __future__ import annotations

from django.test import TestCase, override_settings

from django_dcr.testing import AuthorizationServer

SETTINGS = {
    "ROOT_URLCONF": "tests.sample_site.urls",
    "DCR_CLIENT_METADATA": {"redirect_uris": ["https://shop.test/callback"]},
}


@override_settings(**SETTINGS)
class LoginTest(TestCase):
    def setUp(self) -> None:
        self.server = AuthorizationServer().start()
        self.addCleanup(self.server.stop)

    def test_a_user_logs_in(self) -> None:
        page = self.client.get("/login/acme/")
        page = self.client.get(self.server.log_in(page.url))
        self.assertContains(page, "Hello, jane@example.com.")

    def test_a_refused_registration_is_told(self) -> None:
        self.server.switch_on("refuses")
        self.assertContains(self.client.get("/login/acme/"), "not available", status_code=503)
