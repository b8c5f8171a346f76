"""The forecast: a trend of six weeks or more, when it is full, and how much later without idle time."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.forecast import HORIZON_MS, forecast
from reports.facts import Facts, Week
from reports.sections import ForecastLine
from reports.window import Window
from tests.reports.made import H200, WEEK, WEEK_MS, Did, before, hour, made

GPUS = 100
HELD = {H200: {State.ACTIVE: 168.0}}


def lines(
    demand: Sequence[float], usable: float = GPUS, *, idle: float = 0.0, skip: int = 0
) -> list[ForecastLine]:
    """Forecast from weekly demands, oldest first, this week's last; idle is a share of all that was held."""
    *past, now = demand
    hours = {State.ACTIVE: 168.0 * (1 - idle), State.HELD_IDLE: 168.0 * idle}
    weeks = [
        before(number, {H200: hours}, p95=p95)
        for number, p95 in enumerate(reversed(past), 1)
        if number != skip
    ]
    rows = [hour(n, State.ACTIVE, now) for n in range(168)]
    rows += [hour(n, State.FREE, usable - now) for n in range(168)]
    report = made(Did("A", hours, owner="a"))
    return list(forecast(report, Facts(hours=tuple(rows), weeks=tuple(weeks))))


def in_weeks(moment_ms: int | None) -> float | None:
    """Tell how many weeks after the end of the window."""
    return None if moment_ms is None else (moment_ms - WEEK.to_ms) / WEEK_MS


def test_a_steady_rise_is_full_when_it_is() -> None:
    """50 to 60 GPUs by 2 a week; 61 at the end of this week; 85 is 12 weeks on."""
    (line,) = lines([50, 52, 54, 56, 58, 60])
    assert (line.weeks, line.slope_per_week, line.limit) == (6, 2.0, 85.0)
    assert in_weeks(line.crossing_ms) == pytest.approx(12.0)
    assert line.crossing_early_ms == line.crossing_ms == line.crossing_late_ms
    starts = [WEEK.from_ms - number * WEEK_MS for number in range(5, -1, -1)]
    assert list(line.demand) == list(zip(starts, (50, 52, 54, 56, 58, 60), strict=True))


def test_five_weeks_are_too_few() -> None:
    """No trend of less than six."""
    assert lines([50, 52, 54, 56, 58]) == []


def test_a_missing_week_leaves_a_hole_and_no_bend() -> None:
    """Seven weeks less one: the slope is by time, not by number."""
    (line,) = lines([48, 50, 52, 54, 56, 58, 60], skip=3)
    assert (line.weeks, line.slope_per_week) == (6, 2.0)
    assert in_weeks(line.crossing_ms) == pytest.approx(12.0)


def test_badly_covered_weeks_are_left_out() -> None:
    """Their demand was not seen: with one of six gone there are too few."""
    weeks = [before(number, HELD, p95=50.0) for number in range(1, 5)]
    poor = before(5, {H200: {State.ACTIVE: 100.0, State.UNKNOWN: 68.0}}, p95=50.0)
    good = before(5, HELD, p95=50.0)
    rows = tuple(hour(n, State.ACTIVE, 50.0) for n in range(168))
    report = made(Did("A", {State.ACTIVE: 168.0}, owner="a"))

    def told(week: Week) -> int:
        return len(forecast(report, Facts(hours=rows, weeks=(*weeks, week))))

    assert (told(poor), told(good)) == (0, 1)


def test_a_falling_demand_is_never_full() -> None:
    """Nor one that does not move."""
    (falls,) = lines([60, 58, 56, 54, 52, 50])
    (stands,) = lines([60, 60, 60, 60, 60, 60])
    for line in (falls, stands):
        assert (line.crossing_ms, line.crossing_early_ms, line.crossing_late_ms) == (None, None, None)


def test_beyond_three_years_nothing_is_told() -> None:
    """From 50 to 85 GPUs at 0.2 a week are 175 weeks; at 0.3 they are 116."""
    assert lines([49.0, 49.2, 49.4, 49.6, 49.8, 50.0])[0].crossing_ms is None
    assert lines([48.5, 48.8, 49.1, 49.4, 49.7, 50.0])[0].crossing_ms is not None


def test_what_is_full_is_full_now() -> None:
    """90 of 100 GPUs."""
    (line,) = lines([90, 90, 90, 90, 90, 90])
    assert (line.crossing_ms, line.crossing_late_ms) == (WEEK.to_ms, WEEK.to_ms)


def test_an_unsteady_rise_has_an_interval() -> None:
    """By 1 a week, and by 8 or by -5 at the ends: the late end is out of sight."""
    (line,) = lines([50, 60, 40, 62, 45, 64])
    assert line.crossing_early_ms is not None
    assert line.crossing_ms is not None
    assert line.crossing_early_ms < line.crossing_ms
    assert line.crossing_late_ms is None
    assert line.slope_per_week == 1.0


def test_idle_time_won_back_moves_the_moment() -> None:
    """Half of what was held was idle: 25 to 30 GPUs by 1 a week, 30.5 at the end, 54.5 weeks to 85."""
    (line,) = lines([50, 52, 54, 56, 58, 60], idle=0.5)
    assert in_weeks(line.crossing_ms) == pytest.approx(12.0)
    assert in_weeks(line.reclaimed_ms) == pytest.approx(54.5)


def test_a_day_is_no_week() -> None:
    """A trend of days is not one of weeks."""
    day = Window(from_ms=WEEK.from_ms, to_ms=WEEK.from_ms + 24 * HOUR_MS)
    report = made(Did("A", {State.ACTIVE: 24.0}, owner="a"), window=day)
    rows = tuple(hour(n, State.ACTIVE, 50.0) for n in range(24))
    weeks = tuple(before(number, HELD, p95=50.0) for number in range(1, 9))
    assert forecast(report, Facts(hours=rows, weeks=weeks)) == ()


def test_a_week_without_a_percentile_is_no_point() -> None:
    """A source that cannot tell it for one week leaves it out."""
    weeks = [before(number, HELD, p95=50.0) for number in range(1, 6)]
    told = {group: replace(week, held_p95=None) for group, week in weeks[2].groups.items()}
    weeks[2] = replace(weeks[2], groups=told)
    rows = tuple(hour(n, State.ACTIVE, 50.0) for n in range(168))
    report = made(Did("A", {State.ACTIVE: 168.0}, owner="a"))
    assert forecast(report, Facts(hours=rows, weeks=tuple(weeks))) == ()


@given(st.lists(st.integers(0, 100), min_size=6, max_size=12), st.floats(0, 0.9))
def test_early_comes_before_late(demand: list[int], idle: float) -> None:
    """Never earlier than now or later than three years; what is won back brings no moment nearer."""
    (line,) = lines([float(one) for one in demand], idle=idle)
    never = WEEK.to_ms + 2 * HORIZON_MS
    early, middle, late = (
        never if moment is None else moment
        for moment in (line.crossing_early_ms, line.crossing_ms, line.crossing_late_ms)
    )
    assert WEEK.to_ms <= early <= middle <= late
    told = [one for one in (line.crossing_early_ms, line.crossing_ms, line.crossing_late_ms) if one]
    assert all(one <= WEEK.to_ms + HORIZON_MS for one in told)
