"""What a GPU does by turns: one timeline until a moment, then another. Sums go on across the change."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from agent.simulated.phases import Counters, Phase, Timeline, nearing
from agent.simulated.work import Work


class History(Protocol):
    """What a GPU does over all time, and the sums of it."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All that it ever does."""

    def phase(self, at_us: int) -> Phase:
        """Return what the GPU does at a moment."""

    def now(self, at_us: int) -> tuple[Phase, int]:
        """Return what the GPU does at a moment, and since how many microseconds."""

    def between(self, start_us: int, end_us: int) -> list[Phase]:
        """Return the phases that the interval [start, end) touches."""

    def counters(self, at_us: int) -> Counters:
        """Return all sums from the epoch to a moment."""

    def work(self, at_us: int) -> Work:
        """Return the sums of all work from the epoch to a moment."""

    def celsius(self, at_us: int) -> float:
        """Return the core temperature at a moment."""


class Turns:
    """Timelines, each from a moment on; the first from 0."""

    def __init__(self, turns: Sequence[tuple[int, Timeline]]) -> None:
        self._starts = [start_us for start_us, _ in turns]
        self._lines = [line for _, line in turns]
        self._ahead: list[list[int]] = []
        self._work_ahead: list[list[int]] = []
        self._warmer = [0.0]
        for number, (start_us, line) in enumerate(turns):
            earlier = self._lines[number - 1] if number else line
            sums, work = earlier.counters(start_us), earlier.work(start_us)
            self._ahead.append(_more(self._ahead, sums, line.counters(start_us)))
            self._work_ahead.append(_more(self._work_ahead, work, line.work(start_us)))
            if number:
                before = self._celsius(number - 1, start_us)
                self._warmer.append(before - line.celsius(start_us))

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All that the GPU ever does."""
        return tuple(phase for line in dict.fromkeys(self._lines) for phase in line.phases)

    def phase(self, at_us: int) -> Phase:
        """Return what the GPU does at a moment."""
        return self._lines[self._turn(at_us)].phase(at_us)

    def now(self, at_us: int) -> tuple[Phase, int]:
        """Return what the GPU does at a moment, and since how many microseconds of its phase."""
        return self._lines[self._turn(at_us)].now(at_us)

    def between(self, start_us: int, end_us: int) -> list[Phase]:
        """Return the phases that the interval [start, end) touches, in order."""
        first, last = self._turn(start_us), self._turn(max(start_us, end_us - 1))
        ends = [*self._starts[first + 1 : last + 1], end_us]
        return [
            phase
            for number, until_us in enumerate(ends, first)
            for phase in self._lines[number].between(max(start_us, self._starts[number]), until_us)
        ]

    def counters(self, at_us: int) -> Counters:
        """Return all sums from the epoch to a moment."""
        number = self._turn(at_us)
        own = self._lines[number].counters(at_us)
        return Counters._make(map(sum, zip(own, self._ahead[number], strict=True)))

    def work(self, at_us: int) -> Work:
        """Return the sums of all work from the epoch to a moment."""
        number = self._turn(at_us)
        own = self._lines[number].work(at_us)
        return Work._make(map(sum, zip(own, self._work_ahead[number], strict=True)))

    def celsius(self, at_us: int) -> float:
        """Return the core temperature at a moment: what was warmer before cools down to what is now done."""
        return self._celsius(self._turn(at_us), at_us)

    def _celsius(self, number: int, at_us: int) -> float:
        left = nearing(self._warmer[number], 0.0, at_us - self._starts[number])
        return self._lines[number].celsius(at_us) + left

    def _turn(self, at_us: int) -> int:
        return max(0, bisect_right(self._starts, at_us) - 1)


def _more(ahead: Sequence[Sequence[int]], before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Tell by how much sums are above those of a turn: what the turn before was, and what differs."""
    earlier = ahead[-1] if ahead else [0] * len(before)
    return [more + old - new for more, old, new in zip(earlier, before, after, strict=True)]
