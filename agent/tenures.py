"""Tenures: what each holder had of this node, from when it took hold until it let go.

A holder that lets go leaves one summary: GPU-hours by state, energy, how much its GPUs worked, memory, time
with lowered clocks, XIDs. A GPU that was not seen ends no tenure, unless it stays unseen for as long as ends
a spell. Figures of a GPU that several share are the holder's part, as far as the driver tells parts.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agent.quantities import QUANTITIES
from agent.tally import HOUR_MS, Entry
from agent.tick import Condition, Event, Hold, Holder, Reading, Tick, said
from agent.xids import XidCount

THROTTLES: Mapping[str, str] = {
    name: dict(metric.labels)["reason"]
    for name, metric in QUANTITIES.items()
    if metric.family == "throttle_seconds_total"
}
"""The counters of time with lowered clocks, and the reason of each."""
LEAST_TOLD_MS = 60_000
"""A plain process that held a GPU for less leaves no event: there may be thousands a day."""


@dataclass(slots=True)
class Tenure:
    """One holder's time on a node; sums over all GPUs and slices that it held, times in ms, energy in mJ."""

    holder: Holder
    node: str
    start_ms: int
    end_ms: int
    ended: bool = False
    gpus: set[str] = field(default_factory=set)
    elapsed_ms: dict[str, int] = field(default_factory=dict)
    energy_mj: int = 0
    activity_ms: float = 0.0
    activity_seen_ms: int = 0
    activity_max: float = 0.0
    memory_max_bytes: float = 0.0
    throttle_seconds: dict[str, float] = field(default_factory=dict)
    xids: dict[str, int] = field(default_factory=dict)

    @property
    def gpu_hours(self) -> float:
        """GPU-hours held, all states together."""
        return sum(self.elapsed_ms.values()) / HOUR_MS

    @property
    def activity_mean(self) -> float | None:
        """Share of the time in which multiprocessors worked; None where no device told."""
        return self.activity_ms / self.activity_seen_ms if self.activity_seen_ms else None


_FIGURES = (
    "elapsed_ms",
    "energy_mj",
    "activity_ms",
    "activity_seen_ms",
    "activity_max",
    "memory_max_bytes",
    "throttle_seconds",
    "xids",
)


def figures_of(tenure: Tenure) -> str:
    """Write a tenure's figures as JSON."""
    told = {name: getattr(tenure, name) for name in _FIGURES}
    return json.dumps({"gpus": sorted(tenure.gpus), **told}, separators=(",", ":"))


def with_figures(tenure: Tenure, text: str) -> Tenure:
    """Fill in figures that `figures_of` wrote. Raises ValueError, TypeError for other text."""
    told: dict[str, Any] = json.loads(text)
    tenure.gpus = set(told["gpus"])
    for name in _FIGURES:
        setattr(tenure, name, type(getattr(tenure, name))(told[name]))
    return tenure


class _Part(NamedTuple):
    """What one reading says of one holder."""

    length_ms: int
    activity: float | None
    memory_bytes: float


Key = tuple[str, str, str]


def key_of(holder: Holder) -> Key:
    """Tell a holder from all others of a node: by kind and name, and processes of one command by user.

    All else of it may become known later than it took hold.
    """
    return holder.kind, holder.name, holder.user if holder.kind == "process" else ""


class Tenures:
    """The tenures of a node that are open, and those that ended since they were last written."""

    def __init__(self, node: str, unseen_seconds: float, opened: Iterable[Tenure] = ()) -> None:
        self._node = node
        self._unseen_ms = round(unseen_seconds * 1000)
        self._open: dict[Key, Tenure] = {key_of(one.holder): one for one in opened}
        self._changed: dict[int, Tenure] = {}
        self._throttles: dict[str, dict[str, float]] = {}
        self._xids: dict[tuple[str, int], int] | None = None

    def adopt(self, unseen_seconds: float) -> None:
        """End tenures after another time without a look."""
        self._unseen_ms = round(unseen_seconds * 1000)

    @property
    def open(self) -> tuple[Tenure, ...]:
        """Who holds something now, longest first."""
        return tuple(sorted(self._open.values(), key=lambda one: one.start_ms))

    def changed(self) -> list[Tenure]:
        """Give the tenures that changed since `saved`."""
        return list(self._changed.values())

    def saved(self) -> None:
        """Note that all that changed was written."""
        self._changed.clear()

    def take(
        self,
        tick: Tick,
        entries: Sequence[Entry],
        holds: Mapping[str, Sequence[Hold]],
        xids: Mapping[tuple[str, int], XidCount],
    ) -> list[Event]:
        """Take an interval as it was entered; give an event for each holder that let go."""
        memory: dict[Key, float] = {}
        for entry in entries:
            if entry.holder and entry.holder.name:
                self._enter(entry, entry.holder, tick)
        grown = self._grown_xids(xids)
        for reading in tick.readings:
            lowered = self._lowered(reading)
            for holder, part in _parts_of(reading, holds.get(reading.uuid, ())):
                key = key_of(holder)
                tenure = self._open.get(key)
                if tenure is None:
                    continue
                memory[key] = memory.get(key, 0.0) + part.memory_bytes
                _see(tenure, part)
                for reason, seconds in lowered.items():
                    tenure.throttle_seconds[reason] = tenure.throttle_seconds.get(reason, 0.0) + seconds
                for number, more in grown.get(reading.uuid, {}).items():
                    tenure.xids[number] = tenure.xids.get(number, 0) + more
        for key, used in memory.items():
            self._open[key].memory_max_bytes = max(self._open[key].memory_max_bytes, used)
        return [
            _event(one)
            for one in self._let_go(tick)
            if one.holder.kind != "process" or one.end_ms - one.start_ms >= LEAST_TOLD_MS
        ]

    def _enter(self, entry: Entry, holder: Holder, tick: Tick) -> None:
        key = key_of(holder)
        tenure = self._open.get(key)
        if tenure is None:
            tenure = self._open[key] = Tenure(holder, self._node, entry.start_ms, entry.start_ms)
        tenure.holder = holder
        tenure.end_ms = tick.end_ms
        tenure.gpus.add(entry.uuid)
        state = entry.state.value
        tenure.elapsed_ms[state] = tenure.elapsed_ms.get(state, 0) + entry.elapsed_ms
        tenure.energy_mj += entry.energy_mj
        self._changed[id(tenure)] = tenure

    def _let_go(self, tick: Tick) -> list[Tenure]:
        """End the tenures of those that hold nothing any more, as far as their GPUs were seen."""
        seen = {reading.uuid for reading in tick.readings if reading.condition is Condition.OK}
        gone = [
            key
            for key, one in self._open.items()
            if one.end_ms < tick.end_ms and (one.gpus <= seen or tick.end_ms - one.end_ms > self._unseen_ms)
        ]
        ended = [self._open.pop(key) for key in gone]
        for one in ended:
            one.ended = True
            self._changed[id(one)] = one
        return ended

    def _lowered(self, reading: Reading) -> dict[str, float]:
        """Tell for how long clocks were lowered in the interval, by reason."""
        known = vars(reading)
        now = {name: value for name in THROTTLES if (value := known.get(name)) is not None}
        before = self._throttles.get(reading.uuid, {})
        self._throttles[reading.uuid] = now
        return {
            THROTTLES[name]: value - before[name]
            for name, value in now.items()
            if value > before.get(name, value)
        }

    def _grown_xids(self, xids: Mapping[tuple[str, int], XidCount]) -> dict[str, dict[str, int]]:
        now = {key: count.count for key, count in xids.items()}
        before, self._xids = self._xids, now
        grown: dict[str, dict[str, int]] = {}
        for (uuid, number), count in now.items() if before is not None else ():
            more = count - (before or {}).get((uuid, number), 0)
            if more > 0:
                grown.setdefault(uuid, {})[str(number)] = more
        return grown


def _parts_of(reading: Reading, holds: Sequence[Hold]) -> Iterable[tuple[Holder, _Part]]:
    """Give each hold with what the reading says of it."""
    if reading.condition is not Condition.OK:
        return
    slices = {one.uuid: one for one in reading.slices or ()}
    length_ms = reading.end_ms - reading.start_ms
    for hold in holds:
        source = slices.get(hold.slice, reading)
        alone = sum(one.slice == hold.slice for one in holds) == 1
        activity = source.sm_active_ratio
        if activity is None and isinstance(source, Reading):
            activity = source.busy_ratio
        if not alone and hold.share is not None:
            activity = hold.share
        used = source.memory_used_bytes if alone else hold.memory_used_bytes
        yield hold.holder, _Part(length_ms, activity, used or 0.0)


def _see(tenure: Tenure, part: _Part) -> None:
    if part.activity is not None:
        tenure.activity_ms += part.activity * part.length_ms
        tenure.activity_seen_ms += part.length_ms
        tenure.activity_max = max(tenure.activity_max, part.activity)


def _event(one: Tenure) -> Event:
    return Event(at_ms=one.end_ms, node=one.node, kind="holder_ended", text=summary_of(one))


def summary_of(one: Tenure) -> str:
    """Sum up a tenure in a line."""
    holder, mean = one.holder, one.activity_mean
    hours = ", ".join(f"{ms / HOUR_MS:.2f} {state}" for state, ms in one.elapsed_ms.items() if ms)
    gpus = "1 GPU" if len(one.gpus) == 1 else f"{len(one.gpus)} GPUs"
    who = f"{said(holder.kind, holder.name)} of {holder.owner} held {gpus}"
    parts = [f"{who}: {one.gpu_hours:.2f} GPU-hours ({hours})", f"{one.energy_mj / 3.6e9:.3f} kWh"]
    if mean is not None:
        parts.append(f"activity {mean:.1%} in the mean, {one.activity_max:.1%} at most")
    if one.memory_max_bytes:
        parts.append(f"memory up to {one.memory_max_bytes / 2**30:.1f} GiB")
    if one.throttle_seconds:
        reasons = ", ".join(f"{reason} {seconds:.0f} s" for reason, seconds in one.throttle_seconds.items())
        parts.append(f"lowered clocks: {reasons}")
    if one.xids:
        parts.append("XIDs: " + ", ".join(f"{number} ({times}x)" for number, times in one.xids.items()))
    return "; ".join(parts)
