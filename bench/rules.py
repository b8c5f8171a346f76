"""What it costs to judge: time per GPU and interval, and memory per GPU, with all rules that are built in."""

import random
import time
import tracemalloc
from statistics import median
from typing import NamedTuple

from agent.quantities import QUANTITIES
from agent.scene import Scene
from agent.tick import Reading, State, reading_of
from rules.engine import Engine
from rules.load import built_in

GPUS, INTERVAL_MS, WARM, TURNS = 10_000, 10_000, 3, 5
START_MS = 1_767_657_600_000


class Judged(NamedTuple):
    """Microseconds per GPU and interval, kilobytes per GPU, and the number of rules."""

    us: float
    kilobytes: float
    rules: int


def judged(gpus: int = GPUS) -> Judged:
    """Judge some intervals of many GPUs, nearly all of which are well."""
    rules = built_in()
    engine = Engine(rules, INTERVAL_MS)
    chance = random.Random(6)  # noqa: S311
    scenes = [_scene(gpus, place, chance) for place in range(WARM + TURNS)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for scene in scenes[:WARM]:
        engine.judge(scene)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    took = []
    for scene in scenes[WARM:]:
        began = time.process_time()
        engine.judge(scene)
        took.append(time.process_time() - began)
    return Judged(median(took) / gpus * 1e6, kept / gpus / 1000, sum(rule.enabled for rule in rules.values()))


def _scene(gpus: int, place: int, chance: random.Random) -> Scene:
    end_ms = START_MS + place * INTERVAL_MS
    uuids = [f"GPU-{number:05d}" for number in range(gpus)]
    return Scene(
        node="bench",
        end_ms=end_ms,
        readings=[_reading(uuid, end_ms, chance) for uuid in uuids],
        states=dict.fromkeys(uuids, State.ACTIVE),
        models=dict.fromkeys(uuids, "NVIDIA H200"),
        workloads=dict.fromkeys(uuids, frozenset({"batch"})),
        xids={},
    )


def _reading(uuid: str, end_ms: int, chance: random.Random) -> Reading:
    values = dict.fromkeys(QUANTITIES, 0.0)
    values |= {"busy_ratio": chance.random(), "temperature_margin_celsius": 20.0 + 10 * chance.random()}
    values |= {"persistence_mode_flag": 1.0, "power_watts": 500.0, "power_limit_watts": 700.0}
    return reading_of(uuid, end_ms - INTERVAL_MS, end_ms, values)
