"""A simulated node: which GPUs it has, and the exact truth about each of them at any moment.

Everything is a function of wall time, so history can be asked for, in any order and after a restart.
Moments are microseconds since the Unix epoch unless a name says otherwise.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from agent.errors import SettingsError
from agent.simulated.defects import SOUND, Defects
from agent.simulated.faults import NO_FAULTS, Faults
from agent.simulated.models import MODELS, Model
from agent.simulated.phases import (
    FIRST_REASON,
    REASONS,
    SECOND_US,
    Counters,
    Given,
    Phase,
    SimProcess,
    scatter,
)
from agent.simulated.playbook import SCENARIOS
from agent.simulated.portrait import Portrait, clock_hertz, memory_celsius
from agent.simulated.staging import Stage
from agent.simulated.turns import History
from agent.simulated.work import PER_MILLE, Work
from agent.tick import Condition, Gpu, Reading, reading_of

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
        self._gpus = tuple(self._identify(index) for index in range(count))
        self.undergo(NO_FAULTS)
        self.defects_at: Callable[[int, int], Defects] = lambda _index, _at_us: SOUND
        self.partitioned_at: Callable[[int, int], bool] = lambda _index, _at_us: False

    def undergo(self, faults: Faults) -> None:
        """Let faults change what the GPUs do: only `plays` and `slowed` do that, the others how it looks."""
        self._histories: tuple[History, ...] = tuple(
            Stage(self.model, index, self.name).history(faults) for index in range(self.count)
        )
        self._people: dict[int, tuple[str, str]] = {
            one.pid: (one.user, one.command)
            for history in self._histories
            for phase in history.phases
            for one in phase.processes
        }
        self._portraits = tuple(
            Portrait(self.model, gpu.uuid, history)
            for gpu, history in zip(self._gpus, self._histories, strict=True)
        )

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
            for history in self._histories
            for phase in history.phases
            for one in phase.processes
            if phase.given
        }

    def given(self, index: int, at_us: int) -> Given | None:
        """Return the job that was given a GPU, whether it runs anything or not."""
        return self.phase(index, at_us).given

    def counters(self, index: int, at_us: int) -> Counters:
        """Return all exact sums from the epoch of the counters to a moment, as integers."""
        return self._histories[index].counters(at_us)

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
        return self._histories[index].work(at_us)

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
        return self._histories[index].phase(at_us)

    def busy_at(self, index: int, at_us: int) -> bool:
        """Tell whether a kernel is resident at a moment."""
        phase, elapsed_us = self._histories[index].now(at_us)
        return phase.busy.is_on(elapsed_us)

    def throttles_at(self, index: int, at_us: int) -> frozenset[str]:
        """Return the reasons for which clocks are lowered at a moment."""
        phase, elapsed_us = self._histories[index].now(at_us)
        return frozenset(reason for reason, lowered in phase.throttles if lowered.is_on(elapsed_us))

    def memory_used_bytes(self, index: int, at_us: int) -> int:
        """Return the device memory in use, without the driver's own."""
        return self._histories[index].phase(at_us).memory_bytes

    def temperature_celsius(self, index: int, at_us: int) -> float:
        """Return the core temperature."""
        return self._histories[index].celsius(at_us) + self.defects(index, at_us).core_kelvin

    def memory_temperature_celsius(self, index: int, at_us: int) -> float:
        """Return the temperature of the device memory."""
        core_celsius = self.temperature_celsius(index, at_us)
        return memory_celsius(self.model, core_celsius) + self.defects(index, at_us).memory_kelvin

    def clock_hertz(self, index: int, at_us: int) -> float:
        """Return the clock of the streaming multiprocessors at a moment."""
        hot = "sw_thermal" in self.throttles_at(index, at_us)
        return clock_hertz(self.model, self.phase(index, at_us), float(hot))

    def lost(self, index: int, at_us: int) -> bool:
        """Tell whether the GPU has fallen off the bus."""
        return self._histories[index].phase(at_us).lost

    def processes(self, index: int, at_us: int) -> tuple[SimProcess, ...]:
        """Return the processes on a GPU."""
        return self._histories[index].phase(at_us).processes

    def reading(self, index: int, start_ms: int, end_ms: int) -> Reading:
        """Return what a perfect agent would have read of [start, end), with end after start."""
        start_us, end_us = start_ms * 1_000, end_ms * 1_000
        phases = self._histories[index].between(start_us, end_us)
        if phases[0].lost or phases[-1].lost:
            return reading_of(self.uuid(index), start_ms, end_ms, {}, condition=Condition.LOST)
        return self._portraits[index].reading(
            start_ms,
            end_ms,
            phases,
            self.defects(index, end_us),
            heats=[
                self.temperature_celsius(index, at_us)
                for at_us in (start_us, (start_us + end_us) // 2, end_us)
            ],
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
