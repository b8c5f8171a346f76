"""Which GPUs there are, who each of them is, and which do not answer."""

from collections.abc import Iterator
from ctypes import memmove
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NvmlUnavailable
from agent.inventory import MOST_GPUS, enumerate_devices
from agent.nvml import Nvml
from agent.simulated.calling import put_number, target
from agent.simulated.identity import CHASSIS, TRAY
from agent.simulated.models import MODELS
from agent.simulator import uninstall
from agent.tick import Condition, Gpu
from tests.agent.driven import START_MS, BentClock, Driver

LOST, RESET, FORBIDDEN = 15, 16, 4


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


class Bench:
    """A driver, opened. `texts` are bytes that a function answers instead of a text."""

    def __init__(self, text: str, *refuse: str) -> None:
        self.driver = Driver(text, BentClock(START_MS), frozenset(refuse))
        self.nvml = Nvml()
        self.nvml.open()
        self.texts: dict[str, bytes] = {}
        self.driver.meddle = self._meddle

    def _meddle(self, name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name in self.texts:
            arguments[0].value = self.texts[name]
            return 0
        return code

    def list(self, shunned: dict[int, Gpu | None] | None = None) -> tuple[list[Gpu], list[Condition]]:
        """Give the GPUs that answer, and the conditions of those that do not."""
        found, gone = enumerate_devices(self.nvml, shunned or {})
        return [device.gpu for device in found], [condition for _, condition in gone]

    def fails(self) -> set[tuple[str, str]]:
        """Name what failed, by quantity and reason."""
        return {key[1:] for key in self.nvml.failures}


@pytest.mark.parametrize("model", MODELS)
def test_identity_is_complete(model: str) -> None:
    """UUID, model, serial, part, VBIOS, InfoROM, architecture, versions, bus, minor, module: as told."""
    bench = Bench(f"{model}x3")
    assert bench.list() == ([bench.driver.simulation.gpu(index) for index in range(3)], [])


def test_a_platform_tells_where_a_gpu_sits() -> None:
    """Chassis, slot and tray, where there is a platform that knows."""
    bench = Bench("h200x8")
    bench.driver._refused -= {"platform"}
    gpus, _ = bench.list()
    assert {gpu.chassis for gpu in gpus} == {CHASSIS}
    assert {gpu.tray for gpu in gpus} == {str(TRAY)}
    assert [gpu.slot for gpu in gpus] == ["1"] * 4 + ["2"] * 4


@given(st.binary(min_size=44, max_size=44))
def test_no_bytes_of_a_platform_stop_the_agent(content: bytes) -> None:
    """What is no text is left empty; numbers are bytes."""
    bench = Bench("h200x1")
    bench.driver._refused -= {"platform"}

    def spoil(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == "nvmlDeviceGetPlatformInfo":
            memmove(arguments[0], content, len(content))
        return code

    bench.driver.meddle = spoil
    (gpu,), _ = bench.list()
    assert 0 <= int(gpu.slot) <= 255
    assert 0 <= int(gpu.tray) <= 255
    assert gpu.chassis == "" or len(gpu.chassis) <= 16
    assert gpu.uuid == bench.driver.simulation.uuid(0)


def test_a_bus_that_is_no_text_is_left_empty() -> None:
    """Nothing else of the GPU suffers, and it is counted."""
    bench = Bench("h200x1")

    def spoil(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        if name == "nvmlDeviceGetPciInfo_v3":
            target(arguments[0]).busId = b"\xff\xfe00:04:00.0"
        return code

    bench.driver.meddle = spoil
    (gpu,), _ = bench.list()
    assert gpu.pci_bus == ""
    assert gpu.serial
    assert ("pci_bus", "garbled") in bench.fails()


@pytest.mark.parametrize("what", ["Serial", "BoardPartNumber", "VbiosVersion", "InforomImageVersion", "Name"])
def test_garbled_text_is_no_text(what: str) -> None:
    """An InfoROM of bytes that are no text leaves one item of the identity empty, and is counted."""
    bench = Bench("h200x2")
    bench.texts[f"nvmlDeviceGet{what}"] = b"16\xff\xfe"
    gpus, gone = bench.list()
    assert (len(gpus), gone) == (2, [])
    for gpu, truth in zip(gpus, map(bench.driver.simulation.gpu, range(2)), strict=True):
        items = [(getattr(gpu, name), getattr(truth, name)) for name in Gpu.__slots__]
        assert [told for told, true in items if told != true] == [""]
    assert [reason for _, reason in bench.fails() if reason == "garbled"] == ["garbled"]


@pytest.mark.parametrize("refuse", ["serial", "board_part", "vbios", "inforom", "module", "minor", "pci"])
def test_an_item_that_is_refused_is_empty(refuse: str) -> None:
    """A board without it has none; all else is told."""
    bench = Bench("h200x1", refuse)
    (gpu,), _ = bench.list()
    truth = bench.driver.simulation.gpu(0)
    empty = {name for name in Gpu.__slots__ if getattr(gpu, name) != getattr(truth, name)}
    assert empty <= {{"pci": "pci_bus"}.get(refuse, refuse)}
    assert all(getattr(gpu, name) == "" for name in empty)


def test_a_lost_handle_is_told_beside_the_gpus_that_answer() -> None:
    """Enumeration gives those that answer, and one condition for each that does not."""

    class HalfLost(Driver):
        def _handle_by_index(self, index: Any, out: Any) -> int:  # noqa: ANN401
            return LOST if index.value == 1 else super()._handle_by_index(index, out)

    HalfLost("h200x3", BentClock(START_MS))
    nvml = Nvml()
    nvml.open()
    found, gone = enumerate_devices(nvml, {})
    assert [device.gpu.index for device in found] == [0, 2]
    assert gone == [(None, Condition.LOST)]


@pytest.mark.parametrize(("code", "condition"), [(LOST, Condition.LOST), (RESET, Condition.RESET_REQUIRED)])
@pytest.mark.parametrize("function", ["UUID", "Serial", "PciInfo_v3"])
def test_a_gpu_that_fails_while_it_is_asked_who_it_is_has_a_condition(
    function: str, code: int, condition: Condition
) -> None:
    """With its UUID if it told that much; the others are found."""
    bench = Bench("h200x3")
    bench.driver.codes[f"nvmlDeviceGet{function}", 1] = code
    found, gone = enumerate_devices(bench.nvml, {})
    assert [device.gpu.index for device in found] == [0, 2]
    ((gpu, told),) = gone
    assert told is condition
    assert (gpu is None) == (function == "UUID")
    assert gpu is None or (gpu.uuid, gpu.index) == (bench.driver.simulation.uuid(1), 1)


@pytest.mark.parametrize("code", [3, 10, 13, 999])
def test_a_gpu_that_does_not_tell_its_name_is_lost_and_nameless(code: int) -> None:
    """Without a UUID nothing can be entered for it."""
    bench = Bench("h200x2")
    bench.driver.codes["nvmlDeviceGetUUID", 0] = code
    found, gone = enumerate_devices(bench.nvml, {})
    assert [device.gpu.index for device in found] == [1]
    assert gone == [(None, Condition.LOST)]


def test_hung_gpus_are_not_touched() -> None:
    """Not a single call: it would hang too. They are told as hung, as they were known."""
    bench = Bench("h200x3")
    known = bench.driver.simulation.gpu(1)
    gpus, gone = bench.list({1: known, 2: None})
    assert ([gpu.index for gpu in gpus], gone) == ([0], [Condition.HUNG, Condition.HUNG])
    asked = {first for name, first in bench.driver.asked if name == "nvmlDeviceGetHandleByIndex_v2"}
    assert asked <= {0}
    assert bench.driver.asked["nvmlDeviceGetUUID", 0] <= 1


def test_forbidden_gpus_are_those_of_others() -> None:
    """They are not listed; when nothing else is there, the permission is what is missing."""
    assert [gpu.index for gpu in Bench("h200x3!forbidden=1").list()[0]] == [0, 2]
    with pytest.raises(NvmlUnavailable, match="no permission"):
        Bench("h200x2!forbidden").list()


def test_no_gpu_at_all_is_unavailable() -> None:
    """A driver that counts no GPU cannot be used."""
    bench = Bench("h200x1")
    bench.driver.meddle = lambda name, _gpu, arguments, code: (
        put_number(0, arguments[0]) if name == "nvmlDeviceGetCount_v2" else code
    )
    with pytest.raises(NvmlUnavailable, match="finds no GPU"):
        bench.list()


def test_a_count_that_fails_is_unavailable() -> None:
    """The code says why."""
    bench = Bench("h200x1")
    bench.driver.codes["nvmlDeviceGetCount_v2"] = pynvml.NVML_ERROR_UNINITIALIZED
    with pytest.raises(NvmlUnavailable):
        bench.list()


def test_a_driver_without_a_version_is_used() -> None:
    """Its version is left empty, and counted once for the node."""
    bench = Bench("h200x1", "function:nvmlSystemGetDriverVersion")
    (gpu,), _ = bench.list()
    assert (gpu.driver, gpu.uuid) == ("", bench.driver.simulation.uuid(0))
    assert ("driver_version", "failed") in bench.fails()


def test_four_billion_gpus_are_not_asked_one_by_one() -> None:
    """A count that cannot be is believed up to what a node may have; those that answer are found."""
    bench = Bench("h200x2")
    bench.driver.meddle = lambda name, _gpu, arguments, code: (
        put_number(2**32 - 1, arguments[0]) if name == "nvmlDeviceGetCount_v2" else code
    )
    found, gone = enumerate_devices(bench.nvml, {})
    assert [device.gpu.index for device in found] == [0, 1]
    assert len(found) + len(gone) == MOST_GPUS
