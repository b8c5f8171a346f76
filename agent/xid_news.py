"""What is said about XIDs, as events: the first of an error at once, its repeats once a minute as a sum.

A minute begins with the first XID after the last one ended. In it, at most so many events tell of a first
XID, per GPU and for the node; what is over that is summed up. Critical ones have room of their own, so
that a storm of harmless ones hides none.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.tick import Event
from agent.xid_bursts import Burst
from agent.xid_catalogue import BY_TEXT, FOLLOWERS, HARDWARE, XidMeaning, follows, meaning_of, rank_of

MINUTE_MS = 60_000
NEAR_MS = 60_000
QUIET_MS = 60_000
GPU_EVENTS = 10
NODE_EVENTS = 30
CRITICAL_GPU_EVENTS = 3
CRITICAL_NODE_EVENTS = 10
"""How many of those are for critical ones only."""

SUM_EVENTS = 8
_NAMED_NUMBERS = 5
_NAMED_CRITICAL = 12
_OF_NODE = ""
_PARENT = re.compile(r"\bprevious Xid (\d{1,9})\b", re.IGNORECASE)


class Place(NamedTuple):
    """The GPU that an XID is of: its UUID, or where it sits if nobody knows that."""

    uuid: str
    pci_bus: str = ""


@dataclass(slots=True)
class _Run:
    """An error that comes again and again: when it came last, and the gravest severity told of it."""

    last_ms: int
    rank: int


@dataclass(slots=True, kw_only=True)
class _First:
    at_ms: int
    place: Place
    number: int
    text: str
    parent: int | None
    earlier: tuple[int, ...]

    def meaning(self) -> XidMeaning:
        meaning = meaning_of(self.number, self.text)
        return meaning if self.parent is None else meaning._replace(severity="information")


@dataclass(slots=True)
class _Minute:
    """What is said and what is kept for the sum."""

    began_ms: int
    told: Counter[Place] = field(default_factory=Counter)
    repeats: dict[Place, Counter[int]] = field(default_factory=dict)
    over: set[tuple[Place, int]] = field(default_factory=set)
    over_critical: set[int] = field(default_factory=set)


class News:
    """Takes bursts and makes events of them; see the module."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._runs: dict[Place, dict[int, _Run]] = {}
        self._firsts: list[_First] = []
        self._bare: dict[tuple[Place, int], _First] = {}  # those of them without a text yet
        self._minute: _Minute | None = None

    def note(self, place: Place, number: int, burst: Burst, new: int) -> None:
        """Take a burst of which so many occurrences were not known yet; the rest the other source told."""
        runs = self._runs.setdefault(place, {})
        run = runs.get(number)
        rank = rank_of(meaning_of(number, burst.text).severity)
        fresh = run is None or abs(burst.at_ms - run.last_ms) >= QUIET_MS
        completed = self._completed(place, number, burst)
        if run is None or fresh:
            if new == 0:
                return  # what it repeats is forgotten
            first = not completed
            runs[number] = _Run(burst.last_ms, rank)
        else:
            first = not completed and number in BY_TEXT and rank < run.rank
            run.last_ms = max(run.last_ms, burst.last_ms)
            run.rank = min(run.rank, rank)
        if first:
            self._begin(place, number, burst)
        self._count(place, number, new - first, burst.at_ms)

    def events(self, now_ms: int) -> list[Event]:
        """Give what is to be said now of the bursts noted."""
        said = self._said()
        minute = self._minute
        if minute is not None and not 0 <= now_ms - minute.began_ms < MINUTE_MS:
            said += self._sums(now_ms, minute)
            self._end_minute(now_ms)
        return sorted(said, key=lambda event: event.at_ms)

    def flush(self, now_ms: int) -> list[Event]:
        """Give all that is still unsaid, without waiting for the minute to end."""
        said = self._said()
        if self._minute is not None:
            said += self._sums(now_ms, self._minute)
        self._end_minute(now_ms)
        return said

    def _end_minute(self, now_ms: int) -> None:
        self._minute = None
        for place, runs in list(self._runs.items()):
            for number in [n for n, run in runs.items() if abs(now_ms - run.last_ms) > 2 * QUIET_MS]:
                del runs[number]
            if not runs:
                del self._runs[place]

    def _completed(self, place: Place, number: int, burst: Burst) -> bool:
        """Add the text of one source to what the other source told without any, if it is not said yet."""
        if not burst.text or (place, number) not in self._bare:
            return False
        first = self._bare.pop((place, number))
        first.text = burst.text
        first.parent = self._parent(place, number, burst.at_ms, burst.text)
        return True

    def _begin(self, place: Place, number: int, burst: Burst) -> None:
        near = self._near(place, burst.at_ms) if number in HARDWARE else ()
        first = _First(
            at_ms=burst.at_ms,
            place=place,
            number=number,
            text=burst.text,
            parent=self._parent(place, number, burst.at_ms, burst.text),
            earlier=tuple(sorted(other for other in near if follows(other, number))),
        )
        self._firsts.append(first)
        if not first.text:
            self._bare[place, number] = first

    def _count(self, place: Place, number: int, repeats: int, at_ms: int) -> None:
        if self._minute is None:
            self._minute = _Minute(at_ms)
        if repeats > 0:
            self._minute.repeats.setdefault(place, Counter())[number] += repeats

    def _near(self, place: Place, at_ms: int) -> list[int]:
        """Give the numbers that came to a GPU near a moment, the nearest first."""
        runs = self._runs.get(place, {})
        near = [(abs(run.last_ms - at_ms), number) for number, run in runs.items()]
        return [number for distance_ms, number in sorted(near) if distance_ms <= NEAR_MS]

    def _parent(self, place: Place, number: int, at_ms: int, text: str) -> int | None:
        """Give the XID that a follower belongs to: the driver's word, else the nearest, hardware first."""
        if number not in FOLLOWERS:
            return None
        told = _PARENT.search(text)
        if told:
            return int(told[1])
        parents = [other for other in self._near(place, at_ms) if follows(number, other)]
        hardware = [other for other in parents if other in HARDWARE]
        return next(iter(hardware or parents), None)

    def _said(self) -> list[Event]:
        firsts, self._firsts = self._firsts, []
        self._bare.clear()
        for first in firsts:
            if first.parent is None:  # its cause may have come after it
                first.parent = self._parent(first.place, first.number, first.at_ms, first.text)
        firsts.sort(key=lambda first: (rank_of(first.meaning().severity), first.at_ms))
        return [
            self._event(first.at_ms, first.place, _sentence(first)) for first in firsts if self._may(first)
        ]

    def _may(self, first: _First) -> bool:
        """Say whether an event is within what a minute allows, and count it."""
        minute = self._minute
        if minute is None:
            return True
        critical = rank_of(first.meaning().severity) == 0
        gpu_events = GPU_EVENTS if critical else GPU_EVENTS - CRITICAL_GPU_EVENTS
        node_events = NODE_EVENTS if critical else NODE_EVENTS - CRITICAL_NODE_EVENTS
        if minute.told[first.place] < gpu_events and minute.told.total() < node_events:
            minute.told[first.place] += 1
            return True
        minute.over.add((first.place, first.number))
        if critical:
            minute.over_critical.add(first.number)
        return False

    def _sums(self, now_ms: int, minute: _Minute) -> list[Event]:
        spell = f"in {_spaced(max(1, round(abs(now_ms - minute.began_ms) / 1000)))} s"
        ranked = sorted(minute.repeats.items(), key=lambda item: -item[1].total())
        said = [
            self._event(now_ms, place, f"{_more(numbers)} {spell}") for place, numbers in ranked[:SUM_EVENTS]
        ]
        rest = ranked[SUM_EVENTS:]
        if rest:
            times = _spaced(sum(numbers.total() for _, numbers in rest))
            said.append(
                self._event(now_ms, None, f"XIDs came {times} more times on {_gpus(len(rest))} {spell}")
            )
        if minute.over:
            gpus = _gpus(len({place for place, _ in minute.over}))
            text = f"{_spaced(len(minute.over))} further XID{'s' * (len(minute.over) > 1)} on {gpus} {spell}"
            grave = ", ".join(map(str, sorted(minute.over_critical)[:_NAMED_CRITICAL]))
            said.append(self._event(now_ms, None, f"{text}; critical: {grave}" if grave else text))
        return said

    def _event(self, at_ms: int, place: Place | None, text: str) -> Event:
        if place is not None and not place.uuid:
            text += f" (GPU at {place.pci_bus})" if place.pci_bus else " (GPU unknown)"
        uuid = _OF_NODE if place is None else place.uuid
        return Event(at_ms=at_ms, node=self._node, kind="xid", text=text, uuid=uuid)


def _sentence(first: _First) -> str:
    meaning = first.meaning()
    parts = [f"XID {first.number}: {meaning.meaning}", meaning.severity]
    parts.append(meaning.action if first.parent is None else f"belongs to XID {first.parent}")
    if first.earlier:
        verb = "belongs" if len(first.earlier) == 1 else "belong"
        parts.append(f"XID {', '.join(map(str, first.earlier))} before it {verb} to it")
    return "; ".join([*parts, first.text] if first.text else parts)


def _more(numbers: Counter[int]) -> str:
    named = numbers.most_common(_NAMED_NUMBERS)
    (number, times), *others = named
    parts = [f"XID {number} came {_times(times)}"]
    parts += [f"XID {number} {_times(times)}" for number, times in others]
    unnamed = len(numbers) - len(named)
    if unnamed:
        times = numbers.total() - sum(times for _, times in named)
        parts.append(f"{unnamed} {'other' if unnamed == 1 else 'others'} {_times(times)}")
    return ", ".join(parts)


def _times(times: int) -> str:
    return "once more" if times == 1 else f"{_spaced(times)} more times"


def _gpus(number: int) -> str:
    return "1 GPU" if number == 1 else f"{number} GPUs"


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")
