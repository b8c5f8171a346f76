"""What a GPU has several of: links, places of memory, banks, fans. Read once a minute, as rows.

Field numbers and codes are those of nvml.h; NVLink's older counters end with Hopper, its newer ones begin
with Blackwell.
"""

from collections.abc import Iterable, Iterator
from ctypes import byref, c_int, c_uint, c_ulonglong

from agent.batch import Batch, Field
from agent.device import Device
from agent.nvml import RemapperBanks
from agent.quantities import Amount
from agent.tick import Part

Key = tuple[str, tuple[str, ...]]
"""A quantity of PARTS, and its labels."""

_LOCATIONS = {"l1": 0, "l2": 2, "device": 4, "register": 6, "texture": 8}
_KINDS = {"corrected": 0, "uncorrected": 1}
_LIFETIMES = {"volatile": 0, "aggregate": 1}
_FIRST_OF = {"volatile": 7, "aggregate": 18}
_CBU = {"volatile": 17, "aggregate": 28}
SRAM = 7
"""Number of nvmlMemoryLocation_t; it has no field."""
_PCIE = {
    "correctable": 173,
    "naks_received": 174,
    "receiver": 175,
    "bad_tlp": 176,
    "naks_sent": 177,
    "bad_dllp": 178,
    "non_fatal": 179,
    "fatal": 180,
    "unsupported_request": 181,
    "lcrc": 182,
}
_LINK_ERRORS = {
    "replay": (161,),
    "recovery": (162, 215),
    "crc": (163,),
    "recovery_failed": (214,),
    "malformed_packet": (206,),
    "buffer_overrun": (207,),
    "receive": (208,),
    "local_integrity": (211,),
    "effective": (219,),
    "symbol": (221,),
}
_BIT_ERRORS = {"effective": 220, "symbol": 222}
_SPARES = ("max", "high", "partial", "low", "none")
FABRIC_FAULTS = {
    "degraded_bandwidth": 0,
    "route_recovery": 2,
    "route_unhealthy": 4,
    "access_timeout_recovery": 6,
}
"""Where two bits of the health mask lie: 1 yes, 2 no, 0 not told."""
MOST_FANS = 16
"""More than any board has: what a driver counts is not believed beyond."""
_CONFIGURATION_SHIFT, _CONFIGURATION_GOOD = 8, 1


def _bit_error_ratio(coded: float) -> float:
    """Decode a bit error rate: a mantissa in bits 8 to 11, a negative exponent in bits 0 to 7."""
    word = int(coded)
    return ((word >> 8) & 15) * 10.0 ** -(word & 255)


def _fields(links: int) -> dict[Key, tuple[Field, ...]]:
    wanted: dict[Key, tuple[Field, ...]] = {}
    for lifetime, first in _FIRST_OF.items():
        for location, offset in _LOCATIONS.items():
            for kind, one_more in _KINDS.items():
                key = ("ecc_location_errors_total", (kind, lifetime, location))
                wanted[key] = (Field(first + offset + one_more),)
        key = ("ecc_location_errors_total", ("uncorrected", lifetime, "cbu"))
        wanted[key] = (Field(_CBU[lifetime]),)
    for kind, number in _PCIE.items():
        wanted["pcie_errors_total", (kind,)] = (Field(number),)
    for link in range(links):
        wanted["nvlink_up_flag", (str(link),)] = (Field(165, 1.0, link),)
        for kind, numbers in _LINK_ERRORS.items():
            choices = tuple(Field(number, 1.0, link) for number in numbers)
            wanted["nvlink_link_errors_total", (str(link), kind)] = choices
        for kind, number in _BIT_ERRORS.items():
            ratio = (Field(number, 1.0, link, _bit_error_ratio),)
            wanted["nvlink_bit_error_ratio", (str(link), kind)] = ratio
    return wanted


class Parts:
    """The parts of one GPU; `links` is how many NVLinks it has."""

    def __init__(self, device: Device, links: int) -> None:
        self._device = device
        self._batch: Batch[Key] = Batch("parts", device.caller, _fields(links))

    def read(self, fabric_mask: int) -> tuple[Part, ...]:
        """Read all parts that the device tells. Raises GpuGone."""
        rows = dict(self._batch.read())
        rows.update(self._sram())
        rows.update(self._banks())
        rows.update(self._fans())
        rows.update(_faults(fabric_mask))
        return tuple(Part(quantity, labels, value) for (quantity, labels), value in rows.items())

    def _sram(self) -> Iterator[tuple[Key, float]]:
        for lifetime, which in _LIFETIMES.items():
            for kind, code in _KINDS.items():
                count = c_ulonglong()
                numbers = c_int(code), c_int(which), c_int(SRAM)
                if not self._device.caller.ask(
                    "ecc_sram", "nvmlDeviceGetMemoryErrorCounter", *numbers, byref(count)
                ):
                    continue
                errors = self._device.amount("ecc_location_errors_total", count.value)
                if errors is not None:
                    yield ("ecc_location_errors_total", (kind, lifetime, "sram")), errors

    def _banks(self) -> Iterator[tuple[Key, float]]:
        banks = RemapperBanks()
        if self._device.caller.ask("remapper_banks", "nvmlDeviceGetRowRemapperHistogram", byref(banks)):
            for spare in _SPARES:
                number = self._device.amount("remapper_banks", getattr(banks, spare))
                if number is not None:
                    yield ("remapper_banks", (spare,)), number

    def _fans(self) -> Iterator[tuple[Key, float]]:
        fans = self._device.caller.number("fans", "nvmlDeviceGetNumFans") or 0
        for fan in range(min(fans, MOST_FANS)):
            percent = self._device.caller.number("fan_speed_ratio", "nvmlDeviceGetFanSpeed_v2", c_uint(fan))
            ratio = None if percent is None else self._device.amount("fan_speed_ratio", percent / 100)
            if ratio is not None:
                yield ("fan_speed_ratio", (str(fan),)), ratio


def active_links(parts: tuple[Part, ...]) -> float | None:
    """Count the NVLinks that are up; None where the device has none."""
    states = [part.value for part in parts if part.quantity == "nvlink_up_flag"]
    return sum(states) if states else None


def fans(parts: Iterable[Part]) -> dict[str, Amount]:
    """Tell the speeds of the slowest and the fastest fan; nothing where the device has none."""
    speeds = [part.value for part in parts if part.quantity == "fan_speed_ratio"]
    if not speeds:
        return {}
    return {"fan_speed_least_ratio": min(speeds), "fan_speed_most_ratio": max(speeds)}


def _faults(mask: int) -> Iterator[tuple[Key, float]]:
    for fault, shift in FABRIC_FAULTS.items():
        told = (mask >> shift) & 3
        if told:
            yield ("fabric_fault_flag", (fault,)), float(told == 1)
    configuration = (mask >> _CONFIGURATION_SHIFT) & 15
    if configuration:
        wrong = float(configuration != _CONFIGURATION_GOOD)
        yield ("fabric_fault_flag", ("incorrect_configuration",)), wrong
