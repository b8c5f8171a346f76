"""The simulated driver, asked through pynvml as an agent asks: honest codes, and one truth behind all."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pynvml
import pytest

from agent import simulator
from agent.simulated.fields import FIELDS
from agent.simulated.models import MODELS
from agent.simulated.phases import EPOCH_US, WEEK_US
from agent.simulated.scenario import parse_simulation
from agent.simulator import Library, install, uninstall

SECOND = 1_000_000
NOON = EPOCH_US + 157 * WEEK_US + 36 * 3_600 * SECOND + 123_457
"""Shortly after noon on Tuesday 6 January 2026."""
LINK_FIELDS = (*range(138, 142), *range(161, 168))
"""Fields that need the number of a link."""


class Bench:
    """A simulated node with a clock that the test sets."""

    def __init__(self, text: str, *refuse: str) -> None:
        self.now_us = NOON
        self.simulation = parse_simulation(text)
        self.driver = Library(self.simulation, lambda: self.now_us, refuse=frozenset(refuse))
        install(self.driver)
        pynvml.nvmlInit()

    def handle(self, index: int = 0) -> Any:  # noqa: ANN401  pynvml has no types
        """Return pynvml's handle of a GPU."""
        return pynvml.nvmlDeviceGetHandleByIndex(index)

    def field(self, number: int, index: int = 0) -> Any:  # noqa: ANN401
        """Read one field value."""
        return pynvml.nvmlDeviceGetFieldValues(self.handle(index), [number])[0]


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def code_of(function: Callable[..., object], *arguments: object) -> int:
    """Return the NVML code with which a call fails, 0 if it does not."""
    try:
        function(*arguments)
    except pynvml.NVMLError as error:
        return int(error.value)
    return 0


def test_before_init_and_after_shutdown_nothing_answers() -> None:
    """Calls outside init and shutdown are refused as uninitialised."""
    bench = Bench("h200x1")
    handle = bench.handle()
    pynvml.nvmlShutdown()
    assert code_of(pynvml.nvmlDeviceGetUUID, handle) == 1
    assert code_of(pynvml.nvmlDeviceGetCount) == 1
    assert code_of(pynvml.nvmlShutdown) == 1
    pynvml.nvmlInit()
    assert code_of(pynvml.nvmlDeviceGetUUID, handle) == 0


def test_versions_come_as_from_a_driver() -> None:
    """Driver, library and CUDA versions are told."""
    Bench("h200x1")
    assert pynvml.nvmlSystemGetDriverVersion() == "580.95.05"
    assert pynvml.nvmlSystemGetNVMLVersion() == "13.580.95.05"
    assert pynvml.nvmlSystemGetCudaDriverVersion() == pynvml.nvmlSystemGetCudaDriverVersion_v2() == 13_000
    assert "15" in pynvml.nvmlErrorString(15)


def test_identity_is_that_of_the_simulation() -> None:
    """What pynvml says of each GPU is what the simulation says."""
    bench = Bench("h200x8")
    assert pynvml.nvmlDeviceGetCount() == 8
    for index in range(8):
        handle, gpu = bench.handle(index), bench.simulation.gpu(index)
        assert pynvml.nvmlDeviceGetUUID(handle) == gpu.uuid
        assert pynvml.nvmlDeviceGetName(handle) == "NVIDIA H200"
        assert pynvml.nvmlDeviceGetSerial(handle) == gpu.serial
        assert pynvml.nvmlDeviceGetBoardPartNumber(handle) == gpu.board_part
        assert pynvml.nvmlDeviceGetVbiosVersion(handle) == gpu.vbios
        assert pynvml.nvmlDeviceGetPciInfo(handle).busId == gpu.pci_bus
        assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)) == index
        assert pynvml.nvmlDeviceGetPersistenceMode(handle) == 1


def test_an_unknown_gpu_is_refused() -> None:
    """An index beyond the last is an invalid argument, a foreign UUID is not found."""
    bench = Bench("h200x2")
    assert code_of(bench.handle, 2) == 2
    assert code_of(pynvml.nvmlDeviceGetHandleByUUID, "GPU-0") == 6


@pytest.mark.parametrize("scenario", ["training", "bursty", "hot", "held"])
def test_rings_integrate_to_the_truth(scenario: str) -> None:
    """Samples fetched every few seconds for five minutes add up to busy time within 0.1 %."""
    bench = Bench(f"h200x1:{scenario}")
    handle, first, last, busy = bench.handle(), 0, 0, 0.0
    for poll in range(60):
        bench.now_us = NOON + poll * 4_937_000
        for sample in pynvml.nvmlDeviceGetSamples(handle, pynvml.NVML_GPU_UTILIZATION_SAMPLES, last)[1]:
            assert 0 <= sample.sampleValue.uiVal <= 100
            assert sample.timeStamp <= bench.now_us
            first = first or sample.timeStamp
            if last:
                busy += sample.sampleValue.uiVal / 100 * (sample.timeStamp - last) / SECOND
            last = sample.timeStamp
    truth = bench.simulation.busy_seconds(0, first, last)
    assert busy == pytest.approx(truth, rel=0.001, abs=0.004)


def test_the_utilisation_ring_has_72_samples_a_sixth_of_a_second_apart() -> None:
    """A first fetch brings twelve seconds, and a second one right away nothing."""
    handle = Bench("h200x1:bursty").handle()
    _, samples = pynvml.nvmlDeviceGetSamples(handle, pynvml.NVML_GPU_UTILIZATION_SAMPLES, 0)
    steps = {after.timeStamp - before.timeStamp for before, after in pairwise(samples)}
    assert (len(samples), steps) == (72, {166_666, 166_667})
    assert code_of(pynvml.nvmlDeviceGetSamples, handle, 1, samples[-1].timeStamp) == 6


def test_the_power_ring_means_the_energy() -> None:
    """119 samples of 100 ms, whose sum is the energy of their time."""
    bench = Bench("geforcex1:bursty")
    _, samples = pynvml.nvmlDeviceGetSamples(bench.handle(), pynvml.NVML_TOTAL_POWER_SAMPLES, 0)
    assert len(samples) == 119
    joules = sum(sample.sampleValue.uiVal for sample in samples) / 1_000 * 0.1
    start_us, end_us = samples[0].timeStamp - 100_000, samples[-1].timeStamp
    assert joules == pytest.approx(bench.simulation.energy_joules(0, start_us, end_us), abs=0.001)


def test_idle_engines_have_samples_of_nothing() -> None:
    """The rings of encoder, decoder, JPEG and optical flow are full of zeros; memory's is lower than busy."""
    handle = Bench("h200x1:training").handle()
    for kind in (3, 4, 8, 9):
        assert {one.sampleValue.uiVal for one in pynvml.nvmlDeviceGetSamples(handle, kind, 0)[1]} == {0}
    busy, memory = (
        sum(one.sampleValue.uiVal for one in pynvml.nvmlDeviceGetSamples(handle, kind, 0)[1])
        for kind in (1, 2)
    )
    assert 0 < memory < busy
    assert code_of(pynvml.nvmlDeviceGetSamples, handle, pynvml.NVML_PROCESSOR_CLK_SAMPLES, 0) == 3


def test_energy_grows_by_the_truth() -> None:
    """Differences of the energy counter, by field and by call, are joules to the millijoule."""
    bench = Bench("h200x1:bursty")
    before = bench.field(83).value.ullVal
    bench.now_us += 61_234_567
    after = bench.field(191)
    assert (after.nvmlReturn, after.valueType, after.timestamp) == (0, 3, bench.now_us)
    assert after.value.ullVal == pynvml.nvmlDeviceGetTotalEnergyConsumption(bench.handle())
    truth = bench.simulation.energy_joules(0, NOON, bench.now_us)
    assert (after.value.ullVal - before) / 1_000 == pytest.approx(truth, abs=0.002)


def test_throttle_counters_grow_by_the_truth() -> None:
    """Nanoseconds of each reason are those of the simulation."""
    bench = Bench("h200x1:hot")
    reasons = {74: "power_cap", 76: "sync_boost", 79: "reliability", 269: "sw_thermal", 270: "hw_thermal"}
    before = {number: bench.field(number).value.ullVal for number in reasons}
    bench.now_us += 95 * SECOND
    for number, reason in reasons.items():
        grown = (bench.field(number).value.ullVal - before[number]) / 1e9
        assert grown == pytest.approx(bench.simulation.throttle_seconds(0, reason, NOON, bench.now_us))
    assert bench.field(269).value.ullVal > before[269]


def test_a_batch_refuses_field_by_field() -> None:
    """An unknown id and a foreign scope fail alone."""
    handle = Bench("h200x1:training").handle()
    answer = pynvml.nvmlDeviceGetFieldValues(handle, [186, 9_999, (186, 1), 185, 190, 194])
    assert [one.nvmlReturn for one in answer] == [0, 3, 3, 0, 0, 0]
    assert 77_000 <= answer[0].value.uiVal <= 692_000
    assert answer[4].value.uiVal == pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) == 700_000
    assert (answer[5].valueType, answer[5].value.siVal) == (5, -2)


def test_power_usage_is_a_mean_only_where_the_model_has_one() -> None:
    """An H200 answers the mean of a second, an A100 what it draws now."""
    bench = Bench("h200x1:bursty")
    mean = bench.simulation.energy_joules(0, NOON - SECOND, NOON)
    assert pynvml.nvmlDeviceGetPowerUsage(bench.handle()) == pytest.approx(mean * 1_000, abs=1)
    bench = Bench("a100x1:bursty")
    powers = set()
    for step in range(100):
        bench.now_us = NOON + step * 31_007
        powers.add(pynvml.nvmlDeviceGetPowerUsage(bench.handle()))
    assert powers == {58_000, 58_000 + round((392 - 58) * 1_000 * 0.62)}


def test_memory_is_told_in_both_ways() -> None:
    """The old call counts the driver's own memory as used, the new one does not."""
    handle = Bench("h200x1:held").handle()
    old = pynvml.nvmlDeviceGetMemoryInfo(handle)
    new = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    assert old.used == new.used + new.reserved
    assert old.free == new.free == new.total - new.used - new.reserved
    assert old.total == new.total == 143_771 * 2**20


def test_temperature_is_told_in_both_ways() -> None:
    """Both calls and the simulation agree, and limits stand above."""
    bench = Bench("h200x1:hot")
    handle = bench.handle()
    celsius = round(bench.simulation.temperature_celsius(0, NOON))
    assert pynvml.nvmlDeviceGetTemperature(handle, 0) == celsius
    assert pynvml.nvmlDeviceGetTemperatureV(handle, 0) == celsius
    limits = [pynvml.nvmlDeviceGetTemperatureThreshold(handle, kind) for kind in (3, 1, 0)]
    assert limits == [87, 89, 95]
    assert code_of(pynvml.nvmlDeviceGetTemperatureThreshold, handle, 4) == 3


def test_clocks_and_reasons_belong_together() -> None:
    """When the mask names heat the clock is low; a GPU without work is idle."""
    bench = Bench("h200x1:hot")
    clocks = set()
    for step in range(60):
        bench.now_us = NOON + step * SECOND // 2
        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(bench.handle())
        clocks.add(
            (bool(reasons & 0x20), pynvml.nvmlDeviceGetClockInfo(bench.handle(), pynvml.NVML_CLOCK_SM))
        )
    assert clocks == {(True, 1_285), (False, 1_785)}
    assert pynvml.nvmlDeviceGetMaxClockInfo(bench.handle(), pynvml.NVML_CLOCK_SM) == 1_980
    assert pynvml.nvmlDeviceGetCurrentClocksEventReasons(Bench("h200x1:free").handle()) == 1


def test_utilisation_is_a_snapshot_of_the_last_second() -> None:
    """The gauge tells one second, in whole per cents."""
    bench = Bench("h200x1:bursty")
    busy = bench.simulation.busy_seconds(0, NOON - SECOND, NOON)
    assert pynvml.nvmlDeviceGetUtilizationRates(bench.handle()).gpu == round(busy * 100)


def test_processes_are_those_of_the_simulation() -> None:
    """Pids and their memory come through; there are no graphics processes."""
    bench = Bench("h200x8")
    for index in range(8):
        listed = pynvml.nvmlDeviceGetComputeRunningProcesses(bench.handle(index))
        expected = [(one.pid, one.memory_bytes) for one in bench.simulation.processes(index, NOON)]
        assert [(one.pid, one.usedGpuMemory) for one in listed] == expected
        assert pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3(bench.handle(index)) == []


@pytest.mark.parametrize("model", MODELS)
def test_a_model_refuses_what_it_has_not(model: str) -> None:
    """Fields, rings and calls that a model refuses answer NOT_SUPPORTED, all others answer."""
    bench = Bench(f"{model}x1")
    handle, refused = bench.handle(), bench.simulation.model.refused
    fields = {number: f"field:{number}" for number in FIELDS if number not in LINK_FIELDS}
    fields |= {83: "energy", 191: "energy"} | dict.fromkeys((38, 45, 52, 59, 90, 91, 160), "nvlink")
    for number, word in fields.items():
        assert bench.field(number).nvmlReturn == (3 if word in refused else 0), number
    for kind in (0, 1, 2, 3, 4, 8, 9):
        expected = 3 if f"samples:{kind}" in refused else 0
        assert code_of(pynvml.nvmlDeviceGetSamples, handle, kind, 0) == expected
    calls = {"serial": pynvml.nvmlDeviceGetSerial, "board_part": pynvml.nvmlDeviceGetBoardPartNumber}
    calls |= {"energy": pynvml.nvmlDeviceGetTotalEnergyConsumption, "fan": pynvml.nvmlDeviceGetNumFans}
    calls |= {"margin": pynvml.nvmlDeviceGetMarginTemperature, "ecc_mode": pynvml.nvmlDeviceGetEccMode}
    calls |= {"module": pynvml.nvmlDeviceGetModuleId, "remapped_rows": pynvml.nvmlDeviceGetRemappedRows}
    calls |= {"row_histogram": pynvml.nvmlDeviceGetRowRemapperHistogram}
    calls |= {"retirement": pynvml.nvmlDeviceGetRetiredPagesPendingStatus}
    for word, function in calls.items():
        assert code_of(function, handle) == (3 if word in refused else 0), word


def test_only_the_consumer_card_has_a_fan() -> None:
    """A GeForce tells the speed of its fan, in per cent."""
    handle = Bench("geforcex1:training").handle()
    assert pynvml.nvmlDeviceGetNumFans(handle) == 1
    assert 23 <= pynvml.nvmlDeviceGetFanSpeed_v2(handle, 0) <= 100


def test_a_test_may_refuse_more() -> None:
    """Words refuse calls, fields and rings; `function:` takes the symbol away; unknown words are errors."""
    bench = Bench(
        "h200x1", "memory_v2", "field:83", "samples:1", "function:nvmlDeviceGetTemperatureV", "power_usage"
    )
    handle = bench.handle()
    assert code_of(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2) == 3
    assert (bench.field(83).nvmlReturn, bench.field(191).nvmlReturn) == (3, 0)
    assert [code_of(pynvml.nvmlDeviceGetSamples, handle, kind, 0) for kind in (1, 2)] == [3, 0]
    assert code_of(pynvml.nvmlDeviceGetTemperatureV, handle, 0) == 13
    assert code_of(pynvml.nvmlDeviceGetPowerUsage, handle) == 3
    with pytest.raises(ValueError, match="'sampels' is not a capability"):
        Library(bench.simulation, lambda: NOON, refuse=frozenset({"sampels"}))


def test_a_function_that_is_not_simulated_is_not_found() -> None:
    """The library has no symbols but its own."""
    handle = Bench("h200x1").handle()
    assert code_of(pynvml.nvmlDeviceGetEncoderUtilization, handle) == 13


def test_a_lost_gpu_fails_alone_and_comes_back() -> None:
    """In minutes 2 to 4 of each ten GPU 0 answers GPU_IS_LOST to all calls; its neighbour does not notice."""
    bench = Bench("h200x2:lost")
    block = NOON - NOON % (600 * SECOND)
    bench.now_us = block + 60 * SECOND
    handles = [bench.handle(0), bench.handle(1)]
    bench.now_us = block + 125 * SECOND
    calls = (pynvml.nvmlDeviceGetUUID, pynvml.nvmlDeviceGetPowerUsage, pynvml.nvmlDeviceGetMemoryInfo)
    assert [code_of(call, handles[0]) for call in calls] == [15, 15, 15]
    assert [code_of(call, handles[1]) for call in calls] == [0, 0, 0]
    assert [code_of(bench.handle, index) for index in (0, 1)] == [15, 0]
    assert code_of(pynvml.nvmlDeviceGetFieldValues, handles[0], [83]) == 15
    bench.now_us = block + 245 * SECOND
    assert code_of(pynvml.nvmlDeviceGetUUID, handles[0]) == 0
    samples = pynvml.nvmlDeviceGetSamples(handles[0], 1, 0)[1]
    assert min(one.timeStamp for one in samples) > block + 240 * SECOND


def test_without_revival_a_lost_gpu_waits_for_a_new_init() -> None:
    """As with real drivers, a handle once seen lost stays lost until the library is initialised anew."""
    bench = Bench("h200x1:lost", "revival")
    block = NOON - NOON % (600 * SECOND)
    bench.now_us = block + 60 * SECOND
    handle = bench.handle()
    bench.now_us = block + 125 * SECOND
    assert code_of(pynvml.nvmlDeviceGetUUID, handle) == 15
    bench.now_us = block + 300 * SECOND
    assert code_of(pynvml.nvmlDeviceGetUUID, handle) == 15
    pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    assert code_of(pynvml.nvmlDeviceGetUUID, bench.handle()) == 0


def test_calls_are_counted() -> None:
    """Fetching samples costs pynvml two calls."""
    bench = Bench("h200x1:training")
    handle = bench.handle()
    before = bench.driver.calls
    pynvml.nvmlDeviceGetSamples(handle, 1, 0)
    pynvml.nvmlDeviceGetPowerUsage(handle)
    assert bench.driver.calls - before == 3


def test_a_reading_equals_what_the_driver_counts() -> None:
    """History made from the truth continues in the counters that a live agent reads."""
    bench = Bench("h200x8")
    bench.now_us = NOON // 1_000 * 1_000
    for index in range(8):
        reading = bench.simulation.reading(index, bench.now_us // 1_000 - 60_000, bench.now_us // 1_000)
        energy = pynvml.nvmlDeviceGetTotalEnergyConsumption(bench.handle(index)) / 1_000
        assert reading.energy_joules_total == pytest.approx(energy, abs=0.002)
        capped = bench.field(74, index).value.ullVal / 1e9
        assert reading.throttle_power_cap_seconds_total == pytest.approx(capped, abs=1e-5)


def test_simulate_plays_by_the_clock_of_the_host() -> None:
    """One call installs a library that knows what time it is."""
    library = simulator.simulate("t4x2:held")
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetCount() == library.simulation.count == 2
    field = pynvml.nvmlDeviceGetFieldValues(pynvml.nvmlDeviceGetHandleByIndex(1), [186])[0]
    assert field.timestamp > NOON


def test_uninstall_leaves_pynvml_without_a_library() -> None:
    """Nothing answers once the library is gone."""
    Bench("h200x1")
    uninstall()
    assert pynvml.nvmlLib is None
    assert code_of(pynvml.nvmlDeviceGetCount) == 1
