"""How each simulated GPU is partitioned over time, and what its instances do: the truth behind MIG calls."""

from itertools import chain

from agent.simulated.faults import ALWAYS_US, NEVER_US, Faults
from agent.simulated.gpm import gpu_means
from agent.simulated.layouts import MEMORY_SLICES, Layout, Profile, cut
from agent.simulated.models import MIB
from agent.simulated.phases import SimProcess
from agent.simulated.scenario import Simulation

GRAPHICS_ACTIVE = 1
OWN_METRICS = range(1, 14)
"""GPM metrics that an instance has of its own: its engines and its memory, but not the links."""


class Partitions:
    """The layouts of all GPUs over time. Raises SettingsError for one that the model cannot have."""

    def __init__(self, simulation: Simulation, faults: Faults) -> None:
        self._simulation = simulation
        self._spells = tuple(
            tuple(
                (fault, cut(simulation, fault, gpu, spell))
                for spell, fault in enumerate(faults.of("mig", gpu))
            )
            for gpu in range(simulation.count)
        )
        self.most_spells = max(map(len, self._spells))

    def layout(self, gpu: int, at_us: int) -> Layout | None:
        """Return the layout of a GPU; None where MIG is off."""
        for fault, layout in reversed(self._spells[gpu]):
            if fault.holds(at_us):
                return layout
        return None

    def changes(self, gpu: int) -> list[int]:
        """Return the moments at which a GPU's layout changes, in order."""
        edges = set(chain.from_iterable((fault.start_us, fault.end_us) for fault, _ in self._spells[gpu]))
        return [
            at_us
            for at_us in sorted(edges - {ALWAYS_US, NEVER_US})
            if self.layout(gpu, at_us) is not self.layout(gpu, at_us - 1)
        ]

    def slice_sm_active_seconds(self, gpu: int, position: int, start_us: int, end_us: int) -> float:
        """Return how long the multiprocessors of an instance, by its place in the text, were active.

        Weighted by slices, all GPU instances together make up the GPU if all seven slices are used, and
        fall short of it if not: by 3 to 5 % if six are. Raises LookupError without such an instance.
        """
        layout = self.layout(gpu, start_us)
        if layout is None:
            raise LookupError(f"GPU {gpu} is not partitioned")
        share = layout.shares[layout.instances[position].gpu_instance]
        return share * self._simulation.sm_active_seconds(gpu, start_us, end_us)

    def slice_means(self, gpu: int, instance: int, start_us: int, end_us: int) -> dict[int, float] | None:
        """Return the GPM metrics of a GPU instance; None if it was not there all the time."""
        layout = self.layout(gpu, start_us)
        if layout is None or layout is not self.layout(gpu, end_us) or instance not in layout.shares:
            return None
        share = layout.shares[instance]
        means = gpu_means(self._simulation, gpu, start_us, end_us)
        return {
            metric: means[metric] * (min(1.0, share) if metric == GRAPHICS_ACTIVE else share)
            for metric in OWN_METRICS
            if metric in means
        }

    def room_bytes(self, profile: Profile) -> int:
        """Return the memory of a GPU instance that processes may use."""
        model = self._simulation.model
        whole_bytes = model.memory_total_bytes - model.memory_reserved_bytes
        return whole_bytes * profile.memory_slices // MEMORY_SLICES // MIB * MIB

    def processes(self, gpu: int, gpu_instance: int, at_us: int) -> list[tuple[int, SimProcess]]:
        """Return the processes in a GPU instance, each with the number of its compute instance."""
        layout = self.layout(gpu, at_us)
        found = []
        for number, process in enumerate(self._simulation.processes(gpu, at_us) if layout else ()):
            instance = layout.of_process(number) if layout else None
            if instance and instance.gpu_instance == gpu_instance:
                room = min(process.memory_bytes, self.room_bytes(instance.profile))
                found.append((instance.compute_instance, process._replace(memory_bytes=room)))
        return found
