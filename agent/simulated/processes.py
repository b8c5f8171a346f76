"""The processes that the simulated driver lists, and what each of them had of the multiprocessors."""

from collections.abc import Callable, Mapping, Sequence
from struct import Struct

from agent.simulated.calling import (
    INVALID,
    NOT_FOUND,
    OK,
    TOO_SMALL,
    Argument,
    Look,
    plain,
    put_number,
    raw,
    target,
)
from agent.simulated.integrals import RINGS
from agent.simulated.phases import SECOND_US, SimProcess
from agent.simulated.portrait import MEMORY_BUSY_SHARE

NO_INSTANCE = 0xFFFFFFFF
"""The GPU instance of a process that runs on the whole GPU."""

SAMPLES_KEPT_US = 10 * SECOND_US
MOST_SAMPLES = 100
_PROCESS = Struct("I4xQII")
_SAMPLE = Struct("I4xQIIII")


def _listed(look: Look) -> Sequence[SimProcess]:
    leaked = look.simulation.defects(look.gpu, look.at_us).memory_leaked
    return () if leaked else look.simulation.processes(look.gpu, look.at_us)


def _compute(look: Look, count: Argument, buffer: Argument) -> int:
    processes = _listed(look)
    room = target(count).value if buffer is not None else 0
    put_number(len(processes), count)
    if len(processes) > room:
        return TOO_SMALL
    entries = raw(buffer, _PROCESS.size * len(processes)) if processes else b""
    for place, process in enumerate(processes):
        row = process.pid, process.memory_bytes, NO_INSTANCE, NO_INSTANCE
        _PROCESS.pack_into(entries, place * _PROCESS.size, *row)
    return OK


def _none(_look: Look, count: Argument, _buffer: Argument) -> int:
    return put_number(0, count)


def _utilization(look: Look, buffer: Argument, count: Argument, seen_us: Argument) -> int:
    """Answer each process's mean share since `seen_us`, but of no more than the ring holds.

    All of them share the busy time evenly. Where no buffer is given, the room that one needs is answered.
    """
    if buffer is None:
        put_number(MOST_SAMPLES, count)
        return TOO_SMALL
    ring, processes = RINGS[1], _listed(look)
    end_us = ring.moment_us(look.at_us * ring.per_second // SECOND_US)
    start_us = max(plain(seen_us), end_us - SAMPLES_KEPT_US)
    busy = look.simulation.busy_seconds(look.gpu, start_us, end_us) if start_us < end_us else 0.0
    if not busy or not processes:
        put_number(0, count)
        return NOT_FOUND
    if target(count).value < len(processes):
        return TOO_SMALL if target(count).value else INVALID
    percent = 100 * busy * SECOND_US / (end_us - start_us) / len(processes)
    shares = round(percent), round(percent * MEMORY_BUSY_SHARE), 0, 0
    entries = raw(buffer, _SAMPLE.size * len(processes))
    for place, process in enumerate(processes):
        _SAMPLE.pack_into(entries, place * _SAMPLE.size, process.pid, end_us, *shares)
    return put_number(len(processes), count)


PROCESS_CALLS: Mapping[str, tuple[str, Callable[..., int]]] = {
    "nvmlDeviceGetComputeRunningProcesses_v3": ("processes", _compute),
    "nvmlDeviceGetGraphicsRunningProcesses_v3": ("processes", _none),
    "nvmlDeviceGetMPSComputeRunningProcesses_v3": ("processes", _none),
    "nvmlDeviceGetProcessUtilization": ("process_utilization", _utilization),
}
"""Rows of `agent.simulated.calls.DEVICE_CALLS`."""
