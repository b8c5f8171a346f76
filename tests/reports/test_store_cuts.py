"""Accounts of a store where prices change, and where windows begin within an hour."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pytest

from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.facts import FreeHour, HourSum
from reports.outline import Report
from reports.prices import PriceBook
from reports.report import build
from reports.sources.from_ledger import gather_from
from reports.sources.ledger import Account, Known, Looks, Quantity, Seat
from reports.window import Window
from tests.reports.small import MINUTE_MS, MONDAY_MS
from tests.reports.test_money import book

A, B = Seat("A", "n1"), Seat("B", "n2")
LATE_MS = 7_000
"""What a store holds is so old."""


class Piece(NamedTuple):
    """What a GPU did over [first, last) hours of Monday."""

    state: State
    owner: str
    first: float
    last: float


class Fleet:
    """A store of agents that tell their accounts every 10 s; of some time it may hold nothing of a node."""

    name = "http://store"

    def __init__(self, pieces: Mapping[Seat, Sequence[Piece]], silent: tuple[float, float] = (0, 0)) -> None:
        self._pieces = pieces
        self._silent = silent
        self.asked: list[int] = []

    def seats(self, from_ms: int, to_ms: int) -> Mapping[Seat, Known]:  # noqa: ARG002  they are always there
        """All of one model."""
        return {seat: Known(0, "NVIDIA H200", "", "") for seat in self._pieces}

    def first(self, from_ms: int, to_ms: int) -> int:  # noqa: ARG002  it has all
        """All of it."""
        return from_ms

    def looks(
        self, quantity: Quantity, moments: Sequence[int], back_ms: int, seats: Sequence[Seat] | None = None
    ) -> Looks:
        """Tell the accounts as of some seconds before."""
        self.asked += moments
        found: Looks = {}
        for seat, pieces in self._pieces.items():
            if seats is None or seat in seats:
                for at_ms in moments:
                    hour = (at_ms - LATE_MS - MONDAY_MS) / HOUR_MS
                    if self._silent[0] <= hour < self._silent[1]:
                        if hour - self._silent[0] > back_ms / HOUR_MS:
                            continue
                        hour = self._silent[0]
                    for one in pieces:
                        seconds = max(0.0, min(hour, one.last) - one.first) * 3600
                        account = Account(None if quantity == "busy_seconds" else one.state, one.owner)
                        amount = seconds * (100 if quantity == "joules" else 1)
                        found.setdefault(seat, {}).setdefault(account, []).append((at_ms, amount))
        return found

    def ends(self, moments: Sequence[int], back_ms: int) -> Mapping[str, Mapping[int, int]]:  # noqa: ARG002
        """Tell that they are late."""
        return {seat.node: {at_ms: at_ms - LATE_MS for at_ms in moments} for seat in self._pieces}

    def hours(self, window: Window) -> Iterator[HourSum]:  # noqa: ARG002
        """Nobody asks."""
        return iter(())

    def free(self, window: Window) -> Iterator[FreeHour]:  # noqa: ARG002
        """Give none."""
        return iter(())

    def sliced(self, from_ms: int, to_ms: int) -> Mapping[str, float]:  # noqa: ARG002
        """None is cut."""
        return {}

    def throttled(self, window: Window) -> Mapping[Seat, Mapping[str, int]]:  # noqa: ARG002
        """None was."""
        return {}

    def xids(self, window: Window) -> Mapping[Seat, Mapping[int, int]]:  # noqa: ARG002
        """None came."""
        return {}

    def findings(self, window: Window) -> list[Finding]:  # noqa: ARG002
        """Nothing was found."""
        return []


HISTORY = {
    A: [
        Piece(State.FREE, "", -30, 1),
        Piece(State.ACTIVE, "a", 1, 3),
        Piece(State.HELD_IDLE, "b", 3, 40),
    ],
    B: [Piece(State.ACTIVE, "a", -30, 1.75), Piece(State.DOWN, "", 1.75, 40)],
}


def report(fleet: Fleet, prices: PriceBook, first: float, last: float) -> Report:
    """Make a report of some hours of Monday."""
    window = Window(from_ms=MONDAY_MS + round(first * HOUR_MS), to_ms=MONDAY_MS + round(last * HOUR_MS))
    cuts = prices.cuts(window.from_ms, window.to_ms)
    drawn = gather_from(fleet, window, now_ms=MONDAY_MS + 30 * HOUR_MS, cuts=cuts)
    return build(drawn.gathered, window, prices=prices, now_ms=0)


def costs(told: Report) -> dict[str, float]:
    """Give the cost of each state that has one."""
    return {line.state.value: round(line.cost, 9) for line in told.states if line.cost}


def test_each_hour_of_a_store_costs_the_price_of_its_time() -> None:
    """Prices change at hours 2 and 4: active are 1 h at 1 and 1 h at 10, and 1.75 h at 1, and so on."""
    told = report(Fleet(HISTORY), book(1.0, 10.0, 100.0), 0, 6)
    assert costs(told) == {"free": 1.0, "active": 12.75, "held_idle": 210.0, "down": 220.25}
    assert told.inventory.cost == pytest.approx(444.0)
    assert told.identity_ok


def test_a_window_within_hours_is_exact() -> None:
    """From half past to a quarter past."""
    told = report(Fleet(HISTORY), book(1.0), 0.5, 3.25)
    hours = {
        line.state.value: line.amounts.elapsed_ms / HOUR_MS for line in told.states if line.amounts.elapsed_ms
    }
    assert hours == {"free": 0.5, "active": 3.25, "held_idle": 0.25, "down": 1.5}


def test_where_a_store_is_silent_as_prices_change_it_is_looked_at_by_the_hour() -> None:
    """Of half past one to half past two nothing is told: it is spread over that time, not over the day."""
    fleet = Fleet(HISTORY, silent=(1.5, 2.5))
    told = report(fleet, book(1.0, 10.0), 0, 24)
    assert costs(told)["free"] == pytest.approx(1.0)
    assert costs(told)["active"] == pytest.approx(12.75, abs=4.5)
    assert told.inventory.cost == pytest.approx(2 * (2 * 1.0 + 22 * 10.0))
    assert MONDAY_MS + 7 * HOUR_MS in fleet.asked


def test_without_a_change_of_price_nothing_more_is_asked() -> None:
    """Two moments for each quantity, and once more as the agents are late."""
    fleet = Fleet(HISTORY)
    report(fleet, book(1.0), 0, 6)
    edges = {MONDAY_MS, MONDAY_MS + 6 * HOUR_MS}
    assert set(fleet.asked) == edges | {at_ms + MINUTE_MS for at_ms in edges}
