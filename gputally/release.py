"""`gputally release`: let the agent let go of the driver for a while, without stopping it."""

import argparse
import json
import os
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from agent.clock import now_ms
from agent.errors import JournalError, SettingsError
from agent.release import LONGEST_MS, ask, files_of, moment_in, take_back
from gputally.settings import journal_path, load
from gputally.status import reader_arguments

ANSWER_SECONDS = 15.0
"""The agent looks every second, and a probe that hangs is waited for some more."""
LOOK_SECONDS = 0.1
EPILOG = """\
while the driver is let go of, the agent runs on and holds no GPU: the time counts as drained, and
the pages show no readings

  gputally release --for 15m    then upgrade the driver, reset or partition GPUs
  gputally release --end        take the GPUs up again before the time is over
"""
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--for", dest="duration", metavar="DURATION", help="let go for so long: 90s, 15m, 2h; 24h at most"
    )
    what.add_argument("--end", action="store_true", help="take the GPUs up again now")
    reader_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Ask the agent and wait for its answer. Raises JournalError, SettingsError."""
    length_ms = 0 if options.end else duration_ms(options.duration)
    journal = journal_path(options.journal, load(options.settings, os.environ))
    if not journal.exists():
        raise JournalError(f"there is no journal at {journal}: name the one of the running agent, --journal")
    until_ms = 0
    if options.end:
        sentence = "the GPUs were taken up again" if _take_up(journal) else "nothing was released"
    else:
        until_ms = _let_go(journal, now_ms() + length_ms)
        sentence = _sentence(until_ms)
    print(_json(until_ms) if options.json else sentence)
    return 0


def duration_ms(text: str) -> int:
    """Understand a duration. Raises SettingsError."""
    match = _DURATION.fullmatch(text)
    length_ms = round(float(match[1]) * _UNITS[match[2]] * 1000) if match else 0
    if not 0 < length_ms <= LONGEST_MS:
        raise SettingsError(f"--for {text!r} is no time from 1s to 24h: write 90s, 15m or 2h")
    return length_ms


def _let_go(journal: Path, until_ms: int) -> int:
    """Ask for it; withdraw the request unless it is answered."""
    answered = files_of(journal).answered
    ask(journal, until_ms)
    done = False
    try:
        done = _comes(lambda: moment_in(answered) == until_ms)
    finally:
        if not done:
            take_back(journal)
    if not done:
        raise JournalError(_nobody(journal, "the request was withdrawn"))
    return until_ms


def _take_up(journal: Path) -> bool:
    """End a release; False when there is none."""
    answered = files_of(journal).answered
    take_back(journal)
    if not answered.exists():
        return False
    if not _comes(lambda: not answered.exists()):
        raise JournalError(_nobody(journal, "one that is started now takes the GPUs up"))
    return True


def _comes(answer: Callable[[], bool]) -> bool:
    """Look for an answer until there is one, or no hope for it."""
    end, pause = time.monotonic() + ANSWER_SECONDS, threading.Event()
    while not answer():
        if time.monotonic() > end:
            return False
        pause.wait(LOOK_SECONDS)
    return True


def _nobody(journal: Path, more: str) -> str:
    return (
        f"no agent answered within {ANSWER_SECONDS:.0f} s, {more}: "
        f"see whether `gputally run` is running, and whether its journal is {journal}"
    )


def _sentence(until_ms: int) -> str:
    until = datetime.fromtimestamp(until_ms / 1000, UTC)
    return (
        f"released until {until:%H:%M:%S} UTC: upgrade the driver or reset GPUs now, "
        "then: gputally release --end"
    )


def _json(until_ms: int) -> str:
    until = datetime.fromtimestamp(until_ms / 1000, UTC).isoformat(timespec="seconds") if until_ms else None
    return json.dumps({"released": until_ms > 0, "until": until, "until_ms": until_ms or None}, indent=2)
