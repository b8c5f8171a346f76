"""Letting go of the driver for a while, so that it can be upgraded, or a GPU reset or partitioned.

Who may write beside the journal may ask for it: a file says until when. The agent ends its probe, answers
with a second file, and takes the GPUs up again when the time is over or the first file is gone.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from agent.errors import JournalError
from agent.tick import Tick

LONGEST_MS = 24 * 3_600_000


class Files(NamedTuple):
    """The two files beside a journal: the request, and the agent's answer."""

    asked: Path
    answered: Path


def files_of(journal: Path) -> Files:
    """Name the files of a journal."""
    return Files(journal.with_name(journal.name + ".release"), journal.with_name(journal.name + ".released"))


def ask(journal: Path, until_ms: int) -> None:
    """Ask the agent of a journal to let go until a moment. Raises JournalError."""
    asked = files_of(journal).asked
    new = asked.with_name(f"{asked.name}.{os.getpid()}")
    try:
        new.write_text(json.dumps({"until_ms": until_ms}), encoding="ascii")
        new.replace(asked)
    except OSError as error:
        raise JournalError(f"cannot ask the agent: {asked}: {error.strerror}") from error


def take_back(journal: Path) -> bool:
    """Ask the agent to take the GPUs up again; False when nothing was asked. Raises JournalError."""
    asked = files_of(journal).asked
    try:
        asked.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalError(f"cannot ask the agent: {asked}: {error.strerror}") from error
    return True


def moment_in(path: Path) -> int:
    """Read until when; 0 when there is no file, or nothing sound in it."""
    try:
        until_ms = json.loads(path.read_text(encoding="ascii"))["until_ms"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return until_ms if isinstance(until_ms, int) and not isinstance(until_ms, bool) else 0


class Lets(Protocol):
    """Who lets go of the driver; agent.prober.Prober."""

    def finish(self) -> list[Tick]:
        """End the probe, and give what it still says."""

    def rest(self) -> None:
        """Start no probe."""

    def resume(self) -> None:
        """Start a probe."""


class Release:
    """The agent's side. `until_ms` is when the GPUs are taken up again; 0 while they are held."""

    def __init__(self, journal: Path, prober: Lets, say: Callable[[str, str], None]) -> None:
        self.until_ms = 0
        self._files = files_of(journal)
        self._prober = prober
        self._say = say
        with contextlib.suppress(OSError):
            self._files.answered.unlink(missing_ok=True)

    def look(self, now_ms: int) -> list[Tick]:
        """Do what is asked for; give the ticks that the probe had still to say.

        A moment too far away is none: somebody set the clock back, and the release would never end.
        """
        until_ms = moment_in(self._files.asked)
        if not now_ms < until_ms <= now_ms + LONGEST_MS:
            self._take_up()
            return []
        if self.until_ms:
            self._answer(until_ms)
            return []
        ticks = self._prober.finish()
        self._prober.rest()
        self._say("released", f"the driver was let go of, for {(until_ms - now_ms) / 1000:.0f} s at most")
        self._answer(until_ms)
        return ticks

    def _answer(self, until_ms: int) -> None:
        if self.until_ms != until_ms:
            self.until_ms = until_ms
            with contextlib.suppress(OSError):
                self._files.answered.write_text(json.dumps({"until_ms": until_ms}), encoding="ascii")

    def _take_up(self) -> None:
        if not self.until_ms:
            return
        self.until_ms = 0
        for path in self._files:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._prober.resume()
        self._say("taken_up", "the driver is used again")
