"""Whose the processes on GPUs are: user, command and place of each pid, asked on a thread of its own.

A read of /proc can block for ever (the memory of a process stuck in a driver is locked), and so can a lookup
of a user's name. Neither may hold up a tick, so `People` waits a bounded time, and not again for the same
question. What it remembers is bounded by the pids it was last asked about.
"""

import os
import pwd
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from agent.holders.cgroups import LONGEST_TEXT, Place, place_of

LONGEST_COMMAND = 60
LONGEST_USER = 60
CHECK_SECONDS = 30.0
"""How long an answer about a pid counts, also that it is gone or hidden."""
STUCK_SECONDS = 10.0
"""A question that lasts so long is left alone, and another thread goes on with the rest."""
MOST_THREADS = 4
NAMES_SECONDS = 600.0
"""How long the name of a user counts; a directory that was away may be back then."""
_READ_BYTES = 4096
_HOSTILE = re.compile(r"[^\x20-\x7e]+")


def short_command(words: Sequence[str]) -> str:
    """Shorten a command line to the program and its first argument, or its module, if that is no option.

    Longer ones hold secrets and change with every run; so may an argument with `=` or `@` in it.
    """
    told = [word.rsplit("/", 1)[-1] for word in words[:3]]
    first = "".join(told[1:2])
    kept = 3 if first == "-m" else 1 if first.startswith("-") or "=" in first or "@" in first else 2
    return _HOSTILE.sub("?", " ".join(told[:kept]))[:LONGEST_COMMAND]


class Seen(NamedTuple):
    """A process as the host shows it; `started` is in clock ticks since boot and tells a reused pid.

    User and command are short and hold printable ASCII only.
    """

    user: str
    command: str
    place: Place
    started: int


def seen_of(pid: int, proc: Path = Path("/proc")) -> Seen | None:
    """Ask the host about a process; None when it is gone or hidden."""
    try:
        folder = os.open(f"{proc}/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:  # what is read below this descriptor is of one process, even if its number is given to another
        name, _, rest = _read(folder, "stat", _READ_BYTES).partition(b"(")[2].rpartition(b") ")
        started = int(rest.split(maxsplit=20)[19])
        uid = int(_read(folder, "status", _READ_BYTES).partition(b"\nUid:")[2].split(maxsplit=1)[0])
        user = _user_name(uid, int(time.monotonic() / NAMES_SECONDS))
        place = place_of(_read_or_none(folder, "cgroup", LONGEST_TEXT).decode(errors="replace"))
        return Seen(user, _command(_read_or_none(folder, "cmdline", _READ_BYTES), name), place, started)
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(folder)


def _read(folder: int, name: str, most_bytes: int) -> bytes:
    """Read the beginning of a file of a process."""
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(file, most_bytes)  # the kernel makes these files in one piece
    finally:
        os.close(file)


def _read_or_none(folder: int, name: str, most_bytes: int) -> bytes:
    """Read a file that need not be there."""
    try:
        return _read(folder, name, most_bytes)
    except OSError:
        return b""


def _command(line: bytes, name: bytes) -> str:
    """Shorten a command line; where there is none (a kernel thread, a zombie), give the name."""
    # a process that writes its own title makes it one word, arguments and all
    words = line.split(b"\0") if b"\0" in line.rstrip(b"\0") else line.rstrip(b"\0").split()
    told = short_command([word.decode(errors="replace") for word in words]).strip()
    return told or _HOSTILE.sub("?", name.decode(errors="replace"))[:LONGEST_COMMAND].strip()


@lru_cache(maxsize=1024)
def _user_name(uid: int, _period: int) -> str:
    """Give the name of a user, or the number of one without a name."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError, OSError):
        name = ""
    return _HOSTILE.sub("?", name)[:LONGEST_USER] or str(uid)


class _Answer(NamedTuple):
    """What is known of a pid, and when it was last asked about."""

    seen: Seen | None
    at: float


class _Question:
    """One pid that a thread asks about at the moment.

    `left` when the thread was given up; `void` when the pid left the list: it may return as another process.
    """

    def __init__(self, pid: int, since: float) -> None:
        self.pid = pid
        self.since = since
        self.left = False
        self.void = False


class People:
    """Tells of pids what is known, and asks about the rest on a thread of its own.

    One caller asks at a time. A process that ended while its pid is still listed stays who it was: its memory
    on the GPU is still there, and nobody else can have the number yet.
    """

    def __init__(
        self, ask: Callable[[int], Seen | None] = seen_of, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._known: dict[int, _Answer] = {}
        self._wanted: dict[int, None] = {}
        self._missing: set[int] = set()
        self._asking: _Question | None = None
        self._left: list[_Question] = []
        self._thread: threading.Thread | None = None
        self._closed = False

    def resolve(self, pids: Iterable[int], wait_seconds: float = 0.25) -> Mapping[int, Seen | None]:
        """Give what is known of these pids: None for one that is gone or hidden, nothing for the unknown.

        Waits for answers at most so long, and not while a question of an earlier call is still open.
        """
        with self._changed:
            listed = dict.fromkeys(pids)
            self._choose(listed)
            if self._wanted and not self._closed:
                self._go_on()
                if self._missing and not self._asking:
                    self._changed.wait_for(lambda: not self._missing or self._closed, wait_seconds)
            return {pid: self._known[pid].seen for pid in listed if pid in self._known}

    def close(self) -> None:
        """End the thread; one that is stuck is left behind."""
        with self._changed:
            self._closed = True
            self._wanted.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread:
            thread.join(timeout=0.5)

    def _choose(self, listed: Mapping[int, None]) -> None:
        """Forget who left, and list whom to ask about: first the unknown, then those asked about long ago."""
        old = self._monotonic() - CHECK_SECONDS
        self._known = {pid: answer for pid, answer in self._known.items() if pid in listed}
        asked = [*self._left, self._asking] if self._asking else self._left
        for question in asked:
            question.void |= question.pid not in listed
        busy = {question.pid for question in asked if not question.void}
        unknown = [pid for pid in listed if pid not in self._known and pid not in busy]
        again = [pid for pid, answer in self._known.items() if answer.at <= old and pid not in busy]
        self._missing = set(unknown)
        self._wanted = dict.fromkeys((*unknown, *again))

    def _go_on(self) -> None:
        """See to it that a thread asks what is wanted."""
        question, now = self._asking, self._monotonic()
        if question and now - question.since > STUCK_SECONDS and len(self._left) < MOST_THREADS - 1:
            question.left = True
            self._left.append(question)
            self._asking = self._thread = None
        if self._thread is None or not self._thread.is_alive():
            self._start()
        self._changed.notify_all()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="holders-people", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the host allows no more threads: nobody will answer, so do not wait
            self._thread = None
            self._missing.clear()

    def _run(self) -> None:
        while question := self._next():
            seen = None
            try:
                seen = self._ask(question.pid)
            finally:
                self._take(question, seen)
            if question.left:
                break

    def _next(self) -> _Question | None:
        """Wait for the next question; None when this thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._closed)
            if self._closed:
                return None
            pid = next(iter(self._wanted))
            del self._wanted[pid]
            self._asking = _Question(pid, self._monotonic())
            return self._asking

    def _take(self, question: _Question, seen: Seen | None) -> None:
        with self._changed:
            if not question.void:
                before = self._known.get(question.pid)
                seen = seen or (before.seen if before else None)
                self._known[question.pid] = _Answer(seen, self._monotonic())
                self._missing.discard(question.pid)
            if question.left:
                self._left.remove(question)
            else:
                self._asking = None
            if not self._missing:
                self._changed.notify_all()
