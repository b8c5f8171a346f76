"""`gputally holders`: who holds GPUs now, for how long, and how much of it without activity."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict

from agent.clock import moment
from agent.tick import said
from gputally.status import reader_arguments, reading
from gputally.tables import NONE, columns, duration, energy, hours, share, tidy
from reports.holders import Held, holders_now

HEAD = (
    "HOLDER",
    "OWNER",
    "USER",
    "GPUS",
    "NOW",
    "SINCE",
    "GPU-HOURS",
    "INACTIVE",
    "ACTIVITY",
    "ENERGY",
)
_RIGHT = frozenset({"GPU-HOURS", "INACTIVE", "ACTIVITY", "ENERGY"})


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
        tidy(said(one.kind, one.name)),
        tidy(one.owner),
        tidy(one.user) or NONE,
        tidy(places(one.now)),
        tidy(", ".join(sorted(set(one.now.values())))) or NONE,
        moment(one.start_ms),
        hours(one.gpu_hours),
        share(one.inactive_hours / one.gpu_hours if one.gpu_hours else None),
        share(one.activity_mean_ratio),
        energy(one.energy_kwh),
    )


def places(now: Mapping[str, str]) -> str:
    """List the indices of GPUs."""
    return ",".join(sorted(now, key=lambda index: (len(index), index))) or NONE


def length_of(one: Held) -> str:
    """Say how long a holder held something."""
    return duration(one.end_ms - one.start_ms)
