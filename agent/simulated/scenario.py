"""A simulated node: which GPUs it has, and the exact truth about each of them at any moment.

Everything is a function of wall time, so history can be asked for, in any order and after a restart.
Moments are microseconds since the Unix epoch unless a name says otherwise.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from agent.errors import SettingsError
from agent.simulated.defects import SOUND, Defects
from agent.simulated.models import MODELS, Model
from agent.simulated.phases import (
    FIRST_REASON,
    REASONS,
    SECOND_US,
    Counters,
    Given,
    Phase,
    SimProcess,
    Timeline,
    scatter,
)
from agent.simulated.playbook import SCENARIOS, Act, Job, Plan
from agent.simulated.portrait import Portrait, clock_hertz, memory_celsius
from agent.simulated.work import PER_MILLE, Work
from agent.tick import Condition, Gpu, Process, Reading, reading_of

DRIVER_VERSION = "580.95.05"
CUDA_VERSION = 13_000
MAX_GPUS = 64

ARCHITECTURES = {4: "Pascal", 6: "Turing", 7: "Ampere", 9: "Hopper"}
"""Names of the numbers by which NVML calls architectures."""

Direction = Literal["tx", "rx"]
"""Which way bytes go over a link: sent or received by the GPU."""


class Simulation:
    """GPUs of one model that play a scenario. Use `parse_simulation` to make one from text.

    `defects_at` tells what is wrong with a GPU at a moment, `partitioned_at` whether MIG is on: nothing, and
    never, unless they are replaced.
    """

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
        self._portraits = tuple(
            Portrait(self.model, gpu.uuid, timeline)
            for gpu, timeline in zip(self._gpus, self._timelines, strict=True)
        )
        self.defects_at: Callable[[int, int], Defects] = lambda _index, _at_us: SOUND
        self.partitioned_at: Callable[[int, int], bool] = lambda _index, _at_us: False

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

    def jobs(self) -> Mapping[int, str]:
        """Return the number of the job that each pid belongs to; those of no job are left out."""
        return {
            one.pid: phase.given.name
            for timeline in self._timelines
            for phase in timeline.phases
            for one in phase.processes
            if phase.given
        }

    def given(self, index: int, at_us: int) -> Given | None:
        """Return the job that was given a GPU, whether it runs anything or not."""
        return self.phase(index, at_us).given

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

    def work(self, index: int, at_us: int) -> Work:
        """Return the exact sums of all work from the epoch of the counters to a moment."""
        return self._timelines[index].work(at_us)

    def sm_active_seconds(self, index: int, start_us: int, end_us: int) -> float:
        """Return the mean time that a multiprocessor had a warp resident, exactly."""
        return (self.work(index, end_us).sm - self.work(index, start_us).sm) / (PER_MILLE * SECOND_US)

    def tensor_active_seconds(self, index: int, start_us: int, end_us: int) -> float:
        """Return the mean time that a tensor pipe was active, exactly."""
        return (self.work(index, end_us).tensor - self.work(index, start_us).tensor) / (PER_MILLE * SECOND_US)

    def dram_active_seconds(self, index: int, start_us: int, end_us: int) -> float:
        """Return how long the traffic of the device memory would take at its peak bandwidth, exactly."""
        return (self.work(index, end_us).dram - self.work(index, start_us).dram) / (PER_MILLE * SECOND_US)

    def nvlink_bytes(self, index: int, direction: Direction, start_us: int, end_us: int) -> int:
        """Return what went over all NVLinks, exactly."""
        place = Work._fields.index(f"nvlink_{direction}_bytes")
        return self.work(index, end_us)[place] - self.work(index, start_us)[place]

    def pcie_bytes(self, index: int, direction: Direction, start_us: int, end_us: int) -> int:
        """Return what went over PCIe, exactly."""
        place = Work._fields.index(f"pcie_{direction}_bytes")
        return self.work(index, end_us)[place] - self.work(index, start_us)[place]

    def defects(self, index: int, at_us: int) -> Defects:
        """Return what is wrong with a GPU at a moment."""
        return self.defects_at(index, at_us)

    def phase(self, index: int, at_us: int) -> Phase:
        """Return what a GPU does at a moment."""
        return self._timelines[index].phase(at_us)

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
        return memory_celsius(self.model, self._timelines[index].celsius(at_us))

    def clock_hertz(self, index: int, at_us: int) -> float:
        """Return the clock of the streaming multiprocessors at a moment."""
        hot = "sw_thermal" in self.throttles_at(index, at_us)
        return clock_hertz(self.model, self.phase(index, at_us), float(hot))

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
        return self._portraits[index].reading(
            start_ms,
            end_ms,
            phases,
            self.defects(index, end_us),
            partitioned=self.partitioned_at(index, end_us),
        )

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
            inforom=self.model.inforom,
            architecture=ARCHITECTURES[self.model.architecture],
            driver=DRIVER_VERSION,
            cuda=f"{CUDA_VERSION // 1000}.{CUDA_VERSION % 1000 // 10}",
            pci_bus=f"00000000:{4 + 3 * index:02X}:00.0",
            minor=str(index),
            module="" if "module" in refused else str(index + 1),
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
        work = act.work if model.links else act.work.without_links()
        busy = act.busy.shifted(offset_us)
        load = act.intensity * busy.on_us / busy.period_us
        warmth = model.idle_celsius + warmer + load * (model.full_celsius - model.idle_celsius)
        return Phase(
            start_us=start_us,
            busy=busy,
            work=work,
            throttles=tuple((reason, lowered.shifted(offset_us)) for reason, lowered in act.throttles),
            idle_milliwatts=model.idle_watts * 1_000,
            active_milliwatts=round((model.peak_watts - model.idle_watts) * 1_000 * act.intensity),
            celsius=model.slowdown_celsius + 0.7 if act.hot else warmth,
            processes=processes,
            listed=tuple(Process(pid=one.pid, memory_used_bytes=one.memory_bytes) for one in processes),
            memory_bytes=sum(one.memory_bytes for one in processes),
            given=act.given,
        )

    return Timeline(plan.period_us, [phase(n, start_us, act) for n, (start_us, act) in enumerate(plan.acts)])


def _processes(model: Model, jobs: tuple[Job, ...], pid_of: Callable[[Job], int]) -> tuple[SimProcess, ...]:
    usable = model.memory_total_bytes - model.memory_reserved_bytes
    return tuple(
        SimProcess(pid_of(job), job.user, job.command, round(usable * job.memory_share)) for job in jobs
    )
