"""`gputally findings`: what is open, since when, whom it hurts, and what to do."""

import argparse
import json
from dataclasses import asdict

from agent.clock import moment
from agent.restore import open_findings
from gputally.status import reader_arguments, reading
from gputally.tables import tidy
from reports.now import GpuNow, now


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    reader_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print the open findings; 1 when there are any. Raises JournalError."""
    with reading(options) as db:
        found, seen = open_findings(db), now(db)
    held = {gpu.uuid: gpu for gpu in (seen.gpus if seen else ())}
    if options.json:
        print(json.dumps([{**asdict(one), **_held(held.get(one.uuid))} for one in found], indent=2))
    elif not found:
        print("nothing is open")
    for one in () if options.json else found:
        where = " ".join(part for part in (one.node, one.uuid) if part)
        print(f"{one.severity}: {one.rule} on {tidy(where)} since {moment(one.opened_ms)}")
        gpu = held.get(one.uuid)
        if gpu and gpu.owners:
            who, whose = ", ".join(gpu.holders) or "somebody", ", ".join(gpu.owners)
            print(f"    held by {tidy(who)} of {tidy(whose)}")
        print(f"    {one.summary}\n    do: {one.action}")
    return 1 if found else 0


def _held(gpu: GpuNow | None) -> dict[str, list[str]]:
    return {"holders": list(gpu.holders) if gpu else [], "owners": list(gpu.owners) if gpu else []}
