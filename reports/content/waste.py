"""Who held GPUs idle: a league table of owners, with the holder to begin with.

An owner stands out with at least an hour of idle GPU time that is at least 1 % of the inventory. Of a holder
whose life reaches beyond the window, the part counts that lies in it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agent.states import UNATTRIBUTED
from agent.tally import HOUR_MS
from agent.tick import State, said
from reports.content.holding import part_in, spells_of
from reports.content.past import unbroken
from reports.facts import Facts, Tenure, Week
from reports.outline import OwnerLine, Report, SpellLine
from reports.sections import WasteLine
from reports.sums import ratio

MOST_OWNERS = 20
LEAST_MS = HOUR_MS
LEAST_SHARE = 0.01


class _Worst(NamedTuple):
    """The holder that an owner should look at first; empty where none is known."""

    holder: str = ""
    node: str = ""
    uuid: str = ""
    spell_ms: int | None = None
    memory_bytes: float | None = None


def waste(report: Report, facts: Facts) -> tuple[WasteLine, ...]:
    """Give a line for each owner with idle time, most of it first; at most twenty."""
    weeks = list(unbroken(report, facts))
    tenures: defaultdict[str, list[Tenure]] = defaultdict(list)
    for tenure in facts.tenures:
        tenures[tenure.owner or UNATTRIBUTED].append(tenure)
    owners = [line for line in report.owners if line.sums.elapsed_ms(State.HELD_IDLE)]
    return tuple(
        _line(
            report,
            facts,
            line,
            weeks=weeks,
            worst=_worst(report, tenures[line.owner], line.owner),
        )
        for line in owners[:MOST_OWNERS]
    )


def _line(
    report: Report,
    facts: Facts,
    owner: OwnerLine,
    *,
    weeks: Sequence[Week],
    worst: _Worst,
) -> WasteLine:
    name, idle_ms = owner.owner, owner.sums.elapsed_ms(State.HELD_IDLE)
    return WasteLine(
        owner=name,
        idle_ms=idle_ms,
        share_ratio=ratio(idle_ms, report.inventory.gpu_ms),
        cost=owner.idle_cost,
        idle_last_ms=None if facts.last is None else facts.last.idle_ms.get(name, 0),
        weeks=_weeks(name, weeks) + 1 if _stands_out(idle_ms, report.inventory.gpu_ms) else 0,
        holder=worst.holder,
        node=worst.node,
        uuid=worst.uuid,
        spell_ms=worst.spell_ms,
        memory_bytes=worst.memory_bytes,
    )


def _stands_out(idle_ms: int, owed_ms: int) -> bool:
    return idle_ms >= LEAST_MS and idle_ms >= LEAST_SHARE * owed_ms


def _weeks(owner: str, weeks: Iterable[Week]) -> int:
    """Count the weeks in a row, from the latest back, in which an owner stood out."""
    count = 0
    for week in weeks:
        owed_ms = sum(group.owed_ms for group in week.groups.values())
        if not _stands_out(week.idle_ms.get(owner, 0), owed_ms):
            break
        count += 1
    return count


def _worst(report: Report, tenures: Iterable[Tenure], owner: str) -> _Worst:
    """Find the holder with most idle time in the window, or else the one with the longest spell."""

    def idle_ms(tenure: Tenure) -> float:
        return tenure.elapsed_ms.get(State.HELD_IDLE, 0) * part_in(tenure, report.covered)

    spells = [line for line in report.spells if (line.spell.owner or UNATTRIBUTED) == owner]
    idle = [one for one in tenures if idle_ms(one) > 0]
    if idle:
        return _of_tenure(max(idle, key=lambda one: (idle_ms(one), one.node, one.name)), spells)
    if not spells:
        return _Worst()
    line = max(spells, key=lambda one: (one.spell.beyond_ms, one.spell.uuid))
    return _Worst(
        holder=said(line.spell.kind, line.spell.holder),
        node=line.node,
        uuid=line.spell.uuid,
        spell_ms=line.spell.seen_ms,
    )


def _of_tenure(tenure: Tenure, spells: Iterable[SpellLine]) -> _Worst:
    own = spells_of(tenure, tuple(line.spell for line in spells))
    longest = max(own, key=lambda one: (one.seen_ms, one.uuid), default=None)
    only = tenure.gpus[0] if len(tenure.gpus) == 1 else ""
    return _Worst(
        holder=said(tenure.kind, tenure.name),
        node=tenure.node,
        uuid=only if longest is None else longest.uuid,
        spell_ms=None if longest is None else longest.seen_ms,
        memory_bytes=tenure.memory_max_bytes or None,
    )
