"""What a GPU looks like to all rules that are built in, interval by interval: a sound one, and others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.quantities import Amount
from agent.scene import Scene
from agent.tick import Condition, Finding, State, reading_of
from rules.definition import Rule
from rules.node import NodeJudge
from tests.rules.scenes import GPUS, MODEL, NODE, START_MS

Values = Mapping[str, Amount]

SOUND_VALUES: Values = {
    "busy_ratio": 0.97,
    "sm_active_ratio": 0.84,
    "tensor_active_ratio": 0.51,
    "fp32_active_ratio": 0.18,
    "fp64_active_ratio": 0.0,
    "dram_active_ratio": 0.59,
    "memory_used_bytes": 121e9,
    "memory_total_bytes": 150.8e9,
    "power_watts": 671.0,
    "power_limit_watts": 700.0,
    "temperature_celsius": 62.0,
    "temperature_max_celsius": 63.0,
    "temperature_margin_celsius": 24.0,
    "temperature_operating_max_celsius": 87.0,
    "temperature_slowdown_celsius": 89.0,
    "temperature_shutdown_celsius": 95.0,
    "temperature_margin_operating_celsius": 0.0,
    "temperature_margin_slowdown_celsius": -2.0,
    "temperature_margin_shutdown_celsius": -8.0,
    "memory_temperature_max_celsius": 74.0,
    "memory_temperature_limit_celsius": 105.0,
    "sm_clock_hertz": 1.78e9,
    "sm_clock_max_hertz": 1.98e9,
    "pcie_link_generation": 5.0,
    "pcie_link_max_generation": 5.0,
    "pcie_link_lanes": 16.0,
    "pcie_link_max_lanes": 16.0,
    "nvlink_active_links": 18.0,
    "nvlink_present_links": 18.0,
    "fabric_state_code": 3.0,
    "fabric_health_code": 1.0,
    "recovery_action_code": 0.0,
    "row_remap_pending_flag": 0.0,
    "row_remap_failure_flag": 0.0,
    "retired_pages_pending_flag": 0.0,
    "sram_threshold_exceeded_flag": 0.0,
    "persistence_mode_flag": 1.0,
    "ecc_mode_flag": 1.0,
    "mig_mode_flag": 0.0,
    "running_processes": 1.0,
    "fan_speed_least_ratio": 0.6,
    "fan_speed_most_ratio": 0.6,
}
"""A GPU at full load and at its power cap, which is well."""
COUNTED: Values = {
    "throttle_power_cap_seconds_total": 80_000.0,
    "throttle_sw_thermal_seconds_total": 311.0,
    "throttle_hw_thermal_seconds_total": 12.0,
    "throttle_power_brake_seconds_total": 3.0,
    "ecc_corrected_volatile_total": 41.0,
    "ecc_uncorrected_volatile_total": 2.0,
    "pcie_replays_total": 900.0,
    "nvlink_recovery_errors_total": 4.0,
    "nvlink_replay_errors_total": 88.0,
    "nvlink_crc_flit_errors_total": 1_907.0,
}
"""What was counted before: of no interest to any rule."""
SOUND_FIGURES: Values = {
    "missing_gpus": 0.0,
    "late_seconds": 0.01,
    "stuck_probes": 0.0,
    "silent_worlds": 0.0,
    "exporter_waiting_seconds": 10.0,
}
FIGURES_COUNTED: Values = {
    "blind_seconds_total": 70.0,
    "driver_seconds_total": 1_200.0,
    "journal_failures_total": 2.0,
    "readings_dropped_total": 0.0,
    "exporter_lost_total": 3.0,
}
"""What the agent knows of itself when all is well."""
IDLE_VALUES: Values = {
    **dict.fromkeys(("busy_ratio", "sm_active_ratio", "tensor_active_ratio", "fp32_active_ratio"), 0.0),
    "dram_active_ratio": 0.0,
    "power_watts": 118.0,
    "temperature_celsius": 36.0,
    "temperature_max_celsius": 37.0,
    "temperature_margin_celsius": 50.0,
    "memory_temperature_max_celsius": 41.0,
    "sm_clock_hertz": 0.345e9,
    "fan_speed_least_ratio": 0.3,
    "fan_speed_most_ratio": 0.3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One interval of a GPU, as it differs from a sound one; counters grow by `grows` in each.

    `others` is what differs on the three GPUs beside it, where it matters. XIDs come once, in the first
    interval. A GPU that is not `seen` has no reading at all.
    """

    values: Values = field(default_factory=dict)
    figures: Values = field(default_factory=dict)
    grows: Mapping[str, float] = field(default_factory=dict)
    others: Values | None = None
    state: State = State.ACTIVE
    condition: Condition = Condition.OK
    workload: str = "batch"
    xids: Sequence[int] = ()
    seen: bool = True

    def also(self, **values: Amount) -> "Look":
        """Differ in more."""
        return replace(self, values={**self.values, **values})


SOUND = Look(grows={"throttle_power_cap_seconds_total": 9.6})
UNSEEN = Look(seen=False, state=State.UNKNOWN)
SILENT = Look(
    values=dict.fromkeys([*SOUND_VALUES, *COUNTED]),
    figures=dict.fromkeys([*SOUND_FIGURES, *FIGURES_COUNTED]),
    state=State.UNKNOWN,
)
"""It answers, but tells nothing."""
IDLE = Look(values=IDLE_VALUES, state=State.HELD_GAP)
FREE = Look(
    values={**IDLE_VALUES, "memory_used_bytes": 0.0, "running_processes": 0.0}, state=State.FREE, workload=""
)


class Post:
    """A node that all rules judge, of one GPU or of four."""

    def __init__(self, rules: Mapping[str, Rule], interval_ms: int = 10_000) -> None:
        self.engine = NodeJudge(rules, interval_ms)
        self.interval_ms = interval_ms
        self.end_ms = START_MS
        self.findings: Sequence[Finding] = ()
        self._counted = {name: value or 0.0 for name, value in {**COUNTED, **FIGURES_COUNTED}.items()}
        self._xids: Counter[tuple[str, int]] = Counter({(GPUS[0], 79): 1, (GPUS[0], 63): 2})

    def see(self, look: Look, seconds: float = 0.0) -> set[str]:
        """Let a look last, for one interval at least; give what the first GPU and the node meet."""
        self._xids.update((GPUS[0], number) for number in look.xids)
        for _ in range(max(1, round(seconds * 1000 / self.interval_ms))):
            self.end_ms += self.interval_ms
            self.findings = self.engine.judge(self._scene(look))
        here = (GPUS[0], "")
        return {one.rule for one in self.findings if one.uuid in here} | {
            f"{one.rule} beside it" for one in self.findings if one.uuid not in here
        }

    def _scene(self, look: Look) -> Scene:
        grown = self.interval_ms / 10_000
        for name, by in look.grows.items():
            self._counted[name] += by * grown
        of_gpu = {name: value for name, value in self._counted.items() if name in COUNTED}
        of_node = {name: value for name, value in self._counted.items() if name in FIGURES_COUNTED}
        first = {**SOUND_VALUES, **of_gpu, **look.values}
        several = [first]
        if look.others is not None:
            several += [{**SOUND_VALUES, **look.others}] * 3
        answers = look.condition is Condition.OK
        conditions = [look.condition, *[Condition.OK] * 3]
        start_ms = self.end_ms - self.interval_ms
        readings = [
            reading_of(uuid, start_ms, self.end_ms, values if answers else {}, condition=condition)
            for uuid, values, condition in zip(GPUS, several, conditions, strict=False)
        ]
        return Scene(
            node=NODE,
            end_ms=self.end_ms,
            readings=readings if look.seen else [],
            states=dict.fromkeys(GPUS, look.state),
            models=dict.fromkeys(GPUS, MODEL),
            workloads=dict.fromkeys(GPUS, frozenset({look.workload} - {""})),
            xids=dict(self._xids),
            figures={**SOUND_FIGURES, **of_node, **look.figures} if look.seen else {},
        )
