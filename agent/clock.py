"""Time comes in through this door.

`wall_ms` labels intervals and may step; `monotonic_ns` measures them and never goes back.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the agent asks of time."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, as the host's clock tells it."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since some fixed moment; never goes back."""

    def wait(self, seconds: float) -> bool:
        """Wait that long; False when asked to stop meanwhile."""


def now_ms() -> int:
    """Milliseconds since the Unix epoch, for those who only ask the time once."""
    return time.time_ns() // 1_000_000


def moment(at_ms: int) -> str:
    """Say a moment in UTC, to the second."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


class SystemClock:
    """The host's clocks. `idle` waits so many seconds and returns False when it is time to stop."""

    def __init__(self, idle: Callable[[float], bool]) -> None:
        self._idle = idle

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return now_ms()

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def wait(self, seconds: float) -> bool:
        """Wait by the function given."""
        return self._idle(max(0.0, seconds))


class VirtualClock:
    """Time that passes only when someone waits; `step` moves the wall clock alone, as an operator may."""

    def __init__(self, wall_ms: int) -> None:
        self._wall_ns = wall_ms * 1_000_000
        self._monotonic_ns = 0

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return self._wall_ns // 1_000_000

    def monotonic_ns(self) -> int:
        """Nanoseconds waited for so far."""
        return self._monotonic_ns

    def wait(self, seconds: float) -> bool:
        """Let time pass at once."""
        passed_ns = max(0, round(seconds * 1e9))
        self._wall_ns += passed_ns
        self._monotonic_ns += passed_ns
        return True

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back."""
        self._wall_ns += round(seconds * 1e9)
