"""The long table as Parquet, with types. Imports only where pyarrow is."""

import pyarrow as pa
import pyarrow.parquet as pq

from reports.forms.long import FIGURES, TEXTS, rows
from reports.outline import Report

SCHEMA_VERSION = 1
"""Grows when a column changes its meaning or goes; new columns leave it."""
_TIME = pa.timestamp("ms", "UTC")


def to_parquet(report: Report) -> bytes:
    """Write the table; what is not known is null, and so is the owner of time that nobody held."""
    found = list(rows(report))
    columns = {
        "from": pa.array([row.part.from_ms for row in found], _TIME),
        "to": pa.array([row.part.to_ms for row in found], _TIME),
    }
    for place, name in enumerate(TEXTS):
        if name not in columns:
            texts = [row.texts[place] or None for row in found]
            columns[name] = pa.array(texts, pa.string()).dictionary_encode()
    for place, name in enumerate(FIGURES):
        columns[name] = pa.array([row.figures[place] for row in found], pa.float64())
    table = pa.table(columns).replace_schema_metadata({"gputally.schema_version": str(SCHEMA_VERSION)})
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="zstd")
    return bytes(out.getvalue())
