"""The lifetime accounts of a node: totals by GPU, state and owner that only ever grow.

What is published of an account is 0 for the interval in which it appears, so that a store which takes the
difference of counters sees all that it ever gained.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from agent.tally import DAY_MS, Entry
from agent.tick import State

SILENT_MS = 35 * DAY_MS
"""After so long without growth an owner's account leaves the page; it stays in the journal."""


class Key(NamedTuple):
    """An account's name; the owner is empty where nobody holds the GPU."""

    uuid: str
    node: str
    state: State
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
        self._young: set[Key] = set()

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
        grown = set()
        self._young, self._opened = self._opened, set()
        for entry in entries:
            key = Key(entry.uuid, entry.node, entry.state, entry.holder.owner if entry.holder else "")
            account = self.by_key.get(key)
            if account is None:
                account = self.by_key[key] = Account(born_ms=at_ms)
                self._young.add(key)
            account.add(entry)
            account.grown_ms = at_ms
            grown.add(key)
        return grown

    def published(self, at_ms: int) -> Iterator[tuple[Key, Account]]:
        """Give what the page of the latest interval, which ended at `at_ms`, shows."""
        for key, account in self.by_key.items():
            if key.owner and at_ms - account.grown_ms > SILENT_MS:
                continue
            yield key, _NOTHING if key in self._young else replace(account)
