"""What all parts of a report's text share: the page they are written for, long tables, groups and moments."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agent.tick import State
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


class Page(NamedTuple):
    """What a part is written from, and for how many terminal cells."""

    sections: Sections
    report: Report
    width: int

    def rows(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], what: str) -> Iterator[str]:
        """Write a table of at most twenty rows, and how many are left out; nothing without rows."""
        if rows:
            yield from table(columns, rows[:MOST_ROWS], self.width)
        if len(rows) > MOST_ROWS:
            yield f"  ... and {len(rows) - MOST_ROWS:,} more {what}, not shown"

    def item(self, text: str, mark: str = "") -> str:
        """Break a sentence into lines."""
        return wrapped(text, self.width, f"  {mark}", " " * (2 + len(mark)))

    def fact(self, name: str, text: str) -> str:
        """Write a named fact."""
        return wrapped(text, self.width, f"  {name:<11}", " " * 13)

    def cost_column(self, title: str = "cost") -> list[Column]:
        """Give the column of costs; none without a price."""
        return [] if self.report.price_per_gpu_hour is None else [Column(title)]

    def cost_cell(self, text: str) -> list[str]:
        """Give the cell of that column."""
        return [] if self.report.price_per_gpu_hour is None else [text]

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
