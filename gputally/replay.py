"""`gputally replay`: recorded history becomes a journal, as if it had been seen live."""

import argparse
import os
import sys
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.errors import SettingsError
from agent.recording import Recording
from agent.replay import Survey, replay, survey
from agent.tick import Workload
from gputally.batch import bulk_books
from gputally.progress import Progress
from gputally.settings import load

SHORTEST_STEP, LONGEST_STEP = 0.001, 86_400
EPILOG = """\
formats, told by the header, .gz as well:
  our CSV               time,gpu and any quantity of `gputally metrics` without gpu_,
                        such as busy_ratio, memory_used_bytes, power_watts;
                        optional node, model, owner, holder
  nvidia-smi logs       nvidia-smi --query-gpu=timestamp,uuid,name,utilization.gpu,memory.used,power.draw
                        --format=csv -l 10 > log.csv

then:  gputally report --journal J --all
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recordings, oldest first")
    parser.add_argument("--journal", type=Path, required=True, metavar="FILE", help="made when missing")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="for the thresholds of the states")
    parser.add_argument("--node", help="name of the node where the recording has none (default: the file's)")
    parser.add_argument(
        "--timezone",
        default="UTC",
        metavar="ZONE",
        help="of times without a zone, as nvidia-smi's (default: UTC)",
    )
    parser.add_argument(
        "--step", type=float, metavar="SECONDS", help="distance of rows (default: their median)"
    )


def execute(options: argparse.Namespace) -> int:
    """Replay all files. Raises ReplayError, JournalError, SettingsError."""
    settings = load(options.settings, os.environ)
    if options.step is not None and not SHORTEST_STEP <= options.step <= LONGEST_STEP:
        raise SettingsError(f"--step must lie between {SHORTEST_STEP} and {LONGEST_STEP} seconds")
    zone = _zone(options.timezone)
    for path in options.files:
        node = options.node or path.name.partition(".")[0] or "replay"
        recording = Recording(path, zone)
        found = survey(recording, node, options.step)
        with bulk_books(options.journal, settings) as books:
            progress = Progress(f"replay {path.name}", found.rows, "rows")
            workload = Workload(settings.states.default_workload)
            replay(recording, found, books, node=node, workload=workload, progress=progress)
        _tell(path, recording, found)
    print(f"now: gputally report --journal {options.journal} --all")
    return 0


def _tell(path: Path, recording: Recording, found: Survey) -> None:
    start_ms, end_ms = found.span_ms
    hours = (end_ms - start_ms) / 3_600_000
    for bad in found.bad:
        print(f"{path}: line {bad.line} skipped: {bad.reason}", file=sys.stderr)
    if not recording.quantities & {"busy_ratio", "sm_active_ratio"}:
        print(f"{path}: no busy_ratio or sm_active_ratio, so activity is unknown", file=sys.stderr)
    if not found.tells_holders and "memory_used_bytes" not in recording.quantities:
        print(f"{path}: neither memory nor holders, so time without activity counts as free", file=sys.stderr)
    print(
        f"{path}: {found.rows:,} rows of {len(found.gpus):,} GPUs over {hours:,.2f} h, a row every "
        f"{found.step_ms / 1000:g} s; {found.bad_lines} bad lines skipped"
    )


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(
            f"--timezone {name!r} is no IANA time zone, such as Europe/Berlin or UTC"
        ) from None
