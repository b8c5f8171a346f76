"""Rules and histories by chance: of few values, so that limits are met exactly, and often passed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from agent.quantities import QUANTITIES, Amount
from agent.scene import Scene
from agent.tick import Condition as Health
from agent.tick import Reading, State, Workload, reading_of
from rules.definition import JOB, PEERS, Comparison, Condition, Rule, Runbook
from tests.rules.scenes import INTERVAL_MS, NODE, START_MS

GPUS = ("GPU-a", "GPU-b", "GPU-c", "GPU-d", "GPU-e")
MODELS = dict(zip(GPUS, (*["NVIDIA H200"] * 4, "NVIDIA L40S"), strict=True))
GAUGES = (
    "temperature_margin_celsius",
    "power_watts",
    "temperature_celsius",
    "temperature_margin_slowdown_celsius",
)
COUNTERS = ("pcie_replays_total", "throttle_hw_thermal_seconds_total")
NUMBERS = (31, 48, 79)
KINDS = ("gauge", "gauge", "gauge", "other", "peers", "job", "state", "up", "counter", "counter", "xids")
TURNS = 140
SHORT_SECONDS = 100.0
STATES = tuple(one for one in State if one is not State.UNKNOWN)


def some_rules(chance: random.Random) -> dict[str, Rule]:
    """Make a few rules, of which some keep others quiet."""
    names = [f"rule_{place}" for place in range(7)]
    older = chance.sample(names, len(names))  # parents may stand before or behind their children
    return {name: _rule(chance, name, older[: older.index(name)]) for name in names}


def shortened(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Let rules judge by short windows, so that a short history is enough."""
    return {
        name: replace(
            rule,
            for_seconds=min(rule.for_seconds, SHORT_SECONDS),
            clear_seconds=min(rule.clear_seconds, SHORT_SECONDS / 2),
            when={
                key: replace(one, over_seconds=min(one.over_seconds, SHORT_SECONDS / 2))
                for key, one in rule.when.items()
            },
        )
        for name, rule in rules.items()
    }


def _rule(chance: random.Random, name: str, others: Sequence[str]) -> Rule:
    return Rule(
        name=name,
        summary=name,
        when={f"c-{place}": _condition(chance) for place in range(chance.choice((1, 1, 2)))},
        for_seconds=chance.choice((0.0, 0.0, 20.0, 50.0, 100.0, 200.0)),
        clear_seconds=chance.choice((0.0, 20.0, 60.0, 150.0)),
        coverage_ratio=chance.choice((0.01, 0.5, 0.8, 1.0)),
        workloads=tuple(chance.sample(list(Workload), chance.choice((0, 0, 0, 1, 2)))),
        inhibited_by=tuple(chance.sample(others, min(len(others), chance.choice((0, 0, 1, 2))))),
        enabled=chance.random() > 0.05,
        runbook=Runbook(action="look"),
    )


def _condition(chance: random.Random) -> Condition:
    kind, comparison = chance.choice(KINDS), chance.choice(list(Comparison))
    if kind == "state":
        return Condition(quantity="state", is_state=chance.choice(STATES))
    if kind == "up":
        return Condition(quantity="up", comparison=Comparison.BELOW, number=1.0)
    if kind in ("counter", "xids"):
        xids = tuple(chance.sample(NUMBERS, chance.choice((1, 2)))) if kind == "xids" else ()
        return Condition(
            quantity="xid_errors_total" if xids else chance.choice(COUNTERS),
            comparison=comparison,
            number=float(chance.randrange(4)),
            over_seconds=chance.choice((10.0, 30.0, 100.0)),
            xids=xids,
        )
    edge, beyond = float(chance.randrange(2, 6)), chance.choice((0.0, 1.0, 2.0))
    falling = comparison in (Comparison.AT_MOST, Comparison.BELOW)
    until = chance.choice((None, edge + beyond if falling else edge - beyond))
    if kind == "gauge":
        return Condition(quantity=chance.choice(GAUGES), comparison=comparison, number=edge, until=until)
    return Condition(
        quantity=GAUGES[0] if kind == "other" else chance.choice(GAUGES),
        comparison=comparison,
        of={"peers": PEERS, "job": JOB}.get(kind, GAUGES[1]),
        times=chance.choice((1.0, 0.5, 2.0)),
        plus=edge - 4,
        until=None if until is None else until - 4,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What values there are: of gauges, of what counters grow by in an interval, and numbers of XIDs."""

    gauges: Mapping[str, Sequence[float]]
    counters: Mapping[str, Sequence[float]]
    numbers: Sequence[int]

    @classmethod
    def of(cls, rules: Mapping[str, Rule]) -> Self:
        """Choose values on and around all limits of some rules."""
        gauges: dict[str, set[float]] = {}
        counters: dict[str, set[float]] = {}
        numbers: set[int] = set()
        for condition in (one for rule in rules.values() for one in rule.when.values()):
            edges = {condition.plus if condition.of else condition.number, condition.until or 0.0}
            numbers |= set(condition.xids)
            if condition.over_seconds:
                step = condition.number / max(1.0, condition.over_seconds * 1000 / INTERVAL_MS)
                step = round(step * 16) / 16  # sums are exact, in whatever order
                counters.setdefault(condition.quantity, {0.0}).update((step / 2, step, step * 2, 1.0))
            elif condition.of:
                reach = max(8.0, *(3 * abs(edge) for edge in edges))
                for name in (condition.quantity, condition.of):
                    gauges.setdefault(name, set()).update(reach * place / 16 for place in range(17))
            else:
                step = max(1.0, *edges) / 4
                near = {edge + step * side for edge in edges for side in (-1, 0, 1)}
                gauges.setdefault(condition.quantity, set()).update(near)
        return cls(
            gauges={name: sorted(several) for name, several in gauges.items() if name in QUANTITIES},
            counters={name: sorted(several) for name, several in counters.items() if name in QUANTITIES},
            numbers=sorted(numbers)[:3],
        )


class _Gpu:
    """One GPU that goes from phase to phase."""

    def __init__(self, chance: random.Random, world: World, uuid: str) -> None:
        self._chance, self._world, self._uuid = chance, world, uuid
        self._gauges: dict[str, Amount] = {name: several[0] for name, several in world.gauges.items()}
        self._counters = dict.fromkeys(world.counters, 7.0)
        self._steps = dict.fromkeys(world.counters, 0.0)
        self._health, self.state = Health.OK, State.ACTIVE
        self.workloads = frozenset({Workload.BATCH})
        self.job = "slurm 1"
        self.xids: dict[tuple[str, int], int] = {}

    def turn(self, start_ms: int) -> Reading | None:
        """Live on for an interval; None where nothing is read."""
        chance = self._chance
        for name, several in self._world.gauges.items():
            if chance.random() < 0.1:
                self._gauges[name] = None if chance.random() < 0.15 else chance.choice(several)
        for name, several in self._world.counters.items():
            if chance.random() < 0.2:
                self._steps[name] = chance.choice(several)
            began_anew = chance.random() < 0.02
            self._counters[name] = 0.0 if began_anew else self._counters[name] + self._steps[name]
        for number in self._world.numbers:
            more = chance.random() < 0.04
            self.xids[self._uuid, number] = self.xids.get((self._uuid, number), 0) + more
        self._change()
        if chance.random() < 0.02:
            return None
        values = {name: value for name, value in self._gauges.items() if value is not None}
        values |= {name: value for name, value in self._counters.items() if chance.random() > 0.1}
        known = values if self._health is Health.OK else {}
        return reading_of(self._uuid, start_ms, start_ms + INTERVAL_MS, known, condition=self._health)

    def _change(self) -> None:
        chance = self._chance
        if chance.random() < 0.06:
            self.state = chance.choice((State.ACTIVE, State.HELD_IDLE, *State))
        if chance.random() < 0.04:
            self.workloads = frozenset(chance.sample(list(Workload), chance.choice((0, 1, 1, 2))))
        if chance.random() < 0.05:
            self.job = chance.choice(("slurm 1", "slurm 1", "slurm 2", "pod 1", ""))
        if chance.random() < 0.06:
            self._health = chance.choice((Health.OK, Health.OK, Health.OK, Health.LOST, Health.HUNG))


def history(chance: random.Random, world: World, turns: int = TURNS) -> list[Scene | None]:
    """Make the intervals of a node; None where the agent was away."""
    gpus = {uuid: _Gpu(chance, world, uuid) for uuid in GPUS}
    found: list[Scene | None] = []
    away = 0
    for turn in range(turns):
        start_ms = START_MS + turn * INTERVAL_MS
        readings = [one for one in (gpu.turn(start_ms) for gpu in gpus.values()) if one is not None]
        if chance.random() < 0.02:
            away = chance.choice((1, 2, 5, 15))
        away -= 1
        found.append(None if away >= 0 else _scene(gpus, readings, start_ms + INTERVAL_MS))
    return found


def _scene(gpus: Mapping[str, _Gpu], readings: list[Reading], end_ms: int) -> Scene:
    seen = {reading.uuid for reading in readings}
    return Scene(
        node=NODE,
        end_ms=end_ms,
        readings=readings,
        states={uuid: gpu.state if uuid in seen else State.UNKNOWN for uuid, gpu in gpus.items()},
        models=MODELS,
        workloads={uuid: gpu.workloads for uuid, gpu in gpus.items()},
        jobs={uuid: gpu.job for uuid, gpu in gpus.items() if gpu.job},
        xids={key: count for gpu in gpus.values() for key, count in gpu.xids.items()},
    )
