"""Answers that cannot be true, made of good ones: what broken sensors and drivers are known to say."""

from collections.abc import Callable, Mapping
from itertools import count

from agent.simulated.calling import Argument, Look, plain, put_number, target

ALL_ONES_64, ALL_ONES_32 = 2**64 - 1, 2**32 - 1
TOO_MUCH_PERCENT = 250
BELOW_ZERO_CELSIUS = -40
AHEAD_US = 3_600_000_000
"""How far in the future a sample may pretend to be."""

ENERGY_FIELDS, POWER_FIELDS = (83, 191), (185, 186)
POWER_RINGS = (0, 7)


class Garbage:
    """Spoils answers of one library; the energy counter alternates between two kinds of nonsense."""

    def __init__(self) -> None:
        self._asked = count()

    def spoil(self, name: str, look: Look, *arguments: Argument) -> None:
        """Make nonsense of the answer that a function gave, if it is one of those that go wrong."""
        spoiler = SPOILERS.get(name)
        if spoiler is not None:
            spoiler(self, look, *arguments)

    def energy_mj(self, energy_mj: int) -> int:
        """Return all ones, or a counter that runs backwards from twice of where it should be."""
        whole_mj = 1 << energy_mj.bit_length()
        return whole_mj - energy_mj if next(self._asked) % 2 else ALL_ONES_64


def _energy(garbage: Garbage, _look: Look, out: Argument) -> None:
    put_number(garbage.energy_mj(target(out).value), out)


def _fields(garbage: Garbage, _look: Look, length: Argument, values: Argument) -> None:
    for place in range(plain(length)):
        entry = target(values)[place]
        if entry.nvmlReturn:
            continue
        if entry.fieldId in ENERGY_FIELDS:
            entry.value.ullVal = garbage.energy_mj(entry.value.ullVal)
        elif entry.fieldId in POWER_FIELDS:
            entry.value.ullVal = ALL_ONES_32


def _samples(_garbage: Garbage, _look: Look, kind: Argument, _seen: Argument, *outs: Argument) -> None:
    """Let every second sample be of the future, and the others be more than there can be."""
    _, length, buffer = outs
    for place in range(target(length).value if buffer is not None else 0):
        sample = target(buffer)[place]
        if place % 2:
            sample.timeStamp += AHEAD_US
        else:
            too_much = ALL_ONES_32 if plain(kind) in POWER_RINGS else TOO_MUCH_PERCENT
            sample.sampleValue.uiVal = too_much


def _power(_garbage: Garbage, _look: Look, out: Argument) -> None:
    put_number(ALL_ONES_32, out)


def _temperature(_garbage: Garbage, _look: Look, out: Argument) -> None:
    target(out).temperature = BELOW_ZERO_CELSIUS


def _memory(_garbage: Garbage, _look: Look, out: Argument) -> None:
    target(out).used = ALL_ONES_64


def _process_shares(_garbage: Garbage, _look: Look, buffer: Argument, length: Argument, *_: Argument) -> None:
    for place in range(target(length).value if buffer is not None else 0):
        target(buffer)[place].smUtil = ALL_ONES_32


SPOILERS: Mapping[str, Callable[..., None]] = {
    "nvmlDeviceGetTotalEnergyConsumption": _energy,
    "nvmlDeviceGetFieldValues": _fields,
    "nvmlDeviceGetSamples": _samples,
    "nvmlDeviceGetPowerUsage": _power,
    "nvmlDeviceGetTemperatureV": _temperature,
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetMemoryInfo_v2": _memory,
    "nvmlDeviceGetProcessUtilization": _process_shares,
}
"""Function → what becomes of its answer."""
