"""A fleet in virtual time: nodes whose GPUs follow plans, their journals, and the truth that the plans tell.

Everything happens on whole steps. What nobody saw is unknown in the truth, as in a report.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
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
HOUR_STEPS = HOUR_MS // STEP_MS
DAY_STEPS = 24 * HOUR_STEPS
WEEK_STEPS = 7 * DAY_STEPS
OWNERS = ("vision", "nlp", "search", 'x"><script>alert(1)</script>')
WATTS = {"work": 600.0, "idle": 120.0, "free": 70.0, "slices": 350.0}


class Stint(NamedTuple):
    """What a GPU does over [first, last) steps: work, idle, free, lost, slices, or it is not there (away)."""

    kind: str
    owner: str
    busy: float
    first: int
    last: int


@dataclass(slots=True)
class Node:
    """A node: since when it has an agent, when nobody looked, and when it vanished, in steps."""

    name: str
    first: int = 0
    blind: tuple[int, int] = (0, 0)
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
    """Make a fleet with all that may happen: late and vanished nodes, outages, moved, lost, cut GPUs."""
    dice = random.Random(seed)  # noqa: S311
    whole = weeks * WEEK_STEPS
    nodes = [Node(f"node-{number:03}", last=whole) for number in range(count)]
    for number, node in enumerate(nodes):
        if number % 10 == 1:
            node.first = (weeks - 1) * WEEK_STEPS + 2 * DAY_STEPS + 7
        if number % 10 == 2:
            node.last = (weeks - 1) * WEEK_STEPS + 4 * DAY_STEPS + 5
        if number % 3 == 0:
            begin = whole - 3 * DAY_STEPS + number
            node.blind = (begin, begin + dice.choice([4, 40, 100]))
        breaks = (*node.blind, node.first, node.last)
        for index in range(gpus):
            one = gpu_of(number, index)
            node.plans[one] = plan(dice, breaks, node.first, node.last)
            if index == 1 and number % 5 == 0:
                node.plans[one] = _sliced(node.plans[one], whole - 5 * DAY_STEPS)
    if count > 4:
        _move(dice, nodes[3], nodes[4], whole - 4 * DAY_STEPS)
    return nodes


def _sliced(stints: Sequence[Stint], since: int) -> list[Stint]:
    """Cut a GPU into slices from a step on."""
    before = [one._replace(last=min(one.last, since)) for one in stints if one.first < since]
    after = [one._replace(first=max(one.first, since)) for one in stints if one.last > since]
    return [*before, *(one._replace(kind="slices") for one in after)]


def _move(dice: random.Random, giver: Node, taker: Node, at: int) -> None:
    """Carry a GPU to another node; it takes two hours."""
    at -= at % HOUR_STEPS
    one = next(iter(giver.plans))
    kept = [stint._replace(last=min(stint.last, at)) for stint in giver.plans[one] if stint.first < at]
    giver.plans[one] = [*kept, Stint("away", "", 0.0, at, giver.last)]
    there = at + 2 * HOUR_STEPS
    breaks = (*taker.blind, taker.last)
    taker.plans[Gpu(uuid=one.uuid, index=9, model=one.model, serial=one.serial)] = plan(
        dice, breaks, there, taker.last
    )


def _values(stint: Stint) -> dict[str, Amount]:
    busy = stint.busy if stint.kind == "work" else 0.0
    found: dict[str, Amount] = {"power_watts": WATTS[stint.kind], "memory_used_bytes": 0.0}
    found["mig_mode_flag"] = float(stint.kind == "slices")
    if stint.kind != "slices":
        found["busy_ratio"] = busy
    return found


def _reading(one: Gpu, stint: Stint, start_ms: int) -> Reading:
    end_ms = start_ms + STEP_MS
    if stint.kind in ("lost", "away"):
        bad = Condition.LOST if stint.kind == "lost" else Condition.MISSING
        return reading_of(one.uuid, start_ms, end_ms, {}, condition=bad)
    slices = None
    if stint.kind == "slices":
        slices = tuple(
            slice_of(
                uuid=f"MIG-{one.uuid}-{number}",
                profile=f"{weight}g",
                weight_ratio=weight / 7,
                values={"sm_active_ratio": 0.5 if number == 0 else 0.0},
            )
            for number, weight in enumerate((4, 3))
        )
    return reading_of(one.uuid, start_ms, end_ms, _values(stint), slices=slices)


def _hold(one: Gpu, stint: Stint) -> tuple[Hold, ...]:
    if stint.kind not in ("work", "idle", "slices"):
        return ()
    holder = Holder(kind="slurm", name=f"{one.uuid[4:]}-{stint.first}", owner=stint.owner)
    return (Hold(holder, slice=f"MIG-{one.uuid}-0" if stint.kind == "slices" else ""),)


def write(node: Node, path: Path) -> Path:
    """Let the node's agent write its journal."""
    journal = Journal(path, JournalSettings(sync="normal", tick_age_days=400.0), START_MS)
    books = Books(journal, StateSettings(), boot_id="boot")
    courses = {one: iter(stints) for one, stints in node.plans.items()}
    current = {one: next(course) for one, course in courses.items()}
    at_ms = START_MS
    for step in range(node.last):
        at_ms = START_MS + step * STEP_MS
        for one, stint in current.items():
            if stint.last <= step:
                current[one] = next(courses[one])
        if not node.looks(step):
            continue
        there = {one: stint for one, stint in current.items() if stint.first <= step}
        books.post(
            Tick(
                node=node.name,
                start_ms=at_ms,
                end_ms=at_ms + STEP_MS,
                readings=tuple(_reading(one, stint, at_ms) for one, stint in there.items()),
                gpus=tuple(one for one, stint in there.items() if stint.kind != "away"),
            ),
            {one.uuid: _hold(one, stint) for one, stint in there.items()},
        )
        if step % 500 == 0:
            books.commit(at_ms + STEP_MS)
    books.commit(at_ms + STEP_MS)
    journal.close()
    return path


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
    elif stint.kind == "slices":
        part = round(STEP_MS * 4 / 7)
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
