"""The sections of a report as JSON; docs/report.md says what each key means.

As in data.py: durations are seconds, energies joules, both to three decimals; GPU time is called
`gpu_seconds`, moments are RFC 3339, costs have six decimals. What is not known is null.
"""

from collections.abc import Iterable, Mapping

from agent.tally import HOUR_MS
from agent.tick import State
from reports.outline import Report, Revision
from reports.sections import (
    AssetLine,
    CapacityLine,
    DayLine,
    Energy,
    ForecastLine,
    FragmentLine,
    Group,
    GroupLine,
    HeatLine,
    HeatMap,
    NodeQuality,
    Reliability,
    Score,
    Sections,
    SickLine,
    SizeLine,
    Step,
    Unit,
    WasteLine,
)
from reports.window import Window, rfc3339

Json = Mapping[str, object]

KEYS: Mapping[str, str] = {
    "scores": "scorecard",
    "sizes": "right_sizing",
    "fragments": "fragmentation",
    "heat": "throttling",
}
"""Section → its key, where that is another word."""
_JOULES_PER_KWH = 3.6e6
_UNITS: Mapping[Unit, tuple[str, float]] = {
    "ratio": ("ratio", 1.0),
    "gpu_hours": ("gpu_seconds", HOUR_MS / 1000),
    "hours": ("seconds", HOUR_MS / 1000),
    "kwh": ("joules", _JOULES_PER_KWH),
    "money": ("cost", 1.0),
    "count": ("count", 1.0),
}
"""Unit of a score → what it is told in, and times what."""


def sections_of(report: Report) -> Json:
    """Give all sections by their keys; of a report without any they are empty."""
    told = report.sections or Sections()
    return {
        "scorecard": [_score(line) for line in told.scores],
        "compared_with": None if told.last is None else {**window_of(told.last), "label": told.last.label},
        "bridge": [_step(step) for step in told.bridge],
        "groups": [_group(line) for line in told.groups],
        "days": [_day(line) for line in told.days],
        "capacity": [_capacity(line) for line in told.capacity],
        "fragmentation": [_fragment(line) for line in told.fragments],
        "waste": [_waste(line) for line in told.waste],
        "right_sizing": [_size(line) for line in told.sizes],
        "heat_map": None if told.heat_map is None else _heat_map(told.heat_map),
        "throttling": [_heat(line) for line in told.heat],
        "energy_detail": None if told.energy is None else _energy(told.energy),
        "reliability": None if told.reliability is None else _reliability(told.reliability),
        "assets": [_asset(line) for line in told.assets],
        "forecast": [_forecast(line) for line in told.forecast],
        "data_quality": {
            "nodes": [_node(line) for line in told.quality.nodes],
            "remarks": list(told.quality.remarks),
        },
        "absent": {KEYS.get(name, name): why for name, why in told.absent.items()},
        "remarks": list(report.remarks),
        "revision": None if report.revision is None else _revision(report.revision),
    }


def _revision(told: Revision) -> Json:
    return {
        "number": told.number,
        "before": None if told.before_ms is None else rfc3339(told.before_ms),
        "changes": list(told.changes),
    }


def window_of(window: Window) -> Json:
    """Give a window."""
    return {
        "from": rfc3339(window.from_ms),
        "to": rfc3339(window.to_ms),
        "timezone": window.timezone,
        "seconds": (window.to_ms - window.from_ms) / 1000,
    }


def cost_of(cost: float | None) -> float | None:
    """Give an amount of money."""
    return None if cost is None else round(cost, 6)


def _seconds(elapsed_ms: int | None) -> float | None:
    return None if elapsed_ms is None else elapsed_ms / 1000


def _times(value: float | None, factor: float) -> float | None:
    """Give an amount in another unit, to three decimals."""
    return None if value is None else round(value * factor, 3)


def _moment(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def _named(group: Group | None) -> Json | None:
    return None if group is None else group._asdict()


def _states(elapsed_ms: Mapping[State, int]) -> Json:
    return {state.value: elapsed_ms.get(state, 0) / 1000 for state in State}


def _xids(xids: Mapping[int, int]) -> Json:
    return {str(number): count for number, count in sorted(xids.items())}


def _score(line: Score) -> Json:
    unit, factor = _UNITS[line.unit]

    def told(value: float | None) -> float | None:
        return value if value is None or unit == "ratio" else round(value * factor, 6)

    return {
        "name": line.name,
        "meaning": line.meaning,
        "unit": unit,
        "value": told(line.value),
        "compared": told(line.last),
        "mean_of_4": told(line.mean4),
        "noise": told(line.noise),
        "verdict": line.verdict,
    }


def _step(step: Step) -> Json:
    return {"kind": step.kind, "group": _named(step.group), "gpu_seconds": step.gpu_ms / 1000}


def _group(line: GroupLine) -> Json:
    return {
        "group": _named(line.group),
        "gpus": line.gpus,
        "gpu_seconds": line.inventory_ms / 1000,
        "states": _states(line.elapsed_ms),
        "busy_ratio_mean": line.busy_ratio_mean,
        "cost": cost_of(line.cost),
    }


def _day(line: DayLine) -> Json:
    return {
        "from": rfc3339(line.start_ms),
        "states": _states(line.elapsed_ms),
        "busy_gpu_seconds": line.busy_ms / 1000,
    }


def _capacity(line: CapacityLine) -> Json:
    return {
        "group": _named(line.group),
        "gpus": line.gpus,
        "usable_gpus": line.usable,
        "held_gpus_mean": line.held_mean,
        "held_gpus_p95": line.held_p95,
        "held_gpus_p99": line.held_p99,
        "held_gpus_peak": line.peak,
        "peak_hour": rfc3339(line.peak_ms),
        "headroom_gpus": line.headroom,
        "returnable_gpus": line.returnable,
    }


def _fragment(line: FragmentLine) -> Json:
    return {
        "group": _named(line.group),
        "node_gpus": line.node_gpus,
        "free_gpus_mean": line.free_mean,
        "pieces_gpu_seconds": line.pieces_ms / 1000,
        "largest_gpus_p50": line.largest_p50,
        "largest_gpus_p5": line.largest_p5,
        "fits": [
            {
                "gpus": fit.gpus,
                "jobs_mean": fit.jobs_mean,
                "hours_ratio": fit.hours_ratio,
                "stranded_gpu_seconds": fit.stranded_ms / 1000,
            }
            for fit in line.fits
        ],
    }


def _waste(line: WasteLine) -> Json:
    return {
        "owner": line.owner,
        "idle_gpu_seconds": line.idle_ms / 1000,
        "share_ratio": line.share_ratio,
        "cost": cost_of(line.cost),
        "compared_idle_gpu_seconds": _seconds(line.idle_last_ms),
        "weeks_in_a_row": line.weeks,
        "holder": line.holder,
        "node": line.node,
        "uuid": line.uuid,
        "spell_seconds": _seconds(line.spell_ms),
        "memory_bytes": line.memory_bytes,
    }


def _size(line: SizeLine) -> Json:
    return {
        "owner": line.owner,
        "holder": line.holder,
        "model": line.model,
        "gpu_seconds": line.gpu_ms / 1000,
        "activity_ratio_mean": line.activity_mean,
        "memory_bytes_max": line.memory_max_bytes,
        "advice": line.advice,
        "saved_gpu_seconds": line.saving_ms / 1000,
        "saved_cost": cost_of(line.cost),
    }


def _heat_map(told: HeatMap) -> Json:
    return {
        "effective_ratio": _cells(told.effective),
        "occupied_ratio": _cells(told.occupied),
        "clock_changes": [{"weekday": day, "hour": hour} for day, hour in told.changed],
        "weekday_effective_ratio": told.weekday_effective,
        "weekend_effective_ratio": told.weekend_effective,
    }


def _cells(rows: Iterable[Iterable[float | None]]) -> list[list[float | None]]:
    return [list(row) for row in rows]


def _heat(line: HeatLine) -> Json:
    return {
        "uuid": line.uuid,
        "node": line.node,
        "index": line.index,
        "model": line.model,
        "throttle_seconds": {reason: ms / 1000 for reason, ms in line.throttle_ms.items()},
        "lost_seconds": _seconds(line.lost_ms),
        "temperature_celsius_max": line.temperature_max_celsius,
        "margin_celsius_min": line.margin_least_celsius,
        "power_watts_max": line.power_max_watts,
    }


def _energy(told: Energy) -> Json:
    return {
        "joules": _times(told.kwh, _JOULES_PER_KWH),
        "idle_joules": _times(told.idle_kwh, _JOULES_PER_KWH),
        "seen_ratio": told.seen_ratio,
        "with_overhead_joules": _times(told.kwh_with_overhead, _JOULES_PER_KWH),
        "pue_ratio": told.pue_ratio,
        "peak_watts": _times(told.peak_kilowatts, 1000),
        "carbon_kilograms": _times(told.carbon_kg, 1),
        "carbon_grams_per_kwh": told.carbon_grams_per_kwh,
        "carbon_source": told.carbon_source,
    }


def _reliability(told: Reliability) -> Json:
    return {
        "incidents": told.incidents,
        "down_gpu_seconds": told.down_ms / 1000,
        "between_failures_gpu_seconds": _times(told.between_failures_hours, HOUR_MS / 1000),
        "to_repair_seconds": _times(told.to_repair_hours, HOUR_MS / 1000),
        "xids": _xids(told.xids),
        "gpus": [_sick(line) for line in told.lines],
    }


def _sick(line: SickLine) -> Json:
    return {
        "uuid": line.uuid,
        "serial": line.serial,
        "node": line.node,
        "model": line.model,
        "down_seconds": line.down_ms / 1000,
        "incidents": line.incidents,
        "rules": list(line.rules),
        "xids": _xids(line.xids),
        "replace": line.replace,
    }


def _asset(line: AssetLine) -> Json:
    return {
        "uuid": line.uuid,
        "serial": line.serial,
        "model": line.model,
        "node": line.node,
        "index": line.index,
        "since": rfc3339(line.since_ms),
        "first_seen": rfc3339(line.first_seen_ms),
        "last_seen": rfc3339(line.last_seen_ms),
        "seen_seconds": line.seen_ms / 1000,
        "active_seconds": line.active_ms / 1000,
        "state": line.state,
        "moves": [
            {"node": node, "from": rfc3339(from_ms), "to": rfc3339(to_ms)}
            for node, from_ms, to_ms in line.moves
        ],
    }


def _forecast(line: ForecastLine) -> Json:
    return {
        "group": _named(line.group),
        "weeks": line.weeks,
        "demand": [{"week_from": rfc3339(from_ms), "gpus": gpus} for from_ms, gpus in line.demand],
        "gpus_per_week": line.slope_per_week,
        "limit_gpus": line.limit,
        "full": _moment(line.crossing_ms),
        "full_earliest": _moment(line.crossing_early_ms),
        "full_latest": _moment(line.crossing_late_ms),
        "full_without_idle": _moment(line.reclaimed_ms),
    }


def _node(line: NodeQuality) -> Json:
    return {
        "node": line.node,
        "gpu_seconds": line.inventory_ms / 1000,
        "unknown_gpu_seconds": line.unknown_ms / 1000,
        "coverage_ratio": line.coverage_ratio,
    }
