"""What it costs to judge: time per GPU and interval, and memory per GPU, with all rules that are built in."""

import random
import time
import tracemalloc
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from agent.quantities import QUANTITIES
from agent.scene import Scene
from agent.tick import Reading, State, reading_of
from rules.engine import Engine
from rules.load import built_in

GPUS, INTERVAL_MS, WARM, TURNS = 10_000, 10_000, 3, 5
FEW = 4
"""GPUs whose windows are filled to the brim: the longest is a day."""
START_MS = 1_767_657_600_000
NONE: Mapping[str, float] = {}


class Judged(NamedTuple):
    """Microseconds per GPU and interval, kilobytes per GPU, and the number of rules.

    `full_us` and `full_kilobytes` are those of GPUs on which every counter grew in every interval of the
    longest window of any rule.
    """

    us: float
    kilobytes: float
    full_us: float
    full_kilobytes: float
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
    enabled = sum(rule.enabled for rule in rules.values())
    return Judged(median(took) / gpus * 1e6, kept / gpus / 1000, *_full(chance), enabled)


def _full(chance: random.Random) -> tuple[float, float]:
    """Fill all windows of a few GPUs; give microseconds per GPU and interval then, and kilobytes per GPU."""
    engine = Engine(built_in(), INTERVAL_MS)
    turns = engine.window_ms // INTERVAL_MS + TURNS
    counters = {name: 0.0 for name, metric in QUANTITIES.items() if metric.kind == "counter"}
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    took = []
    for turn in range(turns):
        counters = {name: value + chance.random() for name, value in counters.items()}
        scene = _scene(FEW, turn, chance, counters)
        began = time.process_time()
        engine.judge(scene)
        if turn == turns - TURNS:
            kept = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
        elif turn > turns - TURNS:
            took.append(time.process_time() - began)
        del scene
    return median(took) / FEW * 1e6, kept / FEW / 1000


def _scene(gpus: int, place: int, chance: random.Random, counters: Mapping[str, float] = NONE) -> Scene:
    end_ms = START_MS + place * INTERVAL_MS
    uuids = [f"GPU-{number:05d}" for number in range(gpus)]
    return Scene(
        node="bench",
        end_ms=end_ms,
        readings=[_reading(uuid, end_ms, chance, counters) for uuid in uuids],
        states=dict.fromkeys(uuids, State.ACTIVE),
        models=dict.fromkeys(uuids, "NVIDIA H200"),
        workloads=dict.fromkeys(uuids, frozenset({"batch"})),
        xids={(uuid, 94): round(counters["pcie_replays_total"]) for uuid in uuids if counters},
    )


def _reading(uuid: str, end_ms: int, chance: random.Random, counters: Mapping[str, float]) -> Reading:
    values = dict.fromkeys(QUANTITIES, 0.0) | dict(counters)
    values |= {"busy_ratio": chance.random(), "temperature_margin_celsius": 20.0 + 10 * chance.random()}
    values |= {"persistence_mode_flag": 1.0, "power_watts": 500.0, "power_limit_watts": 700.0}
    return reading_of(uuid, end_ms - INTERVAL_MS, end_ms, values)
