"""`gputally holders`: who holds GPUs now, for how long, and how much of it without activity."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict

from gputally.status import moment, reader_arguments, reading
from gputally.tables import NONE, columns, duration, share, tidy
from reports.holders import Held, holders_now

HEAD = (
    "HOLDER",
    "OWNER",
    "USER",
    "GPUS",
    "NOW",
    "SINCE",
    "GPU-HOURS",
    "WITHOUT ACTIVITY",
    "ACTIVITY",
    "ENERGY",
)
_RIGHT = frozenset({"GPU-HOURS", "WITHOUT ACTIVITY", "ACTIVITY", "ENERGY"})
_SAID = {"slurm": "job", "pod": "pod", "container": "container", "unit": "unit"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    reader_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print who holds what. Raises JournalError."""
    with reading(options) as db:
        found = holders_now(db)
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    elif found:
        print(columns(HEAD, [_row(one) for one in found], _RIGHT))
    else:
        print("nobody holds a GPU of this node")
    return 0


def _row(one: Held) -> tuple[str, ...]:
    return (
        tidy(said(one)),
        tidy(one.owner),
        tidy(one.user) or NONE,
        tidy(places(one.now)),
        tidy(", ".join(sorted(set(one.now.values())))) or NONE,
        moment(one.start_ms),
        f"{one.gpu_hours:.2f}",
        share(one.inactive_hours / one.gpu_hours if one.gpu_hours else None),
        share(one.activity_mean_ratio),
        f"{one.energy_kwh:.2f} kWh",
    )


def said(one: Held) -> str:
    """Name a holder as people do."""
    kind = _SAID.get(one.kind)
    return f"{kind} {one.name}" if kind else one.name


def places(now: Mapping[str, str]) -> str:
    """List the indices of GPUs."""
    return ",".join(sorted(now, key=lambda index: (len(index), index))) or NONE


def length_of(one: Held) -> str:
    """Say how long a holder held something."""
    return duration(one.end_ms - one.start_ms)
