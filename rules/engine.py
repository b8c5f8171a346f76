"""Judges ticks by rules: in constant time per GPU and rule, with a few hundred bytes for each.

For each condition of each rule it keeps whether it held in the last intervals (history.py), and while a
finding is open, whether it held by the limit for closing. What is not known neither opens nor closes one.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate
from math import ceil
from typing import NamedTuple

from agent.quantities import QUANTITIES
from agent.scene import NODE_FIGURES, Scene
from agent.tick import Condition as Health
from agent.tick import Finding
from rules.definition import JOB, PEERS, Condition, Rule, Subject, ancestors
from rules.history import Track
from rules.sight import Sight, medians, other_of, value_of

LONGEST_STEPS = 1 << 16
"""More intervals at once than any window has."""
_NOBODY: frozenset[str] = frozenset()
_NOTHING: Mapping[str, float | None] = {}
_NO_XIDS: Mapping[int, int] = {}


class _Plan(NamedTuple):
    """A condition of a rule, prepared. The windows are numbers of intervals, and masks of as many bits.

    `is_plain` says that it compares a quantity of a reading with a number, as most do.
    """

    is_plain: bool
    quantity: str
    compare: Callable[[float, float], bool]
    number: float
    mask: int
    needed: int
    slots: int
    condition: Condition
    clear_slots: int
    grown_slots: int


class _Gpu:
    """What is kept of a GPU: its tracks in the order of the plans, when it was judged last, what is open.

    `xids` are the counts of the interval before.
    """

    __slots__ = ("open", "slot", "tracks", "xids")

    def __init__(self, plans: Sequence[Sequence[_Plan]]) -> None:
        self.tracks = tuple([Track(plan.grown_slots) for several in plans for plan in several])
        self.slot = 0
        self.xids = _NO_XIDS
        self.open: dict[str, Finding] = {}


class Engine:
    """The rules about one kind of subject, at work on one node: GPUs, unless told otherwise."""

    def __init__(
        self,
        rules: Mapping[str, Rule],
        interval_ms: int,
        opened: Iterable[Finding] = (),
        *,
        about: Subject = "gpu",
    ) -> None:
        enabled = {name: rule for name, rule in rules.items() if rule.enabled and rule.about == about}
        self._ancestors = ancestors(enabled)
        self._rules = [enabled[name] for name in self._ancestors]  # parents are judged before their children
        self._interval_ms = interval_ms
        self._plans = [[self._plan(rule, one) for one in rule.when.values()] for rule in self._rules]
        self._firsts = [0, *accumulate(map(len, self._plans))]
        self._of_peers = {
            (one.of, one.quantity)
            for rule in self._rules
            for one in rule.when.values()
            if one.of in (PEERS, JOB)
        }
        self._names = [rule.name for rule in self._rules]
        self._classes = [rule.workloads for rule in self._rules]
        self._gpus: dict[str, _Gpu] = {}
        self._opened: dict[str, list[Finding]] = defaultdict(list)
        for one in opened:
            self._opened[one.uuid].append(one)

    @property
    def quantities(self) -> frozenset[str]:
        """The quantities that the rules are about."""
        conditions = [plan.condition for plans in self._plans for plan in plans]
        return frozenset(name for one in conditions for name in (one.quantity, one.of) if name in QUANTITIES)

    @property
    def window_ms(self) -> int:
        """How far back its rules look."""
        slots = [max(plan.slots, plan.grown_slots) for plans in self._plans for plan in plans]
        return max(slots, default=0) * self._interval_ms

    def look_back(self, past: Iterable[Scene]) -> None:
        """Take in what was before the start, so that what was pending goes on; nothing opens or closes."""
        opened, self._opened = self._opened, defaultdict(list)
        for scene in past:
            self.judge(scene)
        self._opened = opened
        for uuid, gpu in self._gpus.items():
            gpu.open.clear()
            self._restore(uuid, gpu)

    def _plan(self, rule: Rule, condition: Condition) -> _Plan:
        slots = self._slots(rule.for_seconds)
        return _Plan(
            is_plain=(condition.quantity in QUANTITIES or condition.quantity in NODE_FIGURES)
            and not condition.of
            and not condition.over_seconds,
            quantity=condition.quantity,
            compare=condition.compare,
            number=condition.number,
            mask=(1 << slots) - 1,
            needed=ceil(rule.coverage_ratio * slots),
            slots=slots,
            condition=condition,
            clear_slots=self._slots(rule.clear_seconds),
            grown_slots=self._slots(condition.over_seconds) if condition.over_seconds else 0,
        )

    def _slots(self, seconds: float) -> int:
        return max(1, round(seconds * 1000 / self._interval_ms))

    def judge(self, scene: Scene) -> list[Finding]:
        """Give all findings that are open after an interval, each as it was opened."""
        peers = medians(scene, self._of_peers)
        xids: dict[str, dict[int, int]] = defaultdict(dict)
        for (uuid, number), count in scene.xids.items():
            xids[uuid][number] = count
        slot = round(scene.end_ms / self._interval_ms)
        found: list[Finding] = []
        for reading in scene.readings:
            values = reading.__dict__ if reading.condition is Health.OK else _NOTHING
            of_gpu = xids[reading.uuid] if xids else _NO_XIDS
            found += self._of_gpu(Sight(scene, reading, values, peers, of_gpu, slot))
        return found

    def _of_gpu(self, sight: Sight) -> Iterable[Finding]:
        uuid = sight.reading.uuid
        gpu = self._gpus.get(uuid)
        if gpu is None:
            gpu = self._gpus[uuid] = self._new(uuid, sight.slot)
        steps = min(LONGEST_STEPS, max(0, sight.slot - gpu.slot))
        gpu.slot = sight.slot
        firing: list[int] = []
        before = set(gpu.open) if gpu.open else _NOBODY
        opened = gpu.open
        tracks = iter(gpu.tracks)  # each rule takes as many as it has conditions
        for place, (name, plans) in enumerate(zip(self._names, self._plans, strict=True)):
            fires = _move(plans, tracks, sight, steps)
            if self._classes[place] or (opened and name in opened):
                fires = self._go_on(gpu, place, sight, fires=fires)
            if fires:
                firing.append(place)
        for place in firing:
            self._open(gpu, place, sight, before)
        gpu.xids = sight.xids
        return gpu.open.values()

    def _go_on(self, gpu: _Gpu, place: int, sight: Sight, *, fires: bool) -> bool:
        """Look whether a finding that is open closes, and whether a rule of some classes of work applies."""
        rule, plans, tracks = self._rules[place], self._plans[place], self._tracks(gpu, place)
        workloads = sight.scene.workloads.get(sight.reading.uuid, _NOBODY)
        applies = not rule.workloads or not workloads.isdisjoint(rule.workloads)
        for track in () if applies else tracks:
            if track.yes & 1:  # whom it is not about, for him it does not hold
                track.yes, track.no_slot = 0, sight.slot
        fires = fires and applies
        if rule.name not in gpu.open:
            return fires
        closes = False
        for plan, track in zip(plans, tracks, strict=True):
            fails = track.no_slot == sight.slot
            if track.yes & 1 or (fails and applies and _stays(plan, track, sight)):
                track.stay_slot = sight.slot
            elif fails and sight.slot - track.stay_slot >= plan.clear_slots:
                closes = True
        if closes and not fires:
            del gpu.open[rule.name]
        return fires

    def _tracks(self, gpu: _Gpu, place: int) -> Sequence[Track]:
        """Give the tracks of a rule."""
        first = self._firsts[place]
        return gpu.tracks[first : first + len(self._plans[place])]

    def _new(self, uuid: str, slot: int) -> _Gpu:
        gpu = _Gpu(self._plans)
        gpu.slot = slot - 1
        self._restore(uuid, gpu)
        return gpu

    def _restore(self, uuid: str, gpu: _Gpu) -> None:
        """Take up the findings that were open on a GPU."""
        names = {rule.name: place for place, rule in enumerate(self._rules)}
        for finding in self._opened.pop(uuid, ()):
            if finding.rule in names:
                gpu.open[finding.rule] = finding
                for track in self._tracks(gpu, names[finding.rule]):
                    track.stay_slot = gpu.slot  # as if it had held until now

    def _open(self, gpu: _Gpu, place: int, sight: Sight, before: Collection[str]) -> None:
        """Open a finding, unless a parent is open or was before this interval."""
        rule, scene = self._rules[place], sight.scene
        parents = self._ancestors[rule.name]
        if rule.name in gpu.open or any(one in gpu.open or one in before for one in parents):
            return
        told = zip(self._plans[place], self._tracks(gpu, place), strict=True)
        new = {number for number, count in sight.xids.items() if count > gpu.xids.get(number, 0)}
        gpu.open[rule.name] = Finding(
            rule=rule.name,
            severity=rule.severity,
            node=scene.node,
            uuid=sight.reading.uuid,
            opened_ms=scene.end_ms,
            summary=f"{rule.summary} ({', '.join(_said(*one, sight, new) for one in told)})",
            action=rule.runbook.action,
        )
        for track in self._tracks(gpu, place):
            track.stay_slot = sight.slot


def _move(plans: Sequence[_Plan], tracks: Iterable[Track], sight: Sight, steps: int) -> bool:
    """Move the conditions of a rule on by so many intervals; tell whether all held for long enough."""
    fires, slot = True, sight.slot
    for plan, track in zip(plans, tracks, strict=False):
        is_plain, quantity, compare, number, mask, needed, slots = plan[:7]
        if is_plain:
            value = sight.values.get(quantity)
            holds = None if value is None else compare(value, number)
        else:
            holds = _holds(plan, track, sight)
        yes = track.yes
        if yes:
            yes = yes << steps & mask
        if holds:
            yes |= 1
            if slot - track.no_slot < slots or yes.bit_count() < needed:
                fires = False
        else:
            fires = False
            if holds is not None:
                yes, track.no_slot = 0, slot
        track.yes = yes
    return fires


def _holds(plan: _Plan, track: Track, sight: Sight) -> bool | None:
    """Tell whether a condition holds that is not plain; None where that is not known."""
    condition = plan.condition
    value, limit = value_of(condition, sight), condition.number
    if track.growth is not None:
        grown = track.growth.add(sight.slot, value)
        value = None if value is None else grown
    elif condition.of:
        other = other_of(condition, sight)
        if other is None:
            return None
        limit = other + condition.plus
    return None if value is None else plan.compare(value, limit)


def _stays(plan: _Plan, track: Track, sight: Sight) -> bool:
    """Tell whether a value that is known is within the limit for closing."""
    condition = plan.condition
    if condition.until is None:
        return False
    value = value_of(condition, sight)
    if track.growth is not None:
        value = track.growth.add(sight.slot, None)
    edge = condition.until
    if condition.of:
        edge += other_of(condition, sight) or 0.0
    return value is not None and plan.compare(value, edge)


def _said(plan: _Plan, track: Track, sight: Sight, new_xids: AbstractSet[int]) -> str:
    """Say what is seen of a condition; of XIDs, which came in this interval."""
    condition = plan.condition
    if condition.is_state:
        return f"state {condition.is_state}"
    if numbers := sorted(new_xids & set(condition.xids)):
        return f"XID {', '.join(map(str, numbers))}"
    value = value_of(condition, sight)
    grown = ""
    if track.growth is not None:
        value, grown = track.growth.add(sight.slot, None), f" grew in {condition.over_seconds:g} s by"
    return condition.quantity if value is None else f"{condition.quantity}{grown} {value:.6g}"
