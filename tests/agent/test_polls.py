"""What is gathered in an interval: polls are meant, counters are doubted before they are believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.polls import BYTES_PER_SECOND, JOULES_PER_SECOND, Counters, Polls

SECOND_NS = 1_000_000_000
ENERGY = "energy_joules_total"
POLLED = st.lists(st.floats(0, 1e6), min_size=1, max_size=20)


def test_polls_know_mean_largest_least_and_last() -> None:
    """None is no value: it does not count, and of no values nothing is known."""
    polls = Polls()
    for value in (2.0, None, 7.0, 0.0):
        polls.add("power_watts", value)
    assert (polls.mean("power_watts"), polls.largest("power_watts")) == (3, 7)
    assert (polls.least("power_watts"), polls.last("power_watts")) == (0, 0)
    polls.add("silent", None)
    assert (polls.mean("silent"), polls.largest("silent")) == (None, None)
    assert (polls.least("silent"), polls.last("silent")) == (None, None)


@given(POLLED)
def test_a_mean_lies_between_least_and_largest(values: list[float]) -> None:
    """Whatever was polled."""
    polls = Polls()
    for value in values:
        polls.add("power_watts", value)
    least, mean, largest = polls.least("power_watts"), polls.mean("power_watts"), polls.largest("power_watts")
    assert least is not None
    assert mean is not None
    assert largest is not None
    assert least - 1e-6 <= mean <= largest + 1e-6


class History:
    """A counter that is read once in ten seconds; `read` tells whether the value was believed."""

    def __init__(self, name: str = ENERGY) -> None:
        self.name = name
        self.counters = Counters()
        self.at_ns = 0

    def read(self, value: float, seconds: float = 10) -> bool:
        """Read a value so much later."""
        self.at_ns += round(seconds * SECOND_NS)
        doubted = self.counters.take({self.name: value}, self.at_ns)
        assert doubted == ([] if self.name in self.counters.values else [self.name])
        assert self.counters.values.get(self.name, value) == value
        return not doubted

    def reads(self, *values: float) -> list[bool]:
        """Read several values in a row."""
        return [self.read(value) for value in values]


def test_a_counter_that_grows_is_believed() -> None:
    """From the first value on, which there is nothing to compare with; standing still is growing by 0."""
    assert History().reads(5e6, 5e6 + 700, 5e6 + 700, 5e6 + 7_700) == [True] * 4


@pytest.mark.parametrize("wrong", [0.0, 4.9e6, 1.8e16, 5e6 + JOULES_PER_SECOND * 12])
def test_a_value_that_is_wrong_once_is_not_believed(wrong: float) -> None:
    """A counter that goes back once or jumps up once is doubted; what follows from before it is believed."""
    assert History().reads(5e6, 5e6 + 700, wrong, 5e6 + 2_100, 5e6 + 2_800) == [True, True, False, True, True]


def test_a_counter_that_restarts_for_good_is_believed_at_the_second_value() -> None:
    """One value is missing, then the driver's new counting goes on; so after every restart."""
    assert History().reads(5e6, 70, 770, 1_470) == [True, False, True, True]
    assert History().reads(5e6, 5e6, 70, 770, 30, 730, 1_430) == [True, True, False, True, False, True, True]


def test_alternating_nonsense_is_never_believed() -> None:
    """Values that follow from nothing believed and not from one another are doubted as long as they come."""
    history = History()
    assert history.read(5e6)
    wrong = [1.8e16, 4e6, 1.7e16, 3.9e6, 1.6e16, 3.8e6]
    assert history.reads(*wrong) == [False] * 6
    assert history.reads(5e6 + 7_000, 5e6 + 7_700) == [True, True]


def test_what_can_be_grows_with_the_time() -> None:
    """After an hour in which nothing was read, an hour's energy is believed, and no more."""
    for joules, believed in ((700 * 3_600.0, True), (JOULES_PER_SECOND * 3_700, False)):
        history = History()
        history.read(5e6)
        assert history.read(5e6 + joules, seconds=3_600) == believed


@pytest.mark.parametrize(
    ("name", "fastest"),
    [
        (ENERGY, JOULES_PER_SECOND),
        ("nvlink_tx_bytes_total", BYTES_PER_SECOND),
        ("throttle_power_cap_seconds_total", 1.0),
    ],
)
def test_each_unit_has_its_own_speed(name: str, fastest: float) -> None:
    """What grows as fast as it can is believed, twice as fast is not: time cannot pass faster than time."""
    history = History(name)
    assert history.reads(100.0, 100.0 + 10 * fastest) == [True, True]
    assert not history.read(100.0 + 10 * fastest + 25 * fastest)


def test_counts_may_grow_as_they_like() -> None:
    """A storm of errors has no speed limit, but does not go back unseen."""
    history = History("ecc_corrected_volatile_total")
    assert history.reads(0, 4e9, 3, 4) == [True, True, False, True]


def test_gauges_are_not_doubted() -> None:
    """A power limit may be lowered."""
    assert History("power_limit_watts").reads(700, 350, 700) == [True] * 3


def test_a_counter_that_is_not_read_has_no_value() -> None:
    """What the driver did not tell this time is not told from memory."""
    counters = Counters()
    counters.take({ENERGY: 1.0, "pcie_replays_total": 2.0}, SECOND_NS)
    counters.take({"pcie_replays_total": 2.0}, 2 * SECOND_NS)
    assert counters.values == {"pcie_replays_total": 2.0}


@given(st.lists(st.floats(0, 2.0**62), min_size=2, max_size=12))
def test_what_is_believed_follows_from_something(values: list[float]) -> None:
    """A believed value is no less than one that was read before it, and no faster than energy can be."""
    history, read = History(), list[float]()
    for value in values:
        if history.read(value) and read:
            assert any(0 <= value - old <= JOULES_PER_SECOND * 10 * (len(read) + 1) for old in read)
        read.append(value)
