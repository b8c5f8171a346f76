"""Weeks before that of a report, and when one may be compared with another."""

from collections.abc import Iterator, Mapping

from agent.tick import State
from reports.facts import Facts, Week
from reports.outline import Report
from reports.sums import ratio
from reports.window import Window

COMPARABLE = 0.90
"""Below this coverage weeks are not compared (planning facts, section 2.1)."""


def coverage(elapsed_ms: Mapping[State, int], owed_ms: int) -> float | None:
    """Tell what share of the time that GPUs were not down was seen; None where all was down."""
    unknown_ratio = ratio(elapsed_ms.get(State.UNKNOWN, 0), owed_ms - elapsed_ms.get(State.DOWN, 0))
    return None if unknown_ratio is None else 1 - unknown_ratio


def well_covered(ratio_seen: float | None) -> bool:
    """Tell whether so much was seen that figures may be compared; where all was down there is nothing."""
    return ratio_seen is not None and ratio_seen >= COMPARABLE


def nearly_whole(report: Report) -> bool:
    """Tell whether the accounts reach over the window, or nearly so."""
    window, covered = report.window, report.covered
    return covered.to_ms - covered.from_ms >= COMPARABLE * (window.to_ms - window.from_ms)


def unbroken(report: Report, facts: Facts) -> Iterator[Week]:
    """Give the weeks before that of the report, latest first, up to the first one that lacks."""
    later = report.window
    for week in facts.weeks:
        if not follows(later, week.window):
            return
        yield week
        later = week.window


def follows(later: Window, earlier: Window) -> bool:
    """Tell whether one window begins where the other ends."""
    return later.from_ms == earlier.to_ms
