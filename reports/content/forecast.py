"""When demand will outgrow what there is: the trend of what was held of each group, week by week.

Demand of a week is the 95th percentile of its hours, in GPUs; the trend is that of Theil and Sen (trend.py),
from six weeks on. What counts as full is 85 % of what is usable this week. The crossing is where the trend
passes that; the early and the late one are those of the ends of the slope's 80 % interval. Nothing is told
beyond three years. Weeks that were not seen well are left out, since their demand was not.

The other scenario has all idle time won back: each week's demand is less by the idle share of what was held.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.capacity import capacity
from reports.content.groups import groups
from reports.content.past import coverage, nearly_whole, well_covered
from reports.content.trend import Point, level, trend
from reports.facts import Facts
from reports.outline import Report
from reports.sections import CapacityLine, ForecastLine, GroupLine
from reports.sums import HELD_BY_SOMEONE, ratio
from reports.window import Window

LEAST_WEEKS = 6
FULL = 0.85
WEEK_MS = 168 * HOUR_MS
HORIZON_MS = 1096 * 24 * HOUR_MS


class _Demand(NamedTuple):
    """The demand of one week, in GPUs: as it was, and had no idle time been held."""

    window: Window
    held: float
    needed: float


def forecast(report: Report, facts: Facts) -> tuple[ForecastLine, ...]:
    """Give a line for each group with enough weeks, the one that is full first in front.

    There is none for windows that are not about a week long.
    """
    if not is_week(report.window):
        return ()
    now = {line.group: line for line in groups(report, facts)}
    lines = []
    for line in capacity(report, facts):
        weeks = sorted(_demand(report, facts, line, now.get(line.group)), key=lambda one: one.window.from_ms)
        if len(weeks) >= LEAST_WEEKS and line.usable > 0:
            lines.append(_line(line, weeks, report.window.to_ms))
    far_ms = report.window.to_ms + 2 * HORIZON_MS
    return tuple(
        sorted(lines, key=lambda one: (far_ms if one.crossing_ms is None else one.crossing_ms, one.group))
    )


def is_week(window: Window) -> bool:
    """Tell whether a window is a week, with the hour that clocks may take or give."""
    return abs(window.to_ms - window.from_ms - WEEK_MS) <= HOUR_MS


def _demand(report: Report, facts: Facts, line: CapacityLine, now: GroupLine | None) -> Iterator[_Demand]:
    if now is not None and nearly_whole(report) and well_covered(coverage(now.elapsed_ms, now.inventory_ms)):
        idle_ratio = _idle_ratio(now.elapsed_ms)
        yield _Demand(report.window, line.held_p95, line.held_p95 * (1 - idle_ratio))
    for week in facts.weeks:
        told = week.groups.get(line.group)
        if told is None or told.held_p95 is None or not is_week(week.window):
            continue
        if well_covered(coverage(told.elapsed_ms, told.owed_ms)):
            yield _Demand(week.window, told.held_p95, told.held_p95 * (1 - _idle_ratio(told.elapsed_ms)))


def _idle_ratio(elapsed_ms: Mapping[State, int]) -> float:
    held_ms = sum(elapsed_ms.get(state, 0) for state in HELD_BY_SOMEONE)
    return ratio(elapsed_ms.get(State.HELD_IDLE, 0), held_ms) or 0.0


def _line(line: CapacityLine, weeks: list[_Demand], now_ms: int) -> ForecastLine:
    held = [Point(_place(one.window, now_ms), one.held) for one in weeks]
    needed = [Point(_place(one.window, now_ms), one.needed) for one in weeks]
    found, limit = trend(held), FULL * line.usable
    return ForecastLine(
        group=line.group,
        weeks=len(weeks),
        demand=tuple((one.window.from_ms, one.held) for one in weeks),
        slope_per_week=found.slope,
        limit=limit,
        crossing_ms=_crossing_ms(held, found.slope, limit, now_ms),
        crossing_early_ms=_crossing_ms(held, found.high, limit, now_ms),
        crossing_late_ms=_crossing_ms(held, found.low, limit, now_ms),
        reclaimed_ms=_crossing_ms(needed, trend(needed).slope, limit, now_ms),
    )


def _place(window: Window, now_ms: int) -> float:
    """Give the middle of a window, in weeks before now."""
    return ((window.from_ms + window.to_ms) / 2 - now_ms) / WEEK_MS


def _crossing_ms(points: list[Point], slope: float, limit: float, now_ms: int) -> int | None:
    """Tell when the line reaches the limit: now where it has, None where it does not within the horizon."""
    reached = level(points, slope, 0.0)
    if reached >= limit:
        return now_ms
    if slope <= 0 or limit - reached > slope * (HORIZON_MS / WEEK_MS):
        return None
    return now_ms + round((limit - reached) / slope * WEEK_MS)
