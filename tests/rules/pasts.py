"""Pasts for backtests: a node that lived through something and wrote its journal, and what is found in it."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from agent.journal_file import connect
from agent.restore import findings_since
from agent.scene import Scene
from agent.simulator import uninstall
from agent.states import StateSettings
from agent.tick import Finding, Gpu, Hold, Holder, Tick, Workload, Xid
from gputally.run import holders_in
from gputally.settings import Settings
from rules.backtest import Backtest, quantities_of
from rules.definition import Rule
from rules.engine import Engine
from rules.hindsight import moments, pace
from rules.outcome import Outcome
from tests.agent.driven import Rig
from tests.agent.histories import books_at
from tests.rules.histories import MODELS
from tests.rules.scenes import INTERVAL_MS

FOR_EVER_MS = 2**60
BUSY = {"busy_ratio": 0.5}
FAULTS = (
    "h200x4:training!unpersistent=0@+200..+500!unpersistent=0@+900..+1100!linkdown=1:3@+200..+900"
    "!recovery=2:1@+200..+500!recovery=3:3@+200..+500!fabric=0:2@+600..+1200!xid=1:79@+60!ecc=1:0:1@+100"
)
Rules = Mapping[str, Rule]


def lived(path: Path, text: str, seconds: float, rules: Rules, blind: tuple[float, float] = (0, 0)) -> None:
    """Let a simulated node judge itself for a while and keep its journal; it is away in `blind`."""
    rig, engine = Rig(text), Engine(rules, INTERVAL_MS)
    holders = holders_in(rig.simulation, Settings(), rig.clock.wall_ms)
    try:
        with books_at(path, StateSettings()) as books:
            for tick in rig.run(seconds):
                if blind[0] <= (tick.end_ms - rig.clock.began_ms) / 1000 < blind[1]:
                    continue
                books.xids.take(tick.xids, tick.end_ms)
                gpus = {gpu.uuid: gpu for gpu in tick.gpus or ()}
                books.post(tick, holders.holds(tick.readings, gpus), judge=engine.judge)
                books.commit(tick.end_ms)
    finally:
        holders.close()
        uninstall()


def played(path: Path, scenes: Iterable[Scene | None], rules: Rules, chance: random.Random) -> None:
    """Let nodes live through scenes, held by whom chance wants; each judges itself and keeps one journal."""
    engines: dict[str, Engine] = {}
    holders = [
        Holder(kind="slurm", name=f"{place}", owner="vision", workload=one)
        for place, one in enumerate(Workload)
    ]
    holds: dict[str, tuple[Hold, ...]] = {}
    counted: Counter[tuple[str, int]] = Counter()
    with books_at(path, StateSettings()) as books:
        for scene in scenes:
            if scene is None:
                continue
            engine = engines.setdefault(scene.node, Engine(rules, INTERVAL_MS))
            for reading in scene.readings:
                if chance.random() < 0.05:
                    several = chance.sample(holders, chance.choice((0, 1, 1, 2)))
                    holds[reading.uuid] = tuple(Hold(one) for one in several)
            books.xids.take(_new_xids(scene, counted), scene.end_ms)
            books.post(tick_of(scene), holds, judge=engine.judge)
            books.commit(scene.end_ms)


def _new_xids(scene: Scene, counted: Counter[tuple[str, int]]) -> list[Xid]:
    """Give the XIDs that came in an interval; of each the first two, of which the journal knows when."""
    new = [key for key, count in scene.xids.items() if counted[key] < min(count, 2)]
    counted.update(new)
    return [Xid(scene.end_ms, uuid, number) for uuid, number in new]


def tick_of(scene: Scene) -> Tick:
    """Make the tick that a scene was seen in."""
    gpus = tuple(
        Gpu(uuid=one.uuid, index=place, model=MODELS.get(one.uuid, "NVIDIA H200"))
        for place, one in enumerate(scene.readings)
    )
    start_ms = scene.end_ms - INTERVAL_MS
    readings = tuple(scene.readings)
    return Tick(node=scene.node, start_ms=start_ms, end_ms=scene.end_ms, readings=readings, gpus=gpus)


def told(path: Path) -> list[Finding]:
    """Give what the node itself found."""
    with closing(connect(path)) as db:
        return in_order(findings_since(db, 0))


def judged(
    path: Path, rules: Rules, present: Rules | None = None, *, from_ms: int = 0, start_ms: int | None = None
) -> Outcome:
    """Judge a journal once more, from a moment on; what is before it, from `start_ms` on, is looked at."""
    with closing(connect(path)) as db:
        found = pace(db, 0, FOR_EVER_MS)
        assert found is not None
        work = Backtest(rules, present, found.interval_ms, from_ms)
        names = quantities_of(rules, present or {})
        work.take(moments(db, from_ms if start_ms is None else start_ms, FOR_EVER_MS, names))
        return work.outcome()


def found_by(outcome: Outcome) -> list[Finding]:
    """Give what rules found."""
    return in_order(case.finding for case in outcome.rules.cases)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings."""
    return sorted(findings, key=lambda one: (one.opened_ms, one.rule, one.uuid))


def moved(scenes: Sequence[Scene | None], node: str, suffix: str) -> list[Scene | None]:
    """Let other GPUs of another node live through the same."""
    return [scene and _moved(scene, node, suffix) for scene in scenes]


def _moved(scene: Scene, node: str, suffix: str) -> Scene:
    return replace(
        scene, node=node, readings=[replace(one, uuid=one.uuid + suffix) for one in scene.readings], xids={}
    )
