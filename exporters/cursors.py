"""How far each exporter is: kept in the journal, in a table of its own, by a connection of its own.

The cursor is the number of the last tick that was settled. While an exporter catches up, the newest ticks go
first: then those in (ahead_from, ahead_to] are settled as well, and the cursor is behind them.

What tells of findings has TELLS for a cursor: how far it is stands in the table `told`, finding by finding.
Its `tick_ms` is a moment: what closed until then and was never told stays untold.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from agent.journal_file import connect, translated
from agent.view import Standing

NEW, TELLS = -1, -2
"""The tick of a cursor that was never saved, and of what tells of findings."""
Told = tuple[int, int, int | None]
"""What was told of a finding: its number, how often it opened, and when it closed if it did.

Where that it is open was sent, but no answer came, the count is negative: nobody knows whether it was told.
"""


@dataclass(slots=True)
class Cursor:
    """How far an exporter is, and what became of what it sent; times are 0 for never.

    `tick_ms` is the end of the cursor's tick. What the journal dropped unsent lay between `dropped_from_ms`
    and `dropped_until_ms`. `resends` counts how often the cursor was put back.
    """

    name: str
    tick_id: int = 0
    tick_ms: int = 0
    ahead_from: int = 0
    ahead_to: int = 0
    resends: int = 0
    delivered_ticks: int = 0
    refused_rows: int = 0
    dropped_ticks: int = 0
    dropped_from_ms: int = 0
    dropped_until_ms: int = 0
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

    def pass_dropped(self, oldest: int, oldest_ms: int) -> int:
        """Go on from the oldest tick that is left, which began then; give how many were lost unsent."""
        first, last = self.tick_id + 1, oldest - 1
        lost = last - first + 1
        if lost <= 0:
            return 0
        if self.ahead_to:
            lost -= max(0, min(last, self.ahead_to) - self.ahead_from)
        self.dropped_ticks += lost
        self.dropped_from_ms = self.dropped_from_ms or self.tick_ms
        self.dropped_until_ms = oldest_ms
        self.tick_id, self.tick_ms = last, oldest_ms
        self.close_gap()
        return lost

    def waiting(self, newest: int) -> int:
        """Tell how many ticks are left to send, when the newest has this number."""
        behind = self.ahead_from - self.tick_id if self.ahead_to else 0
        return max(0, newest - self.reached) + behind

    def standing(self, waiting: int) -> Standing:
        """Tell how far it is, with so many left to send."""
        return Standing(
            name=self.name,
            waiting_ticks=waiting,
            delivered_ticks=self.delivered_ticks,
            refused_rows=self.refused_rows,
            dropped_ticks=self.dropped_ticks,
            failure=self.failure,
        )


_COLUMNS = tuple(field.name for field in fields(Cursor))
_ALL = f"SELECT {', '.join(_COLUMNS)} FROM exporter"
_SAVE = f"""
INSERT INTO exporter ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))})
ON CONFLICT (name) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
WHERE exporter.resends = excluded.resends
"""
_PUT_BACK = """
UPDATE exporter SET tick_id = min(tick_id, ?), ahead_from = 0, ahead_to = 0, resends = resends + 1
WHERE name = ?
"""
_TELL = """
INSERT INTO told (exporter, finding_id, times, closed_ms) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET times = excluded.times, closed_ms = excluded.closed_ms
"""
_UNTELL = """
DELETE FROM told WHERE exporter = ? AND finding_id IN (
    SELECT id FROM finding WHERE closed_ms IS NULL OR closed_ms > ?)
"""
_TELL_AGAIN = "UPDATE exporter SET tick_ms = min(tick_ms, ?), resends = resends + 1 WHERE name = ?"


class Cursors:
    """Reads and writes the cursors of a journal. Methods raise JournalError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, name: str) -> Cursor:
        """Read a cursor; one that was never saved stands at NEW."""
        try:
            with closing(connect(self._path)) as db:
                row = db.execute(f"{_ALL} WHERE name = ?", (name,)).fetchone()
        except sqlite3.Error as error:
            raise translated(error, self._path) from error
        return Cursor(*row) if row else Cursor(name, tick_id=NEW)

    def save(self, cursor: Cursor, told: Iterable[Told] = ()) -> None:
        """Write a cursor and what was told, unless it was put back meanwhile."""
        with self._writing() as db:
            if db.execute(_SAVE, [getattr(cursor, name) for name in _COLUMNS]).rowcount:
                db.executemany(_TELL, ((cursor.name, *one) for one in told))

    def put_back(self, name: str, tick_id: int) -> None:
        """Have all ticks after a number sent again; one that is further back stays there."""
        with self._writing() as db:
            db.execute(_PUT_BACK, (tick_id, name))

    def untell(self, name: str, since_ms: int) -> None:
        """Have the findings told again that are open, or closed after a moment."""
        with self._writing() as db:
            db.execute(_UNTELL, (name, since_ms))
            db.execute(_TELL_AGAIN, (since_ms, name))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Write in one transaction, which closing takes back if it did not come to its end."""
        try:
            with closing(connect(self._path, writable=True)) as db:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise translated(error, self._path) from error


def cursors_of(db: sqlite3.Connection) -> list[Cursor]:
    """Read all cursors of a journal. Raises sqlite3.Error."""
    return [Cursor(*row) for row in db.execute(f"{_ALL} ORDER BY name")]
