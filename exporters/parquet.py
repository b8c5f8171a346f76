"""History as Parquet: typed columns for DuckDB, pandas, Polars and Spark. Imports only where pyarrow is.

The file comes in pieces, one per row group, so that a month of it is never in memory. What nobody read is
null, and so are owner and holder of a GPU that nobody held.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agent.quantities import QUANTITIES
from exporters.table import TEXTS, Line

SCHEMA_VERSION = 1
"""Grows when a column changes its meaning or goes; new columns leave it."""
GROUP_ROWS = 65_536
"""Less makes files that are read slowly, more takes memory: about 1 kB for a row."""
_ALWAYS = ("gpu", "node")
_TIME = pa.timestamp("ms", "UTC")
_TEXT = pa.dictionary(pa.int32(), pa.string())


def schema_of(nodes: Sequence[str], version: str) -> Any:  # noqa: ANN401  pyarrow has no types
    """Give the schema: when the interval ended and began, who, and every quantity by its name."""
    fields = [
        pa.field("time", _TIME, nullable=False),
        pa.field("start", _TIME, nullable=False),
        *(pa.field(name, _TEXT, nullable=name not in _ALWAYS) for name in TEXTS),
        *(pa.field(name, pa.float64()) for name in QUANTITIES),
    ]
    about = {
        "gputally.schema_version": str(SCHEMA_VERSION),
        "gputally.version": version,
        "gputally.nodes": json.dumps(nodes),
    }
    return pa.schema(fields, metadata=about)


def encode(pieces: Iterable[Sequence[Line]], nodes: Sequence[str], version: str) -> Iterator[bytes]:
    """Give the file in pieces."""
    schema, sink = schema_of(nodes, version), _Sink()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        waiting: list[Any] = []
        rows = 0
        for piece in pieces:
            for start in range(0, len(piece), GROUP_ROWS):
                part = piece[start : start + GROUP_ROWS]
                if rows + len(part) > GROUP_ROWS:
                    yield _group(writer, waiting, sink)
                    rows = 0
                waiting.append(_batch(part, schema))
                rows += len(part)
        if waiting:
            yield _group(writer, waiting, sink)
    yield sink.taken()


def _group(writer: Any, waiting: list[Any], sink: "_Sink") -> bytes:  # noqa: ANN401
    """Write what waits as one row group, and forget it."""
    table = pa.Table.from_batches(waiting).unify_dictionaries()
    waiting.clear()
    writer.write_table(table, row_group_size=GROUP_ROWS)
    return sink.taken()


def _batch(lines: Sequence[Line], schema: Any) -> Any:  # noqa: ANN401
    """Make columns of lines."""
    times = ([line.end_ms for line in lines], [line.start_ms for line in lines])
    texts = zip(*(line.texts for line in lines), strict=True)
    values = zip(*(line.values for line in lines), strict=True)
    return pa.RecordBatch.from_arrays(
        [
            *(pa.array(column, _TIME) for column in times),
            *(pa.array([one or None for one in column], pa.string()).dictionary_encode() for column in texts),
            *(pa.array(column, pa.float64()) for column in values),
        ],
        schema=schema,
    )


class _Sink:
    """A file that only grows and is taken away in pieces: pipes cannot tell where they are, this can."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._length = 0

    def write(self, piece: Any) -> int:  # noqa: ANN401
        """Take bytes, which are the writer's own and change after this."""
        kept = bytes(piece)
        self._pieces.append(kept)
        self._length += len(kept)
        return len(kept)

    def tell(self) -> int:
        """Give how many bytes there were in all."""
        return self._length

    def flush(self) -> None:
        """Do nothing: all is here."""

    def close(self) -> None:
        """Do nothing: the rest is still to be taken."""

    def taken(self) -> bytes:
        """Give what came since the last time."""
        kept, self._pieces = b"".join(self._pieces), []
        return kept
