"""Watches one GPU through an interval: polls, rings, counters and metrics in, one reading out."""

from collections.abc import Mapping

from agent.clock import Clock
from agent.device import COUNTED, POLLED, Device
from agent.gpm import RATES, RATIOS, Gpm
from agent.mig import Slices
from agent.nvml import Caller, Nvml
from agent.parts import Parts, active_links, fans
from agent.polls import Counters, Polls
from agent.processes import Processes
from agent.quantities import QUANTITIES, Amount
from agent.ring import Ring
from agent.slow import OURS, VIOLATIONS, fabric, limits, margin_celsius, modes, violations
from agent.tick import Part, Reading, Slice, reading_of

RINGS: Mapping[str, int] = {
    "power_watts": 0,
    "busy_ratio": 1,
    "memory_busy_ratio": 2,
    "encoder_ratio": 3,
    "decoder_ratio": 4,
    "jpeg_ratio": 8,
    "ofa_ratio": 9,
}
"""The driver's sample buffers, by the quantity they give: numbers of nvmlSamplingType_t."""
MOST_MILLIWATTS = 10_000_000
RARE = ("encoder_ratio", "decoder_ratio", "jpeg_ratio", "ofa_ratio")
"""Engines that are nearly always at rest: their rings are fetched just before they wrap."""
COVERED_ENOUGH = 0.5
"""A mean of less than this share of the interval would speak for time that was not seen."""
CLOCK_POLLS = 2
"""The clock is asked for at every so manyth poll: the time with lowered clocks is counted by the driver."""
MARGIN_MS = 5_000
SLOW_MS = 60_000
STAGGER_MS = 7_000
"""The slow questions about each GPU are put so much later than about the one before it."""
LATE_SECONDS = 1.0
MEANS = (
    "memory_used_bytes",
    "memory_free_bytes",
    "temperature_celsius",
    "memory_temperature_celsius",
    "memory_power_watts",
    "module_power_watts",
    "sm_clock_hertz",
)
LARGEST = {
    "memory_used_max_bytes": "memory_used_bytes",
    "temperature_max_celsius": "temperature_celsius",
    "memory_temperature_max_celsius": "memory_temperature_celsius",
    "power_max_watts": "power_max_watts",
}
LEAST = {"temperature_margin_celsius": "temperature_margin_celsius", "sm_clock_min_hertz": "sm_clock_hertz"}
LAST = ("memory_reserved_bytes", "memory_total_bytes")
SINGLE = (
    "nvlink_active_links",
    "fan_speed_least_ratio",
    "fan_speed_most_ratio",
    "mig_mode_flag",
    "running_processes",
)

_unread = QUANTITIES.keys() - {*RINGS, *MEANS, *LARGEST, *LEAST, *LAST, *SINGLE, *COUNTED, *POLLED}
_unread -= {*RATIOS, *RATES, *VIOLATIONS, *OURS}
if _unread:
    raise TypeError(f"no line reads these quantities: {', '.join(sorted(_unread))}")


def _rings() -> dict[str, Ring]:
    return {name: Ring(0.001, MOST_MILLIWATTS) if name == "power_watts" else Ring() for name in RINGS}


class Watch:
    """One GPU. Any method raises GpuGone when the device no longer answers."""

    def __init__(self, nvml: Nvml, device: Device, clock: Clock) -> None:
        self._nvml = nvml
        self._clock = clock
        self._rings = _rings()
        self._now = Polls()
        self._closing = self._now
        self._counters = Counters()
        self._opened: tuple[float, int] | None = None
        self._closed: tuple[float, int] | None = None
        self._turning = self._met = False
        self._polled = 0
        self._metrics: dict[str, float] = {}
        self._totals: dict[str, float] = {}
        self._gpm: Gpm | None = None
        self._mig = Slices(device.caller, has_gpm=False)
        self._mode: Amount = None
        self._slow: dict[str, Amount] = {}
        self._slow_ms = self._margin_ms = 0
        self._parts: tuple[Part, ...] | None = None
        self._slices: tuple[Slice, ...] | None = None
        self._partitioned: bool | None = None
        self.gpu = device.gpu
        self.adopt(device)

    def adopt(self, device: Device) -> None:
        """Go on with a fresh handle of the same GPU, and ask anew for all that the old one refused."""
        self.release()
        self._device = device
        self.gpu = device.gpu
        self._processes = Processes(device, self._clock)
        self._fixed = limits(device)
        self._parts_of = Parts(device, round(self._fixed.get("nvlink_present_links") or 0))
        gpm = Gpm(device.caller, totals=self._totals)
        self._gpm = gpm if gpm.supported() else None
        if self._gpm:
            self._gpm.take(self._clock.monotonic_ns())
        self._mig = Slices(device.caller, has_gpm=self._gpm is not None)
        self._slow_ms = self._margin_ms = 0
        self._refused = -1
        self._spared = set(RARE)

    @property
    def device(self) -> Device:
        """The GPU by its present handle."""
        return self._device

    def repartitioned(self) -> None:
        """Look for the slices anew at the end of the interval."""
        self._mig.refresh()

    def release(self) -> None:
        """Give back what the driver holds for this GPU; call it before the driver is closed."""
        if self._gpm:
            self._gpm.close()
        self._mig.close()

    def forget_rings(self) -> None:
        """Drop all samples: the clock that dates them was set."""
        self._rings = _rings()
        self._processes.forget()

    def turn(self) -> None:
        """End the interval: the next poll reads the counters that close it and opens another."""
        self._closing, self._now = self._now, Polls()
        self._turning = True

    def poll(self) -> None:
        """Read gauges once; at the end of an interval also all that was counted in it."""
        if self._turning or not self._met:
            self._read_counters()
        device, polls = self._device, self._now
        gauges: dict[str, Amount] = {**device.polled.read(), **device.memory_bytes()}
        if not gauges.get("memory_temperature_celsius"):
            gauges["memory_temperature_celsius"] = None
        if (
            "power_watts" not in gauges
            and not device.counts_energy()
            and not device.polled.tells("power_watts")
        ):
            gauges["power_watts"] = device.power_watts()
        gauges["temperature_celsius"] = device.temperature_celsius()
        if self._polled % CLOCK_POLLS == 0 or polls.last("sm_clock_hertz") is None:
            gauges["sm_clock_hertz"] = device.clock_hertz("sm_clock_hertz", 1)
        self._polled += 1
        polls.add_all(gauges)
        if not device.has_samples(RINGS["busy_ratio"]):
            polls.add("busy_ratio", device.utilization_ratio())
        self._processes.poll(self._mig.uuid_of)
        self._poll_slowly()

    def _read_counters(self) -> None:
        """Read what closes an interval and opens the next, with the moment at which it was read."""
        device = self._device
        began_ns = self._clock.monotonic_ns()
        values = device.counted.read()
        values |= violations(device, lambda name: not device.counted.tells(name))
        at_ns = (began_ns + self._clock.monotonic_ns()) // 2
        if "power_limit_watts" not in values and (limit := device.power_limit_watts()) is not None:
            values["power_limit_watts"] = limit
        for name in self._counters.take(values, at_ns):
            self._nvml.failed(self.gpu.uuid, name, "jumped")
        joules = self._counters.values.get("energy_joules_total")
        self._closed = None if joules is None else (joules, at_ns)
        if not self._met:
            self._opened = self._closed
        self._met, self._turning = True, False
        self._read_metrics()

    def _read_metrics(self) -> None:
        """End the interval of the performance metrics and of the slices."""
        now_ns = self._clock.monotonic_ns()
        refused = len(self._device.caller.refused)
        if refused != self._refused:
            self._refused = refused
            self._choose()
        self._metrics = self._gpm.take(now_ns) if self._gpm else {}
        partitioned = self._mig.enabled(before=self._partitioned)
        if partitioned is not self._partitioned and self._partitioned is not None:
            self._reprobe()
        self._partitioned = partitioned
        self._slices = self._mig.take(now_ns) if partitioned else None
        self._mode = None if partitioned is None else float(partitioned)

    def _choose(self) -> None:
        """Choose what is asked for, by what the device refuses."""
        if self._gpm:
            self._gpm.want(_metrics_of(self._device))
        self._spared = {*RARE, "power_watts"} if self._device.counts_energy() else set(RARE)

    def _reprobe(self) -> None:
        """Ask anew for all that was refused: the GPU was partitioned, or is whole again."""
        caller = Caller(self._nvml, self._device.caller.handle, self._device.caller.index)
        caller.uuid = self.gpu.uuid
        self.adopt(Device(caller, self.gpu))

    def _poll_slowly(self) -> None:
        now_ms = self._clock.monotonic_ns() // 1_000_000
        missing = self._now.last("temperature_margin_celsius") is None
        if missing or now_ms - self._margin_ms >= MARGIN_MS:
            self._margin_ms = now_ms
            celsius = self._now.last("temperature_celsius")
            self._now.add("temperature_margin_celsius", margin_celsius(self._device, celsius, self._fixed))
        if self._slow_ms and now_ms < self._slow_ms:
            return
        stagger_ms = 0 if self._slow_ms else self.gpu.index * STAGGER_MS % SLOW_MS
        self._slow_ms = now_ms + SLOW_MS - stagger_ms
        codes, mask = fabric(self._device)
        self._parts = self._parts_of.read(mask)
        links = active_links(self._parts)
        self._slow = {**modes(self._device), **codes, **fans(self._parts), "nvlink_active_links": links}
        self._mig.refresh()

    def fetch(self, *, engines: bool) -> None:
        """Take what the driver's rings gained since the last time; those that matter less only if told."""
        now_us, spared = self._clock.wall_ms() * 1000, () if engines else self._spared
        for name, ring in self._rings.items():
            if name in spared:
                continue
            samples = self._device.samples(RINGS[name], ring.last_us)
            if samples and (refused := ring.feed(samples, now_us)):
                for _ in range(refused):
                    self._nvml.failed(self.gpu.uuid, name, "impossible")
        self._processes.sample()

    def _ring_mean(self, name: str, start_ms: int, end_ms: int) -> Amount:
        ring, length_us = self._rings[name], (end_ms - start_ms) * 1000
        integral_us, covered_us = ring.sum(start_ms * 1000, end_ms * 1000)
        ring.forget(end_ms * 1000)
        if covered_us >= COVERED_ENOUGH * length_us:
            return integral_us / covered_us
        if name == "power_watts" or not self._device.has_samples(RINGS[name]):
            return self._closing.mean(name)
        # Some products stop filling the ring while nothing runs.
        if name == "busy_ratio" and self._device.utilization_ratio() == 0:
            return integral_us / length_us
        return None

    def _power(self, ring_watts: Amount) -> Amount:
        opened, closed = self._opened, self._closed
        self._opened = closed
        if opened and closed and closed[1] > opened[1] and closed[0] >= opened[0]:
            return (closed[0] - opened[0]) / ((closed[1] - opened[1]) / 1e9)
        return ring_watts

    def reading(self, start_ms: int, end_ms: int, late_seconds: float = 0.0) -> Reading:
        """Give what the interval that ended with the last turn amounts to; `late_seconds` after its end."""
        polls = self._closing
        peak = self._rings["power_watts"].largest(start_ms * 1000, end_ms * 1000)
        polls.add("power_max_watts", peak)
        values: dict[str, Amount] = {**self._fixed, **self._slow, **self._counters.values}
        values["mig_mode_flag"] = self._mode
        values |= {name: polls.mean(name) for name in MEANS}
        values |= {name: polls.largest(gauge) for name, gauge in LARGEST.items()}
        values |= {name: polls.least(gauge) for name, gauge in LEAST.items()}
        values |= {name: polls.last(name) for name in LAST}
        values |= {name: self._ring_mean(name, start_ms, end_ms) for name in RINGS}
        for name, metric in self._metrics.items():
            if values.get(name) is None:
                values[name] = metric
        values["power_watts"] = watts = self._power(values["power_watts"])
        joules = values.get("energy_joules_total")
        if joules is not None and watts is not None and late_seconds >= LATE_SECONDS:
            values["energy_joules_total"] = joules - watts * late_seconds  # it was read that much too late
        if values.get("sm_active_ratio") is None and self._slices:
            values["sm_active_ratio"] = self._mig.sm_active_ratio(self._slices)
        processes = self._processes.end()
        values["running_processes"] = None if processes is None else float(len(processes))
        parts, self._parts = self._parts, None
        return reading_of(
            self.gpu.uuid,
            start_ms,
            end_ms,
            values,
            processes=processes,
            parts=parts,
            slices=self._slices,
        )


def _metrics_of(device: Device) -> frozenset[str]:
    """Choose the metrics that nothing else tells: engines have rings, but for a partitioned GPU."""
    told = {name for name, kind in RINGS.items() if device.has_samples(kind)}
    told |= {name for name in RATES if device.counted.tells(name)}
    return (frozenset(RATIOS) | frozenset(RATES)) - told
