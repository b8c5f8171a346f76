"""Of every model all is told that there is to tell, and it is true; of every driver, all that it has left."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache

import pynvml
import pytest

from agent.device import COUNTED, POLLED
from agent.errors import NvmlUnavailable
from agent.gpm import RATES, RATIOS
from agent.quantities import QUANTITIES
from agent.simulated.models import MODELS
from agent.simulator import uninstall
from agent.slow import FIXED, THRESHOLDS, VIOLATIONS
from agent.tick import Condition, Reading, Tick
from agent.watch import RINGS
from tests.agent.driven import BLOCK_MS, Rig, impossible, known, of, rows, seconds_of

SHORT_SECONDS, HOUR_SECONDS = 180, 3_600
PLAYED = [f"{model}x1:{scenario}" for model in MODELS for scenario in ("bursty", "training")]

SEEN_IN_WHOLE_DEGREES = {name for name in QUANTITIES if name.endswith("_celsius")}
SUMMED = {name for name in QUANTITIES if name in RATIOS or name in RINGS}
"""Means whose sum over time is a truth of its own."""
MEANS_OF_POLLS = {"memory_power_watts", "sm_clock_hertz"}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


class Played:
    """The readings of a while of a simulated GPU, and the true ones of the same intervals."""

    def __init__(self, text: str, seconds: float) -> None:
        rig = Rig(text)
        self.ticks = rig.run(seconds)
        self.told = [tick.readings[0] for tick in self.ticks]
        self.true = [rig.simulation.reading(0, one.start_ms, one.end_ms) for one in self.told]

    def allowed(self, name: str, rel: float, units: float = 0.0) -> None:
        """Assert that the sums of a mean, told and true, are nearly the same."""
        told, true = seconds_of(name, self.told), seconds_of(name, self.true)
        assert told == pytest.approx(true, rel=rel, abs=units), name

    def check_counters(self) -> None:
        """Assert that each counter grew by the truth from the first reading to the last."""
        for name in known(self.true[0]):
            if QUANTITIES[name].kind == "counter":
                (first, last), (before, after) = (
                    [getattr(ends[0], name), getattr(ends[-1], name)] for ends in (self.told, self.true)
                )
                allowed = 0.005 if QUANTITIES[name].origin == "probe" else 0.001
                assert last - first == pytest.approx(after - before, rel=allowed, abs=1e-3), name

    def check_gauges(self) -> None:
        """Assert that each gauge of the last reading is the truth, as far as it can be seen."""
        told, true = self.told[-1], self.true[-1]
        for name in known(true):
            if QUANTITIES[name].kind == "counter" or name in SUMMED:
                continue
            share = 0.05 if name in MEANS_OF_POLLS else 0.005
            units = 1.0 if name in SEEN_IN_WHOLE_DEGREES else 0.01
            assert getattr(told, name) == pytest.approx(getattr(true, name), rel=share, abs=units), name


@cache
def played(text: str) -> Played:
    """Give three minutes of a simulation; the same ones to all who ask."""
    return Played(text, SHORT_SECONDS)


@pytest.mark.parametrize("text", [*PLAYED, *(f"{model}x1:hot" for model in MODELS)])
def test_a_reading_tells_exactly_what_there_is(text: str) -> None:
    """Every quantity of the model in every interval, and none that it has not."""
    game = played(text)
    for told, true in zip(game.told, game.true, strict=True):
        assert known(told) == known(true)


@pytest.mark.parametrize("text", PLAYED)
def test_parts_tell_exactly_what_there_is(text: str) -> None:
    """Once a minute, with the rows that a perfect agent would have read."""
    game = played(text)
    (true,) = {frozenset(rows(one)) for one in game.true if one.parts}
    told = [frozenset(rows(one)) for one in game.told if one.parts is not None]
    assert set(told) == {true}
    assert 3 <= len(told) <= 4


@pytest.mark.parametrize("text", PLAYED)
def test_counters_are_the_truth(text: str) -> None:
    """Energy, lowered clocks, errors and bytes grew by what the simulation says."""
    played(text).check_counters()


@pytest.mark.parametrize("text", PLAYED)
def test_gauges_are_the_truth(text: str) -> None:
    """Memory, power, limits, heat, clocks, links and modes of the last interval."""
    played(text).check_gauges()


@pytest.mark.parametrize("text", PLAYED)
def test_means_are_the_truth(text: str) -> None:
    """Shares of three minutes: activity of units within 0.5 %, and rings but for a sample at each edge."""
    game = played(text)
    for name in known(game.true[0]) & SUMMED:
        game.allowed(name, 0.005, units=0.2 if name in RINGS else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("text", PLAYED)
def test_an_hour_of_every_model_is_the_truth(text: str) -> None:
    """Busy time within 0.1 %, activity of units within 0.5 %, and every counter."""
    game = Played(text, HOUR_SECONDS)
    game.check_counters()
    for name in known(game.true[0]) & SUMMED:
        game.allowed(name, 0.001 if name in RINGS else 0.005, units=1e-3)


# Drivers that lack something

MIXED = "h200x2:training!mig=1:3g.71gb+2g.35gb+1g.18gb!xid=0:13@+1"
"""A whole GPU and a partitioned one, of which the first has an error."""
ABSENT = 13
CODES = (ABSENT, pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION)
ONLY_GPM = (RATIOS.keys() | RATES.keys()) - RINGS.keys() - COUNTED.keys()
OF_LINKS = {"nvlink_active_links", "nvlink_present_links"}
FROM_OTHERS = {"power_watts", "power_max_watts", "power_limit_watts", *RATES, *VIOLATIONS}
"""What fields tell, and where there are none, other calls."""
OF_FIELDS = ({*COUNTED, *POLLED, *FIXED, *OF_LINKS, "memory_temperature_max_celsius"}) - FROM_OTHERS

LOST: Mapping[str, set[str]] = {
    "nvmlDeviceGetBAR1MemoryInfo": {"bar1_used_bytes", "bar1_total_bytes"},
    "nvmlDeviceGetClockInfo": {"sm_clock_hertz", "sm_clock_min_hertz", "memory_clock_hertz"},
    "nvmlDeviceGetComputeMode": {"compute_mode_code"},
    "nvmlDeviceGetComputeRunningProcesses_v3": {"running_processes"},
    "nvmlDeviceGetCurrPcieLinkGeneration": {"pcie_link_generation"},
    "nvmlDeviceGetCurrPcieLinkWidth": {"pcie_link_lanes"},
    "nvmlDeviceGetEccMode": {"ecc_mode_flag"},
    "nvmlDeviceGetFieldValues": OF_FIELDS,
    "nvmlDeviceGetGpuFabricInfoV": {"fabric_state_code", "fabric_health_code"},
    "nvmlDeviceGetMaxClockInfo": {"sm_clock_max_hertz", "memory_clock_max_hertz"},
    "nvmlDeviceGetMaxPcieLinkGeneration": {"pcie_link_max_generation"},
    "nvmlDeviceGetMaxPcieLinkWidth": {"pcie_link_max_lanes"},
    "nvmlDeviceGetMemoryInfo_v2": {"memory_reserved_bytes"},
    "nvmlDeviceGetMigMode": {"mig_mode_flag"},
    "nvmlDeviceGetPerformanceState": {"performance_state_code"},
    "nvmlDeviceGetPersistenceMode": {"persistence_mode_flag"},
    "nvmlDeviceGetSamples": {"memory_busy_ratio", "encoder_ratio"},
    "nvmlDeviceGetSramEccErrorStatus": {"sram_threshold_exceeded_flag"},
    "nvmlDeviceGetTemperatureThreshold": set(THRESHOLDS),
    "nvmlGpmMetricsGet": ONLY_GPM,
    "nvmlGpmQueryDeviceSupport": ONLY_GPM,
    "nvmlGpmSampleAlloc": ONLY_GPM,
    "nvmlGpmSampleGet": ONLY_GPM,
}
"""Function → the quantities of a whole GPU that a driver without it does not tell."""

LOST_ROWS: Mapping[str, Sequence[str]] = {
    "nvmlDeviceGetFieldValues": ("ecc_location_errors_total", "pcie_errors_total", "nvlink_"),
    "nvmlDeviceGetGpuFabricInfoV": ("fabric_fault_flag",),
    "nvmlDeviceGetMemoryErrorCounter": ("ecc_location_errors_total sram",),
    "nvmlDeviceGetRowRemapperHistogram": ("remapper_banks",),
}
"""Function → the parts that go with it, by the beginning of their names; a place may follow."""

ELSEWHERE = (
    "nvmlDeviceGetArchitecture",
    "nvmlDeviceGetAttributes_v2",
    "nvmlDeviceGetBoardPartNumber",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetFanSpeed_v2",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetInforomImageVersion",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetMarginTemperature",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMemoryErrorCounter",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetMinorNumber",
    "nvmlDeviceGetModuleId",
    "nvmlDeviceGetName",
    "nvmlDeviceGetNumFans",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetPlatformInfo",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetProcessUtilization",
    "nvmlDeviceGetRetiredPagesPendingStatus",
    "nvmlDeviceGetRowRemapperHistogram",
    "nvmlDeviceGetSerial",
    "nvmlDeviceGetSupportedEventTypes",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetVbiosVersion",
    "nvmlDeviceGetViolationStatus",
    "nvmlDeviceRegisterEvents",
    "nvmlEventSetCreate",
    "nvmlEventSetFree",
    "nvmlEventSetWait_v2",
    "nvmlGpmMigSampleGet",
    "nvmlGpmSampleFree",
    "nvmlShutdown",
    "nvmlSystemGetCudaDriverVersion",
    "nvmlSystemGetDriverVersion",
)
"""Functions that tell no quantity of a GPU, or for which another one stands in."""
NEEDED = (
    "nvmlInitWithFlags",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
)
"""Functions without which there is no GPU to tell of."""


@cache
def usual() -> tuple[Rig, Tick]:
    """Give the first tick of a driver that lacks nothing: everything is asked for it already."""
    rig = Rig(MIXED, start_ms=BLOCK_MS)
    return rig, rig.tick()


def lacking(function: str, code: int) -> Rig:
    """Make a driver that has not, or refuses, a function."""
    if code == ABSENT:
        return Rig(MIXED, f"function:{function}", start_ms=BLOCK_MS)
    rig = Rig(MIXED, start_ms=BLOCK_MS)
    rig.driver.codes[function] = code
    return rig


def written(reading: Reading) -> set[str]:
    """Write down the parts of a reading, each with its labels."""
    return {" ".join((quantity, *reversed(labels))) for quantity, labels in rows(reading)}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("function", sorted({*LOST, *ELSEWHERE}))
def test_a_driver_that_lacks_a_function_tells_all_the_rest(function: str, code: int) -> None:
    """Without a symbol, without support, without permission: exactly what that function tells is missing."""
    full, before = usual()
    rig = lacking(function, code)
    tick = rig.tick()
    assert impossible(tick) == {}
    told, whole = of(tick, rig.uuid(0)), of(before, full.uuid(0))
    assert known(whole) - known(told) == LOST.get(function, set()) & known(whole)
    assert known(told) <= known(whole)
    lost_rows = written(whole) - written(told)
    assert all(row.startswith(tuple(LOST_ROWS.get(function, ()))) for row in lost_rows)
    assert bool(lost_rows) == (function in LOST_ROWS)
    assert (told.processes is None) == (function == "nvmlDeviceGetComputeRunningProcesses_v3")
    assert {one.condition for one in tick.readings} == {Condition.OK}
    assert len(tick.gpus or ()) == 2


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("function", NEEDED)
def test_a_driver_without_what_is_needed_tells_nothing(function: str, code: int) -> None:
    """It is unavailable, or no GPU can be named; nothing else is raised."""
    rig = lacking(function, code)
    told: list[Tick] = []
    with suppress(NvmlUnavailable):
        told.append(rig.tick())
    assert [tick.readings for tick in told] in ([], [()])
    assert all("lost" in {one.reason for one in tick.refusals} for tick in told)


def test_every_function_that_the_agent_uses_is_on_these_lists() -> None:
    """Whatever it asks for, of models that lack much and of drivers that refuse much."""
    names: set[str] = set()
    texts = (MIXED, "a100x1", "t4x1", "geforcex1")
    refused = (
        (),
        ("fields",),
        ("temperature_v", "memory_v2", "samples"),
        ("energy", "samples:0", "field:190"),
    )
    for text in texts:
        for words in refused:
            rig = Rig(text, *words)
            rig.run(5)
            rig.sampler.close()
            names |= rig.driver.names
    assert names == {*LOST, *ELSEWHERE, *NEEDED}


def test_without_fields_there_is_still_a_ledger() -> None:
    """A driver that refuses the batch gives busy time, power and lowered clocks by other calls."""
    rig = Rig("h200x1:training", "fields")
    ticks = rig.run(300)
    told = [tick.readings[0] for tick in ticks]
    start_us, end_us = told[0].start_ms * 1000, told[-1].end_ms * 1000
    assert seconds_of("busy_ratio", told) == pytest.approx(
        rig.simulation.busy_seconds(0, start_us, end_us), rel=0.001
    )
    assert seconds_of("power_watts", told) == pytest.approx(
        rig.simulation.energy_joules(0, start_us, end_us), rel=0.001
    )
    grown = (told[-1].throttle_power_cap_seconds_total or 0) - (told[0].throttle_power_cap_seconds_total or 0)
    truth = rig.simulation.throttle_seconds(0, "power_cap", told[0].end_ms * 1000, end_us)
    assert grown == pytest.approx(truth, rel=0.001)
