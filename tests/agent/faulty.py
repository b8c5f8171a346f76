"""A simulated driver with faults, asked through pynvml in virtual time."""

from collections.abc import Callable
from ctypes import c_void_p, cast
from typing import Any

import pynvml

from agent.clock import VirtualClock
from agent.simulated.faults import parse_faults, resolve, split
from agent.simulated.phases import EPOCH_US, WEEK_US
from agent.simulated.scenario import parse_simulation
from agent.simulator import Library, install

SECOND = 1_000_000
NOON = EPOCH_US + 157 * WEEK_US + 36 * 3_600 * SECOND
"""Noon on Tuesday 6 January 2026."""


class Rig:
    """A driver that began at noon; `at` sets the seconds since then, and calls that block let time pass."""

    def __init__(self, text: str, *refuse: str) -> None:
        self.clock = VirtualClock(NOON // 1_000)
        kind, faults = split(resolve(text, NOON / SECOND))
        self.simulation = parse_simulation(kind)
        self.faults = parse_faults(faults, self.simulation.count)
        self.driver = Library(
            self.simulation,
            self.now_us,
            refuse=frozenset(refuse),
            faults=self.faults,
            wait=self.clock.wait,
        )
        install(self.driver)

    def now_us(self) -> int:
        """Give the time."""
        return NOON + self.clock.monotonic_ns() // 1_000

    def seconds(self) -> float:
        """Give the time since noon."""
        return (self.now_us() - NOON) / SECOND

    def at(self, seconds: float) -> None:
        """Let time pass until so long after noon."""
        self.clock.wait(seconds - self.seconds())

    def open(self) -> "Rig":
        """Initialise the library."""
        pynvml.nvmlInit()
        return self

    def reopen(self) -> None:
        """Initialise the library anew."""
        pynvml.nvmlShutdown()
        pynvml.nvmlInit()

    def handle(self, index: int = 0) -> Any:  # noqa: ANN401  pynvml has no types
        """Return pynvml's handle of a GPU."""
        return pynvml.nvmlDeviceGetHandleByIndex(index)

    def field(self, number: int, index: int = 0, scope: int = 0) -> Any:  # noqa: ANN401
        """Read one field value."""
        return pynvml.nvmlDeviceGetFieldValues(self.handle(index), [(number, scope)])[0]


def code_of(function: Callable[..., object], *arguments: object) -> int:
    """Return the NVML code with which a call fails, 0 if it does not."""
    try:
        function(*arguments)
    except pynvml.NVMLError as error:
        return int(error.value)
    return 0


def place_of(handle: Any) -> int | None:  # noqa: ANN401
    """Return the address in a handle: handles of the same GPU are not equal as objects."""
    return cast(handle, c_void_p).value
