"""A running node: frames from the probe become ticks in the books, and a view for the pages.

When the probe is silent the time is entered all the same, as unknown: an interval is never skipped. What goes
wrong is logged when it begins and when it ends, not in between.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.accounts import Account, Key
from agent.books import Books, broken_event
from agent.cadence import SamplerSettings
from agent.clock import Clock
from agent.errors import JournalError
from agent.frames import Absent, Alive, Frame
from agent.holders import ProcessHolders
from agent.prober import SILENCE_SECONDS, Ended
from agent.tick import Condition, Event, Tick
from agent.view import Health, View, states_of

PRUNE_TICKS = 360
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
log = logging.getLogger("gputally")


class Frames(Protocol):
    """Where frames come from; agent.prober.Prober, or a list of them in a test."""

    def next(self, timeout_seconds: float) -> Frame | Ended | None:
        """Give the next frame, the end of a probe, or None when time is over."""


def boot_id() -> str:
    """Name this boot of the host; empty where the kernel does not say."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(slots=True)
class _Counts:
    ticks: int = 0
    blind: int = 0
    late_seconds: float = 0.0
    calls: int = 0
    driver_seconds: float = 0.0
    restarts: int = 0
    journal_failures: int = 0


class Node:
    """Wires the parts of one node together; `step` does whatever comes next."""

    def __init__(
        self,
        *,
        name: str,
        frames: Frames,
        books: Books,
        holders: ProcessHolders,
        clock: Clock,
        cadence: SamplerSettings,
        publish: Callable[[View], None],
        drain_file: str = "",
    ) -> None:
        self._name = name
        self._frames = frames
        self._books = books
        self._holders = holders
        self._clock = clock
        self._interval_ms = round(cadence.interval_seconds * 1000)
        self._publish = publish
        self._drain_file = Path(drain_file) if drain_file else None
        self._counts = _Counts()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._accounts: list[tuple[Key, Account]] = []  # as last committed: a kill must not take any back
        self._journal_bytes = 0
        self._conditions: dict[str, Condition] = {}
        self._absent = ""
        self._failing = ""
        self._cpu_seconds = 0.0
        self._events: list[Event] = []
        self._seen_ms = 0
        self._heard_ns = 0

    def begin(self, boot_ms: int) -> None:
        """Account for the time since the journal was last written; `boot_ms` is when the host started."""
        now_ms = self._clock.wall_ms()
        self._seen_ms = now_ms
        self._heard_ns = self._clock.monotonic_ns()
        if self._books.journal.moved_aside:
            text = f"the journal was broken and was moved to {self._books.journal.moved_aside}"
            log.error(text)
            self._events.append(broken_event(self._name, now_ms, text))
        self._books.resume(self._name, now_ms, boot_ms)
        self._commit(now_ms)

    def step(self, timeout_seconds: float) -> bool:
        """Wait for one frame and take it; False when the time was over or waiting was ended."""
        frame = self._frames.next(max(0.0, min(timeout_seconds, self._silence_left())))
        self.take(frame)
        self._enter_silence()
        return frame is not None

    def take(self, frame: Frame | Ended | None) -> None:
        """Do what a frame asks for."""
        match frame:
            case Tick():
                self._heard_ns = self._clock.monotonic_ns()
                self._look(frame)
            case Absent(sentence):
                self._note_absent(sentence)
            case Ended(reason, retry_seconds):
                self._counts.restarts += 1
                self._note_absent(reason)
                log.debug("the next probe starts in %.0f s", retry_seconds)
            case Alive():
                self._note_absent("")
            case None:
                pass

    def _note_absent(self, reason: str) -> None:
        if reason == self._absent:
            return
        if reason:
            log.warning("the GPUs cannot be read now: %s (will go on trying)", reason)
        else:
            log.info("the GPUs are being read again")
        self._events.append(
            Event(
                at_ms=self._clock.wall_ms(),
                node=self._name,
                kind="probe_absent" if reason else "probe_back",
                text=reason or "the probe reads again",
            )
        )
        self._absent = reason

    def _silence_left(self) -> float:
        """Give the seconds until the silence is too long; by the clock that nobody sets."""
        silent_seconds = (self._clock.monotonic_ns() - self._heard_ns) / 1e9
        return self._interval_ms / 1000 + SILENCE_SECONDS - silent_seconds

    def _enter_silence(self) -> None:
        if self._silence_left() > 0:
            return
        self._counts.blind += 1
        self._heard_ns = self._clock.monotonic_ns() - round(SILENCE_SECONDS * 1e9)
        end_ms = self._clock.wall_ms() // self._interval_ms * self._interval_ms
        if end_ms > self._seen_ms:
            self._look(Tick(node=self._name, start_ms=self._seen_ms, end_ms=end_ms))
        else:
            self._seen_ms = end_ms  # the clock was set back

    def _look(self, tick: Tick) -> None:
        began = time.process_time()
        if tick.gpus is not None:
            self._note_absent("")
        self._count(tick)
        self._seen_ms = tick.end_ms
        self._note_gpus(tick)
        events, self._events = self._events, []
        holds = self._holders.holds(tick.readings)
        posting = self._books.post(tick, holds, drained=self._drained(), events=events)
        self._commit(tick.end_ms)
        states, held_by = states_of(posting.entries)
        self._publish(
            View(
                tick=tick,
                interval_seconds=self._interval_ms / 1000,
                gpus=dict(self._books.gpus),
                readings={reading.uuid: reading for reading in tick.readings},
                states=states,
                holders=held_by,
                accounts=self._accounts,
                health=self._health(),
            )
        )
        self._cpu_seconds = time.process_time() - began

    def _note_gpus(self, tick: Tick) -> None:
        """Tell when GPUs come, and when one's condition changes."""
        new = [gpu for gpu in tick.gpus or () if gpu.uuid not in self._conditions]
        if new:
            models = Counter(gpu.model for gpu in new)
            told = ", ".join(f"{count} x {model}" for model, count in models.items())
            log.info("reading %d GPUs: %s", len(new), told)
        self._conditions |= {gpu.uuid: Condition.OK for gpu in new}
        for reading in tick.readings:
            before = self._conditions.get(reading.uuid, Condition.OK)
            if reading.condition is before:
                continue
            self._conditions[reading.uuid] = reading.condition
            log.warning("GPU %s is %s, it was %s", reading.uuid, reading.condition, before)
            text = f"the GPU is {reading.condition}, it was {before}"
            event = Event(
                at_ms=tick.end_ms, node=tick.node, kind="gpu_condition", text=text, uuid=reading.uuid
            )
            self._events.append(event)

    def _count(self, tick: Tick) -> None:
        self._counts.ticks += 1
        self._counts.late_seconds = tick.late_seconds
        self._counts.calls += tick.driver_calls
        self._counts.driver_seconds += tick.driver_seconds
        for refusal in tick.refusals:
            self._refused[refusal.quantity, refusal.reason] += refusal.times

    def _drained(self) -> Callable[[str], bool]:
        """Read the drain file: it drains the GPUs it lists by UUID, or all when it lists none."""
        if self._drain_file is None:
            return lambda _: False
        try:
            listed = set(self._drain_file.read_text(encoding="utf-8", errors="replace").split())
        except PermissionError:
            listed = set()  # it is there, though what it lists cannot be read
        except OSError:
            return lambda _: False
        return lambda uuid: not listed or uuid in listed

    def _commit(self, now_ms: int) -> None:
        try:
            event = self._books.commit(now_ms)
            if event is None and self._counts.ticks % PRUNE_TICKS == 1:
                event = self._books.prune(now_ms)
            if event:
                log.error("the journal was broken: %s", event.text)
                self._events.append(event)
            self._journal_bytes = self._books.journal.used_bytes()
        except JournalError as error:
            self._counts.journal_failures += 1
            if not self._failing:
                log.error("%s; intervals are kept in memory meanwhile", error)  # noqa: TRY400  one sentence
            self._failing = str(error)
            return
        self._accounts = list(self._books.accounts.published(now_ms))
        if self._failing:
            log.warning("the journal is written again; nothing was lost")
            self._failing = ""

    def _health(self) -> Health:
        journal, counts = self._books.journal, self._counts
        refused: Mapping[tuple[str, str], int] = dict(self._refused)
        return Health(
            ticks=counts.ticks,
            blind_ticks=counts.blind,
            late_seconds=counts.late_seconds,
            driver_calls=counts.calls,
            driver_seconds=counts.driver_seconds,
            tick_cpu_seconds=self._cpu_seconds,
            probe_restarts=counts.restarts,
            refused=refused,
            journal_bytes=self._journal_bytes,
            journal_ticks_dropped=journal.ticks_dropped,
            journal_pending=journal.pending,
            journal_failures=counts.journal_failures,
            readings_dropped=self._books.readings_dropped,
            absent=self._absent,
        )
