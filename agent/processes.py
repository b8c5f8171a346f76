"""The processes on one GPU over an interval: which had a context, and their shares of the multiprocessors."""

from collections.abc import Callable
from dataclasses import replace

from agent.clock import Clock
from agent.device import Device
from agent.tick import Process

LIST_MS = 5_000
"""How often the list of contexts is asked for; it is one of the dearer calls."""
AHEAD_US = 60_000_000
"""Samples further in the future are not believed: they would hide all that come in time."""
OTHERS_MS = 60_000
"""How often graphics and MPS clients are asked for: on compute nodes there are none, and the call is slow."""


class Processes:
    """The processes of one GPU. Methods raise GpuGone."""

    def __init__(self, device: Device, clock: Clock) -> None:
        self._device = device
        self._clock = clock
        self._listed: dict[int, Process] = {}
        self._known = False
        self._listed_ms = -LIST_MS
        self._others_ms = -OTHERS_MS
        self._others: dict[int, Process] = {}
        self._sampled_us = 0
        self._sampled_ns = 0
        self._seconds = 0.0
        self._shares: dict[int, float] = {}

    def poll(self, slice_of: Callable[[int | None], str]) -> None:
        """List the contexts if it is time; `slice_of` names the slice of a GPU instance."""
        now_ms = self._clock.monotonic_ns() // 1_000_000
        if now_ms - self._listed_ms < LIST_MS:
            return
        found = self._device.processes()
        if found is None:
            return
        self._listed_ms, self._known = now_ms, True
        if now_ms - self._others_ms >= OTHERS_MS:
            self._others_ms = now_ms
            others = [
                *(self._device.processes("graphics") or ()),
                *(self._device.processes("mps") or ()),
            ]
            self._others = {one.process.pid: one.process for one in others}
        self._listed |= self._others
        for process, instance in found:
            placed = process if instance is None else replace(process, slice=slice_of(instance))
            self._listed[process.pid] = placed

    def sample(self) -> None:
        """Add up what each process had of the multiprocessors since the last time."""
        now_ns = self._clock.monotonic_ns()
        seconds, self._sampled_ns = (now_ns - self._sampled_ns) / 1e9, now_ns
        newest_us, first = self._sampled_us, self._sampled_us == 0
        self._seconds += 0.0 if first else seconds
        now_us = self._clock.wall_ms() * 1000
        found: dict[int, float] = {}
        for at_us, pid, share in self._device.process_samples(self._sampled_us):
            if at_us > now_us + AHEAD_US:
                self._device.caller.nvml.failed(self._device.uuid, "process_sm_ratio", "impossible")
                continue
            newest_us = max(newest_us, at_us)
            # A process may be listed once for each of its contexts.
            found[pid] = max(share, found.get(pid, 0.0))
        for pid, share in found.items() if not first else ():
            self._shares[pid] = self._shares.get(pid, 0.0) + share * seconds
        self._sampled_us = newest_us or now_us

    def forget(self) -> None:
        """Begin to sample anew: the clock that dates samples was set."""
        self._sampled_us = 0

    def end(self) -> tuple[Process, ...] | None:
        """Give the processes of an interval that ended, by pid; None where the driver does not say."""
        if not self._known:
            return None
        shares, self._shares = self._shares, {}
        seconds, self._seconds = self._seconds, 0.0
        told = [
            replace(one, sm_ratio=shares[one.pid] / seconds) if one.pid in shares and seconds else one
            for _, one in sorted(self._listed.items())
        ]
        self._listed, self._known = {}, False
        self._listed_ms = -LIST_MS
        return tuple(told)
