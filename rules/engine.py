"""Judges ticks by rules: in constant time per GPU and rule, with a few hundred bytes for each.

For each condition of each rule it keeps whether it held in the last intervals (history.py), and while a
finding is open, whether it held by the limit for closing. What is not known neither opens nor closes one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import NamedTuple

from agent.tick import Condition as Health
from agent.tick import Finding, Reading, State
from rules.definition import PEERS, STATE, UP, XIDS, Condition, Rule
from rules.history import Bits, Growth

LONGEST_STEPS = 1 << 16
"""More intervals at once than any window has."""
FEWEST_PEERS = 3
_NOBODY: frozenset[str] = frozenset()
_NOTHING: Mapping[str, float | None] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that is judged of a node in one interval.

    `models` and `workloads` are by UUID; XIDs are counted by UUID and number, over all time.
    """

    node: str
    end_ms: int
    readings: Sequence[Reading]
    states: Mapping[str, State]
    models: Mapping[str, str]
    workloads: Mapping[str, frozenset[str]]
    xids: Mapping[tuple[str, int], int]


class _Plan(NamedTuple):
    """A condition of a rule: how many intervals its windows have, and how many of the first must be known."""

    condition: Condition
    slots: int
    needed: int
    clear_slots: int
    grown_slots: int


class _Track:
    """What is kept of a condition on a GPU; `held` only while the rule's finding is open."""

    __slots__ = ("bits", "growth", "held", "value")

    def __init__(self, plan: _Plan) -> None:
        self.bits = Bits(plan.slots)
        self.growth = Growth(plan.grown_slots) if plan.grown_slots else None
        self.held: Bits | None = None
        self.value: float | None = None


class _Sight(NamedTuple):
    """What is judged of a GPU in an interval; `steps` is how many intervals that is after the one before."""

    scene: Scene
    reading: Reading
    values: Mapping[str, float | None]
    peers: Mapping[tuple[str, str], float]
    model: str
    steps: int


class _Gpu:
    """What is kept of a GPU: its tracks in the order of the plans, when it was judged last, what is open."""

    __slots__ = ("end_ms", "open", "tracks")

    def __init__(self, plans: Sequence[Sequence[_Plan]]) -> None:
        self.tracks = [[_Track(plan) for plan in several] for several in plans]
        self.end_ms = 0
        self.open: dict[str, Finding] = {}


class Engine:
    """The rules at work on one node."""

    def __init__(self, rules: Mapping[str, Rule], interval_ms: int, opened: Iterable[Finding] = ()) -> None:
        self._rules = [rule for rule in rules.values() if rule.enabled]
        self._interval_ms = interval_ms
        self._plans = [[self._plan(rule, one) for one in rule.when.values()] for rule in self._rules]
        self._of_peers = {
            one.quantity for rule in self._rules for one in rule.when.values() if one.of == PEERS
        }
        self._gpus: dict[str, _Gpu] = {}
        self._opened: dict[str, list[Finding]] = defaultdict(list)
        for one in opened:
            self._opened[one.uuid].append(one)

    def _plan(self, rule: Rule, condition: Condition) -> _Plan:
        slots = self._slots(rule.for_seconds)
        return _Plan(
            condition,
            slots,
            ceil(rule.coverage_ratio * slots),
            self._slots(rule.clear_seconds),
            self._slots(condition.over_seconds) if condition.over_seconds else 0,
        )

    def _slots(self, seconds: float) -> int:
        return max(1, round(seconds * 1000 / self._interval_ms))

    def judge(self, scene: Scene) -> list[Finding]:
        """Give all findings that are open after an interval, each as it was opened."""
        peers = self._medians(scene)
        return [finding for reading in scene.readings for finding in self._of_gpu(scene, reading, peers)]

    def _of_gpu(
        self, scene: Scene, reading: Reading, peers: Mapping[tuple[str, str], float]
    ) -> Iterable[Finding]:
        uuid = reading.uuid
        gpu = self._gpus.get(uuid)
        if gpu is None:
            gpu = self._gpus[uuid] = self._new(uuid)
        steps = 1
        if gpu.end_ms:
            steps = min(LONGEST_STEPS, max(0, round((scene.end_ms - gpu.end_ms) / self._interval_ms)))
        gpu.end_ms = scene.end_ms
        values = reading.__dict__ if reading.condition is Health.OK else _NOTHING
        sight = _Sight(scene, reading, values, peers, scene.models.get(uuid, ""), steps)
        workloads = scene.workloads.get(uuid, _NOBODY)
        firing: list[int] = []
        for place, (rule, plans, tracks) in enumerate(zip(self._rules, self._plans, gpu.tracks, strict=True)):
            applies = not rule.workloads or not workloads.isdisjoint(rule.workloads)
            fires = True
            for plan, track in zip(plans, tracks, strict=True):
                fires = _move(plan, track, sight, applies=applies) and fires
            if fires:
                firing.append(place)
            elif rule.name in gpu.open and self._may_close(tracks):
                del gpu.open[rule.name]
        for place in firing:
            self._open(gpu, place, scene, uuid)
        return gpu.open.values()

    def _new(self, uuid: str) -> _Gpu:
        gpu = _Gpu(self._plans)
        names = {rule.name: place for place, rule in enumerate(self._rules)}
        for finding in self._opened.pop(uuid, ()):
            if finding.rule in names:
                gpu.open[finding.rule] = finding
                self._hold(gpu, names[finding.rule])
        return gpu

    def _open(self, gpu: _Gpu, place: int, scene: Scene, uuid: str) -> None:
        rule = self._rules[place]
        if rule.name in gpu.open or any(parent in gpu.open for parent in rule.inhibited_by):
            return
        gpu.open[rule.name] = Finding(
            rule=rule.name,
            severity=rule.severity,
            node=scene.node,
            uuid=uuid,
            opened_ms=scene.end_ms,
            summary=f"{rule.summary} ({_evidence(gpu.tracks[place], self._plans[place])})",
            action=rule.runbook.action,
        )
        self._hold(gpu, place)

    def _hold(self, gpu: _Gpu, place: int) -> None:
        """Begin to note whether a finding may close."""
        for track, plan in zip(gpu.tracks[place], self._plans[place], strict=True):
            track.held = Bits(plan.clear_slots)
            track.held.yes = track.bits.yes & (1 << plan.clear_slots) - 1

    def _may_close(self, tracks: Iterable[_Track]) -> bool:
        """Tell whether one of the conditions was known not to hold, and never to hold, for long enough."""
        may = any(track.held is not None and track.held.no and not track.held.yes for track in tracks)
        if may:
            for track in tracks:
                track.held = None
        return may

    def _medians(self, scene: Scene) -> dict[tuple[str, str], float]:
        """Give the medians that values are compared with, of models of which there are enough."""
        found: dict[tuple[str, str], float] = {}
        for quantity in self._of_peers:
            by_model: dict[str, list[float]] = defaultdict(list)
            for reading in scene.readings:
                value = getattr(reading, quantity)
                if value is not None:
                    by_model[scene.models.get(reading.uuid, "")].append(value)
            for model, several in by_model.items():
                if len(several) >= FEWEST_PEERS:
                    found[model, quantity] = median(several)
        return found


def _move(plan: _Plan, track: _Track, sight: _Sight, *, applies: bool) -> bool:
    """Move a condition of a GPU on to the present interval; tell whether it held for long enough."""
    condition, steps = plan.condition, sight.steps
    quantity = condition.quantity
    value = sight.values[quantity] if quantity in sight.values else _special(condition, sight)
    if track.growth is not None:
        value = track.growth.add(steps, value)
    holds = stays = None
    limit = _limit(condition, sight) if condition.of else condition.number
    if value is not None and limit is not None:
        holds = stays = applies and condition.holds(value, limit)
        if not holds and track.held is not None and condition.until is not None:
            edge = limit - condition.plus + condition.until if condition.of else condition.until
            stays = applies and condition.holds(value, edge)
        track.value = value
    bits = track.bits
    bits.add(steps, holds)
    if track.held is not None:
        track.held.add(steps, stays)
    return not bits.no and bits.yes.bit_count() >= plan.needed


def _limit(condition: Condition, sight: _Sight) -> float | None:
    if condition.of == PEERS:
        other = sight.peers.get((sight.model, condition.quantity))
    else:
        other = sight.values.get(condition.of)
    return None if other is None else other * condition.times + condition.plus


def _special(condition: Condition, sight: _Sight) -> float | None:
    """Give what a condition is about that is no quantity of a reading."""
    scene, reading = sight.scene, sight.reading
    if condition.quantity == STATE:
        state = scene.states.get(reading.uuid)
        return None if state is None or state is State.UNKNOWN else float(state.value == condition.is_state)
    if condition.quantity == UP:
        return float(reading.condition is Health.OK)
    if condition.quantity == XIDS:
        return float(sum(scene.xids.get((reading.uuid, number), 0) for number in condition.xids))
    return None


def _evidence(tracks: Sequence[_Track], plans: Sequence[_Plan]) -> str:
    return ", ".join(_said(track, plan) for track, plan in zip(tracks, plans, strict=True))


def _said(track: _Track, plan: _Plan) -> str:
    condition = plan.condition
    if condition.is_state:
        return f"state {condition.is_state}"
    grown = f" grew in {condition.over_seconds:g} s by" if condition.over_seconds else ""
    return f"{condition.quantity}{grown} {track.value:.6g}" if track.value is not None else condition.quantity
