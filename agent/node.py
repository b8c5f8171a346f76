"""A running node: frames from the probe become ticks in the books, and a view for the pages.

When the probe is silent the time is entered all the same, as unknown: an interval is never skipped. What goes
wrong is logged when it begins and when it ends, not in between.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.accounts import Account, Key
from agent.books import Books, broken_event
from agent.cadence import SamplerSettings
from agent.chronicle import Chronicle
from agent.clock import Clock
from agent.drain import drained
from agent.errors import JournalError
from agent.frames import Absent, Alive, Frame
from agent.holders.claims import Holders
from agent.kernel_log import KernelLog, log_began_ms
from agent.prober import SILENCE_SECONDS, Ended, Hung
from agent.release import Lets, Release
from agent.scene import Judge
from agent.tick import State, Tick, Xid
from agent.view import Health, View, bounded, slice_states_of

PRUNE_TICKS = 360
LOOK_SECONDS = 3.0
"""How long a request to let go of the driver may wait to be seen while GPUs are read: each look costs as much
as a dozen calls."""
IDLE_LOOK_SECONDS = 1.0
"""The same while nothing is read."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
log = logging.getLogger("gputally")


class Frames(Protocol):
    """Where frames come from; agent.prober.Prober, or a list of them in a test."""

    @property
    def stuck(self) -> int:
        """How many probes hang in the driver."""

    def next(self, timeout_seconds: float) -> Frame | Ended | Hung | None:
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
    holders_dropped: int = 0


class Node:
    """Wires the parts of one node together; `step` does whatever comes next."""

    def __init__(
        self,
        *,
        name: str,
        frames: Frames,
        books: Books,
        holders: Holders,
        most_holders: int = 512,
        clock: Clock,
        cadence: SamplerSettings,
        publish: Callable[[View], None],
        drain_file: str = "",
        kernel_log: KernelLog | None = None,
        judge: Judge = lambda _: (),
    ) -> None:
        self._name = name
        self._frames = frames
        self._books = books
        self._holders = holders
        self._most_holders = most_holders
        self._clock = clock
        self._interval_ms = round(cadence.interval_seconds * 1000)
        self._publish = publish
        self._drain_file = Path(drain_file) if drain_file else None
        self._kernel_log = kernel_log
        self._judge = judge
        self._kernel_xids: list[Xid] = []
        self._release: Release | None = None
        self._counts = _Counts()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._accounts: list[tuple[Key, Account]] = []  # as last committed: a kill must not take any back
        self._journal_bytes = 0
        self._chronicle = Chronicle(name, clock)
        self._failing = ""
        self._cpu_seconds = 0.0
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
            self._chronicle.keep(broken_event(self._name, now_ms, text))
        if self._kernel_log:
            self._open_kernel_log(self._kernel_log)
        self._holders.expect(self._books.gpus.values())
        self._books.resume(self._name, now_ms, boot_ms)
        self._commit(now_ms)

    def adopt(
        self, cadence: SamplerSettings, *, holders: Holders, most_holders: int, drain_file: str
    ) -> None:
        """Go on by other settings from the next interval on."""
        self._interval_ms = round(cadence.interval_seconds * 1000)
        self._holders = holders
        self._most_holders = most_holders
        self._drain_file = Path(drain_file) if drain_file else None

    @property
    def ticks(self) -> int:
        """How many intervals were entered since the start."""
        return self._counts.ticks

    def step(self, timeout_seconds: float) -> bool:
        """Wait for one frame and take it; False when the time was over or waiting was ended."""
        if self._release:
            self._look_at(self._release)
            reads = not self._released and not self._chronicle.absent
            timeout_seconds = min(timeout_seconds, LOOK_SECONDS if reads else IDLE_LOOK_SECONDS)
        self._read_kernel_log()
        frame = self._frames.next(max(0.0, min(timeout_seconds, self._silence_left())))
        self.take(frame)
        self._enter_silence()
        return frame is not None

    def end(self, ticks: Iterable[Tick]) -> None:
        """Enter what the probe had still to say, and what waited to be summed up."""
        self._chronicle.add(self._books.xids.flush(self._clock.wall_ms()))
        for tick in ticks:
            self.take(tick)
        if self._released:
            self._close(State.DRAINED)

    def _open_kernel_log(self, kernel_log: KernelLog) -> None:
        """Begin where the books end, so that errors from while the agent was down are found."""
        trouble = kernel_log.open(self._books.accounted_until(self._name))
        if trouble:
            log.info("XIDs come from NVML alone: %s", trouble)

    @property
    def _released(self) -> bool:
        return self._release is not None and self._release.until_ms > 0

    def _look_at(self, release: Release) -> None:
        """Let go of the driver or take it up, and end the time before that at this moment."""
        before = self._released
        for tick in release.look(self._clock.wall_ms()):
            self.take(tick)
        if before is not self._released:
            self._close(State.DRAINED if before else State.UNKNOWN)

    def _close(self, unseen: State) -> None:
        """Enter the time up to now in which no GPU was read."""
        now_ms = self._clock.wall_ms()
        if now_ms > self._seen_ms:
            self._look(Tick(node=self._name, start_ms=self._seen_ms, end_ms=now_ms), unseen)

    def let_go_through(self, prober: Lets, journal: Path) -> None:
        """Let `gputally release` end and start the probe."""
        self._release = Release(journal, prober, self._chronicle.tell)

    def _read_kernel_log(self) -> None:
        if self._kernel_log:
            now_ms = self._clock.wall_ms()
            self._kernel_xids += self._kernel_log.read(now_ms, log_began_ms(now_ms))

    def take(self, frame: Frame | Ended | Hung | None) -> None:
        """Do what a frame asks for."""
        match frame:
            case Tick():
                self._heard_ns = self._clock.monotonic_ns()
                self._look(frame)
            case Absent(sentence):
                self._chronicle.note_absent(sentence)
            case Hung(index, gpu, function, seconds):
                self._counts.restarts += 1
                who = gpu.uuid if gpu else f"with index {index}"
                self._chronicle.tell(
                    "gpu_hung",
                    f"GPU {who} does not answer: {function} has been at work for {seconds:.0f} s; "
                    "the others are read on without it",
                    gpu.uuid if gpu else "",
                )
            case Ended(reason, retry_seconds):
                self._counts.restarts += 1
                self._chronicle.note_absent(reason)
                log.debug("the next probe starts in %.0f s", retry_seconds)
            case Alive():
                self._chronicle.note_absent("")
            case None:
                pass

    def _silence_left(self) -> float:
        """Give the seconds until the silence is too long; by the clock that nobody sets."""
        silent_seconds = (self._clock.monotonic_ns() - self._heard_ns) / 1e9
        more_seconds = 0.0 if self._released else SILENCE_SECONDS
        return self._interval_ms / 1000 + more_seconds - silent_seconds

    def _enter_silence(self) -> None:
        if self._silence_left() > 0:
            return
        self._counts.blind += 1
        more_seconds = 0.0 if self._released else SILENCE_SECONDS
        self._heard_ns = self._clock.monotonic_ns() - round(more_seconds * 1e9)
        end_ms = self._clock.wall_ms() // self._interval_ms * self._interval_ms
        if end_ms > self._seen_ms:
            unseen = State.DRAINED if self._released else State.UNKNOWN
            self._look(Tick(node=self._name, start_ms=self._seen_ms, end_ms=end_ms), unseen)
        else:
            self._seen_ms = end_ms  # the clock was set back

    def _look(self, tick: Tick, unseen: State = State.UNKNOWN) -> None:
        began = time.process_time()
        if tick.gpus is not None:
            self._chronicle.note_absent("")
        self._count(tick)
        self._seen_ms = tick.end_ms
        self._chronicle.note_gpus(tick)
        self._note_xids(tick)
        listed = {gpu.uuid: gpu for gpu in tick.gpus or ()}
        holds = self._holders.holds(tick.readings, {**self._books.gpus, **listed})
        self._chronicle.note_worlds(self._holders.troubles)
        posting = self._books.post(
            tick,
            holds,
            drained=drained(self._drain_file, self._holders, holds),
            events=self._chronicle.take(),
            unseen=unseen,
            judge=self._judge,
        )
        tick = self._books.latest or tick
        self._commit(tick.end_ms)
        held_by, dropped = bounded(self._books.seats, self._most_holders)
        self._counts.holders_dropped += dropped
        self._publish(
            View(
                tick=tick,
                interval_seconds=self._interval_ms / 1000,
                gpus=dict(self._books.gpus),
                readings={reading.uuid: reading for reading in tick.readings},
                states=self._books.states,
                holders=held_by,
                slice_states=slice_states_of(
                    (one.slice, one.state, one.start_ms, one.elapsed_ms) for one in posting.entries
                ),
                accounts=self._accounts,
                parts=dict(self._books.parts),
                xids=dict(self._books.xids.counts),
                findings=self._books.findings.open,
                events=self._books.events,
                health=self.health(),
            )
        )
        self._cpu_seconds = time.process_time() - began

    def _note_xids(self, tick: Tick) -> None:
        self._read_kernel_log()  # now, so that it tells what NVML's numbers mean
        xids, self._kernel_xids = (*tick.xids, *self._kernel_xids), []
        self._chronicle.add(self._books.xids.take(xids, tick.end_ms))

    def _count(self, tick: Tick) -> None:
        self._counts.ticks += 1
        self._counts.late_seconds = tick.late_seconds
        self._counts.calls += tick.driver_calls
        self._counts.driver_seconds += tick.driver_seconds
        for refusal in tick.refusals:
            self._refused[refusal.quantity, refusal.reason] += refusal.times

    def _commit(self, now_ms: int) -> None:
        try:
            event = self._books.commit(now_ms)
            if event is None and self._counts.ticks % PRUNE_TICKS == 1:
                event = self._books.prune(now_ms)
            if event:
                log.error("the journal was broken: %s", event.text)
                self._chronicle.keep(event)
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

    def health(self) -> Health:
        """Tell what the agent knows of itself."""
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
            absent=self._chronicle.absent,
            stuck_probes=self._frames.stuck,
            kernel_log_skipped=self._kernel_log.skipped if self._kernel_log else 0,
            worlds=dict(self._holders.troubles),
            holders_dropped=counts.holders_dropped,
            owners_folded=self._holders.folded,
        )
