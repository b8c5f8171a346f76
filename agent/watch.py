"""Watches one GPU through an interval: polls, rings and counters in, one reading out."""

from collections.abc import Mapping

from agent.clock import Clock
from agent.nvml import (
    FIELD_ENERGY,
    FIELD_MEMORY_TEMPERATURE,
    FIELD_POWER_LIMIT,
    FIELD_THERMAL,
    THROTTLE_FIELDS,
    Device,
    Nvml,
)
from agent.ring import Ring
from agent.tick import Amount, Process, Reading

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
ENGINES = ("encoder_ratio", "decoder_ratio", "jpeg_ratio", "ofa_ratio")
COVERED_ENOUGH = 0.5
"""A mean of less than this share of the interval would speak for time that was not seen."""
PROCESSES_MS = 5_000
LATE_SECONDS = 1.0


class Polls:
    """The gauges polled in one interval."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self.pids: dict[int, Process] | None = None

    def add(self, name: str, value: Amount) -> None:
        """Keep one value; None is no value."""
        if value is not None:
            self._values.setdefault(name, []).append(value)

    def mean(self, name: str) -> Amount:
        """Give the mean of the values, None where there are none."""
        values = self._values.get(name)
        return sum(values) / len(values) if values else None

    def largest(self, name: str) -> Amount:
        """Give the largest value, None where there are none."""
        return max(self._values.get(name, ()), default=None)

    def last(self, name: str) -> Amount:
        """Give the latest value, None where there are none."""
        values = self._values.get(name)
        return values[-1] if values else None


def _rings() -> dict[str, Ring]:
    return {name: Ring(0.001, MOST_MILLIWATTS) if name == "power_watts" else Ring() for name in RINGS}


class Watch:
    """One GPU. Any method raises GpuGone when the device no longer answers."""

    def __init__(self, nvml: Nvml, device: Device, clock: Clock) -> None:
        self._nvml = nvml
        self._device = device
        self._clock = clock
        self._rings = _rings()
        self._now = Polls()
        self._closing = self._now
        self._counters: dict[int, float] = {}
        self._energy: tuple[float, int] | None = None
        self._opened: tuple[float, int] | None = None
        self._turning = False
        self._closed: tuple[float, int] | None = None
        self._pids_ms = 0
        self.gpu = device.gpu

    def adopt(self, device: Device) -> None:
        """Go on with a fresh handle of the same GPU."""
        self._device = device
        self.gpu = device.gpu

    def forget_rings(self) -> None:
        """Drop all samples: the clock that dates them was set."""
        self._rings = _rings()

    def turn(self) -> None:
        """End the interval: the next poll reads the counters that close it and opens another."""
        self._closing, self._now = self._now, Polls()
        self._turning = True

    def poll(self) -> None:
        """Read counters and gauges once."""
        device, polls = self._device, self._now
        began_ns = self._clock.monotonic_ns()
        fields = device.fields()
        at_ns = (began_ns + self._clock.monotonic_ns()) // 2
        self._counters.update(fields)
        if FIELD_ENERGY in fields:
            self._energy = fields[FIELD_ENERGY] / 1000, at_ns
        else:
            self._energy = None
            polls.add("power_watts", device.power_watts())
        if self._opened is None:
            self._opened = self._energy
        if self._turning:
            self._closed, self._turning = self._energy, False
        hot = fields.get(FIELD_MEMORY_TEMPERATURE)
        polls.add("memory_temperature_celsius", float(hot) if hot else None)
        limit = fields.get(FIELD_POWER_LIMIT)
        polls.add("power_limit_watts", device.power_limit_watts() if limit is None else limit / 1000)
        polls.add("temperature_celsius", device.temperature_celsius())
        polls.add("sm_clock_hertz", device.sm_clock_hertz())
        memory = device.memory_bytes()
        if memory:
            polls.add("memory_used_bytes", memory[0])
            polls.add("memory_reserved_bytes", memory[1])
            polls.add("memory_total_bytes", memory[2])
        if not device.has_samples(RINGS["busy_ratio"]):
            polls.add("busy_ratio", device.utilization_ratio())
        self._poll_processes()

    def _poll_processes(self) -> None:
        now_ms = self._clock.monotonic_ns() // 1_000_000
        if self._now.pids is not None and now_ms - self._pids_ms < PROCESSES_MS:
            return
        found = self._device.processes()
        if found is not None:
            self._pids_ms = now_ms
            self._now.pids = (self._now.pids or {}) | {one.pid: one for one in found}

    def fetch(self, *, engines: bool) -> None:
        """Take what the driver's rings gained since the last time; those of the engines only if told."""
        for name, ring in self._rings.items():
            if name in ENGINES and not engines:
                continue
            if name == "power_watts" and self._device.counts_energy():
                continue  # the counter is exact
            samples = self._device.samples(RINGS[name], ring.last_us)
            for _ in range(ring.feed(samples, self._clock.wall_ms() * 1000)):
                self._nvml.failed(self.gpu.uuid, name, "impossible")

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

    def _power(self, start_ms: int, end_ms: int) -> Amount:
        ring_watts = self._ring_mean("power_watts", start_ms, end_ms)
        opened, closed = self._opened, self._closed
        self._opened = closed
        if opened and closed and closed[1] > opened[1] and closed[0] >= opened[0]:
            return (closed[0] - opened[0]) / ((closed[1] - opened[1]) / 1e9)
        return ring_watts

    def _throttle(self, reason: str) -> Amount:
        ns = self._counters.get(THROTTLE_FIELDS[reason])
        if ns is None and reason == "sw_thermal":
            ns = self._counters.get(FIELD_THERMAL)
        return None if ns is None else ns / 1e9

    def _energy_at_end(self, power_watts: Amount, late_seconds: float) -> Amount:
        """Give the energy counter at the end of the interval, also when it was read much later."""
        if self._closed is None or power_watts is None or late_seconds < LATE_SECONDS:
            return self._closed[0] if self._closed else None
        return self._closed[0] - power_watts * late_seconds

    def reading(self, start_ms: int, end_ms: int, late_seconds: float = 0.0) -> Reading:
        """Give what the interval that ended with the last turn amounts to; `late_seconds` after its end."""
        polls, limits = self._closing, self._device.limits
        pids = polls.pids
        power_watts = self._power(start_ms, end_ms)
        return Reading(
            uuid=self.gpu.uuid,
            start_ms=start_ms,
            end_ms=end_ms,
            processes=None if pids is None else tuple(pids[pid] for pid in sorted(pids)),
            busy_ratio=self._ring_mean("busy_ratio", start_ms, end_ms),
            memory_busy_ratio=self._ring_mean("memory_busy_ratio", start_ms, end_ms),
            sm_active_ratio=None,
            encoder_ratio=self._ring_mean("encoder_ratio", start_ms, end_ms),
            decoder_ratio=self._ring_mean("decoder_ratio", start_ms, end_ms),
            jpeg_ratio=self._ring_mean("jpeg_ratio", start_ms, end_ms),
            ofa_ratio=self._ring_mean("ofa_ratio", start_ms, end_ms),
            memory_used_bytes=polls.mean("memory_used_bytes"),
            memory_used_max_bytes=polls.largest("memory_used_bytes"),
            memory_reserved_bytes=polls.last("memory_reserved_bytes"),
            memory_total_bytes=polls.last("memory_total_bytes"),
            power_watts=power_watts,
            power_limit_watts=polls.last("power_limit_watts"),
            energy_joules_total=self._energy_at_end(power_watts, late_seconds),
            temperature_celsius=polls.mean("temperature_celsius"),
            temperature_max_celsius=polls.largest("temperature_celsius"),
            temperature_slowdown_celsius=limits["temperature_slowdown_celsius"],
            temperature_shutdown_celsius=limits["temperature_shutdown_celsius"],
            memory_temperature_celsius=polls.mean("memory_temperature_celsius"),
            memory_temperature_max_celsius=polls.largest("memory_temperature_celsius"),
            sm_clock_hertz=polls.mean("sm_clock_hertz"),
            sm_clock_max_hertz=limits["sm_clock_max_hertz"],
            memory_clock_hertz=self._device.memory_clock_hertz(),
            throttle_power_cap_seconds_total=self._throttle("power_cap"),
            throttle_sync_boost_seconds_total=self._throttle("sync_boost"),
            throttle_sw_thermal_seconds_total=self._throttle("sw_thermal"),
            throttle_hw_thermal_seconds_total=self._throttle("hw_thermal"),
            throttle_power_brake_seconds_total=self._throttle("power_brake"),
            throttle_reliability_seconds_total=self._throttle("reliability"),
        )
