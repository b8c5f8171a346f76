"""A sampler that looks at a simulated driver in virtual time: what the tests of the probe share."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from ctypes import addressof, c_ulonglong, c_void_p, cast
from functools import partial
from pathlib import Path
from typing import Any

import pynvml

from agent.cadence import SamplerSettings
from agent.clock import VirtualClock
from agent.inventory import enumerate_devices
from agent.nvml import Nvml
from agent.pieces import PARTS, SLICE_QUANTITIES
from agent.prober import HUNG_SECONDS
from agent.quantities import QUANTITIES
from agent.sampler import Sampler
from agent.sanity import BOUNDS
from agent.simulated.calling import plain, target
from agent.simulated.faults import parse_faults, resolve, split
from agent.simulated.scenario import parse_simulation
from agent.simulator import Library, install
from agent.tick import Gpu, Reading, Tick

BLOCK_MS = 1_767_700_800_000
"""6 January 2026, 12:00 UTC: from minute 2 to 4 of every ten, GPU 0 of the scenario `lost` is gone."""
START_MS = BLOCK_MS + 3_217
NOWHERE = Path("/nonexistent")
ROUNDING = 1e-9
"""By so much a sum of shares may pass 1."""

Happening = tuple[float, str, float]
"""At so many seconds, a `stall` of all clocks or a `step` of the wall clock, of so many seconds."""


class BentClock(VirtualClock):
    """A clock to which things happen while somebody waits."""

    def __init__(self, wall_ms: int, happenings: Sequence[Happening] = ()) -> None:
        super().__init__(wall_ms)
        self.began_ms = wall_ms
        self.happenings = sorted(happenings)
        self.steps: list[tuple[int, int]] = []

    def wait(self, seconds: float) -> bool:
        """Let time pass, and what falls into it happen."""
        until_ns = self.monotonic_ns() + round(seconds * 1e9)
        while self.happenings and self.happenings[0][0] * 1e9 <= until_ns:
            at_seconds, kind, length_seconds = self.happenings.pop(0)
            super().wait(at_seconds - self.monotonic_ns() / 1e9)
            if kind == "stall":
                super().wait(length_seconds)
            else:
                self.step(length_seconds)
                self.steps.append((self.true_us(), round(length_seconds * 1_000_000)))
        super().wait((until_ns - self.monotonic_ns()) / 1e9)
        return True

    def true_us(self) -> int:
        """Give the time that passed, from the beginning on, whatever was done to the wall clock."""
        return self.began_ms * 1000 + self.monotonic_ns() // 1000

    def told_us(self, true_us: int) -> int:
        """Give what the wall clock said at a true moment."""
        return true_us + sum(length_us for at_us, length_us in self.steps if at_us < true_us)


Meddler = Callable[[str, int, tuple[Any, ...], int], int]
"""(function, GPU, arguments after the handle, code) → the code to answer; it may spoil what was filled in."""
NO_GPU = -1


class Driver(Library):
    """A driver of one clock, whose samples are dated by the wall clock as it was when each was taken.

    `codes` holds codes to answer instead, by function, or by function and number of the GPU; `meddle` sees
    every answer; `opened_us` are the moments at which the library was initialised. `asked` counts questions
    by function and first argument: by field, kind of sample or threshold. `names` are all names looked for.
    A call that hangs for longer than `patience_seconds` raises Stuck; without, it comes back when it can.
    """

    def __init__(
        self,
        text: str,
        clock: BentClock,
        refuse: frozenset[str] = frozenset(),
        patience_seconds: float | None = None,
    ) -> None:
        kind, faults = split(resolve(text, clock.began_ms / 1000))
        simulation = parse_simulation(kind)
        self.clock = clock
        self.codes: dict[str | tuple[str, int], int] = {}
        self.meddle: Meddler | None = None
        self.opened_us: list[int] = []
        self.asked: Counter[tuple[str, int]] = Counter()
        self.names: set[str] = set()
        self._patience_seconds = patience_seconds
        self._hung_seconds = 0.0
        super().__init__(
            simulation,
            clock.true_us,
            refuse=refuse,
            faults=parse_faults(faults, simulation.count),
            wait=self._wait,
        )
        install(self)

    def __getattr__(self, name: str) -> Callable[..., int | bytes]:
        """Find a function by its name in C."""
        if name.startswith("nvml"):
            self.names.add(name)
        if name == "nvmlDeviceGetSamples":
            return partial(self._dated, super().__getattr__(name))
        if name == "nvmlDeviceGetProcessUtilization":
            return partial(self._dated_shares, super().__getattr__(name))
        return super().__getattr__(name)

    def hangs(self, gpu: int) -> bool:
        """Tell whether calls on a GPU do not come back now."""
        return self.faults.now("hang", gpu, self.clock.true_us()) is not None

    def _wait(self, seconds: float) -> bool:
        self._hung_seconds = self._hung_seconds + seconds if self._failing.stuck else 0.0
        if self._patience_seconds is not None and self._hung_seconds > self._patience_seconds:
            raise Stuck
        return self.clock.wait(seconds)

    def _init(self, *flags: object) -> int:
        self.opened_us.append(self.clock.true_us())
        return super()._init(*flags)

    def _about_node(self, name: str, *arguments: Any) -> int | bytes:  # noqa: ANN401  as ctypes passes them
        self.asked[name, 0] += 1
        if name in self.codes:
            self.calls += 1
            return self.codes[name]
        code = super()._about_node(name, *arguments)
        if self.meddle is None or isinstance(code, bytes):
            return code
        return self.meddle(name, NO_GPU, arguments, code)

    def _about_gpu(self, name: str, handle: Any, *arguments: Any) -> int:  # noqa: ANN401
        self._note(name, arguments)
        gpu = self._gpu_of(handle)
        code = self.codes.get((name, gpu), self.codes.get(name))
        if code is not None:
            self.calls += 1
            return code
        code = super()._about_gpu(name, handle, *arguments)
        return code if self.meddle is None else self.meddle(name, gpu, arguments, code)

    def _note(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "nvmlDeviceGetFieldValues":
            self.asked.update((name, field.fieldId) for field in target(arguments[1]))
        else:
            first = plain(arguments[0]) if len(arguments) > 1 else 0
            self.asked[name, first if isinstance(first, int) else 0] += 1

    def _gpu_of(self, handle: Any) -> int:  # noqa: ANN401
        place = (cast(handle, c_void_p).value or 0) - addressof(self._handles)
        return place if 0 <= place < self.simulation.count else NO_GPU

    def _dated(self, call: Callable[..., int | bytes], *arguments: Any) -> int:  # noqa: ANN401
        handle, kind, seen, value_type, count, buffer = arguments
        if not self.clock.steps:
            return int(call(*arguments))
        code = int(call(handle, kind, seen if buffer is None else c_ulonglong(0), value_type, count, buffer))
        if code or buffer is None:
            return code
        taken = [(one.timeStamp, one.sampleValue.uiVal) for one in list(buffer)[: count._obj.value]]
        dated = [(self.clock.told_us(at_us), value) for at_us, value in taken]
        fresh = [one for one in dated if one[0] > plain(seen)]
        for place, (at_us, value) in enumerate(fresh):
            buffer[place].timeStamp, buffer[place].sampleValue.uiVal = at_us, value
        count._obj.value = len(fresh)
        return 0 if fresh else pynvml.NVML_ERROR_NOT_FOUND

    def _dated_shares(self, call: Callable[..., int | bytes], *arguments: Any) -> int:  # noqa: ANN401
        handle, buffer, count, seen = arguments
        ahead_us = sum(length_us for _, length_us in self.clock.steps)
        code = int(call(handle, buffer, count, c_ulonglong(max(0, plain(seen) - ahead_us))))
        for place in range(count._obj.value if not code and ahead_us else 0):
            buffer[place].timeStamp += ahead_us
        return code


class Unhurried(SamplerSettings):
    """May poll as seldom as it likes: a driver that refuses samples has no rings that would wrap."""

    def __post_init__(self) -> None:
        """Refuse nothing."""


class Stuck(Exception):  # noqa: N818  no error of the driver, and nobody but the rig knows it
    """A call on a GPU has hung for so long that a parent would have begun another probe without it."""


class Rig:
    """A sampler, its clock and the driver that it looks at; `run` gives what it yields.

    The text may carry faults; their times count from the rig's beginning. With `guarded` it does what the
    parent of a probe does: begins another one without a GPU that hangs, and takes it in when it answers.
    """

    def __init__(
        self,
        text: str,
        *refuse: str,
        happenings: Sequence[Happening] = (),
        interval_seconds: float = 10,
        poll_seconds: float = 1,
        guarded: bool = False,
        start_ms: int = START_MS,
        gpus_folder: Path = NOWHERE,
    ) -> None:
        self.text = text
        self.clock = BentClock(start_ms, happenings)
        self.refused = frozenset(refuse)
        kind = Unhurried if "samples" in refuse else SamplerSettings
        self.settings = kind(interval_seconds=interval_seconds, poll_seconds=poll_seconds)
        self.guarded = guarded
        self.gpus_folder = gpus_folder
        self.shunned: dict[int, Gpu | None] = {}
        self.begin()
        self.simulation = self.driver.simulation

    def begin(self) -> None:
        """Begin a probe, as a process of its own would be: with a library that nobody opened yet."""
        patience = HUNG_SECONDS if self.guarded else None
        self.driver = Driver(self.text, self.clock, self.refused, patience)
        self.nvml = Nvml()
        self.sampler = Sampler(
            self.nvml, self.clock, self.settings, "hall2-n017", self.shunned, gpus_folder=self.gpus_folder
        )
        self.stream = self.sampler.ticks()

    def run(self, seconds: float) -> list[Tick]:
        """Give the ticks of so much more time, up to the first that ends after it."""
        return list(self.live(seconds))

    def live(self, seconds: float) -> Iterator[Tick]:
        """Give the same ticks, each when it has ended."""
        until_ns = self.clock.monotonic_ns() + round(seconds * 1e9)
        while self.clock.monotonic_ns() < until_ns:
            yield self.tick()

    def tick(self) -> Tick:
        """Give the next tick."""
        for gpu in [gpu for gpu in self.shunned if not self.driver.hangs(gpu)]:
            del self.shunned[gpu]
            self.sampler.admit(gpu)
        try:
            return next(tick for tick in self.stream if tick is not None)
        except Stuck:
            stuck = [gpu for gpu in range(self.simulation.count) if self.driver.hangs(gpu)]
            self.shunned |= {gpu: self.simulation.gpu(gpu) for gpu in stuck}
            self.begin()
            return self.tick()

    def uuid(self, index: int) -> str:
        """Name a GPU."""
        return self.simulation.uuid(index)


def watched(driver: Driver) -> Any:  # noqa: ANN401  the first Device
    """Open NVML on a driver; give its first GPU."""
    nvml = Nvml()
    install(driver)
    nvml.open()
    return enumerate_devices(nvml, {})[0][0]


def of(tick: Tick, uuid: str) -> Reading:
    """Give the one reading of a GPU in a tick."""
    (reading,) = [one for one in tick.readings if one.uuid == uuid]
    return reading


def known(reading: Reading) -> set[str]:
    """Name the quantities that a reading tells."""
    return {name for name in QUANTITIES if getattr(reading, name) is not None}


def rows(reading: Reading) -> set[tuple[str, tuple[str, ...]]]:
    """Name the parts that a reading tells."""
    return {(part.quantity, part.labels) for part in reading.parts or ()}


def busy_seconds(readings: Sequence[Reading]) -> float:
    """Add up what readings say of busy time."""
    return seconds_of("busy_ratio", readings)


def seconds_of(name: str, readings: Sequence[Reading]) -> float:
    """Add up a share over the times of readings that tell it."""
    return sum((getattr(one, name) or 0.0) * (one.end_ms - one.start_ms) / 1000 for one in readings)


def refusals(ticks: Sequence[Tick]) -> Counter[tuple[str, str]]:
    """Count refusals by quantity and reason."""
    counts: Counter[tuple[str, str]] = Counter()
    for refusal in (one for tick in ticks for one in tick.refusals):
        counts[refusal.quantity, refusal.reason] += refusal.times
    return counts


def impossible(tick: Tick) -> Mapping[str, float]:
    """Name what lies outside of its bounds in a tick: nothing should."""
    found: dict[str, float] = {}

    def judge(name: str, value: float | None, bounds_of: str) -> None:
        least, most = BOUNDS[bounds_of]
        if value is not None and not least <= value <= most + ROUNDING:
            found[name] = value

    for reading in tick.readings:
        for name in QUANTITIES:
            judge(name, getattr(reading, name), name)
        for part in reading.parts or ():
            assert len(part.labels) == len(PARTS[part.quantity].labels)
            judge(f"{part.quantity} {part.labels}", part.value, part.quantity)
        for one in reading.slices or ():
            judge(f"{one.uuid} weight", one.weight_ratio, "busy_ratio")
            for name in SLICE_QUANTITIES:
                judge(f"{one.uuid} {name}", getattr(one, name), name)
        for process in reading.processes or ():
            judge(f"{process.pid} sm", process.sm_ratio, "busy_ratio")
            judge(f"{process.pid} memory", process.memory_used_bytes, "memory_used_bytes")
    return found
