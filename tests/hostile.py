"""Servers that misbehave on purpose: raw sockets on loopback, in threads, with real TLS.

A server plays the same steps to every connection: bytes are sent as they are, functions are
called with the server and the connection. After the last step it closes the connection.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import ipaddress
import socket
import ssl
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any, TypeVar, Union

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.test import override_settings

Result = TypeVar("Result")
Step = Union[bytes, Callable[["Server", socket.socket], None]]  # noqa: UP007 - "Server" is not defined yet

#: Seconds, or megabytes, that only a client without any limit lets go by.
HANG = 600
#: What DCR_TIMEOUT is where it is not to run out, however slow the machine is.
PATIENCE = 300.0
#: What it is where it has to run out: ``until_it_stalls`` tries one after the other.
TIMEOUTS = (0.3, 1.2, 5.0, 20.0, 80.0)

#: 50 MB of nothing, packed.
BOMB = gzip.compress(bytes(50_000_000))

#: The addresses of all connections this process tried to make, while ``recorded_connects`` runs.
_connects: list[list[Any]] = []


def _stay_on_loopback(event: str, args: tuple[Any, ...]) -> None:
    if event != "socket.connect":
        return
    for record in _connects:
        record.append(args[1])
    # A text is the path of a local socket, such as those of multiprocessing.
    if not isinstance(args[1], str) and args[1][0] not in ("127.0.0.1", "::1"):
        raise OSError("the tests stay on loopback")


# No patch of the code under test, nor of a library below it: CPython asks before connecting.
_stay_on_loopback.__cantrace__ = True  # for coverage
sys.addaudithook(_stay_on_loopback)


@contextlib.contextmanager
def recorded_connects() -> Iterator[list[Any]]:
    """Yield a list that fills with every address that is connected to."""
    record: list[Any] = []
    _connects.append(record)
    try:
        yield record
    finally:
        _connects.remove(record)


Lookup = Callable[..., list[Any]]


def found(*addresses: str, port: int | None = None) -> Lookup:
    """Return a resolver that finds ``addresses``, and keeps the names it was asked for."""

    def getaddrinfo(host: str, asked_port: int, *args: Any, **kwargs: Any) -> list[Any]:
        names.append(host)
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port or asked_port),
            )
            for address in addresses
        ]

    names: list[str] = []
    getaddrinfo.names = names  # type: ignore[attr-defined]
    return getaddrinfo


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """Yield a loopback port with a full queue, where the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


class Server:
    """A server on a free loopback port, started and stopped by ``with``."""

    def __init__(self, *steps: Step, tls: ssl.SSLContext | None = None) -> None:
        self.steps = steps
        self.tls = tls
        self.accepted = 0
        self.requests: list[bytes] = []
        self.stopping = threading.Event()
        #: From when on nothing but the client's patience can end the exchange.
        self.stalled = threading.Event()
        #: Whether it was not the client who ended what could have gone on and on.
        self.gave_up = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Server:
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        assert not self.gave_up, "The client kept to no limit."

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._play, args=[connection], daemon=True)
                self._threads.append(thread)
                thread.start()

    def give_up(self) -> None:  # pragma: no cover - for a client without limits
        """Fail the test, at its end, and break the connection off."""
        self.gave_up = True
        raise ConnectionAbortedError

    def _play(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection:
                for step in self.steps:
                    if isinstance(step, bytes):
                        connection.sendall(step)
                    else:
                        step(self, connection)


def read(server: Server, connection: socket.socket) -> None:
    """Read one request, and keep it in ``server.requests``."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += _received(connection)
    head, _, body = request.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]):
                body += _received(connection)
    server.requests.append(head + b"\r\n\r\n" + body)


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError
    return data


def silence(server: Server, connection: socket.socket) -> None:
    """Say nothing more until the client goes away."""
    server.stalled.set()
    connection.settimeout(HANG)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:  # pragma: no cover - a client that waits for ever
        server.give_up()


def deaf(server: Server, connection: socket.socket) -> None:
    """Read nothing more until the end of the test."""
    server.stalled.set()
    if not server.stopping.wait(HANG):  # pragma: no cover - a client that waits for ever
        server.give_up()


def reset(server: Server, connection: socket.socket) -> None:
    """Break the connection off with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def first_byte(server: Server, connection: socket.socket) -> None:
    """Wait until a request has begun to arrive, and leave the rest of it unread."""
    connection.recv(1)


def delivered(server: Server, connection: socket.socket) -> None:
    """Wait until the client's kernel has everything that was sent, whether read or not."""
    unacknowledged = bytearray(4)
    while ioctl(connection, termios.TIOCOUTQ, unacknowledged) or any(unacknowledged):
        time.sleep(0.001)  # pragma: no cover - seldom is it not there at once


def pause(seconds: float) -> Step:
    """Wait, then go on."""
    return lambda server, connection: time.sleep(seconds)


def drip(data: bytes, on_and_on: bytes = b"") -> Step:
    """Send one byte at a time, each well within any timeout between two reads.

    After ``data`` that is ``on_and_on``, over and over, until the client goes away.
    """

    def play(server: Server, connection: socket.socket) -> None:
        for byte in _bytes(data):
            connection.sendall(byte)
            time.sleep(0.02)
        if not on_and_on:
            return
        server.stalled.set()
        for _ in range(HANG):
            for byte in _bytes(on_and_on):
                connection.sendall(byte)
                time.sleep(0.02)
        server.give_up()  # pragma: no cover - a client that reads for ever

    return play


def _bytes(data: bytes) -> Iterator[bytes]:
    return (data[position : position + 1] for position in range(len(data)))


def endless(data: bytes) -> Step:
    """Send ``data`` over and over until the client goes away."""
    block = data * (1_000_000 // len(data) + 1)

    def play(server: Server, connection: socket.socket) -> None:
        for _ in range(HANG):
            connection.sendall(block)
        server.give_up()  # pragma: no cover - a client that reads without end

    return play


def until_it_stalls(*steps: Step, check: Callable[[Server], Result], **options: Any) -> Result:
    """Check what comes of a server that stalls, so that DCR_TIMEOUT runs out; return that.

    The timeout is short. On a busy machine it may be over before the server has got as far as
    the case is about: then what was checked does not count, and there is more time next.
    """
    for timeout in TIMEOUTS:  # pragma: no branch - the last is for any machine
        with override_settings(DCR_TIMEOUT=timeout), Server(*steps, **options) as server:
            try:
                result = check(server)
            except AssertionError:
                if server.stalled.is_set():
                    raise  # pragma: no cover - the test fails
            else:
                if server.stalled.is_set():  # pragma: no branch - seldom was it too slow
                    return result
    raise AssertionError("The server never got to where it stalls.")  # pragma: no cover


def tunnel(port: int) -> Step:
    """Relay both ways to a loopback port, as a proxy does after CONNECT."""

    def play(server: Server, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as target:
            back = threading.Thread(target=_pump, args=[target, connection], daemon=True)
            back.start()
            _pump(connection, target)
            back.join()

    return play


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)


def answer(body: bytes = b"{}", status: str = "200 OK", *fields: str) -> bytes:
    """Return a well-formed answer with its Content-Length, unless ``fields`` frame it."""
    framing = [] if any("Transfer-Encoding" in each for each in fields) else [len(body)]
    lines = [f"HTTP/1.1 {status}", *fields, *(f"Content-Length: {each}" for each in framing)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Authority:
    """A certificate authority made for one test."""

    def __init__(self, directory: Path, name: str = "test authority") -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = directory / f"{name}.pem"
        certificate = _certificate(self.name, self.name, self.key, self.key, [], ca=True)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, *hosts: str, expired: bool = False, own: bool = False) -> ssl.SSLContext:
        """Return a server's context with a certificate for ``hosts``; ``own``: self-signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        issuer, signer = (subject, key) if own else (self.name, self.key)
        certificate = _certificate(subject, issuer, key, signer, hosts, expired=expired)
        file = self.directory / "server.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    hosts: Any,
    *,
    ca: bool = False,
    expired: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * day)
        .not_valid_after(now - day if expired else now + day)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
