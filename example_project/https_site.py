"""A site over https on this machine, with a certificate that is made for it.

Servers fetch documents and keys over https only. To fetch them from here they have to trust
``certificate``: SSL_CERT_FILE, NODE_EXTRA_CA_CERTS and DCR_CA_BUNDLE name such a file.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

#: Resolves to this machine. Some servers accept no client ID with an IP address.
HOST = "localhost"


@dataclass(frozen=True)
class HttpsSite:
    #: Such as ``https://localhost:50443``.
    origin: str
    #: The file that clients have to trust.
    certificate: Path


@contextmanager
def serve(
    application: Callable[..., Any],
    folder: Path,
    handler: type[WSGIRequestHandler] = WSGIRequestHandler,
) -> Iterator[HttpsSite]:
    """Serve a WSGI application on a free port for the block; its certificate is in ``folder``."""
    certificate, key = make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadedWSGIServer(("127.0.0.1", 0), handler)
    # The thread of each request does the handshake, or a silent client would block all others.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.base_environ["HTTPS"] = "on"
    with serving(server, application):
        yield HttpsSite(f"https://{HOST}:{server.server_port}", certificate)


@contextmanager
def serving(server: ThreadedWSGIServer, application: Callable[..., Any]) -> Iterator[None]:
    """Let ``server`` answer requests for the block, in a thread of its own."""
    server.set_app(application)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of one day, signed by itself; return its file and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "django-dcr example")])
    now = datetime.now(timezone.utc)
    usage = dict.fromkeys(_USAGES, False) | {"digital_signature": True, "key_cert_sign": True}
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    file, key_file = folder / "certificate.pem", folder / "certificate.key"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file, key_file


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
