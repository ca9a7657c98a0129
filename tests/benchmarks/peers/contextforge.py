"""ContextForge's DcrService with its own tables in SQLite, as shipped and without Argon2."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import os
import sys
from typing import Any

server, folder = sys.argv[1:]
os.environ |= {
    "DATABASE_URL": f"sqlite:///{folder}/contextforge.sqlite3",
    "AUTH_ENCRYPTION_SECRET": "a secret of the benchmark, 32 letters long",
    "PLATFORM_ADMIN_PASSWORD": "a pass phrase of the Benchmark, 1",
    "DEFAULT_USER_PASSWORD": "a pass phrase of the Benchmark, 2",
    "JWT_SECRET_KEY": "another secret of the benchmark, 32 letters",
    "SSRF_ALLOW_LOCALHOST": "true",
    "LOG_LEVEL": "ERROR",
}
os.chdir(folder)
from answering import IN_FLIGHT, answer, in_flight  # noqa: E402
from mcpgateway.db import Base, RegisteredOAuthClient, SessionLocal, engine  # noqa: E402
from mcpgateway.services.dcr_service import DcrService  # noqa: E402
from mcpgateway.services.encryption_service import (  # noqa: E402
    EncryptionService,
    get_encryption_service,
)
from sqlalchemy import event  # noqa: E402


@event.listens_for(engine, "connect")
def _let_gateways_be_absent(connection: Any, record: object) -> None:
    connection.execute("PRAGMA foreign_keys = OFF")


REDIRECT, SCOPES = "https://site.example/callback", ["mcp:read"]

Base.metadata.create_all(engine)
service = DcrService()
loop = asyncio.new_event_loop()
derive = EncryptionService.derive_key_argon2id


def _fast_key(self: Any, passphrase: bytes, *parameters: Any, **more: Any) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(passphrase).digest())


async def _register(issuer: str) -> None:
    with SessionLocal() as db:
        gateway = os.urandom(16).hex()
        await service.register_client(gateway, "Benchmark", issuer, REDIRECT, SCOPES, db)


async def _hit() -> None:
    with SessionLocal() as db:
        row = await service.get_or_register_client("g", "Benchmark", server, REDIRECT, SCOPES, db)
        encryption = get_encryption_service(service.settings.auth_encryption_secret)
        assert await encryption.decrypt_secret_async(row.client_secret_encrypted)


def prepared(act: Any, limit: int, *, argon2: bool, count: int) -> Any:
    EncryptionService.derive_key_argon2id = derive if argon2 else _fast_key
    with SessionLocal() as db:
        db.query(RegisteredOAuthClient).filter_by(gateway_id="g").delete()
        db.commit()
    loop.run_until_complete(_hit())  # which stores what the others find
    return lambda: loop.run_until_complete(in_flight(count, act, limit))


register = functools.partial(_register, server)
at_once = functools.partial(_register, f"{server}/slow")
answer(
    {
        f"{name}{suffix}": lambda count, act=act, limit=limit, argon2=argon2: prepared(
            act, limit, argon2=argon2, count=count
        )
        for suffix, argon2 in (("", True), (" without Argon2", False))
        for name, act, limit in (
            ("hit", _hit, 1),
            ("register", register, 1),
            ("register at once", at_once, IN_FLIGHT),
        )
    }
)
