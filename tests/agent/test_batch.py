"""Many figures in one call: each entry for itself, by its type, and best choice first."""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import ALL_LINKS, Batch, Field
from agent.device import Device
from agent.inventory import enumerate_devices
from agent.nvml import GpuGone, Nvml
from agent.sanity import BOUNDS
from agent.simulated.calling import target
from agent.simulator import uninstall
from agent.tick import Condition
from tests.agent.driven import START_MS, BentClock, Driver

UINT, ULONG, ULONG_LONG, LONG_LONG, INT, USHORT, DOUBLE = 1, 2, 3, 4, 5, 6, 0
WANTED: Mapping[str, tuple[Field, ...]] = {
    "power_watts": (Field(185, 1e-3), Field(186, 1e-3)),
    "energy_joules_total": (Field(83, 1e-3),),
    "memory_temperature_celsius": (Field(82),),
}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


class Bench:
    """A batch of one GPU, whose driver answers fields as the test says: (code, type, eight bytes)."""

    def __init__(self, wanted: Mapping[Any, tuple[Field, ...]] = WANTED, *refuse: str) -> None:
        self.driver = Driver("h200x1:training", BentClock(START_MS), frozenset(refuse))
        self.nvml = Nvml()
        self.nvml.open()
        self.device: Device = enumerate_devices(self.nvml, {})[0][0]
        self.answers: dict[int, tuple[int, int, bytes]] = {}
        self.nvml.failures.clear()
        self.driver.asked.clear()
        self.driver.meddle = self._meddle
        self.batch: Batch[Any] = Batch("polled", self.device.caller, wanted)

    def _meddle(self, name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        for entry in target(arguments[1]) if name == "nvmlDeviceGetFieldValues" else ():
            if entry.fieldId in self.answers:
                entry.nvmlReturn, entry.valueType, content = self.answers[entry.fieldId]
                entry.value.ullVal = int.from_bytes(content, "little")
        return code

    def fails(self) -> dict[tuple[str, str], int]:
        """Count what failed since the last time."""
        failed = {key[1:]: times for key, times in self.nvml.failures.items()}
        self.nvml.failures.clear()
        return failed

    def asked(self, field: int) -> int:
        """Count how often a field was asked for."""
        return self.driver.asked["nvmlDeviceGetFieldValues", field]


def test_one_call_reads_all() -> None:
    """However many figures there are, the driver is called once."""
    bench = Bench()
    before = bench.nvml.calls
    assert bench.batch.read().keys() == WANTED.keys()
    assert bench.nvml.calls == before + 1


def test_an_entry_that_is_refused_leaves_the_others() -> None:
    """It is asked for once, counted by its quantity, and no more to be had."""
    bench = Bench(WANTED, "field:82")
    for _ in range(3):
        assert bench.batch.read().keys() == {"power_watts", "energy_joules_total"}
    assert bench.fails() == {("memory_temperature_celsius", "unsupported"): 1}
    assert bench.asked(82) == 1
    assert not bench.batch.tells("memory_temperature_celsius")
    assert bench.batch.tells("power_watts")


def test_the_next_choice_is_asked_at_once() -> None:
    """A figure whose best field is refused comes from the next one, in the same reading, uncounted."""
    bench = Bench(WANTED, "field:185")
    instant = bench.device.polled.read()["power_max_watts"]
    bench.fails()
    bench.driver.asked.clear()
    for _ in range(2):
        assert bench.batch.read()["power_watts"] == instant
    assert bench.fails() == {}
    assert bench.asked(185) == 1


def test_without_any_choice_left_it_is_refused_once() -> None:
    """When all fields of a figure are refused, it is counted, and not before."""
    bench = Bench(WANTED, "field:185", "field:186")
    assert "power_watts" not in bench.batch.read()
    assert bench.fails() == {("power_watts", "unsupported"): 1}


def test_of_several_parts_the_quantity_is_refused_when_none_is_left() -> None:
    """One link that is silent is not all links."""
    wanted = {("nvlink_up_flag", (str(link),)): (Field(165, 1.0, link),) for link in (0, 1, 40)}
    bench = Bench(wanted)
    assert bench.batch.read() == {("nvlink_up_flag", ("0",)): 1.0, ("nvlink_up_flag", ("1",)): 1.0}
    assert bench.fails() == {}
    gone = Bench({key: fields for key, fields in wanted.items() if key[1] == ("40",)})
    assert gone.batch.read() == {}
    assert gone.fails() == {("nvlink_up_flag", "unsupported"): 1}


def test_scopes_reach_the_driver() -> None:
    """A link, or all links together."""
    wanted = {
        "nvlink_tx_bytes_total": (Field(138, 1024, ALL_LINKS),),
        "pcie_replays_total": (Field(138, 1024, 3),),
    }
    whole, one = Bench(wanted).batch.read().values()
    assert whole / one == pytest.approx(18, rel=1e-6)


def test_a_passing_failure_of_an_entry_is_counted_and_asked_again() -> None:
    """A timeout of one figure costs that figure, this time."""
    bench = Bench()
    bench.answers[83] = (10, ULONG_LONG, bytes(8))
    assert bench.batch.read().keys() == WANTED.keys() - {"energy_joules_total"}
    assert bench.fails() == {("energy_joules_total", "failed"): 1}
    bench.answers.clear()
    assert bench.batch.read().keys() == WANTED.keys()


@pytest.mark.parametrize("code", [2, 999])
def test_some_drivers_answer_otherwise_to_a_field_that_they_do_not_know(code: int) -> None:
    """INVALID_ARGUMENT or "unknown error" from the first time on means that there is none, not a loss."""
    wanted = {**WANTED, "pcie_replays_total": (Field(94),), "retired_pages_single_bit_total": (Field(29),)}
    bench = Bench(wanted)
    for number in (185, 82, 94, 29):
        bench.answers[number] = (code, 0, bytes(8))
    for _ in range(4):
        assert bench.batch.read().keys() == {"power_watts", "energy_joules_total"}
    assert bench.fails() == {
        ("memory_temperature_celsius", "unsupported"): 1,
        ("pcie_replays_total", "unsupported"): 1,
        ("retired_pages_single_bit_total", "unsupported"): 1,
    }


@pytest.mark.parametrize("code", [2, 999])
def test_a_field_that_was_told_before_is_not_given_up(code: int) -> None:
    """The same answers of a field that is known are failures, and three of them are no lost GPU."""
    bench = Bench()
    bench.batch.read()
    bench.answers = dict.fromkeys((185, 82), (code, 0, bytes(8)))
    for _ in range(4):
        assert bench.batch.read().keys() == {"energy_joules_total"}
    assert bench.fails() == {("power_watts", "failed"): 4, ("memory_temperature_celsius", "failed"): 4}
    bench.answers.clear()
    assert bench.batch.read().keys() == WANTED.keys()


def test_a_batch_of_unknown_errors_is_one_of_the_three_that_mean_a_loss() -> None:
    """All entries with code 999 are one answer: the third in a row is the GPU's end."""
    bench = Bench()
    bench.batch.read()
    bench.answers = dict.fromkeys((185, 83, 82), (999, 0, bytes(8)))
    assert (bench.batch.read(), bench.batch.read()) == ({}, {})
    with pytest.raises(GpuGone) as caught:
        bench.batch.read()
    assert caught.value.condition is Condition.LOST


@pytest.mark.parametrize(("code", "condition"), [(15, Condition.LOST), (16, Condition.RESET_REQUIRED)])
def test_an_entry_may_tell_that_the_gpu_is_gone(code: int, condition: Condition) -> None:
    """A batch that succeeds as a whole while its entries say lost is a lost GPU."""
    bench = Bench()
    bench.answers[83] = (code, ULONG_LONG, bytes(8))
    with pytest.raises(GpuGone) as caught:
        bench.batch.read()
    assert caught.value.condition is condition


def test_a_driver_that_refuses_the_call_tells_nothing() -> None:
    """It is asked once, and no figure is to be had any more."""
    bench = Bench(WANTED, "fields")
    assert (bench.batch.read(), bench.batch.read()) == ({}, {})
    assert not any(bench.batch.tells(name) for name in WANTED)
    assert bench.fails() == {("polled", "unsupported"): 1}
    assert bench.asked(83) == 1


@pytest.mark.parametrize(
    ("kind", "content", "value"),
    [
        (DOUBLE, struct.pack("<d", 71_250.0), 71.25),
        (UINT, struct.pack("<II", 71_250, 0xDEADBEEF), 71.25),
        (ULONG, struct.pack("<Q", 71_250), 71.25),
        (ULONG_LONG, struct.pack("<Q", 71_250), 71.25),
        (LONG_LONG, struct.pack("<q", 71_250), 71.25),
        (INT, struct.pack("<iI", 71_250, 0xDEADBEEF), 71.25),
        (USHORT, struct.pack("<HHI", 7_125, 0xDEAD, 0xBEEF), 7.125),
    ],
)
def test_a_value_is_read_by_its_type(kind: int, content: bytes, value: float) -> None:
    """What else lies in the eight bytes does not matter: drivers leave there what was there before."""
    bench = Bench()
    bench.answers[185] = (0, kind, content)
    assert bench.batch.read()["power_watts"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("field", "kind", "content"),
    [
        (83, ULONG_LONG, b"\xff" * 8),
        (83, ULONG_LONG, b"\xf0" + b"\xff" * 7),  # NVML's blanks are a little less
        (83, LONG_LONG, b"\xff" * 8),
        (83, UINT, b"\xff" * 4 + bytes(4)),
        (185, UINT, b"\xff" * 4 + bytes(4)),
        (185, UINT, b"\xff" * 8),
        (185, INT, b"\xff" * 4 + bytes(4)),
        (185, DOUBLE, struct.pack("<d", float("nan"))),
        (185, DOUBLE, struct.pack("<d", float("inf"))),
        (185, 7, bytes(8)),
        (185, -1, bytes(8)),
        (82, UINT, struct.pack("<II", 250, 0)),
        (82, INT, struct.pack("<ii", -40, 0)),
    ],
)
def test_what_cannot_be_is_dropped_and_counted(field: int, kind: int, content: bytes) -> None:
    """All-ones words, negative amounts, no numbers and unknown types are no figures, and no zeros either."""
    bench = Bench()
    (quantity,) = [name for name, fields in WANTED.items() if fields[0].number == field]
    bench.answers[field] = (0, kind, content)
    assert bench.batch.read().keys() == WANTED.keys() - {quantity}
    assert bench.fails() == {(quantity, "impossible"): 1}
    bench.answers.clear()
    assert bench.batch.read().keys() == WANTED.keys()


@pytest.mark.parametrize("kind", [*range(-1, 9), 2**31 - 1])
@settings(max_examples=30)
@given(code=st.integers(-(2**31), 2**31 - 1), content=st.binary(min_size=8, max_size=8))
def test_no_bytes_make_a_figure_out_of_bounds(kind: int, code: int, content: bytes) -> None:
    """Also of a field that is decoded: whatever comes is in bounds, missing, or a GPU that is gone."""
    wanted: dict[str, tuple[Field, ...]] = {
        **WANTED,
        "nvlink_bit_error_ratio": (Field(94, 1.0, 0, lambda coded: int(coded) * 1e-9),),
    }
    bench = Bench(wanted)
    for number in (83, 185, 94):
        bench.answers[number] = (0 if number == 94 else code, kind, content)
    try:
        values = bench.batch.read()
    except GpuGone:
        values = {}
    for name, value in values.items():
        least, most = BOUNDS[name]
        assert least <= value <= most
