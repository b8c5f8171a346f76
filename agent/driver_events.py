"""What the driver reports by itself: XIDs, and that a GPU was partitioned anew.

One set of events serves all GPUs. It is asked at every poll and never waited for, so no thread is needed;
what comes between two polls waits in the driver.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from ctypes import byref, c_uint, c_ulonglong, c_void_p, cast
from typing import NamedTuple

from agent.cell import NO_GPU
from agent.clock import Clock
from agent.device import Device
from agent.nvml import TIMEOUT, EventData, EventSet, GpuGone, Nvml
from agent.tick import Xid

XID, REPARTITIONED = 0x8, 0x100
"""Bits of nvmlEventType."""
MOST_AT_ONCE = 2_000
MOST_NS = 20_000_000
"""So many events are taken at a poll, and for no longer; in a storm the rest wait in the driver."""
REST_MS = 60_000
"""A set that fails is left alone for so long: one that answers errors at once would spin."""


class Happened(NamedTuple):
    """What was reported since the last look: errors, and the GPUs that were partitioned anew, by UUID."""

    xids: list[Xid]
    repartitioned: set[str]


class DriverEvents:
    """The set of events of one opening of the driver."""

    def __init__(self, nvml: Nvml, clock: Clock) -> None:
        self._nvml = nvml
        self._clock = clock
        self._set: object = None
        self._data = EventData()
        self._wait: Callable[[], int] | None = None
        self._uuids: dict[int | None, str] = {}
        self._rest_until_ms = 0

    def open(self, devices: Iterable[Device]) -> None:
        """Register for the events of these GPUs; one that is gone has none. Raises NvmlUnavailable."""
        self.close()
        made = EventSet()
        if self._nvml.call(NO_GPU, "nvmlEventSetCreate", byref(made)):
            self._nvml.failed("", "xid_errors_total", "unsupported")
            return
        self._set = made
        self._wait = self._nvml.prepare(NO_GPU, "nvmlEventSetWait_v2", made, byref(self._data), c_uint(0))
        for device in devices:
            with suppress(GpuGone):  # the next poll finds that out, and what it means
                self._register(device, made)

    def _register(self, device: Device, made: object) -> None:
        supported, caller = c_ulonglong(), device.caller
        if not caller.ask("events", "nvmlDeviceGetSupportedEventTypes", byref(supported)):
            return
        types = supported.value & (XID | REPARTITIONED)
        if types and caller.ask("events", "nvmlDeviceRegisterEvents", c_ulonglong(types), made):
            self._uuids[cast(caller.handle, c_void_p).value] = device.uuid

    def take(self) -> Happened:
        """Give what was reported since the last look."""
        found = Happened([], set())
        now_ms = self._clock.monotonic_ns() // 1_000_000
        if self._wait is None or now_ms < self._rest_until_ms or not self._uuids:
            return found
        data, until_ns = self._data, self._clock.monotonic_ns() + MOST_NS
        for _ in range(MOST_AT_ONCE):
            if self._clock.monotonic_ns() > until_ns:
                break
            code = self._wait()
            if code:
                if code != TIMEOUT:
                    self._nvml.failed("", "xid_errors_total", "failed")
                    self._rest_until_ms = now_ms + REST_MS
                break
            uuid = self._uuids.get(cast(data.device, c_void_p).value, "")
            if data.eventType & XID:
                found.xids.append(Xid(self._clock.wall_ms(), uuid, int(data.eventData)))
            if data.eventType & REPARTITIONED:
                found.repartitioned.add(uuid)
        return found

    def close(self) -> None:
        """Free the set, before the driver is closed."""
        if self._set is not None:
            self._nvml.call(NO_GPU, "nvmlEventSetFree", self._set)
        self._set = self._wait = None
        self._uuids = {}
        self._rest_until_ms = 0
