"""Money: GPU time at a price, and nothing without one."""

from agent.tally import HOUR_MS
from agent.tick import State
from reports.money import cost_of, cost_of_all
from tests.reports.made import H100, H200, Did, made

FREE = Did("A", {State.FREE: 1.0})


def test_gpu_time_costs_its_price() -> None:
    """Three hours at 2.5."""
    assert cost_of(made(FREE, price=2.5), 3 * HOUR_MS, H200) == 7.5


def test_without_a_price_nothing_has_a_cost() -> None:
    """What is not known is not free, and a price of 0 is a price."""
    assert cost_of(made(FREE), HOUR_MS, H200) is None
    assert cost_of(made(FREE, price=0.0), HOUR_MS, H200) == 0.0


def test_groups_are_added_up() -> None:
    """One and two hours at 2; no groups cost nothing, if prices are known at all."""
    assert cost_of_all(made(FREE, price=2.0), {H200: HOUR_MS, H100: 2 * HOUR_MS}) == 6.0
    assert cost_of_all(made(FREE, price=2.0), {}) == 0.0
    assert cost_of_all(made(FREE), {H200: HOUR_MS}) is None
    assert cost_of_all(made(FREE), {}) is None
