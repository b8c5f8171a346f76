"""Of built-in rules on health, heat and power: the fault, what is nearly that and harmless, the way back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.tick import Condition, State
from tests.rules.looks import IDLE, IDLE_VALUES, SOUND, Look, Values

Course = Sequence[tuple[Look, float]]
"""Looks, each for so many seconds."""
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is asked of a rule. `well` closes it; `between` lies between its limits and keeps it open.

    `also` are rules that rightly open with the same fault.
    """

    fault: Look
    harmless: Mapping[str, Course]
    well: Look = SOUND
    between: Look | None = None
    also: frozenset[str] = field(default_factory=frozenset)


def of(**values: float | None) -> Look:
    """Differ from a sound GPU."""
    return Look(values=values)


def told(**figures: float | None) -> Look:
    """Differ in what the agent knows of itself."""
    return Look(figures=figures)


def throttled(reason: str, seconds_per_minute: float) -> Look:
    """Lower the clocks for so much of the time."""
    return Look(grows={f"throttle_{reason}_seconds_total": seconds_per_minute / 6})


def counted(name: str, per_minute: float) -> Look:
    """Let errors come."""
    return Look(grows={f"{name}_total": per_minute / 6})


def beside(others: Values, **values: float | None) -> Look:
    """Differ on one GPU and on the three beside it."""
    return Look(values=values, others=others)


SLOWED = {"throttle_sw_thermal_seconds_total": 3.0}
NO_MARGINS = {
    "temperature_margin_shutdown_celsius": None,
    "temperature_margin_slowdown_celsius": None,
    "temperature_margin_operating_celsius": None,
}
GOES_DARK = Look(condition=Condition.LOST, state=State.UNKNOWN)

HEALTH = {
    "gpu_hung": Case(
        fault=Look(condition=Condition.HUNG, state=State.DOWN),
        harmless={
            "drained": [(Look(condition=Condition.HUNG, state=State.DRAINED), HOUR)],
            "lost": [(Look(condition=Condition.LOST, state=State.DOWN), HOUR)],
            "nobody looked": [(GOES_DARK, HOUR)],
        },
    ),
    "gpu_missing": Case(
        fault=Look(condition=Condition.MISSING, state=State.DOWN),
        harmless={
            "for one interval": [(Look(condition=Condition.MISSING, state=State.DOWN), 10.0), (SOUND, HOUR)],
            "drained": [(Look(condition=Condition.MISSING, state=State.DRAINED), HOUR)],
            "lost": [(Look(condition=Condition.LOST, state=State.DOWN), HOUR)],
        },
    ),
    "gpu_down": Case(
        fault=Look(condition=Condition.LOST, state=State.DOWN),
        harmless={
            "drained": [(Look(condition=Condition.LOST, state=State.DRAINED), HOUR)],
            "nobody looked": [(GOES_DARK, HOUR)],
            "it hangs, and that is told": [(Look(condition=Condition.HUNG, state=State.DOWN), HOUR)],
        },
    ),
    "recovery_drain_and_reset_asked": Case(
        fault=of(recovery_action_code=4.0),
        harmless={"only the traffic between GPUs": [(of(recovery_action_code=3.0), HOUR)]},
    ),
    "recovery_drain_asked": Case(
        fault=of(recovery_action_code=3.0),
        harmless={"nothing is asked for": [(SOUND, HOUR)], "more": [(of(recovery_action_code=4.0), HOUR)]},
    ),
    "recovery_reset_asked": Case(
        fault=of(recovery_action_code=1.0),
        harmless={"nothing": [(SOUND, HOUR)], "another": [(of(recovery_action_code=3.0), HOUR)]},
    ),
    "xid_critical": Case(
        fault=Look(xids=(79,)),
        harmless={
            "the job's own fault": [(Look(xids=(31, 13, 43, 45)), MINUTE)],
            "for the next idle": [(Look(xids=(94,)), MINUTE)],
        },
    ),
    "xid_warning": Case(
        fault=Look(xids=(94,)),
        harmless={
            "the job's own fault": [(Look(xids=(31, 13)), MINUTE)],
            "a job that was killed": [(Look(xids=(43, 45)), MINUTE)],
            "told by the recovery action": [(Look(xids=(154,)), MINUTE)],
            "with a critical one": [(Look(xids=(48, 63)), MINUTE)],
        },
    ),
    "ecc_uncorrected": Case(
        fault=counted("ecc_uncorrected_volatile", 6),
        harmless={"corrected ones": [(counted("ecc_corrected_volatile", 900), HOUR)]},
    ),
    "row_remap_failed": Case(
        fault=of(row_remap_failure_flag=1.0),
        harmless={"it waits for a reset": [(of(row_remap_pending_flag=1.0), HOUR)]},
    ),
    "row_remap_pending": Case(
        fault=of(row_remap_pending_flag=1.0),
        harmless={
            "errors were corrected": [(counted("ecc_corrected_volatile", 900), HOUR)],
            "it failed altogether": [(of(row_remap_pending_flag=1.0, row_remap_failure_flag=1.0), HOUR)],
        },
    ),
    "retired_pages_pending": Case(
        fault=of(retired_pages_pending_flag=1.0),
        harmless={
            "retired long ago": [(of(retired_pages_single_bit_total=3.0), HOUR)],
            "a board without pages": [(of(retired_pages_pending_flag=None), HOUR)],
        },
    ),
    "sram_threshold_exceeded": Case(
        fault=of(sram_threshold_exceeded_flag=1.0),
        harmless={"a board that does not tell": [(of(sram_threshold_exceeded_flag=None), HOUR)]},
    ),
    "persistence_mode_off": Case(
        fault=of(persistence_mode_flag=0.0),
        harmless={"it is not told": [(of(persistence_mode_flag=None), HOUR)]},
    ),
}

HEAT = {
    "near_shutdown": Case(
        fault=of(temperature_margin_celsius=-6.0),
        between=of(temperature_margin_celsius=-3.0),
        harmless={
            "hot, and slowed": [(Look(values={"temperature_margin_celsius": -3.0}, grows=SLOWED), HOUR)]
        },
    ),
    "near_shutdown_core": Case(
        fault=of(**NO_MARGINS, temperature_max_celsius=92.5),
        between=of(**NO_MARGINS, temperature_max_celsius=90.0),
        harmless={
            "hot, and slowed": [(of(**NO_MARGINS, temperature_max_celsius=90.0), HOUR)],
            "told as margins": [(of(temperature_max_celsius=93.0, temperature_margin_celsius=-6.0), HOUR)],
        },
    ),
    "thermal_margin_critical": Case(
        fault=Look(values={"temperature_margin_celsius": -1.0}, grows=SLOWED),
        between=of(temperature_margin_celsius=2.0),
        harmless={
            "an H100 that tells a wrong margin": [(of(temperature_margin_celsius=-1.0), HOUR)],
            "slowed, with a margin again": [
                (Look(values={"temperature_margin_celsius": 1.0}, grows=SLOWED), HOUR)
            ],
        },
        also=frozenset({"thermal_slowdown_software"}),
    ),
    "thermal_margin_low": Case(
        fault=of(temperature_margin_celsius=4.0),
        between=of(temperature_margin_celsius=7.0),
        harmless={
            "hot, with margin left": [
                (
                    of(
                        temperature_celsius=86.0, temperature_max_celsius=87.0, temperature_margin_celsius=9.0
                    ),
                    HOUR,
                )
            ],
            "for as long as a fan needs": [(of(temperature_margin_celsius=3.0), 5 * MINUTE), (SOUND, HOUR)],
        },
    ),
    "memory_hot": Case(
        fault=of(memory_temperature_max_celsius=101.0),
        between=of(memory_temperature_max_celsius=98.0),
        harmless={
            "hot, with margin left": [(of(memory_temperature_max_celsius=96.0), HOUR)],
            "a board without limit": [
                (of(memory_temperature_max_celsius=101.0, memory_temperature_limit_celsius=None), HOUR)
            ],
        },
    ),
    "fan_failed": Case(
        fault=of(fan_speed_least_ratio=0.0, fan_speed_most_ratio=0.6),
        between=of(fan_speed_least_ratio=0.05, fan_speed_most_ratio=0.6),
        harmless={
            "cool, and at rest": [(IDLE.also(fan_speed_least_ratio=0.0, fan_speed_most_ratio=0.0), HOUR)],
            "slow": [(of(fan_speed_least_ratio=0.23, fan_speed_most_ratio=0.6), HOUR)],
            "cooled by the chassis": [(of(fan_speed_least_ratio=None), HOUR)],
        },
    ),
    "thermal_slowdown_hardware": Case(
        fault=throttled("hw_thermal", 6.0),
        between=throttled("hw_thermal", 0.3),
        harmless={
            "once": [(throttled("hw_thermal", 18.0), 10.0), (SOUND, HOUR)],
            "by the driver": [(throttled("sw_thermal", 6.0), 20 * MINUTE)],
        },
    ),
    "thermal_slowdown_software": Case(
        fault=throttled("sw_thermal", 6.0),
        between=throttled("sw_thermal", 2.0),
        harmless={
            "for 2 % of the time": [(throttled("sw_thermal", 1.2), 2 * HOUR)],
            "a warm quarter of an hour": [(throttled("sw_thermal", 12.0), 15 * MINUTE), (SOUND, HOUR)],
        },
    ),
    "hotter_than_peers": Case(
        fault=beside({}, temperature_celsius=76.0),
        well=beside({}),
        between=beside({}, temperature_celsius=72.0),
        harmless={
            "it works, and they do not": [(beside(IDLE_VALUES), 2 * HOUR)],
            "they are all hot": [(beside({"temperature_celsius": 80.0}, temperature_celsius=82.0), 2 * HOUR)],
        },
    ),
}

POWER = {
    "power_brake": Case(
        fault=throttled("power_brake", 10.0),
        between=throttled("power_brake", 0.3),
        harmless={"once": [(throttled("power_brake", 18.0), 10.0), (SOUND, HOUR)]},
    ),
    "power_capped_long": Case(
        fault=Look(values={"sm_clock_hertz": 0.93e9}, grows=SOUND.grows),
        between=Look(values={"sm_clock_hertz": 0.93e9}, grows={"throttle_power_cap_seconds_total": 40.0 / 6}),
        harmless={
            "at the cap under full load": [(SOUND, 3 * HOUR)],
            "slow for want of work": [(of(sm_clock_hertz=0.345e9), 3 * HOUR)],
        },
    ),
}
