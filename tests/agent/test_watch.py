"""One GPU through an interval: counters are chained, rings are integrated, gauges are meant and bounded."""

from collections.abc import Callable, Iterator
from typing import Any

import pynvml
import pytest

from agent.device import Device
from agent.inventory import enumerate_devices
from agent.nvml import GpuGone, Nvml
from agent.quantities import QUANTITIES
from agent.simulated.models import MODELS
from agent.simulator import install, uninstall
from agent.tick import Condition, Reading
from agent.watch import RINGS, Watch
from tests.agent.driven import START_MS, BentClock, Driver, known

SECOND_MS = 1000
EDGES = 0.01
"""What one interval of 10 s may owe its neighbours: parts of the samples of 1/6 s at its two edges."""


class Bench:
    """A watch of one simulated GPU; `live` polls it each second and gives the reading of an interval."""

    def __init__(self, text: str, *refuse: str) -> None:
        self.clock = BentClock(START_MS)
        self.driver = Driver(text, self.clock, frozenset(refuse))
        self.nvml = Nvml()
        self.nvml.open()
        self.watch = Watch(self.nvml, self.found(), self.clock)
        self.watch.poll()
        self.began_ms = START_MS

    def found(self) -> Device:
        """Give the GPU by a fresh handle."""
        return enumerate_devices(self.nvml, {})[0][0]

    def fails(self) -> set[tuple[str, str]]:
        """Name what failed since the last time, by quantity and reason."""
        failed = {key[1:] for key in self.nvml.failures}
        self.nvml.failures.clear()
        return failed

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
    for name in ("sm_active_ratio", "tensor_active_ratio", "dram_active_ratio", "fp32_active_ratio"):
        assert getattr(reading, name) == pytest.approx(getattr(truth, name), abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_every_quantity_of_the_model_is_told(model: str) -> None:
    """A reading tells what a perfect agent would have read, and nothing else."""
    bench = Bench(f"{model}x1:training")
    reading = bench.live()
    assert known(reading) == known(bench.truth(reading))
    assert reading.parts is not None
    assert reading.slices is None
    assert known(reading) < QUANTITIES.keys()


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
    bench = Bench("h200x1:training", "energy")
    bench.fails()

    def spoil(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == "nvmlDeviceGetSamples" and not code:
            *_, count, buffer = arguments
            for place in range(count._obj.value):
                buffer[place].sampleValue.uiVal = 2**32 - 1
        return code

    bench.driver.meddle = spoil
    assert bench.live().busy_ratio is None
    assert bench.fails() == {(name, "impossible") for name in RINGS}


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
    """After a reset of the driver's counter the mean power of that interval comes from the polls alone."""
    bench = Bench("h200x1:training")
    bench.live()
    bench.watch.release()
    bench.nvml.close()
    fresh = Driver("h200x1:free", bench.clock)
    fresh.codes["nvmlDeviceGetSamples"] = pynvml.NVML_ERROR_NOT_FOUND
    install(fresh)
    bench.nvml.open()
    bench.watch.adopt(bench.found())
    fresh.meddle = lambda name, _gpu, arguments, code: halved(name, arguments, code)
    bench.fails()
    reading = bench.live()
    assert reading.energy_joules_total is None
    assert ("energy_joules_total", "jumped") in bench.fails()
    assert 77 <= (reading.power_watts or 0) <= 692
    truth_joules = fresh.simulation.counters(0, bench.clock.true_us()).energy_nj / 2e9
    again = bench.live()
    assert again.energy_joules_total == pytest.approx(truth_joules, abs=1_000)
    assert again.power_watts == pytest.approx(77, rel=0.01)
    assert bench.fails() == set()


def halved(name: str, arguments: tuple[Any, ...], code: int) -> int:
    """Let the counter of energy be half of what it is: it has begun anew."""
    for field in arguments[1]._obj if name == "nvmlDeviceGetFieldValues" else ():
        if field.fieldId == 83:
            field.value.ullVal //= 2
    return code


def test_a_fresh_handle_goes_on_with_the_old_rings() -> None:
    """NVML opened anew for another GPU costs this one no sample."""
    bench = Bench("h200x1:bursty")
    bench.live(5)
    bench.watch.release()
    bench.nvml.close()
    bench.nvml.open()
    bench.watch.adopt(bench.found())
    reading = bench.live()
    assert reading.busy_ratio == pytest.approx(bench.truth(reading).busy_ratio, abs=EDGES)


def test_a_gpu_that_is_gone_raises_from_everything() -> None:
    """A watch does not make up readings of a GPU that does not answer."""
    bench = Bench("h200x1:training")
    bench.live()
    for name in ("FieldValues", "Samples", "UtilizationRates"):
        bench.driver.codes[f"nvmlDeviceGet{name}"] = pynvml.NVML_ERROR_GPU_IS_LOST
    bench.watch.turn()
    asks: list[Callable[[], object]] = [
        bench.watch.poll,
        lambda: bench.watch.fetch(engines=True),
        lambda: bench.watch.adopt(bench.watch.device),
        lambda: bench.watch.reading(START_MS + 3_600_000, START_MS + 3_610_000),  # no ring: it asks
    ]
    for ask in asks:
        with pytest.raises(GpuGone) as caught:
            ask()
        assert caught.value.condition is Condition.LOST


def test_slow_questions_are_put_once_a_minute() -> None:
    """Parts come with the first reading and then with one in six; modes are told by all."""
    bench = Bench("h200x1:training")
    readings = [bench.live() for _ in range(13)]
    assert [number for number, one in enumerate(readings) if one.parts is not None] == [0, 5, 11]
    assert {one.persistence_mode_flag for one in readings} == {1.0}


def test_gpus_are_asked_slow_questions_one_after_the_other() -> None:
    """After the first round, no two of eight GPUs are asked about their parts in the same second."""
    clock = BentClock(START_MS)
    Driver("h200x8:training", clock)
    nvml = Nvml()
    nvml.open()
    watches = [Watch(nvml, device, clock) for device in enumerate_devices(nvml, {})[0]]
    moments: dict[int, list[int]] = {}
    for second in range(125):
        for number, watch in enumerate(watches):
            watch.poll()
            watch.turn()
            if watch.reading(START_MS, START_MS + 1_000).parts is not None:
                moments.setdefault(number, []).append(second)
        clock.wait(1)
    assert [first for first, *_ in moments.values()] == [0] * 8
    later = [second for _, *seconds in moments.values() for second in seconds]
    assert len(set(later)) == len(later) >= 15


def test_a_poll_that_fails_once_loses_nothing_else() -> None:
    """A temperature that timed out leaves the other polls of the interval their mean."""
    bench = Bench("h200x1:free")
    bench.live(3)
    bench.driver.codes["nvmlDeviceGetTemperatureV"] = pynvml.NVML_ERROR_TIMEOUT
    bench.watch.poll()
    bench.driver.codes.clear()
    reading = bench.live()
    assert reading.temperature_celsius == pytest.approx(bench.truth(reading).temperature_celsius, abs=1)


def test_a_gpu_too_hot_has_a_margin_below_nothing() -> None:
    """Where clocks are lowered for heat the margin is what is left, or what is missing."""
    reading = (bench := Bench("h200x1:hot")).live()
    truth = bench.truth(reading)
    assert reading.temperature_margin_celsius == pytest.approx(truth.temperature_margin_celsius, abs=0.5)
    assert (reading.temperature_margin_celsius or 0) < 0


def test_a_memory_of_no_degrees_has_no_sensor() -> None:
    """Parts without one tell 0: that is not a temperature, and no failure."""
    bench = Bench("h200x1:training")
    bench.fails()

    def freeze(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        for field in arguments[1]._obj if name == "nvmlDeviceGetFieldValues" else ():
            if field.fieldId == 82:
                field.value.ullVal = 0
        return code

    bench.driver.meddle = freeze
    bench.live()
    reading = bench.live()
    assert (reading.memory_temperature_celsius, reading.memory_temperature_max_celsius) == (None, None)
    assert bench.fails() == set()
