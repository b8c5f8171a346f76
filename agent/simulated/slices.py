"""What the simulated driver answers about one MIG device. Everything else it refuses."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from agent.simulated.calling import (
    OK,
    TOO_SMALL,
    WRONG_VERSION,
    Argument,
    Look,
    put_number,
    put_text,
    target,
)
from agent.simulated.calls import MEMORY_V2
from agent.simulated.layouts import MEMORY_SLICES, Instance
from agent.simulated.models import MIB
from agent.simulated.partitions import Partitions
from agent.simulated.phases import SimProcess


class SliceLook(NamedTuple):
    """One look at one MIG device."""

    look: Look
    partitions: Partitions
    instance: Instance


def _uuid(at: SliceLook, buffer: Argument, length: Argument) -> int:
    return put_text(at.instance.uuid, buffer, length)


def _name(at: SliceLook, buffer: Argument, length: Argument) -> int:
    return put_text(at.instance.name, buffer, length)


def _index(at: SliceLook, out: Argument) -> int:
    return put_number(at.instance.index, out)


def _gpu_instance(at: SliceLook, out: Argument) -> int:
    return put_number(at.instance.gpu_instance, out)


def _compute_instance(at: SliceLook, out: Argument) -> int:
    return put_number(at.instance.compute_instance, out)


def _is_slice(_at: SliceLook, out: Argument) -> int:
    return put_number(1, out)


def _attributes(at: SliceLook, out: Argument) -> int:
    told, instance = target(out), at.instance
    told.multiprocessorCount = instance.multiprocessors
    told.sharedCopyEngineCount = told.sharedDecoderCount = instance.profile.slices
    told.sharedEncoderCount = told.sharedJpegCount = told.sharedOfaCount = 0
    told.gpuInstanceSliceCount = instance.profile.slices
    told.computeInstanceSliceCount = instance.slices
    told.memorySizeMB = _memory_bytes(at) // MIB
    return OK


def _memory_bytes(at: SliceLook) -> int:
    profile = at.instance.profile
    return at.partitions.room_bytes(profile) + _reserved_bytes(at)


def _reserved_bytes(at: SliceLook) -> int:
    model = at.look.simulation.model
    return model.memory_reserved_bytes * at.instance.profile.memory_slices // MEMORY_SLICES


def _memory(at: SliceLook, out: Argument) -> int:
    """Answer the memory of the GPU instance, which its compute instances share."""
    memory = target(out)
    memory.total = _memory_bytes(at)
    memory.used = _used_bytes(at) + _reserved_bytes(at)
    memory.free = memory.total - memory.used
    return OK


def _memory_v2(at: SliceLook, out: Argument) -> int:
    memory = target(out)
    if memory.version != MEMORY_V2:
        return WRONG_VERSION
    memory.total = _memory_bytes(at)
    memory.reserved = _reserved_bytes(at)
    memory.used = _used_bytes(at)
    memory.free = memory.total - memory.reserved - memory.used
    return OK


def _used_bytes(at: SliceLook) -> int:
    used_bytes = sum(process.memory_bytes for _, process in _in_gpu_instance(at))
    return min(used_bytes, at.partitions.room_bytes(at.instance.profile))


def _in_gpu_instance(at: SliceLook) -> list[tuple[int, SimProcess]]:
    return at.partitions.processes(at.look.gpu, at.instance.gpu_instance, at.look.at_us)


def _processes(at: SliceLook, count: Argument, buffer: Argument) -> int:
    here = [one for number, one in _in_gpu_instance(at) if number == at.instance.compute_instance]
    room = target(count).value if buffer is not None else 0
    put_number(len(here), count)
    if len(here) > room:
        return TOO_SMALL
    for place, process in enumerate(here):
        entry = target(buffer)[place]
        entry.pid = process.pid
        entry.usedGpuMemory = process.memory_bytes
        entry.gpuInstanceId = at.instance.gpu_instance
        entry.computeInstanceId = at.instance.compute_instance
    return OK


SLICE_CALLS: Mapping[str, Callable[..., int]] = {
    "nvmlDeviceGetUUID": _uuid,
    "nvmlDeviceGetName": _name,
    "nvmlDeviceGetIndex": _index,
    "nvmlDeviceGetGpuInstanceId": _gpu_instance,
    "nvmlDeviceGetComputeInstanceId": _compute_instance,
    "nvmlDeviceIsMigDeviceHandle": _is_slice,
    "nvmlDeviceGetAttributes_v2": _attributes,
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetMemoryInfo_v2": _memory_v2,
    "nvmlDeviceGetComputeRunningProcesses_v3": _processes,
}
"""Function → what it does."""
