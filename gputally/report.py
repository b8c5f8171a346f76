"""`gputally report`: where the GPU-hours went."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from agent.clock import now_ms
from agent.errors import ReportError, SettingsError
from gputally.garbage import uncollected
from gputally.output import whole_file
from gputally.report_forms import SUFFIXES, form_of, written
from gputally.report_made import asked_of, made
from gputally.report_mail import mail_arguments
from gputally.report_scheduled import delivered, is_delivered, marked
from gputally.settings import Settings, load
from reports.archive import Archive
from reports.outline import Report
from reports.window import Span, moment_of, resolve, zone

EPILOG = """\
without a window: the last complete week if the journal covers some of it, else all

  gputally report --last 24h
  gputally report --week 2026-W47 --timezone Europe/Berlin --out week.html
  gputally report --week 2026-W47 --compare 2026-W40
  gputally report --from 2026-11-16 --to 2026-11-20T12:00:00Z --format json
  gputally report --journal /var/lib/fleet --week 2026-W47      the journals of all nodes, copied there
  gputally report --source http://victoria:8428 --week 2026-W47 --out week.pdf
  gputally report --source http://influx:8086 --database gpu --week 2026-W47
  gputally report --source http://prometheus:9090 --schema dcgm --last 7d     a fleet with dcgm-exporter
  gputally report --week 2026-W47 --mail-dry-run                who would get it by mail

csv and parquet are one long table: a row for each GPU, place, owner and state; html and pdf need
pip install 'gputally[report]', parquet needs pyarrow
"""


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
    parser.add_argument(
        "--source",
        metavar="URL",
        help="a store instead: VictoriaMetrics, Prometheus, Mimir, Thanos; with --database an InfluxDB",
    )
    parser.add_argument(
        "--database", default="", metavar="NAME", help="of an InfluxDB, or a bucket mapped to it"
    )
    parser.add_argument(
        "--schema",
        choices=("dcgm", "nvitop", "nvidia_gpu_exporter"),
        help="the store holds what this exporter told: the report is an estimate from its snapshots",
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a token for the store")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="who signed the store's certificate")
    parser.add_argument("--tenant", default="", metavar="NAME", help="whose series: Mimir's X-Scope-OrgID")
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
    parser.add_argument("--prices", type=Path, metavar="FILE", help="a price book: docs/prices.md")
    parser.add_argument("--price", type=float, metavar="MONEY", help="one price of an hour of any GPU")
    parser.add_argument("--no-prices", action="store_true", help="no money, not even by public prices")
    parser.add_argument(
        "--weeks",
        type=int,
        metavar="N",
        help="how many weeks before are looked at, for comparison and trend (default: 12, with --schema 1)",
    )
    parser.add_argument(
        "--compare",
        default="",
        metavar="2026-W40",
        help="the ISO week to compare with (default: the week before), or none",
    )
    parser.add_argument(
        "--format", choices=tuple(SUFFIXES), help="default: as the name of --out ends, else text"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="FOLDER",
        help="keep the report there: if late data changed it, it is a revision and says in what",
    )
    parser.add_argument(
        "--as-of",
        default="",
        metavar="TIME",
        help="the report of the window as the archive has it from then, to the letter",
    )
    mail_arguments(parser)


def execute(options: argparse.Namespace) -> int:
    """Write the report; 1 when the accounts do not add up, or a journal of several could not be read.

    Raises ReportError, JournalError, SettingsError, StoreError.
    """
    with uncollected():
        return _executed(options)


def _executed(options: argparse.Namespace) -> int:
    form = form_of(options.format, options.out)
    settings = load(options.settings, os.environ)
    delivers = is_delivered(options, settings)
    report = _report(options, settings)
    code = 0 if report.identity_ok and not report.unread else 1
    if options.out or not delivers:
        columns = 100 if options.out else min(shutil.get_terminal_size((100, 24)).columns, 160)
        content = written(report, form, columns, settings.report.grafana_url)
        if options.out:
            _save(options.out, content)
        else:
            sys.stdout.write(content.decode())
    marked(options, report, settings)
    return (delivered(options, report, settings, at_ms=now_ms()) if delivers else 0) or code


def _report(options: argparse.Namespace, settings: Settings) -> Report:
    """Make the report and keep it, or take one that was kept."""
    folder = options.archive or (
        Path(settings.report.archive_folder) if settings.report.archive_folder else None
    )
    if options.as_of:
        if folder is None:
            raise SettingsError("--as-of needs the folder where reports were kept: name it with --archive")
        at_ms = now_ms()
        span = Span(first_ms=0, last_ms=at_ms, enrolled_ms=0)
        window = resolve([span], asked_of(options, settings), now_ms=at_ms)
        moment_ms = moment_of(options.as_of, zone(options.timezone or settings.report.timezone))
        return Archive(folder).as_of(window, moment_ms)
    report = made(options, settings)
    is_over = report.window.to_ms <= report.made_ms
    is_wanted = options.archive or (report.window.label.startswith("week ") and not options.mail_dry_run)
    return _kept(report, folder, options) if folder and is_over and is_wanted else report


def _kept(report: Report, folder: Path, options: argparse.Namespace) -> Report:
    """Keep a report; one that only the settings want kept is told all the same to who may not write there."""
    try:
        return Archive(folder).keep(report)
    except ReportError as error:
        if options.archive or options.scheduled:
            raise
        print(f"gputally: the report is not kept: {error}", file=sys.stderr)
        return report


def _save(path: Path, content: bytes) -> None:
    try:
        with whole_file(path) as out:
            out.write(content)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}") from error
