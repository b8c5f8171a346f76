"""Who was mailed what, in a small file: so that nobody gets a letter twice, and no owner too often.

A letter is noted before it is handed over and taken back when it was certainly refused: whoever is killed in
between has sent it once at most. Only one process at a time has the file.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from agent.errors import ReportError
from gputally.output import whole_file

DAY_MS = 86_400_000
KEPT_DAYS = 400
"""Older letters are forgotten: nobody asks for reports of weeks that long ago."""
Kind = Literal["planner", "owner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A letter: to a planner, or to who answers for an owner. `at_ms` is when it was sent."""

    kind: Kind
    owner: str
    address: str
    week: str
    at_ms: int

    def is_like(self, other: "Sent") -> bool:
        """Tell whether both are the same letter, sent at whatever time."""
        return (self.kind, self.owner, self.address.lower(), self.week) == (
            other.kind,
            other.owner,
            other.address.lower(),
            other.week,
        )


class Record:
    """The letters sent so far; what changes is on the disk when a call returns."""

    def __init__(self, path: Path, letters: list[Sent]) -> None:
        self._path = path
        self._letters = letters
        self._before: Sent | None = None

    def has(self, letter: Sent) -> bool:
        """Tell whether a letter was sent."""
        return any(letter.is_like(one) for one in self._letters)

    def last_ms(self, owner: str, week: str) -> int | None:
        """Tell when an owner was last mailed about another week than this."""
        times = [
            one.at_ms
            for one in self._letters
            if (one.kind, one.owner) == ("owner", owner) and one.week != week
        ]
        return max(times, default=None)

    def note(self, letter: Sent) -> None:
        """Add a letter, in the place of one like it. Raises ReportError."""
        oldest_ms = letter.at_ms - KEPT_DAYS * DAY_MS
        kept = [one for one in self._letters if one.at_ms >= oldest_ms and not letter.is_like(one)]
        self._before = next((one for one in self._letters if letter.is_like(one)), None)
        self._write([*kept, letter])

    def take_back(self, letter: Sent) -> None:
        """Undo that the latest letter was noted, since it was not sent after all. Raises ReportError."""
        kept = [one for one in self._letters if not letter.is_like(one)]
        self._write([*kept, *([self._before] if self._before else [])])

    def _write(self, letters: list[Sent]) -> None:
        text = json.dumps({"version": 1, "letters": [asdict(one) for one in letters]}, indent=1)
        try:
            with whole_file(self._path) as out:
                out.write(text.encode())
        except OSError as error:
            raise ReportError(f"cannot write {self._path}: {error.strerror}") from error
        self._letters = letters


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Record]:
    """Open the record of a folder for this process alone. Raises ReportError."""
    path = folder / "mail.json"
    with _locked(folder / "mail.lock"):
        yield Record(path, _read(path))


@contextlib.contextmanager
def read(folder: Path) -> Iterator[Record]:
    """Read the record of a folder, to look at only: nothing is made or locked. Raises ReportError."""
    path = folder / "mail.json"
    yield Record(path, _read(path))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ReportError("another gputally sends mail at this moment: wait until it is done") from error
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> list[Sent]:
    try:
        return _letters(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReportError(
            f"{path}, which says who was mailed, cannot be understood ({error}): move it away, "
            "and letters may be sent a second time"
        ) from error


def _letters(told: dict[str, Any]) -> list[Sent]:
    if told["version"] != 1:
        raise ValueError("it is of another version of gputally")
    return [_sent(one) for one in told["letters"]]


def _sent(told: dict[str, Any]) -> Sent:
    letter = Sent(**told)
    texts = (letter.kind, letter.owner, letter.address, letter.week)
    if not all(isinstance(text, str) for text in texts) or type(letter.at_ms) is not int:
        raise ValueError("a letter in it is none")
    return letter
