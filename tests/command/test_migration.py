"""An update keeps the journal: a file of each schema that was ever written goes on, and says what it said."""

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from agent import schema_steps
from agent.schema import MIGRATIONS
from tests.agent.histories import INTERVAL_MS, MIDNIGHT, books_at, check_hours, gpu_of, rows, work
from tests.command.processes import MIXED, gputally, running

TICKS = 400
OLDER = range(1, len(MIGRATIONS))
RELEASED = {
    "FIRST": "2c44625b610279e0",
    "SECOND": "655f7554551a1b9a",
    "THIRD": "15b213aec4f9e4a3",
    "FOURTH": "8a4da0a79896b755",
}
"""What was released must stay as it was: a file that has taken a step never takes it again."""


def tables(db: sqlite3.Connection, schema: str = "main") -> dict[str, list[str]]:
    """Give the columns of all tables."""
    names = db.execute(f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table'")  # noqa: S608
    return {
        name: [row[1] for row in db.execute(f"PRAGMA {schema}.table_info({name})")]
        for (name,) in names.fetchall()
        if not name.startswith("sqlite_")
    }


def journal_of(schema: int, folder: Path) -> tuple[Path, int]:
    """Write a journal as the version with that schema did: its tables, with all that they can hold."""
    new, old = folder / "new.db", folder / "old.db"
    with books_at(new) as books:
        end_ms = work(books, MIDNIGHT, TICKS)
    with closing(sqlite3.connect(old, isolation_level=None)) as db:
        for step in MIGRATIONS[:schema]:
            step(db)
        db.execute(f"PRAGMA user_version = {schema}")
        db.execute("ATTACH ? AS new", (str(new),))
        known = tables(db, "new")
        for name, columns in tables(db).items():
            both = _listed(column for column in columns if column in known[name])
            db.execute(f"INSERT OR REPLACE INTO main.{name} ({both}) SELECT {both} FROM new.{name}")  # noqa: S608
    return old, end_ms


def content(path: Path, like: dict[str, list[str]]) -> dict[str, list[tuple[object, ...]]]:
    """Give what tables hold in these columns."""
    return {
        name: sorted(rows(path, f"SELECT {_listed(columns)} FROM {name}"), key=repr)  # noqa: S608
        for name, columns in like.items()
        if name != "meta"
    }


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


@pytest.mark.parametrize("schema", OLDER)
def test_an_older_journal_is_brought_up_to_date(tmp_path: Path, schema: int) -> None:
    """All of its rows stay as they were, its accounts go on, and no second is missing or counted twice."""
    path, end_ms = journal_of(schema, tmp_path)
    with closing(sqlite3.connect(path)) as db:
        like = tables(db)
    before = content(path, like)
    assert len(before["posting"]) == 2 * TICKS
    with books_at(path, now_ms=end_ms) as books:
        assert books.journal.moved_aside is None
        assert content(path, like) == before
        books.resume("hall2-n017", end_ms, MIDNIGHT)
        end_ms = work(books, end_ms, 10)
    check_hours(path, {gpu_of(number).uuid: (MIDNIGHT, end_ms) for number in range(2)})
    assert end_ms == MIDNIGHT + (TICKS + 10) * INTERVAL_MS


@pytest.mark.parametrize("schema", OLDER)
def test_reports_of_an_older_journal_say_the_same(tmp_path: Path, schema: int) -> None:
    """Readers say that it must be brought up to date; an agent does that, and then it is the same report."""
    path, _ = journal_of(schema, tmp_path)
    window = ("--from", "2026-01-06T00:00:00Z", "--to", "2026-01-06T01:00:00Z", "--format", "csv")
    refused = gputally(tmp_path, "report", "--journal", path, *window)
    assert refused.code == 1
    assert "let this one run on it once" in refused.errors
    with running(tmp_path, *MIXED, "--journal", path) as agent:
        agent.shows_gpus()
        assert agent.end() == 0
    expected = gputally(tmp_path, "report", "--journal", tmp_path / "new.db", *window)
    assert expected.code == 0, expected.errors
    assert gputally(tmp_path, "report", "--journal", path, *window).out == expected.out
    assert "2026-01-06" in expected.out


@pytest.mark.parametrize("name", RELEASED)
def test_a_step_that_was_released_stays(name: str) -> None:
    """To change the journal, add a step."""
    text = getattr(schema_steps, name)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == RELEASED[name]


def test_every_step_is_named_above() -> None:
    """Also those to come."""
    assert len(RELEASED) == len(MIGRATIONS)
