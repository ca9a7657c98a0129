"""Clocks that a test holds, in place of the module ``time`` as a module of this app sees it."""

from __future__ import annotations

import time


class Clock:
    """Shows the time that the test sets; whoever sleeps by it does not wait.

    A ``running`` one goes on by itself, too, and is ahead by what the test adds.
    """

    def __init__(self, *, running: bool = False) -> None:
        self.running = running
        self.now = 0.0 if running else 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now + (time.monotonic() if self.running else 0.0)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
