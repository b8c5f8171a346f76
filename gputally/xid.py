"""`gputally xid`: what the errors mean that the driver reports, and what to do."""

import argparse
import json
from textwrap import fill

from agent.errors import SettingsError
from agent.xid_catalogue import XIDS, meaning_of

WIDTH = 110


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("number", nargs="*", type=int, help="numbers of XIDs; all of them if none is given")
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print the catalogue, or some of it. Raises SettingsError."""
    if any(number < 0 for number in options.number):
        raise SettingsError("an XID is a number such as 79")
    found = {number: meaning_of(number) for number in options.number or XIDS}
    if options.json:
        print(json.dumps({number: xid._asdict() for number, xid in found.items()}, indent=2))
        return 0
    for number, xid in found.items():
        text = f"{number:<4} {xid.severity}, for the {xid.audience}: {xid.meaning}. Do: {xid.action}."
        print(fill(text, WIDTH, subsequent_indent="     "))
    return 0
