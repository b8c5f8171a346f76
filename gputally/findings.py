"""`gputally findings`: what is open, since when, and what to do."""

import argparse
import json
from dataclasses import asdict

from agent.restore import open_findings
from gputally.status import moment, reader_arguments, reading
from gputally.tables import tidy


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    reader_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print the open findings; 1 when there are any. Raises JournalError."""
    with reading(options) as db:
        found = open_findings(db)
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    elif not found:
        print("nothing is open")
    for one in () if options.json else found:
        where = " ".join(part for part in (one.node, one.uuid) if part)
        print(f"{one.severity}: {one.rule} on {tidy(where)} since {moment(one.opened_ms)}")
        print(f"    {one.summary}\n    do: {one.action}")
    return 1 if found else 0
