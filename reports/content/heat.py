"""What heat and power cost: GPUs whose clocks were lowered or that were hot, energy, and carbon.

Clocks that are lowered for the power cap, for want of work or by the board's own limits are normal and put no
GPU on the list; heat and the power brake do. Temperatures are judged by their margin alone: what is hot for
one board is nothing for another.
"""

from collections import Counter
from collections.abc import Sequence

from agent.tally import HOUR_MS
from agent.tick import State
from reports.facts import Facts
from reports.outline import Report
from reports.prices import Carbon
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


def energy(report: Report, facts: Facts) -> Energy:
    """Sum up the energy that was seen, with the overhead of the building and the carbon of both."""
    whole, pue = report.sums.total, report.prices.pue_ratio
    kwh = whole.energy_mj / MILLIJOULES_PER_KWH if whole.energy_seen_ms else None
    workless = [report.sums.by_state[state] for state in WORKLESS]
    idle_seen = any(amounts.energy_seen_ms for amounts in workless)
    idle_kwh = sum(amounts.energy_mj for amounts in workless) / MILLIJOULES_PER_KWH if idle_seen else None
    known = [one for one in report.prices.carbon.values() if one is not None]
    sources = dict.fromkeys(one.source for one in known if one.source)
    carbon_kg = _carbon_kg(report) if known and kwh is not None else None
    return Energy(
        kwh=kwh,
        idle_kwh=idle_kwh,
        seen_ratio=report.energy_seen_ratio,
        kwh_with_overhead=None if kwh is None else kwh * pue,
        pue_ratio=pue,
        carbon_kg=carbon_kg,
        carbon_grams_per_kwh=_grams(known, carbon_kg, kwh, pue),
        carbon_source="; ".join(sources),
        peak_kilowatts=_peak_kilowatts(report, facts),
    )


def _carbon_kg(report: Report) -> float | None:
    """Add up the carbon of each part of the window; None where it is not known of one that drew energy."""
    energy_mj: Counter[int] = Counter()
    for row in report.accounts:
        energy_mj[row.since_ms] += row.amounts.energy_mj
    total = 0.0
    for since_ms, drawn_mj in energy_mj.items():
        carbon = report.prices.carbon.get(since_ms)
        if carbon is None:
            if drawn_mj:
                return None
        else:
            kwh = drawn_mj / MILLIJOULES_PER_KWH * report.prices.pue_ratio
            total += kwh * carbon.grams_per_kwh / 1000
    return total


def _grams(known: Sequence[Carbon], carbon_kg: float | None, kwh: float | None, pue: float) -> float | None:
    """Give the carbon of a kWh, in the mean where it changed within the window."""
    if len({one.grams_per_kwh for one in known}) == 1:
        return known[0].grams_per_kwh
    return carbon_kg * 1000 / (kwh * pue) if carbon_kg is not None and kwh else None


def _peak_kilowatts(report: Report, facts: Facts) -> float | None:
    """Give the mean power of the hour that drew most, of those that lie wholly in the accounted time."""
    covered = report.covered
    by_hour: Counter[int] = Counter()
    for row in facts.hours:
        inside = covered.from_ms <= row.hour_ms and row.hour_ms + HOUR_MS <= covered.to_ms
        if inside and row.amounts.energy_seen_ms:
            by_hour[row.hour_ms] += row.amounts.energy_mj
    return max(by_hour.values()) / MILLIJOULES_PER_KWH if by_hour else None
