"""Counters that only grow: a reset never takes anything back, and adds no more than what was seen."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.lifelong import ORIGINS, Chain, Lifelong, Row
from agent.quantities import Origin
from agent.tick import Part, Reading, reading_of

UUID = "GPU-5c1b0e4a-0000"
ENERGY, LINK, ECC, PCIE = (
    "energy_joules_total",
    "nvlink_tx_bytes_total",
    "ecc_corrected_aggregate_total",
    "pcie_tx_bytes_total",
)
"""One of each kind: the driver's witness, another of the driver's, one of the board, one of the probe."""


def reading(parts: Sequence[Part] = (), **values: float) -> Reading:
    """Make a reading that says only this."""
    return reading_of(UUID, 0, 1, values, parts=tuple(parts) or None)


def epochs(driver: str = "boot-1 570", probe: str = "1000") -> Mapping[Origin, str]:
    """Name whose counting it is."""
    return {"driver": driver, "device": "", "probe": probe}


def lift(
    counters: Lifelong, *, driver: str = "boot-1 570", probe: str = "1000", **values: float
) -> list[float]:
    """Lift a reading; give the totals in the order of the values."""
    lifted = counters.lift(reading_of(UUID, 0, 1, values), epochs(driver, probe))
    return [float(getattr(lifted, name)) for name in values]


def test_the_kinds_that_are_tested_are_of_these_origins() -> None:
    """The four counters stand for the three places where one is kept."""
    assert [ORIGINS[name] for name in (ENERGY, LINK, ECC, PCIE)] == ["driver", "driver", "device", "probe"]


def test_without_a_reset_totals_are_what_the_driver_says() -> None:
    """A reading whose counters only grew is given back as it is, and what is unknown stays unknown."""
    counters = Lifelong()
    for joules in (100.0, 100.0, 250.0):
        told = reading(energy_joules_total=joules)
        assert counters.lift(told, epochs()) is told


@pytest.mark.parametrize(
    ("after", "driver"),
    [
        (30.0, "boot-1 570"),
        (0.0, "boot-1 570"),
        (70.0, "boot-2 570"),
        (500.0, "boot-2 570"),
        (100.0, "boot-1 580"),
    ],
    ids=["GPU reset", "to 0", "boot", "boot, overtaken", "other driver"],
)
def test_a_counter_that_began_anew_goes_on(after: float, driver: str) -> None:
    """After a reset of the GPU, a boot or another driver, what is new is added to what was."""
    counters = Lifelong()
    lift(counters, energy_joules_total=100.0)
    assert lift(counters, driver=driver, energy_joules_total=after) == [100.0 + after]
    assert lift(counters, driver=driver, energy_joules_total=after + 7) == [107.0 + after]


def test_energy_is_the_witness_for_all_counters_of_the_driver() -> None:
    """When energy began anew all others of the driver did, also one that is beyond its old number by now."""
    counters = Lifelong()
    lift(counters, energy_joules_total=1e6, nvlink_tx_bytes_total=100.0)
    assert lift(counters, energy_joules_total=50.0, nvlink_tx_bytes_total=400.0) == [1e6 + 50, 500.0]
    assert lift(counters, energy_joules_total=60.0, nvlink_tx_bytes_total=410.0) == [1e6 + 60, 510.0]


def test_a_reset_of_the_driver_does_not_touch_what_others_keep() -> None:
    """The board keeps its errors and the probe its sums, whatever energy did."""
    counters = Lifelong()
    lift(counters, energy_joules_total=1e6, ecc_corrected_aggregate_total=7.0, pcie_tx_bytes_total=900.0)
    assert lift(
        counters, energy_joules_total=5.0, ecc_corrected_aggregate_total=8.0, pcie_tx_bytes_total=950.0
    ) == [1e6 + 5, 8.0, 950.0]
    counted = counters.lift(
        reading([Part("ecc_location_errors_total", ("corrected", "aggregate", "dram"), 3.0)]), epochs()
    )
    assert counted.parts == (Part("ecc_location_errors_total", ("corrected", "aggregate", "dram"), 3.0),)


def test_what_the_probe_counts_goes_on_with_the_next_probe() -> None:
    """Another probe counts from 0, also when it is beyond the last number by now."""
    counters = Lifelong()
    lift(counters, pcie_tx_bytes_total=900.0)
    assert lift(counters, probe="2000", pcie_tx_bytes_total=1_000.0) == [1_900.0]


def test_errors_that_were_cleared_on_the_board_are_no_new_ones() -> None:
    """After an administrator cleared a board's counter the total stands still, and grows with new errors."""
    counters = Lifelong()
    lift(counters, ecc_corrected_aggregate_total=12.0)
    assert lift(counters, ecc_corrected_aggregate_total=0.0) == [12.0]
    assert lift(counters, driver="boot-2 570", ecc_corrected_aggregate_total=2.0) == [14.0]


def test_a_small_step_back_is_no_reset() -> None:
    """A number a little less than the last is an answer from before: the total stands until it is passed."""
    counters = Lifelong()
    lift(counters, energy_joules_total=1_000.0)
    assert lift(counters, energy_joules_total=950.0) == [1_000.0]
    assert lift(counters, energy_joules_total=990.0) == [1_000.0]
    assert lift(counters, energy_joules_total=1_010.0) == [1_010.0]


def test_silence_changes_nothing() -> None:
    """A reading without counters, as of a lost GPU, neither ends nor begins a chain."""
    counters = Lifelong()
    lift(counters, energy_joules_total=1_000.0)
    counters.saved()
    assert counters.lift(reading(), epochs()) == reading()
    assert counters.changed() == []
    assert lift(counters, energy_joules_total=1_001.0) == [1_001.0]


def test_gpus_do_not_share_counters() -> None:
    """Each UUID and each part has a chain of its own."""
    counters = Lifelong()
    other = reading_of("GPU-other", 0, 1, {ENERGY: 5.0})
    links = [Part("nvlink_link_errors_total", (link, "replay"), 4.0) for link in ("0", "1")]
    lift(counters, energy_joules_total=1_000.0)
    counters.lift(reading(links), epochs())
    assert counters.lift(other, epochs()) == other
    again = counters.lift(reading([links[0]._replace(value=1.0), links[1]._replace(value=5.0)]), epochs())
    assert [part.value for part in again.parts or ()] == [5.0, 5.0]


def test_gauges_among_the_parts_are_left_alone() -> None:
    """The speed of a fan may fall."""
    counters = Lifelong()
    for ratio in (0.9, 0.2):
        told = reading([Part("fan_speed_ratio", ("0",), ratio)])
        assert counters.lift(told, epochs()) is told


def test_only_what_changed_is_written() -> None:
    """A row is due once after a change, `all` gives every row, and rows make an equal book."""
    counters = Lifelong()
    lift(counters, energy_joules_total=1_000.0, nvlink_tx_bytes_total=5.0)
    assert counters.changed() == [
        Row(UUID, ENERGY, Chain(0.0, 1_000.0, "boot-1 570")),
        Row(UUID, LINK, Chain(0.0, 5.0, "boot-1 570")),
    ]
    counters.saved()
    lift(counters, energy_joules_total=1_000.0, nvlink_tx_bytes_total=6.0)
    assert [row.name for row in counters.changed()] == [LINK]
    assert Lifelong(counters.all()).all() == counters.all()


_growth = st.integers(0, 10**6).map(float)
_joules = st.integers(1, 10**6).map(float)
_looks = st.lists(st.tuples(_growth, _growth, st.booleans(), _joules), max_size=12)
"""For each look: what came before a reset and was not seen, what came after or without it, and whether the
agent itself was started anew; the last is how much energy flowed."""


@given(_looks, st.lists(st.booleans(), min_size=12, max_size=12))
def test_totals_never_go_down_and_lose_only_what_nobody_saw(
    looks: list[tuple[float, float, bool, float]], resets: list[bool]
) -> None:
    """With energy as the witness a total is exactly the growth that was seen between resets."""
    counters = Lifelong()
    energy, link, expected, true, last = 1e7, 0.0, 0.0, 0.0, 0.0
    lift(counters, energy_joules_total=energy, nvlink_tx_bytes_total=link)
    for (unseen, growth, restarted, joules), reset in zip(looks, resets, strict=False):
        true += growth
        if reset:
            true += unseen
            energy, link = min(joules, energy / 2), growth
        else:
            energy, link = energy + joules, link + growth
        expected += growth
        if restarted:
            counters = Lifelong(counters.all())
        (_, total) = lift(counters, energy_joules_total=energy, nvlink_tx_bytes_total=link)
        assert total == expected
        assert last <= total <= true
        last = total


_raw = st.floats(0, 1e15)
_any = st.tuples(
    st.sampled_from([ENERGY, LINK, ECC, PCIE]),
    _raw,
    st.sampled_from("ab"),
    st.sampled_from("12"),
    st.booleans(),
)


@given(st.lists(_any, max_size=40))
def test_no_total_ever_goes_down(steps: list[tuple[str, float, str, str, bool]]) -> None:
    """Whatever numbers come, in whatever epochs, and however often the agent is started anew."""
    counters = Lifelong()
    highest: dict[str, float] = {}
    for name, raw, driver, probe, restarted in steps:
        if restarted:
            counters = Lifelong(counters.all())
        (total,) = lift(counters, driver=driver, probe=probe, **{name: raw})
        assert total >= raw
        assert total >= highest.get(name, 0.0)
        highest[name] = total
