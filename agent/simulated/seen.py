"""What the driver sees of simulated GPUs that have faults: counters begun again, errors, absences.

The truth of the simulation stays as it is, and what a test compares with it; of faults only what they make a
GPU do is part of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.simulated.defects import Defects
from agent.simulated.faults import Fault, Faults
from agent.simulated.phases import EPOCH_US, SECOND_US, Counters, nearing
from agent.simulated.scenario import Simulation
from agent.simulated.work import Work

MOST_LINKS = 64
"""More than any GPU has."""
_OF_HEALTH: Mapping[int, frozenset[str]] = {
    2: frozenset({"route_unhealthy"}),
    3: frozenset({"degraded_bandwidth"}),
}
"""What the fabric says of itself → the fault that it tells besides."""


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
        self._latest: tuple[int, int, Defects] | None = None

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
        if self._latest is None or self._latest[:2] != (index, at_us):
            defects = with_faults(self._truth.defects(index, at_us), self._faults, index, at_us)
            self._latest = index, at_us, defects
        return self._latest[2]


def with_faults(sound: Defects, faults: Faults, gpu: int, at_us: int) -> Defects:
    """Add what the faults do to a GPU to what else is wrong with it."""
    happened = [fault for fault in faults.of("ecc", gpu) if fault.start_us <= at_us]
    restarted_us = faults.restarted_us(gpu, at_us) or 0
    fresh = [fault for fault in happened if fault.start_us >= restarted_us]
    early = [fault for fault in happened if fault.start_us < restarted_us]
    narrow, slowlink, recovery = (faults.now(kind, gpu, at_us) for kind in ("narrow", "slowlink", "recovery"))
    return replace(
        _linked(sound, faults, gpu, at_us),
        ecc_corrected=sound.ecc_corrected + _sum(fresh, 0),
        ecc_uncorrected=sound.ecc_uncorrected + _sum(fresh, 1),
        earlier_corrected=sound.earlier_corrected + _sum(early, 0),
        earlier_uncorrected=sound.earlier_uncorrected + _sum(early, 1),
        remap_pending=sound.remap_pending or faults.now("remap", gpu, at_us) is not None,
        **_marked(sound, faults, gpu, at_us),
        core_kelvin=sound.core_kelvin + _kelvin(faults, gpu, "core", at_us),
        memory_kelvin=sound.memory_kelvin + _kelvin(faults, gpu, "memory", at_us),
        pcie_replays=sound.pcie_replays + _errors(faults, gpu, "pcie_replay", at_us),
        pcie_lanes=narrow.numbers[0] if narrow else sound.pcie_lanes,
        pcie_generation=slowlink.numbers[0] if slowlink else sound.pcie_generation,
        persistence_on=sound.persistence_on and faults.now("unpersistent", gpu, at_us) is None,
        fan_stopped=sound.fan_stopped or faults.now("fanstop", gpu, at_us) is not None,
        memory_leaked=sound.memory_leaked or faults.now("leak", gpu, at_us) is not None,
        recovery_action=recovery.numbers[0] if recovery else sound.recovery_action,
    )


def _linked(sound: Defects, faults: Faults, gpu: int, at_us: int) -> Defects:
    """Add what the faults do to NVLink."""
    down = {fault.numbers[0] for fault in faults.of("linkdown", gpu) if fault.holds(at_us)}
    fewer, fabric, unhealthy = (faults.now(kind, gpu, at_us) for kind in ("links", "fabric", "unhealthy"))
    if fewer:
        down.update(range(fewer.numbers[0], MOST_LINKS))
    health = unhealthy.numbers[0] if unhealthy else sound.fabric_health
    return replace(
        sound,
        links_down=sound.links_down | down,
        link_crc=sound.link_crc + _errors(faults, gpu, "crc", at_us),
        link_replays=sound.link_replays + _errors(faults, gpu, "replay", at_us),
        link_recoveries=sound.link_recoveries + _errors(faults, gpu, "recovery", at_us),
        fabric_state=fabric.numbers[0] if fabric else sound.fabric_state,
        fabric_health=health,
        fabric_faults=sound.fabric_faults
        | (_OF_HEALTH.get(health, frozenset()) if unhealthy else frozenset()),
    )


def _marked(sound: Defects, faults: Faults, gpu: int, at_us: int) -> dict[str, Any]:
    """Tell how the memory is marked. A row or page that was counted stays so when the mark is gone."""
    marks = faults.of("memory", gpu)
    begun = [fault.word for fault in marks if fault.start_us <= at_us]
    now = {fault.word for fault in marks if fault.holds(at_us)}
    return {
        "remap_failed": sound.remap_failed or "remap_failed" in now,
        "remapped_uncorrected": sound.remapped_uncorrected + begun.count("remap_failed"),
        "retirement_pending": sound.retirement_pending or "page_pending" in now,
        "retired_double_bit": sound.retired_double_bit + begun.count("page_pending"),
        "sram_threshold": sound.sram_threshold or "sram_exceeded" in now,
    }


def _errors(faults: Faults, gpu: int, error: str, at_us: int) -> int:
    """Count the errors of a kind since the driver's counters last began."""
    since_us = max(EPOCH_US, faults.restarted_us(gpu, at_us) or 0)
    several = [fault for fault in faults.of("errors", gpu) if fault.word == error]
    spans = ((one, min(at_us, one.end_us) - max(since_us, one.start_us)) for one in several)
    return sum(one.numbers[0] * max(0, length_us) // (60 * SECOND_US) for one, length_us in spans)


def _kelvin(faults: Faults, gpu: int, place: str, at_us: int) -> float:
    """Tell how much warmer a place is: heat comes and goes slowly."""
    found = 0.0
    for fault in faults.of("heat", gpu):
        if fault.word == place and fault.start_us <= at_us:
            until_us = min(at_us, fault.end_us)
            risen = nearing(0.0, fault.numbers[0], until_us - fault.start_us)
            found += nearing(risen, 0.0, at_us - until_us)
    return found


def _sum(faults: list[Fault], place: int) -> int:
    return sum(fault.numbers[place] for fault in faults)


class Views:
    """What the driver sees of each GPU at any moment, made when it is first asked for."""

    def __init__(self, truth: Simulation, faults: Faults) -> None:
        if any(fault.kind in ("plays", "slowed") for fault in faults.faults):
            truth.undergo(faults)
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
