"""The shape of a week: local hours and days, also where they are no hours of UTC, and where clocks change."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.shape import days, heat_map
from reports.facts import Facts, HourSum
from reports.outline import Report
from reports.sections import HeatMap
from reports.window import Window, moment_of, zone
from tests.reports.made import H200, Did, amounts, hour, made
from tests.reports.small import MONDAY_MS


def week(name: str, timezone: str) -> Window:
    """Give an ISO week of a zone, wherever its edges lie in UTC."""
    monday = date.fromisocalendar(int(name[:4]), int(name[6:]), 1)
    where = zone(timezone)
    edges = [moment_of((monday + timedelta(days=days)).isoformat(), where) for days in (0, 7)]
    return Window(from_ms=edges[0], to_ms=edges[1], timezone=timezone)


def report(window: Window) -> Report:
    """Make a report of a window."""
    return made(Did("A", {State.FREE: (window.to_ms - window.from_ms) / HOUR_MS}), window=window)


def full(window: Window, busy: float = 0.5) -> Facts:
    """Let one GPU be active in all hours of UTC that a window touches, as far as it does."""
    rows = []
    for hour_ms in range(window.from_ms // HOUR_MS * HOUR_MS, window.to_ms, HOUR_MS):
        length_ms = min(hour_ms + HOUR_MS, window.to_ms) - max(hour_ms, window.from_ms)
        rows.append(HourSum(hour_ms, H200, State.ACTIVE, amounts(length_ms / HOUR_MS, busy=busy)))
    return Facts(hours=tuple(rows))


def shape(window: Window, facts: Facts) -> HeatMap:
    """Draw the map of a window."""
    found = heat_map(report(window), facts)
    assert found is not None
    return found


def test_without_hours_there_is_no_map() -> None:
    """What is not known is no map of nothing."""
    window = week("2026-W47", "UTC")
    assert heat_map(report(window), Facts()) is None
    assert days(report(window), Facts()) == ()


def test_a_cell_is_busy_time_over_the_inventory() -> None:
    """In Monday's second hour 4 GPUs: 1 active at 80 %, 1 idle, 1 free, 1 down."""
    rows = (
        hour(1, State.ACTIVE, 1.0, busy=0.8),
        hour(1, State.HELD_IDLE, 1.0, busy=0.0),
        hour(1, State.FREE, 1.0),
        hour(1, State.DOWN, 1.0),
    )
    found = shape(week("2026-W47", "UTC"), Facts(hours=rows))
    assert found.effective[0][1] == pytest.approx(0.2)
    assert found.occupied[0][1] == pytest.approx(2 / 3)
    assert found.effective[0][0] is None
    assert found.weekday_effective == pytest.approx(0.2)
    assert found.weekend_effective is None
    assert found.changed == ()


def test_a_cell_of_what_was_not_seen_is_not_known_to_be_held() -> None:
    """It is owed, so its effective use is 0 at least; how much was held nobody knows."""
    found = shape(week("2026-W47", "UTC"), Facts(hours=(hour(0, State.UNKNOWN, 1.0),)))
    assert (found.effective[0][0], found.occupied[0][0]) == (0.0, None)


def test_weekend_is_of_the_zone() -> None:
    """Friday 23:00 UTC is Saturday in Berlin."""
    rows = (hour(5 * 24 - 2, State.FREE, 1.0), hour(5 * 24 - 1, State.ACTIVE, 1.0, busy=1.0))
    found = shape(week("2026-W47", "Europe/Berlin"), Facts(hours=rows))
    assert (found.weekday_effective, found.weekend_effective) == (0.0, 1.0)
    assert found.effective[5][0] == 1.0


def test_two_weeks_are_added_up() -> None:
    """Monday's first hour was busy in one week and free in the other."""
    window = Window(from_ms=MONDAY_MS, to_ms=MONDAY_MS + 336 * HOUR_MS)
    rows = (hour(0, State.ACTIVE, 1.0, busy=1.0), hour(168, State.FREE, 1.0))
    assert shape(window, Facts(hours=rows)).effective[0][0] == 0.5


def test_an_hour_of_utc_is_halved_in_india() -> None:
    """05:30 to 06:30 in Kolkata: half of it belongs to the hour from 5, half to that from 6."""
    rows = (hour(0, State.ACTIVE, 1.0, busy=1.0), hour(1, State.FREE, 1.0))
    found = shape(week("2026-W47", "Asia/Kolkata"), Facts(hours=rows))
    assert found.effective[0][5:8] == (1.0, 0.5, 0.0)


def test_a_day_in_india_begins_at_half_past() -> None:
    """Monday's last UTC hour but five is divided between Monday and Tuesday."""
    found = days(
        report(week("2026-W47", "Asia/Kolkata")), Facts(hours=(hour(18, State.ACTIVE, 2.0, busy=0.5),))
    )
    assert [(day.start_ms - MONDAY_MS) / HOUR_MS for day in found] == [-5.5, 18.5]
    assert [day.elapsed_ms[State.ACTIVE] / HOUR_MS for day in found] == [1.0, 1.0]
    assert [day.busy_ms / HOUR_MS for day in found] == [0.5, 0.5]


def test_a_piece_of_an_hour_belongs_where_it_lies() -> None:
    """Accounts from 00:30 UTC on: all of the first hour's half is from 6 on in Kolkata."""
    whole = week("2026-W47", "Asia/Kolkata")
    covered = Window(from_ms=MONDAY_MS + HOUR_MS // 2, to_ms=whole.to_ms, timezone="Asia/Kolkata")
    length = (covered.to_ms - covered.from_ms) / HOUR_MS
    one = made(Did("A", {State.FREE: length}), window=whole, covered=covered)
    found = heat_map(one, Facts(hours=(hour(0, State.FREE, 0.5),)))
    assert found is not None
    assert found.effective[0][5:7] == (None, 0.0)


def test_the_hour_that_clocks_skip_is_empty() -> None:
    """2026-03-29 in Berlin has no hour from 2 to 3, and the week 167 hours."""
    window = week("2026-W13", "Europe/Berlin")
    found = shape(window, full(window))
    assert window.to_ms - window.from_ms == 167 * HOUR_MS
    assert found.changed == ((6, 2),)
    assert found.effective[6][1:4] == (0.5, None, 0.5)
    assert sum(cell is None for row in found.effective for cell in row) == 1


def test_the_hour_that_clocks_repeat_is_counted_twice() -> None:
    """2026-10-25 in Berlin has two hours from 2 to 3: one busy and one not are half."""
    window = week("2026-W43", "Europe/Berlin")
    twice_ms = round(datetime(2026, 10, 25, 0, tzinfo=UTC).timestamp() * 1000)
    rows = (
        HourSum(twice_ms, H200, State.ACTIVE, amounts(1.0, busy=1.0)),
        HourSum(twice_ms + HOUR_MS, H200, State.FREE, amounts(1.0)),
    )
    found = shape(window, Facts(hours=rows))
    assert (found.changed, found.effective[6][2]) == (((6, 2),), 0.5)
    (sunday,) = days(report(window), Facts(hours=rows))
    assert sum(sunday.elapsed_ms.values()) == 2 * HOUR_MS


def test_clocks_that_change_by_half_an_hour() -> None:
    """Lord Howe Island: from 2:00 to 2:30 on 2026-10-04, within an hour of UTC."""
    window = week("2026-W40", "Australia/Lord_Howe")
    found = shape(window, full(window))
    assert window.to_ms - window.from_ms == 167 * HOUR_MS + HOUR_MS // 2
    assert found.changed == ((6, 2),)
    assert all(cell == pytest.approx(0.5) for row in found.effective for cell in row)


def test_days_last_as_long_as_they_do() -> None:
    """The Sunday on which clocks go forward has 23 hours."""
    window = week("2026-W13", "Europe/Berlin")
    found = days(report(window), full(window))
    assert [sum(day.elapsed_ms.values()) // HOUR_MS for day in found] == [24] * 6 + [23]
    assert found[0].start_ms == window.from_ms


ZONES = ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"]


@given(
    timezone=st.sampled_from(ZONES),
    hours=st.lists(
        st.tuples(st.integers(0, 167), st.sampled_from(list(State)), st.integers(0, 10**9)), max_size=20
    ),
)
def test_days_sum_to_the_hours(timezone: str, hours: list[tuple[int, State, int]]) -> None:
    """To the millisecond, by state, wherever local days begin."""
    window = Window(from_ms=MONDAY_MS, to_ms=MONDAY_MS + 168 * HOUR_MS, timezone=timezone)
    rows = tuple(
        HourSum(MONDAY_MS + number * HOUR_MS, H200, state, amounts(ms / HOUR_MS))
        for number, state, ms in hours
    )
    found = days(report(window), Facts(hours=rows))
    for state in State:
        assert sum(day.elapsed_ms[state] for day in found) == sum(
            row.amounts.elapsed_ms for row in rows if row.state is state
        )
