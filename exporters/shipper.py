"""Sends the ticks of the journal to one store, each settled before the cursor moves on.

- Delivered and refused ticks are never sent again; an unreachable store gets them later, with growing pauses.
- A batch that is refused is sent in halves, so that one bad row takes none of its neighbours along.
- After an outage the newest ticks go first, then the others, oldest first, in between new ones; where a store
  wants samples in order, all go oldest first.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.clock import moment, now_ms
from exporters.courier import Courier, log
from exporters.cursors import Cursor
from exporters.history import History
from exporters.parcel import Batch, Parcel
from exporters.rows import Row
from exporters.settle import Outcome, Transport, Verdict

BATCH_TICKS = 30
LIVE_TICKS = 60
"""With more to catch up, the newest so many go first."""
IDLE_SECONDS = 30.0
"""How long to wait for a tick before looking by oneself."""

Encode = Callable[[Iterable[Row]], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """What a shipper needs to know of its store."""

    name: str
    encode: Encode
    transport: Transport
    most_bytes: int = 4 * 1024 * 1024
    newest_first: bool = True
    spread_seconds: float = 0.0


class Shipper(Courier):
    """Sends ticks to one store."""

    def __init__(self, shipment: Shipment, journal: Path, labels: Mapping[str, str]) -> None:
        super().__init__(shipment.name, journal, shipment.transport.close, shipment.spread_seconds)
        self._shipment = shipment
        self._labels = labels
        self._live: tuple[int, History] | None = None
        self._back: tuple[int, History] | None = None
        self._parcel: Parcel | None = None
        self._resends = 0

    def _step(self) -> float:
        db = self._open()
        cursor = self._cursors.load(self.name)
        if cursor.resends != self._resends:
            self._resends, self._parcel = cursor.resends, None
        newest = self._begin(db, cursor)
        self.standing = cursor.standing(cursor.waiting(newest))
        if self._shipment.newest_first and newest - cursor.reached > LIVE_TICKS:
            cursor.ahead_from = cursor.ahead_to = newest - LIVE_TICKS
            self._parcel = None
        if self._parcel is None:
            batch, is_live = self._next(db, cursor)
            if not batch:
                return IDLE_SECONDS
            self._parcel = Parcel(batch, is_live=is_live)
        while self._parcel.part and not self._closed:
            outcome = self._send(self._parcel)
            if outcome.verdict is Verdict.UNREACHABLE:
                return self._fail(cursor, outcome)
            self._settle(cursor, self._parcel)
        self._parcel = None
        return 0.0

    def _next(self, db: sqlite3.Connection, cursor: Cursor) -> tuple[Batch, bool]:
        """Read the next batch: what is new, else what is still behind."""
        if self._live is None or self._live[0] != cursor.reached:
            self._live = cursor.reached, History(db, cursor.reached, self._labels)
        batch = self._live[1].ticks(BATCH_TICKS)
        if batch:
            self._live = batch[-1][0].id, self._live[1]
            return batch, True
        if not cursor.ahead_to:
            return [], True
        if self._back is None or self._back[0] != cursor.tick_id:
            self._back = cursor.tick_id, History(db, cursor.tick_id, self._labels)
        batch = self._back[1].ticks(BATCH_TICKS, until=cursor.ahead_from)
        if batch:
            self._back = batch[-1][0].id, self._back[1]
            return batch, False
        cursor.tick_id = cursor.ahead_from
        cursor.close_gap()
        self._cursors.save(cursor)
        return [], True

    def _send(self, parcel: Parcel) -> Outcome:
        """Send the next part of a parcel, cut where it is too large or something in it is refused."""
        while True:
            body = self._shipment.encode(parcel.rows)
            if len(body) > self._shipment.most_bytes and parcel.halve():
                continue
            outcome = self._shipment.transport.send(body)
            if outcome.verdict is Verdict.REFUSED and parcel.search(outcome):
                continue
            if outcome.verdict is Verdict.REFUSED or outcome.refused:
                self._refuse(parcel, outcome)
            return outcome

    def _settle(self, cursor: Cursor, parcel: Parcel) -> None:
        """Put the next part of a parcel away, and move the cursor beyond the ticks that are whole."""
        ticks, last = parcel.settle()
        if last is None:
            return
        if not parcel.is_live:
            cursor.tick_id = last.id
        elif cursor.ahead_to:
            cursor.ahead_to = last.id
        else:
            cursor.tick_id = last.id
        cursor.close_gap()
        if cursor.tick_id == last.id:
            cursor.tick_ms = last.end_ms
        cursor.delivered_ticks += ticks
        cursor.refused_rows += parcel.refused
        cursor.refusal = parcel.refusal or cursor.refusal
        parcel.refused = 0
        cursor.success_ms, cursor.failure = now_ms(), ""
        self._cursors.save(cursor)
        waiting = self.standing.waiting_ticks - ticks
        self.standing = cursor.standing(waiting)
        self._well()

    def _refuse(self, parcel: Parcel, outcome: Outcome) -> None:
        """Count rows that will never be taken, or a part of their figures; the first of a kind is told."""
        rows = parcel.rows
        refused = outcome.refused or len(rows)
        parcel.refused += refused
        parcel.refusal = outcome.reason
        if outcome.reason != self._refusal:
            self._refusal = outcome.reason
            log.warning(
                "exporter %s: the store refuses %d %s such as %s of %d: %s",
                self.name,
                refused,
                "figures for good, in a batch of rows" if outcome.refused else "rows for good,",
                dict(rows[0].labels),
                rows[0].at_ms,
                outcome.reason,
            )

    def _begin(self, db: sqlite3.Connection, cursor: Cursor) -> int:
        """Put a cursor where there are ticks, count what the journal's bounds dropped; give the newest."""
        oldest, newest = db.execute("SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM tick").fetchone()
        found = db.execute("SELECT start_ms FROM tick WHERE id = ?", (oldest,)).fetchone()
        oldest_ms = found[0] if found else 0
        if cursor.tick_id < 0 or cursor.reached > newest:  # a new one, or another journal
            cursor.tick_id, cursor.tick_ms = max(0, oldest - 1), oldest_ms
            cursor.ahead_from = cursor.ahead_to = 0
            self._cursors.save(cursor)
        elif cursor.tick_id < oldest - 1:
            from_ms = cursor.tick_ms
            lost = cursor.pass_dropped(oldest, oldest_ms)
            self._cursors.save(cursor)
            if lost:
                log.warning(
                    "exporter %s: the journal dropped %d ticks between %s and %s before they were sent",
                    self.name,
                    lost,
                    moment(from_ms),
                    moment(oldest_ms),
                )
        return int(newest)

    def _forget(self) -> None:
        super()._forget()
        self._live = self._back = None
        self._parcel = None
