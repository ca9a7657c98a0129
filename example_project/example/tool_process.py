"""Starts the tool server of ``tool_server.py`` beside this site."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from oauth2_provider.models import get_application_model

NAME = "Tool server"


def is_installed() -> bool:
    """Whether the MCP Python SDK is installed, which the tool server needs."""
    return find_spec("mcp") is not None


class ToolServerError(Exception):
    """The tool server did not start."""


def _ignore(_call: dict[str, str]) -> None:
    """Do nothing about a call."""


@contextmanager
def tool_server(
    issuer: str, *, port: int = 0, calls: Callable[[dict[str, str]], None] = _ignore
) -> Iterator[str]:
    """Run the tool server; yield its address. It may ask ``issuer``, this site, about tokens.

    ``calls`` gets the tool server's own record of each call: its tool, user and client.
    """
    secret = secrets.token_urlsafe()
    application = get_application_model()
    client, _created = application.objects.update_or_create(
        name=NAME,
        defaults={
            "client_type": application.CLIENT_CONFIDENTIAL,
            "authorization_grant_type": application.GRANT_CLIENT_CREDENTIALS,
            "client_secret": secret,
            # Random at each start and compared at each request, so hashing only costs time.
            "hash_client_secret": False,
        },
    )
    script = Path(__file__).parents[1] / "tool_server.py"
    command = [sys.executable, str(script), "--issuer", issuer, "--port", str(port), "--until-eof"]
    credentials = {"TOOL_SERVER_CLIENT": client.client_id, "TOOL_SERVER_SECRET": secret}
    with subprocess.Popen(
        command,
        env={**os.environ, **credentials},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        output = process.stdout
        if output is None or not (line := output.readline()):
            raise ToolServerError("The tool server did not start; its message is above.")
        # All further output is read, or the process would block when the pipe is full.
        reader = threading.Thread(target=_copy, args=(output, calls), daemon=True)
        reader.start()
        try:
            yield str(json.loads(line)["url"])
        finally:
            process.terminate()
            reader.join()


def _copy(output: IO[str], calls: Callable[[dict[str, str]], None]) -> None:
    for line in output:
        calls(json.loads(line))
