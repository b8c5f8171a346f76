"""What of the hours at the edges of a window lies outside it.

Accounts are hourly, and a week of India begins in the middle of an hour of UTC. What each tick added to the
accounts is kept for some weeks (`posting`) and tells how much of such an hour is of which window. A line of
it that lies across the edge itself is split in proportion, in whole ms: what one window leaves, the other
takes.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agent.errors import ReportError
from agent.tally import HOUR_MS, apportion
from agent.tick import State
from reports.sums import Amounts, Outside
from reports.window import Window, journal_span, rfc3339

LATE_MS = 10 * 60_000
"""Ticks nearly always add to the hour that they end in, or to the one before."""


class _Line(NamedTuple):
    """A line of the ledger; those of one piece share its time."""

    piece: tuple[int, int, int]
    uuid: str
    node: str
    state: State
    owner: str
    amounts: Amounts


def outside(db: sqlite3.Connection, window: Window) -> list[Outside]:
    """Tell what of the hours that a window touches is outside it, within the accounted time.

    Nothing where the window begins and ends with whole hours. Raises ReportError where ticks are gone.
    """
    edges = [edge_ms for edge_ms in (window.from_ms, window.to_ms) if edge_ms % HOUR_MS]
    if not edges:
        return []
    span = journal_span(db)
    split = {
        edge_ms // HOUR_MS * HOUR_MS: edge_ms for edge_ms in edges if span.first_ms < edge_ms < span.last_ms
    }
    return [row for hour_ms, edge_ms in split.items() for row in _of_hour(db, window, hour_ms, edge_ms)]


def _of_hour(db: sqlite3.Connection, window: Window, hour_ms: int, edge_ms: int) -> Iterator[Outside]:
    pieces: defaultdict[tuple[int, int, int], list[_Line]] = defaultdict(list)
    for line in _ledger(db, hour_ms, edge_ms):
        pieces[line.piece].append(line)
    for (_, _, start_ms), lines in pieces.items():
        lengths = [line.amounts.elapsed_ms for line in lines]
        for line, before_ms, upto_ms in zip(
            lines,
            _parts(lines, lengths, window.from_ms - start_ms),
            _parts(lines, lengths, window.to_ms - start_ms),
            strict=True,
        ):
            inside = _cut(line.amounts, upto_ms) - _cut(line.amounts, before_ms)
            if inside != line.amounts:
                yield Outside(hour_ms, line.uuid, line.node, line.state, line.owner, line.amounts - inside)


def _parts(lines: Sequence[_Line], lengths: Sequence[int], upto_ms: int) -> list[int]:
    """Tell how much of each line of a piece lies in its first ms."""
    whole_ms = sum(lengths)
    first_ms = min(max(upto_ms, 0), whole_ms)
    parts = apportion(first_ms, lengths) if whole_ms else [0] * len(lengths)
    for place, line in enumerate(lines):
        if not lengths[place]:  # energy of a time that was entered before: so long was the time
            parts[place] = min(max(upto_ms, 0), _length(line.amounts))
    return parts


def _length(amounts: Amounts) -> int:
    return amounts.elapsed_ms or amounts.energy_seen_ms


def _cut(amounts: Amounts, first_ms: int) -> Amounts:
    """Give what the first ms have of amounts that are spread evenly."""
    length_ms = _length(amounts)
    if first_ms == length_ms:
        return amounts
    return Amounts.of(amount * first_ms // length_ms for amount in amounts.figures)


def _ledger(db: sqlite3.Connection, hour_ms: int, edge_ms: int) -> list[_Line]:
    """Read what ticks added to an hour. Raises ReportError where that is not all that its accounts hold."""
    owed = _accounts(db, hour_ms)
    for late_ms in (LATE_MS, None):
        lines = list(_lines(db, hour_ms, late_ms))
        found: defaultdict[tuple[str, str, State, str], Amounts] = defaultdict(Amounts)
        for line in lines:
            found[line.uuid, line.node, line.state, line.owner] += line.amounts
        if {key: amounts for key, amounts in found.items() if amounts != Amounts()} == owed:
            return lines
    raise ReportError(
        f"{rfc3339(edge_ms)} is not on a whole UTC hour, and what ticks added to the accounts of that hour "
        f"is no longer kept: use {rfc3339(hour_ms)} or {rfc3339(hour_ms + HOUR_MS)}, or another --timezone"
    )


def _accounts(db: sqlite3.Connection, hour_ms: int) -> dict[tuple[str, str, State, str], Amounts]:
    rows = db.execute(
        """SELECT uuid, node.name, state, owner.name, elapsed_ms, busy_us, busy_seen_ms, energy_mj,
                  energy_seen_ms
           FROM account_hour JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id
           JOIN owner ON owner.id = owner_id WHERE hour_ms = ?""",
        (hour_ms,),
    )
    told = {(uuid, node, State(state), owner): Amounts.of(rest) for uuid, node, state, owner, *rest in rows}
    return {key: amounts for key, amounts in told.items() if amounts != Amounts()}


def _lines(db: sqlite3.Connection, hour_ms: int, late_ms: int | None) -> Iterator[_Line]:
    """Read the ledger of an hour; a GPU was in the node in which it sat then."""
    until_ms = 1 << 62 if late_ms is None else hour_ms + HOUR_MS + late_ms
    rows = db.execute(
        """SELECT tick_id, posting.gpu_id, posting.start_ms, uuid, node.name, state,
                  coalesce(holder.owner, ''), elapsed_ms, busy_us, busy_seen_ms, energy_mj, energy_seen_ms
           FROM tick JOIN posting ON posting.tick_id = tick.id JOIN gpu ON gpu.id = posting.gpu_id
           LEFT JOIN holder ON holder.id = holder_id
           JOIN node ON node.id = coalesce(
               (SELECT place.node_id FROM place
                WHERE place.gpu_id = posting.gpu_id AND place.from_ms <= posting.start_ms
                ORDER BY place.from_ms DESC LIMIT 1), tick.node_id)
           WHERE tick.end_ms > ? AND tick.end_ms <= ? AND posting.start_ms >= ? AND posting.start_ms < ?
           ORDER BY posting.rowid""",
        (hour_ms, until_ms, hour_ms, hour_ms + HOUR_MS),
    )
    for tick, gpu, start_ms, uuid, node, state, owner, *amounts in rows:
        yield _Line((tick, gpu, start_ms), uuid, node, State(state), owner, Amounts.of(amounts))
