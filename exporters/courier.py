"""What all exporters do alike: work on a thread that ticks wake, rest longer and longer, keep to one journal.

Nodes end their intervals together; each waits a while of its own choice before it sends.
"""

import logging
import random
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from agent.clock import now_ms
from agent.errors import JournalError
from agent.journal_file import connect
from agent.view import Standing
from exporters.cursors import Cursor, Cursors, Told
from exporters.settle import Outcome

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
log = logging.getLogger("gputally")


class Courier(ABC):
    """One exporter. `step` does what comes next and tells how long to wait; `start` does so on a thread."""

    def __init__(self, name: str, journal: Path, hang_up: Callable[[], None], spread_seconds: float) -> None:
        """`hang_up` lets go of connections; `spread_seconds` is the most that is waited after a tick."""
        self.name = name
        self.standing = Standing(name=name)
        self._journal = journal
        self._hang_up = hang_up
        self._cursors = Cursors(journal)
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._failures = 0
        self._reason = self._refusal = ""
        self._wake = threading.Condition()
        self._due = self._closed = False
        self._thread: threading.Thread | None = None
        self._spread_seconds = random.uniform(0.0, spread_seconds)  # noqa: S311  chance, not a secret

    def start(self) -> None:
        """Begin to send, on a thread."""
        self._thread = threading.Thread(target=self._run, name=f"exporter-{self.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is a new tick."""
        with self._wake:
            self._due = True
            self._wake.notify()

    def close(self, seconds: float = 5.0) -> None:
        """Stop sending; what is not settled is sent by the next agent."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread:
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._closed:
            pause_seconds = self.step()
            with self._wake:
                if pause_seconds:
                    self._wake.wait_for(
                        lambda: self._closed or (self._due and not self._failures), pause_seconds
                    )
                    self._wake.wait_for(lambda: self._closed, self._spread_seconds)
                self._due = False
        self._forget()
        self._hang_up()

    def step(self) -> float:
        """Send what can be sent in one go; give the seconds until the next."""
        try:
            return self._step()
        except (JournalError, sqlite3.Error) as error:
            self._forget()
            return self._again(f"the journal cannot be read: {error}")

    @abstractmethod
    def _step(self) -> float:
        """Do a step. Raises JournalError, sqlite3.Error."""

    def _fail(self, cursor: Cursor, outcome: Outcome, told: Iterable[Told] = ()) -> float:
        """Note that the store cannot be reached; give the pause before the next try. Raises JournalError."""
        cursor.failure_ms, cursor.failure = now_ms(), outcome.reason
        self._cursors.save(cursor, told)
        self.standing = replace(self.standing, failure=outcome.reason)
        return self._again(outcome.reason, outcome.retry_seconds)

    def _again(self, reason: str, asked_seconds: float = 0.0) -> float:
        """Give the pause before the next try: doubled each time, with chance in it, or what was asked for."""
        if not self._reason:
            log.warning("exporter %s: %s (kept, and sent later)", self.name, reason)
        self._reason = reason
        self._failures += 1
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10))
        return max(asked_seconds, random.uniform(longest / 2, longest))  # noqa: S311  chance, not a secret

    def _well(self) -> None:
        """Say, once, that what had failed works again."""
        if self._reason:
            log.warning("exporter %s: the store takes data again", self.name)
        self._failures, self._reason = 0, ""

    def _open(self) -> sqlite3.Connection:
        """Open the journal, anew when another file lies in its place. Raises JournalError."""
        inode = 0
        with suppress(OSError):
            inode = self._journal.stat().st_ino
        if self._db is not None and inode != self._inode:
            self._forget()
        if self._db is None:
            self._db, self._inode = connect(self._journal), inode
        return self._db

    def _forget(self) -> None:
        """Let go of the journal, and of what was read of it."""
        if self._db is not None:
            self._db.close()
        self._db = None
