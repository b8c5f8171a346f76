"""Theil and Sen's trend: medians of slopes, an interval by ranks, and no odd week that turns it."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reports.content.trend import Point, level, trend


def line(*values: float) -> list[Point]:
    """Make points one apart."""
    return [Point(x, y) for x, y in enumerate(values)]


def test_a_straight_line_has_its_slope() -> None:
    """All pairs agree."""
    assert trend(line(1, 3, 5, 7, 9, 11)) == (2.0, 2.0, 2.0)


def test_one_odd_week_does_not_turn_it() -> None:
    """Of 15 pairs 5 know the odd week."""
    assert trend(line(1, 3, 5, 7, 9, 500)).slope == 2.0


def test_the_interval_is_of_ranks() -> None:
    """Six points have 15 slopes; 1.2816 * sqrt(6 * 5 * 17 / 18) = 6.82, so the 4th from each end.

    Sorted slopes of 0, 1, 0, 2, 1, 4: -1, -1, 0, 0, 1/4, 1/2, 1/2, 2/3, 3/4, 4/5, 1, 1, 4/3, 2, 3.
    """
    found = trend(line(0, 1, 0, 2, 1, 4))
    assert found.slope == pytest.approx(2 / 3)
    assert (found.low, found.high) == (0.0, 1.0)


def test_two_points_are_their_own_interval() -> None:
    """There is one slope."""
    assert trend(line(1, 2)) == (1.0, 1.0, 1.0)


def test_the_level_is_of_the_median_point() -> None:
    """Of 1, 3, 5, 7, 90 with slope 2, at 5, the middle says 11."""
    assert level(line(1, 3, 5, 7, 90), 2.0, 5.0) == 11.0


_POINTS = st.lists(st.integers(0, 10_000), min_size=2, max_size=30)


@given(_POINTS)
def test_the_slope_lies_in_its_interval(values: list[int]) -> None:
    """Whatever the points."""
    found = trend(line(*values))
    assert found.low <= found.slope <= found.high


@given(_POINTS, st.integers(-50, 50), st.integers(0, 100))
def test_what_is_added_to_the_points_is_added_to_the_trend(values: list[int], more: int, up: int) -> None:
    """A steeper line by so much."""
    assume(len(values) > 2)
    bent = [Point(x, y + more * x + up) for x, y in enumerate(values)]
    assert trend(bent).slope == pytest.approx(trend(line(*values)).slope + more, abs=1e-6)
