"""What GPU time costs: the one place where time becomes money, by what is priced and when.

GPU time without a price is in no sum, and is told; where nothing of a sum has a price, it has no cost.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.tally import HOUR_MS
from reports.prices import Carbon, PriceBook
from reports.sections import Group
from reports.sources.gathered import Gathered
from reports.sums import AccountSum, Stretch, parts_of
from reports.window import Window, rfc3339
from reports.wording import hours

MOST_RATES = 6
"""So many prices are named in a sentence."""
Place = tuple[str, str, int]
"""A GPU, its node, and since when a part of the window lasts."""


class Rate(NamedTuple):
    """What an hour of a GPU of a group cost over a time, None for nothing; `gpu_ms` is all their time."""

    group: Group
    from_ms: int
    to_ms: int
    gpu_ms: int
    per_gpu_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The prices that held in a window. `note` says what a reader must know of them; it may be empty.

    `per_gpu_hour` is by GPU, node and part of the window, `carbon` by part; `flat` is the one price of all.
    """

    currency: str = ""
    is_default: bool = False
    note: str = ""
    flat: float | None = None
    rates: tuple[Rate, ...] = ()
    cuts: tuple[int, ...] = ()
    per_gpu_hour: Mapping[Place, float] = field(default_factory=dict)
    pue_ratio: float = 1.0
    carbon: Mapping[int, Carbon | None] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What a sum of money is called."""
        return "cost (default)" if self.is_default else "cost"

    def cost(self, times: Iterable[tuple[Place, float]]) -> float | None:
        """Give what GPU time costs, in ms by place; None where nothing of it has a price."""
        known: defaultdict[float, float] = defaultdict(int)
        unknown_ms = 0.0
        for place, gpu_ms in times:
            price = self.per_gpu_hour.get(place)
            if price is None:
                unknown_ms += gpu_ms
            else:
                known[price] += gpu_ms
        if not self.per_gpu_hour or (unknown_ms and not any(known.values())):
            return None
        return sum(gpu_ms / HOUR_MS * price for price, gpu_ms in known.items())

    def of_rows(
        self,
        rows: Iterable[AccountSum],
        time_of: Callable[[AccountSum], float] = lambda row: row.amounts.elapsed_ms,
    ) -> float | None:
        """Give what the time of accounts costs, or a part of it."""
        return self.cost(((row.uuid, row.node, row.since_ms), time_of(row)) for row in rows)

    def of_stretches(self, stretches: Iterable[Stretch]) -> float | None:
        """Give what it costs that GPUs are there."""
        return self.cost(
            ((one.uuid, one.node, since_ms), part.to_ms - part.from_ms)
            for one in stretches
            for since_ms, part in parts_of(Window(from_ms=one.start_ms, to_ms=one.end_ms), self.cuts)
        )

    def of_time(self, uuid: str, node: str, gpu_ms: float, window: Window) -> float | None:
        """Give what time of GPUs like one costs that is spread evenly over a window."""
        length_ms = window.to_ms - window.from_ms
        parts = parts_of(window, self.cuts) if length_ms > 0 else ()
        return self.cost(
            ((uuid, node, since_ms), gpu_ms * (part.to_ms - part.from_ms) / length_ms)
            for since_ms, part in parts
        )


def prices_of(book: PriceBook, gathered: Gathered, pools: Mapping[str, str]) -> Prices:
    """Find the prices of all GPUs of a window; `pools` gives the pool of a node.

    Raises ValueError where it was not gathered with all moments at which prices change.
    """
    covered, cuts = gathered.covered, tuple(gathered.cuts)
    if not set(book.cuts(covered.from_ms, covered.to_ms)) <= set(cuts):
        raise ValueError("prices change within the window: gather it with the book's cuts")
    seats = {(row.uuid, row.node) for row in gathered.rows} | {
        (one.uuid, one.node) for one in gathered.stretches
    }
    groups = {
        (uuid, node): Group(pools.get(node, ""), gathered.identities[uuid].model) for uuid, node in seats
    }
    parts = list(parts_of(covered, cuts))
    known = {
        (group, since_ms): book.price(group, part.from_ms)
        for group in set(groups.values())
        for since_ms, part in parts
    }
    rates = tuple(_rates(groups, known, parts, gathered.stretches, cuts))
    return Prices(
        currency=book.currency,
        is_default=book.is_default,
        note=_note(book, rates),
        flat=book.flat,
        rates=rates,
        cuts=cuts,
        per_gpu_hour={
            (*seat, since_ms): price
            for seat, group in groups.items()
            for since_ms, _ in parts
            if (price := known[group, since_ms]) is not None
        },
        pue_ratio=book.pue_ratio,
        carbon={since_ms: book.carbon_at(part.from_ms) for since_ms, part in parts},
    )


def _rates(
    groups: Mapping[tuple[str, str], Group],
    known: Mapping[tuple[Group, int], float | None],
    parts: Sequence[tuple[int, Window]],
    stretches: Iterable[Stretch],
    cuts: Sequence[int],
) -> list[Rate]:
    """Tell what each group cost from when to when; times in which nothing changed are one."""
    lengths: Counter[tuple[Group, int]] = Counter()
    for one in stretches:
        for since_ms, part in parts_of(Window(from_ms=one.start_ms, to_ms=one.end_ms), cuts):
            lengths[groups[one.uuid, one.node], since_ms] += part.to_ms - part.from_ms
    found: list[Rate] = []
    for group in sorted(set(groups.values())):
        for number, (since_ms, part) in enumerate(parts):
            rate = Rate(group, part.from_ms, part.to_ms, lengths[group, since_ms], known[group, since_ms])
            before = found[-1] if number else None
            if before is not None and before.per_gpu_hour == rate.per_gpu_hour:
                found[-1] = before._replace(to_ms=rate.to_ms, gpu_ms=before.gpu_ms + rate.gpu_ms)
            else:
                found.append(rate)
    return found


def _note(book: PriceBook, rates: Sequence[Rate]) -> str:
    """Say where prices are from, which they are if they are few, and what has none."""
    if not book.prices:
        return ""
    if book.flat is not None:
        return f"{book.flat:,} per GPU-hour, for all GPUs"
    priced = [rate for rate in rates if rate.per_gpu_hour is not None]
    unpriced = [rate for rate in rates if rate.per_gpu_hour is None and rate.gpu_ms]
    note = book.name
    if 0 < len(priced) <= MOST_RATES:
        currency = f"{book.currency} " if book.currency else ""
        note += f" ({currency}per GPU-hour: {', '.join(_said(rate, rates[0].from_ms) for rate in priced)})"
    if unpriced:
        names = ", ".join(sorted({_named(rate.group) for rate in unpriced})[:MOST_RATES])
        gpu_ms = sum(rate.gpu_ms for rate in unpriced)
        whose = "some GPU time" if priced else "all GPU time"
        note += f"; {whose} has no price and is in no sum of money: {hours(gpu_ms)} GPU-hours of {names}"
    return note


def _said(rate: Rate, from_ms: int) -> str:
    since = f" from {rfc3339(rate.from_ms)}" if rate.from_ms > from_ms else ""
    return f"{_named(rate.group)} {rate.per_gpu_hour:,.4g}{since}"


def _named(group: Group) -> str:
    model = group.model or "unknown model"
    return f"{group.pool}, {model}" if group.pool else model
