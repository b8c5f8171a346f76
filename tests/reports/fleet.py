"""A fleet in virtual time: nodes whose GPUs follow plans, their journals, and the truth that the plans tell.

Everything happens on whole steps. What nobody saw is unknown in the truth, as in a report.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from dataclasses import replace as dataclass_replace
from pathlib import Path
from typing import NamedTuple

from agent.books import Books
from agent.journal import Journal, JournalSettings
from agent.journal_file import connect
from agent.quantities import Amount
from agent.states import StateSettings
from agent.tally import HOUR_MS
from agent.tick import Condition, Gpu, Hold, Holder, Reading, State, Tick, reading_of, slice_of
from exporters.history import History
from exporters.rows import Row

START_MS = 1_789_344_000_000
"""Monday 14 September 2026, 00:00 UTC: stores take nothing of the future."""
STEP_MS = 300_000
PATIENCE_STEPS = 6
"""Half an hour, as batch has it."""
AFTER_STEPS = 3 * 12
"""A fleet goes on after the weeks that are looked at."""
MISSING_STEPS = 7 * 24 * 12 + 1
"""A GPU that is missing is down for a week, until a tick says that it is over."""
HOUR_STEPS = HOUR_MS // STEP_MS
DAY_STEPS = 24 * HOUR_STEPS
WEEK_STEPS = 7 * DAY_STEPS
OWNERS = ("vision", "nlp", "search", 'x"><script>alert(1)</script>')
WATTS = {"work": 600.0, "idle": 120.0, "free": 70.0, "slices": 350.0, "pieces": 350.0}
CUTS = {"slices": (4, 3), "pieces": (3, 2, 2)}
"""How a GPU is cut, in sevenths; the first slice works, and nobody holds the others."""


class Stint(NamedTuple):
    """What a GPU does over [first, last) steps: work, idle, free, lost, slices, pieces, or it is away."""

    kind: str
    owner: str
    busy: float
    first: int
    last: int


@dataclass(slots=True)
class Node:
    """A node: since when it has an agent, when nobody looked, and when it vanished, in steps.

    Where it `forgets`, its journal is lost while nobody looks, and the agent begins a new one.
    """

    name: str
    first: int = 0
    blind: tuple[int, int] = (0, 0)
    forgets: bool = False
    last: int = 2 * WEEK_STEPS
    plans: dict[Gpu, list[Stint]] = field(default_factory=dict)

    def looks(self, step: int) -> bool:
        """Tell whether the agent sees a step."""
        return self.first <= step < self.last and not self.blind[0] <= step < self.blind[1]


def gpu_of(node: int, index: int) -> Gpu:
    """Make a GPU."""
    return Gpu(
        uuid=f"GPU-{node:04}-{index:04}",
        index=index,
        model=("NVIDIA H200", "NVIDIA L40S")[node % 2],
        serial=f"{node:04}{index}",
    )


def plan(dice: random.Random, breaks: Sequence[int], first: int, last: int) -> list[Stint]:
    """Make stints that fill a time; none lasts over a break."""
    found: list[Stint] = []
    at = first
    while at < last:
        end = min([at + dice.choice([1, 3, 12, 30, 90, 200]), last, *(one for one in breaks if one > at)])
        kind = dice.choices(["work", "idle", "free", "lost"], [6, 3, 2, 0.2])[0]
        found.append(Stint(kind, dice.choice(OWNERS), dice.choice([0.2, 0.5, 0.93, 1.0]), at, end))
        at = end
    return found


def fleet(seed: int, count: int, gpus: int = 4, weeks: int = 2) -> list[Node]:
    """Make a fleet with all that may happen in its last week.

    Nodes are late, vanish, are blind, forget; GPUs are lost, moved, replaced, cut, and cut anew.
    """
    dice = random.Random(seed)  # noqa: S311
    whole = weeks * WEEK_STEPS
    nodes = [Node(f"node-{number:03}", last=whole + AFTER_STEPS) for number in range(count)]
    for number, node in enumerate(nodes):
        if number % 10 == 1:
            node.first = (weeks - 1) * WEEK_STEPS + 2 * DAY_STEPS + 7
        if number % 10 == 2:
            node.last = (weeks - 1) * WEEK_STEPS + 4 * DAY_STEPS + 5
        if number % 3 == 0:
            begin = whole - 3 * DAY_STEPS + number
            node.blind = (begin, begin + dice.choice([4, 40, 100]))
            node.forgets = number % 2 == 1
        breaks = (*node.blind, node.first, node.last)
        for index in range(gpus):
            one = gpu_of(number, index)
            node.plans[one] = plan(dice, breaks, node.first, node.last)
            if index == 1 and number % 5 == 0:
                node.plans[one] = _cut(node.plans[one], whole - 5 * DAY_STEPS, "slices")
                node.plans[one] = _cut(node.plans[one], whole - 2 * DAY_STEPS + 17, "pieces")
        if gpus > 1 and number % 5 == 4 and not node.forgets:
            since = whole - (9 if number % 2 else 2) * DAY_STEPS + 31
            _replace(dice, node, gpu_of(number, 1), gpu_of(number, 8), since)
    if count > 4:
        _move(dice, nodes[3], nodes[4], whole - 4 * DAY_STEPS)
    return nodes


def _cut(stints: Sequence[Stint], since: int, kind: str) -> list[Stint]:
    """Cut a GPU into slices from a step on."""
    after = [one._replace(first=max(one.first, since)) for one in stints if one.last > since]
    return [*_until(stints, since), *(one._replace(kind=kind) for one in after)]


def _until(stints: Sequence[Stint], step: int) -> list[Stint]:
    return [one._replace(last=min(one.last, step)) for one in stints if one.first < step]


def _replace(dice: random.Random, node: Node, old: Gpu, new: Gpu, at: int) -> None:
    """Take a GPU out for good, and put another one in its place."""
    node.plans[old] = [*_until(node.plans[old], at), Stint("away", "", 0.0, at, node.last)]
    breaks = (*node.blind, node.last)
    node.plans[dataclass_replace(new, index=old.index)] = plan(dice, breaks, at, node.last)


def _move(dice: random.Random, giver: Node, taker: Node, at: int) -> None:
    """Carry a GPU to another node; it takes two hours."""
    at -= at % HOUR_STEPS
    one = next(iter(giver.plans))
    giver.plans[one] = [*_until(giver.plans[one], at), Stint("away", "", 0.0, at, giver.last)]
    there = at + 2 * HOUR_STEPS
    breaks = (*taker.blind, taker.last)
    taker.plans[Gpu(uuid=one.uuid, index=9, model=one.model, serial=one.serial)] = plan(
        dice, breaks, there, taker.last
    )


def _values(stint: Stint) -> dict[str, Amount]:
    busy = stint.busy if stint.kind == "work" else 0.0
    found: dict[str, Amount] = {"power_watts": WATTS[stint.kind], "memory_used_bytes": 0.0}
    found["mig_mode_flag"] = float(stint.kind in CUTS)
    if stint.kind not in CUTS:
        found["busy_ratio"] = busy
    return found


def _reading(one: Gpu, stint: Stint, start_ms: int) -> Reading:
    end_ms = start_ms + STEP_MS
    if stint.kind in ("lost", "away"):
        bad = Condition.LOST if stint.kind == "lost" else Condition.MISSING
        return reading_of(one.uuid, start_ms, end_ms, {}, condition=bad)
    slices = None
    if stint.kind in CUTS:
        slices = tuple(
            slice_of(
                uuid=f"MIG-{one.uuid}-{stint.kind}-{number}",
                profile=f"{weight}g",
                weight_ratio=weight / 7,
                values={"sm_active_ratio": 0.5 if number == 0 else 0.0},
            )
            for number, weight in enumerate(CUTS[stint.kind])
        )
    return reading_of(one.uuid, start_ms, end_ms, _values(stint), slices=slices)


def _hold(one: Gpu, stint: Stint) -> tuple[Hold, ...]:
    if stint.kind not in ("work", "idle", *CUTS):
        return ()
    holder = Holder(kind="slurm", name=f"{one.uuid[4:]}-{stint.first}", owner=stint.owner)
    return (Hold(holder, slice=f"MIG-{one.uuid}-{stint.kind}-0" if stint.kind in CUTS else ""),)


def write(node: Node, folder: Path, start_ms: int = START_MS) -> list[Path]:
    """Let the node's agent write its journals: two, if it forgets the first."""
    paths = [folder / f"{node.name}.db"]
    steps = [(0, node.last)]
    if node.forgets:
        paths.append(folder / f"{node.name}-anew.db")
        steps = [(0, node.blind[0]), (node.blind[1], node.last)]
    for path, (first, last) in zip(paths, steps, strict=True):
        _journal(node, path, range(first, last), start_ms)
    return paths


def _journal(node: Node, path: Path, steps: range, start_ms: int) -> None:
    journal = Journal(path, JournalSettings(sync="normal", tick_age_days=400.0), start_ms)
    books = Books(journal, StateSettings(), boot_id="boot")
    at_ms = start_ms
    for step in steps:
        at_ms = start_ms + step * STEP_MS
        if not node.looks(step):
            continue
        there = {
            one: stint
            for one, stints in node.plans.items()
            for stint in stints
            if stint.first <= step < stint.last
        }
        books.post(
            Tick(
                node=node.name,
                start_ms=at_ms,
                end_ms=at_ms + STEP_MS,
                readings=tuple(
                    _reading(one, stint, at_ms) for one, stint in there.items() if stint.kind != "away"
                ),
                gpus=tuple(one for one, stint in there.items() if stint.kind != "away"),
            ),
            {one.uuid: _hold(one, stint) for one, stint in there.items()},
        )
        if step % 500 == 0:
            books.commit(at_ms + STEP_MS)
    books.commit(at_ms + STEP_MS)
    journal.close()


Truth = Counter[tuple[str, State, str]]
"""Milliseconds by UUID, state and owner."""


def truth(nodes: Sequence[Node], first: int, last: int) -> Truth:
    """Tell what every GPU did over [first, last) steps; what is moved counts in the node that has it."""
    found: Truth = Counter()
    taken = {
        one.uuid: stints[0].first for node in nodes for one, stints in node.plans.items() if one.index == 9
    }
    for node in nodes:
        for one, stints in node.plans.items():
            until = taken[one.uuid] if one.uuid in taken and one.index != 9 else last
            if stints[-1].kind == "away":
                until = min(until, stints[-1].first + MISSING_STEPS)
            for stint in stints:
                for step in range(max(first, stint.first), min(last, stint.last, until)):
                    _enter(found, one.uuid, node, stint, step)
            for _ in range(max(first, node.last), min(last, until)):
                found[one.uuid, State.UNKNOWN, ""] += STEP_MS
    return found


def _enter(found: Truth, uuid: str, node: Node, stint: Stint, step: int) -> None:
    if not node.looks(step):
        found[uuid, State.UNKNOWN, ""] += STEP_MS
    elif stint.kind == "work":
        found[uuid, State.ACTIVE, stint.owner] += STEP_MS
    elif stint.kind == "idle":
        is_gap = step - stint.first < PATIENCE_STEPS
        found[uuid, State.HELD_GAP if is_gap else State.HELD_IDLE, stint.owner] += STEP_MS
    elif stint.kind == "free":
        found[uuid, State.FREE, ""] += STEP_MS
    elif stint.kind in CUTS:
        part = STEP_MS * CUTS[stint.kind][0] // 7
        found[uuid, State.ACTIVE, stint.owner] += part
        found[uuid, State.FREE, ""] += STEP_MS - part
    else:
        found[uuid, State.DOWN, ""] += STEP_MS


def rows(path: Path, static: Mapping[str, str], most: int = 200) -> Iterator[list[Row]]:
    """Give what a node sends to a store, batch by batch."""
    with closing(connect(path)) as db:
        history = History(db, 0, static)
        while ticks := history.ticks(most):
            yield [row for _, rows_of in ticks for row in rows_of]
