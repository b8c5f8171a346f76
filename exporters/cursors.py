"""How far each exporter is: kept in the journal, in a table of its own, by a connection of its own.

The cursor is the number of the last tick that was settled. While an exporter catches up, the newest ticks go
first: then those in (ahead_from, ahead_to] are settled as well, and the cursor is behind them.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

from agent.journal_file import connect, translated
from agent.view import Standing


@dataclass(slots=True)
class Cursor:
    """How far an exporter is, and what became of what it sent; times are 0 for never."""

    name: str
    tick_id: int = 0
    ahead_from: int = 0
    ahead_to: int = 0
    delivered_ticks: int = 0
    refused_rows: int = 0
    dropped_ticks: int = 0
    success_ms: int = 0
    failure_ms: int = 0
    failure: str = ""
    refusal: str = ""

    @property
    def reached(self) -> int:
        """The newest tick that was settled."""
        return self.ahead_to or self.tick_id

    def close_gap(self) -> None:
        """Go on from the newest tick that was settled, if none before it is left."""
        if self.ahead_to and self.tick_id >= self.ahead_from:
            self.tick_id, self.ahead_from, self.ahead_to = max(self.ahead_to, self.tick_id), 0, 0

    def standing(self, newest: int) -> Standing:
        """Tell how far it is, when the newest tick has this number."""
        behind = self.ahead_from - self.tick_id if self.ahead_to else 0
        return Standing(
            name=self.name,
            waiting_ticks=max(0, newest - self.reached) + behind,
            delivered_ticks=self.delivered_ticks,
            refused_rows=self.refused_rows,
            dropped_ticks=self.dropped_ticks,
            failure=self.failure,
        )


_COLUMNS = tuple(field.name for field in fields(Cursor))
_ALL = f"SELECT {', '.join(_COLUMNS)} FROM exporter"


class Cursors:
    """Reads and writes the cursors of a journal. Methods raise JournalError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, name: str) -> Cursor:
        """Read a cursor; a new one stands before the first tick."""
        try:
            with closing(connect(self._path)) as db:
                row = db.execute(f"{_ALL} WHERE name = ?", (name,)).fetchone()
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        return Cursor(*row) if row else Cursor(name)

    def save(self, cursor: Cursor) -> None:
        """Write a cursor; what it passed is never sent again."""
        marks = ", ".join("?" * len(_COLUMNS))
        values = [getattr(cursor, name) for name in _COLUMNS]
        try:
            with closing(connect(self._path, writable=True)) as db:
                db.execute(
                    f"INSERT OR REPLACE INTO exporter ({', '.join(_COLUMNS)}) VALUES ({marks})", values
                )
        except sqlite3.Error as error:
            raise translated(error, self._path) from error


def cursors_of(db: sqlite3.Connection) -> list[Cursor]:
    """Read all cursors of a journal. Raises sqlite3.Error."""
    return [Cursor(*row) for row in db.execute(f"{_ALL} ORDER BY name")]
