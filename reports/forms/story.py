"""What the chapters of the page are told from, and the cells that more than one of them uses."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo

from reports.compared import Names, names
from reports.forms.grid import Cell
from reports.forms.links import Linker
from reports.outline import Report
from reports.sections import Group, Sections
from reports.window import Window, at, zone
from reports.wording import NONE, hours

ALONE = "this report was made from the accounts alone"
"""Why there are no further sections."""
MOST_ROWS = 200
"""Longer tables show their worst rows; CSV and JSON have all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A report, its further sections, and where more is said; `has_sections` is whether any were made."""

    report: Report
    sections: Sections
    has_sections: bool
    links: Linker

    @property
    def where(self) -> tzinfo:
        """The time zone of the report."""
        return zone(self.report.window.timezone)

    @property
    def length_ms(self) -> int:
        """How long the accounted time is."""
        return self.report.covered.to_ms - self.report.covered.from_ms

    @property
    def names(self) -> Names:
        """What this time and the one compared with are called."""
        return names(self.report.window, self.sections.last)

    def why_absent(self, section: str) -> str:
        """Say why a section has nothing to show; empty where nothing is what there is."""
        return self.sections.absent.get(section, "") if self.has_sections else ALONE

    def moment(self, at_ms: int) -> str:
        """Write a moment in the time zone of the report, to the minute."""
        return f"{at(at_ms, self.where):%Y-%m-%d %H:%M}"

    def day(self, at_ms: int) -> str:
        """Write a day in the time zone of the report."""
        return f"{at(at_ms, self.where):%a %d %b %Y}"

    def moment_cell(self, at_ms: int | None) -> Cell:
        """Show a moment, sorted by time."""
        return Cell(NONE) if at_ms is None else Cell(self.moment(at_ms), at_ms)

    def date_cell(self, at_ms: int) -> Cell:
        """Show a day, sorted by time."""
        return Cell(f"{at(at_ms, self.where):%Y-%m-%d}", at_ms)

    def gpu_cell(self, uuid: str) -> Cell:
        """Show a GPU by its UUID."""
        return Cell(uuid or NONE, href=self.links.gpu(uuid) if uuid else None)

    def node_cell(self, name: str) -> Cell:
        """Show a node."""
        return Cell(name or NONE, href=self.links.node(name) if name else None)

    def owner_cell(self, name: str) -> Cell:
        """Show an owner."""
        return Cell(name or NONE, href=self.links.owner(name) if name else None)

    def gpus(self, gpu_ms: int) -> float:
        """Say GPU time as so many GPUs over the whole of the accounted time."""
        return gpu_ms / self.length_ms if self.length_ms else 0.0


def index_cell(index: int | None) -> Cell:
    """Show where a GPU sits in its node."""
    return Cell(NONE) if index is None else Cell(str(index), index)


def group_cell(group: Group | None) -> Iterator[Cell]:
    """Show pool and model, each in a column."""
    yield Cell((group.pool if group else "") or NONE)
    yield Cell((group.model if group else "") or NONE)


def local(window: Window) -> str:
    """Write a window in its time zone, with its length."""
    where = zone(window.timezone)
    start, end = (f"{at(moment, where):%a %Y-%m-%d %H:%M}" for moment in (window.from_ms, window.to_ms))
    return f"{start} to {end} {window.timezone}, {hours(window.to_ms - window.from_ms)} h"
