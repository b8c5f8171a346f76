"""Waiting for a condition, with a deadline that a slow machine meets as well."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_SECONDS = 60.0
PAUSE_SECONDS = 0.03
T = TypeVar("T")


def until(found: Callable[[], T | None], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Ask until there is an answer that counts as true; fail with what was waited for."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        pause.wait(PAUSE_SECONDS)
