"""Money: GPU time at its price, at its time; what has no price is told and in no sum."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tally import HOUR_MS
from agent.tick import Condition, State
from reports.money import Rate
from reports.outline import Report
from reports.prices import Price, PriceBook, default_prices
from reports.sections import Group
from reports.window import Asked, Window, rfc3339
from tests.reports.made import H100, H200, Did, made
from tests.reports.small import (
    ALICE,
    BOB,
    MINUTE_MS,
    MONDAY_MS,
    Deed,
    Small,
    fleet_report_of,
    gpu,
    report_of,
)

FREE = Did("A", {State.FREE: 3.0})
WORK: Deed = (BOB, {"busy_ratio": 0.5, "power_watts": 100.0})
IDLE: Deed = (ALICE, {"busy_ratio": 0.0, "power_watts": 100.0})


def book(*prices: float, currency: str = "USD") -> PriceBook:
    """Make prices that follow one another every two hours from Monday on, the first always."""
    first, *later = (Price(per_gpu_hour=price) for price in prices)
    told = [
        Price(per_gpu_hour=price.per_gpu_hour, from_ms=MONDAY_MS + number * 2 * HOUR_MS)
        for number, price in enumerate(later, 1)
    ]
    return PriceBook(prices=(first, *told), currency=currency, name="price book p.toml")


def hourly(folder: Path, *hours: dict[int, Deed], name: str = "n1") -> Path:
    """Write what GPUs did hour by hour."""
    small = Small(folder / f"{name}.db")
    for does in hours:
        small.pass_by(HOUR_MS, {gpu(number): deed for number, deed in does.items()}, node=name)
    small.save()
    return small.path


def costs(report: Report) -> dict[str, float | None]:
    """Give the cost of each state in which there was time."""
    return {line.state.value: line.cost for line in report.states if line.amounts.elapsed_ms}


def test_gpu_time_costs_its_price() -> None:
    """Three hours at 2.5; a price of 0 is a price."""
    assert made(FREE, price=2.5).inventory.cost == 7.5
    assert made(FREE, price=0.0).inventory.cost == 0.0
    assert made(FREE, price=2.5).price_per_gpu_hour == 2.5


def test_without_a_price_nothing_has_a_cost() -> None:
    """What is not known is not free."""
    report = made(FREE)
    assert (report.inventory.cost, report.priced, report.prices.note) == (None, False, "")
    assert {line.cost for line in report.states} == {None}


def test_each_hour_costs_the_price_of_its_time(tmp_path: Path) -> None:
    """Two hours at 1 and two at 10; the first half hour without activity is a gap, all else is idle."""
    path = hourly(tmp_path, {0: WORK}, {0: WORK}, {0: WORK}, {0: IDLE})
    report = report_of(path, prices=book(1.0, 10.0))
    assert report.inventory.cost == 22.0
    assert costs(report) == {"active": 12.0, "held_gap": 5.0, "held_idle": 5.0}
    assert {line.owner: (line.cost, line.idle_cost) for line in report.owners} == {
        "alice": (10.0, 5.0),
        "bob": (12.0, 0.0),
        "unattributed": (0.0, 0.0),
    }
    assert [line.cost for line in report.gpus] == [22.0]
    assert report.price_per_gpu_hour is None
    assert report.prices.rates == (
        Rate(H200, MONDAY_MS, MONDAY_MS + 2 * HOUR_MS, 2 * HOUR_MS, 1.0),
        Rate(H200, MONDAY_MS + 2 * HOUR_MS, MONDAY_MS + 4 * HOUR_MS, 2 * HOUR_MS, 10.0),
    )
    assert report.prices.note == (
        "price book p.toml (USD per GPU-hour: NVIDIA H200 1, NVIDIA H200 10 from 2026-11-16T02:00:00Z)"
    )


def test_a_decision_costs_what_its_hours_cost(tmp_path: Path) -> None:
    """Hours in which a GPU was down, half busy hours, idle hours: each at the price of its time."""
    lost: Deed = (None, Condition.LOST)
    slow: Deed = (BOB, {"busy_ratio": 0.25})
    path = hourly(tmp_path, {0: slow, 1: lost}, {0: slow, 1: lost}, {0: slow, 1: lost}, {0: slow, 1: lost})
    found = {one.kind: one for one in report_of(path, prices=book(1.0, 10.0)).decisions}
    assert (found["down"].gpu_hours, found["down"].cost) == (4.0, 22.0)
    assert (found["barely_busy"].gpu_hours, found["barely_busy"].cost) == (3.0, 16.5)


def test_a_later_price_changes_no_earlier_week(tmp_path: Path) -> None:
    """Also one that says more closely what it is of."""
    path = hourly(tmp_path, *[{0: WORK}] * 4)
    asked = Asked(since=rfc3339(MONDAY_MS), until=rfc3339(MONDAY_MS + 2 * HOUR_MS))
    before = report_of(path, asked, prices=book(1.0))
    later = Price(per_gpu_hour=9.0, model="NVIDIA H200", from_ms=MONDAY_MS + 2 * HOUR_MS)
    told = PriceBook(prices=(*book(1.0).prices, later), currency="USD")
    after = report_of(path, asked, prices=told)
    assert costs(before) == costs(after) == {"active": 2.0}
    assert costs(report_of(path, prices=told)) == {"active": 20.0}


def test_what_has_no_price_is_told_and_in_no_sum() -> None:
    """The rest is a sum of a part; who has only such GPUs has no cost."""
    told = PriceBook(prices=(Price(model="*H200*", per_gpu_hour=2.0),), currency="USD", name="price book x")
    report = made(
        Did("A", {State.ACTIVE: 2.0}, owner="a"),
        Did("B", {State.ACTIVE: 3.0}, owner="b", model=H100.model),
        prices=told,
    )
    assert report.inventory.cost == 4.0
    assert costs(report) == {"active": 4.0}
    assert {line.owner: line.cost for line in report.owners if line.owner != "unattributed"} == {
        "a": 4.0,
        "b": None,
    }
    assert report.prices.note == (
        "price book x (USD per GPU-hour: NVIDIA H200 2); some GPU time has no price and is in no sum of "
        "money: 3.0 GPU-hours of NVIDIA H100 80GB HBM3"
    )


def test_where_nothing_has_a_price_there_is_no_money() -> None:
    """And that is said."""
    report = made(Did("A", {State.FREE: 1.0}, model="Tesla K80"), prices=default_prices())
    assert (report.priced, report.inventory.cost) == (False, None)
    assert report.prices.note.endswith(
        "; all GPU time has no price and is in no sum of money: 1.0 GPU-hours of Tesla K80"
    )


def test_a_default_price_is_nobodys_contract() -> None:
    """Wherever money is shown, this is."""
    report = made(FREE, prices=default_prices())
    assert report.inventory.cost == 11.25
    assert report.prices.is_default
    assert report.prices.title == "cost (default)"
    assert report.prices.note == (
        "default price, not your contract: public on-demand prices of May 2026 "
        "(USD per GPU-hour: NVIDIA H200 3.75)"
    )
    assert made(FREE, price=1.0).prices.title == "cost"


def test_pools_have_prices_of_their_own() -> None:
    """The pool of a node, and the same model."""
    told = PriceBook(prices=(Price(per_gpu_hour=1.0), Price(pool="serve*", per_gpu_hour=5.0)))
    report = made(
        Did("A", {State.FREE: 1.0}),
        Did("B", {State.FREE: 1.0}, node="n2"),
        prices=told,
        pools={"n2": "serve-eu"},
    )
    assert [line.cost for line in report.gpus] == [1.0, 5.0]
    assert [rate.group for rate in report.prices.rates] == [H200, Group("serve-eu", H200.model)]


def test_the_wrong_cuts_are_refused() -> None:
    """Nobody gets a cost that is wrong because rows were not cut where prices change."""
    with pytest.raises(ValueError, match="cuts"):
        made(FREE, prices=book(1.0, 2.0))


def test_time_that_nobody_saw_is_paid_at_its_time(tmp_path: Path) -> None:
    """The journal of one node ends an hour before a price changes: three hours are unknown, two at 10."""
    paths = [hourly(tmp_path, {0: WORK}), hourly(tmp_path, *[{1: WORK}] * 4, name="n2")]
    report = fleet_report_of(paths, prices=book(1.0, 10.0))
    assert costs(report) == {"active": 23.0, "unknown": 21.0}
    assert report.inventory.cost == 44.0


def test_a_gpu_that_was_carried_is_paid_once(tmp_path: Path) -> None:
    """It is missing in the first node from hour 1 on and turns up in the other at hour 3."""
    small = Small(tmp_path / "n2.db", MONDAY_MS + 3 * HOUR_MS)
    small.pass_by(HOUR_MS, {gpu(0): WORK}, node="n2")
    small.save()
    paths = [hourly(tmp_path, {0: WORK, 1: WORK}, *[{1: WORK}] * 3), small.path]
    report = fleet_report_of(paths, prices=book(1.0, 10.0))
    assert costs(report) == {"active": 33.0, "down": 11.0}
    assert report.inventory.cost == 44.0
    assert report.identity_ok


def test_time_spread_over_a_window_is_paid_in_its_parts(tmp_path: Path) -> None:
    """Six minutes of each hour, at 1 and at 10: a half of it each."""
    path = hourly(tmp_path, *[{0: WORK}] * 4)
    prices = report_of(path, prices=book(1.0, 10.0)).prices
    window = Window(from_ms=MONDAY_MS + HOUR_MS, to_ms=MONDAY_MS + 3 * HOUR_MS)
    assert prices.of_time(gpu(0).uuid, "n1", 12 * MINUTE_MS, window) == pytest.approx(0.1 + 1.0)
    assert prices.of_time("GPU-unknown", "n1", 12 * MINUTE_MS, window) is None


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write twelve hours of three GPUs that work, idle, fail and come late."""
    lost: Deed = (None, Condition.LOST)
    hours = [{0: WORK if number % 3 else IDLE, 1: lost if number % 4 == 1 else IDLE} for number in range(12)]
    return hourly(tmp_path_factory.mktemp("money"), *hours[:5], *({**one, 2: WORK} for one in hours[5:]))


MONEY = st.integers(0, 1000).map(lambda cents: cents / 100)
CHANGES = st.lists(
    st.builds(
        Price,
        per_gpu_hour=MONEY,
        model=st.sampled_from(["*", "NVIDIA*", "*H200"]),
        from_ms=st.integers(-2, 14).map(lambda hour: MONDAY_MS + hour * HOUR_MS),
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(changes=CHANGES, split=st.integers(1, 11))
def test_a_window_costs_what_its_parts_cost(journal: Path, changes: list[Price], split: int) -> None:
    """However prices change; and the states cost what the inventory does."""
    told = PriceBook(prices=(Price(per_gpu_hour=1.0), *changes))
    edge = rfc3339(MONDAY_MS + split * HOUR_MS)
    windows = Asked(everything=True), Asked(until=edge), Asked(since=edge)
    whole, first, second = (report_of(journal, asked, prices=told) for asked in windows)
    assert whole.inventory.cost == pytest.approx((first.inventory.cost or 0) + (second.inventory.cost or 0))
    for report in (whole, first, second):
        assert report.inventory.cost == pytest.approx(sum(line.cost or 0 for line in report.states))
        assert report.inventory.cost == pytest.approx(sum(line.cost or 0 for line in report.gpus))
        for line in report.states:
            assert (line.cost is None) == (report.inventory.cost is None)
    by_hand = sum(
        told.price(H200, MONDAY_MS + hour * HOUR_MS) or 0
        for hour in range(12)
        for _ in range(2 + (hour >= 5))
    )
    assert whole.inventory.cost == pytest.approx(by_hand)
