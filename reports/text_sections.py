"""The sections of a report as text: titles and lines, in the manner of reports/text.py.

Names from outside are escaped; what is long is cut, and said to be.
"""

from collections.abc import Callable, Iterable

from reports import text_fleet, text_use
from reports.outline import Report
from reports.sections import Sections
from reports.text_page import NARROWEST, Page

_PARTS: tuple[tuple[str, Callable[[Page], Iterable[str]]], ...] = (
    ("This week against the last; noise is what a figure moves without a reason", text_use.scores),
    ("Active GPU-hours, from last week to this", text_use.bridge),
    ("Hours by group; out is service, drained and down", text_use.groups),
    ("GPUs held by the hour, and what was spare: usable less the 95th percentile", text_use.capacity),
    ("Idle hours by owner, and by whom first; weeks in a row", text_use.waste),
    ("Who could do with less", text_use.sizes),
    ("The week by hours", text_fleet.heat_map),
    ("GPU-hours by day; out is service, drained and down", text_fleet.days),
    ("GPUs slowed down by heat or power brake, and those near it", text_fleet.heat),
    ("Energy", text_fleet.energy),
    ("Failures", text_fleet.reliability),
    ("When groups will be full, at 85 % of what is usable", text_use.forecast),
    ("Register of GPUs", text_fleet.assets),
    ("What to distrust", text_fleet.quality),
    ("Not in this report", text_fleet.absent),
)


def section_parts(sections: Sections, report: Report, width: int) -> list[tuple[str, list[str]]]:
    """Write the sections that have something to tell, as titles and lines of so many terminal cells."""
    page = Page(sections, report, max(NARROWEST, width))
    parts = [(title, list(part(page))) for title, part in _PARTS]
    return [(title, lines) for title, lines in parts if lines]
