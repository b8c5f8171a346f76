"""`gputally export`: history out of a journal, for other tools or for another journal."""

import argparse
import contextlib
import csv
import io
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

from agent.errors import JournalError, SettingsError
from agent.quantities import QUANTITIES
from agent.restore import FOREVER_MS
from exporters import past
from exporters.history import History
from exporters.table import TEXTS, nodes, pieces
from gputally.output import needs_pyarrow, whole_file
from gputally.status import reader_arguments, reading
from gputally.version import own_version
from reports.window import moment_of, rfc3339

FORMATS = ("influx", "openmetrics", "csv", "parquet")
BATCH_TICKS = 20
EPILOG = """\
influx       line protocol in milliseconds: curl --data-binary @FILE '.../write?db=gpu&precision=ms'
openmetrics  promtool tsdb create-blocks-from openmetrics FILE DIRECTORY
csv          a row per GPU and interval; `gputally replay FILE` reads it back
parquet      the same rows, typed, for DuckDB, pandas, Polars and Spark; needs pyarrow

  gputally export --since 2026-11-16 --until 2026-11-20T12:00:00Z --format csv --out week.csv
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    reader_arguments(parser)
    parser.add_argument("--since", default="", metavar="TIME", help="a date or an RFC 3339 time, in UTC")
    parser.add_argument("--until", default="", metavar="TIME", help="likewise; default: all there is")
    parser.add_argument("--format", choices=FORMATS, default="influx", help="default: influx")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")


def execute(options: argparse.Namespace) -> int:
    """Write the history. Raises JournalError, SettingsError."""
    since_ms = moment_of(options.since, UTC) if options.since else 0
    until_ms = moment_of(options.until, UTC) if options.until else FOREVER_MS
    if since_ms >= until_ms:
        raise SettingsError("--since must lie before --until")
    if options.format == "parquet" and options.out is None and sys.stdout.isatty():
        raise SettingsError(
            "--format parquet is no text for a terminal: name a file with --out, or pipe it on"
        )
    with reading(options) as db:
        span = _span(db, since_ms, until_ms)
        write = {"influx": _influx, "openmetrics": _openmetrics, "csv": _csv, "parquet": _parquet}
        pieces_of_file = write[options.format](db, span)
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(whole_file(options.out)) if options.out else sys.stdout.buffer
            for piece in pieces_of_file:
                out.write(piece)
            out.flush()
    return 0


def _span(db: sqlite3.Connection, since_ms: int, until_ms: int) -> past.Span:
    """Find the ticks that end in (since, until]. Raises JournalError when there are none."""
    first, last = db.execute(
        "SELECT min(id), max(id) FROM tick WHERE end_ms > ? AND end_ms <= ?", (since_ms, until_ms)
    ).fetchone()
    if first is None:
        oldest, newest = db.execute("SELECT min(end_ms), max(end_ms) FROM tick").fetchone()
        told = f"it has {rfc3339(oldest)} to {rfc3339(newest)}" if oldest else "it has none at all"
        raise JournalError(f"the journal has no ticks of that time: {told}")
    return first - 1, last


def _influx(db: sqlite3.Connection, span: past.Span) -> Iterator[bytes]:
    from exporters.line_protocol import encode  # noqa: PLC0415

    history = History(db, span[0], {})
    while ticks := history.ticks(BATCH_TICKS, until=span[1]):
        yield encode(row for _, rows in ticks for row in rows)


def _openmetrics(db: sqlite3.Connection, span: past.Span) -> Iterator[bytes]:
    from exporters.openmetrics import Families  # noqa: PLC0415

    history = History(db, span[0], {})
    with tempfile.TemporaryDirectory(prefix="gputally-") as folder:
        families = Families(Path(folder))
        try:
            while ticks := history.ticks(BATCH_TICKS, until=span[1]):
                families.add(row for _, rows in ticks for row in rows)
            yield from families.text()
        finally:
            families.close()


def _csv(db: sqlite3.Connection, span: past.Span) -> Iterator[bytes]:
    """Give a row per reading, with its holder: the one with the largest part, where there are several."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(("time", *TEXTS, *QUANTITIES))
    for lines in pieces(db, span):
        for line in lines:
            values = ("" if value is None else repr(value) for value in line.values)
            writer.writerow((rfc3339(line.end_ms), *line.texts, *values))
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()


def _parquet(db: sqlite3.Connection, span: past.Span) -> Iterator[bytes]:
    """Give the same rows, typed. Raises SettingsError where pyarrow is not installed."""
    try:
        from exporters.parquet import encode  # noqa: PLC0415
    except ImportError as error:
        raise needs_pyarrow(error) from error
    return encode(pieces(db, span), nodes(db, span), own_version())
