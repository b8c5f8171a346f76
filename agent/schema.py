"""The journal's tables, as steps that bring an older file up to date.

Each step runs in one transaction together with the number that records it. The columns of `reading` follow
`agent.quantities.QUANTITIES`, those of `gpu_hour` `agent.hourly.FIGURES`: one that is new to a file is added
as a column, one that is gone stays.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.errors import JournalError
from agent.hourly import THROTTLE_COLUMNS, Merge
from agent.pieces import SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.schema_steps import FIRST, FOURTH, SECOND, THIRD


def _step(statements: str) -> Callable[[sqlite3.Connection], None]:
    def run(db: sqlite3.Connection) -> None:
        for statement in statements.split(";\n"):
            if statement.strip():
                db.execute(statement)

    return run


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _step(FIRST),
    _step(SECOND),
    _step(THIRD),
    _step(FOURTH),
)
"""In order; the position + 1 is the schema's number. Never edit one that was released: add another."""


def migrate(db: sqlite3.Connection) -> None:
    """Bring the file up to date. Raises JournalError for a file of a newer gputally."""
    number = db.execute("PRAGMA user_version").fetchone()[0]
    if number > len(MIGRATIONS):
        raise JournalError(
            f"the journal has schema {number}, this gputally knows up to {len(MIGRATIONS)}: "
            "install the newer gputally that wrote it"
        )
    for position in range(number, len(MIGRATIONS)):
        _in_transaction(db, MIGRATIONS[position], position + 1)
    _add_columns(db, "reading", QUANTITIES)
    _add_columns(db, "slice_reading", SLICE_QUANTITIES)
    _add_columns(db, "gpu_hour", THROTTLE_COLUMNS.values(), "INTEGER")


def _add_columns(db: sqlite3.Connection, table: str, names: Iterable[str], kind: str = "REAL") -> None:
    known = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
    for name in names:
        if name not in known:
            db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")


def columns(db: sqlite3.Connection, table: str, names: Iterable[str]) -> str:
    """Write columns of a table as SQL selects them; NULL in place of those that are newer than the file."""
    known = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
    return ", ".join(f"{table}.{name}" if name in known else "NULL" for name in names)


def merging(table: str, keys: Sequence[str], figures: Mapping[str, Merge]) -> str:
    """Write in SQL how a row is merged into that of the same keys; what is NULL in one is as in the other."""

    def merged(name: str, how: Merge) -> str:
        new = f"excluded.{name}"
        both = f"{name} + {new}" if how == "sum" else f"{how}({name}, {new})"
        return f"{name} = coalesce({both}, {name}, {new})"

    names = (*keys, *figures)
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES (?{', ?' * (len(names) - 1)}) "
        f"ON CONFLICT DO UPDATE SET {', '.join(merged(*one) for one in figures.items())}"
    )


def _in_transaction(db: sqlite3.Connection, step: Callable[[sqlite3.Connection], None], number: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        step(db)
        db.execute(f"PRAGMA user_version = {number}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
