"""What the journal holds of a window: sums of the hourly accounts, and the inventory that owes them.

The inventory comes from where GPUs sat, never from which accounts exist: a GPU that says nothing is missing
from no sum. Amounts stay whole numbers of ms, µs and mJ, so that sums are exact.
"""

import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import NamedTuple

from agent.restore import findings_since
from agent.states import UNATTRIBUTED
from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.window import Window

HELD_BY_SOMEONE = (State.ACTIVE, State.HELD_GAP, State.HELD_IDLE, State.SERVICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Time, busy time and energy, each with the time for which it was seen."""

    elapsed_ms: int = 0
    busy_us: int = 0
    busy_seen_ms: int = 0
    energy_mj: int = 0
    energy_seen_ms: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            elapsed_ms=self.elapsed_ms + other.elapsed_ms,
            busy_us=self.busy_us + other.busy_us,
            busy_seen_ms=self.busy_seen_ms + other.busy_seen_ms,
            energy_mj=self.energy_mj + other.energy_mj,
            energy_seen_ms=self.energy_seen_ms + other.energy_seen_ms,
        )

    def __sub__(self, other: "Amounts") -> "Amounts":
        return Amounts.of(one - two for one, two in zip(self.figures, other.figures, strict=True))

    @classmethod
    def of(cls, figures: Iterable[int]) -> "Amounts":
        """Make amounts of figures in the order of the fields."""
        return cls(**dict(zip(FIGURES, figures, strict=True)))

    @property
    def figures(self) -> tuple[int, ...]:
        """The figures in the order of the fields."""
        return self.elapsed_ms, self.busy_us, self.busy_seen_ms, self.energy_mj, self.energy_seen_ms

    @property
    def busy_ratio_mean(self) -> float | None:
        """Busy time over the time for which it was seen; None where nothing was seen."""
        return ratio(self.busy_us / 1000, self.busy_seen_ms)

    @property
    def joules(self) -> float | None:
        """Energy of the time for which it was seen; None where there was time and none was seen."""
        return None if self.elapsed_ms and not self.energy_seen_ms else self.energy_mj / 1000


FIGURES = tuple(field.name for field in fields(Amounts))


@dataclass(frozen=True, slots=True)
class StateSums:
    """Amounts of all eight states, in the order of display."""

    by_state: Mapping[State, Amounts]

    @property
    def total(self) -> Amounts:
        """The sum of the states."""
        return sum(self.by_state.values(), Amounts())

    def elapsed_ms(self, *states: State) -> int:
        """Time in these states together."""
        return sum(self.by_state[state].elapsed_ms for state in states)


class AccountSum(NamedTuple):
    """The sum of an account over a window; the owner is empty where nobody holds the GPU.

    Where a window is cut, because prices change within it, the sum is of the part from `since_ms` to the next
    cut; that of the first part is 0.
    """

    uuid: str
    node: str
    state: State
    owner: str
    amounts: Amounts
    since_ms: int = 0


class Outside(NamedTuple):
    """What of an hour's account lies outside a window that begins or ends within that hour."""

    hour_ms: int
    uuid: str
    node: str
    state: State
    owner: str
    amounts: Amounts


class Stretch(NamedTuple):
    """A GPU in one place of a node over [start_ms, end_ms)."""

    uuid: str
    node: str
    position: int
    start_ms: int
    end_ms: int


class Identity(NamedTuple):
    """What a GPU is called besides its UUID."""

    model: str
    serial: str


class SpellRow(NamedTuple):
    """A spell as the journal holds it: its whole life, also outside the window; durations in ms."""

    uuid: str
    kind: str
    holder: str
    owner: str
    user: str
    start_ms: int
    end_ms: int
    seen_ms: int
    beyond_ms: int
    ended: bool


def ratio(part: float, whole: float) -> float | None:
    """Divide; None where there is nothing to divide by."""
    return part / whole if whole else None


@contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """Let all reads inside see the journal as of one moment, although the agent goes on writing it."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


def accounts(
    db: sqlite3.Connection, window: Window, cuts: Sequence[int] = (), outside: Iterable[Outside] = ()
) -> list[AccountSum]:
    """Sum the hourly accounts of a window that was cut to the accounted time, part by part.

    Cuts are on whole hours. What is outside the window is taken from the sums.
    """
    less: defaultdict[tuple[str, str, State, str, int], Amounts] = defaultdict(Amounts)
    for row in outside:
        less[row.uuid, row.node, row.state, row.owner, since_of(cuts, row.hour_ms)] += row.amounts
    found = []
    for since_ms, part in parts_of(window, cuts):
        rows = db.execute(
            """SELECT uuid, node.name, state, owner.name, SUM(elapsed_ms), SUM(busy_us), SUM(busy_seen_ms),
                      SUM(energy_mj), SUM(energy_seen_ms)
               FROM account_hour JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id
               JOIN owner ON owner.id = owner_id
               WHERE hour_ms >= ? AND hour_ms < ? GROUP BY gpu_id, node_id, state, owner_id
               ORDER BY node.name, uuid, state, owner.name""",
            hours_of(part),
        )
        for uuid, node, told, owner, *figures in rows:
            state, amounts = State(told), Amounts.of(figures)
            key = uuid, node, state, owner, since_ms
            if key in less:
                amounts -= less[key]
            found.append(AccountSum(uuid, node, state, owner, amounts, since_ms))
    return sorted(found, key=lambda row: row[:4] + row[5:]) if cuts else found


def since_of(cuts: Sequence[int], at_ms: int) -> int:
    """Tell since when the part of a window lasts in which a moment lies; 0 for the first one."""
    place = bisect_right(cuts, at_ms)
    return cuts[place - 1] if place else 0


def parts_of(window: Window, cuts: Sequence[int]) -> Iterator[tuple[int, Window]]:
    """Give the parts of a window, each with since when it lasts; 0 for that before the first cut."""
    inside = [at_ms for at_ms in cuts if window.from_ms < at_ms < window.to_ms]
    if not inside:
        yield since_of(cuts, window.from_ms), window
        return
    for from_ms, to_ms in pairwise((window.from_ms, *inside, window.to_ms)):
        yield since_of(cuts, from_ms), replace(window, from_ms=from_ms, to_ms=to_ms)


def hours_of(window: Window) -> tuple[int, int]:
    """Give the bounds [first, end) of the hours that a window touches."""
    return window.from_ms // HOUR_MS * HOUR_MS, window.to_ms


def add_up(rows: Iterable[AccountSum]) -> StateSums:
    """Add accounts up by state."""
    sums = dict.fromkeys(State, Amounts())
    for row in rows:
        sums[row.state] += row.amounts
    return StateSums(sums)


def owner_of(row: AccountSum) -> str | None:
    """Name who answers for an account: None for time that nobody holds."""
    return row.owner or (UNATTRIBUTED if row.state in HELD_BY_SOMEONE else None)


def inventory(db: sqlite3.Connection, window: Window) -> list[Stretch]:
    """Tell where each GPU sat in the window; the stretches of a GPU follow one another, none overlaps."""
    rows = db.execute(
        """SELECT uuid, node.name, position, from_ms, COALESCE(to_ms, until_ms, from_ms)
           FROM place JOIN gpu ON gpu.id = place.gpu_id JOIN node ON node.id = place.node_id
           LEFT JOIN timeline ON timeline.gpu_id = place.gpu_id
           WHERE from_ms < ? ORDER BY place.gpu_id, from_ms""",
        (window.to_ms,),
    )
    stretches: list[Stretch] = []
    upto: dict[str, int] = {}
    for uuid, node, position, from_ms, to_ms in rows:
        start_ms = max(from_ms, window.from_ms, upto.get(uuid, from_ms))
        end_ms = min(to_ms, window.to_ms)
        if start_ms < end_ms:
            stretches.append(Stretch(uuid, node, position, start_ms, end_ms))
            upto[uuid] = end_ms
    return stretches


def identities(db: sqlite3.Connection) -> dict[str, Identity]:
    """Give model and serial by UUID."""
    return {row[0]: Identity(*row[1:]) for row in db.execute("SELECT uuid, model, serial FROM gpu")}


def idle_spells(db: sqlite3.Connection, window: Window, most: int) -> list[SpellRow]:
    """Give the spells that overlap the window and went beyond patience, those that did longest first."""
    rows = db.execute(
        """SELECT uuid, kind, holder.name, owner, user, start_ms, end_ms, seen_ms, beyond_ms, ended
           FROM spell JOIN gpu ON gpu.id = gpu_id JOIN holder ON holder.id = holder_id
           WHERE start_ms < ? AND end_ms > ? AND beyond_ms > 0
           ORDER BY beyond_ms DESC, seen_ms DESC, start_ms, uuid LIMIT ?""",
        (window.to_ms, window.from_ms, most),
    )
    return [SpellRow._make((*amounts, bool(ended))) for *amounts, ended in rows]


def longest_spells(db: sqlite3.Connection, window: Window) -> dict[tuple[str, str], int]:
    """Give the ms seen in the longest spell that overlaps the window, by GPU and node."""
    rows = db.execute(
        """SELECT uuid, node.name, MAX(seen_ms)
           FROM spell JOIN gpu ON gpu.id = spell.gpu_id
           JOIN place ON place.gpu_id = spell.gpu_id
                AND start_ms < COALESCE(to_ms, end_ms) AND end_ms > from_ms
           JOIN node ON node.id = place.node_id
           WHERE start_ms < ? AND end_ms > ? GROUP BY spell.gpu_id, place.node_id""",
        (window.to_ms, window.from_ms),
    )
    return {(uuid, node): seen_ms for uuid, node, seen_ms in rows}


def findings(db: sqlite3.Connection, window: Window) -> list[Finding]:
    """Give the findings that were open at some time of the window, oldest first."""
    return [one for one in findings_since(db, window.from_ms + 1) if one.opened_ms < window.to_ms]


def unseen(
    db: sqlite3.Connection, window: Window, states: Sequence[State], outside: Iterable[Outside], uuid: str
) -> dict[int, dict[State, int]]:
    """Tell by hour how long a GPU was in some states, in ms, less what is outside the window."""
    marks = ", ".join("?" * len(states))
    rows = db.execute(
        f"""SELECT hour_ms, state, SUM(elapsed_ms) FROM account_hour JOIN gpu ON gpu.id = gpu_id
            WHERE uuid = ? AND state IN ({marks}) AND hour_ms >= ? AND hour_ms < ?
            GROUP BY hour_ms, state""",
        (uuid, *states, *hours_of(window)),
    )
    found: dict[int, dict[State, int]] = {}
    for hour_ms, state, elapsed_ms in rows:
        found.setdefault(hour_ms, {})[State(state)] = elapsed_ms
    for row in outside:
        if row.uuid == uuid and row.state in states:
            found[row.hour_ms][row.state] -= row.amounts.elapsed_ms
    return found


def staying(db: sqlite3.Connection) -> frozenset[str]:
    """Name the GPUs that have not left the node."""
    rows = db.execute("SELECT uuid FROM place JOIN gpu ON gpu.id = place.gpu_id WHERE to_ms IS NULL")
    return frozenset(uuid for (uuid,) in rows)
