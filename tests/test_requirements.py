"""The requirements that tests name by number, and a check that every number is in the list.

R numbers are requirements of the RFCs and OpenID specifications, or decisions where those leave
a choice; B numbers are bugs of other clients; promises are those of docs/promises.md. Faults
(1 to 144, A1 to A14, L1 to L32) are listed in ``test_faults.py``. A step is D, discovery; R,
registration; G, a read; P, an update; X, a deletion.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROWS = """
R-001  metadata is requested with GET
R-002  the well-known part of its URL goes between host and path
R-003  a trailing slash of the issuer is removed first
R-004  only status 200 with a JSON object is metadata
R-005  a document of another issuer is not used at all
R-006  issuers are compared character by character
R-007  an issuer is an https URL without query and fragment
R-009  unknown members are kept
R-010  an empty list counts as absent
R-011  an absent member has the default of RFC 8414
R-012  without code_challenge_methods_supported the server has no PKCE
R-013  a signing algorithm is one that the server lists, and never "none"
R-014  a URL for requests or redirects is https
R-015  the server's policy and terms are shown to whoever registers a client
R-016  signed_metadata is not used unverified
R-017  of the two URLs of OpenID metadata the one with the inserted path is first
R-018  a failed discovery lists every URL that was tried
R-020  the well-known path of OpenID Connect Discovery is appended to the issuer
R-021  OpenID metadata: only status 200 with a JSON object counts
R-022  OpenID metadata: the issuer must be the requested one
R-023  OpenID metadata: an issuer is an https URL without query and fragment
R-025  OpenID metadata: policy and terms are shown
R-030  a resource's metadata is requested with GET, the well-known part before path and query
R-031  a resource's metadata is 200 with a JSON object, and unknown members are kept
R-032  a document of another resource than the requested one is not used
R-033  nor is one from a challenge, except for an alias that an operator accepts
R-034  a resource's signed_metadata is not used unverified
R-035  challenges are parsed whatever their schemes, several in one header or in several
R-036  a new challenge makes the metadata be fetched again
R-037  server and resource must name each other, if both name any
R-038  scopes_supported is requested only if no challenge names a scope
R-039  a resource is contacted over TLS, with its certificate verified
R-040  no resource leads requests to an internal address or another origin
R-041  a resource's metadata is fresh for as long as it says
R-042  of several servers none is chosen silently
R-050  registering is one POST of one JSON object
R-052  a flow with redirects needs redirect_uris
R-053  which redirect URIs are allowed
R-054  jwks and jwks_uri exclude each other
R-055  grant_types and response_types are consistent
R-056  the client's name and page are sent
R-057  the client's pages are checked by their form, and never fetched
R-058  scope is one string
R-059  software_id and software_version
R-060  members in several languages
R-061  a software statement is sent unchanged
R-062  contradictions to the software statement are reported before sending
R-063  an initial access token goes to the registration endpoint only
R-064  no null and nothing empty is sent
R-065  a client sends neither its client_id nor its secret
R-066  what the server issues is not sent in a request
R-067  what the server does not support is not requested
R-070  a response needs a client_id, of any length
R-071  a secret comes with its expiry, where 0 is never; if absent it is unknown
R-072  success is 201; 200 with a complete document is accepted
R-073  a document with an error is not a success
R-074  the values in the response apply
R-075  an insufficient response is kept and reported
R-076  the software statement should be returned unchanged
R-077  the server's errors have codes
R-078  a refused token is explained by WWW-Authenticate
R-079  Retry-After, and that registration is not offered, reach the caller
R-080  irregular members are read, kept and recorded
R-081  a secret is stored exactly, and not sent if the method is none
R-090  every management request has the registration access token
R-092  the registration_client_uri is used byte for byte, and checked before
R-093  a read is a GET whose response is 200 and JSON
R-094  a new secret or token in a response replaces the old one at once
R-095  what a response omits is kept
R-096  the client_id does not change
R-097  an update sends everything that was last returned
R-098  an update omits what the server issued
R-099  an update contains its client_id
R-100  an update sends the secret only if the server requires it, and then the current one
R-101  what an update omits is deleted, so a change is merged into what was read
R-102  the server may change values, and the difference is shown
R-103  which responses mean that a client was deleted
R-104  a server that does not delete changes nothing here
R-105  401 means that the token is invalid or the client does not exist
R-106  403 leaves the client as it is
R-107  a deleted client's credentials are erased
R-108  the registration access token is protected like a password
R-109  each credential goes to its own endpoint only
R-111  the server decides whether a secret is renewed
R-120  OpenID: redirect_uris are required, and web is the default type
R-121  OpenID: the redirect URIs of web and native clients
R-122  OpenID: pairwise subjects with several hosts need a sector_identifier_uri
R-123  OpenID: other URIs are https
R-125  OpenID: management needs both the URI and the token
R-126  OpenID: 201 and JSON, and an expiry with a secret
R-127  OpenID: errors are 400 with a code
R-128  OpenID: the response to a read
R-129  OpenID: jwks and jwks_uri exclude each other
R-130  OpenID: logout members are for servers that announce support
R-135  Basic credentials are form-encoded first
R-136  one authentication method per request
R-137  a bearer token is sent over TLS, and appears in no URL or log
R-138  the issuer in an authorization response is compared
R-139  it is known whether the server supports PKCE
R-140  the password grant is refused
R-141  a key is preferred to a secret
R-142  the server's metadata configures the client
R-145  the metadata is where a challenge says, else at the path's URL, else at the root's
R-146  the URLs of a server's metadata are tried in the order of MCP
R-147  metadata of another issuer is not used
R-148  each server has its own registration, and a resource that moves gets a new one
R-149  an existing client is preferred to a document, and a document to a registration
R-150  the application_type is always sent
R-151  a failed registration is reported with the reason
R-152  no user is sent to a server that does not announce S256, if that is required
R-153  no refresh token is assumed
R-154  a server's URLs are https
R-155  iss is compared unchanged, and an error from elsewhere is not used
R-156  the resource is in the authorization and in the token request
R-157  a document is at an https URL, which is its client_id, and has a name and redirect_uris
R-173  which URLs a document may have
R-174  a document is served directly, and has no shared secret
R-175  a document's client that signs always signs, and its keys overlap
R-176  a document is small, states how long it may be cached, and is used only where announced
R-177  a document is the same for every server
R-178  a document is served with 200 and its type, without cookie or redirect, until closed
R-179  a document's method is one that the server supports
R-193  a document states its method, and keeps its URL
R-194  common deployment faults of a document are found before its first use
R-180  a client that signs sends client_assertion, its type, and its own client_id
R-181  iss and sub are the client, jti is used once, and an assertion expires soon
R-182  aud is one string, the issuer; aud and typ follow the server's row
R-183  an assertion is signed by an algorithm of the server's list, with a published key
R-184  a key is published before and after it signs, and each has its own kid
R-185  no private part of a key is published or sent
R-186  client_secret_jwt is the same over the client secret
R-187  the scope is the challenge's, else what the resource supports, else none
R-188  a step-up requests the union, a few times at most
R-189  the resource parameter is the resource's own identifier, in refreshes too
R-190  credentials for one resource go to no other
R-191  a key set is a JSON object, returned at once
R-192  after a refusal of a client that signs, the message names its keys first
B1     a token is lost because the response lacks something else
B2     an update deletes the members that it omits
B3     another client_id is accepted
B4     a redirect of a management request is followed
B5     what the response to an update issues is discarded
B6     401 makes a deletion fail although the client is gone
B7     an error that is not JSON raises another exception
B8     a long client_id does not fit
B9     two concurrent calls register twice, and a closed row blocks a new one
B10    the management URL is guessed
B11    an expiry of 0 is read as 1970
B12    seconds are compared with milliseconds
B13    a body's length is counted in characters, and an error's body is lost
B14    an expiry of 0 becomes a moment in 1970
B15    an expiry is lost when it is stored
B16    members are read under other names
B17    a jwks returned as an object is not accepted
B19    an initial access token is encoded
B20    the well-known part is appended instead of inserted
B21    a web page at the first URL ends discovery
B22    Basic credentials are not form-encoded
B23    issuers that differ only in their scheme are confused
B24    another method is used than the registered one
B25    an error code is found inside another
B26    a redirected deletion counts as done
B27    one operation uses two documents
B28    URLs in metadata are fetched
promise 1  nothing is registered without a local record, nor twice without a decision
promise 2  issued credentials are stored before the rest is evaluated, and never downgraded
promise 3  no transaction or lock is held during a request
promise 4  a token is sent only where the server's validated metadata allows
promise 5  time and memory are bounded, whatever the server does
"""
LISTED = dict(re.split(r"  +", line) for line in ROWS.strip().splitlines())

_NUMBER = re.compile(r"\bR-\d{3}\b|\bB\d{1,2}\b|\b[Pp]romise \d")
FILES = sorted(Path(__file__).parent.rglob("*.py"))


def named_in(text: str) -> set[str]:
    return {number.replace("Promise", "promise") for number in _NUMBER.findall(text)}


NAMED = {
    number for file in FILES if file != Path(__file__) for number in named_in(file.read_text())
}


def test_every_number_that_tests_name_is_in_the_list() -> None:
    assert NAMED - {*LISTED} == set()


def test_every_number_in_the_list_is_named_by_tests() -> None:
    assert {*LISTED} - NAMED == set()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("R-095, B3, promise 2: faults 101", {"R-095", "B3", "promise 2"}),
        ("Promise 4, fault 117", {"promise 4"}),
        ("B64 and R-1", {"B64"}),
    ],
)
def test_the_reader_finds_numbers(text: str, numbers: set[str]) -> None:
    assert named_in(text) == numbers
