"""What people say of findings: kept beside what the agent writes, pruned with it, and taken over."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent import remarks
from agent.books import Books
from agent.errors import JournalBroken, JournalError
from agent.journal import JournalSettings
from agent.journal_file import connect
from agent.remarks import (
    LONGEST_REASON,
    NOTHING_SAID,
    Acknowledgement,
    Remarks,
    Silence,
    acknowledge,
    acknowledgements,
    carry_over,
    cleaned,
    end_silence,
    salvage,
    silence,
    silence_of,
    silenced,
    silences,
    withdraw,
    writing,
)
from agent.tally import DAY_MS
from agent.tick import Finding
from tests.agent.histories import INTERVAL_MS, MIDNIGHT, NODE, books_at, gpu_of, rows, steady_tick

GPUS = (gpu_of(0), gpu_of(1))
QUIET = Silence(
    rule="hot", uuid=GPUS[0].uuid, from_ms=MIDNIGHT, until_ms=MIDNIGHT + 1_000, author="ada", reason="a fan"
)
ALL_OF_IT = replace(QUIET, rule="", uuid="")
LONG = replace(ALL_OF_IT, until_ms=MIDNIGHT + DAY_MS)


def finding(rule: str = "hot", index: int = 0, opened_ms: int = MIDNIGHT) -> Finding:
    """Make a finding on a GPU."""
    return Finding(rule=rule, severity="warning", node=NODE, uuid=GPUS[index].uuid, opened_ms=opened_ms)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a journal with a finding on each GPU, the first of which has closed."""
    path = tmp_path / "journal.db"
    with books_at(path) as books:
        judged(books, MIDNIGHT, finding(), finding(index=1))
        judged(books, MIDNIGHT + INTERVAL_MS, finding(index=1))
    return path


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    """Read that journal."""
    with closing(connect(path)) as db:
        yield db


def judged(books: Books, start_ms: int, *findings: Finding) -> None:
    """Write an interval in which these are found."""
    books.post(steady_tick(start_ms), {}, judge=lambda _: findings)
    assert books.commit(start_ms + INTERVAL_MS) is None


# What a silence is about


@pytest.mark.parametrize(
    ("rule", "uuid", "covered"),
    [
        ("hot", GPUS[0].uuid, True),
        ("hot", "", True),
        ("", GPUS[0].uuid, True),
        ("", "", True),
        ("hot", GPUS[1].uuid, False),
        ("idle", GPUS[0].uuid, False),
        ("idle", "", False),
        ("", GPUS[1].uuid, False),
    ],
)
def test_a_silence_is_about_its_rule_on_its_gpu(rule: str, uuid: str, *, covered: bool) -> None:
    """What it does not name may be any."""
    assert replace(QUIET, rule=rule, uuid=uuid).covers(finding()) is covered


def test_a_finding_of_the_node_is_silenced_by_its_rule() -> None:
    """A silence of a GPU is not about it."""
    of_node = replace(finding(), uuid="")
    assert replace(QUIET, uuid="").covers(of_node)
    assert not replace(QUIET, rule="").covers(of_node)


def test_the_silence_that_lasts_longest_is_told() -> None:
    """And none where none is about the finding."""
    longer = replace(ALL_OF_IT, until_ms=QUIET.until_ms + 1)
    assert silence_of(finding(), [QUIET, longer, ALL_OF_IT]) is longer
    assert silence_of(finding("idle", 1), [QUIET]) is None


def test_a_silence_ends_by_itself(path: Path, db: sqlite3.Connection) -> None:
    """At its end nobody is silent any more, but it is still known."""
    with writing(path) as to:
        number = silence(to, QUIET)
    assert silenced(db, QUIET.until_ms - 1)(finding())
    assert not silenced(db, QUIET.until_ms - 1)(finding(index=1))
    assert not silenced(db, QUIET.until_ms)(finding())
    assert silences(db, 0) == [replace(QUIET, number=number)]


def test_a_silence_is_ended_once(path: Path, db: sqlite3.Connection) -> None:
    """Neither one that is over, nor one that there is none of, is ended."""
    with writing(path) as to:
        number = silence(to, QUIET)
        assert end_silence(to, number, MIDNIGHT + 10)
        assert not end_silence(to, number, MIDNIGHT + 20)
        assert not end_silence(to, number + 1, MIDNIGHT)
    assert [one.until_ms for one in silences(db, 0)] == [MIDNIGHT + 10]


def test_an_acknowledgement_takes_the_place_of_another(path: Path, db: sqlite3.Connection) -> None:
    """And goes once."""
    with writing(path) as to:
        acknowledge(to, [1, 2], at_ms=1, author="ada", reason="seen")
        acknowledge(to, [2], at_ms=2, author="grace", reason="mine")
        assert withdraw(to, 1)
        assert not withdraw(to, 1)
    assert acknowledgements(db) == {2: Acknowledgement(finding=2, at_ms=2, author="grace", reason="mine")}


# Writing


def test_what_fails_is_undone(path: Path, db: sqlite3.Connection) -> None:
    """All that is said in one go is kept or nothing of it."""

    def interrupted() -> None:
        with writing(path) as to:
            silence(to, QUIET)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert silences(db, 0) == []


def test_a_journal_is_not_made(tmp_path: Path) -> None:
    """Nor is a file that is none written."""
    with pytest.raises(JournalError, match="there is no journal"), writing(tmp_path / "none.db"):
        pass
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (sqlite3.SQLITE_READONLY, "may read the journal .* do it as "),
        (sqlite3.SQLITE_CANTOPEN, "may read the journal .* do it as "),
        (sqlite3.SQLITE_BUSY, "is being written for long: try again"),
        (sqlite3.SQLITE_FULL, "no space left for the journal"),
    ],
)
def test_what_cannot_be_written_is_said(path: Path, code: int, said: str) -> None:
    """In terms of who writes the journal."""
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code

    def failing() -> None:
        with writing(path):
            raise error

    with pytest.raises(JournalError, match=said):
        failing()


def test_whose_journal_it_is_may_be_unknown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of another host, as in a container, has no name here."""
    monkeypatch.setattr(remarks, "connect", lambda path, **_: connect(path))

    def nameless(_: Path) -> str:
        raise KeyError

    monkeypatch.setattr(Path, "owner", nameless)
    with pytest.raises(JournalError, match="do it as its owner"), writing(path) as to:
        silence(to, QUIET)


def test_words_are_one_line_of_what_prints() -> None:
    """However long they are."""
    assert cleaned(" a\n\tfan\x1b[2J\u202e\udcff ", 100) == "a fan?[2J??"
    assert len(cleaned("x" * (1 << 24), LONGEST_REASON)) == LONGEST_REASON


# Pruning


def test_what_is_said_goes_with_what_it_is_said_of(path: Path) -> None:
    """Old silences, findings that closed long ago, and what was said and told of them; what is open stays."""
    with writing(path) as to:
        silence(to, QUIET)
        silence(to, replace(QUIET, until_ms=MIDNIGHT + 500 * DAY_MS))
        acknowledge(to, [1, 2], at_ms=1, author="ada", reason="seen")
        to.executemany("INSERT INTO told VALUES ('pager', ?, 1, NULL)", [(1,), (2,), (77,)])
    closed_ms = MIDNIGHT + 2 * INTERVAL_MS
    with books_at(path) as books:
        for at_ms, left in ((closed_ms + 400 * DAY_MS, 2), (closed_ms + 400 * DAY_MS + 1, 1)):
            books.journal.prune(at_ms)
            assert len(rows(path, "SELECT id FROM finding")) == left
    assert rows(path, "SELECT id FROM finding") == [(2,)]
    assert rows(path, "SELECT finding_id FROM acknowledgement") == [(2,)]
    assert rows(path, "SELECT finding_id FROM told") == [(2,)]
    assert rows(path, "SELECT id FROM silence") == [(2,)]


def test_what_may_open_again_is_kept_for_a_day(tmp_path: Path) -> None:
    """However little the settings keep: it is written as once more, not as another."""
    path = tmp_path / "journal.db"
    with books_at(path, keep=JournalSettings(accounts_age_days=1e-6)) as books:
        judged(books, MIDNIGHT, finding())
        judged(books, MIDNIGHT + INTERVAL_MS)
        books.journal.prune(MIDNIGHT + 10 * INTERVAL_MS)
        judged(books, MIDNIGHT + 10 * INTERVAL_MS, finding())
    assert rows(path, "SELECT id, times, closed_ms FROM finding") == [(1, 2, None)]


# A broken journal


def test_a_new_journal_takes_over_what_was_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silences that hold, and what is said of open findings, whose numbers change."""
    with writing(path) as to:
        silence(to, QUIET)
        silence(to, LONG)
        acknowledge(to, [1, 2], at_ms=7, author="ada", reason="seen")
    end_ms = MIDNIGHT + 2 * INTERVAL_MS

    def is_broken(*_: object) -> None:
        monkeypatch.undo()
        raise JournalBroken("it is")

    with books_at(path) as books:
        monkeypatch.setattr(books.journal, "commit", is_broken)
        books.post(steady_tick(end_ms), {}, judge=lambda _: [finding(index=1)])
        assert books.commit(end_ms + INTERVAL_MS) is not None
    assert rows(path, "SELECT finding.id, uuid FROM finding JOIN gpu ON gpu.id = gpu_id") == [
        (1, GPUS[1].uuid)
    ]
    assert rows(path, "SELECT * FROM acknowledgement") == [(1, 7, "ada", "seen")]
    with closing(connect(path)) as db:
        assert silences(db, 0) == [replace(LONG, number=1)]


def test_findings_outlive_a_journal_that_went_bad(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that opened again, and one that closed while nothing could be written."""
    first = MIDNIGHT + 3 * INTERVAL_MS
    flaps, closes = finding(index=0), finding(index=1)
    with books_at(path) as books:
        for turn, found in enumerate(([flaps, closes], [closes], [flaps, closes])):
            end_ms = first + turn * INTERVAL_MS
            judged(books, end_ms, *found)
        before = rows(path, "SELECT rule, opened_ms, times FROM finding ORDER BY gpu_id")

        def is_broken(*_: object) -> None:
            monkeypatch.undo()
            raise JournalBroken("it is")

        monkeypatch.setattr(books.journal, "commit", is_broken)
        end_ms = first + 3 * INTERVAL_MS
        books.post(steady_tick(end_ms), {}, judge=lambda _: [flaps])
        assert books.commit(end_ms) is not None
    assert rows(path, "SELECT rule, opened_ms, times FROM finding ORDER BY gpu_id") == before
    assert rows(path, "SELECT closed_ms FROM finding ORDER BY gpu_id") == [(None,), (end_ms + INTERVAL_MS,)]
    assert [times for *_, times in before] == [3, 1]


def test_what_was_salvaged_is_kept_until_a_new_journal_could_be_begun(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try may meet a full disk, and the second has no file to read any more."""
    with writing(path) as to:
        silence(to, LONG)
    with books_at(path) as books:
        journal, end_ms = books.journal, MIDNIGHT + 2 * INTERVAL_MS
        with monkeypatch.context() as full:
            full.setattr(journal, "_open", lambda _: _raise(OSError(28, "No space left on device")))
            with pytest.raises(JournalError, match="No space left"):
                journal.begin_anew(end_ms, books.accounts, ())
        journal.begin_anew(end_ms, books.accounts, ())
    with closing(connect(path)) as db:
        assert silences(db, 0) == [replace(LONG, number=1)]


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("value", ["'soon'", "x'00ff'", "9e999", "CAST(x'ff' AS TEXT)"])
@pytest.mark.parametrize("column", ["until_ms", "from_ms"])
def test_what_cannot_be_read_is_left_behind(path: Path, column: str, value: str) -> None:
    """A broken file may hold anything; a new one is begun all the same."""
    with writing(path) as to:
        silence(to, LONG)
        to.execute(f"UPDATE silence SET {column} = {value}")  # noqa: S608  our own words
        assert salvage(to, MIDNIGHT) == NOTHING_SAID
    with closing(connect(path)) as closed:
        pass
    assert salvage(closed, MIDNIGHT) == NOTHING_SAID


def test_numbers_that_nobody_can_write_are_left_behind(path: Path, db: sqlite3.Connection) -> None:
    """SQLite reads some that it does not take."""
    with writing(path) as to:
        carry_over(to, Remarks((replace(LONG, until_ms=1 << 70),)))
    assert silences(db, 0) == []
