"""What a report rests on: the sums of one journal, or of the journals of several nodes put together.

Each node accounts for its own GPUs. Put together, what no node looked at is unknown, as within one: a GPU
whose node's journal ends early is owed to the end. A GPU that was carried to another node is in both journals
until the first lets go of it, where it is down meanwhile: it counts where it was seen, once.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from agent.errors import ReportError
from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports import sums
from reports.sources.edges import outside
from reports.sources.identity import Violation, violations
from reports.sums import AccountSum, Amounts, Identity, SpellRow, Stretch
from reports.window import Span, Window, journal_span, overlap, rfc3339

_UNSEEN = (State.DOWN, State.UNKNOWN, State.DRAINED)
"""What a GPU may be in a node that it left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All of a window that a report is made from; the window is cut to the accounted time.

    `staying` names the GPUs that have not left their node; `unseen` tells of one by hour how long it was not
    seen, by state; `upto_ms` up to when a stretch is accounted for that was made longer; `name` is that of
    the journal; `cuts` are the moments at which its rows are cut.
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
    staying: frozenset[str]
    unseen: Callable[[str], Mapping[int, Mapping[State, int]]]
    upto_ms: Mapping[Stretch, int] = field(default_factory=dict)
    name: str = ""
    cuts: Sequence[int] = ()


class _Claim(NamedTuple):
    """That a GPU was in a node, by which journal, which accounts for it up to a moment."""

    stretch: Stretch
    source: int
    upto_ms: int


def gather(
    db: sqlite3.Connection, window: Window, most_spells: int, name: str = "", cuts: Sequence[int] = ()
) -> Gathered | None:
    """Read what a journal has of a window; None where it has nothing of it. Raises ReportError.

    Accounts are summed up from cut to cut, which are on whole hours: there prices change. Call it inside
    `reports.sums.snapshot`, if the journal may be written meanwhile.
    """
    span = journal_span(db)
    part = overlap(window, span)
    if part is None:
        return None
    stretches, beyond = sums.inventory(db, part), outside(db, part)
    return Gathered(
        covered=part,
        span=span,
        rows=sums.accounts(db, part, cuts, beyond),
        stretches=stretches,
        violations=violations(db, part, stretches, beyond),
        identities=sums.identities(db),
        longest_spells=sums.longest_spells(db, part),
        spells=sums.idle_spells(db, part, most_spells),
        findings=sums.findings(db, part),
        staying=sums.staying(db),
        unseen=partial(sums.unseen, db, part, _UNSEEN, beyond),
        name=name,
        cuts=tuple(cuts),
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
        rows=sorted(_less(rows, lost), key=_account),
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
        staying=frozenset(),
        unseen=lambda _: {},
        cuts=several[0].cuts,
    )


def _account(row: AccountSum) -> tuple[str, str, State, str, int]:
    return row.node, row.uuid, row.state, row.owner, row.since_ms


def _to_the_end(one: Gathered, end_ms: int, begins: Mapping[str, Sequence[int]]) -> Gathered:
    """Owe GPUs beyond the end of a journal, where nobody looked: until another has them, or to the end."""
    latest = {stretch.uuid: stretch for stretch in one.stretches}
    rows, stretches = list(one.rows), list(one.stretches)
    accounted: dict[Stretch, int] = {}
    for uuid, stretch in latest.items():
        upto_ms = min((at_ms for at_ms in begins[uuid] if at_ms >= stretch.end_ms), default=end_ms)
        missing_ms = upto_ms - stretch.end_ms
        if uuid in one.staying and missing_ms > 0:
            longer = stretch._replace(end_ms=upto_ms)
            stretches[stretches.index(stretch)] = longer
            accounted[longer] = stretch.end_ms
            missing = replace(one.covered, from_ms=stretch.end_ms, to_ms=upto_ms)
            for since_ms, part in sums.parts_of(missing, one.cuts):
                amounts = Amounts(elapsed_ms=part.to_ms - part.from_ms)
                rows.append(AccountSum(uuid, stretch.node, State.UNKNOWN, "", amounts, since_ms))
    return replace(one, rows=rows, stretches=stretches, upto_ms=accounted)


_Lost = Counter[tuple[str, str, State, int]]
"""How much of what a node says of a GPU that it did not see belongs to another node, since when."""


def _settled(several: Sequence[Gathered]) -> tuple[list[Stretch], _Lost, list[Violation]]:
    """Find where each GPU was: its stretches, what nodes lose, and hours that cannot be settled."""
    claims: defaultdict[str, list[_Claim]] = defaultdict(list)
    for source, one in enumerate(several):
        for stretch in one.stretches:
            claims[stretch.uuid].append(_Claim(stretch, source, one.upto_ms.get(stretch, stretch.end_ms)))
    stretches: list[Stretch] = []
    lost: _Lost = Counter()
    torn: list[Violation] = []
    for uuid, told in claims.items():
        sources = {one.source for one in told}
        if len(sources) == 1:
            stretches += [one.stretch for one in told]
            continue
        _refuse_copies(told, [one.name for one in several])
        unseen = {source: several[source].unseen(uuid) for source in sources}
        seen_in = dict.fromkeys(sources, 0)
        for hour_ms in _hours(told):
            hour = [part for one in told if (part := _part(one, hour_ms, unseen[one.source]))]
            seen_in |= {part.claim.source: hour_ms + 1 for part in hour if part.seen_ms}
            stretches += _share_out(hour, seen_in, lost, sums.since_of(several[0].cuts, hour_ms))
            seen_ms, whole_ms = sum(part.seen_ms for part in hour), _union_ms(hour)
            if seen_ms > whole_ms:
                torn.append(Violation(uuid, hour_ms, whole_ms, seen_ms))
    return stretches, lost, torn


def _hours(told: Iterable[_Claim]) -> range:
    first_ms = min(one.stretch.start_ms for one in told)
    return range(first_ms // HOUR_MS * HOUR_MS, max(one.stretch.end_ms for one in told), HOUR_MS)


def _share_out(
    hour: Sequence["_Part"], seen_in: Mapping[int, int], lost: _Lost, since_ms: int
) -> Iterator[Stretch]:
    """Give each node the time of an hour in which it saw a GPU; what nobody saw is of who saw it last."""
    left_ms = max(0, _union_ms(hour) - sum(part.seen_ms for part in hour))
    for part in sorted(hour, key=lambda part: (-seen_in[part.claim.source], -part.stretch.start_ms)):
        kept_ms = min(left_ms, part.unseen_ms)
        left_ms -= kept_ms
        _lose(lost, part, part.unseen_ms - kept_ms, since_ms)
        length_ms = part.seen_ms + kept_ms
        if length_ms:
            yield part.stretch._replace(end_ms=part.stretch.start_ms + length_ms)


class _Part(NamedTuple):
    """An hour of a claim: what of it the GPU was seen, and by state what it was not."""

    claim: _Claim
    stretch: Stretch
    states: Mapping[State, int]

    @property
    def unseen_ms(self) -> int:
        return sum(self.states.values())

    @property
    def seen_ms(self) -> int:
        return self.stretch.end_ms - self.stretch.start_ms - self.unseen_ms


def _part(claim: _Claim, hour_ms: int, unseen: Mapping[int, Mapping[State, int]]) -> _Part | None:
    stretch = claim.stretch
    start_ms, end_ms = max(stretch.start_ms, hour_ms), min(stretch.end_ms, hour_ms + HOUR_MS)
    if start_ms >= end_ms:
        return None
    states = dict(unseen.get(hour_ms, {}))
    beyond_ms = max(0, end_ms - max(start_ms, claim.upto_ms))
    states[State.UNKNOWN] = states.get(State.UNKNOWN, 0) + beyond_ms
    return _Part(claim, stretch._replace(start_ms=start_ms, end_ms=end_ms), states)


def _union_ms(hour: Iterable[_Part]) -> int:
    """Tell for how long at least one of them claims the GPU."""
    total = upto_ms = 0
    for stretch in sorted(part.stretch for part in hour):
        total += max(0, stretch.end_ms - max(stretch.start_ms, upto_ms))
        upto_ms = max(upto_ms, stretch.end_ms)
    return total


def _lose(lost: _Lost, part: _Part, gone_ms: int, since_ms: int) -> None:
    """Note that so much of an hour, in which a node did not see a GPU, is another's."""
    for state in _UNSEEN:
        taken_ms = min(gone_ms, part.states.get(state, 0))
        if taken_ms:
            lost[part.stretch.uuid, part.stretch.node, state, since_ms] += taken_ms
            gone_ms -= taken_ms


def _refuse_copies(told: Iterable[_Claim], names: Sequence[str]) -> None:
    """Raise ReportError where two journals are of the same node and time."""
    by_node: defaultdict[str, list[_Claim]] = defaultdict(list)
    for one in told:
        by_node[one.stretch.node].append(one)
    for node, claims in by_node.items():
        claims.sort(key=lambda one: one.stretch.start_ms)
        for one, other in pairwise(claims):
            if other.stretch.start_ms < one.stretch.end_ms:
                from_, to = rfc3339(other.stretch.start_ms), rfc3339(one.stretch.end_ms)
                both = f"{names[one.source]} and {names[other.source]}"
                raise ReportError(
                    f"{both} both account for {one.stretch.uuid} in node {node} from {from_} to {to}: "
                    "are they copies of one? leave one out"
                )


def _less(rows: Iterable[AccountSum], lost: _Lost) -> Iterator[AccountSum]:
    """Take what belongs to other nodes from the time in which a GPU was not seen."""
    for row in rows:
        key = row.uuid, row.node, row.state, row.since_ms
        taken_ms = min(lost[key], row.amounts.elapsed_ms)
        if taken_ms:
            lost[key] -= taken_ms
            left_ms = row.amounts.elapsed_ms - taken_ms
            amounts = replace(
                row.amounts,
                elapsed_ms=left_ms,
                busy_seen_ms=min(row.amounts.busy_seen_ms, left_ms),
                energy_seen_ms=min(row.amounts.energy_seen_ms, left_ms),
            )
            row = row._replace(amounts=amounts)  # noqa: PLW2901
        yield row
