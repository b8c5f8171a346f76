"""`gputally report`: where the GPU-hours went."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from agent.errors import ReportError
from gputally.output import whole_file
from gputally.report_forms import SUFFIXES, form_of, written
from gputally.report_made import made
from gputally.settings import load
from reports.outline import Report

EPILOG = """\
windows are whole UTC hours, since the accounts are hourly; without one: the last complete
week if the journal covers some of it, else all

  gputally report --last 24h
  gputally report --week 2026-W47 --timezone Europe/Berlin --out week.html
  gputally report --from 2026-11-16 --to 2026-11-20T12:00:00Z --format json
  gputally report --journal /var/lib/fleet --week 2026-W47      the journals of all nodes, copied there
  gputally report --source http://victoria:8428 --week 2026-W47 --out week.pdf
  gputally report --source http://influx:8086 --database gpu --week 2026-W47
  gputally report --source http://prometheus:9090 --schema dcgm --last 7d     a fleet with dcgm-exporter

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
    parser.add_argument(
        "--weeks",
        type=int,
        metavar="N",
        help="how many weeks before are looked at, for comparison and trend (default: 12, with --schema 1)",
    )
    parser.add_argument(
        "--format", choices=tuple(SUFFIXES), help="default: as the name of --out ends, else text"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")


def execute(options: argparse.Namespace) -> int:
    """Write the report; 1 when the accounts do not add up, or a journal of several could not be read.

    Raises ReportError, JournalError, SettingsError, StoreError.
    """
    form = form_of(options.format, options.out)
    settings = load(options.settings, os.environ)
    report = made(options, settings)
    columns = 100 if options.out else min(shutil.get_terminal_size((100, 24)).columns, 160)
    content = written(report, form, columns, settings.report.grafana_url)
    if options.out:
        _save(options.out, content)
    else:
        sys.stdout.write(content.decode())
    return _code(report)


def _code(report: Report) -> int:
    return 0 if report.identity_ok and not report.unread else 1


def _save(path: Path, content: bytes) -> None:
    try:
        with whole_file(path) as out:
            out.write(content)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}") from error
