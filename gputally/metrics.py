"""`gputally metrics`: the catalogue of all metrics; docs/metrics.md is its Markdown."""

import argparse
import json
from textwrap import wrap

from exporters.catalogue import FAMILIES

INTRODUCTION = """\
# Metrics

Made by `gputally metrics --markdown`; a test keeps it fresh. Every name ends in a base unit. A quantity that
the device would not say is absent: never 0. Gauges are means or extremes over the interval that ended last,
counters only grow. GPU series also carry the static labels of the settings (`[node] labels`).
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="as docs/metrics.md")


def execute(options: argparse.Namespace) -> int:
    """Print the catalogue."""
    if options.json:
        body = {name: family._asdict() for name, family in FAMILIES.items()}
        print(json.dumps(body, indent=2))
    elif options.markdown:
        print(markdown(), end="")
    else:
        for name, family in FAMILIES.items():
            print(f"{name}  ({family.kind})")
            print("\n".join(f"    {line}" for line in wrap(family.help, 100)))
            if family.labels:
                print(f"    by {', '.join(family.labels)}")
    return 0


def markdown() -> str:
    """Give docs/metrics.md."""
    rows = [
        f"| `{name}` | {family.kind} | {', '.join(f'`{label}`' for label in family.labels) or '-'} "
        f"| {family.help} |\n"
        for name, family in FAMILIES.items()
    ]
    return f"{INTRODUCTION}\n| metric | kind | labels | what it is |\n|---|---|---|---|\n{''.join(rows)}"
