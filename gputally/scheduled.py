"""The report of the week beside a running node: a process of its own, of low priority, when it is due.

What is due and not done is done once, also after a restart; what fails is tried again a few times. All that
is remembered stands in a small file, and a child is all that is started: ticks never wait for either.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.clock import now_ms
from agent.errors import ReportError, SettingsError
from gputally.beside import Child, end, started
from gputally.output import whole_file
from gputally.schedule import due_after, due_upto, parse, week_before
from gputally.settings import Settings
from reports.window import zone

ATTEMPTS = 3
RETRY_MS = 600_000
LONGEST_SECONDS = 2 * 3600.0
"""A report that takes longer is ended."""
LOOK_SECONDS = 60.0
"""How long a clock that was set may be overlooked."""
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 5.0
WEEK_MS = 7 * 86_400_000
log = logging.getLogger("gputally")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is known over restarts; times in ms. Reports due up to `settled_ms` are done with.

    `attempts` were made at the one due at `due_ms`, the latest at `tried_ms`.
    """

    settled_ms: int
    due_ms: int = 0
    attempts: int = 0
    tried_ms: int = 0
    succeeded_ms: int | None = None


class Scheduled:
    """Starts the report when it is due; `step` does whatever comes next, `start` does so in a thread."""

    def __init__(
        self,
        settings: Settings,
        memory: Path,
        command: Callable[[str], Sequence[str]],
        clock: Callable[[], int] = now_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read what is remembered. `command` makes the command for a week. Raises SettingsError."""
        wanted = settings.report
        schedule = parse(wanted.schedule)
        if schedule is None:
            raise SettingsError("[report] schedule is missing")
        if wanted.schedule_mail == "on" and not settings.mail.host:
            raise SettingsError('[report] schedule_mail = "on" needs a mail server in [mail]')
        self._schedule = schedule
        try:
            self._where = zone(wanted.timezone)
        except ReportError as error:
            raise SettingsError(f"[report] timezone: {error}") from error
        self._path = memory
        self._command = command
        self._clock = clock
        self._monotonic = monotonic
        self._began = 0.0
        self._child: Child | None = None
        self._week = ""
        self._thread: threading.Thread | None = None
        self._ends = threading.Event()
        self._memory = self._remembered()

    @property
    def succeeded_ms(self) -> int | None:
        """When a report was last made as it should be; None for never."""
        return self._memory.succeeded_ms

    def step(self) -> float:
        """Look after the child, or start one if something is due; give the seconds until the next look."""
        at_ms = self._clock()
        if self._child is not None:
            return self._look_after(self._child, at_ms)
        due_ms = due_upto(self._schedule, self._where, at_ms)
        if due_ms > self._memory.settled_ms:
            attempts = self._memory.attempts if self._memory.due_ms == due_ms else 0
            waits_ms = self._memory.tried_ms + RETRY_MS - at_ms if attempts else 0
            if 0 < waits_ms <= RETRY_MS:
                return min(LOOK_SECONDS, waits_ms / 1000)
            self._try(due_ms, attempts + 1, at_ms)
            return POLL_SECONDS
        return min(LOOK_SECONDS, (due_after(self._schedule, self._where, at_ms) - at_ms) / 1000)

    def start(self) -> None:
        """Step in a thread from now on."""
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and a report that is being made: the next start makes it anew."""
        self._ends.set()
        if self._thread:
            self._thread.join()
        if self._child:
            self._end(self._child)
            self._child = None
            self._remember(replace(self._memory, attempts=self._memory.attempts - 1))

    def _run(self) -> None:
        while not self._ends.wait(self.step()):
            pass

    def _try(self, due_ms: int, attempts: int, at_ms: int) -> None:
        self._remember(replace(self._memory, due_ms=due_ms, attempts=attempts, tried_ms=at_ms))
        self._week = week_before(due_ms, self._where)
        log.info("the report of week %s is made", self._week)
        try:
            self._began = self._monotonic()
            self._child = started(self._command(self._week))
        except OSError as error:
            self._failed(f"it cannot be started: {error.strerror}")

    def _look_after(self, child: Child, at_ms: int) -> float:
        code = child.poll()
        if code is None:
            if self._monotonic() - self._began <= LONGEST_SECONDS:
                return POLL_SECONDS
            self._end(child)
        self._child = None
        if code == 0:
            log.info("the report of week %s is there", self._week)
            self._remember(
                replace(self._memory, settled_ms=self._memory.due_ms, attempts=0, succeeded_ms=at_ms)
            )
        elif code is None:
            self._failed(f"it took longer than {LONGEST_SECONDS / 3600:g} h")
        else:
            self._failed(f"it ended with {code}")
        return 0.0

    def _failed(self, why: str) -> None:
        if self._memory.attempts < ATTEMPTS:
            more = f"it is tried again in {RETRY_MS // 60_000} min"
        else:
            more = "it is left at that"
            self._remember(replace(self._memory, settled_ms=self._memory.due_ms))
        log.error("the report of week %s failed: %s; %s", self._week, why, more)

    def _end(self, child: Child) -> None:
        """End a report that is in progress."""
        end(child, PATIENCE_SECONDS)

    def _remembered(self) -> Memory:
        """Read the memory; without one, what was due before now is nobody's concern."""
        at_ms = self._clock()
        fresh = Memory(settled_ms=due_upto(self._schedule, self._where, at_ms))
        try:
            told = Memory(**json.loads(self._path.read_bytes()))
            sound = all(type(value) is int for name, value in asdict(told).items() if name != "succeeded_ms")
        except FileNotFoundError:
            self._remember(fresh)
            return fresh
        except (OSError, ValueError, TypeError, RecursionError) as error:
            log.warning("cannot read when the last report was made (%s): begins anew", error)
            return fresh
        if not sound or not isinstance(told.succeeded_ms, int | None):
            log.warning("cannot read when the last report was made: begins anew")
            return fresh
        if told.settled_ms > at_ms + WEEK_MS:  # the clock was ahead
            return replace(fresh, succeeded_ms=told.succeeded_ms)
        return told

    def _remember(self, memory: Memory) -> None:
        self._memory = memory
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self._path) as out:
                out.write(json.dumps(asdict(memory)).encode())
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error.strerror)


def report_command(arguments: Sequence[str]) -> Callable[[str], list[str]]:
    """Make what gives the command for a week: our own interpreter and module, with these options."""

    def command(week: str) -> list[str]:
        return [sys.executable, "-m", "gputally", "report", "--scheduled", "--week", week, *arguments]

    return command
