from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from django_dcr.conf import Settings

ROOT = Path(__file__).parent.parent
SETTINGS = (ROOT / "example_project/example/settings.py").read_text()
READ = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', SETTINGS))

FOLLOW_THE_LINKS = """
import re
import django
django.setup()
from django.test import Client
client = Client(headers={"host": "127.0.0.1:8000"})
page = client.get("/").content.decode()
print(page)
for link in re.findall('(?:href|src)="([^"]*)"', page):
    if not link.startswith("/static/"):
        assert client.get(link).status_code in (200, 302), link
"""


LOG_IN_ELSEWHERE = """
import django
django.setup()
from django.test import Client
client = Client(headers={"host": "127.0.0.1:8000"})
assert client.post("/login", {"issuer": "https://evil.example"}).status_code == 404
assert client.get("/callback", {"code": "x", "state": "y"}).headers["Location"] == "/"
print(client.get("/").content.decode())
"""


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A copy of the example project that has never been started."""
    return copy_of_example(tmp_path)


@pytest.fixture(scope="session")
def migrated_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, which has its tables."""
    folder = copy_of_example(tmp_path_factory.mktemp("migrated"))
    done = run(folder, "manage.py", "migrate", "--verbosity", "0")
    assert done.returncode == 0, done.stderr
    return folder


def copy_of_example(folder: Path) -> Path:
    made = shutil.ignore_patterns(".key-*", ".env", "db.sqlite3*", "__pycache__")
    return Path(shutil.copytree(ROOT / "example_project", folder / "example", ignore=made))


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "example.settings",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_setting_comes_from_the_environment() -> None:
    assert {name for name in dir(Settings) if name.startswith("DCR_")} <= READ


def test_env_example_documents_every_variable() -> None:
    lines = (ROOT / "example_project/.env.example").read_text().splitlines()
    assert {line[1:].split("=")[0] for line in lines if re.match("#[A-Z_]+=", line)} == READ


def test_it_starts_without_any_settings_and_keeps_the_keys_it_made(example: Path) -> None:
    first = run(example, "manage.py", "check", "--fail-level", "WARNING")
    assert first.returncode == 0, first.stderr
    keys = sorted(example.glob(".key-*"))
    assert [key.name for key in keys] == [".key-DCR_ENCRYPTION_KEYS", ".key-SECRET_KEY"]
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600, 0o600]
    made = [key.read_text() for key in keys]
    assert run(example, "manage.py", "check").returncode == 0
    assert [key.read_text() for key in keys] == made


def test_the_documented_defaults_are_the_defaults(example: Path) -> None:
    """Every line of .env.example that shows a value changes nothing when it is put in force."""
    command = ["manage.py", "diffsettings", "--all"]
    before = run(example, *command)  # makes the keys
    shown = re.sub(r"(?m)^#([A-Z_]+=.)", r"\1", (example / ".env.example").read_text())
    (example / ".env").write_text(shown.replace("sqlite:///", f"sqlite:///{example}/"))
    assert before.returncode == 0, before.stderr
    after = run(example, *command)
    assert after.stdout.splitlines() == before.stdout.splitlines()


def test_in_production_it_does_not_start_without_keys(example: Path) -> None:
    refused = run(example, "manage.py", "check", DEBUG="False")
    assert "Set the SECRET_KEY environment variable" in refused.stderr
    refused = run(example, "manage.py", "check", DEBUG="False", SECRET_KEY="x" * 50)
    assert "Set the DCR_ENCRYPTION_KEYS environment variable" in refused.stderr
    assert list(example.glob(".key-*")) == []


def test_the_front_page_leads_to_both_sides(migrated_example: Path) -> None:
    visit = run(migrated_example, "-c", FOLLOW_THE_LINKS)
    assert visit.returncode == 0, visit.stderr
    assert "dcr_register http://127.0.0.1:8000/o" in visit.stdout
    assert not re.search(r"<script|<style| style=| on\w+=", visit.stdout)


def test_only_a_listed_server_is_a_place_to_log_in_and_an_answer_needs_a_question(
    migrated_example: Path,
) -> None:
    visit = run(migrated_example, "-c", LOG_IN_ELSEWHERE)
    assert visit.returncode == 0, visit.stderr
    assert "Not logged in. This answer belongs to no login of this browser" in visit.stdout


METADATA_PLACES = """
import django
django.setup()
from django.test import Client
client = Client(headers={"host": "127.0.0.1:8000"})
name = "/.well-known/oauth-authorization-server"
document = client.get(name + "/o").json()
assert document["issuer"] == "http://127.0.0.1:8000/o", document
for place in (name, name + "/", name + "/other", "/o" + name, "/o" + name + "/o"):
    assert client.get(place).status_code == 404, place
"""


def test_the_example_has_metadata_of_no_other_issuer(migrated_example: Path) -> None:
    visit = run(migrated_example, "-c", METADATA_PLACES)
    assert visit.returncode == 0, visit.stderr


NOT_MCP = """
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import django
django.setup()
from example.mcp_client import ToolError, ToolServer

class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
deep = b"[" * 99999
for body in (b"<html>", b"[]", b"null", b'{"id":1,"result":0}', b'{"id":1,"error":2}', b"", deep):
    try:
        ToolServer(f"http://127.0.0.1:{server.server_port}/mcp").connect()
    except ToolError as exc:
        print(exc)
"""


@pytest.mark.network
def test_what_is_not_mcp_is_told_of_a_tool_server(example: Path) -> None:
    told = run(example, "-c", NOT_MCP)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("The tool server's response is not MCP.") == 7
