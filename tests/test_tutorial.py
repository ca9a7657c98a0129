"""docs/tutorial.md, step by step: its files and its commands, and what a reader clicks on."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from itertools import takewhile
from pathlib import Path

import pytest
import requests

from tests.test_example import ROOT, copy_of_example

pytestmark = pytest.mark.network

TEXT = (ROOT / "docs/tutorial.md").read_text()
#: What a reader has done before: installed, and opened terminals.
NOT_RUN = {"install", "again"}
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT),
    # What `createsuperuser` asks for.
    "DJANGO_SUPERUSER_PASSWORD": "admin",
}
#: Both sites hash passwords and client secrets, which by default takes half a second each time.
FAST = '\nPASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]\n'


class Reader:
    """Someone who follows the tutorial, on ports that are free, until a step fails."""

    def __init__(self, folder: Path, ports: dict[str, str]) -> None:
        self.folder = folder
        self.ports = ports
        self.done: list[str] = []

    def moved(self, text: str) -> str:
        for documented, free in self.ports.items():
            text = text.replace(f":{documented}", f":{free}")
        return text

    def writes(self, name: str) -> None:
        [content] = re.findall(rf"(?s)<!-- file: {name} -->\n```python\n(.*?)```", TEXT)
        file = self.folder / name
        before = file.read_text() if name == "shop/settings.py" else ""
        file.write_text(before + self.moved(content))

    def changes(self, name: str) -> None:
        """Replace the line that begins as the changed one does."""
        [line] = re.findall(rf"<!-- change: {name} -->\n```python\n(.*)\n```", TEXT)
        file = self.folder / name
        start = line.partition("{")[0]
        file.write_text(re.sub(rf"(?m)^{re.escape(start)}.*$", line, file.read_text()))

    def command(self, step: str) -> list[str]:
        [line] = re.findall(rf"<!-- step: {step} -->\n```console\n(.*)\n```", TEXT)
        self.done.append(step)
        return shlex.split(self.moved(line))

    def runs(self, step: str, *more: str) -> str:
        program, *arguments = self.command(step)
        programs = {"python": [sys.executable], "django-admin": [sys.executable, "-m", "django"]}
        file = arguments[-1] if ">" in arguments else os.devnull
        done = subprocess.run(
            [*programs[program], *takewhile(">".__ne__, arguments), *more],
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (step, done.stderr)
        (self.folder / file).write_text(done.stdout)
        return done.stdout


def add(text: str, file: Path) -> None:
    file.write_text(file.read_text() + text)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def served(folder: Path, arguments: list[str], address: str) -> Iterator[None]:
    """Run a site until the block ends; it has begun once it answers."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while not _answers(address):
                assert process.poll() is None, f"{arguments} has ended"
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=600).ok
    except requests.ConnectionError:
        return False


def press(browser: requests.Session, page: requests.Response, **filled: str) -> requests.Response:
    """Send the first form of a page, with what was filled in."""
    hidden = re.findall(r'<input type="hidden" name="(\w+)"(?: value="([^"]*)")?', page.text)
    data = {**{name: unescape(value) for name, value in hidden}, **filled}
    return browser.post(page.url, data=data, headers={"Referer": page.url}, timeout=600)


def log_in(browser: requests.Session, page: requests.Response, name: str) -> requests.Response:
    if "id_username" in page.text:
        page = press(browser, page, username="admin", password="admin")
    assert f"May “{name}” log you in?" in page.text
    return press(browser, page, allow="Authorize")


def test_every_step_of_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    reader = Reader(tmp_path / "shop", {"8000": free_port(), "8001": free_port()})
    server, shop = map(reader.moved, ("http://127.0.0.1:8000/", "http://localhost:8001/"))
    browser = requests.Session()
    example, run = copy_of_example(tmp_path), ["manage.py", "run", "--port", reader.ports["8000"]]
    add(FAST, example / "example/settings.py")
    with served(example, run, server):
        reader.runs("create")
        reader.runs("key")
        reader.writes("shop/settings.py")
        add(FAST, reader.folder / "shop/settings.py")
        reader.runs("migrate")
        assert "registration_endpoint" in reader.runs("discover")
        reader.writes("shop/views.py")
        reader.writes("shop/urls.py")

        run = [*reader.command("run")[1:], "--noreload"]
        with served(reader.folder, run, shop):
            page = browser.get(shop, timeout=600)
            assert '<a href="/login">Log in</a>' in page.text
            page = log_in(browser, browser.get(f"{shop}login", timeout=600), "Shop")
            assert (page.url, page.text) == (shop, "Hello, admin!")

            assert re.search(r"(?m)^1\s.*active", reader.runs("list"))
            assert "********" in reader.runs("show")
            reader.runs("superuser", "--noinput", "--username=admin", "--email=admin@shop.example")

        reader.changes("shop/views.py")
        with served(reader.folder, run, shop):
            page = log_in(browser, browser.get(f"{shop}login", timeout=600), "The new shop")
            assert page.text == "Hello, admin!"
            reader.runs("revoke")
            log_in(browser, browser.get(f"{shop}login", timeout=600), "The new shop")
            listed = reader.runs("list")
            assert [row.split("\t")[3] for row in listed.splitlines()[1:]] == ["revoked", "active"]
    assert {*reader.done} == {*re.findall("<!-- step: (.+) -->", TEXT)} - NOT_RUN
