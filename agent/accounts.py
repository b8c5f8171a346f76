"""The lifetime accounts of a node: totals by GPU, state and owner that only ever grow.

What is published of an account is 0 for the interval in which it appears, so that a store which takes the
difference of counters sees all that it ever gained. All accounts of an owner leave the page together, so that
no sum of them falls; those that come back are published for that interval as they stood.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from agent.tally import DAY_MS, Entry
from agent.tick import State

SILENT_MS = 35 * DAY_MS
"""After so long without growth an owner's accounts of a GPU leave the page; they stay in the journal."""


class Key(NamedTuple):
    """An account's name; the owner is empty where nobody holds the GPU."""

    uuid: str
    node: str
    state: State
    owner: str

    @property
    def held(self) -> "Held":
        """Whose time on which GPU it is."""
        return Held(self.uuid, self.node, self.owner)


class Held(NamedTuple):
    """An owner's accounts of a GPU in a node, of all states."""

    uuid: str
    node: str
    owner: str


@dataclass(slots=True)
class Account:
    """Totals since the account was opened, and when it was opened and last grew."""

    elapsed_ms: int = 0
    busy_us: int = 0
    busy_seen_ms: int = 0
    energy_mj: int = 0
    energy_seen_ms: int = 0
    born_ms: int = 0
    grown_ms: int = 0

    def add(self, entry: Entry) -> None:
        """Add one line of the ledger."""
        self.elapsed_ms += entry.elapsed_ms
        self.busy_us += entry.busy_us
        self.busy_seen_ms += entry.busy_seen_ms
        self.energy_mj += entry.energy_mj
        self.energy_seen_ms += entry.energy_seen_ms


_NOTHING = Account()


class Accounts:
    """All lifetime accounts, as the journal holds them."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Account] = {}
        self._opened: set[Key] = set()
        self._young: dict[Key, Account] = {}

    def open(self, uuid: str, node: str, at_ms: int) -> list[Key]:
        """Open a GPU's accounts for all states at 0, those that nobody owns; give the new ones."""
        keys = [Key(uuid, node, state, "") for state in State]
        new = [key for key in keys if key not in self.by_key]
        for key in new:
            self.by_key[key] = Account(born_ms=at_ms, grown_ms=at_ms)
        self._opened.update(new)
        return new

    def add(self, entries: Iterable[Entry], at_ms: int) -> set[Key]:
        """Add entries at the end of an interval; give the accounts that grew."""
        entries = list(entries)
        grown = set()
        self._young, self._opened = dict.fromkeys(self._opened, _NOTHING), set()
        self._young.update(self._returned(entries, at_ms))
        for entry in entries:
            key = _key(entry)
            account = self.by_key.get(key)
            if account is None:
                account = self.by_key[key] = Account(born_ms=at_ms)
                self._young[key] = _NOTHING
            account.add(entry)
            account.grown_ms = at_ms
            grown.add(key)
        return grown

    def _returned(self, entries: Iterable[Entry], at_ms: int) -> dict[Key, Account]:
        """Give the accounts, as they stand, that were away from the page and are now added to."""
        known = {key for key in map(_key, entries) if key.owner and key in self.by_key}
        silent = {key for key in known if at_ms - self.by_key[key].grown_ms > SILENT_MS}
        if not silent:
            return {}
        latest = self._latest()
        return {key: replace(self.by_key[key]) for key in silent if at_ms - latest[key.held] > SILENT_MS}

    def _latest(self) -> dict[Held, int]:
        """Tell when each owner's accounts of each GPU grew last."""
        found: dict[Held, int] = {}
        for key, account in self.by_key.items():
            found[key.held] = max(account.grown_ms, found.get(key.held, account.grown_ms))
        return found

    def published(self, at_ms: int) -> Iterator[tuple[Key, Account]]:
        """Give what the page of the latest interval, which ended at `at_ms`, shows."""
        latest = self._latest()
        for key, account in self.by_key.items():
            if not key.owner or at_ms - latest[key.held] <= SILENT_MS:
                yield key, replace(self._young.get(key, account))


def _key(entry: Entry) -> Key:
    return Key(entry.uuid, entry.node, entry.state, entry.holder.owner if entry.holder else "")
