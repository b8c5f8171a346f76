"""Capacity: held GPUs by the hour, nearest-rank percentiles, and nothing called spare that was not seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.capacity import capacity, percentile
from reports.facts import Facts, HourSum
from reports.outline import Report
from reports.sections import CapacityLine
from reports.window import Window
from tests.reports.made import H100, H200, Did, hour, made
from tests.reports.small import MONDAY_MS


def report(hours: float, start: float = 0) -> Report:
    """Make a report of so many hours, which begins some hours after the week."""
    window = Window(
        from_ms=MONDAY_MS + round(start * HOUR_MS), to_ms=MONDAY_MS + round((start + hours) * HOUR_MS)
    )
    return made(Did("A", {State.FREE: hours}), window=window)


def line(hours: float, *sums: HourSum) -> CapacityLine:
    """Give the line of the only group."""
    (found,) = capacity(report(hours), Facts(hours=sums))
    return found


def test_held_is_what_nobody_else_could_have() -> None:
    """Active, paused, idle and burn-in; 10 GPUs less 1 down and 2 drained are usable."""
    states = {
        State.ACTIVE: 2.0,
        State.HELD_GAP: 0.5,
        State.HELD_IDLE: 1.0,
        State.SERVICE: 0.5,
        State.FREE: 2.0,
        State.UNKNOWN: 1.0,
        State.DOWN: 1.0,
        State.DRAINED: 2.0,
    }
    found = line(1, *(hour(0, state, gpus) for state, gpus in states.items()))
    assert found == CapacityLine(
        group=H200,
        gpus=10.0,
        usable=7.0,
        held_mean=4.0,
        held_p95=4.0,
        held_p99=4.0,
        peak=4.0,
        peak_ms=MONDAY_MS,
        headroom=3.0,
        returnable=2,
    )


def test_percentiles_are_hours_that_there_were() -> None:
    """Of 100 hours with 1 to 100 GPUs held out of 120: the 95th, the 99th, and the last."""
    rows = [one for n in range(100) for one in (hour(n, State.ACTIVE, n + 1), hour(n, State.FREE, 119 - n))]
    found = line(100, *rows)
    assert (found.held_p95, found.held_p99, found.peak) == (95.0, 99.0, 100.0)
    assert found.peak_ms == MONDAY_MS + 99 * HOUR_MS
    assert (found.headroom, found.returnable, found.held_mean) == (25.0, 20, 50.5)


def test_hours_without_holders_count() -> None:
    """One hour held of twenty: the 95th percentile is none."""
    rows = [hour(n, State.FREE, 4.0) for n in range(19)]
    assert line(20, *rows, hour(19, State.ACTIVE, 4.0)).held_p95 == 0.0


def test_pieces_of_hours_are_left_out() -> None:
    """From half past to half past: two hours lie between, the pieces with all GPUs held do not count."""
    rows = (
        hour(0, State.ACTIVE, 2.0),
        hour(1, State.FREE, 4.0),
        hour(2, State.FREE, 4.0),
        hour(3, State.ACTIVE, 2.0),
    )
    (found,) = capacity(report(3, start=0.5), Facts(hours=rows))
    assert (found.gpus, found.peak) == (4.0, 0.0)


def test_without_a_whole_hour_there_is_no_line() -> None:
    """Forty minutes say nothing of an hour."""
    assert capacity(report(0.6, start=0.2), Facts(hours=(hour(0, State.ACTIVE, 0.6),))) == ()


def test_what_was_not_seen_cannot_go_back() -> None:
    """Of 10 GPUs 4 were held and 3 not seen: 3 can go, although 6 look spare."""
    found = line(1, hour(0, State.ACTIVE, 4.0), hour(0, State.UNKNOWN, 3.0), hour(0, State.FREE, 3.0))
    assert (found.headroom, found.returnable) == (6.0, 3)


def test_more_held_than_usable_returns_nothing() -> None:
    """The peak was before half the GPUs went down."""
    found = line(2, hour(0, State.ACTIVE, 4.0), hour(1, State.DOWN, 2.0), hour(1, State.ACTIVE, 2.0))
    assert (found.usable, found.headroom, found.returnable) == (3.0, -1.0, 0)


def test_groups_have_their_own_lines_and_hours() -> None:
    """A group that came in the second hour is judged by the hours it was there."""
    rows = (
        hour(0, State.FREE, 1.0),
        hour(1, State.FREE, 1.0),
        hour(1, State.ACTIVE, 8.0, group=H100),
    )
    found = capacity(report(2), Facts(hours=rows))
    assert [(one.group, one.gpus, one.held_mean) for one in found] == [(H100, 8.0, 8.0), (H200, 1.0, 0.0)]


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(1, 1000))
def test_a_percentile_is_the_least_that_enough_do_not_exceed(values: list[int], permille: int) -> None:
    """By its definition, counted."""
    found = percentile(values, permille)
    assert found in values
    assert 1000 * sum(value <= found for value in values) >= permille * len(values)
    below = [value for value in values if value < found]
    assert 1000 * len(below) < permille * len(values)


@pytest.mark.parametrize(("permille", "value"), [(500, 2), (501, 3), (750, 3), (751, 4), (1000, 4)])
def test_the_rank_is_rounded_up(permille: int, value: int) -> None:
    """Of four values."""
    assert percentile([4, 2, 1, 3], permille) == value
