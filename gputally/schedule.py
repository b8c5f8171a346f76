"""When the report of the week is due, as arithmetic on moments: once a week, by the clock of a time zone.

A time that a day does not have, as clocks are set forward, comes as much later; of one that it has twice the
first counts. So each week has one moment, whatever the clocks do.
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

from agent.errors import SettingsError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FORMS = ("text", "html", "pdf", "markdown", "csv", "parquet", "json")
"""The forms that a report can be written in; gputally.report_forms writes them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WRITTEN = re.compile(r"([A-Z][a-z]{2}) ([01]\d|2[0-3]):([0-5]\d)")


class Schedule(NamedTuple):
    """A day of the week, 0 for Monday, and a time of it."""

    weekday: int
    hour: int
    minute: int


def parse(text: str) -> Schedule | None:
    """Read a schedule such as `Mon 06:00`; None for an empty one. Raises SettingsError."""
    if not text:
        return None
    found = _WRITTEN.fullmatch(text)
    if found is None or found[1] not in DAYS:
        raise SettingsError(
            f"[report] schedule {text!r} is not understood: write a day and a time, such as Mon 06:00; "
            f"days are {', '.join(DAYS)}"
        )
    return Schedule(DAYS.index(found[1]), int(found[2]), int(found[3]))


def check(schedule: str, folder: str, forms: tuple[str, ...], mail: str) -> None:
    """Refuse settings of a schedule that cannot be meant. Raises SettingsError."""
    unknown = [form for form in forms if form not in FORMS]
    if unknown:
        raise SettingsError(f"[report] schedule_formats has no {unknown[0]!r}; it knows {', '.join(FORMS)}")
    if mail not in ("off", "on"):
        raise SettingsError("[report] schedule_mail must be off or on")
    if parse(schedule) and not folder and mail == "off":
        raise SettingsError(
            '[report] a schedule needs schedule_folder, or schedule_mail = "on": else nobody gets the report'
        )


def due_after(schedule: Schedule, where: tzinfo, moment_ms: int) -> int:
    """Give the first moment after one at which a report is due; ms since the epoch."""
    return min(due for due in _around(schedule, where, moment_ms) if due > moment_ms)


def due_upto(schedule: Schedule, where: tzinfo, moment_ms: int) -> int:
    """Give the latest moment, up to and with one, at which a report was due; ms since the epoch."""
    return max(due for due in _around(schedule, where, moment_ms) if due <= moment_ms)


def week_before(moment_ms: int, where: tzinfo) -> str:
    """Name the last ISO week that was over at a moment, such as 2026-W47."""
    year, week, _ = (_local(moment_ms, where) - timedelta(days=7)).isocalendar()
    return f"{year:04}-W{week:02}"


def _around(schedule: Schedule, where: tzinfo, moment_ms: int) -> list[int]:
    day = _local(moment_ms, where)
    monday = day - timedelta(days=day.weekday())
    return [_due(schedule, where, monday + timedelta(weeks=number)) for number in (-2, -1, 0, 1, 2)]


def _due(schedule: Schedule, where: tzinfo, monday: date) -> int:
    day = monday + timedelta(days=schedule.weekday)
    moment = datetime(day.year, day.month, day.day, schedule.hour, schedule.minute, tzinfo=where)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _local(moment_ms: int, where: tzinfo) -> date:
    return (_EPOCH + timedelta(milliseconds=moment_ms)).astimezone(where).date()
