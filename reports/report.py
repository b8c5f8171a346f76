"""Builds a report of what was gathered. Formulas: planning facts, section 2.1; all ratios are of sums."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from agent.states import UNATTRIBUTED
from agent.tick import State
from reports import sums
from reports.content.decisions import decide
from reports.money import Prices, prices_of
from reports.outline import Bounds, GpuLine, Inventory, OwnerLine, Report, SpellLine, StateLine
from reports.prices import PriceBook
from reports.sources.gathered import Gathered
from reports.sums import AccountSum, Amounts, Identity, StateSums, Stretch, ratio
from reports.window import Window

__all__ = ["Report", "build"]

MOST_SPELLS = 200
"""So many of the longest idle spells are looked at."""
MOST_VIOLATIONS = 20
_WORKLESS = (State.FREE, State.DRAINED, State.DOWN)
"""States in which a GPU whose busy time was not seen worked for nobody."""


def build(
    gathered: Gathered,
    window: Window,
    *,
    prices: PriceBook | None = None,
    pools: Mapping[str, str] | None = None,
    now_ms: int,
    unread: Sequence[str] = (),
) -> Report:
    """Account for a window by what was gathered of it; `unread` says what could not be read.

    Without prices nothing has a cost. `pools` gives the pool of a node. Raises ValueError where the window
    was not gathered with the cuts of the prices.
    """
    price = prices_of(prices or PriceBook(), gathered, pools or {})
    rows, stretches, broken = gathered.rows, gathered.stretches, gathered.violations
    gpus = _gpus(rows, stretches, gathered.identities, gathered.longest_spells, price)
    whole = sums.add_up(rows)
    owed_ms = sum(stretch.end_ms - stretch.start_ms for stretch in stretches)
    report = Report(
        window=window,
        covered=gathered.covered,
        span=gathered.span,
        made_ms=now_ms,
        prices=price,
        inventory=Inventory(
            gpus=len({stretch.uuid for stretch in stretches}),
            gpu_ms=owed_ms,
            cost=price.of_stretches(stretches),
        ),
        sums=whole,
        states=_states(rows, whole, owed_ms, price),
        coverage_ratio=_coverage(whole, owed_ms),
        effective_ratio=_effective(whole, owed_ms),
        energy_seen_ratio=ratio(whole.total.energy_seen_ms, owed_ms),
        violations=tuple(broken[:MOST_VIOLATIONS]),
        violation_count=len(broken),
        accounts=tuple(row for row in rows if row.amounts != Amounts()),
        owners=_owners(rows, price),
        gpus=gpus,
        spells=_spells(gathered.spells, gpus),
        findings=tuple(gathered.findings),
        decisions=(),
        unread=tuple(unread),
    )
    return replace(report, decisions=decide(report))


def _coverage(whole: StateSums, owed_ms: int) -> float | None:
    """1 - unknown / (inventory - down)."""
    unknown_ratio = ratio(whole.elapsed_ms(State.UNKNOWN), owed_ms - whole.elapsed_ms(State.DOWN))
    return None if unknown_ratio is None else 1 - unknown_ratio


def _effective(whole: StateSums, owed_ms: int) -> Bounds:
    """Busy time over inventory, with time for which it was not seen as 0 and as 1.

    Such time is unknown, or held by someone on a device that does not tell how busy it is; free, drained
    and down GPUs that say nothing do nothing.
    """
    busy_ms = whole.total.busy_us / 1000
    unseen_ms = sum(
        amounts.elapsed_ms - amounts.busy_seen_ms
        for state, amounts in whole.by_state.items()
        if state not in _WORKLESS
    )
    return Bounds(ratio(busy_ms, owed_ms), ratio(busy_ms + unseen_ms, owed_ms))


def _states(
    rows: Iterable[AccountSum], whole: StateSums, owed_ms: int, price: Prices
) -> tuple[StateLine, ...]:
    by_state: defaultdict[State, list[AccountSum]] = defaultdict(list)
    for row in rows:
        by_state[row.state].append(row)
    return tuple(
        StateLine(
            state=state,
            amounts=amounts,
            share_ratio=ratio(amounts.elapsed_ms, owed_ms),
            cost=price.of_rows(by_state[state]),
        )
        for state, amounts in whole.by_state.items()
    )


def _owners(rows: Iterable[AccountSum], price: Prices) -> tuple[OwnerLine, ...]:
    """Give a line for each owner, most idle first; `unattributed` has one even if it held nothing."""
    by_owner: dict[str, list[AccountSum]] = {UNATTRIBUTED: []}
    for row in rows:
        owner = sums.owner_of(row)
        if owner is not None:
            by_owner.setdefault(owner, []).append(row)
    lines = []
    for owner, held in by_owner.items():
        added = sums.add_up(held)
        lines.append(
            OwnerLine(
                owner=owner,
                sums=added,
                cost=price.of_rows(held),
                idle_cost=price.of_rows(row for row in held if row.state is State.HELD_IDLE),
            )
        )

    def order(line: OwnerLine) -> tuple[int, int, str]:
        return -line.sums.elapsed_ms(State.HELD_IDLE), -line.sums.total.elapsed_ms, line.owner

    return tuple(sorted(lines, key=order))


def _gpus(
    rows: Iterable[AccountSum],
    stretches: Iterable[Stretch],
    identities: Mapping[str, Identity],
    longest_ms: Mapping[tuple[str, str], int],
    price: Prices,
) -> tuple[GpuLine, ...]:
    accounts: defaultdict[tuple[str, str], list[AccountSum]] = defaultdict(list)
    places: defaultdict[tuple[str, str], list[Stretch]] = defaultdict(list)
    for row in rows:
        if row.amounts != Amounts():
            accounts[row.uuid, row.node].append(row)
    for stretch in stretches:
        places[stretch.uuid, stretch.node].append(stretch)
    lines = []
    for uuid, node in accounts.keys() | places.keys():
        added = sums.add_up(accounts[uuid, node])
        owed_ms = sum(place.end_ms - place.start_ms for place in places[uuid, node])
        identity = identities[uuid]
        lines.append(
            GpuLine(
                uuid=uuid,
                node=node,
                index=places[uuid, node][-1].position if places[uuid, node] else None,
                model=identity.model,
                serial=identity.serial,
                inventory_ms=owed_ms,
                sums=added,
                coverage_ratio=_coverage(added, owed_ms),
                longest_spell_ms=longest_ms.get((uuid, node)),
                cost=price.of_stretches(places[uuid, node]),
            )
        )
    return tuple(sorted(lines, key=lambda line: (line.node, _last_if_none(line.index), line.uuid)))


def _last_if_none(index: int | None) -> tuple[bool, int]:
    return index is None, index or 0


def _spells(rows: Sequence[sums.SpellRow], gpus: Iterable[GpuLine]) -> tuple[SpellLine, ...]:
    seats = {line.uuid: line for line in sorted(gpus, key=lambda line: line.inventory_ms)}
    return tuple(
        SpellLine(
            spell=row,
            node=seats[row.uuid].node if row.uuid in seats else "",
            index=seats[row.uuid].index if row.uuid in seats else None,
        )
        for row in rows
    )
