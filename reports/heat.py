"""What heat and power cost: GPUs whose clocks were lowered or that were hot, energy, and carbon.

Clocks that are lowered for the power cap, for want of work or by the board's own limits are normal and put no
GPU on the list; heat and the power brake do. Temperatures are judged by their margin alone: what is hot for
one board is nothing for another.
"""

from collections import Counter
from math import isfinite

from agent.errors import ReportError
from agent.tally import HOUR_MS
from agent.tick import State
from reports.facts import Facts
from reports.outline import Report
from reports.sections import Energy, HeatLine

THERMAL = ("sw_thermal", "hw_thermal")
"""Reasons for lowered clocks that are heat; they may overlap, their sum counts such time twice."""
ALARMING = (*THERMAL, "power_brake")
HOT_MARGIN_CELSIUS = 5.0
MILLIJOULES_PER_KWH = 3.6e9
WORKLESS = (State.HELD_GAP, State.HELD_IDLE, State.FREE, State.DRAINED, State.DOWN)
"""States in which a GPU draws power and does not work; what it did in unknown time nobody knows."""


def thermal_ms(facts: Facts) -> int | None:
    """Add up the time with clocks lowered for heat; None where no GPU tells of it."""
    told = [gpu.throttle_ms for gpu in facts.gpus.values() if not gpu.throttle_ms.keys().isdisjoint(THERMAL)]
    return sum(reasons.get(reason, 0) for reasons in told for reason in THERMAL) if told else None


def heat(report: Report, facts: Facts) -> tuple[HeatLine, ...]:
    """Name the GPUs that heat or the power brake slowed down, or nearly did; the worst first."""
    lines = []
    for seat in report.gpus:
        gpu = facts.gpus.get((seat.uuid, seat.node))
        if gpu is None:
            continue
        slowed = any(gpu.throttle_ms.get(reason, 0) > 0 for reason in ALARMING)
        margin = gpu.margin_least_celsius
        if slowed or (margin is not None and margin <= HOT_MARGIN_CELSIUS):
            lines.append(
                HeatLine(
                    uuid=seat.uuid,
                    node=seat.node,
                    index=seat.index,
                    model=seat.model,
                    throttle_ms={reason: ms for reason, ms in sorted(gpu.throttle_ms.items()) if ms},
                    lost_ms=gpu.heat_lost_ms,
                    temperature_max_celsius=gpu.temperature_max_celsius,
                    margin_least_celsius=margin,
                    power_max_watts=gpu.power_max_watts,
                )
            )
    return tuple(sorted(lines, key=_order))


def _order(line: HeatLine) -> tuple[int, int, float, str, str]:
    slowed_ms = sum(line.throttle_ms.get(reason, 0) for reason in THERMAL)
    margin = line.margin_least_celsius
    return (
        -slowed_ms,
        -(line.lost_ms or 0),
        HOT_MARGIN_CELSIUS if margin is None else margin,
        line.node,
        line.uuid,
    )


def energy(
    report: Report, facts: Facts, pue: float, grams_per_kwh: float | None, carbon_source: str
) -> Energy:
    """Sum up the energy that was seen, with the overhead of the building and the carbon of both.

    `pue` is the energy of the building over that of its computers. Raises ReportError for one below 1, and
    for a carbon intensity below 0.
    """
    if not (isfinite(pue) and pue >= 1):
        raise ReportError(f"the PUE must be a number from 1 on, not {pue}")
    if grams_per_kwh is not None and not (isfinite(grams_per_kwh) and grams_per_kwh >= 0):
        raise ReportError(f"the carbon intensity must be a number of g/kWh from 0 on, not {grams_per_kwh}")
    whole = report.sums.total
    kwh = whole.energy_mj / MILLIJOULES_PER_KWH if whole.energy_seen_ms else None
    workless = [report.sums.by_state[state] for state in WORKLESS]
    idle_seen = any(amounts.energy_seen_ms for amounts in workless)
    idle_kwh = sum(amounts.energy_mj for amounts in workless) / MILLIJOULES_PER_KWH if idle_seen else None
    gross_kwh = None if kwh is None else kwh * pue
    known = gross_kwh is not None and grams_per_kwh is not None
    return Energy(
        kwh=kwh,
        idle_kwh=idle_kwh,
        seen_ratio=report.energy_seen_ratio,
        kwh_with_overhead=gross_kwh,
        pue_ratio=pue,
        carbon_kg=(gross_kwh or 0.0) * (grams_per_kwh or 0.0) / 1000 if known else None,
        carbon_grams_per_kwh=grams_per_kwh,
        carbon_source=carbon_source,
        peak_kilowatts=_peak_kilowatts(report, facts),
    )


def _peak_kilowatts(report: Report, facts: Facts) -> float | None:
    """Give the mean power of the hour that drew most, of those that lie wholly in the accounted time."""
    covered = report.covered
    by_hour: Counter[int] = Counter()
    for row in facts.hours:
        inside = covered.from_ms <= row.hour_ms and row.hour_ms + HOUR_MS <= covered.to_ms
        if inside and row.amounts.energy_seen_ms:
            by_hour[row.hour_ms] += row.amounts.energy_mj
    return max(by_hour.values()) / MILLIJOULES_PER_KWH if by_hour else None
