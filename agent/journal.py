"""The node's journal: one SQLite file, the only place where data rests.

- An interval is in it completely or not at all: tick, ledger, accounts and spells commit together.
- What was committed stays through any kill of the process; accounts never go down.
- One process writes; a second one is refused while the first lives.
- A broken file is moved aside under a name that says when, never deleted, and a new one is begun.
- It is bounded by age and by bytes: the oldest ticks go first and are counted, the accounts stay.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agent.accounts import Accounts, Key
from agent.errors import JournalBroken, JournalError, SettingsError
from agent.journal_file import connect, lock, move_aside, translated, translated_writing
from agent.lifelong import Row
from agent.record import Record, folded
from agent.remarks import NOTHING_SAID, carry_over, salvage
from agent.restore import Memory, restore
from agent.schema import migrate
from agent.scribe import Hours, Scribe
from agent.tally import DAY_MS, Timeline
from agent.tenures import Tenure
from agent.tick import Finding, Gpu
from agent.xids import XidRow

LONGEST_DAYS = 36_500
PRUNE_BATCH = 2_000
"""Ticks dropped in one transaction, so that a long prune never holds the file for long."""
_OLD_PARTS = """DELETE FROM part WHERE at_ms < ?
    AND EXISTS (SELECT 1 FROM part AS later WHERE later.gpu_id = part.gpu_id
    AND later.quantity = part.quantity AND later.labels = part.labels AND later.at_ms > part.at_ms)"""
"""What changed since; the latest value of each part stays."""
_OLD = (
    "DELETE FROM account_hour WHERE hour_ms < ?",
    "DELETE FROM gpu_hour WHERE hour_ms < ?",
    "DELETE FROM xid_hour WHERE hour_ms < ?",
    "DELETE FROM spell WHERE ended = 1 AND end_ms < ?",
    "DELETE FROM event WHERE at_ms < ?",
    "DELETE FROM tenure WHERE ended = 1 AND end_ms < ?",
    "DELETE FROM silence WHERE until_ms < ?",
)
_KEPT_FINDINGS = "(SELECT id FROM finding WHERE closed_ms IS NULL OR closed_ms >= ?)"
_OLD_FINDINGS = (
    f"DELETE FROM acknowledgement WHERE finding_id NOT IN {_KEPT_FINDINGS}",
    f"DELETE FROM told WHERE finding_id NOT IN {_KEPT_FINDINGS}",
    "DELETE FROM finding WHERE closed_ms < ?",
)
"""What is said of a finding goes before it does: a new finding could get its number."""
_OF_TICKS = (("posting", "tick_id"), ("reading", "tick_id"), ("slice_reading", "tick_id"), ("tick", "id"))
BYTES_BATCH = 100
"""Ticks dropped before the size is looked at again, so that a small journal is not emptied at one go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """Where the journal lies and how much it keeps.

    `sync` is "full" (a committed interval survives a power cut) or "normal" (it survives a kill).
    """

    path: str = ""
    tick_age_days: float = 30.0
    accounts_age_days: float = 400.0
    max_bytes: int = 2 * 1024**3
    spell_kept_seconds: float = 60.0
    sync: str = "full"

    def __post_init__(self) -> None:
        """Refuse values that cannot be meant."""
        for name in ("tick_age_days", "accounts_age_days"):
            if not 0 < getattr(self, name) <= LONGEST_DAYS:
                raise SettingsError(f"[journal] {name} must lie between 0 and {LONGEST_DAYS} days")
        if self.max_bytes < 1024**2:
            raise SettingsError("[journal] max_bytes must be at least 1048576 (1 MiB)")
        if not 0 <= self.spell_kept_seconds <= 10**15:
            raise SettingsError("[journal] spell_kept_seconds must not be negative")
        if self.sync not in ("full", "normal"):
            raise SettingsError('[journal] sync must be "full" or "normal"')


class Counted(NamedTuple):
    """What is counted over the life of a GPU or a holder, and for a new file the findings that are open."""

    counters: Sequence[Row] = ()
    xids: Sequence[XidRow] = ()
    findings: Sequence[Finding] = ()
    tenures: Sequence[Tenure] = ()


NOTHING_COUNTED = Counted()


class Journal:
    """The writer. Records queue until `commit` writes them all in one transaction."""

    def __init__(self, path: Path, settings: JournalSettings, now_ms: int, *, mend: bool = True) -> None:
        """Open or make the file; a broken one is moved aside, unless `mend` is false. Raises JournalError."""
        self.path = path
        self.settings = settings
        self.moved_aside: Path | None = None
        self.ticks_dropped = 0
        self._pending: list[Record] = []
        self._gone = False
        self._remarks = NOTHING_SAID
        self._labels: dict[str, Mapping[str, str]] = {}
        self._lock = lock(path)
        try:
            self._open(now_ms, mend=mend)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, now_ms: int, *, mend: bool = True) -> None:
        try:
            self._db = self._connect()
        except JournalBroken:
            if not mend:
                raise
            self.moved_aside = move_aside(self.path, now_ms)
            self._db = self._connect()
        self._scribe = Scribe(self._db)

    def _connect(self) -> sqlite3.Connection:
        db = connect(self.path, writable=True)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {self.settings.sync.upper()}")
            migrate(db)
            self._read_back(db)
        except sqlite3.Error as error:
            db.close()
            raise translated(error, self.path) from error
        except BaseException:
            db.close()
            raise
        return db

    def _read_back(self, db: sqlite3.Connection) -> None:
        """Read all that an agent must remember: a file in which that fails is no use, however sound it is."""
        try:
            row = db.execute("SELECT value FROM meta WHERE key = 'ticks_dropped'").fetchone()
            self.ticks_dropped = int(row[0])
            restore(db)
        except (ValueError, TypeError) as error:
            raise JournalBroken(f"{self.path} does not read back: {error}") from error
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF == sqlite3.SQLITE_ERROR:
                raise JournalBroken(f"{self.path} does not read back: {error}") from error
            raise

    def memory(self) -> Memory:
        """Read back what the last commit left."""
        return restore(self._db)

    @property
    def pending(self) -> int:
        """How many records wait for a commit that works."""
        return len(self._pending)

    def record(self, record: Record) -> None:
        """Queue an interval for the next commit."""
        self._pending.append(record)

    def label(self, node: str, labels: Mapping[str, str]) -> None:
        """Have the static labels of a node written with the next commit, in place of those before."""
        self._labels[node] = dict(labels)

    def thin(self, whole: int) -> int:
        """Take the readings from all but the newest queued records, and let old ones of an hour become one.

        Gives how many readings went. What is queued is then at most `whole` records and one for each hour
        before them, and one more where a GPU came or left.
        """
        old, new = self._pending[:-whole], self._pending[-whole:]
        gone = sum(len(record.tick.readings) for record in old)
        kept: list[Record] = []
        for record in old:
            bare = record.without_readings()
            if kept and (one := folded(kept[-1], bare)):
                kept[-1] = one
            else:
                kept.append(bare)
        self._pending = kept + new
        return gone

    def commit(
        self, accounts: Accounts, timelines: Iterable[Timeline], counted: Counted = NOTHING_COUNTED
    ) -> None:
        """Write all that is queued in one transaction; on an error the queue stays as it is.

        Raises JournalError (no space, read-only), JournalBroken when the file went bad.
        """
        if self._gone:
            raise JournalBroken(f"{self.path} could not be begun anew")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._write(accounts, timelines)
                self._scribe.counters(counted.counters)
                self._scribe.xids(counted.xids)
                self._scribe.tenures(counted.tenures)
                self._db.execute("COMMIT")
            except BaseException:
                self._scribe.forget()
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise translated_writing(error, self.path) from error
        self._pending.clear()

    def _write(self, accounts: Accounts, timelines: Iterable[Timeline]) -> None:
        hours: Hours = {}
        grown: set[Key] = set()
        for node, labels in self._labels.items():
            self._scribe.label(node, labels)
        for tick, posting, keys, events, left, findings, hourly in self._pending:
            for gpu in tick.gpus or ():
                self._scribe.seat(gpu, tick.node, tick.start_ms)
            number = self._scribe.tick(tick)
            self._scribe.entries(number, posting.entries, hours)
            grown |= keys
            self._scribe.events(events)
            self._scribe.findings(findings)
            self._scribe.hourly(hourly, tick.node)
            for line in left:
                self._scribe.unseat(line)
        spells = [spell for record in self._pending for spell in record.posting.spells]
        self._scribe.spells(spells, round(self.settings.spell_kept_seconds * 1000))
        self._scribe.hours(hours)
        self._scribe.accounts(accounts.by_key, grown)
        self._scribe.timelines(timelines)

    def begin_anew(
        self,
        now_ms: int,
        accounts: Accounts,
        gpus: Sequence[tuple[Gpu, Timeline]],
        counted: Counted = NOTHING_COUNTED,
    ) -> Path:
        """Move a file that went bad aside, begin a new one with the accounts as they stand; give its name.

        What is queued stays queued; the next commit writes it into the new file. What people said of findings
        is taken over where it can still be read.
        """
        if not self._gone:
            self._remarks = salvage(self._db, now_ms)
        self._gone = True
        with suppress(sqlite3.Error):
            self._db.close()
        dropped = self.ticks_dropped
        try:
            aside = move_aside(self.path, now_ms)
            self._open(now_ms)
            self._begin(accounts, gpus, dropped, counted)
        except OSError as error:
            raise JournalError(
                f"cannot move the broken journal {self.path} aside: {error.strerror}"
            ) from error
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        self._gone = False
        return aside

    def _begin(
        self, accounts: Accounts, gpus: Sequence[tuple[Gpu, Timeline]], dropped: int, counted: Counted
    ) -> None:
        since_ms = {line.uuid: line.until_ms for _, line in gpus}
        for record in self._pending:
            for entry in record.posting.entries:
                since_ms[entry.uuid] = min(entry.start_ms, since_ms.get(entry.uuid, entry.start_ms))
        self._db.execute("BEGIN IMMEDIATE")
        for gpu, line in gpus:
            self._scribe.seat(gpu, line.node, since_ms[gpu.uuid])
        self._scribe.accounts(accounts.by_key, accounts.by_key)
        self._scribe.counters(counted.counters)
        self._scribe.xids(counted.xids)
        self._scribe.tenures(counted.tenures)
        queued = {one for record in self._pending for one in record.findings}
        self._scribe.findings(one for one in counted.findings if one not in queued)
        carry_over(self._db, self._remarks)
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'ticks_dropped'", (str(dropped),))
        self._db.execute("COMMIT")
        self.ticks_dropped = dropped

    def used_bytes(self) -> int:
        """Tell the bytes in use inside the file, without free pages. Raises JournalError."""
        try:
            pages, free, size = (
                self._db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        return int((pages - free) * size)

    def prune(self, now_ms: int) -> int:
        """Drop what is too old or too much, oldest ticks first; give how many ticks went."""
        oldest_ms = now_ms - round(self.settings.tick_age_days * DAY_MS)
        dropped = 0
        try:
            while gone := self._drop_ticks(PRUNE_BATCH, "WHERE end_ms < ?", (oldest_ms,)):
                dropped += gone
            while self.used_bytes() > self.settings.max_bytes and (gone := self._drop_ticks(BYTES_BATCH)):
                dropped += gone
            accounts_ms = now_ms - round(self.settings.accounts_age_days * DAY_MS)
            self._db.execute(_OLD_PARTS, (oldest_ms,))
            for statement in _OLD:
                self._db.execute(statement, (accounts_ms,))
            closed_ms = min(accounts_ms, now_ms - DAY_MS)  # what closed of late may open again
            for statement in _OLD_FINDINGS:
                self._db.execute(statement, (closed_ms,))
        except sqlite3.Error as error:
            raise translated_writing(error, self.path) from error
        return dropped

    def _drop_ticks(self, most: int, where: str = "", values: tuple[int, ...] = ()) -> int:
        rows = self._db.execute(f"SELECT id FROM tick {where} ORDER BY id LIMIT {most}", values).fetchall()
        if not rows:
            return 0
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for table, column in _OF_TICKS:
                self._db.executemany(f"DELETE FROM {table} WHERE {column} = ?", rows)
            total = str(self.ticks_dropped + len(rows))
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'ticks_dropped'", (total,))
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self.ticks_dropped += len(rows)
        return len(rows)

    def close(self) -> None:
        """Close the file and let others write it. What is queued and not committed is lost."""
        self._db.close()
        self._lock.close()
