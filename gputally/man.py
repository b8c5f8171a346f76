"""`gputally man`: the manual page of the command, out of its own help."""

import argparse
import os

from gputally.cli import COMMANDS, command_line
from gputally.version import own_version

EPILOG = """\
  gputally man | man -l -
  gputally man > /usr/local/share/man/man1/gputally.1
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare that there are no options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def execute(_: argparse.Namespace) -> int:
    """Print the page."""
    print(page(), end="")
    return 0


def page() -> str:
    """Give the page in roff; its lines are of the same width on every terminal."""
    from argparse_manpage.manpage import Manpage  # noqa: PLC0415  nothing else needs it

    os.environ["COLUMNS"] = "80"
    parser = command_line(COMMANDS)
    told = {
        "project_name": "gputally",
        "version": own_version(),
        "manual_title": "gputally",
        "description": "an exact account of every GPU-second of a node",
    }
    return "".join(sign if sign.isascii() else f"\\[u{ord(sign):04X}]" for sign in str(Manpage(parser, told)))
