"""The sections of the sample: what sums can be taken from its report is, the rest are believable values."""

from collections import defaultdict
from collections.abc import Iterable
from math import cos, pi

from agent.tally import DAY_MS, HOUR_MS
from agent.tick import State
from reports.outline import GpuLine, Report
from reports.sections import (
    AssetLine,
    CapacityLine,
    DayLine,
    Energy,
    Fit,
    ForecastLine,
    FragmentLine,
    Group,
    GroupLine,
    HeatLine,
    HeatMap,
    NodeQuality,
    Quality,
    Reliability,
    Score,
    Sections,
    SickLine,
    SizeLine,
    Step,
    Unit,
    Verdict,
    WasteLine,
)
from reports.sums import ratio
from reports.window import Window
from tests.reports.sample import WEEK_MS

GIB = 2.0**30


def sample_sections(report: Report) -> Sections:
    """Make all sections of a report of the sample."""
    groups = _groups(report)
    last = Window(
        from_ms=report.window.from_ms - WEEK_MS,
        to_ms=report.window.from_ms,
        timezone=report.window.timezone,
        label="week 2026-W46",
    )
    return Sections(
        scores=_scores(report),
        last=last,
        bridge=_bridge(report, groups),
        groups=groups,
        days=_days(report),
        capacity=tuple(_capacity(report, line) for line in groups),
        fragments=tuple(_fragment(line) for line in groups),
        waste=_waste(report),
        sizes=_sizes(report),
        heat_map=_heat_map(),
        heat=_heat(report),
        energy=_energy(report),
        reliability=_reliability(report),
        assets=tuple(_asset(report, line) for line in report.gpus),
        forecast=tuple(_forecast(report, line, at) for at, line in enumerate(groups)),
        quality=_quality(report),
        absent={"queue": "demand that waits is known to a scheduler only, and none was asked"},
    )


def _pool(line: GpuLine) -> str:
    return line.node.split("-")[0]


def _groups(report: Report) -> tuple[GroupLine, ...]:
    members: defaultdict[Group, list[GpuLine]] = defaultdict(list)
    for line in report.gpus:
        members[Group(_pool(line), line.model)].append(line)
    found = []
    for group, lines in sorted(members.items()):
        elapsed = {state: sum(line.sums.elapsed_ms(state) for line in lines) for state in State}
        busy_us = sum(line.sums.total.busy_us for line in lines)
        found.append(
            GroupLine(
                group=group,
                gpus=len({line.uuid for line in lines}),
                inventory_ms=sum(line.inventory_ms for line in lines),
                elapsed_ms=elapsed,
                busy_ratio_mean=ratio(busy_us / 1000, sum(line.sums.total.busy_seen_ms for line in lines)),
                cost=_added(line.cost for line in lines),
            )
        )
    return tuple(found)


def _added(costs: Iterable[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


def _scores(report: Report) -> tuple[Score, ...]:
    whole = report.sums
    owed_ms = report.inventory.gpu_ms
    held_ms = whole.elapsed_ms(State.ACTIVE, State.HELD_GAP, State.HELD_IDLE)
    active_ms, idle_ms = whole.elapsed_ms(State.ACTIVE), whole.elapsed_ms(State.HELD_IDLE)
    idle_cost = None if report.price_per_gpu_hour is None else idle_ms / HOUR_MS * report.price_per_gpu_hour
    kwh = (whole.total.joules or 0) / 3.6e6
    rows: tuple[tuple[str, str, Unit, float | None, float, Verdict], ...] = (
        ("availability", "neither down nor drained, of the inventory", "ratio", 0.9892, 1.004, "worse"),
        (
            "coverage",
            "seen, of the time that GPUs were not down",
            "ratio",
            report.coverage_ratio,
            1.0008,
            "same",
        ),
        (
            "occupancy",
            "held, of the time in which they could be",
            "ratio",
            held_ms / owed_ms,
            0.982,
            "better",
        ),
        ("activity", "active, of the time held", "ratio", active_ms / held_ms, 0.968, "better"),
        ("effective", "busy time, of the inventory", "ratio", report.effective_ratio.low, 0.951, "better"),
        ("idle_share", "held idle, of the inventory", "ratio", idle_ms / owed_ms, 1.13, "better"),
        ("idle_cost", "cost of the time held idle", "money", idle_cost, 1.13, "better"),
        ("energy", "energy that was seen", "kwh", kwh, 0.97, "unknown"),
        ("throttled", "GPU-hours with clocks lowered for heat", "gpu_hours", 212.4, 0.71, "worse"),
        ("incidents", "failures of GPUs", "count", 4.0, 0.5, "worse"),
    )
    return tuple(
        Score(
            name=name,
            meaning=meaning,
            unit=unit,
            value=value,
            last=None if value is None else value * was,
            mean4=None if value is None else value * (1 + was) / 2,
            noise=None if value is None else abs(value) * 0.012,
            verdict=verdict,
        )
        for name, meaning, unit, value, was, verdict in rows
    )


def _bridge(report: Report, groups: tuple[GroupLine, ...]) -> tuple[Step, ...]:
    active_ms = report.sums.elapsed_ms(State.ACTIVE)
    moves = [Step(kind="inventory", group=None, gpu_ms=1_344 * HOUR_MS)]
    for at, line in enumerate(groups):
        moves.append(Step(kind="mix", group=line.group, gpu_ms=(-310, 190, 60)[at % 3] * HOUR_MS))
    moves.append(Step(kind="coverage", group=None, gpu_ms=-180 * HOUR_MS))
    for at, line in enumerate(groups):
        moves.append(Step(kind="rate", group=line.group, gpu_ms=(905, -420, 260)[at % 3] * HOUR_MS))
    was_ms = active_ms - sum(step.gpu_ms for step in moves)
    return (
        Step(kind="last", group=None, gpu_ms=was_ms),
        *moves,
        Step(kind="this", group=None, gpu_ms=active_ms),
    )


def _days(report: Report) -> tuple[DayLine, ...]:
    """Cut the week into days; at the weekend some of what was active is free."""
    found = []
    for day in range(7):
        elapsed = {state: report.sums.elapsed_ms(state) // 7 for state in State}
        moved_ms = elapsed[State.ACTIVE] * (-3, -4, -2, -3, 0, 5, 7)[day] // 40
        elapsed[State.ACTIVE] -= moved_ms
        elapsed[State.FREE] += moved_ms
        start_ms = report.window.from_ms + day * DAY_MS
        found.append(DayLine(start_ms, elapsed, int(elapsed[State.ACTIVE] * 0.8)))
    return tuple(found)


def _capacity(report: Report, line: GroupLine) -> CapacityLine:
    gpus = line.inventory_ms / WEEK_MS
    held_ms = sum(line.elapsed_ms[state] for state in (State.ACTIVE, State.HELD_GAP, State.HELD_IDLE))
    mean = held_ms / WEEK_MS
    usable = gpus - line.elapsed_ms[State.DOWN] / WEEK_MS - line.elapsed_ms[State.DRAINED] / WEEK_MS
    p95, p99, peak = (min(usable, mean * factor) for factor in (1.08, 1.11, 1.14))
    return CapacityLine(
        group=line.group,
        gpus=gpus,
        usable=usable,
        held_mean=mean,
        held_p95=p95,
        held_p99=p99,
        peak=peak,
        peak_ms=report.window.from_ms + 62 * HOUR_MS,
        headroom=usable - p95,
        returnable=int(usable - p99),
    )


def _fragment(line: GroupLine) -> FragmentLine:
    """Let what is free lie on nodes of eight, three and more on each."""
    free_ms = line.elapsed_ms[State.FREE]
    free_mean = free_ms * 0.9 / WEEK_MS
    ratios = {1: 1.0, 2: 0.98, 4: 0.61, 8: 0.12}
    return FragmentLine(
        group=line.group,
        node_gpus=8,
        free_mean=free_mean,
        pieces_ms=free_ms // 10,
        largest_p50=4,
        largest_p5=2,
        fits=tuple(
            Fit(size, free_mean * ratio / size, ratio, int(free_ms * 0.9 * (1 - ratio)))
            for size, ratio in ratios.items()
        ),
    )


def _waste(report: Report) -> tuple[WasteLine, ...]:
    spells = {line.spell.owner: line for line in reversed(report.spells)}
    found = []
    for rank, line in enumerate(report.owners):
        idle_ms = line.sums.elapsed_ms(State.HELD_IDLE)
        if not idle_ms:
            continue
        spell = spells.get(line.owner)
        found.append(
            WasteLine(
                owner=line.owner,
                idle_ms=idle_ms,
                share_ratio=idle_ms / report.inventory.gpu_ms,
                cost=line.idle_cost,
                idle_last_ms=None if rank == 5 else idle_ms * (70 + 13 * rank) // 100,
                weeks=max(1, 6 - rank),
                holder=spell.spell.holder if spell else f"{480_000 + rank}",
                node=spell.node if spell else "",
                uuid=spell.spell.uuid if spell else "",
                spell_ms=spell.spell.seen_ms if spell else None,
                memory_bytes=None if rank % 4 == 3 else (11.5 + 7 * rank) * GIB,
            )
        )
    return tuple(found)


def _sizes(report: Report) -> tuple[SizeLine, ...]:
    price = report.price_per_gpu_hour
    advice = (
        "a slice 1g.18gb would do",
        "a smaller model would do",
        "6 of 8 GPUs were never used",
        "a slice 2g.35gb would do",
    )
    found = []
    for rank, line in enumerate(report.gpus[::41][:9]):
        saving_ms = (9 - rank) * 31 * HOUR_MS
        found.append(
            SizeLine(
                owner=report.owners[rank % len(report.owners)].owner,
                holder=f"{512_004 + 211 * rank}",
                model=line.model,
                gpu_ms=saving_ms * 8 // 6,
                activity_mean=0.021 + 0.017 * rank,
                memory_max_bytes=(4.2 + 2.6 * rank) * GIB,
                advice=advice[rank % len(advice)],
                saving_ms=saving_ms,
                cost=None if price is None else saving_ms / HOUR_MS * price,
            )
        )
    return tuple(found)


def _heat_map() -> HeatMap:
    def level(day: int, hour: int, low: float, high: float) -> float:
        work = (1 - cos(2 * pi * (hour - 4) / 24)) / 2
        return low + (high - low) * work * (0.45 if day > 4 else 1)

    effective = tuple(tuple(level(day, hour, 0.34, 0.71) for hour in range(24)) for day in range(7))
    occupied = tuple(
        tuple(None if (day, hour) == (6, 3) else level(day, hour, 0.61, 0.98) for hour in range(24))
        for day in range(7)
    )
    return HeatMap(
        effective=effective,
        occupied=occupied,
        changed=((6, 2),),
        weekday_effective=0.561,
        weekend_effective=0.432,
    )


def _heat(report: Report) -> tuple[HeatLine, ...]:
    found = []
    for rank, line in enumerate(report.gpus[5::29][:12]):
        found.append(
            HeatLine(
                uuid=line.uuid,
                node=line.node,
                index=line.index,
                model=line.model,
                throttle_ms={
                    "sw_thermal": (14 - rank) * HOUR_MS,
                    "sw_power_cap": (22 - rank) * HOUR_MS // 2,
                    **({"hw_thermal": HOUR_MS // 7} if rank < 2 else {}),
                },
                lost_ms=None if rank == 3 else (14 - rank) * HOUR_MS // 9,
                temperature_max_celsius=88.0 - rank,
                margin_least_celsius=-1.0 + rank,
                power_max_watts=701.2 - 3 * rank,
            )
        )
    return tuple(found)


def _energy(report: Report) -> Energy:
    kwh = (report.sums.total.joules or 0) / 3.6e6
    return Energy(
        kwh=kwh,
        idle_kwh=kwh * 0.071,
        seen_ratio=report.energy_seen_ratio,
        kwh_with_overhead=kwh * 1.24,
        pue_ratio=1.24,
        carbon_kg=kwh * 1.24 * 0.344,
        carbon_grams_per_kwh=344.0,
        carbon_source="mean of the grid of Germany in 2025, a setting",
        peak_kilowatts=kwh / 168 * 1.19,
    )


def _reliability(report: Report) -> Reliability:
    down = [line for line in report.gpus if line.sums.elapsed_ms(State.DOWN)]
    lines = tuple(
        SickLine(
            uuid=line.uuid,
            serial=line.serial,
            node=line.node,
            model=line.model,
            down_ms=line.sums.elapsed_ms(State.DOWN),
            incidents=1 + rank % 3,
            rules=("gpu_down", "row_remap_failure") if rank % 2 else ("gpu_down",),
            xids={79: 1, 63: 4} if rank % 2 else {79: 2},
            replace=rank % 2 == 1,
        )
        for rank, line in enumerate(down)
    )
    down_ms = sum(line.down_ms for line in lines)
    incidents = sum(line.incidents for line in lines)
    return Reliability(
        incidents=incidents,
        down_ms=down_ms,
        between_failures_hours=report.inventory.gpu_ms / HOUR_MS / incidents if incidents else None,
        to_repair_hours=down_ms / HOUR_MS / incidents if incidents else None,
        xids={79: 6, 63: 8, 31: 22, 94: 1},
        lines=lines,
    )


def _asset(report: Report, line: GpuLine) -> AssetLine:
    moved = (line.index or 0) == 6 and line.node.endswith("5")
    born_ms = report.window.from_ms - 5 * WEEK_MS
    since_ms = report.window.from_ms - 2 * WEEK_MS if moved else born_ms
    return AssetLine(
        uuid=line.uuid,
        serial=line.serial,
        model=line.model,
        node=line.node,
        index=line.index,
        since_ms=since_ms,
        first_seen_ms=born_ms,
        last_seen_ms=report.window.to_ms,
        seen_ms=6 * WEEK_MS - line.sums.elapsed_ms(State.DOWN, State.UNKNOWN),
        active_ms=6 * line.sums.elapsed_ms(State.ACTIVE),
        state=State.DOWN.value if line.sums.elapsed_ms(State.DOWN) > 60 * HOUR_MS else State.ACTIVE.value,
        moves=((f"{_pool(line)}-spare", born_ms, since_ms),) if moved else (),
    )


def _forecast(report: Report, line: GroupLine, rank: int) -> ForecastLine:
    gpus = line.inventory_ms / WEEK_MS
    end_ms = report.window.to_ms
    slope = (1.4, 0.35, -0.2)[rank % 3]
    weeks = 6
    demand = tuple(
        (
            end_ms - (weeks - at) * WEEK_MS,
            gpus * 0.82 - slope * (weeks - at) + (0.9, -0.6, 0.2, -1.1, 0.7, 0)[at],
        )
        for at in range(weeks)
    )
    crosses = slope > 0
    weeks_left = int((gpus * 0.85 - demand[-1][1]) / slope) if crosses else 0
    return ForecastLine(
        group=line.group,
        weeks=weeks,
        demand=demand,
        slope_per_week=slope,
        limit=gpus * 0.85,
        crossing_ms=end_ms + weeks_left * WEEK_MS if crosses else None,
        crossing_early_ms=end_ms + max(1, weeks_left // 2) * WEEK_MS if crosses else None,
        crossing_late_ms=end_ms + weeks_left * 2 * WEEK_MS if slope > 1 else None,
        reclaimed_ms=end_ms + (weeks_left + 9) * WEEK_MS if crosses else None,
    )


def _quality(report: Report) -> Quality:
    lines: defaultdict[str, list[GpuLine]] = defaultdict(list)
    for line in report.gpus:
        lines[line.node].append(line)
    nodes = [
        NodeQuality(
            node=node,
            inventory_ms=sum(line.inventory_ms for line in held),
            unknown_ms=sum(line.sums.elapsed_ms(State.UNKNOWN) for line in held),
            coverage_ratio=ratio(
                sum(line.inventory_ms - line.sums.elapsed_ms(State.UNKNOWN) for line in held),
                sum(line.inventory_ms for line in held),
            ),
        )
        for node, held in lines.items()
    ]
    nodes.sort(key=lambda one: (-one.unknown_ms, one.node))
    return Quality(
        nodes=tuple(nodes[:20]),
        remarks=(
            "312 values were refused, most of them memory_temperature_celsius of NVIDIA A100-SXM4-80GB",
            "the clock of hall2-n031 was 4.2 s behind for 3 h",
        ),
    )
