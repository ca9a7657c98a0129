"""What a client has to do: the numbers that tests name, and a check that each is in the list.

R numbers are requirements of the RFCs and OpenID specifications, or decisions where those leave
one; B numbers are mistakes that other clients made, and this one must not; promises hold
everywhere. Faults (1 to 144, A1 to A14, L1 to L32) are listed in ``test_faults.py``. A step is
D, discovery; R, registration; G, a read; P, an update; X, a deletion.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROWS = """
R-001  metadata is asked for with GET
R-002  the well-known part of its URL goes between host and path
R-003  a slash at the issuer's end is left out first
R-004  only 200 with a JSON object is metadata
R-005  a document of another issuer is not used at all
R-006  issuers are compared character by character
R-007  an issuer is an https URL without query and fragment
R-009  members that are not known are kept
R-010  an empty list says nothing
R-011  what is not announced has the default of RFC 8414
R-012  without code_challenge_methods_supported there is no PKCE
R-013  a signing algorithm is one that the server lists, and never "none"
R-014  a URL that is called or redirected to is https
R-015  who registers a client is shown the server's policy and terms
R-016  signed_metadata is not used unverified
R-017  of the two places of OpenID metadata the inserted one comes first
R-018  a failed discovery tells of every place that was asked
R-020  the place of OpenID Connect Discovery is appended to the issuer
R-021  there, too, only 200 with a JSON object counts
R-022  there, too, the issuer must be the one that was asked for
R-023  there, too, an issuer is an https URL without query and fragment
R-025  there, too, policy and terms are shown
R-030  a resource's metadata is asked for with GET, at the well-known part before path and query
R-031  there, too, only 200 with a JSON object counts, and members that are not known are kept
R-032  a document of another resource than the one asked for is not used
R-033  nor is one that a challenge led to, but for an alias that an operator accepts
R-034  there, too, signed_metadata is not used unverified
R-035  challenges are read whatever their schemes, several in one header or in several
R-036  a fresh challenge has the metadata asked for again
R-037  server and resource name each other, where both name any
R-038  what scopes_supported lists is requested only where no challenge says what is needed
R-039  a resource is asked over TLS, with its certificate checked
R-040  no resource leads this site's requests to an internal address or another origin
R-041  a resource's metadata is fresh as long as it says
R-042  of several servers none is taken silently
R-050  registering is one POST of one JSON object
R-052  a flow with redirects needs redirect_uris
R-053  which redirect URIs are allowed
R-054  jwks and jwks_uri exclude each other
R-055  grant_types and response_types fit each other
R-056  a name and a page of the client are sent
R-057  pages of the client are checked by their form, and never fetched
R-058  scope is one text
R-059  software_id and software_version
R-060  members in several languages
R-061  a software statement is passed on as it is
R-062  what contradicts the software statement is told before sending
R-063  an initial access token goes to the registration endpoint only
R-064  no null and nothing empty is sent
R-065  a client chooses neither its client_id nor its secret
R-066  what the server issues is not sent in a request
R-067  what the server says it does not support is not asked for
R-070  an answer needs a client_id, of any length
R-071  a secret comes with its expiry, where 0 is never; without one it is unknown
R-072  success is 201; 200 with a whole document will do
R-073  a document with an error is no success
R-074  what the server answers is what holds
R-075  an answer that does not suffice is kept, and told
R-076  the software statement should come back unchanged
R-077  the server's errors have codes
R-078  a refused token is explained by WWW-Authenticate
R-079  when to come back, and that registration is not offered, reach the caller
R-080  odd members are read, kept and noted
R-081  a secret is kept to the character, and not sent where the method is none
R-090  every management request has the registration access token
R-092  the registration_client_uri is used to the byte, and checked before
R-093  reading is a GET that is answered with 200 and JSON
R-094  a new secret or token in an answer replaces the old one at once
R-095  what an answer leaves out is kept
R-096  the client_id does not change
R-097  an update sends everything that was last returned
R-098  an update leaves out what the server issued
R-099  an update names its client_id
R-100  an update sends the secret only where the server wants that, and then the current one
R-101  what an update leaves out is deleted, so that a change is merged into what was read
R-102  the server may change values, and the difference is shown
R-103  which answers mean that a client was deleted
R-104  a server that does not delete changes nothing here
R-105  401 means that the token is dead or the client gone
R-106  403 leaves the client as it is
R-107  a deleted client's credentials are wiped
R-108  the registration access token is guarded like a password
R-109  each credential goes to its own endpoint only
R-111  whether a secret is renewed is for the server to decide
R-120  OpenID: redirect_uris are required, and web is the default type
R-121  OpenID: the redirect URIs of web and native clients
R-122  OpenID: pairwise subjects with several hosts need a sector_identifier_uri
R-123  OpenID: other URIs are https
R-125  OpenID: management needs both the URI and the token
R-126  OpenID: 201 and JSON, and an expiry beside a secret
R-127  OpenID: errors are 400 with a code
R-128  OpenID: what a read answers
R-129  OpenID: jwks and jwks_uri exclude each other
R-130  OpenID: logout members are for servers that announce support
R-135  Basic credentials are form-encoded first
R-136  one way to authenticate a request
R-137  a bearer token goes over TLS, and into no URL and no log
R-138  the issuer in an authorization response is compared
R-139  whether the server supports PKCE is known
R-140  the password grant is refused
R-141  authentication by a key is preferred to a secret
R-142  the server's metadata configures the client
R-145  the metadata is where a challenge says, else at the path's place, else at the root's
R-146  the places of a server's metadata are asked in the order of MCP
R-147  metadata of another issuer is not used
R-148  each server has its own registration, and a resource that moves gets a new one
R-149  a client that exists comes before a document, and that before a registration
R-150  the application_type is always stated
R-151  a failed registration is told, and why
R-152  no user is sent to a server that does not announce S256, where that is required
R-153  no refresh token is counted on
R-154  a server's addresses are https
R-155  iss is compared as it is, and an error from elsewhere is not used
R-156  the resource is in the authorization and in the token request
R-157  a document is at an https URL, which is its client_id, and has a name and redirect_uris
R-173  which URLs a document may have
R-174  a document is served directly, and has no shared secret
R-175  a document's client that signs always does, and its keys overlap
R-176  a document is short, says how long it may be kept, and goes only where it is announced
R-177  a document is the same for every server
R-178  a document is served with 200 and its type, without cookie or redirect, until it is closed
R-179  a document's method is one that the server takes
R-193  a document states its method, and keeps its URL
R-194  what breaks a document in the field is found before its first use
R-180  a client that signs sends client_assertion, its type, and its own client_id
R-181  iss and sub are the client, jti is used once, and the life of an assertion is short
R-182  aud is one text, the issuer; it and typ are what the server's row says
R-183  an assertion is signed by an algorithm of the server's list, with a published key
R-184  a key is published before it signs and after it has signed, and each has its own kid
R-185  no private part of a key is published or sent
R-186  client_secret_jwt is the same over the client secret
R-187  the scope is the challenge's, else what the resource supports, else none
R-188  a step-up requests the union, a few times at most
R-189  the resource is named as it names itself, in refreshes too
R-190  what is for one resource goes to no other
R-191  a key set is an object that is answered at once
R-192  a refused client that signs is told to look at its keys first
B1     a token is lost because the answer lacks something else
B2     an update deletes the members that it leaves out
B3     another client_id is taken over
B4     a redirect is followed while managing
B5     what an update's answer issues is thrown away
B6     401 makes a deletion fail though the client is gone
B7     an error that is no JSON raises something else
B8     a long client_id does not fit
B9     two at once register twice, and a retired row stands in the way
B10    the management URL is made up
B11    an expiry of 0 is taken for 1970
B12    seconds are compared with milliseconds
B13    a body's length is counted in characters, and an error's body is lost
B14    an expiry of 0 becomes a moment in 1970
B15    an expiry does not survive being stored
B16    members are read under other names
B17    a jwks that comes back as an object is not understood
B19    an initial access token is encoded
B20    the well-known part is appended where it is to be inserted
B21    a web page at the first place ends discovery
B22    Basic credentials are not form-encoded
B23    issuers that differ in their scheme are mixed up
B24    another method is used than the one that was registered
B25    an error code is found inside of another
B26    a redirected deletion counts as done
B27    one operation works with two documents
B28    addresses in metadata are fetched
promise 1  nothing is registered without a local record, nor a second time without a decision
promise 2  what was issued is stored before the answer is judged, and replaced by nothing less
promise 3  no transaction or lock is held while a server is asked
promise 4  a token goes only where the server's metadata vouches for it
promise 5  time and memory are bounded, whatever the other side does
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
