"""The course of one GPU's accounts in one node: what each grew by between two moments, from looks at them.

All accounts of a GPU together grow by a second in each second from when it was enrolled. So their sum is a
clock: it tells up to when the GPU was accounted for at each look, to the millisecond, however late the look
was. Between two looks accounts grow evenly. Accounts that begin anew (a journal was lost) begin another
segment; what lies between is unknown.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from agent.tick import State
from reports.ledger import Account

SHRUNK = 0.5
"""An account that is less than before by more than that, in its unit, begins anew."""
Figures = Mapping[Account, float]


class Look(NamedTuple):
    """Accounts as they stood: seconds, joules, busy seconds. `end_ms` is up to when, at the latest."""

    end_ms: int
    seconds: Figures
    joules: Figures
    busy: Figures


class Growth(NamedTuple):
    """What accounts grew by, in ms, mJ and µs."""

    elapsed_ms: dict[Account, int]
    energy_mj: dict[Account, int]
    busy_us: dict[str, int]


@dataclass(slots=True)
class _Segment:
    """Looks between which no account began anew. `zero_ms` is when all of them were 0."""

    looks: list[Look] = field(default_factory=list)
    zero_ms: float = 0.0

    @property
    def clocks(self) -> list[int]:
        """Up to when the GPU was accounted for at each look."""
        return [round(self.zero_ms + _sum_ms(look.seconds)) for look in self.looks]


class Course:
    """The course of a GPU's accounts, from looks in order of time, at least one, none of them all 0.

    `enrolled_ms` is since when it has accounts, `begin_ms` and `end_ms` between what the looks tell of them;
    `is_whole` says that no account began anew.
    """

    def __init__(self, looks: Iterable[Look], from_ms: int) -> None:
        """`from_ms` is when the first look could have been."""
        segments = list(_segments(looks))
        self._points = list(_points(segments, from_ms))
        self.enrolled_ms = round(segments[0].zero_ms)
        self.is_whole = len(segments) == 1
        self.begin_ms = self._points[0].at_ms
        self.end_ms = self._points[-1].at_ms

    @property
    def latest(self) -> Figures:
        """All seconds that were ever entered in accounts that are still told."""
        return self._points[-1].look.seconds

    def growth(self, from_ms: int, to_ms: int) -> Growth:
        """Tell what accounts grew by in a time; before the first look, all of it is unknown."""
        total = Growth({}, {}, {})
        if from_ms < self.begin_ms:
            total.elapsed_ms[_UNKNOWN] = min(self.begin_ms, to_ms) - from_ms
        for one, other in pairwise(self._points):
            start_ms, end_ms = max(one.at_ms, from_ms), min(other.at_ms, to_ms)
            if start_ms < end_ms:
                _add(total, one, other, start_ms, end_ms)
        return total


class _Point(NamedTuple):
    """How accounts stood at a moment; `joined` says that they grew to this from the point before."""

    at_ms: int
    look: Look
    joined: bool


_NOTHING = Look(0, {}, {}, {})
_UNKNOWN = Account(State.UNKNOWN, "")


def _sum_ms(figures: Figures) -> float:
    return sum(figures.values()) * 1000


def _segments(looks: Iterable[Look]) -> Iterator[_Segment]:
    now = _Segment()
    for look in looks:
        if now.looks and _began_anew(now.looks[-1].seconds, look.seconds):
            yield now
            now = _Segment()
        if now.looks:  # accounts that are silent for long leave the page; they do not change
            before = now.looks[-1]
            look = Look(  # noqa: PLW2901
                look.end_ms,
                {**before.seconds, **look.seconds},
                {**before.joules, **look.joules},
                {**before.busy, **look.busy},
            )
        zero_ms = look.end_ms - _sum_ms(look.seconds)
        now.zero_ms = min(now.zero_ms, zero_ms) if now.looks else zero_ms
        now.looks.append(look)
    if now.looks:
        yield now


def _began_anew(before: Figures, after: Figures) -> bool:
    return any(after.get(account, value) < value - SHRUNK for account, value in before.items())


def _points(segments: Iterable[_Segment], from_ms: int) -> Iterator[_Point]:
    """Join segments to one line of points, none earlier than the one before."""
    upto_ms = from_ms
    is_first = True
    for segment in segments:
        joined = round(segment.zero_ms) >= upto_ms
        if joined:
            upto_ms = round(segment.zero_ms)
            yield _Point(upto_ms, _NOTHING, joined=False)
        elif is_first:
            upto_ms = segment.clocks[0]
        for clock_ms, look in zip(segment.clocks, segment.looks, strict=True):
            if not joined or clock_ms > upto_ms:
                upto_ms = max(clock_ms, upto_ms)
                yield _Point(upto_ms, look, joined=joined)
            joined = True
        is_first = False


def _add(total: Growth, one: _Point, other: _Point, start_ms: int, end_ms: int) -> None:
    """Add what lies between two points, within a time."""
    if not other.joined:
        total.elapsed_ms[_UNKNOWN] = total.elapsed_ms.get(_UNKNOWN, 0) + end_ms - start_ms
        return
    part = (end_ms - start_ms) / (other.at_ms - one.at_ms)
    seconds = _grown(one.look.seconds, other.look.seconds, part * 1000)
    for account, elapsed_ms in _exact(seconds, end_ms - start_ms).items():
        total.elapsed_ms[account] = total.elapsed_ms.get(account, 0) + elapsed_ms
    for account, millijoules in _grown(one.look.joules, other.look.joules, part * 1000).items():
        total.energy_mj[account] = total.energy_mj.get(account, 0) + round(millijoules)
    for account, micros in _grown(one.look.busy, other.look.busy, part * 1e6).items():
        total.busy_us[account.owner] = total.busy_us.get(account.owner, 0) + round(micros)


def _grown(before: Figures, after: Figures, factor: float) -> dict[Account, float]:
    grown = ((account, value - before.get(account, 0.0)) for account, value in after.items())
    return {account: more * factor for account, more in grown if more > 0}


def _exact(parts: Mapping[Account, float], whole: int) -> dict[Account, int]:
    """Round parts so that they sum to the whole, if they nearly do; the largest takes what is left over."""
    rounded = {account: round(part) for account, part in parts.items()}
    left = whole - sum(rounded.values())
    if rounded and abs(left) <= len(rounded):
        rounded[max(rounded, key=lambda account: rounded[account])] += left
    return {account: part for account, part in rounded.items() if part}
