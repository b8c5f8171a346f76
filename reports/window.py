"""Which time a report is about: half-open windows in UTC.

An ISO week runs from Monday 00:00 to the next Monday 00:00 of its time zone, so it lasts 601 200 s or
608 400 s when the clocks change (planning facts, section 2.1). Accounts are hourly; how a window is read that
begins or ends within an hour, as weeks of India do, is in reports/sources/edges.py.
"""

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.errors import ReportError
from agent.tally import HOUR_MS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOURS_OF = {"h": 1, "d": 24, "w": 168}
_LONGEST_HOURS = 876_000
_WEEK = re.compile(r"(\d{4})-W(\d{2})")
_LAST = re.compile(r"(\d{1,7})([hdw])")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?([Zz]|[+-]\d{2}:\d{2})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """[from_ms, to_ms) in ms since the epoch; the IANA zone and the label are for the reader."""

    from_ms: int
    to_ms: int
    timezone: str = "UTC"
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time [first_ms, last_ms) that a journal accounts for; GPUs are enrolled since `enrolled_ms`.

    `first_ms` lies behind `enrolled_ms` when the oldest accounts were dropped for their age.
    """

    first_ms: int
    last_ms: int
    enrolled_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A window as the user words it: at most one of week, last, since/until and everything.

    `week` is 2026-W47, `last` is 12h, 7d or 2w; `since` and `until` are RFC 3339 dates or datetimes, in
    `timezone` where they carry no offset. A date means its first moment, so `until` does not include its day.
    """

    week: str = ""
    last: str = ""
    since: str = ""
    until: str = ""
    everything: bool = False
    timezone: str = "UTC"


def journal_span(db: sqlite3.Connection) -> Span:
    """Tell what time a journal accounts for. Raises ReportError where it accounts for nothing."""
    enrolled_ms, moved_ms = db.execute("SELECT MIN(from_ms), MAX(to_ms) FROM place").fetchone()
    first_hour_ms, last_hour_ms = db.execute("SELECT MIN(hour_ms), MAX(hour_ms) FROM account_hour").fetchone()
    (until_ms,) = db.execute("SELECT MAX(until_ms) FROM timeline").fetchone()
    if first_hour_ms is None:
        raise ReportError(
            "the journal accounts for no GPU time yet: let `gputally run` or `gputally replay` write it first"
        )
    if enrolled_ms is None:
        enrolled_ms = first_hour_ms
    last_ms = max(moved_ms or 0, until_ms or 0)
    if last_hour_ms >= last_ms:
        last_ms = last_hour_ms + HOUR_MS
    sound = first_hour_ms == _floor(enrolled_ms) and enrolled_ms < last_ms
    return Span(first_ms=enrolled_ms if sound else first_hour_ms, last_ms=last_ms, enrolled_ms=enrolled_ms)


def resolve(spans: Sequence[Span], asked: Asked, *, now_ms: int) -> Window:
    """Find the window that was asked for; by default the last complete ISO week, or all if it has no data.

    The spans are those of the journals. Raises ReportError for words that are not understood, and for a
    window of which no journal has anything.
    """
    span = Span(
        first_ms=min(one.first_ms for one in spans),
        last_ms=max(one.last_ms for one in spans),
        enrolled_ms=min(one.enrolled_ms for one in spans),
    )
    where = zone(asked.timezone)
    try:
        window = _choose(asked, where, span, now_ms)
        at(window.from_ms, where), at(window.to_ms, where)
    except OverflowError as error:
        raise ReportError("that time is out of reach: give one between the years 2 and 9998") from error
    covered(window, span)
    return window


def _reach(first_ms: int, last_ms: int) -> str:
    """Say what is accounted for; nobody asks a store since when it holds accounts."""
    if not first_ms:
        return f"accounts end at {rfc3339(last_ms)}"
    return f"the journal covers {rfc3339(first_ms)} to {rfc3339(last_ms)}"


def covered(window: Window, span: Span) -> Window:
    """Cut a window to the accounted time. Raises ReportError if nothing is left."""
    if window.from_ms >= window.to_ms:
        raise ReportError(
            f"the window would end at {rfc3339(window.to_ms)}, which is not after its start "
            f"{rfc3339(window.from_ms)}: give an end that is later than the start"
        )
    if window.to_ms <= span.first_ms or window.from_ms >= span.last_ms:
        raise ReportError(
            f"there is nothing between {rfc3339(window.from_ms)} and {rfc3339(window.to_ms)}: "
            f"{_reach(span.first_ms, span.last_ms)}; ask for a part of that, or for --all"
        )
    part = overlap(window, span)
    assert part is not None  # noqa: S101  that was asked above
    return part


def overlap(window: Window, span: Span) -> Window | None:
    """Cut a window to some time; None where nothing is left."""
    from_ms, to_ms = max(window.from_ms, span.first_ms), min(window.to_ms, span.last_ms)
    if from_ms >= to_ms:
        return None
    return Window(from_ms=from_ms, to_ms=to_ms, timezone=window.timezone, label=window.label)


def week_to_compare(text: str, window: Window, spans: Sequence[Span]) -> Window:
    """Find the ISO week that a window is to be compared with, written as 2026-W40, in its time zone.

    Raises ReportError for what is no week, one that does not end before the window, and one of which no
    journal has anything.
    """
    week = _week(text, window.timezone, zone(window.timezone))
    if (week.from_ms, week.to_ms) == (window.from_ms, window.to_ms):
        raise ReportError(f"{week.label} is the week of the report: --compare names another one")
    if week.to_ms > window.from_ms:
        raise ReportError(
            f"{week.label} ends at {rfc3339(week.to_ms)}, the report begins at {rfc3339(window.from_ms)}: "
            "--compare names an earlier week"
        )
    if all(overlap(week, span) is None for span in spans):
        first_ms, last_ms = min(span.first_ms for span in spans), max(span.last_ms for span in spans)
        raise ReportError(f"there is nothing of {week.label} to compare with: {_reach(first_ms, last_ms)}")
    return week


def before(window: Window) -> Window:
    """Give the window that ends where one begins: an ISO week before a week, else one that is as long."""
    where = zone(window.timezone)
    first, end = at(window.from_ms, where), at(window.to_ms, where)
    if _is_week(first, end):
        monday = first.date() - timedelta(days=7)
        year, number, _ = monday.isocalendar()
        return _week(f"{year:04}-W{number:02}", window.timezone, where)
    length_ms = window.to_ms - window.from_ms
    return Window(from_ms=window.from_ms - length_ms, to_ms=window.from_ms, timezone=window.timezone)


def _is_week(first: datetime, end: datetime) -> bool:
    """Tell whether two local times are the ends of an ISO week."""
    midnight = first.time() == end.time() == time()
    return midnight and first.isoweekday() == 1 and end.date() - first.date() == timedelta(days=7)


def zone(name: str) -> tzinfo:
    """Find an IANA time zone. Raises ReportError for a name that the system does not know."""
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ReportError(f"there is no time zone {name!r}: give an IANA name as Europe/Berlin") from error


def at(moment_ms: int, where: tzinfo = UTC) -> datetime:
    """Make a datetime of ms since the epoch."""
    return (_EPOCH + timedelta(milliseconds=moment_ms)).astimezone(where)


def rfc3339(moment_ms: int) -> str:
    """Write ms since the epoch as RFC 3339 in UTC, with milliseconds where there are some."""
    precision = "milliseconds" if moment_ms % 1000 else "seconds"
    return at(moment_ms).isoformat(timespec=precision).replace("+00:00", "Z")


def _choose(asked: Asked, where: tzinfo, span: Span, now_ms: int) -> Window:
    ways = (asked.week, asked.last, asked.since or asked.until, asked.everything)
    if sum(map(bool, ways)) > 1:
        raise ReportError("give only one of --week, --last, --from/--to and --all")
    if asked.week:
        return _week(asked.week, asked.timezone, where)
    if asked.last:
        return _last(asked.last, span, asked.timezone)
    if asked.since or asked.until:
        return _between(asked, span, where)
    return (
        _everything(span, asked.timezone) if asked.everything else _usual(asked.timezone, where, span, now_ms)
    )


def _week(text: str, timezone: str, where: tzinfo) -> Window:
    match = _WEEK.fullmatch(text)
    try:
        if match is None:
            raise ReportError(f"{text!r} is not an ISO week: write it as 2026-W47")
        monday = date.fromisocalendar(int(match[1]), int(match[2]), 1)
    except ValueError as error:
        raise ReportError(f"there is no week {text}: {error}") from error
    return Window(
        from_ms=_first_ms(monday, where),
        to_ms=_first_ms(monday + timedelta(days=7), where),
        timezone=timezone,
        label=f"week {text}",
    )


def _last(text: str, span: Span, timezone: str) -> Window:
    match = _LAST.fullmatch(text)
    hours = int(match[1]) * _HOURS_OF[match[2]] if match else 0
    if not 0 < hours <= _LONGEST_HOURS:
        raise ReportError(f"--last {text!r} is not understood: write 12h, 7d or 2w, at most 100 years")
    to_ms = _floor(span.last_ms - 1) + HOUR_MS
    return Window(from_ms=to_ms - hours * HOUR_MS, to_ms=to_ms, timezone=timezone, label=f"last {text}")


def _between(asked: Asked, span: Span, where: tzinfo) -> Window:
    return Window(
        from_ms=moment_of(asked.since, where) if asked.since else span.first_ms,
        to_ms=moment_of(asked.until, where) if asked.until else span.last_ms,
        timezone=asked.timezone,
    )


def _everything(span: Span, timezone: str) -> Window:
    return Window(from_ms=span.first_ms, to_ms=span.last_ms, timezone=timezone, label="all")


def _usual(timezone: str, where: tzinfo, span: Span, now_ms: int) -> Window:
    year, week, _ = (at(now_ms, where).date() - timedelta(days=7)).isocalendar()
    window = _week(f"{year:04}-W{week:02}", timezone, where)
    if window.from_ms < span.last_ms and window.to_ms > span.first_ms:
        return window
    return _everything(span, timezone)


def moment_of(text: str, where: tzinfo) -> int:
    """Read a date or an RFC 3339 time; without an offset it is of that zone. Raises ReportError."""
    try:
        if _DATE.fullmatch(text):
            return _first_ms(date.fromisoformat(text), where)
        if not _MOMENT.fullmatch(text):
            raise ReportError(
                f"{text!r} is no time: write 2026-11-16, or 2026-11-16T08:00:00Z as in RFC 3339"
            )
        moment = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ReportError(f"there is no time {text}: {error}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=where)
        if moment.utcoffset() != moment.replace(fold=1).utcoffset():
            raise ReportError(f"the clocks change at {text}: add the offset you mean, as in {text}+01:00")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _first_ms(day: date, where: tzinfo) -> int:
    first = datetime(day.year, day.month, day.day, tzinfo=where)
    return (first - _EPOCH) // timedelta(milliseconds=1)


def _floor(moment_ms: int) -> int:
    return moment_ms // HOUR_MS * HOUR_MS
