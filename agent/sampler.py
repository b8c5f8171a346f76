"""Looks at the GPUs of the node and yields one tick per interval, as integrals.

Intervals are aligned to the wall clock and follow one another; the first is short, so that a probe is soon
heard. Counters are chained: the value that closes an interval opens the next, so nothing between two ticks is
lost. Gauges are polled; rings are fetched before they wrap. A step of the wall clock ends the interval at the
time that really passed.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from agent.cadence import SETTLE_SECONDS, SamplerSettings
from agent.clock import Clock
from agent.driver_events import DriverEvents
from agent.inventory import enumerate_devices
from agent.nvml import GpuGone, Nvml
from agent.tick import Condition, Gpu, Refusal, Tick, Xid, reading_of
from agent.watch import Watch

STEP_MS = 500
"""The wall clock was set when it moved this much more or less than the monotonic clock."""
RING_FETCH_MS = 5_000
ENGINE_FETCH_MS = 10_000
"""The utilisation rings wrap after 10 s of samples, and hold 72 of 1/6 s. What matters most is fetched twice
in that time, the engines at its end: half the calls for figures that are nearly always 0."""
REOPEN_MS = (10_000, 20_000, 40_000, 60_000, 120_000, 300_000)
"""How long to wait before NVML is opened anew for a GPU that is gone; its old handle never recovers."""


LISTING_MS = 60_000
PROC_GPUS = Path("/proc/driver/nvidia/gpus")
"""A folder per GPU that the kernel driver holds: what comes or goes is seen here without a driver call."""


class Sampler:
    """Reads all GPUs through one NVML. `ticks` opens it and runs until the clock says stop.

    GPUs at a shunned index are hung and are not touched until `admit` takes them in again.
    """

    def __init__(
        self,
        nvml: Nvml,
        clock: Clock,
        settings: SamplerSettings,
        node: str,
        shunned: Mapping[int, Gpu | None] | None = None,
        *,
        gpus_folder: Path = PROC_GPUS,
    ) -> None:
        self._nvml = nvml
        self._clock = clock
        self._node = node
        self._shunned = dict(shunned or {})
        self._gpus_folder = gpus_folder
        self._events = DriverEvents(nvml, clock)
        self._xids: list[Xid] = []
        self._listed: tuple[int, set[str]] | None = None
        self._listed_ms = 0
        self._interval_ms = round(settings.interval_seconds * 1000)
        self._poll_ms = round(settings.poll_seconds * 1000)
        self._watches: dict[str, Watch] = {}
        self._gone: dict[str, tuple[Gpu, Condition]] = {}
        self._reopen_at_ms = 0
        self._reopenings = 0
        self._start_ms = self._since_ms = 0
        self._offset_ms = 0
        self._nameless = 0
        self._fetched_ms = -RING_FETCH_MS
        self._engines_ms = -ENGINE_FETCH_MS

    def ticks(self) -> Iterator[Tick | None]:
        """Yield a tick per interval, and None after every poll between them as a sign of life.

        When it is time to stop, the last tick is of the interval in progress.

        Raises NvmlUnavailable when the driver is not there or goes away.
        """
        self._nvml.open()
        self._enumerate()
        self._begin(self._clock.wall_ms())
        self._since_ms = self._start_ms
        self._poll()
        while True:
            wall_ms = self._clock.wall_ms()
            end_ms = self._next(self._interval_ms, self._start_ms)
            if self._start_ms == self._since_ms:
                end_ms = min(end_ms, self._next(self._poll_ms, self._start_ms + self._poll_ms))
            if not self._clock.wait((min(self._next(self._poll_ms, wall_ms), end_ms) - wall_ms) / 1000):
                yield from self._end()
                return
            wall_ms = self._clock.wall_ms()
            stepped = abs(self._offset() - self._offset_ms) > STEP_MS
            if stepped:
                end_ms = max(self._start_ms + 1, self._monotonic_ms() + self._offset_ms)
            if not stepped and wall_ms < end_ms:
                self._poll()
                yield None
                continue
            late_ms = 0 if stepped else wall_ms - end_ms
            yield from self._turn(end_ms, late_ms, stepped=stepped)

    def _next(self, period_ms: int, after_ms: int) -> int:
        return (after_ms // period_ms + 1) * period_ms

    def _monotonic_ms(self) -> int:
        return self._clock.monotonic_ns() // 1_000_000

    def _offset(self) -> int:
        return self._clock.wall_ms() - self._monotonic_ms()

    def _begin(self, start_ms: int) -> None:
        self._start_ms = start_ms
        self._offset_ms = self._offset()

    def _turn(self, end_ms: int, late_ms: int, *, stepped: bool) -> Iterator[Tick]:
        """Close the interval in progress, begin the next, and yield the one that closed."""
        start_ms = self._start_ms
        for watch in self._watches.values():
            watch.turn()
        if stepped:
            self._begin(self._clock.wall_ms())
        elif late_ms >= self._interval_ms:
            self._begin(self._clock.wall_ms() // self._interval_ms * self._interval_ms)
        else:
            self._begin(end_ms)
        self._poll()
        if not stepped:
            self._clock.wait(SETTLE_SECONDS)
        self._fetch(engines=True)
        tick = self._tick(start_ms, end_ms, late_ms)
        if stepped:
            for watch in self._watches.values():
                watch.forget_rings()
        yield tick
        self._reopen_if_due()

    def _end(self) -> Iterator[Tick]:
        """Close the interval in progress at once."""
        end_ms = self._clock.wall_ms()
        if end_ms > self._start_ms and abs(self._offset() - self._offset_ms) <= STEP_MS:
            for watch in self._watches.values():
                watch.turn()
            self._poll()
            self._fetch(engines=True)
            yield self._tick(self._start_ms, end_ms, 0)

    def _poll(self) -> None:
        happened = self._events.take()
        self._xids += happened.xids
        for uuid in happened.repartitioned & self._watches.keys():
            self._watches[uuid].repartitioned()
        self._each(Watch.poll)
        if self._monotonic_ms() - self._fetched_ms >= RING_FETCH_MS:
            self._fetch()

    def _fetch(self, *, engines: bool = False) -> None:
        self._fetched_ms = now_ms = self._monotonic_ms()
        if engines or now_ms - self._engines_ms >= ENGINE_FETCH_MS:
            engines, self._engines_ms = True, now_ms
        self._each(partial(Watch.fetch, engines=engines))

    def _each(self, look: Callable[[Watch], None]) -> None:
        for uuid, watch in list(self._watches.items()):
            try:
                look(watch)
            except GpuGone as gone:
                self._lose(uuid, gone.condition)

    def _lose(self, uuid: str, condition: Condition) -> None:
        self._gone[uuid] = (self._watches.pop(uuid).gpu, condition)

    def _tick(self, start_ms: int, end_ms: int, late_ms: int) -> Tick:
        readings = []
        for uuid, watch in list(self._watches.items()):
            try:
                readings.append(watch.reading(start_ms, end_ms, late_ms / 1000))
            except GpuGone as gone:
                self._lose(uuid, gone.condition)
        readings += [
            reading_of(uuid, start_ms, end_ms, {}, condition=condition)
            for uuid, (_, condition) in self._gone.items()
        ]
        gpus = [watch.gpu for watch in self._watches.values()] + [gpu for gpu, _ in self._gone.values()]
        refusals = [Refusal(*key, times) for key, times in self._nvml.failures.items()]
        calls, seconds = self._nvml.spent()
        tick = Tick(
            node=self._node,
            start_ms=start_ms,
            end_ms=end_ms,
            readings=tuple(readings),
            gpus=tuple(sorted(gpus, key=lambda gpu: gpu.index)),
            refusals=tuple(refusals),
            xids=tuple(self._xids),
            since_ms=self._since_ms,
            driver_calls=calls,
            driver_seconds=seconds,
            late_seconds=late_ms / 1000,
        )
        self._nvml.failures = {}
        self._xids = []
        return tick

    def admit(self, index: int) -> None:
        """Take in a GPU that was hung and answers again."""
        if index in self._shunned:
            del self._shunned[index]
            self._enumerate()

    def _enumerate(self) -> None:
        """List the GPUs: new ones get a watch, known ones a fresh handle, those that fail a condition."""
        devices, gone = enumerate_devices(self._nvml, self._shunned)
        for device in devices:
            watch = self._watches.get(device.uuid)
            try:
                if watch is None:
                    self._watches[device.uuid] = Watch(self._nvml, device, self._clock)
                    self._gone.pop(device.uuid, None)
                else:
                    watch.adopt(device)
            except GpuGone as error:
                self._watches.pop(device.uuid, None)
                self._gone[device.uuid] = device.gpu, error.condition
        for uuid in self._watches.keys() - {device.uuid for device in devices}:
            self._lose(uuid, Condition.MISSING)
        for gpu, condition in gone:
            if gpu is not None:
                known = self._gone.get(gpu.uuid, (gpu, condition))[0]
                self._gone[gpu.uuid] = known, condition
            else:
                self._nvml.failed("", "device", condition.value)
        listed = {device.uuid for device in devices} | {gpu.uuid for gpu, _ in gone if gpu is not None}
        if all(gpu is not None for gpu, _ in gone):
            for uuid in self._gone.keys() - listed:
                self._gone[uuid] = self._gone[uuid][0], Condition.MISSING
        self._nameless = sum(gpu is None for gpu, _ in gone) - sum(
            gpu is None for gpu in self._shunned.values()
        )
        self._listed = self._listing()
        self._events.open(watch.device for watch in self._watches.values())

    def _listing(self) -> tuple[int, set[str]]:
        try:
            names = {one.name for one in self._gpus_folder.iterdir()}
        except OSError:
            names = set()
        return self._nvml.count(), names

    def _is_due(self) -> bool:
        """Tell whether NVML shall be opened anew: a GPU came or went, or one that is gone has its time."""
        now_ms = self._monotonic_ms()
        if now_ms - self._listed_ms >= LISTING_MS:
            self._listed_ms = now_ms
            if self._listing() != self._listed:
                return True
        hung = {gpu.uuid for gpu in self._shunned.values() if gpu}
        if self._gone.keys() <= hung and not self._nameless:
            self._reopen_at_ms = self._reopenings = 0
            return False
        if not self._reopen_at_ms:
            self._reopen_at_ms = now_ms + REOPEN_MS[0]
        if now_ms < self._reopen_at_ms:
            return False
        self._reopenings += 1
        self._reopen_at_ms = now_ms + REOPEN_MS[min(self._reopenings, len(REOPEN_MS) - 1)]
        return True

    def _reopen_if_due(self) -> None:
        """Open NVML anew if that is due; all GPUs go on with fresh handles."""
        if not self._is_due():
            return
        self._events.close()
        for watch in self._watches.values():
            watch.release()
        self._nvml.close()
        self._nvml.open()
        self._enumerate()

    def close(self) -> None:
        """Give back what the driver holds for us, and close it."""
        self._events.close()
        for watch in self._watches.values():
            watch.release()
        self._nvml.close()
