"""Subcommands and how errors end them: one sentence on standard error, never a traceback.

Exit codes: 0 fine, 1 a command could not do its work, 2 wrong use, settings or input.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Collection, Sequence
from importlib import import_module

from agent.errors import GputallyError, ReplayError, SettingsError
from gputally.version import own_version

COMMANDS = {
    "run": "watch the GPUs of this node and keep the accounts",
    "demo": "show it all on a simulated node: a week of history, then live",
    "replay": "turn recorded history (CSV, nvidia-smi logs) into a journal",
    "status": "what every GPU does now, and who holds it",
    "holders": "who holds GPUs now, and how much of it without activity",
    "job": "what one job, pod or other holder had of this node",
    "exporters": "how far each store is behind, what it took, what it refused",
    "export": "write history out of a journal, for other tools",
    "findings": "what is wrong now, and what to do",
    "check": "whether this node is fit for a job: for prologs, Nagios and probes",
    "rules": "by what GPUs are judged; your own rules, tried on the past; the same for Prometheus",
    "xid": "what the errors mean that the driver reports, and what to do",
    "settings": "whether settings are right, what is in force, and an example",
    "doctor": "what can be read on this node, what cannot, and why",
    "release": "let go of the driver for a while: to upgrade it, to reset GPUs",
    "report": "where the GPU-hours went, by state, owner and GPU",
    "dashboards": "Grafana dashboards, and the rules that keep them fast",
    "metrics": "the catalogue of all metrics",
    "version": "the version, the journal's schema, and what it runs on",
    "completion": "a script that completes commands and options in your shell",
    "man": "the manual page",
}
"""Each is a module of this package with `arguments(parser)` and `execute(options) -> exit code`."""
_MODULES = {"settings": "settings_command", "version": "version_command"}
"""Commands whose module has another name."""

EPILOG = """\
try it without a GPU:   gputally demo
watch this node:        gputally run
then, beside it:        gputally status
                        gputally report --last 24h
                        curl localhost:9740/metrics
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Gives the longest command room beside its help, which argparse forgets to indent."""

    def add_argument(self, action: argparse.Action) -> None:
        """Take an argument's help."""
        super().add_argument(action)
        self._action_max_length = max(self._action_max_length, max(map(len, COMMANDS)) + 4)


def main(arguments: Sequence[str]) -> int:
    """Run one subcommand; give the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path need not be Unicode
    wanted = next((word for word in arguments if word in COMMANDS), None)
    options = command_line({wanted} if wanted else ()).parse_args(arguments)
    return _guarded(options.execute, options)


def command_line(wanted: Collection[str]) -> argparse.ArgumentParser:
    """Make the parser, with the options of some commands: only what is run is loaded, for the footprint."""
    parser = argparse.ArgumentParser(
        prog="gputally",
        description="An exact account of every GPU-second of a node.",
        epilog=EPILOG,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"gputally {own_version()}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
        )
        if name in wanted:
            module = import_module(f"gputally.{_MODULES.get(name, name)}")
            module.arguments(subparser)
            subparser.set_defaults(execute=module.execute)
    return parser


def _guarded(execute: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    try:
        code = execute(options)
        if sys.stdout:
            sys.stdout.flush()
    except (SettingsError, ReplayError) as error:
        return _say(error, 2)
    except GputallyError as error:
        return _say(error, 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:
        return _say(GputallyError(f"cannot write the output: {error.strerror}"), 1)
    except KeyboardInterrupt:
        return 130
    return code


def _say(error: GputallyError, code: int) -> int:
    print(f"gputally: {error}", file=sys.stderr)
    return code
