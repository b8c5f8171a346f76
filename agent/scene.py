"""What rules judge: all that is known of a node after an interval, now or read back from the journal."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.quantities import QUANTITIES, Amount
from agent.schema import columns
from agent.tick import Condition, Finding, Reading, State, reading_of

_BATCH_TICKS = 100
_NO_BODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One interval of a node.

    States, models, workloads and jobs are by UUID; a GPU has a job where one holder with a name has it and no
    other. XIDs are counted by UUID and number, over all time. `figures` is
    what the agent knows of itself, see NODE_FIGURES; the journal does not keep that.
    """

    node: str
    end_ms: int
    readings: Sequence[Reading]
    states: Mapping[str, State]
    models: Mapping[str, str]
    workloads: Mapping[str, frozenset[str]]
    jobs: Mapping[str, str] = field(default_factory=dict)
    xids: Mapping[tuple[str, int], int]
    figures: Mapping[str, Amount] = field(default_factory=dict)


NODE_FIGURES: Mapping[str, str] = {
    "missing_gpus": "GPUs that do not answer, of those that [node] gpus says there are",
    "blind_seconds_total": "Time in which no GPU could be read",
    "late_seconds": "How late the latest interval was closed",
    "driver_seconds_total": "Time spent in calls of NVML",
    "stuck_probes": "Probes that hang in the driver and were left alone",
    "silent_worlds": "Schedulers and runtimes that do not answer, of those that are there",
    "journal_failures_total": "Commits to the journal that failed",
    "readings_dropped_total": "Readings dropped while the journal could not be written",
    "exporter_waiting_seconds": "How far the exporter that is furthest behind is behind",
    "exporter_lost_total": "Ticks dropped before a store had them, and rows that it refused for good",
}
"""What a rule about the node may be about. Names that end in _total are counters, since the agent started."""
Judge = Callable[[Scene], Iterable[Finding]]
"""Gives all findings that are open after an interval."""


def scenes(db: sqlite3.Connection, from_ms: int, until_ms: int, quantities: Iterable[str]) -> Iterator[Scene]:
    """Read the intervals that end in (from_ms, until_ms], with some quantities, oldest first.

    A quantity that is newer than the file is not known. Of an XID the journal keeps, for each boot, when it
    came first and last and how often: one counts as of the first time, all others as of the last. Raises
    sqlite3.Error.
    """
    names = tuple(name for name in quantities if name in QUANTITIES)
    gpus = {gpu_id: (uuid, model) for gpu_id, uuid, model in db.execute("SELECT id, uuid, model FROM gpu")}
    models = dict(gpus.values())
    holders = {row[0]: row[1:] for row in db.execute("SELECT id, workload, kind, name FROM holder")}
    xids = list(db.execute("SELECT uuid, number, count, first_ms, last_ms FROM xid"))
    last, ticks = 0, _ticks(db, 0, from_ms, until_ms)
    while ticks:
        span, last = (ticks[0][0], ticks[-1][0]), ticks[-1][0]
        readings, held = _readings(db, span, names, gpus), _held(db, span, gpus, holders)
        for tick_id, node, end_ms in ticks:
            states, classes, names_of = held[tick_id]
            yield Scene(
                node=node,
                end_ms=end_ms,
                readings=readings[tick_id],
                states=states,
                models=models,
                workloads=classes,
                jobs=jobs_of(names_of),
                xids=_xids_at(end_ms, xids),
            )
        ticks = _ticks(db, last, from_ms, until_ms)


def _xids_at(at_ms: int, rows: Iterable[tuple[str, int, int, int, int]]) -> Counter[tuple[str, int]]:
    found: Counter[tuple[str, int]] = Counter()
    for uuid, number, count, first_ms, last_ms in rows:
        if first_ms <= at_ms:
            found[uuid, number] += count if last_ms <= at_ms else 1
    return found


def _ticks(db: sqlite3.Connection, after: int, from_ms: int, until_ms: int) -> list[tuple[int, str, int]]:
    return db.execute(
        """SELECT tick.id, name, end_ms FROM tick JOIN node ON node.id = node_id
           WHERE tick.id > ? AND end_ms > ? AND end_ms <= ? ORDER BY tick.id LIMIT ?""",
        (after, from_ms, until_ms, _BATCH_TICKS),
    ).fetchall()


def _readings(
    db: sqlite3.Connection,
    span: tuple[int, int],
    names: Sequence[str],
    gpus: Mapping[int, tuple[str, str]],
) -> defaultdict[int, list[Reading]]:
    found: defaultdict[int, list[Reading]] = defaultdict(list)
    own = columns(db, "reading", ("tick_id", "gpu_id", "condition", "start_ms", "end_ms", *names))
    query = f"SELECT {own} FROM reading WHERE tick_id BETWEEN ? AND ?"  # noqa: S608  names of ours
    for tick_id, gpu_id, condition, start_ms, end_ms, *values in db.execute(query, span):
        known = dict(zip(names, values, strict=True))
        uuid = gpus[gpu_id][0]
        found[tick_id].append(reading_of(uuid, start_ms, end_ms, known, condition=Condition(condition)))
    return found


def jobs_of(holders: Mapping[str, Collection[tuple[str, str]]]) -> dict[str, str]:
    """Tell which job each GPU has, of all holders of each by kind and name."""
    found: dict[str, str] = {}
    for uuid, several in holders.items():
        named = {f"{kind} {name}" for kind, name in several if name}
        if len(named) == 1:
            found[uuid] = named.pop()
    return found


_Held = tuple[dict[str, State], dict[str, frozenset[str]], dict[str, set[tuple[str, str]]]]


def _held(
    db: sqlite3.Connection,
    span: tuple[int, int],
    gpus: Mapping[int, tuple[str, str]],
    holders: Mapping[int, tuple[str, str, str]],
) -> defaultdict[int, _Held]:
    """Tell states, classes of work and holders of each tick by the latest stretch; see view.states_of."""
    found: defaultdict[int, _Held] = defaultdict(lambda: ({}, {}, {}))
    latest: dict[tuple[int, str], int] = {}
    query = """SELECT tick_id, gpu_id, state, start_ms, elapsed_ms, holder_id FROM posting
               WHERE tick_id BETWEEN ? AND ? AND (elapsed_ms > 0 OR holder_id IS NOT NULL)"""
    rows = [(tick_id, gpus[gpu_id][0], *rest) for tick_id, gpu_id, *rest in db.execute(query, span)]
    for tick_id, uuid, _, start_ms, elapsed_ms, _ in rows:
        if elapsed_ms:
            latest[tick_id, uuid] = max(start_ms, latest.get((tick_id, uuid), 0))
    for tick_id, uuid, text, start_ms, _, holder_id in rows:
        if latest.get((tick_id, uuid)) == start_ms:
            states, classes, names = found[tick_id]
            state = State(text)
            states[uuid] = min(state, states.get(uuid, state), key=_ORDER.__getitem__)
            if holder_id is not None:
                workload, *name = holders[holder_id]
                classes[uuid] = classes.get(uuid, _NO_BODY) | {workload}
                names.setdefault(uuid, set()).add((name[0], name[1]))
    return found


_ORDER = {state: place for place, state in enumerate(State)}
