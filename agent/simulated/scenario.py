"""A simulated node: which GPUs it has, and the exact truth about each of them at any moment.

Everything is a function of wall time, so history can be asked for, in any order and after a restart.
Moments are microseconds since the Unix epoch unless a name says otherwise.
"""

from collections.abc import Callable, Mapping

from agent.errors import SettingsError
from agent.simulated.models import MODELS, Model
from agent.simulated.phases import (
    FIRST_REASON,
    REASONS,
    SECOND_US,
    Counters,
    Phase,
    SimProcess,
    Timeline,
    scatter,
)
from agent.simulated.playbook import SCENARIOS, Act, Job, Plan
from agent.tick import Amount, Condition, Gpu, Process, Reading, reading_of

DRIVER_VERSION = "580.95.05"
CUDA_VERSION = 13_000
MAX_GPUS = 64

MEMORY_BUSY_SHARE = 0.4
"""Share of busy time in which device memory is read or written."""

HEAT_SLOWDOWN = 0.28
"""Share of the busy clock that is lost while heat lowers it."""


class Simulation:
    """GPUs of one model that play a scenario. Use `parse_simulation` to make one from text."""

    def __init__(self, model_key: str, count: int, name: str) -> None:
        self.model: Model = MODELS[model_key]
        self.count = count
        self.name = name
        self._key = int.from_bytes(model_key.encode())
        self._people: dict[int, tuple[str, str]] = {}
        self._timelines = tuple(
            _timeline(self.model, SCENARIOS[name](index), index) for index in range(count)
        )
        for timeline in self._timelines:
            for phase in timeline.phases:
                self._people |= {one.pid: (one.user, one.command) for one in phase.processes}
        self._gpus = tuple(self._identify(index) for index in range(count))

    def gpu(self, index: int) -> Gpu:
        """Return the identity of a GPU."""
        return self._gpus[index]

    def uuid(self, index: int) -> str:
        """Return the UUID, the same in every run."""
        return self._gpus[index].uuid

    def serial(self, index: int) -> str:
        """Return the serial number, empty for a model that has none."""
        return self._gpus[index].serial

    def pci_bus(self, index: int) -> str:
        """Return the PCI bus id as NVML writes it."""
        return self._gpus[index].pci_bus

    def people(self) -> Mapping[int, tuple[str, str]]:
        """Return user and command of every pid that the simulation ever lists."""
        return self._people

    def counters(self, index: int, at_us: int) -> Counters:
        """Return all exact sums from the epoch of the counters to a moment, as integers."""
        return self._timelines[index].counters(at_us)

    def busy_seconds(self, index: int, start_us: int, end_us: int) -> float:
        """Return the time with a kernel resident, exactly."""
        return (self.counters(index, end_us).busy_us - self.counters(index, start_us).busy_us) / SECOND_US

    def energy_joules(self, index: int, start_us: int, end_us: int) -> float:
        """Return the energy used, exactly."""
        return (self.counters(index, end_us).energy_nj - self.counters(index, start_us).energy_nj) / 1e9

    def throttle_seconds(self, index: int, reason: str, start_us: int, end_us: int) -> float:
        """Return the time with clocks lowered for one of `REASONS`, exactly. ValueError for another."""
        place = FIRST_REASON + REASONS.index(reason)
        return (self.counters(index, end_us)[place] - self.counters(index, start_us)[place]) / SECOND_US

    def busy_at(self, index: int, at_us: int) -> bool:
        """Tell whether a kernel is resident at a moment."""
        timeline = self._timelines[index]
        _, number, elapsed_us = timeline.place(at_us)
        return timeline.phases[number].busy.is_on(elapsed_us)

    def throttles_at(self, index: int, at_us: int) -> frozenset[str]:
        """Return the reasons for which clocks are lowered at a moment."""
        timeline = self._timelines[index]
        _, number, elapsed_us = timeline.place(at_us)
        throttles = timeline.phases[number].throttles
        return frozenset(reason for reason, lowered in throttles if lowered.is_on(elapsed_us))

    def memory_used_bytes(self, index: int, at_us: int) -> int:
        """Return the device memory in use, without the driver's own."""
        return self._timelines[index].phase(at_us).memory_bytes

    def temperature_celsius(self, index: int, at_us: int) -> float:
        """Return the core temperature."""
        return self._timelines[index].celsius(at_us)

    def memory_temperature_celsius(self, index: int, at_us: int) -> float:
        """Return the temperature of the device memory."""
        return self._memory_celsius(self._timelines[index].celsius(at_us))

    def clock_hertz(self, index: int, at_us: int) -> float:
        """Return the clock of the streaming multiprocessors at a moment."""
        hot = "sw_thermal" in self.throttles_at(index, at_us)
        return self._clock_hertz(self._timelines[index].phase(at_us), float(hot))

    def lost(self, index: int, at_us: int) -> bool:
        """Tell whether the GPU has fallen off the bus."""
        return self._timelines[index].phase(at_us).lost

    def processes(self, index: int, at_us: int) -> tuple[SimProcess, ...]:
        """Return the processes on a GPU."""
        return self._timelines[index].phase(at_us).processes

    def reading(self, index: int, start_ms: int, end_ms: int) -> Reading:
        """Return what a perfect agent would have read of [start, end), with end after start."""
        start_us, end_us = start_ms * 1_000, end_ms * 1_000
        timeline = self._timelines[index]
        phases = timeline.between(start_us, end_us)
        if phases[0].lost or phases[-1].lost:
            return reading_of(self.uuid(index), start_ms, end_ms, {}, condition=Condition.LOST)
        return self._reading(index, start_ms, end_ms, phases)

    def _reading(self, index: int, start_ms: int, end_ms: int, phases: list[Phase]) -> Reading:
        model, told, timeline = self.model, self._told, self._timelines[index]
        start_us, end_us = start_ms * 1_000, end_ms * 1_000
        interval_us = end_us - start_us
        first, last = timeline.counters(start_us), timeline.counters(end_us)
        busy_ratio = (last.busy_us - first.busy_us) / interval_us
        hot_ratio = (last.sw_thermal_us - first.sw_thermal_us) / interval_us
        heats = [timeline.celsius(at_us) for at_us in (start_us, (start_us + end_us) // 2, end_us)]
        heat, heat_max = sum(heats) / len(heats), max(heats)
        return Reading(
            uuid=self.uuid(index),
            start_ms=start_ms,
            end_ms=end_ms,
            processes=phases[-1].listed,
            busy_ratio=busy_ratio,
            memory_busy_ratio=busy_ratio * MEMORY_BUSY_SHARE,
            sm_active_ratio=None,
            encoder_ratio=0.0,
            decoder_ratio=0.0,
            jpeg_ratio=told("samples:8", 0.0),
            ofa_ratio=told("samples:9", 0.0),
            memory_used_bytes=(last.memory_byte_us - first.memory_byte_us) / interval_us,
            memory_used_max_bytes=max(phase.memory_bytes for phase in phases),
            memory_reserved_bytes=model.memory_reserved_bytes,
            memory_total_bytes=model.memory_total_bytes,
            power_watts=(last.energy_nj - first.energy_nj) / interval_us / 1e3,
            power_limit_watts=model.limit_watts,
            energy_joules_total=told("energy", last.energy_nj / 1e9),
            temperature_celsius=heat,
            temperature_max_celsius=heat_max,
            temperature_slowdown_celsius=model.slowdown_celsius,
            temperature_shutdown_celsius=model.shutdown_celsius,
            memory_temperature_celsius=told("field:82", self._memory_celsius(heat)),
            memory_temperature_max_celsius=told("field:82", self._memory_celsius(heat_max)),
            sm_clock_hertz=self._clock_hertz(phases[-1], hot_ratio),
            sm_clock_max_hertz=model.sm_clock_max_mhz * 1e6,
            memory_clock_hertz=model.memory_clock_mhz * 1e6,
            throttle_power_cap_seconds_total=told("field:74", last.power_cap_us / SECOND_US),
            throttle_sync_boost_seconds_total=told("field:76", last.sync_boost_us / SECOND_US),
            throttle_sw_thermal_seconds_total=told("field:75", last.sw_thermal_us / SECOND_US),
            throttle_hw_thermal_seconds_total=told("field:270", last.hw_thermal_us / SECOND_US),
            throttle_power_brake_seconds_total=told("field:271", last.power_brake_us / SECOND_US),
            throttle_reliability_seconds_total=told("field:79", last.reliability_us / SECOND_US),
        )

    def _told(self, word: str, value: float) -> Amount:
        return None if word in self.model.refused else value

    def _clock_hertz(self, phase: Phase, hot_ratio: float) -> float:
        if not phase.busy.on_us:
            return self.model.sm_clock_idle_mhz * 1e6
        return self.model.sm_clock_busy_mhz * 1e6 * (1 - HEAT_SLOWDOWN * hot_ratio)

    def _memory_celsius(self, core_celsius: float) -> float:
        return core_celsius + 2 + 0.2 * (core_celsius - self.model.idle_celsius)

    def _identify(self, index: int) -> Gpu:
        high, low = scatter(self._key, index, 1), scatter(self._key, index, 2)
        text = f"{high:016x}{low:016x}"
        parts = (text[:8], text[8:12], text[12:16], text[16:20], text[20:])
        refused = self.model.refused
        return Gpu(
            uuid="GPU-" + "-".join(parts),
            index=index,
            model=self.model.name,
            serial="" if "serial" in refused else f"165{scatter(self._key, index, 3) % 10**10:010d}",
            board_part=self.model.board_part,
            vbios=self.model.vbios,
            driver=DRIVER_VERSION,
            cuda=f"{CUDA_VERSION // 1000}.{CUDA_VERSION % 1000 // 10}",
            pci_bus=f"00000000:{4 + 3 * index:02X}:00.0",
        )


def parse_simulation(text: str) -> Simulation:
    """Make a simulation of text such as "h200x8" or "t4x2:bursty"; raises SettingsError for any other."""
    kind, _, scenario = text.partition(":")
    model_key, _, digits = kind.rpartition("x")
    counts = digits.isascii() and digits.isdecimal() and 1 <= int(digits[:9]) <= MAX_GPUS
    name = scenario if ":" in text else "demo"
    if model_key not in MODELS or not counts or name not in SCENARIOS:
        raise SettingsError(
            f"{text!r} is no simulation: write MODELxN or MODELxN:SCENARIO with a model of "
            f"{', '.join(MODELS)}, N from 1 to {MAX_GPUS}, and a scenario of {', '.join(SCENARIOS)}"
        )
    return Simulation(model_key, int(digits), name)


def _timeline(model: Model, plan: Plan, index: int) -> Timeline:
    """Let a GPU of a model play a plan; each GPU is elsewhere in its patterns."""
    jobs = dict.fromkeys(job for _, act in plan.acts for job in act.jobs)
    pids = {job: 20_011 + 331 * index + 17 * number for number, job in enumerate(jobs)}
    warmer = scatter(index) % 5

    def phase(number: int, start_us: int, act: Act) -> Phase:
        if act.lost:
            return Phase(start_us=start_us, celsius=model.idle_celsius, lost=True)
        offset_us = scatter(index, number)
        processes = _processes(model, act.jobs, pids.__getitem__)
        busy = act.busy.shifted(offset_us)
        load = act.intensity * busy.on_us / busy.period_us
        warmth = model.idle_celsius + warmer + load * (model.full_celsius - model.idle_celsius)
        return Phase(
            start_us=start_us,
            busy=busy,
            throttles=tuple((reason, lowered.shifted(offset_us)) for reason, lowered in act.throttles),
            idle_milliwatts=model.idle_watts * 1_000,
            active_milliwatts=round((model.peak_watts - model.idle_watts) * 1_000 * act.intensity),
            celsius=model.slowdown_celsius + 0.7 if act.hot else warmth,
            processes=processes,
            listed=tuple(Process(pid=one.pid, memory_used_bytes=one.memory_bytes) for one in processes),
            memory_bytes=sum(one.memory_bytes for one in processes),
        )

    return Timeline(plan.period_us, [phase(n, start_us, act) for n, (start_us, act) in enumerate(plan.acts)])


def _processes(model: Model, jobs: tuple[Job, ...], pid_of: Callable[[Job], int]) -> tuple[SimProcess, ...]:
    usable = model.memory_total_bytes - model.memory_reserved_bytes
    return tuple(
        SimProcess(pid_of(job), job.user, job.command, round(usable * job.memory_share)) for job in jobs
    )
