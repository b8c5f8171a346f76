"""Parts of a GPU: links, places of memory, banks and fans, one row each, as the simulation has them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.inventory import enumerate_devices
from agent.nvml import Nvml
from agent.parts import FABRIC_FAULTS, Parts, _bit_error_ratio, active_links
from agent.simulated.calling import put_number
from agent.simulated.defects import SOUND
from agent.simulated.models import MODELS
from agent.simulator import uninstall
from agent.slow import fabric, limits
from agent.tick import Part, check_part
from tests.agent.driven import START_MS, BentClock, Driver

MINUTE_MS = 60_000


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


class Bench:
    """The parts of the first GPU of a driver."""

    def __init__(self, text: str, *refuse: str, **defects: Any) -> None:  # noqa: ANN401
        self.driver = Driver(text, BentClock(START_MS), frozenset(refuse))
        self.driver.simulation.defects_at = lambda _gpu, _at_us: replace(SOUND, **defects)
        self.nvml = Nvml()
        self.nvml.open()
        self.device = enumerate_devices(self.nvml, {})[0][0]
        self.parts = Parts(self.device, round(limits(self.device).get("nvlink_present_links") or 0))
        self.nvml.failures.clear()

    def read(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Give the value of each part."""
        parts = self.parts.read(fabric(self.device)[1])
        found = {(check_part(part).quantity, part.labels): part.value for part in parts}
        assert len(found) == len(parts)
        return found

    def truth(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Give what a perfect agent would have read."""
        reading = self.driver.simulation.reading(0, START_MS - MINUTE_MS, START_MS)
        return {(part.quantity, part.labels): part.value for part in reading.parts or ()}


@pytest.mark.parametrize("model", MODELS)
def test_all_parts_of_a_model_are_told(model: str) -> None:
    """Each row that the simulation tells, with its value, and no other."""
    bench = Bench(f"{model}x1:training")
    assert bench.read() == bench.truth()


@pytest.mark.parametrize("model", MODELS)
def test_all_parts_of_a_defective_gpu_are_told(model: str) -> None:
    """Errors by place, link and kind, banks by their spare rows, faults of the fabric."""
    bench = Bench(
        f"{model}x1:training",
        ecc_corrected=7,
        ecc_uncorrected=2,
        sram_corrected=5,
        sram_uncorrected=1,
        earlier_corrected=40,
        earlier_uncorrected=3,
        remapped_corrected=4,
        remapped_uncorrected=1,
        remap_failed=True,
        pcie_correctable=11,
        pcie_non_fatal=2,
        pcie_fatal=1,
        links_down=frozenset({3, 7}),
        faulty_link=5,
        link_crc=9,
        link_replays=4,
        link_recoveries=2,
        fabric_faults=frozenset({"degraded_bandwidth", "route_unhealthy"}),
    )
    assert bench.read() == bench.truth()


def test_links_are_counted_where_there_are_any() -> None:
    """Those that are up; a card without links has no number of them."""
    down = Bench("h200x1", links_down=frozenset({0, 17}))
    assert active_links(down.parts.read(0)) == 16
    assert active_links(Bench("t4x1").parts.read(0)) is None
    assert active_links((Part("nvlink_up_flag", ("0",), 0.0),)) == 0


def test_parts_of_all_links_come_in_few_calls() -> None:
    """Over a hundred rows, one batch, and one call for each of what has no field."""
    bench = Bench("h200x1")
    bench.read()
    before = bench.nvml.calls
    assert len(bench.read()) > 90
    assert bench.nvml.calls - before <= 8


@pytest.mark.parametrize(
    ("word", "ratio"), [(0x0C0A, 12e-10), (0x0100, 1.0), (0x000F, 0.0), (0x0F12, 15e-18), (0xFF0A, 15e-10)]
)
def test_bit_error_rates_are_decoded(word: int, ratio: float) -> None:
    """A mantissa of four bits and a negative exponent of ten in eight."""
    assert _bit_error_ratio(word) == pytest.approx(ratio)


def test_a_mask_that_tells_nothing_has_no_faults() -> None:
    """Two bits of each fault say yes, no, or nothing; four say whether the configuration is right."""
    parts = Bench("h200x1").parts

    def faults(mask: int) -> dict[str, float]:
        return {one.labels[0]: one.value for one in parts.read(mask) if one.quantity == "fabric_fault_flag"}

    assert faults(0) == {}
    everything = sum(1 << shift for shift in FABRIC_FAULTS.values()) | 5 << 8
    assert faults(everything) == dict.fromkeys((*FABRIC_FAULTS, "incorrect_configuration"), 1.0)
    nothing = sum(2 << shift for shift in FABRIC_FAULTS.values()) | 1 << 8
    assert faults(nothing) == dict.fromkeys((*FABRIC_FAULTS, "incorrect_configuration"), 0.0)


def test_a_fan_may_be_faster_than_its_highest_speed() -> None:
    """Up to what can be believed; four billion fans are not asked for one by one."""
    bench = Bench("geforcex1:training")
    speeds = {0: 104, 1: 2**32 - 1, 2: 30}

    def spin(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == "nvmlDeviceGetNumFans":
            return put_number(2**32 - 1, arguments[0])
        if name == "nvmlDeviceGetFanSpeed_v2":
            return put_number(speeds.get(arguments[0].value, 0), arguments[1])
        return code

    bench.driver.meddle = spin
    found = {one.labels[0]: one.value for one in bench.parts.read(0) if one.quantity == "fan_speed_ratio"}
    assert (found["0"], found["2"]) == (1.04, 0.3)
    assert "1" not in found
    assert len(found) <= 16
