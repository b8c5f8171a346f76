"""The past as rules judge it, from a journal: every interval, who held the GPUs in it, and which left."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import NamedTuple

from agent.scene import Scene, scenes

UNEVEN_SHARE = 0.5
"""An interval that is longer or shorter than the median by more than this is told."""
_WHOLE_SECOND_SHARE = 0.02
_SEATS = """
    SELECT tick.id, uuid, holder_id, posting.start_ms, elapsed_ms FROM tick NOT INDEXED
    JOIN node ON node.id = tick.node_id
    LEFT JOIN posting ON tick_id = tick.id AND (elapsed_ms > 0 OR holder_id IS NOT NULL)
    LEFT JOIN gpu ON gpu.id = gpu_id
    WHERE tick.end_ms > ? AND tick.end_ms <= ? ORDER BY tick.id"""
_LENGTHS = """SELECT coalesce(end_ms - before_ms, end_ms - start_ms) AS length_ms, count(*) FROM (
        SELECT start_ms, end_ms, lag(end_ms) OVER (PARTITION BY node_id ORDER BY end_ms) AS before_ms
        FROM (SELECT DISTINCT node_id, start_ms, end_ms FROM tick WHERE end_ms > ? AND end_ms <= ?)
    ) WHERE length_ms > 0 GROUP BY length_ms ORDER BY length_ms"""
"""From one end to the next: where GPUs were not seen together, ticks of a replay overlap."""
_LEFT = "SELECT at_ms, uuid FROM event JOIN gpu ON gpu.id = gpu_id WHERE kind = 'gpu_left'"


class Seat(NamedTuple):
    """Who holds a GPU; see agent.tick.Holder."""

    kind: str
    name: str
    owner: str
    workload: str


class Moment(NamedTuple):
    """One interval of a node: what rules judge, who holds each GPU, and which leave the node for good."""

    scene: Scene
    seats: Mapping[str, Sequence[Seat]]
    left: Collection[str] = ()


class Pace(NamedTuple):
    """How long intervals are, how many there are, and how many of them are much longer or shorter."""

    interval_ms: int
    intervals: int = 0
    uneven: int = 0


def even(length_ms: float) -> int:
    """Take a length for a whole number of seconds if it nearly is: clocks are not that exact."""
    seconds = max(1, round(length_ms / 1000))
    is_whole = abs(length_ms - seconds * 1000) <= _WHOLE_SECOND_SHARE * length_ms
    return seconds * 1000 if is_whole else round(length_ms)


def pace(db: sqlite3.Connection, from_ms: int, until_ms: int) -> Pace | None:
    """Tell how long the intervals of a journal are; None where it has none. Raises sqlite3.Error."""
    lengths: dict[int, int] = dict(db.execute(_LENGTHS, (from_ms, until_ms)))
    total = sum(lengths.values())
    if not total:
        return None
    passed = accumulate(lengths.values())
    middle = next(length_ms for length_ms, count in zip(lengths, passed, strict=True) if count * 2 >= total)
    middle = max(1, middle)
    most = UNEVEN_SHARE * middle
    uneven = sum(count for length_ms, count in lengths.items() if abs(length_ms - middle) > most)
    return Pace(even(middle), total, uneven)


def moments(
    db: sqlite3.Connection, from_ms: int, until_ms: int, quantities: Iterable[str]
) -> Iterator[Moment]:
    """Read the intervals that end in (from_ms, until_ms], in the order in which they were entered.

    What is known is as agent.scene.scenes says. Call it within one transaction: nothing may be written
    meanwhile. Raises sqlite3.Error.
    """
    left: dict[int, set[str]] = {}
    for at_ms, uuid in db.execute(_LEFT):
        left.setdefault(at_ms, set()).add(uuid)
    seen = zip(scenes(db, from_ms, until_ms, quantities), _seats(db, from_ms, until_ms), strict=True)
    for scene, seats in seen:
        yield Moment(scene, seats, left.get(scene.end_ms, ()))


def _seats(db: sqlite3.Connection, from_ms: int, until_ms: int) -> Iterator[dict[str, tuple[Seat, ...]]]:
    """Tell who held each GPU at each end, the largest part first; see agent.view.states_of."""
    holders = {
        row[0]: Seat(*row[1:]) for row in db.execute("SELECT id, kind, name, owner, workload FROM holder")
    }
    for _, rows in groupby(db.execute(_SEATS, (from_ms, until_ms)), key=itemgetter(0)):
        latest: dict[str, int] = {}
        held = []
        for _, uuid, holder_id, start_ms, elapsed_ms in rows:
            if elapsed_ms:
                latest[uuid] = max(start_ms, latest.get(uuid, 0))
            if holder_id is not None:
                held.append((-elapsed_ms, uuid, holder_id, start_ms))
        found: dict[str, tuple[Seat, ...]] = {}
        for _, uuid, holder_id, start_ms in sorted(held, key=itemgetter(0)):
            if latest.get(uuid) == start_ms:
                found[uuid] = tuple(dict.fromkeys((*found.get(uuid, ()), holders[holder_id])))
        yield found
