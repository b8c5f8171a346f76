"""The past as rules judge it, from the series of a store: every interval of every node.

A sample belongs to the interval around its time: each node is read at its own pace, so that samples do not
lie on the edges of intervals. What is pushed to a store, and not scraped, says states, holders and some
figures only when they change and every two minutes: of such a GPU they hold for a little longer than that.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median_low

from agent.errors import StoreError
from agent.promql import span
from agent.quantities import QUANTITIES
from agent.scene import Scene, jobs_of
from agent.store import Series, Store
from agent.tick import Condition, State, reading_of
from rules.definition import FAULTS, UP, XIDS
from rules.hindsight import Moment, Seat, even
from rules.series import Metric, metric_of

HOLD_MS = 150_000
"""So long does hold what is pushed when it changes: two minutes, and what a push takes."""
MOST_SAMPLES = 150_000
"""About so many samples are read before they are judged."""
FEWEST_INTERVALS = 20
"""So many intervals are read at once, however many GPUs there are."""
ENOUGH_SAMPLES = 60
"""Of so many the pace is told."""
FEWEST_STEPS = 3
_BEFORE = "[1h]"
_PER_GPU = len(State) + len(FAULTS) + 3
"""Series of a GPU besides the quantities: states, why it does not answer, up, a holder, an XID."""
_UP, _HOLDER, _STATE, _XIDS = f"gpu_{UP}", "gpu_holder_info", "gpu_state", f"gpu_{XIDS}"
_FAULT = metric_of(FAULTS[0]).name
_WHOLE_TURN = 2 * math.pi
_STATES = {state.value: state for state in State}
_FAULTS = {fault.value: fault for fault in Condition if fault is not Condition.OK}


@dataclass(slots=True)
class _Sight:
    """What was seen of a GPU in one interval."""

    model: str
    is_up: bool
    faults: dict[str, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    states: dict[str, float] = field(default_factory=dict)
    seats: dict[Seat, None] = field(default_factory=dict)
    xids: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Known:
    """What was said of a GPU last, and when."""

    figures: dict[str, tuple[int, float]] = field(default_factory=dict)
    fault: Condition = Condition.LOST
    state: State = State.UNKNOWN
    seats: tuple[Seat, ...] = ()
    state_ms: int = -HOLD_MS
    xids: dict[int, int] = field(default_factory=dict)


_Scenes = defaultdict[tuple[int, str], dict[str, _Sight]]
"""By the end of the interval and the node, then by UUID."""


class Stored:
    """The past of all GPUs of a store, from the moment `from_ms` on, in intervals of `interval_ms`.

    Raises StoreError where the store does not answer, and where it knows no GPU in that time.
    """

    def __init__(
        self, store: Store, quantities: Iterable[str], from_ms: int, until_ms: int, interval_ms: int = 0
    ) -> None:
        self._store = store
        self._metrics = {name: metric_of(name) for name in sorted(quantities)}
        self._of_families = frozenset(name for name in self._metrics if QUANTITIES[name].family)
        self._from_ms, self._until_ms = from_ms, until_ms
        self._phases: dict[str, int] = {}
        self._known: defaultdict[str, _Known] = defaultdict(_Known)
        counts = self._counts(_UP, from_ms, until_ms)
        if not counts:
            raise StoreError(
                f"{store.url} has no series {_UP} in that time, which every agent tells of each GPU: "
                "look whether agents are scraped, or push, and whether this is the store"
            )
        states = self._counts(f'{_STATE}{{state="{State.UNKNOWN.value}"}}', from_ms, until_ms)
        self._pushed = frozenset(uuid for uuid, count in counts.items() if states.get(uuid, 0) * 2 < count)
        self._gpus = len(counts)
        self.interval_ms = interval_ms or self._pace(counts)

    def _counts(self, selector: str, from_ms: int, until_ms: int) -> Mapping[str, int]:
        """Count samples by UUID."""
        found: defaultdict[str, int] = defaultdict(int)
        asked = f"count_over_time({selector}[{span(until_ms - from_ms)}])"
        for labels, count in self._store.values(asked, until_ms):
            if labels.get("uuid"):
                found[labels["uuid"]] += round(count)
        return found

    def _pace(self, counts: Mapping[str, int]) -> int:
        """Tell how far apart samples lie, where those of the GPU that has most of them lie close."""
        uuid = max(counts, key=counts.__getitem__)
        selector = f"{_UP}{{uuid={json.dumps(uuid, ensure_ascii=False)}}}"
        from_ms, until_ms, count = self._from_ms, self._until_ms, counts[uuid]
        while count > ENOUGH_SAMPLES:
            middle_ms = (from_ms + until_ms) // 2
            late = self._counts(selector, middle_ms, until_ms).get(uuid, 0)
            if late * 2 >= count:
                from_ms, count = middle_ms, late
            else:
                until_ms, count = middle_ms, count - late
        times = sorted(
            {at for one in self._store.samples(selector, from_ms, until_ms) for at, _ in one.samples}
        )
        steps = [later - earlier for earlier, later in pairwise(times)]
        if len(steps) < FEWEST_STEPS:
            raise StoreError(
                f"{self._store.url} has too few samples of {_UP} to tell how far apart they lie: "
                "give --interval, or a longer time"
            )
        return even(median_low(steps))

    def moments(self) -> Iterator[Moment]:
        """Read all intervals, oldest first. Raises StoreError."""
        self._remember_xids()
        series = max(1, self._gpus) * (len(self._metrics) + _PER_GPU)
        step_ms = max(FEWEST_INTERVALS, MOST_SAMPLES // series) * self.interval_ms
        for start_ms in range(self._from_ms, self._until_ms, step_ms):
            scenes = self._read(start_ms, min(start_ms + step_ms, self._until_ms))
            for (end_ms, node), sights in sorted(scenes.items(), key=lambda item: item[0]):
                yield self._moment(node, end_ms, sights)

    def _remember_xids(self) -> None:
        """Look up how often XIDs came before, so that they are not taken for new."""
        for labels, count in self._store.values(f"last_over_time({_XIDS}{_BEFORE})", self._from_ms):
            number = _number(labels.get("xid", ""))
            if number is not None:
                known = self._known[labels.get("uuid", "")].xids
                known[number] = max(round(count), known.get(number, 0))

    def _read(self, from_ms: int, until_ms: int) -> _Scenes:
        """Read some time: first who was there, then what was said of them."""
        scenes: _Scenes = defaultdict(dict)
        seen = list(self._store.samples(_UP, from_ms, until_ms))
        self._set_phases(seen)
        for one in seen:
            labels = one.labels
            for end_ms, value in self._by_interval(one):
                sights = scenes[end_ms, labels.get("node", "")]
                sights[labels.get("uuid", "")] = _Sight(labels.get("model", ""), is_up=value == 1)
        for name, metric in self._metrics.items():
            for sight, _, value in self._told(scenes, metric, from_ms, until_ms):
                sight.values[name] = value
        for sight, labels, value in self._told(scenes, Metric(_STATE), from_ms, until_ms):
            sight.states[labels.get("state", "")] = value
        for sight, labels, value in self._told(scenes, Metric(_FAULT), from_ms, until_ms):
            sight.faults[labels.get("condition", "")] = value
        for sight, labels, _ in self._told(scenes, Metric(_HOLDER), from_ms, until_ms):
            sight.seats[Seat(*(labels.get(key, "") for key in ("kind", "holder", "owner", "workload")))] = (
                None
            )
        for sight, labels, value in self._told(scenes, Metric(_XIDS), from_ms, until_ms):
            number = _number(labels.get("xid", ""))
            if number is not None:
                sight.xids[number] = round(value)
        return scenes

    def _told(
        self, scenes: _Scenes, metric: Metric, from_ms: int, until_ms: int
    ) -> Iterator[tuple[_Sight, Mapping[str, str], float]]:
        """Read a metric; give what was seen of GPUs that were there, with labels and value."""
        for one in self._store.samples(metric.selector(), from_ms, until_ms):
            node, uuid = one.labels.get("node", ""), one.labels.get("uuid", "")
            for end_ms, value in self._by_interval(one):
                sight = scenes.get((end_ms, node), {}).get(uuid)
                if sight is not None:
                    yield sight, one.labels, value

    def _by_interval(self, one: Series) -> Iterator[tuple[int, float]]:
        """Give the ends of the intervals of samples, with the last sample of each."""
        every, phase = self.interval_ms, self._phases.get(one.labels.get("node", ""), 0)
        shift = every // 2 - phase
        found = {(at_ms + shift) // every * every + phase: value for at_ms, value in one.samples}
        return iter(found.items())

    def _set_phases(self, seen: Iterable[Series]) -> None:
        """Note when in an interval the samples of each node come; small changes are none."""
        sums: defaultdict[str, complex] = defaultdict(complex)
        every = self.interval_ms
        for one in seen:
            for at_ms, _ in one.samples:
                angle = at_ms % every / every * _WHOLE_TURN
                sums[one.labels.get("node", "")] += complex(math.cos(angle), math.sin(angle))
        for node, total in sums.items():
            phase = round(math.atan2(total.imag, total.real) / _WHOLE_TURN * every) % every
            before = self._phases.get(node)
            if before is None or min((phase - before) % every, (before - phase) % every) * 4 > every:
                self._phases[node] = phase

    def _moment(self, node: str, end_ms: int, sights: Mapping[str, _Sight]) -> Moment:
        for uuid, sight in sights.items():
            self._note(uuid, sight, end_ms)
        known = {uuid: self._known[uuid] for uuid in sights}
        scene = Scene(
            node=node,
            end_ms=end_ms,
            readings=[
                reading_of(
                    uuid,
                    end_ms - self.interval_ms,
                    end_ms,
                    dict(sight.values) if sight.is_up else {},
                    condition=Condition.OK if sight.is_up else known[uuid].fault,
                )
                for uuid, sight in sights.items()
            ],
            states={uuid: one.state for uuid, one in known.items()},
            models={uuid: sight.model for uuid, sight in sights.items()},
            workloads={uuid: frozenset(seat.workload for seat in one.seats) for uuid, one in known.items()},
            jobs=jobs_of(
                {uuid: [(one.kind, one.name) for one in each.seats] for uuid, each in known.items()}
            ),
            xids={(uuid, number): count for uuid, one in known.items() for number, count in one.xids.items()},
        )
        return Moment(scene, {uuid: one.seats for uuid, one in known.items() if one.seats})

    def _note(self, uuid: str, sight: _Sight, end_ms: int) -> None:
        """Take in what was said of a GPU, and fill in what holds on."""
        known = self._known[uuid]
        known.xids.update(sight.xids)
        why = [_FAULTS[name] for name, value in sight.faults.items() if value == 1 and name in _FAULTS]
        if why or sight.is_up or uuid not in self._pushed:
            known.fault = why[0] if why else Condition.LOST
        if sight.states or uuid not in self._pushed or end_ms - known.state_ms > HOLD_MS:
            now = [_STATES[name] for name, value in sight.states.items() if value == 1 and name in _STATES]
            known.state = now[0] if now else State.UNKNOWN
            known.seats, known.state_ms = tuple(sight.seats), end_ms
        if uuid not in self._pushed:
            return
        for name in self._of_families:
            value = sight.values.get(name)
            if value is not None:
                known.figures[name] = end_ms, value
            elif name in known.figures and end_ms - known.figures[name][0] <= HOLD_MS:
                sight.values[name] = known.figures[name][1]


def _number(text: str) -> int | None:
    """Read the number of an XID; None for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None  # noqa: PLR2004
