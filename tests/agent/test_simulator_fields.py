"""Fields of the simulated driver by scope and model: each entry is answered for itself."""

from collections.abc import Iterator
from ctypes import byref
from typing import Any

import pynvml
import pytest

from agent.simulated.defects import Defects
from agent.simulated.models import MODELS
from agent.simulator import uninstall
from tests.agent.test_simulator import NOON, SECOND, Bench

ALL_LINKS = 0xFFFFFFFF
LINKS = {"h200": 18, "h100": 18, "a100": 12, "t4": 0, "geforce": 0}
TRAFFIC = (138, 139, 140, 141)
OF_LINK = (161, 162, 163, 164, 165, 167)
MARGINS = {193: -8, 194: -2, 195: 0, 196: 0}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def ask(bench: Bench, *wanted: int | tuple[int, int]) -> list[Any]:
    """Read fields in one batch: the value of each as a whole number, None where it is refused."""
    answer = pynvml.nvmlDeviceGetFieldValues(bench.handle(), list(wanted))
    assert {one.nvmlReturn for one in answer} <= {0, 3}
    return [
        None if one.nvmlReturn else one.value.siVal if one.valueType == 5 else one.value.ullVal
        for one in answer
    ]


def with_defects(text: str, defects: Defects) -> Bench:
    """Make a node whose every GPU has these defects."""
    bench = Bench(text)
    bench.simulation.defects_at = lambda _gpu, _at_us: defects
    return bench


@pytest.mark.parametrize("model", MODELS)
def test_links_are_scopes(model: str) -> None:
    """Traffic is told by link and for all, other figures of links by link; a link too many is refused."""
    bench, links = Bench(f"{model}x1:training"), LINKS[model]
    for number in TRAFFIC:
        told = ask(bench, *((number, link) for link in range(19)), (number, ALL_LINKS))
        assert [value is not None for value in told] == [link < links for link in range(19)] + [links > 0]
        assert sum(value or 0 for value in told[:-1]) == (told[-1] or 0)
    for number in OF_LINK:
        told = ask(bench, *((number, link) for link in range(19)), (number, ALL_LINKS))
        assert [value is not None for value in told] == [link < links for link in range(19)] + [False]
    assert ask(bench, 91, (91, 1)) == [links or None, None]
    assert [value is not None for value in ask(bench, 38, 45, 52, 59, 160)] == [links > 0] * 5


def test_bytes_over_nvlink_grow_by_the_truth() -> None:
    """Differences of the counters are the bytes of the truth to the KiB, with protocol a little more."""
    bench = Bench("h200x1:bursty")
    scoped = [(number, ALL_LINKS) for number in TRAFFIC]
    before = ask(bench, *scoped)
    bench.now_us += 61_234_567
    grown = [(new - old) * 1_024 for old, new in zip(before, ask(bench, *scoped), strict=True)]
    sent = bench.simulation.nvlink_bytes(0, "tx", NOON, bench.now_us)
    received = bench.simulation.nvlink_bytes(0, "rx", NOON, bench.now_us)
    assert grown[:2] == [pytest.approx(sent, abs=1_024), pytest.approx(received, abs=1_024)]
    assert grown[2:] == [
        pytest.approx(sent * 17 / 16, abs=1_024),
        pytest.approx(received * 17 / 16, abs=1_024),
    ]


def test_no_link_ever_counts_backwards() -> None:
    """However the total is shared out, each link's counter only grows."""
    bench = Bench("h100x1:training")
    scoped = [(138, link) for link in range(18)]
    before = ask(bench, *scoped)
    for step in range(50):
        bench.now_us += 1_000 + step
        after = ask(bench, *scoped)
        assert all(new >= old for old, new in zip(before, after, strict=True))
        before = after


@pytest.mark.parametrize("model", MODELS)
def test_the_module_has_no_power_and_only_an_h200s_memory_has(model: str) -> None:
    """Scope 0 is the GPU, 2 its memory; 1 and all others are refused."""
    told = ask(Bench(f"{model}x1:training"), *((186, scope) for scope in range(4)))
    assert [value is not None for value in told] == [True, False, model == "h200", False]


def test_memory_power_follows_the_traffic() -> None:
    """Memory draws 46 W without traffic, and in the mean of a second what its bandwidth adds."""
    assert ask(Bench("h200x1:free"), (185, 2), (186, 2)) == [46_000, 46_000]
    bench = Bench("h200x1:bursty")
    dram = bench.simulation.dram_active_seconds(0, NOON - SECOND, NOON)
    assert ask(bench, (185, 2)) == [pytest.approx(46_000 + 52_000 * dram, abs=1)]


@pytest.mark.parametrize("model", MODELS)
def test_margins_of_hopper_are_offsets(model: str) -> None:
    """Shutdown and slowdown lie beyond the operating maximum, by less than nothing."""
    expected = list(MARGINS.values()) if model in ("h200", "h100") else [None] * 4
    assert ask(Bench(f"{model}x1"), *MARGINS) == expected


@pytest.mark.parametrize("model", MODELS)
def test_each_model_has_its_own_way_to_mend_memory(model: str) -> None:
    """A T4 retires pages, parts with HBM remap rows, a GeForce does neither."""
    bench, has_hbm = Bench(f"{model}x1"), LINKS[model] > 0
    assert ask(bench, 29, 30, 92, 93) == [0 if model == "t4" else None] * 4
    assert ask(bench, *range(142, 146)) == [0 if has_hbm else None] * 4
    assert ask(bench, 230) == [0 if model in ("h200", "h100") else None]
    assert ask(bench, 226, 227) == [None, None]


@pytest.mark.parametrize(
    ("model", "places"),
    [("h200", (11, 12, 22, 23)), ("a100", (9, 10, 11, 12, 20, 21, 22, 23)), ("t4", tuple(range(7, 29)))],
)
def test_errors_are_told_by_the_places_that_a_model_has(model: str, places: tuple[int, ...]) -> None:
    """Older parts tell every small memory, Hopper the device memory only; all tell totals."""
    told = ask(Bench(f"{model}x1"), *range(1, 29))
    assert told[:6] == [1, 1, 0, 0, 0, 0]
    assert tuple(number for number in range(7, 29) if told[number - 1] is not None) == places


def test_a_geforce_tells_no_errors_of_memory() -> None:
    """It has no ECC; replays of PCIe packets it counts."""
    bench = Bench("geforcex1")
    assert ask(bench, *range(1, 29)) == [None] * 28
    assert ask(bench, 94, 95, 173) == [0, 0, None]


def test_ecc_that_is_off_tells_nothing() -> None:
    """Neither totals nor places are told then, only that it is off."""
    bench = with_defects("h200x1", Defects(ecc_on=False))
    assert ask(bench, 1, 3, 6, 11) == [0, None, None, None]


def test_errors_come_from_the_defects() -> None:
    """Totals are sums over places, and what is kept on the board outlives the driver."""
    bench = with_defects(
        "a100x1",
        Defects(ecc_corrected=5, sram_corrected=2, earlier_corrected=40, ecc_uncorrected=1, pcie_replays=9),
    )
    assert ask(bench, 3, 4, 5, 6, 9, 11, 12, 22) == [7, 1, 47, 1, 2, 5, 1, 45]
    assert ask(bench, 94, 173) == [9, 0]


def test_a_bad_link_stands_out() -> None:
    """Its errors are counted for it and in the total, and it may be down."""
    bench = with_defects(
        "h200x1", Defects(faulty_link=7, link_crc=12, link_recoveries=3, links_down=frozenset({7, 8}))
    )
    assert ask(bench, 45, 59, (163, 7), (163, 6), (162, 7), (161, 7)) == [12, 3, 12, 0, 3, 0]
    assert ask(bench, (165, 6), (165, 7), (165, 8)) == [1, 0, 0]


def test_time_below_the_base_clock_is_that_of_any_slowdown() -> None:
    """Heat lowers the clock below the base, and power capping does not."""
    bench = Bench("h200x1:hot")
    (before,) = ask(bench, 81)
    bench.now_us += 95 * SECOND
    grown = (ask(bench, 81)[0] - before) / 1e9
    assert grown == pytest.approx(bench.simulation.throttle_seconds(0, "sw_thermal", NOON, bench.now_us))
    assert ask(Bench("h200x1:training"), 80, 81) == [0, 0]


def test_a_batch_is_filled_where_it_lies() -> None:
    """A caller that keeps its array finds every entry with time, type and code, in the order asked."""
    bench = Bench("h200x1:training")
    wanted = [(83, 0), (138, ALL_LINKS), (185, 1), (83, 0)]
    values = (pynvml.c_nvmlFieldValue_t * len(wanted))()
    for entry, (number, scope) in zip(values, wanted, strict=True):
        entry.fieldId, entry.scopeId = number, scope
    function = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetFieldValues")
    assert function(bench.handle(), len(wanted), byref(values)) == 0
    assert [(one.fieldId, one.scopeId) for one in values] == wanted
    assert [one.nvmlReturn for one in values] == [0, 0, 3, 0]
    assert {one.timestamp for one in values} == {bench.now_us}
    assert values[0].value.ullVal == values[3].value.ullVal > 0
    assert function(bench.handle(), 0, byref(values)) == 2
