"""Windows: zones, weeks of three lengths, whole hours, and words that are refused."""

from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection

import pytest

from agent.errors import ReportError
from agent.tally import HOUR_MS
from agent.tick import Condition
from reports.window import Asked, Span, Window, covered, journal_span, resolve, rfc3339
from tests.reports.small import MINUTE_MS, MONDAY_MS, Small, gpu, reading, report_of, tamper

NEW_YEAR_MS = 1_767_225_600_000
"""1 January 2026, 00:00 UTC."""


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a journal of 2026 from 5 minutes into the year until 20 December, 10:30 UTC."""
    path = tmp_path_factory.mktemp("year") / "journal.db"
    small = Small(path, NEW_YEAR_MS + 5 * MINUTE_MS)
    small.pass_by(MINUTE_MS, {gpu(0): (None, Condition.LOST)})
    small.pass_by(353 * 24 * HOUR_MS + 10 * HOUR_MS + 24 * MINUTE_MS, {gpu(0): (None, None)})
    small.save()
    return path


@pytest.fixture
def db(year: Path) -> Iterator[Connection]:
    """Open it."""
    with reading(year) as opened:
        yield opened


def edges(db: Connection, asked: Asked, now_ms: int = 0) -> tuple[str, str]:
    """Resolve a window and write its edges."""
    window = resolve([journal_span(db)], asked, now_ms=now_ms)
    return rfc3339(window.from_ms), rfc3339(window.to_ms)


@pytest.mark.parametrize(
    ("week", "start", "end", "seconds"),
    [
        ("2026-W47", "2026-11-15T23:00:00Z", "2026-11-22T23:00:00Z", 604_800),
        ("2026-W13", "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z", 601_200),
        ("2026-W43", "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z", 608_400),
    ],
)
def test_a_week_is_as_long_as_the_clocks_of_its_zone_make_it(
    year: Path, week: str, start: str, end: str, seconds: int
) -> None:
    """The weeks in which the clocks change last 167 and 169 hours, and all of them are accounted for."""
    report = report_of(year, Asked(week=week, timezone="Europe/Berlin"))
    assert (rfc3339(report.window.from_ms), rfc3339(report.window.to_ms)) == (start, end)
    assert report.inventory.gpu_ms == seconds * 1000
    assert report.identity_ok


def test_the_last_days_end_with_the_newest_hour(db: Connection) -> None:
    """An hour that has only begun is part of the window, so that nothing new is hidden."""
    assert edges(db, Asked(last="2d")) == ("2026-12-18T11:00:00Z", "2026-12-20T11:00:00Z")
    assert edges(db, Asked(last="3h")) == ("2026-12-20T08:00:00Z", "2026-12-20T11:00:00Z")
    assert edges(db, Asked(last="1w")) == ("2026-12-13T11:00:00Z", "2026-12-20T11:00:00Z")


def test_dates_are_local_and_datetimes_carry_an_offset(db: Connection) -> None:
    """A date means its first moment in the zone; the end is not part of the window."""
    asked = Asked(since="2026-07-01", until="2026-07-02", timezone="Europe/Berlin")
    assert edges(db, asked) == ("2026-06-30T22:00:00Z", "2026-07-01T22:00:00Z")
    asked = Asked(since="2026-07-01T09:00:00+02:00", until="2026-07-01t08:00:00z", timezone="Asia/Tokyo")
    assert edges(db, asked) == ("2026-07-01T07:00:00Z", "2026-07-01T08:00:00Z")
    asked = Asked(since="2026-07-01T09:00", timezone="Asia/Tokyo")
    assert edges(db, asked) == ("2026-07-01T00:00:00Z", "2026-12-20T10:30:00Z")


def test_all_runs_from_the_first_enrolment_to_the_last_accounted_moment(db: Connection) -> None:
    """Its edges need not be whole hours."""
    assert edges(db, Asked(everything=True)) == ("2026-01-01T00:05:00Z", "2026-12-20T10:30:00Z")


def test_the_default_is_the_last_complete_week(db: Connection) -> None:
    """In week 48 that is week 47."""
    in_week_48_ms = MONDAY_MS + 9 * 24 * HOUR_MS
    assert edges(db, Asked(), in_week_48_ms) == ("2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z")


def test_the_default_is_all_where_the_last_week_has_no_data(db: Connection) -> None:
    """An old recording is shown as a whole."""
    assert edges(db, Asked(), NEW_YEAR_MS + 10**11) == ("2026-01-01T00:05:00Z", "2026-12-20T10:30:00Z")


def test_an_edge_may_lie_inside_an_hour(db: Connection) -> None:
    """Weeks of India begin at half past six in the evening; whether it can be read is another matter."""
    asked = Asked(week="2026-W47", timezone="Asia/Kolkata")
    assert edges(db, asked) == ("2026-11-15T18:30:00Z", "2026-11-22T18:30:00Z")
    assert edges(db, Asked(since="2026-07-01T08:20:00Z"))[0] == "2026-07-01T08:20:00Z"


def test_an_edge_outside_the_accounted_time_may_lie_anywhere(db: Connection) -> None:
    """Nothing is there to be split."""
    window = resolve(
        [journal_span(db)], Asked(since="2025-12-31T23:59:59Z", until="2027-01-01T00:00:01Z"), now_ms=0
    )
    part = covered(window, journal_span(db))
    assert (rfc3339(part.from_ms), rfc3339(part.to_ms)) == ("2026-01-01T00:05:00Z", "2026-12-20T10:30:00Z")


def test_a_window_without_data_says_what_the_journal_covers(db: Connection) -> None:
    """The user learns what can be asked for."""
    with pytest.raises(ReportError, match=r"covers 2026-01-01T00:05:00Z to 2026-12-20T10:30:00Z"):
        resolve([journal_span(db)], Asked(week="2025-W20"), now_ms=0)


@pytest.mark.parametrize(
    "asked",
    [
        Asked(week="2026-W54"),
        Asked(week="2026W47"),
        Asked(week="9999-W52"),
        Asked(week="0001-W01"),
        Asked(last="7"),
        Asked(last="0d"),
        Asked(last="9999999w"),
        Asked(since="2026-02-30"),
        Asked(since="yesterday"),
        Asked(since="2026-07-01T25:00:00Z"),
        Asked(since="2026-07-02", until="2026-07-01"),
        Asked(since="2026-10-25T02:30", timezone="Europe/Berlin"),
        Asked(week="2026-W47", last="7d"),
        Asked(everything=True, since="2026-07-01"),
        Asked(everything=True, timezone="Europe/Atlantis"),
        Asked(everything=True, timezone="Europe"),
        Asked(everything=True, timezone="../../etc/passwd"),
        Asked(everything=True, timezone="\0"),
        Asked(everything=True, timezone=""),
    ],
)
def test_what_is_not_understood_is_refused(db: Connection, asked: Asked) -> None:
    """No wording ends in a traceback or in a window that was not meant."""
    with pytest.raises(ReportError):
        resolve([journal_span(db)], asked, now_ms=0)


def test_an_empty_journal_says_what_to_do(tmp_path: Path) -> None:
    """Before the first interval there is nothing to report."""
    Small(tmp_path / "journal.db").save()
    with pytest.raises(ReportError, match=r"gputally run"):
        report_of(tmp_path / "journal.db")


def test_accounts_dropped_for_their_age_are_outside_the_accounted_time(tmp_path: Path) -> None:
    """The inventory is older than the accounts; the report begins with the accounts and stays sound."""
    path = tmp_path / "journal.db"
    small = Small(path)
    for _ in range(4):
        small.pass_by(HOUR_MS, {gpu(0): (None, Condition.LOST)})
    small.save()
    tamper(path, "DELETE FROM account_hour WHERE hour_ms < ?", MONDAY_MS + 2 * HOUR_MS)
    report = report_of(path)
    assert report.span.enrolled_ms == MONDAY_MS
    assert report.window.from_ms == MONDAY_MS + 2 * HOUR_MS
    assert report.inventory.gpu_ms == 2 * HOUR_MS
    assert report.identity_ok


def test_nobody_says_that_a_store_holds_accounts_since_1970() -> None:
    """Of a store only the end is known."""
    span = Span(first_ms=0, last_ms=MONDAY_MS, enrolled_ms=0)
    with pytest.raises(ReportError, match="2026-11-16T02:00:00Z: accounts end at 2026-11-16T00:00:00Z; ask"):
        covered(Window(from_ms=MONDAY_MS + HOUR_MS, to_ms=MONDAY_MS + 2 * HOUR_MS), span)
