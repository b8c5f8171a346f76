"""What GPUs did within an hour besides their accounts: extremes, time with lowered clocks, what heat cost.

A reading adds to the hour in which its interval began. Counters of lowered clocks go on over time in which
nobody looked; what they grew by then is shared out among its hours. What no device told is None, never 0.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from operator import attrgetter
from typing import Literal, NamedTuple

from agent.lifelong import Row
from agent.tally import HOUR_MS, Timeline, apportion
from agent.tenures import THROTTLES
from agent.tick import Condition, Reading, Tick

Merge = Literal["max", "min", "sum"]

THROTTLE_COLUMNS: Mapping[str, str] = {
    reason: f"throttle_{reason}_ms" for reason in dict.fromkeys(THROTTLES.values())
}
"""The column of each reason for lowered clocks; reasons overlap."""
FIGURES: Mapping[str, Merge] = {
    "temperature_max_celsius": "max",
    "margin_least_celsius": "min",
    "memory_max_bytes": "max",
    "power_max_watts": "max",
    "heat_lost_ms": "sum",
    **dict.fromkeys(THROTTLE_COLUMNS.values(), "sum"),
}
"""The columns of an hour, and how two values of one hour become one."""

_COUNTERS = tuple(THROTTLES)
_totals_of = attrgetter(*_COUNTERS)
_THERMAL = tuple(_COUNTERS.index(f"throttle_{one}_seconds_total") for one in ("sw_thermal", "hw_thermal"))
_gauges_of = attrgetter(
    *("temperature_max_celsius", "temperature_celsius", "temperature_margin_celsius"),
    *("memory_used_max_bytes", "memory_used_bytes", "power_max_watts", "power_watts"),
)
_NO_GAUGES = (None,) * 4
_NO_COUNTERS: tuple[None, ...] = (None,) * len(_COUNTERS)

Amounts = tuple[int | None, ...]
"""Milliseconds with lowered clocks, in the order of THROTTLES."""


class GpuHour(NamedTuple):
    """What is to be merged into an hour of a GPU; `figures` are in the order of FIGURES."""

    hour_ms: int
    uuid: str
    figures: tuple[float | None, ...]


class Hourly(NamedTuple):
    """What an interval adds to the hours of a node. `xids` are by hour, UUID and number."""

    gpus: tuple[GpuHour, ...] = ()
    xids: Mapping[tuple[int, str, int], int] = {}


class _Told(NamedTuple):
    """What a GPU's counters were, when, and what an interval adds in which none of them grew."""

    end_ms: int
    totals: tuple[float | None, ...]
    nothing: Amounts


class Hours:
    """Makes hourly figures of readings whose counters go on over resets."""

    def __init__(self, counters: Iterable[Row] = (), timelines: Mapping[str, Timeline] | None = None) -> None:
        """Go on from what the journal holds of a restarted agent."""
        known: dict[str, dict[str, float]] = {}
        for row in counters:
            known.setdefault(row.uuid, {})[row.name] = row.chain.total
        self._told: dict[str, _Told] = {}
        for uuid, line in (timelines or {}).items():
            totals = tuple(map(known.get(uuid, {}).get, _COUNTERS))
            if totals != _NO_COUNTERS:
                self._told[uuid] = _Told(line.until_ms, totals, _nothing(totals))

    def take(self, tick: Tick) -> tuple[GpuHour, ...]:
        """Give what the readings of an interval add, without what says nothing."""
        found: list[GpuHour] = []
        for reading in tick.readings:
            if reading.condition is not Condition.OK:
                continue
            gauges = _gauges(reading)
            hour_ms = reading.start_ms // HOUR_MS * HOUR_MS
            lowered, since_ms = self._lowered(reading)
            if since_ms < reading.start_ms and any(lowered):
                found += _shared_out(reading.uuid, (since_ms, reading.end_ms), lowered)
                lowered, lost_ms = _NO_COUNTERS, None
            else:
                lost_ms = _heat_lost_ms(reading, lowered)
            if gauges != _NO_GAUGES or lowered != _NO_COUNTERS:
                found.append(GpuHour(hour_ms, reading.uuid, (*gauges, lost_ms, *lowered)))
        return tuple(found)

    def _lowered(self, reading: Reading) -> tuple[Amounts, int]:
        """Tell for how long clocks were lowered, and since when; a counter seen first tells nothing yet."""
        totals = _totals_of(reading)
        if totals == _NO_COUNTERS:
            return _NO_COUNTERS, reading.start_ms
        before = self._told.get(reading.uuid)
        if before is None:
            self._told[reading.uuid] = _Told(reading.end_ms, totals, _nothing(totals))
            return _NO_COUNTERS, reading.start_ms
        if totals == before.totals:
            self._told[reading.uuid] = before._replace(end_ms=reading.end_ms)
            return before.nothing, before.end_ms
        amounts: Amounts = tuple(map(_grown_ms, before.totals, totals))
        totals = tuple(old if new is None else new for old, new in zip(before.totals, totals, strict=True))
        self._told[reading.uuid] = _Told(reading.end_ms, totals, _nothing(totals))
        return amounts, before.end_ms


def _nothing(totals: Iterable[float | None]) -> Amounts:
    return tuple(None if total is None else 0 for total in totals)


def _grown_ms(old: float | None, new: float | None) -> int | None:
    """Give the growth of a counter of seconds; each moment is rounded, so that the sum of all is exact."""
    if old is None or new is None:
        return None
    return 0 if new == old else max(0, round(new * 1000) - round(old * 1000))


def _gauges(reading: Reading) -> tuple[float | None, ...]:
    hottest, warm, margin, most, used, peak, watts = _gauges_of(reading)
    return (
        warm if hottest is None else hottest,
        margin,
        used if most is None else most,
        watts if peak is None else peak,
    )


def _heat_lost_ms(reading: Reading, lowered: Amounts) -> int | None:
    """Estimate the time that heat took: that with clocks lowered for it, times how much lower they were."""
    clock, highest = reading.sm_clock_hertz, reading.sm_clock_max_hertz
    known = [ms for place in _THERMAL if (ms := lowered[place]) is not None]
    if clock is None or not highest or not known:
        return None
    thermal_ms = min(max(known), reading.end_ms - reading.start_ms)
    return round(thermal_ms * max(0.0, 1 - clock / highest))


def _shared_out(uuid: str, span: tuple[int, int], lowered: Amounts) -> Iterable[GpuHour]:
    """Share among the hours of a gap what counters grew by meanwhile; how high clocks were nobody knows."""
    start_ms, end_ms = span
    marks = [start_ms, *range((start_ms // HOUR_MS + 1) * HOUR_MS, end_ms, HOUR_MS), end_ms]
    lengths = [upto_ms - from_ms for from_ms, upto_ms in pairwise(marks)]
    shares = [[None] * len(lengths) if ms is None else apportion(ms, lengths) for ms in lowered]
    for number, from_ms in enumerate(marks[:-1]):
        figures = (*_NO_GAUGES, None, *(share[number] for share in shares))
        yield GpuHour(from_ms // HOUR_MS * HOUR_MS, uuid, figures)
