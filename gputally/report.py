"""`gputally report`: where the GPU-hours went."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from agent.clock import now_ms
from agent.errors import ReportError, SettingsError
from gputally.journals import journals_of, opened
from gputally.output import needs_pyarrow, whole_file
from gputally.settings import journal_path, load
from reports.data import to_json
from reports.long import to_csv
from reports.markdown import to_markdown
from reports.report import MOST_SPELLS, Report, build
from reports.text import to_text
from reports.window import Asked, resolve

EPILOG = """\
windows are whole UTC hours, since the accounts are hourly; without one: the last complete
week if the journal covers some of it, else all

  gputally report --last 24h
  gputally report --week 2026-W47 --timezone Europe/Berlin --format json --out week.json
  gputally report --from 2026-11-16 --to 2026-11-20T12:00:00Z
  gputally report --week 2026-W47 --format csv --out week.csv
  gputally report --journal /var/lib/fleet --week 2026-W47      the journals of all nodes, copied there

csv and parquet are one long table: a row for each GPU, place, owner and state; parquet needs pyarrow
"""
FORMATS = ("text", "markdown", "csv", "parquet", "json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--journal",
        type=Path,
        metavar="PATH",
        help="a file, or a folder with those of many nodes; default: where `gputally run` writes",
    )
    parser.add_argument("--settings", type=Path, metavar="FILE", help="default: /etc/gputally/gputally.toml")
    window = parser.add_mutually_exclusive_group()
    window.add_argument("--week", default="", metavar="2026-W47", help="an ISO week")
    window.add_argument(
        "--last", default="", metavar="24h", help="the latest hours, days or weeks: 24h, 7d, 4w"
    )
    window.add_argument("--all", action="store_true", help="all that the journal accounts for")
    parser.add_argument("--from", dest="since", default="", metavar="TIME", help="a date or an RFC 3339 time")
    parser.add_argument("--to", dest="until", default="", metavar="TIME", help="likewise, exclusive")
    parser.add_argument("--timezone", metavar="ZONE", help="in which weeks and dates begin (default: UTC)")
    parser.add_argument("--price", type=float, metavar="MONEY", help="what an hour of a GPU costs")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")


def execute(options: argparse.Namespace) -> int:
    """Write the report; 1 when the accounts do not add up, or a journal of several could not be read.

    Raises ReportError, JournalError, SettingsError.
    """
    if options.format == "parquet" and options.out is None:
        raise SettingsError("--format parquet is no text: name a file with --out")
    report = _build(options)
    columns = 100 if options.out else min(shutil.get_terminal_size((100, 24)).columns, 160)
    if options.format == "parquet":
        _save(options.out, _parquet(report))
        return _code(report)
    written = {
        "text": lambda: to_text(report, columns),
        "markdown": lambda: to_markdown(report),
        "csv": lambda: to_csv(report),
        "json": lambda: to_json(report),
    }
    text = written[options.format]()
    if options.out:
        _save(options.out, text.encode())
    else:
        sys.stdout.write(text)
    return _code(report)


def _code(report: Report) -> int:
    return 0 if report.identity_ok and not report.unread else 1


def _parquet(report: Report) -> bytes:
    try:
        from reports.parquet import to_parquet  # noqa: PLC0415
    except ImportError as error:
        raise needs_pyarrow(error) from error
    return to_parquet(report)


def _build(options: argparse.Namespace) -> Report:
    settings = load(options.settings, os.environ)
    price = options.price if options.price is not None else settings.report.price_per_gpu_hour
    asked = Asked(
        week=options.week,
        last=options.last,
        since=options.since,
        until=options.until,
        everything=options.all,
        timezone=options.timezone or settings.report.timezone,
    )
    made_ms = now_ms()
    with opened(journals_of(journal_path(options.journal, settings))) as journals:
        window = resolve([one.span for one in journals.opened], asked, now_ms=made_ms)
        gathered = journals.gather(window, MOST_SPELLS)
    return build(gathered, window, price_per_gpu_hour=price or None, now_ms=made_ms, unread=journals.unread)


def _save(path: Path, content: bytes) -> None:
    try:
        with whole_file(path) as out:
            out.write(content)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}") from error
