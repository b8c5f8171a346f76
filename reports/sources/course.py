"""The course of one GPU's accounts in one node: what each grew by between two moments, from looks at them.

All accounts of a GPU together grow by a second in each second from when it was enrolled. So their sum is a
clock: it tells up to when the GPU was accounted for at each look, to the millisecond, however late the look
was. Between two looks accounts grow evenly. What breaks the clock is told in reports/sources/segments.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from agent.tick import State
from reports.sources.ledger import Account
from reports.sources.segments import Figures, Look, Segment, segments_of

__all__ = ["Course", "Figures", "Growth", "Look"]


class Growth(NamedTuple):
    """What accounts grew by, in ms, mJ and µs."""

    elapsed_ms: dict[Account, int]
    energy_mj: dict[Account, int]
    busy_us: dict[str, int]


class Course:
    """The course of a GPU's accounts, from looks in order of time, at least one, none of them all 0.

    `enrolled_ms` is since when it has accounts, `begin_ms` and `end_ms` between what the looks tell of them;
    `stays` are the times from its enrolment to its end in which it was in the node; `breaks` are the ends of
    looks after which accounts began anew; `is_whole` says that nothing broke the clock.
    """

    def __init__(self, looks: Iterable[Look], from_ms: int) -> None:
        """`from_ms` is when the first look could have been."""
        segments = segments_of(looks)
        self._points = list(_points(segments, from_ms))
        self.enrolled_ms = round(segments[0].zero_ms)
        self.breaks = tuple(
            one.looks[-1].end_ms for one, other in pairwise(segments) if other.returned is None
        )
        self.is_whole = len(segments) == 1
        self.begin_ms = self._points[0].at_ms
        self.end_ms = self._points[-1].at_ms
        self.stays = tuple(self._stays())

    def _stays(self) -> Iterator[tuple[int, int]]:
        begin_ms = self.enrolled_ms
        for one, other in pairwise(self._points):
            if other.kind == "returned":
                yield begin_ms, one.at_ms
                begin_ms = other.at_ms
        yield begin_ms, self.end_ms

    def stays_within(self, from_ms: int, to_ms: int) -> list[tuple[int, int]]:
        """Give the stays as far as they are in a time."""
        cut = ((max(first, from_ms), min(last, to_ms)) for first, last in self.stays)
        return [(first, last) for first, last in cut if first < last]

    @property
    def latest(self) -> Figures:
        """All seconds that were ever entered in accounts that are still told."""
        return self._points[-1].look.seconds

    def growth(self, from_ms: int, to_ms: int) -> Growth:
        """Tell what accounts grew by in a time; before the first look, all of it is unknown."""
        total = Growth({}, {}, {})
        if from_ms < self.begin_ms:
            _unknown(total, min(self.begin_ms, to_ms) - max(from_ms, min(self.enrolled_ms, self.begin_ms)))
        for one, other in pairwise(self._points):
            start_ms, end_ms = max(one.at_ms, from_ms), min(other.at_ms, to_ms)
            if start_ms < end_ms:
                _add(total, one, other, start_ms, end_ms)
        return total


class _Point(NamedTuple):
    """How accounts stood at a moment.

    `kind` says how that came from the point before: they grew to this, nobody knows (anew), or the GPU was
    away and returned.
    """

    at_ms: int
    look: Look
    kind: str


_NOTHING = Look(0, {}, {}, {})
_UNKNOWN = Account(State.UNKNOWN, "")


def _points(segments: Iterable[Segment], from_ms: int) -> Iterator[_Point]:
    """Join segments to one line of points, none earlier than the one before."""
    upto_ms = from_ms
    is_first = True
    for segment in segments:
        kind = "anew"
        if segment.returned is not None:
            upto_ms = max(upto_ms, segment.clock_ms(segment.returned))
            yield _Point(upto_ms, segment.returned, "returned")
            kind = "grown"
        elif round(segment.zero_ms) >= upto_ms:
            upto_ms = round(segment.zero_ms)
            yield _Point(upto_ms, _NOTHING, "anew")
            kind = "grown"
        elif is_first:
            upto_ms = segment.clock_ms(segment.looks[0])
        for look in segment.looks:
            clock_ms = segment.clock_ms(look)
            if kind == "anew" or clock_ms > upto_ms:
                upto_ms = max(clock_ms, upto_ms)
                yield _Point(upto_ms, look, kind)
            kind = "grown"
        is_first = False


def _add(total: Growth, one: _Point, other: _Point, start_ms: int, end_ms: int) -> None:
    """Add what lies between two points, within a time: parts of a time add up to the whole of it."""
    if other.kind == "returned":
        return
    grown = _grown(one.look.seconds, other.look.seconds)
    weights = [round(more * 1000) for more in grown.values()]
    if other.kind == "anew" or not any(weights):
        _unknown(total, end_ms - start_ms)
        return
    upto, before = _first(end_ms - one.at_ms, weights), _first(start_ms - one.at_ms, weights)
    most_us: Counter[str] = Counter()
    for account, weight, most, less in zip(grown, weights, upto, before, strict=True):
        most_us[account.owner] += weight * 1000
        if most > less:
            total.elapsed_ms[account] = total.elapsed_ms.get(account, 0) + most - less
    length_ms = other.at_ms - one.at_ms

    def within(amount: float) -> int:
        return round(amount * (end_ms - one.at_ms) / length_ms) - round(
            amount * (start_ms - one.at_ms) / length_ms
        )

    for account, joules in _grown(one.look.joules, other.look.joules).items():
        total.energy_mj[account] = total.energy_mj.get(account, 0) + within(joules * 1000)
    for account, seconds in _grown(one.look.busy, other.look.busy).items():
        total.busy_us[account.owner] = total.busy_us.get(account.owner, 0) + within(
            min(seconds * 1e6, most_us[account.owner])
        )


def _first(elapsed_ms: int, weights: Sequence[int]) -> list[int]:
    """Hand out the first ms of a time, one by one, by weight: no part of it ever shrinks as time goes on."""
    whole = sum(weights)
    parts = [elapsed_ms * weight // whole for weight in weights]
    for _ in range(elapsed_ms - sum(parts)):
        next_one = min(
            (place for place, weight in enumerate(weights) if weight),
            key=lambda place: Fraction(parts[place] + 1, weights[place]),
        )
        parts[next_one] += 1
    return parts


def _unknown(total: Growth, elapsed_ms: int) -> None:
    if elapsed_ms > 0:
        total.elapsed_ms[_UNKNOWN] = total.elapsed_ms.get(_UNKNOWN, 0) + elapsed_ms


def _grown(before: Figures, after: Figures) -> dict[Account, float]:
    grown = ((account, value - before.get(account, 0.0)) for account, value in after.items())
    return {account: more for account, more in grown if more > 0}
