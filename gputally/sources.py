"""Where a report comes from: journals, a store, or a store that holds what another exporter told."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from agent.journal_file import translated
from gputally.journals import Journals
from reports.facts import Facts
from reports.report import MOST_SPELLS
from reports.sources.from_ledger import gather_from
from reports.sources.gathered import Gathered
from reports.sources.journal_facts import facts, merge
from reports.sources.ledger import Ledger
from reports.sources.ledger_facts import facts_from
from reports.sources.settled_hours import settled
from reports.window import Span, Window, overlap


class Told(NamedTuple):
    """What a source has of a window."""

    gathered: Gathered
    facts: Facts


Share = Callable[[float], None]
"""Gets how much of a reading is done, from 0 to 1."""


class Source(Protocol):
    """Something that a report can be made of."""

    @property
    def spans(self) -> Sequence[Span]:
        """What time it accounts for, in parts."""

    @property
    def unread(self) -> Sequence[str]:
        """Say what of it could not be read, and why."""

    @property
    def remarks(self) -> Sequence[str]:
        """Say what must be said of all that it tells."""

    def read(self, window: Window, share: Share, cuts: Sequence[int]) -> Told:
        """Read a window, its accounts cut where prices change.

        Raises ReportError where there is nothing of it, JournalError, StoreError.
        """


class JournalSource:
    """Journals that are open. `missing` says what they cannot have, as `Facts.missing` does."""

    def __init__(self, journals: Journals, pool_label: str, missing: Mapping[str, str]) -> None:
        self._journals = journals
        self._pool_label = pool_label
        self._missing = missing
        self.remarks: Sequence[str] = ()

    @property
    def first(self) -> sqlite3.Connection:
        """The first of them."""
        return self._journals.opened[0].db

    @property
    def spans(self) -> Sequence[Span]:
        """What time each of them accounts for."""
        return [one.span for one in self._journals.opened]

    @property
    def unread(self) -> Sequence[str]:
        """Say which could not be read, and why."""
        return self._journals.unread

    def read(self, window: Window, share: Share, cuts: Sequence[int]) -> Told:
        """Read what they have of a window, put together."""
        gathered = self._journals.gather(window, MOST_SPELLS, lambda done: share(done / 2), cuts)
        parts = [(one, part) for one in self._journals.opened if (part := overlap(window, one.span))]
        told = []
        for number, (one, part) in enumerate(parts, 1):
            try:
                told.append(facts(one.db, part, pool_label=self._pool_label))
            except sqlite3.Error as error:
                self._journals.failed(one.path, translated(error, one.path))
            share(0.5 + number / len(parts) / 2)
        if len(told) == 1:
            return Told(gathered, self._lacking(told[0]))
        merged = merge(told)
        hours = settled(merged.hours, gathered, merged.pools)
        return Told(gathered, self._lacking(replace(merged, hours=hours)))

    def _lacking(self, told: Facts) -> Facts:
        return replace(told, missing={**told.missing, **self._missing})


class StoreSource:
    """A store that agents write to."""

    unread: Sequence[str] = ()
    remarks: Sequence[str] = ()

    def __init__(self, ledger: Ledger, now_ms: int) -> None:
        self._ledger = ledger
        self._now_ms = now_ms

    @property
    def spans(self) -> Sequence[Span]:
        """Nobody asks a store since when it holds accounts: it may be all time."""
        return (Span(first_ms=0, last_ms=self._now_ms, enrolled_ms=0),)

    def read(self, window: Window, share: Share, cuts: Sequence[int]) -> Told:
        """Ask for a window."""
        drawn = gather_from(self._ledger, window, now_ms=self._now_ms, share=share, cuts=cuts)
        return Told(drawn.gathered, facts_from(self._ledger, drawn))
