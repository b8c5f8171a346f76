"""The probe's own processor time: what an interval costs it besides the driver's calls.

The sampler runs in this process over the simulated driver, in virtual time. What is spent inside the
driver's functions is measured around each call and taken off.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pynvml

from agent.cadence import SamplerSettings
from agent.clock import VirtualClock
from agent.frames import encode
from agent.nvml import Nvml
from agent.sampler import Sampler
from agent.simulated.scenario import parse_simulation
from agent.simulator import Library, install, uninstall

TICKS = 60
START_MS = 1_790_000_000_000


class Own(NamedTuple):
    """Per tick of 10 s: milliseconds of processor time outside the driver, and driver calls."""

    milliseconds: float
    calls: float


class _Timed:
    """Passes every call on to the library and adds up how long they took."""

    def __init__(self, library: Library) -> None:
        self.driver = library
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self.driver, name)

        def timed(*arguments: object) -> object:
            began = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def own(simulation: str) -> Own:
    """Measure a node's probe over ten minutes of virtual time."""
    clock = VirtualClock(START_MS)
    library = Library(parse_simulation(simulation), lambda: clock.wall_ms() * 1000)
    timed = _Timed(library)
    install(library)
    pynvml.nvmlLib = timed
    try:
        ticks = (tick for tick in Sampler(Nvml(), clock, SamplerSettings(), "bench").ticks() if tick)
        encode(next(ticks))
        began, inside, calls = time.process_time(), timed.seconds, library.calls
        for _ in range(TICKS):
            encode(next(ticks))
        spent = time.process_time() - began - (timed.seconds - inside)
        return Own(spent / TICKS * 1000, (library.calls - calls) / TICKS)
    finally:
        uninstall()
