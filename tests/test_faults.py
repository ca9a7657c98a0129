"""What a hostile or broken world does: the catalogue, and a check that each row has its tests.

A test belongs to a row when its docstring names it ("Fault 53", "faults 41 to 46 and A5"), or
when the id of one of its cases begins with the row's number ("53: gzip", "101-null"). What must
come of a row is what these tests assert. Rows 1 to 144 are the other side's doing, A1 to A14
concern pages, commands and people, and L1 to L32 what may happen on this side.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROWS = """
1    refuses the connection
2    swallows SYNs
3    accepts and never answers
4    does what was asked and never answers
5    closes without an answer, before or after doing it
6    resets the connection, before or after doing it
7    resets it in the middle of the body
8    closes before Content-Length is reached, even where the part is valid JSON
9    closes inside the head
10   sends the head one byte at a time
11   sends the body one byte at a time
12   endless header lines, or one endless line
13   endless blanks after the JSON, until the connection closes
14   endless chunks
15   an endless chunk extension or trailer
16   chunk sizes that are none, or no last chunk
17   endless 100 Continue, or one 103
18   Content-Length negative, no number, twice and different, or too small
19   Content-Length and chunked at once
20   a Content-Length of petabytes or of 100,000 digits
21   another protocol on the port
22   a status that is none
23   NUL, CR, Latin-1 and lines without colon in the head
24   a second, forged answer on a connection that is kept alive
25   cookies
26   Alt-Svc, Refresh, Link and Location to elsewhere
27   a slow answer, while which no transaction or lock is held
28   a certificate that is expired, for another host, self-signed or of an unknown authority
29   old TLS, plain HTTP where TLS should be, a handshake that stops
30   a name that resolves to an address that is not public
31   a name with a public and a private address
32   rebinding: another address at the connect than at the check
33   a name that does not resolve
34   a resolver that does not answer
35   2,000 addresses that all refuse
36   a name without a dot, or one that search domains would complete
37   an http issuer
38   200 instead of 201
39   200 that is empty, a login page or an error document
40   another 2xx than the right one
41   a redirect to another origin
42   a redirect on the same origin
43   a redirect to an odd scheme, to userinfo or to a forbidden address
44   redirect loops, and redirects to nowhere
45   a redirect with a bomb for a body
46   300, 304 and 305
47   400 with an RFC error, HTML or nothing
48   401 with a challenge of any kind and size
49   403, 404, 405, 409, 410 and the other 4xx
50   429 and 503 with a Retry-After of any kind
51   5xx, also though it was done
52   511 of a captive portal
53   gzip that nobody asked for
54   decompression bombs, and a hundred codings
55   codings that are cut, wrong, or unknown
56   JSON under another media type, or one of 60 kB
57   charsets that are none, or that are no text codec
58   JSON that is no object, and empty bodies
59   what is only almost JSON
60   byte order marks, UTF-16 and UTF-32
61   bytes that are not UTF-8
62   a name twice in one object
63   NaN and infinities
64   integers of thousands of digits
65   thousands of nested lists and objects
66   huge texts, and very many members
67   members named like Python's and Django's own attributes
68   NUL and lone surrogates
69   noncharacters and bidi characters in unknown members
70   no registration_endpoint
71   an issuer that is missing or no text
72   an issuer with a slash more or less
73   an issuer in other capitals, with a port, or with a dot after its host
74   an issuer of look-alike characters
75   an issuer with query, fragment or userinfo
76   an issuer with dot segments, double slashes or escapes
77   a prefix of our issuer, or another tenant of its host
78   an issuer with a blank, newline or NUL at its end
79   the issuer of an honest server
80   the right issuer first, and another later
81   one of the two well-known places only, an outage at one, or two that disagree
82   a document of another issuer, on every path to it, the cache included
83   a registration_endpoint that is no absolute URL
84   one on another origin
85   one with userinfo, a backslash or a fragment
86   one with a query
87   one of another scheme
88   one with control characters or blanks
89   one with a port or a host that cannot be
90   one of 100,000 characters
91   one at a forbidden address, in any spelling
92   one that is good at first, and elsewhere at the next fetch
93   an http one under an https issuer
94   one that is this site itself
95   one on the port of another service
96   endpoints that would be commands to a shell
97   javascript: and data: in members that are URLs
98   a token_endpoint on another origin
99   *_supported that are no lists of texts, or very long ones
100  a max-age of 30,000 years
101  a client_id that is no text, or blank
102  a client_id of 20,000 characters, or with control characters
103  a client_id that looks like a path or a URL, or is not ASCII
104  client_ids that differ in the case of letters only
105  the client of another registration
106  a client_secret that is no text, or has control characters
107  no client_secret where one is needed
108  a client_secret that is masked
109  a client_secret of 100,000 characters, of emoji, or with blanks at its ends
110  a client_secret for a public client
111  a client_secret_expires_at that is no time in seconds
112  no client_secret_expires_at
113  a secret that expires in 30 seconds
114  a registration access token that no header takes
115  neither token nor URI, or one of them
116  a registration_client_uri that is no absolute URL
117  one on another origin, or at a forbidden address
118  an answer about another client
119  redirect_uris that are no list of texts
120  redirect_uris that nobody asked for
121  a scope that is a list, or wider than asked
122  other grant_types and methods than asked
123  an update that is answered with 200 and changed nothing
124  a client that was changed at the server
125  a new registration access token in every answer
126  a new client secret in every answer
127  a token that turned in an answer that was lost
128  a token that turned in an answer that cannot be read
129  a client that was deleted behind our back
130  a deletion that is answered in an odd way
131  members that were not sent and come back set
132  secrets under other names
133  a server that wants an initial access token
134  members named like our columns
135  a client_name that attacks pages, terminals, logs or formats
136  an error_description that does
137  an error that is no text, or an error document that is no object
138  an error text that repeats what was sent
139  an error body that is endless or a bomb
140  scopes and documents that attack pages and terminals
141  texts that would be log formats
142  503 twice, then fine
143  done and the answer lost, then fine
144  a third of all answers wrong, many processes, many keys
A1   GET on a page that acts
A2   a user who may only look, or not at this row, and crafted posts
A3   deleting rows in bulk
A4   deleting a row whose server cannot be reached
A5   a server's texts in lists, forms, messages and titles
A6   showing a secret
A7   the admin's history
A8   an action on 10,000 rows in one request
A9   secrets on a command line
A10  what commands print, and their exit status
A11  serialisers, values() and templates over the models
A12  error pages, error mails and error trackers
A13  logs at DEBUG
A14  metadata that a tenant supplies
L1   the commit of a new client fails
L2   the connection is lost during COMMIT
L3   the database is down before the intent
L4   the database connection dies while the server is awaited
L5   the caller's transaction rolls back
L6   the process is killed at any instruction
L7   SIGINT and SIGTERM in bulk work
L8   many processes, one key
L9   the holder of a lease dies
L10  the holder sleeps beyond its lease and wakes
L11  two updates at once where tokens turn
L12  deletion and anything else at once
L13  a replica that lags
L14  the encryption key was changed and the old one is missing
L15  no key, or none that is one
L16  a well-formed key of somewhere else
L17  a ciphertext moved to another row or column
L18  a ciphertext cut or flipped
L19  a key rotation that is interrupted, beside changes
L20  no cache
L21  a poisoned cache
L22  proxies, .netrc and certificate files in the environment
L23  clocks that are wrong or jump, USE_TZ off
L24  a full disk, a locked or read-only database
L25  ids and issuers longer than an index takes
L26  narrow character sets, collations that ignore case
L27  fork after use, threads
L28  narrow terminals, closed pipes, LANG=C
L29  100,000 rows in bulk work
L30  receivers of signals that raise
L31  stored addresses edited to an attacker's
L32  the old version beside a new migration
"""
CATALOGUE = dict(line.split(maxsplit=1) for line in ROWS.strip().splitlines())

_NUMBER = r"(?:[AL]?\d+)"
_NAMED = re.compile(rf"[Ff]aults? ({_NUMBER}(?:(?:, and |, | and | to ){_NUMBER})*)")
_RANGE = re.compile(rf"(\d+) to (\d+)|({_NUMBER})")
_CASE = re.compile(r"((?:\d{1,3} )*\d{1,3})(?:$|[:-]| [a-zA-Z])")
_LETTERED = re.compile(r"\b[AL]\d+\b")


def named_in(text: str) -> Iterator[str]:
    """Yield the rows that a docstring names."""
    for match in _NAMED.finditer(text):
        for first, last, single in _RANGE.findall(match[1]):
            numbers = range(int(first), int(last) + 1) if first else [single]
            yield from map(str, numbers)
    yield from _LETTERED.findall(_NAMED.sub("", text))


def rows_of_tests(source: str) -> Iterator[str]:
    """Yield the rows that the tests in ``source`` name, in docstrings and in ids of cases."""
    tree = ast.parse(source)
    tests = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    for test in tests:
        yield from named_in(ast.get_docstring(test) or "")
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "id":
            yield from _of_case(node.value)
        elif isinstance(node, ast.Dict):
            for name in node.keys:
                yield from _of_case(name)


def _of_case(node: ast.AST | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        match = _CASE.match(node.value)
        yield from match[1].split() if match else ()


FILES = sorted(Path(__file__).parent.rglob("test_*.py"))
NAMED = {row for file in FILES if file != Path(__file__) for row in rows_of_tests(file.read_text())}


def test_the_catalogue_is_complete() -> None:
    lettered = [
        *(f"A{number}" for number in range(1, 15)),
        *(f"L{number}" for number in range(1, 33)),
    ]
    assert list(CATALOGUE) == [*map(str, range(1, 145)), *lettered]


def test_every_row_has_a_test_that_names_it() -> None:
    assert {row: text for row, text in CATALOGUE.items() if row not in NAMED} == {}


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ('def test_a(): "Fault 53."', ["53"]),
        ('def test_a(): "R-001, faults 1, 2 and 8 to 10; 7 seconds."', ["1", "2", "8", "9", "10"]),
        ('def test_a(): "Faults 135 and A5; L4."', ["135", "A5", "L4"]),
        ('def test_a(): "A9: and no secret."', ["A9"]),
        ('def helper(): "Fault 53."', []),
        ('case(1, id="54: bomb")', ["54"]),
        ('case(1, id="4")', ["4"]),
        ('CASES = {"101-null": 1, "131 134 both": 2, "64 bits": 3}', ["101", "131", "134", "64"]),
        ('case(1, id="R-080"), case(2, id="5000 digits")', []),
    ],
)  # fmt: skip
def test_the_reader_finds_docstrings_and_ids(source: str, rows: list[str]) -> None:
    assert list(rows_of_tests(source)) == rows
