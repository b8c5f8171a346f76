"""What the time of a report and the one that it is compared with are called, in all forms."""

from typing import NamedTuple

from reports.content.forecast import is_week
from reports.content.past import follows
from reports.window import Window, at, zone


class Names(NamedTuple):
    """What a reader calls the time of the report, and the one before it or another one."""

    this: str
    last: str


def names(window: Window, last: Window | None) -> Names:
    """Name a window and what it is compared with: the last week if it is that, else by its own name."""
    week = is_week(window)
    this = "this week" if week else "this time"
    if last is None or follows(window, last):
        return Names(this, "last week" if week else "the time before")
    return Names(this, label(last))


def label(window: Window) -> str:
    """Name a window: by its label, or its first and last day in its time zone."""
    if window.label:
        return window.label
    where = zone(window.timezone)
    return f"{at(window.from_ms, where):%Y-%m-%d} to {at(window.to_ms - 1, where):%Y-%m-%d}"
