"""One GPU through an interval: counters are chained, rings are integrated, gauges are meant and bounded."""

from collections.abc import Callable, Iterator
from typing import Any

import pynvml
import pytest

from agent.nvml import GpuGone, Nvml
from agent.simulator import install, uninstall
from agent.tick import Condition, Reading
from agent.watch import RINGS, Polls, Watch
from tests.agent.test_sampler import START_MS, BentClock, Driver

SECOND_MS = 1000
EDGES = 0.01
"""What one interval of 10 s may owe its neighbours: parts of the samples of 1/6 s at its two edges."""


class Bench:
    """A watch of one simulated GPU; `live` polls it each second and gives the reading of an interval."""

    def __init__(self, text: str, *refuse: str) -> None:
        self.clock = BentClock(START_MS)
        self.driver = Driver(text, self.clock, frozenset(refuse))
        install(self.driver)
        self.nvml = Nvml()
        self.nvml.open()
        self.device = self.nvml.devices()[0][0]
        self.watch = Watch(self.nvml, self.device, self.clock)
        self.watch.poll()
        self.began_ms = START_MS

    def live(self, seconds: int = 10) -> Reading:
        """Let an interval pass; it begins where the last one ended."""
        start_ms = self.began_ms
        self.began_ms = end_ms = start_ms + seconds * SECOND_MS
        for at_ms in range(start_ms + SECOND_MS, end_ms + 1, SECOND_MS):
            self.clock.wait((at_ms - self.clock.wall_ms()) / SECOND_MS)
            if at_ms == end_ms:
                self.watch.turn()
            self.watch.poll()
            if (at_ms - start_ms) % (5 * SECOND_MS) == 0:
                self.watch.fetch(engines=True)
        self.clock.wait(0.35)
        self.watch.fetch(engines=True)
        return self.watch.reading(start_ms, end_ms)

    def truth(self, reading: Reading) -> Reading:
        """Give what a perfect agent would have read."""
        return self.driver.simulation.reading(0, reading.start_ms, reading.end_ms)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def test_polls_know_mean_largest_and_last() -> None:
    """None is no value: it does not count, and of no values nothing is known."""
    polls = Polls()
    for value in (2.0, None, 7.0, 0.0):
        polls.add("power_watts", value)
    assert (polls.mean("power_watts"), polls.largest("power_watts"), polls.last("power_watts")) == (3, 7, 0)
    polls.add("silent", None)
    assert (polls.mean("silent"), polls.largest("silent"), polls.last("silent")) == (None, None, None)


@pytest.mark.parametrize("scenario", ["bursty", "training", "hot", "held", "free"])
def test_a_reading_is_what_a_perfect_agent_would_read(scenario: str) -> None:
    """Busy time, power, memory, limits and clocks agree with the simulation; gauges within their quanta."""
    bench = Bench(f"h200x1:{scenario}")
    reading = bench.live()
    truth = bench.truth(reading)
    assert reading.busy_ratio == pytest.approx(truth.busy_ratio, abs=EDGES)
    assert reading.memory_busy_ratio == pytest.approx(truth.memory_busy_ratio, abs=EDGES)
    assert reading.power_watts == pytest.approx(truth.power_watts, rel=0.001)
    assert reading.energy_joules_total == pytest.approx(truth.energy_joules_total, abs=0.01)
    assert reading.temperature_celsius == pytest.approx(truth.temperature_celsius, abs=1)
    for name in ("encoder_ratio", "decoder_ratio", "jpeg_ratio", "ofa_ratio"):
        assert getattr(reading, name) == 0
    for name in ("memory_used_bytes", "memory_reserved_bytes", "memory_total_bytes", "power_limit_watts"):
        assert getattr(reading, name) == getattr(truth, name)
    for name in ("temperature_slowdown_celsius", "temperature_shutdown_celsius", "sm_clock_max_hertz"):
        assert getattr(reading, name) == getattr(truth, name)
    assert reading.memory_clock_hertz == truth.memory_clock_hertz


def test_energy_is_chained() -> None:
    """The value that closes an interval opens the next: powers times lengths are the counter's difference."""
    bench = Bench("h200x1:bursty")
    first, *later = [bench.live(3) for _ in range(6)]
    assert first.energy_joules_total is not None
    for reading in later:
        assert reading.energy_joules_total is not None
        joules = reading.energy_joules_total - first.energy_joules_total
        assert (reading.power_watts or 0) * 3 == pytest.approx(joules, abs=0.003)
        first = reading


def test_a_ring_that_dried_up_while_nothing_ran_is_nothing() -> None:
    """Products that stop sampling when idle: no samples and a utilisation of 0 mean 0."""
    bench = Bench("h200x1:free")
    bench.driver.codes["nvmlDeviceGetSamples"] = pynvml.NVML_ERROR_NOT_FOUND
    reading = bench.live()
    assert reading.busy_ratio == 0
    assert reading.memory_busy_ratio is None


def test_a_ring_that_dried_up_while_something_ran_is_unknown() -> None:
    """No samples although the driver says that it is busy: nothing is known, and certainly not 0."""
    bench = Bench("h200x1:training")
    bench.driver.codes["nvmlDeviceGetSamples"] = pynvml.NVML_ERROR_NOT_FOUND
    assert bench.live().busy_ratio is None


def test_less_than_half_of_an_interval_is_not_spoken_for() -> None:
    """A ring that was fetched too late covers its twelve seconds, and a minute is then unknown."""
    bench = Bench("h200x1:training")
    start_ms = bench.clock.wall_ms()
    bench.clock.wait(60)
    bench.watch.turn()
    bench.watch.poll()
    bench.watch.fetch(engines=True)
    assert bench.watch.reading(start_ms, start_ms + 60 * SECOND_MS).busy_ratio is None


def test_samples_that_cannot_be_are_counted() -> None:
    """A driver that gives 4294967295 % makes no figure, and the refusals are counted by quantity."""
    bench = Bench("h200x1:training")

    class Garbage(Driver):
        def _dated(self, call: Callable[..., int | bytes], *arguments: Any) -> int:  # noqa: ANN401
            code = super()._dated(call, *arguments)
            *_, count, buffer = arguments
            if not code and buffer is not None:
                for place in range(count._obj.value):
                    buffer[place].sampleValue.uiVal = 2**32 - 1
            return code

    install(Garbage("h200x1:training", bench.clock, frozenset({"energy"})))
    bench.nvml.open()
    bench.watch.adopt(bench.nvml.devices()[0][0])
    assert bench.live().busy_ratio is None
    counted = {key[1:]: times for key, times in bench.nvml.failures.items()}
    assert counted.pop(("field_83", "unsupported")) == 1  # so that the ring of power is read as well
    assert counted.keys() == {(name, "impossible") for name in RINGS}
    assert all(times > 0 for times in counted.values())


def test_processes_that_came_and_went_are_all_listed() -> None:
    """A process that was there in any look of the interval held the GPU."""
    bench = Bench("h200x1:demo")
    bench.live()
    before = {one.pid for one in bench.live().processes or ()}
    expected = {one.pid for one in bench.driver.simulation.processes(0, bench.clock.true_us())}
    assert before == expected
    assert expected


def test_processes_that_cannot_be_listed_are_unknown() -> None:
    """A refused list is not an empty one."""
    assert Bench("h200x1:training", "processes").live().processes is None
    assert Bench("h200x1:free").live().processes == ()


def test_energy_that_went_back_makes_no_power() -> None:
    """After a reset of the driver's counter the mean power of that interval is not known."""
    bench = Bench("h200x1:training")
    bench.live()
    fresh = Driver("h200x1:free", bench.clock, frozenset())
    install(fresh)
    bench.nvml.open()
    bench.watch.adopt(bench.nvml.devices()[0][0])
    assert bench.live().power_watts is None
    reading = bench.live()
    assert reading.power_watts == pytest.approx(77, rel=0.01)


def test_a_fresh_handle_goes_on_with_the_old_rings() -> None:
    """NVML opened anew for another GPU costs this one no sample."""
    bench = Bench("h200x1:bursty")
    bench.live(5)
    bench.nvml.close()
    bench.nvml.open()
    bench.watch.adopt(bench.nvml.devices()[0][0])
    reading = bench.live()
    assert reading.busy_ratio == pytest.approx(bench.truth(reading).busy_ratio, abs=EDGES)


def test_a_gpu_that_is_gone_raises_from_everything() -> None:
    """A watch does not make up readings of a GPU that does not answer."""
    bench = Bench("h200x1:training")
    bench.live()
    for name in ("FieldValues", "Samples", "ClockInfo"):
        bench.driver.codes[f"nvmlDeviceGet{name}"] = pynvml.NVML_ERROR_GPU_IS_LOST
    bench.watch.turn()
    asks: list[Callable[[], object]] = [
        bench.watch.poll,
        lambda: bench.watch.fetch(engines=True),
        lambda: bench.watch.reading(START_MS, START_MS + 10 * SECOND_MS),
    ]
    for ask in asks:
        with pytest.raises(GpuGone) as caught:
            ask()
        assert caught.value.condition is Condition.LOST
