"""Handles of MIG devices, and what the simulated driver answers to calls about MIG.

A MIG device has a handle of its own, which is of no use once its layout is over. A GPU on which MIG is on
refuses what is told of its instances only.
"""

from collections.abc import Callable, Mapping
from ctypes import addressof, c_byte
from typing import NamedTuple

from agent.simulated.calling import (
    INVALID,
    NOT_FOUND,
    REFUSED,
    Argument,
    Look,
    plain,
    put_number,
    target,
)
from agent.simulated.gpm import Samples
from agent.simulated.handles import put_handle
from agent.simulated.layouts import SLICES, Instance, Layout
from agent.simulated.partitions import Partitions
from agent.simulated.slices import SLICE_CALLS, SliceLook

_NEVER_WITH_MIG = frozenset(
    {"utilization", "process_utilization", *(f"samples:{kind}" for kind in (1, 2, 3, 4, 8, 9))}
)
_NEVER_WITH_INSTANCES = frozenset({"remapped_rows", *(f"field:{number}" for number in range(142, 146))})
_LOST_CALLS = frozenset(
    {
        "nvmlDeviceGetEncoderUtilization",
        "nvmlDeviceGetDecoderUtilization",
        "nvmlDeviceGetJpgUtilization",
        "nvmlDeviceGetOfaUtilization",
        "nvmlDeviceGetProcessesUtilizationInfo",
        "nvmlDeviceGetAccountingMode",
        "nvmlDeviceGetAccountingPids",
        "nvmlDeviceGetAccountingStats",
        "nvmlDeviceGetAccountingBufferSize",
    }
)
PROCESS_LISTS = frozenset(
    {"nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses_v3"}
)


class SlicePlace(NamedTuple):
    """What a handle of a MIG device stands for: a slot in one of the layouts that a GPU has over time."""

    gpu: int
    spell: int
    slot: int


class MigDevices:
    """The MIG devices of a library, by handle. `gpu_handle` gives the address that stands for a GPU."""

    def __init__(
        self, partitions: Partitions, samples: Samples, gpu_count: int, gpu_handle: Callable[[int], int]
    ) -> None:
        self._partitions = partitions
        self._samples = samples
        self._gpu_count = gpu_count
        self._gpu_handle = gpu_handle
        self._room = (c_byte * (partitions.most_spells * gpu_count * SLICES))()

    def lost_words(self, gpu: int, at_us: int) -> frozenset[str]:
        """Return the capability words that a GPU refuses while MIG is on."""
        layout = self._partitions.layout(gpu, at_us)
        if layout is None:
            return frozenset()
        return _NEVER_WITH_MIG | _NEVER_WITH_INSTANCES if layout.instances else _NEVER_WITH_MIG

    def takes(self, look: Look, name: str) -> bool:
        """Tell whether a GPU has lost a function to MIG."""
        return name in _LOST_CALLS and self._layout(look) is not None

    def rows(self) -> Mapping[str, tuple[str, Callable[..., int]]]:
        """Return the functions about a GPU that have to do with MIG, as rows of `DEVICE_CALLS`."""
        return {
            "nvmlDeviceGetMigMode": ("mig", self._mode),
            "nvmlDeviceGetMaxMigDeviceCount": ("", self._most_devices),
            "nvmlDeviceIsMigDeviceHandle": ("", _is_no_slice),
            "nvmlDeviceGetMigDeviceHandleByIndex": ("mig", self._handle_by_index),
            "nvmlGpmMigSampleGet": ("gpm", self._sample),
        }

    def find(self, address: int) -> SlicePlace | None:
        """Return what an address stands for, if it is that of a MIG device."""
        number = address - addressof(self._room)
        if not 0 <= number < len(self._room):
            return None
        rest, slot = divmod(number, SLICES)
        spell, gpu = divmod(rest, self._gpu_count)
        return SlicePlace(gpu, spell, slot)

    def handle_by_uuid(self, look: Look, uuid: str, out: Argument) -> int:
        """Find a MIG device of a GPU."""
        layout = self._layout(look)
        for instance in layout.instances if layout else ():
            if layout and instance.uuid == uuid:
                return put_handle(self._address(look.gpu, layout, instance), out)
        return NOT_FOUND

    def answer(self, name: str, look: Look, place: SlicePlace, *arguments: Argument) -> int:
        """Answer a call on a MIG device."""
        layout = self._layout(look)
        instance = layout.at_index(place.slot) if layout and layout.spell == place.spell else None
        if instance is None:
            return INVALID
        if name == "nvmlDeviceGetDeviceHandleFromMigDeviceHandle":
            return put_handle(self._gpu_handle(look.gpu), *arguments)
        if name == "nvmlGpmSampleGet":
            return self._samples.take(arguments[0], look.gpu, look.at_us, instance.gpu_instance)
        if name not in SLICE_CALLS:
            return REFUSED
        return SLICE_CALLS[name](SliceLook(look, self._partitions, instance), *arguments)

    def place_processes(self, look: Look, count: Argument, buffer: Argument) -> None:
        """Write into a list of a GPU's processes on which instance each of them runs."""
        layout = self._layout(look)
        for number in range(target(count).value if layout and buffer is not None else 0):
            instance = layout.of_process(number) if layout else None
            if instance is not None:
                entry = target(buffer)[number]
                entry.gpuInstanceId = instance.gpu_instance
                entry.computeInstanceId = instance.compute_instance
                room_bytes = self._partitions.room_bytes(instance.profile)
                entry.usedGpuMemory = min(entry.usedGpuMemory, room_bytes)

    def _layout(self, look: Look) -> Layout | None:
        return self._partitions.layout(look.gpu, look.at_us)

    def _address(self, gpu: int, layout: Layout, instance: Instance) -> int:
        return addressof(self._room) + (layout.spell * self._gpu_count + gpu) * SLICES + instance.index

    def _mode(self, look: Look, current: Argument, pending: Argument) -> int:
        put_number(int(self._layout(look) is not None), current)
        return put_number(int(self._layout(look) is not None), pending)

    def _most_devices(self, look: Look, out: Argument) -> int:
        return put_number(0 if self._layout(look) is None else SLICES, out)

    def _handle_by_index(self, look: Look, index: Argument, out: Argument) -> int:
        layout = self._layout(look)
        if layout is None:
            return REFUSED
        if not 0 <= plain(index) < SLICES:
            return INVALID
        instance = layout.at_index(plain(index))
        if instance is None:
            return NOT_FOUND
        return put_handle(self._address(look.gpu, layout, instance), out)

    def _sample(self, look: Look, gpu_instance: Argument, pointer: Argument) -> int:
        layout = self._layout(look)
        if layout is None or plain(gpu_instance) not in layout.shares:
            return INVALID
        return self._samples.take(pointer, look.gpu, look.at_us, plain(gpu_instance))


def _is_no_slice(_look: Look, out: Argument) -> int:
    return put_number(0, out)


SLICE_FUNCTIONS = frozenset(SLICE_CALLS) | {"nvmlDeviceGetDeviceHandleFromMigDeviceHandle"}
"""Functions that a MIG device answers, and a GPU perhaps does not."""
