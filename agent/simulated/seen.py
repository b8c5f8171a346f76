"""What the driver sees of simulated GPUs that have faults: counters begun again, errors, absences.

The truth of the simulation stays as it is, and what a test compares with it.
"""

from dataclasses import replace

from agent.simulated.defects import Defects
from agent.simulated.faults import Fault, Faults
from agent.simulated.phases import Counters
from agent.simulated.scenario import Simulation
from agent.simulated.work import Work


class Seen(Simulation):
    """A simulation as the driver sees one GPU of it after its counters last began again.

    Sums are moved by a constant: differences are those of the truth, also across the restart.
    """

    def __init__(self, truth: Simulation, faults: Faults, gpu: int, restarted_us: int | None) -> None:
        """Share all that the truth consists of."""
        vars(self).update(vars(truth))
        self._truth = truth
        self._faults = faults
        self._gpu = gpu
        self._restarted_us = restarted_us

    def counters(self, index: int, at_us: int) -> Counters:
        """Return the sums since the restart."""
        now = self._truth.counters(index, at_us)
        if self._restarted_us is None or index != self._gpu:
            return now
        then = self._truth.counters(index, self._restarted_us)
        return Counters._make(after - before for after, before in zip(now, then, strict=True))

    def work(self, index: int, at_us: int) -> Work:
        """Return the work done since the restart."""
        now = self._truth.work(index, at_us)
        if self._restarted_us is None or index != self._gpu:
            return now
        then = self._truth.work(index, self._restarted_us)
        return Work._make(after - before for after, before in zip(now, then, strict=True))

    def lost(self, index: int, at_us: int) -> bool:
        """Tell whether the GPU was off the bus, so that there are no samples of then."""
        away = self._faults.now("lost", index, at_us) or self._faults.now("removed", index, at_us)
        return away is not None or self._truth.lost(index, at_us)

    def defects(self, index: int, at_us: int) -> Defects:
        """Return what is wrong with a GPU; errors before the restart are in the board's memory only."""
        return with_faults(self._truth.defects(index, at_us), self._faults, index, at_us)


def with_faults(sound: Defects, faults: Faults, gpu: int, at_us: int) -> Defects:
    """Add what the faults do to a GPU to what else is wrong with it."""
    happened = [fault for fault in faults.of("ecc", gpu) if fault.start_us <= at_us]
    restarted_us = faults.restarted_us(gpu, at_us) or 0
    fresh = [fault for fault in happened if fault.start_us >= restarted_us]
    early = [fault for fault in happened if fault.start_us < restarted_us]
    down = {fault.numbers[0] for fault in faults.of("linkdown", gpu) if fault.holds(at_us)}
    narrow, recovery, fabric = (faults.now(kind, gpu, at_us) for kind in ("narrow", "recovery", "fabric"))
    return replace(
        sound,
        ecc_corrected=sound.ecc_corrected + _sum(fresh, 0),
        ecc_uncorrected=sound.ecc_uncorrected + _sum(fresh, 1),
        earlier_corrected=sound.earlier_corrected + _sum(early, 0),
        earlier_uncorrected=sound.earlier_uncorrected + _sum(early, 1),
        remap_pending=sound.remap_pending or faults.now("remap", gpu, at_us) is not None,
        links_down=sound.links_down | down,
        pcie_lanes=narrow.numbers[0] if narrow else sound.pcie_lanes,
        persistence_on=sound.persistence_on and faults.now("unpersistent", gpu, at_us) is None,
        recovery_action=recovery.numbers[0] if recovery else sound.recovery_action,
        fabric_state=fabric.numbers[0] if fabric else sound.fabric_state,
    )


def _sum(faults: list[Fault], place: int) -> int:
    return sum(fault.numbers[place] for fault in faults)


class Views:
    """What the driver sees of each GPU at any moment, made when it is first asked for."""

    def __init__(self, truth: Simulation, faults: Faults) -> None:
        self._truth = truth
        self._faults = faults
        self._made: dict[tuple[int, int | None], Simulation] = {}

    def at(self, gpu: int, at_us: int) -> Simulation:
        """Return the simulation as the driver sees it when it looks at a GPU."""
        if not self._faults.faults:
            return self._truth
        key = gpu, self._faults.restarted_us(gpu, at_us)
        if key not in self._made:
            self._made[key] = Seen(self._truth, self._faults, *key)
        return self._made[key]
