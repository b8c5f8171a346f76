"""Opens the journals that a report is about: one, or all of a folder."""

import contextlib
import resource
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.errors import GputallyError, JournalError, ReportError
from agent.journal_file import connect, translated
from reports.sources.gathered import Gathered, gather, together
from reports.sums import snapshot
from reports.window import Span, Window, journal_span

FILES_EACH = 4
"""Open files that a journal takes: the database, its log, and two of the log's index."""


class Opened(NamedTuple):
    """A journal as of one moment, and the time that it accounts for."""

    path: Path
    db: sqlite3.Connection
    span: Span


class Journals:
    """Journals that are open; `unread` says which could not be read, and why."""

    def __init__(self, count: int) -> None:
        self.opened: list[Opened] = []
        self.unread: list[str] = []
        self._count = count

    def failed(self, path: Path, error: GputallyError) -> None:
        """Note that a journal cannot be read. Raises the error where it is the only one."""
        if self._count == 1:
            raise error
        where = "" if str(path) in str(error) else f"{path}: "
        self.unread.append(f"{where}{error}")

    def gather(
        self,
        window: Window,
        most_spells: int,
        share: Callable[[float], None] = lambda _: None,
        cuts: Sequence[int] = (),
    ) -> Gathered:
        """Read what they have of a window, cut where prices change. Raises ReportError.

        `share` gets how much is done.
        """
        found: list[Gathered] = []
        for number, one in enumerate(self.opened, 1):
            try:
                told = gather(one.db, window, most_spells, str(one.path), cuts)
                found += [told] if told else []
            except sqlite3.Error as error:
                self.failed(one.path, translated(error, one.path))
            share(number / len(self.opened))
        if not found:
            raise ReportError(f"no journal can be read: {'; '.join(self.unread[:1])}")
        return together(found, most_spells)


def journals_of(path: Path) -> list[Path]:
    """List the journals of a folder, wherever they lie below it. Raises JournalError if there are none."""
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.rglob("*.db") if one.is_file())
    if not found:
        raise JournalError(f"there is no journal (*.db) in {path} or below it")
    return found


@contextlib.contextmanager
def opened(paths: Sequence[Path]) -> Iterator[Journals]:
    """Open journals for reading. One alone must be sound; of several, those that are not are noted.

    Raises JournalError, ReportError.
    """
    _allow_files(len(paths) * FILES_EACH)
    found = Journals(len(paths))
    with contextlib.ExitStack() as stack:
        for path in paths:
            try:
                db = stack.enter_context(contextlib.closing(connect(path)))
                stack.enter_context(snapshot(db))
                found.opened.append(Opened(path, db, journal_span(db)))
            except sqlite3.Error as error:
                found.failed(path, translated(error, path))
            except (JournalError, ReportError) as error:
                found.failed(path, error)
        if not found.opened:
            raise ReportError(f"none of {len(paths)} journals can be read: {found.unread[0]}")
        yield found


def _allow_files(more: int) -> None:
    """Let this process open as many files as it needs, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = more + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
