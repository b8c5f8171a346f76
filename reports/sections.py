"""The sections of a report beyond its account, as values: computed in their own modules, shown by all forms.

Times are ms since the epoch, durations whole ms, costs in the currency of the prices; None is what is not
known or has nothing to be compared with. Definitions: planning facts, section 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from agent.tick import State
from reports.window import Window

Unit = Literal["ratio", "gpu_hours", "money", "kwh", "hours", "count"]
Verdict = Literal["better", "worse", "same", "unknown"]


class Group(NamedTuple):
    """GPUs that stand in for one another: of one pool (empty where pools have no names) and one model."""

    pool: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A line of the scorecard. `noise` is how much it moves from week to week without any reason.

    `verdict` is unknown where a week was not covered well enough to be compared.
    """

    name: str
    meaning: str
    unit: Unit
    value: float | None
    last: float | None
    mean4: float | None
    noise: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of the bridge: how many active GPU-hours more or less than in another week, and why."""

    kind: Literal["last", "inventory", "mix", "coverage", "rate", "this"]
    group: Group | None
    gpu_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLine:
    """Where the hours of one group went."""

    group: Group
    gpus: int
    inventory_ms: int
    elapsed_ms: Mapping[State, int]
    busy_ratio_mean: float | None
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityLine:
    """What a group has, and what was held of it, in GPUs; percentiles are over the hours of the window.

    `headroom` is what is usable less the 95th percentile; `returnable` what the 99.5th never needed.
    """

    group: Group
    gpus: float
    usable: float
    held_mean: float
    held_p95: float
    held_p99: float
    peak: float
    peak_ms: int
    headroom: float
    returnable: int


class Fit(NamedTuple):
    """Jobs of so many GPUs on one node: how many could have begun in an hour, and in what share of the hours.

    `stranded_ms` is free GPU time that no such job could have used.
    """

    gpus: int
    jobs_mean: float
    hours_ratio: float
    stranded_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentLine:
    """How the free GPUs of a group lay, over its whole hours.

    `free_mean` counts GPUs that were free throughout an hour; what else was free, `pieces_ms`, was so for a
    part of an hour or of a GPU. `largest_p50` and `largest_p5` are GPUs on one node: of the largest job that
    could have begun in half of the hours, and in all but 5 % of them.
    """

    group: Group
    node_gpus: int
    free_mean: float
    pieces_ms: int
    largest_p50: int
    largest_p5: int
    fits: tuple[Fit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WasteLine:
    """What one owner held idle: the worst of its holders, and how it was before.

    `share_ratio` is of the inventory. `weeks` counts this one and those before it without a gap in which it
    stood out; `idle_last_ms` is of the week compared with. `spell_ms` and `memory_bytes` are of the worst
    holder, `uuid` is empty if it held several GPUs.
    """

    owner: str
    idle_ms: int
    share_ratio: float | None
    cost: float | None
    idle_last_ms: int | None
    weeks: int
    holder: str
    node: str
    uuid: str
    spell_ms: int | None
    memory_bytes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLine:
    """A holder that could do with less; `saving_ms` is the GPU time that this would have freed."""

    owner: str
    holder: str
    model: str
    gpu_ms: int
    activity_mean: float
    memory_max_bytes: float
    advice: str
    saving_ms: int
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Seven days (Monday first) of 24 hours, in the time zone of the window; None where nothing was owed.

    `effective` is busy time over the inventory, `occupied` held time over what was seen and up. `changed` are
    the cells (day, hour) in which clocks changed, which have more or less than an hour of each GPU.
    """

    effective: tuple[tuple[float | None, ...], ...]
    occupied: tuple[tuple[float | None, ...], ...]
    changed: tuple[tuple[int, int], ...]
    weekday_effective: float | None
    weekend_effective: float | None


class DayLine(NamedTuple):
    """Where the GPU time of one local day went."""

    start_ms: int
    elapsed_ms: Mapping[State, int]
    busy_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatLine:
    """One GPU whose clocks were lowered, or that was hot. `lost_ms` estimates the time that heat cost."""

    uuid: str
    node: str
    index: int | None
    model: str
    throttle_ms: Mapping[str, int]
    lost_ms: int | None
    temperature_max_celsius: float | None
    margin_least_celsius: float | None
    power_max_watts: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of the window: what was seen, of it without work, the peak, and carbon by what intensity.

    `peak_kilowatts` is the mean of the hour that drew most.
    """

    kwh: float | None
    idle_kwh: float | None
    seen_ratio: float | None
    kwh_with_overhead: float | None
    pue_ratio: float
    carbon_kg: float | None
    carbon_grams_per_kwh: float | None
    carbon_source: str
    peak_kilowatts: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How often GPUs failed, and for how long; means are None without an incident."""

    incidents: int
    down_ms: int
    between_failures_hours: float | None
    to_repair_hours: float | None
    xids: Mapping[int, int]
    lines: tuple["SickLine", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SickLine:
    """One GPU that failed: what was found, and whether it should go back to who sold it."""

    uuid: str
    serial: str
    node: str
    model: str
    down_ms: int
    incidents: int
    rules: tuple[str, ...]
    xids: Mapping[int, int]
    replace: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetLine:
    """One GPU of the register. `moves` are its places before, as (node, from_ms, to_ms), oldest first."""

    uuid: str
    serial: str
    model: str
    node: str
    index: int | None
    since_ms: int
    first_seen_ms: int
    last_seen_ms: int
    seen_ms: int
    active_ms: int
    state: str
    moves: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastLine:
    """When demand of a group will pass what is usable of it, by the trend of its weeks; 80 % interval.

    Moments are None where the trend never gets there within three years. `reclaimed_ms` is the moment if idle
    time had been won back.
    """

    group: Group
    weeks: int
    demand: tuple[tuple[int, float], ...]
    slope_per_week: float
    limit: float
    crossing_ms: int | None
    crossing_early_ms: int | None
    crossing_late_ms: int | None
    reclaimed_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeQuality:
    """How well one node was seen."""

    node: str
    inventory_ms: int
    unknown_ms: int
    coverage_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What to distrust: the nodes that were seen worst, and sentences about the rest."""

    nodes: tuple[NodeQuality, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """All of them. What a source cannot tell is empty or None; `absent` says why, by the section's name.

    `last` is the window compared with, which need not be the one before. A section that is absent may
    nevertheless tell a part: scores without a week to compare with.
    """

    scores: tuple[Score, ...] = ()
    last: Window | None = None
    bridge: tuple[Step, ...] = ()
    groups: tuple[GroupLine, ...] = ()
    days: tuple[DayLine, ...] = ()
    capacity: tuple[CapacityLine, ...] = ()
    fragments: tuple[FragmentLine, ...] = ()
    waste: tuple[WasteLine, ...] = ()
    sizes: tuple[SizeLine, ...] = ()
    heat_map: HeatMap | None = None
    heat: tuple[HeatLine, ...] = ()
    energy: Energy | None = None
    reliability: Reliability | None = None
    assets: tuple[AssetLine, ...] = ()
    forecast: tuple[ForecastLine, ...] = ()
    quality: Quality = Quality()
    absent: Mapping[str, str] = field(default_factory=dict)
