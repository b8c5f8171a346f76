"""Courses in the simulator: for every built-in rule one in which it opens on its fault and closes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.scene import Scene
from agent.simulated.faults import NEVER_US, parse_faults, resolve, split
from agent.simulated.phases import SECOND_US
from agent.simulated.scenario import parse_simulation
from agent.simulator import uninstall
from agent.states import StateSettings
from agent.tick import Finding, Workload
from gputally.run import holders_in
from gputally.settings import Settings
from rules.engine import Engine
from rules.load import built_in
from tests.agent.driven import Rig
from tests.agent.histories import books_at
from tests.rules.cases import DAY, HOUR, MINUTE

RULES = built_in()
Opened = tuple[str, int]
"""A rule, and the index of a GPU."""
SELDOM_SECONDS = 60.0
"""No poll is longer: what the sampler looks at now and then it would miss."""


class Course:
    """What was open at the end of each interval of a simulation, by seconds since its beginning.

    Without `rings` the driver refuses its rings of samples: so a day is played in a second or two.
    """

    def __init__(
        self,
        text: str,
        seconds: float,
        folder: Path,
        *,
        blind: tuple[float, float] = (0.0, 0.0),
        every_seconds: float = 10.0,
        workload: Workload = Workload.BATCH,
        rings: bool = False,
    ) -> None:
        poll_seconds = 1.0 if rings else min(SELDOM_SECONDS, every_seconds / 2)
        refused = () if rings else ("samples",)
        rig = Rig(text, *refused, interval_seconds=every_seconds, poll_seconds=poll_seconds, guarded=True)
        engine = Engine(RULES, round(every_seconds * 1000))
        states = StateSettings(default_workload=workload)
        holders = holders_in(rig.simulation, Settings(states=states), rig.clock.wall_ms)
        places = {rig.uuid(index): index for index in range(rig.simulation.count)}
        self.open: dict[float, set[Opened]] = {}

        def judge(scene: Scene) -> Iterable[Finding]:
            findings = engine.judge(scene)
            at_seconds = (scene.end_ms - rig.clock.began_ms) / 1000
            self.open[at_seconds] = {(one.rule, places[one.uuid]) for one in findings}
            return findings

        try:
            with books_at(folder / "journal.db", states) as books:
                for tick in rig.live(seconds):
                    if blind[0] <= (tick.end_ms - rig.clock.began_ms) / 1000 < blind[1]:
                        continue
                    books.xids.take(tick.xids, tick.end_ms)
                    gpus = {gpu.uuid: gpu for gpu in tick.gpus or ()}
                    books.post(tick, holders.holds(tick.readings, gpus), judge=judge)
        finally:
            holders.close()
            uninstall()

    def ever(self) -> set[Opened]:
        """Give all that was ever open."""
        return set().union(*self.open.values())

    def spans(self, rule: str, gpu: int) -> list[tuple[float, float]]:
        """Give from when to when a finding was open; one that still is ends with the last interval."""
        found: list[tuple[float, float]] = []
        before = False
        for at_seconds, now in self.open.items():
            if (rule, gpu) in now:
                found = (
                    [*found[:-1], (found[-1][0], at_seconds)]
                    if before
                    else [*found, (at_seconds, at_seconds)]
                )
            before = (rule, gpu) in now
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A simulation whose first fault is that of a rule; what opens on the GPU, and when, follows from both.

    `warms_seconds` is how long the fault takes to be what the rule means: heat rises, patience ends.
    `cools_seconds` is how long it takes to be over. `also` rightly opens with it.
    """

    text: str
    warms_seconds: float = 0.0
    cools_seconds: float = 0.0
    also: frozenset[str] = frozenset()
    every_seconds: float = 10.0
    workload: Workload = Workload.BATCH

    @property
    def gpu(self) -> int:
        """The GPU that has the fault."""
        return self._fault()[0]

    @property
    def fault_seconds(self) -> tuple[float, float]:
        """From when to when it has the fault; a moment ends when it begins."""
        return self._fault()[1:]

    def _fault(self) -> tuple[int, float, float]:
        node, faults = split(resolve(self.text, 0.0))
        (first, *_) = parse_faults(faults, parse_simulation(node).count).faults
        (gpu,) = first.gpus
        end_us = first.start_us if first.end_us == NEVER_US else first.end_us
        return gpu, first.start_us / SECOND_US, end_us / SECOND_US


def _of(*names: str) -> frozenset[str]:
    return frozenset(names)


_HEALTH = {
    "gpu_hung": Played(text="h200x2:training!hang=1@+60..+300", cools_seconds=MINUTE),
    "gpu_missing": Played(
        text="h200x2:training!removed=1@+60..+300",
        warms_seconds=MINUTE,
        cools_seconds=MINUTE,
    ),
    "gpu_down": Played(text="h200x2:training!lost=1@+60..+300", cools_seconds=5 * MINUTE),
    "recovery_drain_and_reset_asked": Played(text="h200x2:training!recovery=1:4@+60..+300"),
    "recovery_drain_asked": Played(text="h200x2:training!recovery=1:3@+60..+300"),
    "recovery_reset_asked": Played(text="h200x2:training!recovery=1:2@+60..+300"),
    "xid_critical": Played(text="h200x2:training!xid=1:79@+60"),
    "xid_warning": Played(text="h200x2:training!xid=1:94@+60"),
    "ecc_uncorrected": Played(text="h200x2:training!ecc=1:0:1@+660", every_seconds=300),
    "row_remap_failed": Played(text="h200x2:training!memory=1:remap_failed@+60..+300"),
    "row_remap_pending": Played(text="h200x2:training!remap=1@+60..+300"),
    "retired_pages_pending": Played(text="t4x2:training!memory=1:page_pending@+60..+300"),
    "sram_threshold_exceeded": Played(text="h200x2:training!memory=1:sram_exceeded@+60..+300"),
}

_HEAT = {
    "near_shutdown": Played(
        text="h200x1:training!heat=0:core:32@+60..+600", warms_seconds=5 * MINUTE, cools_seconds=MINUTE
    ),
    "near_shutdown_core": Played(
        text="a100x1:training!heat=0:core:30@+60..+600", warms_seconds=5 * MINUTE, cools_seconds=MINUTE
    ),
    "thermal_margin_critical": Played(
        text="h200x1:training!heat=0:core:31@+60..+720!slowed=0:sw_thermal:90@+60..+720",
        warms_seconds=5 * MINUTE,
        cools_seconds=MINUTE,
    ),
    "thermal_margin_low": Played(
        text="h200x1:training!heat=0:core:21@+60..+1200", warms_seconds=5 * MINUTE, cools_seconds=2 * MINUTE
    ),
    "memory_hot": Played(
        text="h200x1:training!heat=0:memory:34@+60..+1200",
        warms_seconds=5 * MINUTE,
        cools_seconds=2 * MINUTE,
    ),
    "fan_failed": Played(text="geforcex2:training!fanstop=1@+60..+400"),
    "thermal_slowdown_hardware": Played(text="h200x2:training!slowed=1:hw_thermal:50@+60..+600"),
    "thermal_slowdown_software": Played(text="h200x2:training!slowed=1:sw_thermal:80@+60..+2700"),
    "hotter_than_peers": Played(
        text="h200x3:training!heat=1:core:16@+300..+5000",
        warms_seconds=5 * MINUTE,
        cools_seconds=2 * MINUTE,
        every_seconds=60,
    ),
}

_POWER_AND_LINKS = {
    "power_brake": Played(text="h200x2:training!slowed=1:power_brake:30@+60..+600"),
    "power_capped_long": Played(
        text="h200x2:training!slowed=1:power_cap:50@+300..+6000", cools_seconds=MINUTE, every_seconds=30
    ),
    "fabric_not_ready": Played(text="h200x2:training!fabric=1:2@+60..+600"),
    "fabric_unhealthy": Played(text="h200x2:training!unhealthy=1:2@+60..+400"),
    "fabric_limited": Played(text="h200x2:training!unhealthy=1:3@+60..+600"),
    "nvlink_all_down": Played(text="h200x3:training!links=1:0@+60..+600"),
    "nvlink_down": Played(text="h200x2:training!linkdown=1:3@+60..+600"),
    "nvlink_recoveries": Played(text="h200x2:training!errors=1:recovery:6@+60..+400", every_seconds=30),
    "nvlink_replays": Played(text="h200x2:training!errors=1:replay:6@+60..+900"),
    "nvlink_crc_errors": Played(text="h200x2:training!errors=1:crc:150@+60..+600"),
    "pcie_lanes_low": Played(text="h200x2:computing!narrow=1:8@+60..+2000"),
    "pcie_generation_low": Played(text="h200x2:computing!slowlink=1:3@+60..+2000"),
    "pcie_replays": Played(text="h200x2:training!errors=1:pcie_replay:600@+60..+1200"),
    "persistence_mode_off": Played(text="h200x2:training!unpersistent=1@+60..+300"),
}

_USE = {
    "stalled": Played(text="h200x2:training!plays=1:stalled@+60..+1200", warms_seconds=MINUTE),
    "straggler": Played(
        text="h200x3:training!plays=1:waiting@+60..+2200", warms_seconds=4 * MINUTE, cools_seconds=4 * MINUTE
    ),
    "held_without_process": Played(
        text="h200x1:training!plays=0:given@+60..+2400", warms_seconds=HOUR / 2, every_seconds=30
    ),
    "memory_held_by_nobody": Played(text="h200x2:training!leak=1@+60..+900!plays=1:held@+60..+900"),
    "held_idle": Played(
        text="h200x1:training!plays=0:held@+60..+2400", warms_seconds=HOUR / 2, every_seconds=30
    ),
    "held_idle_long": Played(
        text="h200x1:training!plays=0:held@+300..+8400",
        warms_seconds=HOUR / 2,
        every_seconds=60,
        also=_of("held_idle"),
    ),
    "held_idle_long_interactive": Played(
        text="h200x1:training!plays=0:held@+300..+16000",
        warms_seconds=HOUR,
        every_seconds=60,
        workload=Workload.INTERACTIVE,
        also=_of("held_idle"),
    ),
    "held_idle_long_serving": Played(
        text="h200x1:training!plays=0:held@+600..+132000",
        warms_seconds=DAY,
        every_seconds=300,
        workload=Workload.SERVING,
        also=_of("held_idle"),
    ),
    "free_long": Played(text="h200x1:training!plays=0:free@+600..+90000", every_seconds=300),
}

PLAYED: Mapping[str, Played] = {**_HEALTH, **_HEAT, **_POWER_AND_LINKS, **_USE}
"""Rule → the course that it opens in."""
