"""What a report rests on: the sums of one journal, or of the journals of several nodes put together.

Each node accounts for its own GPUs. Put together, what no node looked at is unknown, as within one: a GPU
whose node's journal ends early is owed to the end. A GPU that was carried to another node is in both journals
until the first lets go of it, where it is down meanwhile: it counts where it was seen, once.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from agent.errors import ReportError
from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports import sums
from reports.identity import Violation, violations
from reports.sums import AccountSum, Amounts, Identity, SpellRow, Stretch
from reports.window import Span, Window, journal_span, overlap, rfc3339

_UNSEEN = (State.DOWN, State.UNKNOWN, State.DRAINED)
"""What a GPU may be in a node that it left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All of a window that a report is made from; the window is cut to the accounted time.

    `seen_ms` tells when each GPU was last enumerated, and `staying` which GPUs have not left their node.
    """

    covered: Window
    span: Span
    rows: Sequence[AccountSum]
    stretches: Sequence[Stretch]
    violations: Sequence[Violation]
    identities: Mapping[str, Identity]
    longest_spells: Mapping[tuple[str, str], int]
    spells: Sequence[SpellRow]
    findings: Sequence[Finding]
    seen_ms: Mapping[str, int]
    staying: frozenset[str]


class _Claim(NamedTuple):
    """That a GPU was in a node: by which journal, and when it was last enumerated there."""

    stretch: Stretch
    source: int
    seen_ms: int


def gather(db: sqlite3.Connection, window: Window, most_spells: int) -> Gathered | None:
    """Read what a journal has of a window; None where it has nothing of it. Raises ReportError.

    Call it inside `reports.sums.snapshot`, if the journal may be written meanwhile.
    """
    span = journal_span(db)
    part = overlap(window, span)
    if part is None:
        return None
    stretches = sums.inventory(db, part)
    return Gathered(
        covered=part,
        span=span,
        rows=sums.accounts(db, part),
        stretches=stretches,
        violations=violations(db, part, stretches),
        identities=sums.identities(db),
        longest_spells=sums.longest_spells(db, part),
        spells=sums.idle_spells(db, part, most_spells),
        findings=sums.findings(db, part),
        seen_ms=sums.seen_ms(db),
        staying=sums.staying(db),
    )


def together(several: Sequence[Gathered], most_spells: int) -> Gathered:
    """Put journals of nodes together. Raises ReportError where two are of the same node and time."""
    if len(several) == 1:
        return several[0]
    span = Span(
        first_ms=min(one.span.first_ms for one in several),
        last_ms=max(one.span.last_ms for one in several),
        enrolled_ms=min(one.span.enrolled_ms for one in several),
    )
    covered = replace(
        several[0].covered,
        from_ms=min(one.covered.from_ms for one in several),
        to_ms=max(one.covered.to_ms for one in several),
    )
    begins: defaultdict[str, list[int]] = defaultdict(list)
    for one in several:
        for stretch in one.stretches:
            begins[stretch.uuid].append(stretch.start_ms)
    several = [_to_the_end(one, covered.to_ms, begins) for one in several]
    stretches, lost, torn = _settled(several)
    rows = [row for one in several for row in one.rows]
    return Gathered(
        covered=covered,
        span=span,
        rows=sorted(_less(rows, lost), key=lambda row: (row.node, row.uuid, row.state, row.owner)),
        stretches=stretches,
        violations=[*(row for one in several for row in one.violations), *torn],
        identities={uuid: told for one in several for uuid, told in one.identities.items()},
        longest_spells={key: ms for one in several for key, ms in one.longest_spells.items()},
        spells=sorted(
            (row for one in several for row in one.spells), key=lambda row: (-row.beyond_ms, -row.seen_ms)
        )[:most_spells],
        findings=sorted(
            (row for one in several for row in one.findings), key=lambda row: (row.opened_ms, row.node)
        ),
        seen_ms={},
        staying=frozenset(),
    )


def _to_the_end(one: Gathered, end_ms: int, begins: Mapping[str, Sequence[int]]) -> Gathered:
    """Owe GPUs beyond the end of a journal, where nobody looked: until another has them, or to the end."""
    latest = {stretch.uuid: stretch for stretch in one.stretches}
    rows, stretches = list(one.rows), list(one.stretches)
    for uuid, stretch in latest.items():
        upto_ms = min((at_ms for at_ms in begins[uuid] if at_ms >= stretch.end_ms), default=end_ms)
        missing_ms = upto_ms - stretch.end_ms
        if uuid in one.staying and missing_ms > 0:
            stretches[stretches.index(stretch)] = stretch._replace(end_ms=upto_ms)
            amounts = Amounts(elapsed_ms=missing_ms)
            rows.append(AccountSum(uuid, stretch.node, State.UNKNOWN, "", amounts))
    return replace(one, rows=rows, stretches=stretches)


_Lost = dict[tuple[str, str], int]
"""How much time of a GPU in a node belongs to another node."""


def _settled(several: Sequence[Gathered]) -> tuple[list[Stretch], _Lost, list[Violation]]:
    """Find where each GPU was at any time: its stretches, what nodes lose, and what cannot be settled."""
    claims: defaultdict[str, list[_Claim]] = defaultdict(list)
    for source, one in enumerate(several):
        for stretch in one.stretches:
            claims[stretch.uuid].append(_Claim(stretch, source, one.seen_ms.get(stretch.uuid, 0)))
    unseen_ms: defaultdict[tuple[str, str], int] = defaultdict(int)
    for one in several:
        for row in one.rows:
            if row.state in _UNSEEN:
                unseen_ms[row.uuid, row.node] += row.amounts.elapsed_ms
    stretches: list[Stretch] = []
    lost: _Lost = {}
    torn: list[Violation] = []
    for uuid, told in claims.items():
        parts = list(_parts(told))
        stretches += _joined(parts)
        for claim in told:
            node = claim.stretch.node
            kept_ms = sum(one.end_ms - one.start_ms for one in parts if one.node == node)
            owed_ms = sum(
                one.stretch.end_ms - one.stretch.start_ms for one in told if one.stretch.node == node
            )
            lost[uuid, node] = owed_ms - kept_ms
            if lost[uuid, node] > unseen_ms[uuid, node]:
                hour_ms = claim.stretch.end_ms // HOUR_MS * HOUR_MS
                torn.append(Violation(uuid, hour_ms, kept_ms, owed_ms - unseen_ms[uuid, node]))
    return stretches, lost, list(dict.fromkeys(torn))


def _parts(told: Sequence[_Claim]) -> Iterator[Stretch]:
    """Cut the time of a GPU where claims begin and end, or the GPU was seen last; give each part to one."""
    edges = sorted({edge for one in told for edge in (one.stretch.start_ms, one.stretch.end_ms, one.seen_ms)})
    for start_ms, end_ms in pairwise(edges):
        here = [one for one in told if one.stretch.start_ms <= start_ms and end_ms <= one.stretch.end_ms]
        if not here:
            continue
        if len({one.stretch.node for one in here}) < len(here):
            node, from_, to = here[0].stretch.node, rfc3339(start_ms), rfc3339(end_ms)
            raise ReportError(
                f"two journals account for {here[0].stretch.uuid} in node {node} from {from_} to {to}: "
                "are they copies of one? leave one out"
            )
        seeing = [one for one in here if one.seen_ms >= end_ms]
        owner = (
            max(seeing, key=lambda one: one.stretch.start_ms)
            if seeing
            else max(here, key=lambda one: one.seen_ms)
        )
        yield owner.stretch._replace(start_ms=start_ms, end_ms=end_ms)


def _joined(parts: Iterable[Stretch]) -> list[Stretch]:
    """Join parts that follow one another in the same place."""
    found: list[Stretch] = []
    for part in parts:
        if found and found[-1][:3] == part[:3] and found[-1].end_ms == part.start_ms:
            found[-1] = found[-1]._replace(end_ms=part.end_ms)
        else:
            found.append(part)
    return found


def _less(rows: Iterable[AccountSum], lost: _Lost) -> Iterator[AccountSum]:
    """Take what belongs to other nodes from the time in which a GPU was not seen."""
    left = dict(lost)
    order = {state: place for place, state in enumerate(_UNSEEN)}
    for row in sorted(rows, key=lambda row: order.get(row.state, len(order))):
        taken_ms = min(left.get((row.uuid, row.node), 0), row.amounts.elapsed_ms)
        if taken_ms and row.state in order:
            left[row.uuid, row.node] -= taken_ms
            amounts = replace(
                row.amounts,
                elapsed_ms=row.amounts.elapsed_ms - taken_ms,
                busy_seen_ms=min(row.amounts.busy_seen_ms, row.amounts.elapsed_ms - taken_ms),
                energy_seen_ms=min(row.amounts.energy_seen_ms, row.amounts.elapsed_ms - taken_ms),
            )
            row = row._replace(amounts=amounts)  # noqa: PLW2901
        yield row
