"""The books of a node: every tick goes through here, seen live, simulated or replayed.

A tick becomes ledger entries, the entries make the accounts grow, and all of it is committed to the journal.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from agent.accounts import Key
from agent.errors import JournalBroken
from agent.findings import Findings
from agent.hourly import GpuHour, Hourly, Hours
from agent.journal import Counted, Journal
from agent.lifelong import Lifelong
from agent.quantities import Origin
from agent.record import Record
from agent.scene import Judge, Scene, jobs_of
from agent.states import StateSettings
from agent.tally import DAY_MS, Posting, Seat, Tally, Timeline
from agent.tenures import Tenures
from agent.tick import Condition, Event, Finding, Gpu, Hold, Part, State, Tick, reading_of, said
from agent.view import states_of
from agent.xids import XidBook

PENDING_WHOLE = 1_000
"""So many intervals wait complete for a journal that cannot be written; older ones lose their readings."""


class Books:
    """Tally, accounts and journal, kept in step."""

    def __init__(
        self,
        journal: Journal,
        settings: StateSettings,
        *,
        boot_id: str = "",
        node: str = "",
        follow_holders: bool = False,
    ) -> None:
        memory = journal.memory()
        self.lifelong = Lifelong(memory.counters)
        self.xids = XidBook(boot_id, node)
        self.xids.know(memory.gpus.values())
        self.xids.restore(memory.xids)
        self.findings = Findings(memory.findings)
        self._hours = Hours(memory.counters, memory.timelines)
        self.tenures = (
            Tenures(node, settings.spell_unknown_seconds, memory.tenures) if follow_holders else None
        )
        self.latest: Tick | None = None
        self.parts: dict[str, tuple[Part, ...]] = {}
        self.journal = journal
        self.gpus: dict[str, Gpu] = memory.gpus
        self.accounts = memory.accounts
        self.tally = Tally(settings, boot_id=boot_id, timelines=memory.timelines)
        self.readings_dropped = 0
        self.states: Mapping[str, State] = {}
        self.seats: Mapping[str, tuple[Seat, ...]] = {}
        """What each GPU was at the end of the latest interval, and who held it."""
        self.events: Mapping[tuple[str, str], int] = {}
        """How often what happened since the start, by GPU and kind, up to the interval before the latest."""
        self._happened: Counter[tuple[str, str]] = Counter()
        self._boot_id = boot_id
        self._missing_ms = settings.missing_days * DAY_MS
        self._opened: list[Key] = []
        self._enrolled: dict[str, tuple[Gpu, ...]] = {}
        self._behind: set[str] = set()
        self._ends: dict[str, int] = {}
        for line in memory.timelines.values():
            self._ends[line.node] = max(line.until_ms, self._ends.get(line.node, 0))

    def adopt(self, settings: StateSettings) -> None:
        """Judge by other settings from the next interval on."""
        self.tally.settings = settings
        self._missing_ms = settings.missing_days * DAY_MS
        if self.tenures:
            self.tenures.adopt(settings.spell_unknown_seconds)

    def resume(self, node: str, now_ms: int, boot_ms: int) -> None:
        """Account for the time since the last commit: the host's off time is down, the agent's is unknown."""
        lines = [
            line for line in self.tally.timelines.values() if line.node == node and line.until_ms < now_ms
        ]
        self._ends[node] = max(now_ms, self._ends.get(node, 0))
        if not lines:
            return
        start_ms = min(line.until_ms for line in lines)
        posting = Posting([], [])
        for line in lines:
            if line.boot_id != self._boot_id and line.until_ms < boot_ms:
                _extend(posting, self.tally.close(min(boot_ms, now_ms), [line.uuid], State.DOWN))
        _extend(posting, self.tally.close(now_ms, [line.uuid for line in lines]))
        self._record(Tick(node=node, start_ms=start_ms, end_ms=now_ms), posting)

    def accounted_until(self, node: str) -> int | None:
        """Tell up to when a node is accounted for; None for a new one."""
        return self._ends.get(node)

    def _enroll(self, gpus: Sequence[Gpu], node: str, at_ms: int) -> Posting:
        """Take GPUs into the inventory from a moment on: their time is owed from then.

        One that sat in another node is accounted for there until that moment, as unknown.
        """
        posting = Posting([], [])
        if self._enrolled.get(node) == gpus:  # as nearly always
            return posting
        self._enrolled = {node: tuple(gpus)} if gpus else {}
        for gpu in gpus:
            line = self.tally.timelines.get(gpu.uuid)
            if line is not None and line.node != node:
                _extend(posting, self.tally.close(at_ms, [gpu.uuid]))
            if line is None or line.node != node:
                self.tally.enroll(gpu.uuid, node, at_ms)
                self._opened += self.accounts.open(gpu.uuid, node, at_ms)
            self.gpus[gpu.uuid] = gpu
        self.xids.know(gpus)
        return posting

    def post(
        self,
        tick: Tick,
        holds: Mapping[str, Sequence[Hold]],
        *,
        drained: Callable[[str], bool] = lambda _: False,
        events: Sequence[Event] = (),
        complete: bool = True,
        unseen: State = State.UNKNOWN,
        judge: Judge = lambda _: (),
    ) -> Posting:
        """Enter a tick, have it judged, and give what it added.

        Unless `complete` is false, GPUs of the node that the tick does not show are unknown until its end
        (or as `unseen` says), and one that the driver no longer enumerates is missing, and so down.
        """
        posting = self._enroll(tick.gpus or (), tick.node, tick.start_ms)
        if complete:
            events = (*events, *self._entered_already(tick))
        self._ends[tick.node] = max(tick.end_ms, self._ends.get(tick.node, 0))
        if complete:
            tick = self._with_missing(tick)
        _extend(posting, self.tally.post(tick.readings, holds, drained))
        if complete:
            here = [uuid for uuid, line in self.tally.timelines.items() if line.node == tick.node]
            _extend(posting, self.tally.close(tick.end_ms, here, unseen))
        self.latest = tick = self._lifted(tick)
        if self.tenures:
            events = (*events, *self.tenures.take(tick, posting.entries, holds, self.xids.counts))
        left = self._leave(tick) if complete else ()
        seen = {reading.uuid for reading in tick.readings if reading.condition is Condition.OK}
        seen |= {line.uuid for line in left}
        self.states, self.seats = states_of(posting.entries)
        seen.add("")  # findings about the node have no GPU
        gone = {line.uuid for line in left}
        found = [self._with_holder(one) for one in judge(self._scene(tick)) if one.uuid not in gone]
        changed = self.findings.update(found, seen, tick.end_ms)
        told = (*events, *(_left_event(tick, line) for line in left))
        self._record(tick, posting, told, left, changed, hours=self._hours.take(tick))
        return posting

    def _scene(self, tick: Tick) -> Scene:
        return Scene(
            node=tick.node,
            end_ms=tick.end_ms,
            readings=tick.readings,
            states=self.states,
            models={uuid: gpu.model for uuid, gpu in self.gpus.items()},
            workloads={
                uuid: frozenset(holder.workload for holder, _ in seats) for uuid, seats in self.seats.items()
            },
            jobs=jobs_of(
                {uuid: [(one.kind, one.name) for one, _ in seats] for uuid, seats in self.seats.items()}
            ),
            xids={key: count.count for key, count in self.xids.counts.items()},
        )

    def _with_holder(self, one: Finding) -> Finding:
        """Note who holds the GPU of a finding."""
        names = dict.fromkeys(
            f"{said(holder.kind, holder.name)} of {holder.owner}"
            for holder, _ in self.seats.get(one.uuid, ())
        )
        return replace(one, held_by=", ".join(names)) if names else one

    def _lifted(self, tick: Tick) -> Tick:
        """Let counters go on where the driver began them anew, and keep what is known of parts."""
        own, lifted = str(tick.since_ms), []
        for reading in tick.readings:
            gpu = self.gpus.get(reading.uuid)
            epochs: dict[Origin, str] = {
                "driver": f"{self._boot_id} {gpu.driver if gpu else ''}",
                "device": "",
                "probe": own,
            }
            lifted.append(self.lifelong.lift(reading, epochs))
            if lifted[-1].parts is not None:
                self.parts[reading.uuid] = lifted[-1].parts
        return replace(tick, readings=tuple(lifted)) if lifted else tick

    def _entered_already(self, tick: Tick) -> tuple[Event, ...]:
        """Tell, once, that ticks begin to come for time that is accounted for."""
        behind_ms = self._ends.get(tick.node, 0) - tick.start_ms
        if behind_ms <= 0:
            self._behind.discard(tick.node)
            return ()
        if tick.node in self._behind:
            return ()
        self._behind.add(tick.node)
        text = (
            f"{behind_ms / 1000:.3f} s are accounted for already and are not counted again: "
            "the clock was set back, or the driver answered late"
        )
        return (Event(at_ms=tick.end_ms, node=tick.node, kind="time_already_entered", text=text),)

    def _with_missing(self, tick: Tick) -> Tick:
        """Add readings of the GPUs of this node that the driver no longer enumerates."""
        if tick.gpus is None:
            return tick
        seen = {gpu.uuid for gpu in tick.gpus} | {reading.uuid for reading in tick.readings}
        missing = []
        for uuid, line in self.tally.timelines.items():
            if uuid in seen:
                line.seen_ms = tick.end_ms
            elif line.node == tick.node:
                missing.append(reading_of(uuid, tick.start_ms, tick.end_ms, {}, condition=Condition.MISSING))
        return replace(tick, readings=(*tick.readings, *missing)) if missing else tick

    def _leave(self, tick: Tick) -> tuple[Timeline, ...]:
        """Let go of the GPUs that have been missing for too long."""
        if tick.gpus is None:
            return ()
        lines, listed = self.tally.timelines, {gpu.uuid for gpu in tick.gpus}
        here = [line for line in lines.values() if line.node == tick.node and line.uuid not in listed]
        left = tuple(line for line in here if tick.end_ms - line.seen_ms > self._missing_ms)
        if left:
            self._enrolled = {}
        for line in left:
            del lines[line.uuid]
            self.gpus.pop(line.uuid, None)
            self.parts.pop(line.uuid, None)
        return left

    def _record(
        self,
        tick: Tick,
        posting: Posting,
        events: Sequence[Event] = (),
        left: tuple[Timeline, ...] = (),
        findings: tuple[Finding, ...] = (),
        *,
        hours: tuple[GpuHour, ...] = (),
    ) -> None:
        grown = self.accounts.add(posting.entries, tick.end_ms)
        grown.update(self._opened)
        self._opened.clear()
        self.events = {**{(one.uuid, one.kind): 0 for one in events}, **self._happened}
        self._happened.update((one.uuid, one.kind) for one in events)
        hourly = Hourly(hours, self.xids.take_hours())
        self.journal.record(Record(tick, posting, frozenset(grown), tuple(events), left, findings, hourly))
        if self.journal.pending > PENDING_WHOLE:
            self.readings_dropped += self.journal.thin(PENDING_WHOLE)

    def commit(self, now_ms: int) -> Event | None:
        """Write all that is new. Gives an event when a broken journal had to be moved aside.

        Raises JournalError when nothing can be written; all of it stays queued for the next commit.
        """
        return self._mending(now_ms, self._write)

    def prune(self, now_ms: int) -> Event | None:
        """Keep the journal within its bounds; events and errors are those of `commit`."""
        return self._mending(now_ms, partial(self.journal.prune, now_ms))

    def _write(self) -> None:
        xids, tenures = self.xids.changed(), self.tenures.changed() if self.tenures else ()
        counted = Counted(self.lifelong.changed(), xids, tenures=tenures)
        self.journal.commit(self.accounts, self.tally.timelines.values(), counted)
        if self.tenures:
            self.tenures.saved()
        self.lifelong.saved()
        self.xids.saved(xids)

    def _mending(self, now_ms: int, work: Callable[[], object]) -> Event | None:
        try:
            work()
        except JournalBroken as error:
            lines = self.tally.timelines
            seats = [(self.gpus[uuid], line) for uuid, line in lines.items() if uuid in self.gpus]
            held = self.tenures.open if self.tenures else ()
            counted = Counted(self.lifelong.all(), self.xids.rows(), self.findings.open, held)
            aside = self.journal.begin_anew(now_ms, self.accounts, seats, counted)
            self._write()
            return broken_event(next(iter(self._ends), ""), now_ms, f"{error}; moved to {aside}")
        return None


def broken_event(node: str, now_ms: int, text: str) -> Event:
    """Make the event of a journal that was moved aside."""
    return Event(at_ms=now_ms, node=node, kind="journal_broken", text=text)


def _left_event(tick: Tick, line: Timeline) -> Event:
    days = (tick.end_ms - line.seen_ms) / DAY_MS
    text = f"missing for {days:.1f} days: it has left the inventory of this node"
    return Event(at_ms=tick.end_ms, node=tick.node, kind="gpu_left", text=text, uuid=line.uuid)


def _extend(posting: Posting, more: Posting) -> None:
    posting.entries.extend(more.entries)
    posting.spells.extend(more.spells)
