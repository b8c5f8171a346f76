"""Exact integrals of what a simulated GPU does.

Times and busy times are whole microseconds, power is in milliwatts and so energy in nanojoules: all sums are
integers, and a difference of two counters years after the start is as exact as at the first moment. Answers
depend on nothing but the moment: any can be asked for, in any order.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp
from typing import NamedTuple

from agent.simulated.work import NO_WORK, Work
from agent.tick import Process

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
WEEK_US = 168 * HOUR_US

EPOCH_US = 1_672_617_600 * SECOND_US
"""Monday 2 January 2023, 00:00 UTC: cycles and counters start here, and nothing happens before."""

WARMING_SECONDS = 75.0
"""Time in which a GPU comes 63 % nearer to the temperature of what it now does."""

REASONS = ("power_cap", "sync_boost", "sw_thermal", "hw_thermal", "power_brake", "reliability")


def scatter(*numbers: int) -> int:
    """Hash numbers to 64 bits that look random and are the same in every process."""
    mixed = 0
    for number in numbers:
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Spans [start, end) of being on, in ascending order, repeated with a period for ever."""

    period_us: int
    starts: "array[int]"
    ends: "array[int]"
    before: "array[int]"
    on_us: int
    offset_us: int = 0

    def shifted(self, offset_us: int) -> "Pattern":
        """Return the same pattern, begun so much later in its cycle."""
        return replace(self, offset_us=(self.offset_us + offset_us) % self.period_us)

    def on_for(self, elapsed_us: int) -> int:
        """Tell for how long the pattern was on in the first so many microseconds."""
        return self._since_cycle(self.offset_us + elapsed_us) - self._since_cycle(self.offset_us)

    def is_on(self, elapsed_us: int) -> bool:
        """Tell whether the pattern is on at that moment."""
        rest = (self.offset_us + elapsed_us) % self.period_us
        nearest = bisect_right(self.starts, rest) - 1
        return nearest >= 0 and rest < self.ends[nearest]

    def _since_cycle(self, at_us: int) -> int:
        rounds, rest = divmod(at_us, self.period_us)
        nearest = bisect_right(self.starts, rest) - 1
        if nearest < 0:
            return rounds * self.on_us
        now = min(rest, self.ends[nearest]) - self.starts[nearest]
        return rounds * self.on_us + self.before[nearest] + now


def pattern(period_us: int, spans: Iterable[tuple[int, int]]) -> Pattern:
    """Make a pattern of ascending spans that do not overlap and lie within the period."""
    starts, ends, before = array("q"), array("q"), array("q")
    total = 0
    for start, end in spans:
        starts.append(start)
        ends.append(end)
        before.append(total)
        total += end - start
    return Pattern(period_us=period_us, starts=starts, ends=ends, before=before, on_us=total)


NEVER = pattern(SECOND_US, ())


class SimProcess(NamedTuple):
    """A process that is not there, but that the simulated driver lists."""

    pid: int
    user: str
    command: str
    memory_bytes: int


class Counters(NamedTuple):
    """Sums since the epoch; the last six are times with clocks lowered, in the order of `REASONS`."""

    busy_us: int
    energy_nj: int
    memory_byte_us: int
    power_cap_us: int
    sync_boost_us: int
    sw_thermal_us: int
    hw_thermal_us: int
    power_brake_us: int
    reliability_us: int


FIRST_REASON = Counters._fields.index("power_cap_us")


class Given(NamedTuple):
    """A job that a scheduler gave a GPU to, whether it runs anything or not."""

    name: str
    user: str
    account: str
    partition: str
    qos: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What a GPU does from `start_us` of its cycle until the next phase; `celsius` is where it is heading.

    `clock_percent` is how much of the clock at work is left where a fault lowers it.
    """

    start_us: int
    busy: Pattern = NEVER
    work: Work = NO_WORK
    throttles: tuple[tuple[str, Pattern], ...] = ()
    idle_milliwatts: int = 0
    active_milliwatts: int = 0
    celsius: float
    processes: tuple[SimProcess, ...] = ()
    listed: tuple[Process, ...] = ()
    memory_bytes: int = 0
    lost: bool = False
    given: Given | None = None
    clock_percent: int | None = None

    def grown(self, elapsed_us: int) -> list[int]:
        """Tell by how much each counter grew in the first so many microseconds."""
        busy_us = self.busy.on_for(elapsed_us)
        energy_nj = self.idle_milliwatts * elapsed_us + self.active_milliwatts * busy_us
        sums = [busy_us, energy_nj, self.memory_bytes * elapsed_us, 0, 0, 0, 0, 0, 0]
        for reason, lowered in self.throttles:
            sums[FIRST_REASON + REASONS.index(reason)] = lowered.on_for(elapsed_us)
        return sums

    def worked(self, elapsed_us: int) -> list[int]:
        """Tell by how much each sum of work grew in the first so many microseconds."""
        busy_us = self.busy.on_for(elapsed_us)
        return [rate * busy_us for rate in self.work]


class Place(NamedTuple):
    """Where in a timeline a moment lies."""

    rounds: int
    number: int
    elapsed_us: int


class Timeline:
    """The phases of one GPU, repeated with a period for ever; the first one starts at 0."""

    def __init__(self, period_us: int, phases: Sequence[Phase]) -> None:
        self.period_us = period_us
        self.phases = tuple(phases)
        self._starts = [phase.start_us for phase in phases]
        self._lengths = [
            end - start for start, end in zip(self._starts, [*self._starts[1:], period_us], strict=True)
        ]
        self._before, self._cycle = _running([Phase.grown(*both) for both in self._spans()])
        self._work_before, self._work_cycle = _running([Phase.worked(*both) for both in self._spans()])
        self._warm = self._start_temperatures()
        # The end of one interval is the start of the next: the latest answers are often asked for again.
        self._counters = lru_cache(maxsize=4)(self._count)
        self._work = lru_cache(maxsize=4)(self._count_work)
        self._celsius = lru_cache(maxsize=4)(self._warmth)

    def place(self, at_us: int) -> Place:
        """Find the phase of a moment."""
        rounds, into = divmod(max(0, at_us - EPOCH_US), self.period_us)
        number = bisect_right(self._starts, into) - 1
        return Place(rounds, number, into - self._starts[number])

    def phase(self, at_us: int) -> Phase:
        """Return what the GPU does at a moment."""
        return self.phases[self.place(at_us).number]

    def now(self, at_us: int) -> tuple[Phase, int]:
        """Return what the GPU does at a moment, and since how many microseconds."""
        _, number, elapsed_us = self.place(at_us)
        return self.phases[number], elapsed_us

    def between(self, start_us: int, end_us: int) -> list[Phase]:
        """Return the phases that the interval [start, end) touches, each once."""
        first, last = self.place(start_us), self.place(max(start_us, end_us - 1))
        steps = (last.rounds - first.rounds) * len(self.phases) + last.number - first.number
        numbers = range(first.number, first.number + min(steps + 1, len(self.phases)))
        return [self.phases[number % len(self.phases)] for number in numbers]

    def counters(self, at_us: int) -> Counters:
        """Return all sums from the epoch to a moment."""
        return self._counters(at_us)

    def work(self, at_us: int) -> Work:
        """Return the sums of all work from the epoch to a moment."""
        return self._work(at_us)

    def celsius(self, at_us: int) -> float:
        """Return the core temperature at a moment: it nears the phase's own exponentially."""
        return self._celsius(at_us)

    def _count(self, at_us: int) -> Counters:
        rounds, number, elapsed_us = self.place(at_us)
        grown = self.phases[number].grown(elapsed_us)
        rows = zip(self._cycle, self._before[number], grown, strict=True)
        return Counters._make([rounds * cycle + before + now for cycle, before, now in rows])

    def _count_work(self, at_us: int) -> Work:
        rounds, number, elapsed_us = self.place(at_us)
        phase = self.phases[number]
        busy_us = phase.busy.on_for(elapsed_us)
        rows = zip(self._work_cycle, self._work_before[number], phase.work, strict=True)
        return Work._make([rounds * cycle + before + rate * busy_us for cycle, before, rate in rows])

    def _warmth(self, at_us: int) -> float:
        _, number, elapsed_us = self.place(at_us)
        return nearing(self._warm[number], self.phases[number].celsius, elapsed_us)

    def _spans(self) -> Iterable[tuple[Phase, int]]:
        return zip(self.phases, self._lengths, strict=True)

    def _start_temperatures(self) -> list[float]:
        """Follow the cycle twice, since its end is where it begins again."""
        warm = [0.0] * len(self.phases)
        now = self.phases[-1].celsius
        for number in [*range(len(self.phases))] * 2:
            warm[number] = now
            now = nearing(now, self.phases[number].celsius, self._lengths[number])
        return warm


def _running(grown: Iterable[list[int]]) -> tuple[list[list[int]], list[int]]:
    """Add up what each phase adds: the sums before each of them, and after all."""
    before: list[list[int]] = []
    sums: list[int] | None = None
    for growth in grown:
        sums = sums or [0] * len(growth)
        before.append(sums)
        sums = [old + new for old, new in zip(sums, growth, strict=True)]
    return before, sums or []


def nearing(start: float, goal: float, elapsed_us: int) -> float:
    """Return how warm something is that was at `start` and has been heading for `goal` for so long."""
    return goal + (start - goal) * exp(-elapsed_us / (WARMING_SECONDS * SECOND_US))
