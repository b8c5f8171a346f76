"""Who could do with less: a slice of a GPU, a smaller model, or fewer GPUs.

Advice is given only where all of it is known and leaves room: at least 24 GPU-hours in the window, held
whole. One that was at work for at most 20 % of the time is told of the smallest that holds the most memory it
used, and carries its mean activity, at 80 %. A holder that did nothing at all is waste and no matter of size.
What a slice saves is what is left of the GPU, by compute or by memory, whichever is less.

A holder of several GPUs is not told to take slices, which cannot work together. GPUs that a spell shows
without activity for nearly all of the time are unused; else, if activity and memory of all fit on fewer GPUs,
so many are advised.
"""

import re
from dataclasses import replace
from math import ceil
from typing import NamedTuple

from agent.states import UNATTRIBUTED
from agent.tally import HOUR_MS
from agent.tick import State, said
from reports.content.holding import part_in, spells_of
from reports.facts import Facts, Tenure
from reports.outline import GpuLine, Report
from reports.sections import SizeLine
from reports.sums import SpellRow

LEAST_MS = 24 * HOUR_MS
MOST_ACTIVITY = 0.20
FILL = 0.8
WHOLE = 0.9
"""A tenure with less of its GPUs' time shared them, or held slices already."""
UNUSED = 0.95


class _Slice(NamedTuple):
    """A MIG slice: its name and its shares of the GPU."""

    name: str
    compute: float
    memory: float

    @property
    def share(self) -> float:
        """What of the GPU nobody else can have."""
        return max(self.compute, self.memory)


_SEVENTHS = (
    _Slice("1/7", 1 / 7, 1 / 8),
    _Slice("2/7", 2 / 7, 2 / 8),
    _Slice("3/7", 3 / 7, 4 / 8),
    _Slice("4/7", 4 / 7, 4 / 8),
)
_QUARTERS = (_Slice("1/4", 1 / 4, 1 / 4), _Slice("2/4", 2 / 4, 2 / 4))
_HALF = _Slice("", 1 / 2, 1 / 2)
_OF_SEVEN = frozenset(
    "A100 A800 H20 H100 H200 H800 GH200 B100 B200 B300 GB200 GB300".split()  # noqa: SIM905  a long list
)


class _Advice(NamedTuple):
    """What to take instead, and the share of the time held that this frees."""

    text: str
    freed: float


def slices_of(model: str) -> tuple[_Slice, ...]:
    """Give the slices into which a model can be cut, smallest first; none for one that cannot be."""
    words = set(re.split(r"[^A-Z0-9]+", model.upper()))
    return _SEVENTHS if words & _OF_SEVEN else _QUARTERS if "A30" in words else ()


def sizes(report: Report, facts: Facts) -> tuple[SizeLine, ...]:
    """Name the holders that could do with less, those that would free most first."""
    seats = {line.uuid: line for line in report.gpus}
    lines = [line for tenure in facts.tenures if (line := _line(report, facts, tenure, seats))]
    return tuple(sorted(lines, key=lambda line: (-line.saving_ms, line.owner, line.holder, line.model)))


def _line(report: Report, facts: Facts, tenure: Tenure, seats: dict[str, GpuLine]) -> SizeLine | None:
    places = [seats[uuid] for uuid in tenure.gpus if uuid in seats]
    gpu_ms = round(sum(tenure.elapsed_ms.values()) * part_in(tenure, report.covered))
    mean = tenure.activity_mean
    one_model = len(places) == len(tenure.gpus) and len({line.model for line in places}) == 1
    if not one_model or not mean or gpu_ms < LEAST_MS or not _held_whole(tenure):
        return None
    model = places[0].model
    advice = _unused(tenure, tuple(line.spell for line in report.spells))
    total_bytes = facts.memory_bytes.get(model)
    if advice is None and total_bytes and tenure.memory_max_bytes > 0 and mean <= MOST_ACTIVITY:
        share = tenure.memory_max_bytes / total_bytes
        one = len(places) == 1
        advice = _for_one(model, mean, share) if one else _for_several(len(places), mean, share)
    if advice is None:
        return None
    saving_ms = round(gpu_ms * advice.freed)
    part = replace(
        report.covered,
        from_ms=max(tenure.start_ms, report.covered.from_ms),
        to_ms=min(tenure.end_ms, report.covered.to_ms),
    )
    return SizeLine(
        owner=tenure.owner or UNATTRIBUTED,
        holder=said(tenure.kind, tenure.name),
        model=model,
        gpu_ms=gpu_ms,
        activity_mean=mean,
        memory_max_bytes=tenure.memory_max_bytes,
        advice=advice.text,
        saving_ms=saving_ms,
        cost=report.prices.of_time(places[0].uuid, places[0].node, saving_ms, part),
    )


def _held_whole(tenure: Tenure) -> bool:
    length_ms = tenure.end_ms - tenure.start_ms
    held_ms = sum(tenure.elapsed_ms.values())
    active = tenure.elapsed_ms.get(State.ACTIVE, 0) > 0
    return active and held_ms >= WHOLE * length_ms * len(tenure.gpus)


def _fits(one: _Slice, activity: float, memory_share: float) -> bool:
    return memory_share <= FILL * one.memory and activity <= FILL * one.compute


def _for_one(model: str, activity: float, memory_share: float) -> _Advice | None:
    slices = slices_of(model)
    if not slices:
        fits = _fits(_HALF, activity, memory_share)
        return _Advice("a smaller model, half as large", 1 - _HALF.share) if fits else None
    for one in slices:
        if _fits(one, activity, memory_share):
            return _Advice(f"a MIG slice of {one.name}", 1 - one.share)
    return None


def _unused(tenure: Tenure, spells: tuple[SpellRow, ...]) -> _Advice | None:
    count, length_ms = len(tenure.gpus), tenure.end_ms - tenure.start_ms
    own = spells_of(tenure, spells)
    unused = {one.uuid for one in own if min(one.seen_ms, length_ms) >= UNUSED * length_ms}
    if not 0 < len(unused) < count:
        return None
    return _Advice(f"{count - len(unused)} of its {count} GPUs: the others did nothing", len(unused) / count)


def _for_several(count: int, activity: float, memory_share: float) -> _Advice | None:
    """Give the fewest GPUs that hold the memory and carry the activity of all; the share is of one GPU."""
    enough = max(1, ceil(count * activity / FILL), ceil(memory_share / FILL))
    if enough < count:
        return _Advice(f"{enough} of its {count} GPUs", (count - enough) / count)
    return None
