"""Chains of GPM samples: exact means of every interval, whatever its length, and totals that only grow."""

from collections.abc import Iterator
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gpm import MEBIBYTE, RATES, RATIOS, Gpm
from agent.inventory import enumerate_devices
from agent.nvml import GpuGone, Nvml
from agent.simulated.calling import target
from agent.simulator import uninstall
from tests.agent.driven import START_MS, BentClock, Driver, Rig, of, refusals

EVERYTHING = frozenset(RATIOS) | frozenset(RATES)
INVALID, REFUSED, TIMEOUT = 2, 3, 10


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


class Bench:
    """A chain of one GPU. `metrics` holds (code, value) to answer by number of a metric."""

    def __init__(self, text: str = "h200x1:training", *refuse: str) -> None:
        self.clock = BentClock(START_MS)
        self.driver = Driver(text, self.clock, frozenset(refuse))
        self.nvml = Nvml()
        self.nvml.open()
        self.caller = enumerate_devices(self.nvml, {})[0][0].caller
        self.nvml.failures.clear()
        self.metrics: dict[int, tuple[int, float]] = {}
        self.unknown: set[int] = set()
        self.asked: list[list[int]] = []
        self.driver.meddle = self._meddle
        self.gpm = Gpm(self.caller)
        self.gpm.want(EVERYTHING)
        self.began_us = self.clock.true_us()
        self.gpm.take(self.clock.monotonic_ns())

    def _meddle(self, name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name != "nvmlGpmMetricsGet":
            return code
        asked = target(arguments[0])
        numbers = [asked.metrics[place].metricId for place in range(asked.numMetrics)]
        self.asked.append(numbers)
        for place, number in enumerate(numbers):
            if number in self.metrics:
                asked.metrics[place].nvmlReturn, asked.metrics[place].value = self.metrics[number]
        return INVALID if self.unknown & set(numbers) else code

    def take(self, seconds: float = 10) -> dict[str, float]:
        """End an interval so much later."""
        self.clock.wait(seconds)
        return self.gpm.take(self.clock.monotonic_ns())

    def truth(self, name: str, seconds: float) -> float:
        """Give the true mean over the last so many seconds."""
        now_ms = self.clock.true_us() // 1_000
        reading = self.driver.simulation.reading(0, now_ms - round(seconds * 1_000), now_ms)
        return float(getattr(reading, name))

    def bytes_sent(self) -> int:
        """Give the true bytes sent over PCIe since the chain began."""
        return self.driver.simulation.pcie_bytes(0, "tx", self.began_us, self.clock.true_us())

    def fails(self) -> dict[tuple[str, str], int]:
        """Count what failed since the last time."""
        failed = {key[1:]: times for key, times in self.nvml.failures.items()}
        self.nvml.failures.clear()
        return failed


def test_a_chain_tells_everything() -> None:
    """The first sample opens it; each further one gives the means of its interval, in one call."""
    bench = Bench()
    found = bench.take()
    assert found.keys() == EVERYTHING
    assert len(bench.asked) == 1
    for name in ("sm_active_ratio", "tensor_active_ratio", "dram_active_ratio", "graphics_active_ratio"):
        assert found[name] == pytest.approx(bench.truth(name, 10))
    assert found["pcie_tx_bytes_total"] == pytest.approx(bench.bytes_sent())
    assert bench.fails() == {}


@given(st.lists(st.floats(0.2, 400), min_size=1, max_size=8))
def test_intervals_of_any_length_chain(lengths: list[float]) -> None:
    """The means of all intervals add up to the whole time, and totals to all bytes: nothing lies between."""
    bench, active, whole = Bench("h200x1:bursty"), 0.0, 0.0
    for seconds in lengths:
        before_ns = bench.clock.monotonic_ns()
        found = bench.take(seconds)
        length_seconds = (bench.clock.monotonic_ns() - before_ns) / 1e9
        active, whole = active + found["sm_active_ratio"] * length_seconds, whole + length_seconds
    truth = bench.driver.simulation.sm_active_seconds(0, bench.began_us, bench.clock.true_us())
    assert active == pytest.approx(truth, rel=1e-4, abs=1e-4)
    assert found["pcie_tx_bytes_total"] == pytest.approx(bench.bytes_sent(), rel=1e-4, abs=1e4)


def test_a_late_sample_makes_a_longer_interval() -> None:
    """Five minutes without a look are in the mean of the next, and their bytes in the total."""
    bench = Bench()
    bench.take()
    found = bench.take(300)
    assert found["sm_active_ratio"] == pytest.approx(bench.truth("sm_active_ratio", 300))
    assert found["pcie_tx_bytes_total"] == pytest.approx(bench.bytes_sent())


def test_a_sample_that_comes_too_soon_is_none() -> None:
    """Two samples within the driver's own period tell nothing; the interval goes on to the next."""
    bench = Bench()
    bench.take()
    before = len(bench.asked)
    assert bench.take(0.05) == {}
    assert len(bench.asked) == before
    found = bench.take(9.95)
    assert found["sm_active_ratio"] == pytest.approx(bench.truth("sm_active_ratio", 10))
    assert found["pcie_tx_bytes_total"] == pytest.approx(bench.bytes_sent())


@pytest.mark.parametrize("value", [nan, inf, -inf, -1.0, 1e12])
def test_what_is_no_rate_leaves_the_total(value: float) -> None:
    """Bytes that cannot be are not added; the total stays and goes on growing."""
    bench = Bench()
    before = bench.take()["pcie_tx_bytes_total"]
    bench.metrics[20] = 0, value
    assert bench.take()["pcie_tx_bytes_total"] == before
    assert bench.fails() in ({}, {("pcie_tx_bytes_total", "impossible"): 1})
    bench.metrics.clear()
    assert bench.take()["pcie_tx_bytes_total"] > before


def test_no_number_is_no_mean() -> None:
    """NaN, which samples too close give, is neither 0 nor a failure; the others are told."""
    bench = Bench()
    bench.metrics = {2: (0, nan), 30: (0, nan)}
    found = bench.take()
    assert EVERYTHING - found.keys() == {"sm_active_ratio"}
    assert found["decoder_ratio"] == 0
    assert bench.fails() == {}


@pytest.mark.parametrize("per_cent", [100.5, -0.1, 1e300])
def test_a_share_above_the_whole_is_dropped_and_counted(per_cent: float) -> None:
    """It is neither clamped nor 0."""
    bench = Bench()
    bench.metrics[5] = 0, per_cent
    assert EVERYTHING - bench.take().keys() == {"tensor_active_ratio"}
    assert bench.fails() == {("tensor_active_ratio", "impossible"): 1}


def test_the_busiest_engine_of_a_kind_is_told() -> None:
    """Of eight decoders, of which some are refused, the largest share."""
    bench = Bench()
    bench.metrics = {30: (0, 12.5), 33: (0, 71.25), 37: (REFUSED, 0.0)}
    for _ in range(2):
        assert bench.take()["decoder_ratio"] == pytest.approx(0.7125)
    assert 37 in bench.asked[0]
    assert 37 not in bench.asked[1]
    assert bench.fails() == {}


def test_a_metric_that_is_refused_is_asked_for_once() -> None:
    """The others are told by the same call, and the lack is counted by its quantity."""
    bench = Bench()
    bench.metrics[3] = REFUSED, 0.0
    for _ in range(3):
        assert EVERYTHING - bench.take().keys() == {"sm_occupancy_ratio"}
    assert [3 in numbers for numbers in bench.asked] == [True, False, False]
    assert bench.fails() == {("sm_occupancy_ratio", "unsupported"): 1}


def test_a_metric_that_fails_once_is_asked_again() -> None:
    """A timeout of one metric is counted, and passes."""
    bench = Bench()
    bench.metrics[3] = TIMEOUT, 0.0
    assert EVERYTHING - bench.take().keys() == {"sm_occupancy_ratio"}
    assert bench.fails() == {("sm_occupancy_ratio", "failed"): 1}
    bench.metrics.clear()
    assert bench.take().keys() == EVERYTHING


@pytest.mark.parametrize("unknown", [{61}, {1, 61}, {20, 21}, set(range(30, 52))])
def test_a_driver_that_refuses_all_for_one_number_is_asked_one_by_one(unknown: set[int]) -> None:
    """Numbers that an old driver does not know are found out once; the rest is told in that very interval."""
    bench = Bench()
    bench.unknown = unknown
    lost = {name for name, numbers in RATIOS.items() if unknown >= set(numbers)}
    lost |= {name for name, number in RATES.items() if number in unknown}
    assert EVERYTHING - bench.take().keys() == lost
    calls = len(bench.asked)
    assert EVERYTHING - bench.take().keys() == lost
    assert len(bench.asked) == calls + 1
    assert bench.fails() == dict.fromkeys([(name, "unsupported") for name in lost], 1)


def test_a_pair_of_samples_that_is_refused_as_such_gives_up_no_number() -> None:
    """When each number alone is refused too, it is the samples; the next pair tells everything."""
    bench = Bench()
    bench.unknown = set(range(100))
    assert bench.take() == {}
    assert bench.fails() == {("gpm", "failed"): 1}
    bench.unknown = set()
    assert bench.take().keys() == EVERYTHING


def test_a_call_that_fails_later_is_not_asked_one_by_one() -> None:
    """Once all numbers were answered, INVALID_ARGUMENT is a failure of that interval."""
    bench = Bench()
    bench.take()
    bench.driver.codes["nvmlGpmMetricsGet"] = INVALID
    calls = bench.nvml.calls
    assert bench.take() == {}
    assert bench.nvml.calls == calls + 2  # a sample, and the question
    bench.driver.codes.clear()
    assert bench.take().keys() == EVERYTHING


@pytest.mark.parametrize("function", ["nvmlGpmSampleGet", "nvmlGpmMetricsGet", "nvmlGpmSampleAlloc"])
def test_what_is_refused_for_good_is_asked_for_once(function: str) -> None:
    """No sample, no metric: and no call any more."""
    bench = Bench("h200x1:training", f"function:{function}")
    assert (bench.take(), bench.take()) == ({}, {})
    calls = bench.nvml.calls
    assert bench.take() == {}
    assert bench.nvml.calls == calls
    assert bench.fails() == {("gpm", "unsupported"): 1}


@pytest.mark.parametrize("function", ["nvmlGpmSampleGet", "nvmlGpmMetricsGet", "nvmlGpmSampleAlloc"])
def test_a_gpu_that_is_gone_raises(function: str) -> None:
    """From whichever of the calls."""
    bench = Bench()
    if function == "nvmlGpmSampleAlloc":
        bench.gpm.close()
    bench.driver.codes[function] = 15
    with pytest.raises(GpuGone):
        bench.take()


def test_samples_are_given_back() -> None:
    """A chain holds two samples; when it is closed, none."""
    bench = Bench()
    bench.take()
    bench.take()
    assert len(bench.driver._samples._taken) == 2
    bench.gpm.close()
    bench.gpm.close()
    assert len(bench.driver._samples._taken) == 0


def test_a_new_chain_goes_on_with_the_totals() -> None:
    """What earlier chains of the same GPU added up is added to."""
    bench = Bench()
    totals: dict[str, float] = {}
    for expected in (1, 2, 3):
        chain = Gpm(bench.caller, totals=totals)
        chain.want(frozenset({"pcie_tx_bytes_total"}))
        chain.take(bench.clock.monotonic_ns())
        bench.clock.wait(10)
        bench.metrics[20] = 0, 0.1
        told = chain.take(bench.clock.monotonic_ns())
        assert told == {"pcie_tx_bytes_total": pytest.approx(expected * MEBIBYTE)}
        chain.close()


def test_a_card_without_these_metrics_says_so_once() -> None:
    """What has no GPM is asked a single time, and never for a sample."""
    driver = Driver("a100x1:training", BentClock(START_MS))
    nvml = Nvml()
    nvml.open()
    gpm = Gpm(enumerate_devices(nvml, {})[0][0].caller)
    assert not gpm.supported()
    assert not gpm.supported()
    assert gpm.take(0) == {}
    assert driver.asked["nvmlGpmQueryDeviceSupport", 0] == 1
    assert driver.asked["nvmlGpmSampleAlloc", 0] == 0


# Through the sampler


def totals_of(rig: Rig, seconds: float, index: int = 0) -> list[float | None]:
    """Give the total of bytes sent over PCIe of each tick of so much time."""
    return [of(tick, rig.uuid(index)).pcie_tx_bytes_total for tick in rig.run(seconds)]


def test_totals_go_on_when_the_driver_is_opened_anew() -> None:
    """A neighbour fell off the bus and the driver is opened anew: bytes go on growing, and few are lost."""
    rig = Rig("h200x2:training!lost=1@+25..+100")
    totals = [total for total in totals_of(rig, 200) if total is not None]
    assert len(rig.driver.opened_us) > 3
    assert len(totals) >= 20
    assert totals == sorted(totals)
    end_us = (rig.clock.true_us() - 350_000) // 1_000_000 * 1_000_000
    truth = rig.simulation.pcie_bytes(0, "tx", rig.clock.began_ms * 1_000, end_us)
    assert totals[-1] == pytest.approx(truth, rel=0.02)


def test_totals_go_on_when_a_gpu_is_admitted() -> None:
    """Fresh handles for all while the driver stays open: bytes go on, and no sample is left behind."""
    rig = Rig("h200x2:training")
    rig.sampler._shunned = {1: None}
    before = [total for total in totals_of(rig, 40) if total is not None]
    rig.sampler.admit(1)
    after = [total for total in totals_of(rig, 40) if total is not None]
    assert before + after == sorted(before + after)
    assert len(rig.driver._samples._taken) == 4


def test_totals_go_on_when_mig_comes_and_goes() -> None:
    """A GPU that is partitioned and whole again goes on counting what went over PCIe."""
    rig = Rig("h200x1:training!mig=0:3g.71gb+2g.35gb@+25..+65")
    totals = totals_of(rig, 120)
    assert None not in totals
    assert totals == sorted(total or 0 for total in totals)


def test_totals_outlast_a_tick_that_told_none() -> None:
    """A failure just before the driver is opened anew does not let them begin at 0."""
    rig = Rig("h200x2:training!lost=1@+25..+100")
    before = totals_of(rig, 24)
    rig.driver.codes["nvmlGpmMetricsGet"] = TIMEOUT
    assert totals_of(rig, 15)[-1] is None
    rig.driver.codes.clear()
    after = [total for total in totals_of(rig, 60) if total is not None]
    assert after[0] > (before[-1] or 0)


def test_bytes_over_nvlink_never_come_from_two_counters() -> None:
    """A value of the driver's counter that is not believed is not replaced by what the probe adds up."""
    rig = Rig("h200x1:training")
    rig.run(25)

    def jump(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        for field in target(arguments[1]) if name == "nvmlDeviceGetFieldValues" else ():
            if field.fieldId == 138:
                field.value.ullVal //= 3
        return code

    rig.driver.meddle = jump
    tick = rig.tick()
    assert tick.readings[0].nvlink_tx_bytes_total is None
    assert refusals([tick]) == {("nvlink_tx_bytes_total", "jumped"): 1}
