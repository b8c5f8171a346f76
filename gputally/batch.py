"""Bulk work on a journal: replay and back-fill, in virtual time, as fast as it goes."""

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from agent.books import Books
from agent.clock import now_ms
from agent.journal import Journal
from agent.node import boot_id
from gputally.settings import Settings


@contextlib.contextmanager
def bulk_books(path: Path, settings: Settings, *, node: str = "") -> Iterator[Books]:
    """Open a journal for bulk writing: synced by the operating system, garbage collected rarely.

    The holders of a node are followed, if one is named. Raises JournalError.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    journal = Journal(path, replace(settings.journal, sync="normal"), now_ms(), mend=False)
    try:
        yield Books(journal, settings.states, boot_id=boot_id(), node=node, follow_holders=bool(node))
    finally:
        journal.close()
        gc.set_threshold(*before)
