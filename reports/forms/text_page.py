"""What all parts of a report's text share: the page they are written for, long tables, groups and moments."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agent.tick import State
from reports.compared import Names, names
from reports.forms.cells import cost_cells, cost_titles
from reports.outline import Report
from reports.sections import Group, Sections
from reports.window import at, zone
from reports.wording import NONE, Column, table, wrapped

MOST_ROWS = 20
NARROWEST = 80
SHOWN = (
    ("active", (State.ACTIVE,)),
    ("gap", (State.HELD_GAP,)),
    ("idle", (State.HELD_IDLE,)),
    ("free", (State.FREE,)),
    ("out", (State.SERVICE, State.DRAINED, State.DOWN)),
    ("unknown", (State.UNKNOWN,)),
)
"""Columns of states, and the states of each; all of them together are the whole."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a part is written from, and for how many terminal cells; other forms write blocks otherwise."""

    sections: Sections
    report: Report
    width: int

    @property
    def names(self) -> Names:
        """What this time and the one compared with are called."""
        return names(self.report.window, self.sections.last)

    def rows(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], what: str) -> Iterator[str]:
        """Write a table of at most twenty rows, and how many are left out; nothing without rows."""
        if rows:
            yield from table(columns, rows[:MOST_ROWS], self.width)
        yield from self.left_out(len(rows) - MOST_ROWS, what)

    def left_out(self, count: int, what: str) -> Iterator[str]:
        """Say how many are not shown; nothing if none."""
        if count > 0:
            yield f"  ... and {count:,} more {what}, not shown; --format json has all of them"

    def item(self, text: str, mark: str = "") -> str:
        """Write a sentence; with a mark it is one of a list, with a blank one it goes with the one before."""
        return wrapped(text, self.width, f"  {mark}", " " * (2 + len(mark)))

    def fact(self, name: str, text: str) -> str:
        """Write a named fact."""
        return wrapped(text, self.width, f"  {name:<11}", " " * 13)

    def drawing(self, lines: Iterable[str]) -> Iterator[str]:
        """Write lines of our own that must stay as they are."""
        return (f"  {line}" for line in lines)

    def cost_column(self) -> list[Column]:
        """Give the column of costs; none without a price."""
        return [Column(one) for one in cost_titles(self.report)]

    def cost_cell(self, cost: float | None) -> list[str]:
        """Give the cell of that column."""
        return cost_cells(self.report, cost)

    def moment(self, at_ms: int) -> str:
        """Write a moment to the minute, in the zone of the window."""
        return f"{at(at_ms, zone(self.report.window.timezone)):%Y-%m-%d %H:%M}"

    def day(self, at_ms: int) -> str:
        """Write a day, in the zone of the window."""
        return f"{at(at_ms, zone(self.report.window.timezone)):%Y-%m-%d}"


def group_name(group: Group) -> str:
    """Name a group: its pool where pools have names, and its model."""
    model = group.model or NONE
    return f"{group.pool}, {model}" if group.pool else model


def place(node: str, index: int | None) -> str:
    """Say where a GPU sits."""
    return node if index is None else f"{node} #{index}"
