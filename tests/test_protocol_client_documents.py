"""The rules on Client ID Metadata Documents, without a database."""

from __future__ import annotations

import pytest

from django_dcr import protocol

URL = "https://shop.example/oauth/clients/a"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        (URL, ""),
        ("https://shop.example:8443/a", ""),
        ("http://shop.example/a", "is not https"),
        ("https://shop.example/a?b", "has a query"),
        ("https://shop.example/a#b", "plain characters"),
        ("https://u@shop.example/a", "plain characters"),
        ("https://shop.example/../a", "dot segment"),
        ("https://shop.example/%2e/a", "dot segment"),
        ("https://shop.example", "has no path"),
        ("https://shop.example/", "has no path"),
        ("https://shop.example:443/a", ":443 out"),
        ("https://shop.example:81/a", "port 81"),
        ("https://192.0.2.1/a", "IP address"),
        ("https://shop/a", "only this network"),
        ("https://shop.home.arpa/a", "only this network"),
        ("", "is not a URL"),
    ],
)
def test_the_url_of_a_document_r173(url: str, fault: str) -> None:
    """R-173, R-194."""
    found = protocol.document_url_fault(url)
    assert (fault in found) if fault else found == ""


@pytest.mark.parametrize("url", ["https://192.0.2.1:81/a", "https://shop/a"])
def test_an_internal_host_name_is_for_internal_servers(url: str) -> None:
    assert protocol.document_url_fault(url, is_internal=True) == ""
    assert protocol.document_url_fault("http://shop/a", is_internal=True) == "is not https"


def test_a_redirect_uri_of_a_native_app_has_no_host() -> None:
    members = {"redirect_uris": ["com.example.app:/callback", "http://127.0.0.1/callback"]}
    assert protocol.document_warnings(members, url=URL) == []
