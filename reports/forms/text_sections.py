"""The sections of a report in words: their titles, and who writes each; text and Markdown alike.

Names from outside are escaped by the page that they are written for; what is long is cut, and said to be.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from reports.forms import text_fleet, text_use
from reports.forms.text_page import NARROWEST, Page
from reports.outline import Report
from reports.sections import Sections


class Part(NamedTuple):
    """A title, in which {this} and {last} stand for what is compared, and who writes what is below it."""

    title: str
    tell: Callable[[Page], Iterable[str]]


PARTS: Mapping[str, Part] = {
    "scores": Part("Scorecard, {this} against {last}; noise is change without a reason", text_use.scores),
    "groups": Part("Hours by group; out is service, drained and down", text_use.groups),
    "days": Part("GPU-hours by day; out is service, drained and down", text_fleet.days),
    "bridge": Part("Active GPU-hours, from {last} to {this}", text_use.bridge),
    "capacity": Part(
        "GPUs held by the hour, and what was spare: usable less the 95th percentile", text_use.capacity
    ),
    "fragments": Part(
        "Free GPUs, and the share of hours in which a job could begin on one node",
        text_use.fragments,
    ),
    "waste": Part("Idle hours by owner, and by whom first; weeks in a row", text_use.waste),
    "sizes": Part("Who could do with less", text_use.sizes),
    "heat_map": Part("The week by hours", text_fleet.heat_map),
    "heat": Part("GPUs slowed down by heat or power brake, and those near it", text_fleet.heat),
    "energy": Part("Energy", text_fleet.energy),
    "reliability": Part("Failures", text_fleet.reliability),
    "assets": Part("Register of GPUs", text_fleet.assets),
    "forecast": Part("When groups will be full: at 85 % of what is usable", text_use.forecast),
    "quality": Part("What to distrust", text_fleet.quality),
    "absent": Part("Not in this report", text_fleet.absent),
}
"""By the name of the section, in the order of the page."""
FRONT = ("scores",)
HOURS = ("groups", "days", "bridge", "capacity", "fragments", "waste")
REST = ("sizes", "heat_map", "heat", "energy", "reliability", "assets", "forecast")
END = ("quality", "absent")
"""What stands before the states, behind them, behind owners and GPUs, and behind the findings."""


def section_parts(
    sections: Sections, report: Report, width: int, names: Sequence[str] = tuple(PARTS)
) -> list[tuple[str, list[str]]]:
    """Write the sections that have something to tell, as titles and lines of so many terminal cells."""
    return parts_of(Page(sections, report, max(NARROWEST, width)), names)


def parts_of(page: Page, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Write some sections on a page, as titles and lines; those without lines are left out."""
    parts = [(_title(page, name), list(PARTS[name].tell(page))) for name in names]
    return [(title, lines) for title, lines in parts if lines]


def _title(page: Page, name: str) -> str:
    if name == "scores" and page.sections.last is None:
        return "Scorecard"
    return PARTS[name].title.format(**page.names._asdict())
