"""What a node shows of its latest interval: made once per tick, read by pages and by nobody else."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.accounts import Account, Key
from agent.tally import Entry, Seat
from agent.tick import Finding, Gpu, Part, Reading, State, Tick
from agent.xids import XidCount


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the agent knows of itself; counters since it started, except where the journal keeps them.

    `worlds` says by name what is wrong with each of those that know holders; empty when all is well.
    """

    ticks: int = 0
    blind_ticks: int = 0
    late_seconds: float = 0.0
    driver_calls: int = 0
    driver_seconds: float = 0.0
    tick_cpu_seconds: float = 0.0
    probe_restarts: int = 0
    refused: Mapping[tuple[str, str], int]
    journal_bytes: int = 0
    journal_ticks_dropped: int = 0
    journal_pending: int = 0
    journal_failures: int = 0
    readings_dropped: int = 0
    absent: str = ""
    stuck_probes: int = 0
    kernel_log_skipped: int = 0
    worlds: Mapping[str, str] = field(default_factory=dict)
    holders_dropped: int = 0
    owners_folded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far an exporter is: ticks that wait, what became of the others, and what is wrong, if anything."""

    name: str
    waiting_ticks: int = 0
    delivered_ticks: int = 0
    refused_rows: int = 0
    dropped_ticks: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The latest interval of a node, with all that its page needs; some of its findings may be silenced.

    `report_ms` is when the scheduled report was last made; None for never, or where none is scheduled.
    """

    tick: Tick
    interval_seconds: float
    gpus: Mapping[str, Gpu]
    readings: Mapping[str, Reading]
    states: Mapping[str, State]
    holders: Mapping[str, tuple[Seat, ...]]
    slice_states: Mapping[str, State] = field(default_factory=dict)
    accounts: Sequence[tuple[Key, Account]]
    parts: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    xids: Mapping[tuple[str, int], XidCount] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    events: Mapping[tuple[str, str], int] = field(default_factory=dict)
    exporters: Sequence[Standing] = ()
    expected_gpus: int = 0
    silenced: Collection[Finding] = ()
    report_ms: int | None = None
    health: Health


def bounded(holders: Mapping[str, tuple[Seat, ...]], most: int) -> tuple[Mapping[str, tuple[Seat, ...]], int]:
    """Leave out what is beyond a number of holders in all, of each GPU the last; give how many were."""
    if sum(map(len, holders.values())) <= most:
        return holders, 0
    each = max(1, most // len(holders))
    return {uuid: seats[:each] for uuid, seats in holders.items()}, sum(
        max(0, len(seats) - each) for seats in holders.values()
    )


_ORDER = {state: place for place, state in enumerate(State)}


def states_of(entries: Sequence[Entry]) -> tuple[dict[str, State], dict[str, tuple[Seat, ...]]]:
    """Give each GPU's latest state in some entries, and who held it then, the largest part first.

    Where its parts differ (slices, holders of different patience) the first in the order of states is told.
    """
    latest: dict[str, int] = {}
    for entry in entries:
        if entry.elapsed_ms:
            latest[entry.uuid] = max(entry.start_ms, latest.get(entry.uuid, 0))
    now = [
        entry
        for entry in entries
        if (entry.elapsed_ms or entry.holder) and entry.start_ms == latest.get(entry.uuid)
    ]
    states: dict[str, State] = {}
    holders: dict[str, tuple[Seat, ...]] = {}
    for entry in sorted(now, key=lambda entry: -entry.elapsed_ms):
        first = min(entry.state, states.get(entry.uuid, entry.state), key=_ORDER.__getitem__)
        states[entry.uuid] = first
        if entry.holder:
            seats = dict.fromkeys((*holders.get(entry.uuid, ()), (entry.holder, entry.slice)))
            holders[entry.uuid] = tuple(seats)
    return states, holders


def slice_states_of(stretches: Iterable[tuple[str, State, int, int]]) -> dict[str, State]:
    """Give each slice's latest state, of (slice, state, start, length); see states_of for which is told.

    What is about a whole GPU, as when it is down or drained, tells no slice's.
    """
    found: dict[str, tuple[int, State]] = {}
    for piece, state, start_ms, elapsed_ms in stretches:
        before = found.get(piece)
        if not piece or not elapsed_ms or (before and before[0] > start_ms):
            continue
        if before and before[0] == start_ms:
            state = min(state, before[1], key=_ORDER.__getitem__)  # noqa: PLW2901
        found[piece] = start_ms, state
    return {piece: state for piece, (_, state) in found.items()}
