"""Quality: the nodes that were seen worst, and what else to distrust."""

from dataclasses import replace

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.quality import quality
from reports.facts import Facts
from reports.outline import Report
from reports.prices import Price, PriceBook, default_prices
from reports.sums import Identity
from reports.window import Window
from tests.reports.made import H200, WEEK, Did, before, made

GOOD = Did("A", {State.ACTIVE: 168.0}, owner="a", busy=0.5, watts=300.0)


def remarks(report: Report, facts: Facts | None = None) -> tuple[str, ...]:
    """Give the remarks."""
    return quality(report, facts or Facts()).remarks


def test_there_is_nothing_to_say_of_good_data() -> None:
    """All seen, energy too, and a price."""
    found = quality(made(GOOD, price=2.0), Facts(weeks=(before(1, {H200: {State.ACTIVE: 168}}),)))
    assert (found.nodes, found.remarks) == ((), ())


def test_nodes_come_by_unknown_time() -> None:
    """GPUs of one node are added up; a node that was seen is not there."""
    report = made(
        GOOD,
        Did("B", {State.UNKNOWN: 10.0, State.FREE: 158.0}, node="n2"),
        Did("C", {State.UNKNOWN: 15.0, State.DOWN: 3.0, State.FREE: 150.0}, node="n3"),
        Did("D", {State.UNKNOWN: 10.0, State.FREE: 158.0}, node="n2"),
    )
    first, second = quality(report, Facts()).nodes
    assert (first.node, first.unknown_ms, first.coverage_ratio) == ("n2", 20 * HOUR_MS, 1 - 20 / 336)
    assert (second.node, second.inventory_ms, second.coverage_ratio) == ("n3", 168 * HOUR_MS, 1 - 15 / 165)


def test_there_are_never_more_than_ten_nodes() -> None:
    """The worst."""
    deeds = [Did(f"G{n}", {State.UNKNOWN: 1.0 + n, State.FREE: 99.0}, node=f"n{n}") for n in range(12)]
    assert [one.node for one in quality(made(*deeds), Facts()).nodes] == [f"n{n}" for n in range(11, 1, -1)]


def test_a_low_coverage_gives_bounds() -> None:
    """Below 98 % they matter, below 90 % weeks are not compared."""
    report = made(Did("A", {State.FREE: 160.0}), Did("A", {State.UNKNOWN: 8.0}), price=1.0)
    text = "coverage is 95.2 %: what was not seen may have been busy or not, so effective use lies between "
    assert remarks(report)[0] == text + "0.0 % and 4.8 %"
    assert not [one for one in remarks(report) if "not compared" in one]
    report = made(Did("A", {State.FREE: 84.0}), Did("A", {State.UNKNOWN: 84.0}), price=1.0)
    assert "below a coverage of 90.0 % weeks are not compared" in remarks(report)


def test_a_piece_of_a_window_is_said_to_be_one() -> None:
    """A day of a week."""
    day = Window(from_ms=WEEK.from_ms, to_ms=WEEK.from_ms + 24 * HOUR_MS)
    report = made(Did("A", {State.FREE: 24.0}, watts=1.0), covered=day, price=1.0)
    assert remarks(report) == (
        "only 24.0 h of 168.0 h of the window are accounted for, so it is not compared with other weeks",
    )


def test_energy_and_busy_time_that_were_not_seen() -> None:
    """Half of the time each."""
    report = made(
        Did("A", {State.ACTIVE: 84.0}, owner="a", busy=0.5, watts=300.0),
        Did("A", {State.HELD_IDLE: 84.0}, owner="a"),
        price=1.0,
    )
    assert remarks(report) == (
        "how busy GPUs were is known for 50.0 % of the time in which they were held",
        "energy was seen for 50.0 % of the time; the rest is missing, not 0",
    )


def test_weeks_that_are_missing_or_bad() -> None:
    """The last is two weeks back, and half of another was not seen."""
    good, poor = {State.ACTIVE: 168.0}, {State.ACTIVE: 84.0, State.UNKNOWN: 84.0}
    facts = Facts(weeks=(before(2, {H200: good}), before(3, {H200: poor})))
    hole, bad = remarks(made(GOOD, price=1.0), facts)
    assert hole.startswith("weeks are missing from 2026-11-09T00:00:00Z to 2026-11-16T00:00:00Z: ")
    assert bad.startswith("1 of the 2 weeks before were covered too badly to be compared; ")


def test_a_board_with_two_uuids() -> None:
    """And one that has none is no other."""
    identities = {
        "A": Identity("M", "7"),
        "B": Identity("M", "7"),
        "C": Identity("M", ""),
        "D": Identity("M", ""),
    }
    assert remarks(made(GOOD, price=1.0), Facts(identities=identities)) == (
        "serial 7 comes under 2 UUIDs, each with accounts of its own",
    )


def test_default_prices_and_what_has_none_are_remarked() -> None:
    """Whoever reads a sum of money must know whose prices these are."""
    (default,) = remarks(made(GOOD, prices=default_prices()))
    assert default.startswith("default price, not your contract")
    other = PriceBook(
        prices=(Price(model="x", per_gpu_hour=1.0), Price(model="y", per_gpu_hour=1.0)), name="p"
    )
    assert remarks(made(GOOD, prices=other)) == (
        f"p; all GPU time has no price and is in no sum of money: 168.0 GPU-hours of {GOOD.model}",
    )


def test_no_price_and_unread_journals() -> None:
    """What is left out is said."""
    report = replace(made(GOOD), unread=("n2: no such file",), violation_count=3)
    assert remarks(report) == (
        "in 3 GPU-hours the states do not sum to the time of the GPU",
        "1 journals could not be read; their GPUs are in no sum",
        "no price is set, so nothing here has a cost",
    )
