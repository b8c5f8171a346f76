"""Bulk work on a journal: replay and back-fill, in virtual time, as fast as it goes."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from agent.books import Books
from agent.clock import now_ms
from agent.journal import Journal
from agent.node import boot_id
from gputally.garbage import uncollected
from gputally.settings import Settings


@contextlib.contextmanager
def bulk_books(path: Path, settings: Settings, *, node: str = "") -> Iterator[Books]:
    """Open a journal for bulk writing: synced by the operating system.

    The holders of a node are followed, if one is named. Raises JournalError.
    """
    journal = Journal(path, replace(settings.journal, sync="normal"), now_ms(), mend=False)
    with uncollected(), contextlib.closing(journal):
        yield Books(journal, settings.states, boot_id=boot_id(), node=node, follow_holders=bool(node))
