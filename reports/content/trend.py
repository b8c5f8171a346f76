"""The trend of a few points, as Theil and Sen draw it: no single odd week can turn it.

The slope is the median of the slopes between all pairs of points. Its interval comes from the ranks of the
same slopes (Sen 1968): as many of them are left out at each end as Kendall's S of points without any trend
would allow, which for n points has the variance n(n - 1)(2n + 5)/18.
"""

from collections.abc import Sequence
from itertools import combinations
from math import floor, sqrt
from statistics import median
from typing import NamedTuple

NORMAL_80 = 1.2816
"""An interval of 80 % reaches so many standard deviations to both sides."""


class Point(NamedTuple):
    """A value at a place."""

    x: float
    y: float


class Trend(NamedTuple):
    """A slope and the interval in which it lies in 80 of 100 cases."""

    slope: float
    low: float
    high: float


def trend(points: Sequence[Point]) -> Trend:
    """Find the trend of at least two points, of which no two are at one place."""
    slopes = sorted((b.y - a.y) / (b.x - a.x) for a, b in combinations(points, 2))
    count = len(points)
    spread = NORMAL_80 * sqrt(count * (count - 1) * (2 * count + 5) / 18)
    rank = max(1, floor((len(slopes) - spread) / 2))
    return Trend(median(slopes), slopes[rank - 1], slopes[-rank])


def level(points: Sequence[Point], slope: float, x: float) -> float:
    """Tell where the line of that slope through the middle of the points is at a place."""
    return median(point.y + slope * (x - point.x) for point in points)
