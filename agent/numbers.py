"""The numbers that stand in the journal for nodes, GPUs, owners and holders."""

import sqlite3

from agent.errors import JournalBroken
from agent.restore import HOLDER
from agent.tick import Holder

MOST_HOLDERS = 5_000
"""Jobs come and go: numbers of more are looked up again."""


class Numbers:
    """Looks numbers up, makes rows for new names, and remembers them until `forget`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._nodes: dict[str, int] = {}
        self._gpus: dict[str, int] = {}
        self._owners: dict[str, int] = {}
        self._holders: dict[Holder, int] = {}

    def forget(self) -> None:
        """Forget all; call it after a rollback."""
        for known in (self._nodes, self._gpus, self._owners):
            known.clear()
        self._holders.clear()

    def node(self, name: str) -> int:
        """Give the number of a node."""
        if name not in self._nodes:
            self._nodes[name] = self._number("node", ("name",), (name,))
        return self._nodes[name]

    def owner(self, name: str) -> int:
        """Give the number of an owner."""
        if name not in self._owners:
            self._owners[name] = self._number("owner", ("name",), (name,))
        return self._owners[name]

    def gpu(self, uuid: str) -> int:
        """Give the number of a GPU."""
        if uuid not in self._gpus:
            self._gpus[uuid] = self._number("gpu", ("uuid",), (uuid,))
        return self._gpus[uuid]

    def holder(self, holder: Holder) -> int:
        """Give the number of a holder."""
        number = self._holders.get(holder)
        if number is None:
            if len(self._holders) >= MOST_HOLDERS:
                self._holders.clear()
            values = tuple(str(getattr(holder, name)) for name in HOLDER)
            number = self._holders[holder] = self._number("holder", HOLDER, values)
        return number

    def _number(self, table: str, columns: tuple[str, ...], values: tuple[str, ...]) -> int:
        """Give the number of the row that has these values; make the row when there is none."""
        where = " AND ".join(f"{column} = ?" for column in columns)
        row = self._db.execute(f"SELECT id FROM {table} WHERE {where}", values).fetchone()
        if row is None:
            marks = ", ".join("?" * len(columns))
            row = self._db.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) RETURNING id",
                values,
            ).fetchone()
        if row[0] is None:
            raise JournalBroken("the journal gives its rows no numbers")
        return int(row[0])
