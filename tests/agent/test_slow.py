"""What changes rarely: limits, modes, links, margins, and the older way to ask for lowered clocks."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pynvml
import pytest

from agent.device import Device
from agent.inventory import enumerate_devices
from agent.nvml import Nvml
from agent.quantities import Amount
from agent.simulated.calling import target
from agent.simulated.defects import SOUND
from agent.simulated.models import MODELS
from agent.simulator import uninstall
from agent.slow import OURS, VIOLATIONS, fabric, limits, margin_celsius, modes, violations
from tests.agent.driven import START_MS, BentClock, Driver


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


class Bench:
    """The first GPU of a driver. `bytes` are put into the answer of a function, by its name."""

    def __init__(self, text: str, *refuse: str, **defects: Any) -> None:  # noqa: ANN401
        self.driver = Driver(text, BentClock(START_MS), frozenset(refuse))
        self.driver.simulation.defects_at = lambda _gpu, _at_us: replace(SOUND, **defects)
        self.nvml = Nvml()
        self.nvml.open()
        self.device: Device = enumerate_devices(self.nvml, {})[0][0]
        self.nvml.failures.clear()

    def all(self) -> dict[str, Amount]:
        """Give everything that is read slowly."""
        fixed = limits(self.device)
        return {**fixed, **modes(self.device), **fabric(self.device)[0]}

    def truth(self) -> Mapping[str, Amount]:
        """Give the same of a perfect agent."""
        reading = self.driver.simulation.reading(0, START_MS - 1_000, START_MS)
        return {name: getattr(reading, name) for name in OURS}

    def fails(self) -> set[tuple[str, str]]:
        """Name what failed since the last time."""
        failed = {key[1:] for key in self.nvml.failures}
        self.nvml.failures.clear()
        return failed


def told(values: Mapping[str, Amount]) -> dict[str, Amount]:
    """Leave out what is None."""
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.parametrize("model", MODELS)
def test_all_that_is_slow_is_the_truth(model: str) -> None:
    """Of every model: limits, thresholds, clocks, modes, links and fabric."""
    bench = Bench(f"{model}x1:training")
    assert told(bench.all()) == pytest.approx(told(bench.truth()))


def test_a_gpu_with_defects_says_so() -> None:
    """Flags and codes follow what is wrong."""
    bench = Bench(
        "h200x1:training",
        sram_threshold=True,
        pcie_lanes=4,
        pcie_generation=1,
        persistence_on=False,
        ecc_on=False,
        compute_mode=3,
        fabric_state=2,
        fabric_health=2,
    )
    found = bench.all()
    assert found == {**found, **told(bench.truth())}
    assert [found[name] for name in ("pcie_link_lanes", "persistence_mode_flag", "ecc_mode_flag")] == [
        4,
        0,
        0,
    ]
    assert [found[name] for name in ("compute_mode_code", "fabric_state_code", "fabric_health_code")] == [
        3,
        2,
        2,
    ]
    assert found["sram_threshold_exceeded_flag"] == 1


def test_retired_pages_that_wait_are_flagged() -> None:
    """Older boards retire pages instead of remapping rows."""
    assert Bench("t4x1", retirement_pending=True).all()["retired_pages_pending_flag"] == 1
    assert Bench("t4x1").all()["retired_pages_pending_flag"] == 0


@pytest.mark.parametrize(
    ("refuse", "state", "health"),
    [((), 3, 1), (("fabric",), None, None), (("function:nvmlDeviceGetGpuFabricInfoV",), None, None)],
)
def test_a_fabric_is_told_where_there_is_one(
    refuse: tuple[str, ...], state: float | None, health: float | None
) -> None:
    """Where there is none it is not asked for again."""
    bench = Bench("h200x1", *refuse)
    for _ in range(2):
        codes, mask = fabric(bench.device)
        assert (codes.get("fabric_state_code"), codes.get("fabric_health_code")) == (state, health)
        assert (mask == 0) == (state is None)
    assert sum(times for (name, _), times in bench.driver.asked.items() if "Fabric" in name) <= 2


def test_an_older_driver_tells_the_fabric_by_an_older_struct() -> None:
    """Without a summary of its health, but with its faults."""
    bench = Bench("h200x1", fabric_faults=frozenset({"route_unhealthy"}))

    def older(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        newest = name == "nvmlDeviceGetGpuFabricInfoV" and target(arguments[0]).version == 0x3000028
        return pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH if newest else code

    bench.driver.meddle = older
    for _ in range(2):
        codes, mask = fabric(bench.device)
        assert codes == {"fabric_state_code": 3.0}
        assert (mask >> 4) & 3 == 1


def test_a_margin_comes_from_the_driver_or_else_from_thresholds() -> None:
    """The nearest threshold at which clocks are lowered; nothing without temperature or thresholds."""
    assert margin_celsius(Bench("h200x1:training").device, 999.0, {}) == pytest.approx(23, abs=5)
    older = Bench("a100x1:training").device
    fixed = limits(older)
    assert margin_celsius(older, 60.0, fixed) == 25.0
    assert margin_celsius(older, 87.0, fixed) == -2.0
    assert margin_celsius(older, 60.0, {"temperature_slowdown_celsius": 89.0}) == 29.0
    assert margin_celsius(older, None, fixed) is None
    assert margin_celsius(older, 60.0, {}) is None


def test_a_margin_that_failed_once_is_not_made_up() -> None:
    """A timeout is no reason to go over to thresholds, which lie elsewhere."""
    bench = Bench("h200x1:training")
    bench.driver.codes["nvmlDeviceGetMarginTemperature"] = pynvml.NVML_ERROR_TIMEOUT
    assert margin_celsius(bench.device, 60.0, limits(bench.device)) is None
    bench.driver.codes.clear()
    assert margin_celsius(bench.device, 60.0, {}) is not None


@pytest.mark.parametrize("margin", [-(2**31), 2**31 - 1, 301])
def test_a_margin_that_cannot_be_is_none(margin: int) -> None:
    """It is counted, and not shown."""
    bench = Bench("h200x1")

    def spoil(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == "nvmlDeviceGetMarginTemperature":
            target(arguments[0]).marginTemperature = margin
        return code

    bench.driver.meddle = spoil
    assert margin_celsius(bench.device, 60.0, {}) is None
    assert bench.fails() == {("temperature_margin_celsius", "impossible")}


@pytest.mark.parametrize("which", ["fields", *(f"field:{number}" for number in (74, 76, 79, 81))])
def test_lowered_clocks_are_told_by_the_older_call_where_fields_are_not(which: str) -> None:
    """The same nanoseconds, for exactly those that no field tells."""
    bench = Bench("h200x1:hot", which)
    counted = bench.device.counted
    fields = counted.read()
    older = violations(bench.device, lambda name: not counted.tells(name))
    assert fields.keys() & older.keys() == set()
    assert fields.keys() | older.keys() >= VIOLATIONS.keys()
    truth = bench.driver.simulation.reading(0, START_MS - 1_000, START_MS)
    for name, seconds in older.items():
        assert seconds == pytest.approx(getattr(truth, name))


def test_where_all_fields_are_told_the_older_call_is_not_made() -> None:
    """It would cost a call for each reason."""
    bench = Bench("h200x1:hot")
    counted = bench.device.counted
    counted.read()
    assert violations(bench.device, lambda name: not counted.tells(name)) == {}
    assert not [name for name, _ in bench.driver.asked if "Violation" in name]


@pytest.mark.parametrize("word", [2**64 - 1, 2**63, 2**64 - 16])
def test_lowered_time_that_cannot_be_is_none(word: int) -> None:
    """NVML's blanks in 64 bits are no 500 years of lowered clocks."""
    bench = Bench("h200x1:hot", "fields")

    def spoil(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == "nvmlDeviceGetViolationStatus":
            target(arguments[1]).violationTime = word
        return code

    bench.driver.meddle = spoil
    assert violations(bench.device, lambda _: True) == {}
    assert bench.fails() == {(name, "impossible") for name in VIOLATIONS}


@pytest.mark.parametrize(
    ("function", "quantities"),
    [
        ("nvmlDeviceGetCurrPcieLinkWidth", {"pcie_link_lanes"}),
        ("nvmlDeviceGetPersistenceMode", {"persistence_mode_flag"}),
        ("nvmlDeviceGetTemperatureThreshold", {name for name in OURS if name.startswith("temperature_s")}),
        ("nvmlDeviceGetMaxClockInfo", {"sm_clock_max_hertz", "memory_clock_max_hertz"}),
        ("nvmlDeviceGetBAR1MemoryInfo", {"bar1_used_bytes", "bar1_total_bytes"}),
    ],
)
def test_an_all_ones_word_is_dropped_and_counted(function: str, quantities: set[str]) -> None:
    """Each by its quantity, whatever its unit."""
    bench = Bench("h200x1")

    def spoil(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == function:
            out = target(arguments[-1])
            for field in [one[0] for one in getattr(out, "_fields_", [("value",)])]:
                setattr(out, field, -1)
        return code

    bench.driver.meddle = spoil
    found = told(bench.all())
    assert found.keys() & quantities == set()
    assert bench.fails() >= {(name, "impossible") for name in quantities}


def test_a_state_that_is_unknown_is_none() -> None:
    """P-state 32 is NVML's word for not knowing."""
    bench = Bench("h200x1")

    def spoil(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == "nvmlDeviceGetPerformanceState":
            target(arguments[0]).value = 32
        return code

    bench.driver.meddle = spoil
    assert "performance_state_code" not in modes(bench.device)


def test_a_health_that_is_not_told_is_none() -> None:
    """0 is NVML's word for a fabric without a summary of its health."""
    bench = Bench("h200x1")

    def spoil(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == "nvmlDeviceGetGpuFabricInfoV":
            target(arguments[0]).healthSummary = 0
        return code

    bench.driver.meddle = spoil
    codes, _ = fabric(bench.device)
    assert codes == {"fabric_state_code": 3.0, "fabric_health_code": None}
