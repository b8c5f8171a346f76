"""History as a table: a line per GPU and interval, with its holder. What CSV and Parquet are made of.

Nothing is added up or rounded: values are those of the journal, None where nothing was read.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agent.quantities import QUANTITIES, Amount
from agent.restore import HOLDER
from agent.schema import columns
from exporters import past

PIECE_TICKS = 20
TEXTS = ("gpu", "node", "model", "owner", "holder")
"""Columns of text, before those of the quantities."""
_NAME = HOLDER.index("name")
_READINGS = """
    SELECT tick_id, gpu_id, reading.start_ms, reading.end_ms, gpu.uuid, node.name, gpu.model, {}
    FROM reading JOIN tick ON tick.id = tick_id JOIN node ON node.id = tick.node_id
    JOIN gpu ON gpu.id = gpu_id
    WHERE tick_id > ? AND tick_id <= ? ORDER BY tick_id, gpu_id, reading.end_ms"""
_NODES = """
    SELECT DISTINCT name FROM tick JOIN node ON node.id = node_id
    WHERE tick.id > ? AND tick.id <= ? ORDER BY name"""


class Line(NamedTuple):
    """What one GPU did in [start_ms, end_ms); `texts` follow TEXTS, `values` follow QUANTITIES.

    Owner and holder are those with the largest part of the interval, empty where nobody held the GPU.
    """

    start_ms: int
    end_ms: int
    texts: tuple[str, ...]
    values: Sequence[Amount]


def pieces(db: sqlite3.Connection, span: past.Span) -> Iterator[list[Line]]:
    """Read the lines of some ticks, in their order, a few ticks at a time. Raises sqlite3.Error."""
    after, last = span
    asked = _READINGS.format(columns(db, "reading", QUANTITIES))
    while ticks := past.ticks(db, (after, last), PIECE_TICKS):
        piece = after, ticks[-1].id
        holders = {tick_id: _largest(rows) for tick_id, rows in past.postings(db, piece).items()}
        lines = []
        for tick_id, gpu_id, start_ms, end_ms, uuid, node, model, *values in db.execute(asked, piece):
            owner, holder = holders.get(tick_id, {}).get(gpu_id, ("", ""))
            lines.append(Line(start_ms, end_ms, (uuid, node, model, owner, holder), values))
        yield lines
        after = piece[1]


def nodes(db: sqlite3.Connection, span: past.Span) -> list[str]:
    """Name the nodes of some ticks. Raises sqlite3.Error."""
    return [name for (name,) in db.execute(_NODES, span)]


def _largest(postings: Sequence[past.PostingRow]) -> dict[int, tuple[str, str]]:
    """Tell by GPU the owner and the name of the holder with the largest part."""
    found: dict[int, tuple[int, str, str]] = {}
    for one in postings:
        if one.holder and one.elapsed_ms > found.get(one.gpu_id, (-1,))[0]:
            found[one.gpu_id] = one.elapsed_ms, one.owner, one.holder[_NAME]
    return {gpu_id: (owner, name) for gpu_id, (_, owner, name) in found.items()}
