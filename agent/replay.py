"""Turns recorded history into a journal as if it had been seen live, in virtual time.

A row at time t describes the interval that ends at t and began at the previous row of that GPU, but at most
2.5 times the recording's median step; the rest is unknown. The first row of a GPU covers one median step. The
span runs from one step before the first row to the last row, and all GPUs are inventory for the whole span.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from agent.books import Books
from agent.errors import ReplayError
from agent.recording import Bad, Recording, Row
from agent.tally import DAY_MS
from agent.tick import Gpu, Hold, Holder, Reading, Tick, Workload, reading_of

LONGEST_STEPS = 2.5
BAD_SHARE = 0.01
BAD_SHOWN = 5
YEAR_MS = 365 * DAY_MS
LONGEST_MS = 5 * YEAR_MS
COMMIT_READINGS = 20_000
ROWS_KEPT = 250_000
"""A recording of no more rows is read once and kept; a longer one is read twice."""


@dataclass(slots=True, kw_only=True)
class Survey:
    """What a first pass over a recording found."""

    rows: int = 0
    first_ms: int = 0
    last_ms: int = 0
    step_ms: int = 0
    in_order: bool = True
    gpus: dict[str, Gpu] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)
    bad_lines: int = 0
    tells_holders: bool = False
    kept: list[Row] | None = field(default_factory=list)

    @property
    def span_ms(self) -> tuple[int, int]:
        """The span of the recording: [one step before the first row, last row)."""
        return self.first_ms - self.step_ms, self.last_ms


def survey(recording: Recording, node: str, step_seconds: float | None = None) -> Survey:
    """Read a recording once without writing anything.

    Raises ReplayError when it holds no rows, when more than 1 % of its lines are bad, when its times cannot
    be meant, or when its step cannot be told.
    """
    found = Survey()
    steps: Counter[int] = Counter()
    latest: dict[str, int] = {}
    before_ms = 0
    for row in recording:
        if isinstance(row, Bad):
            found.bad_lines += 1
            found.bad += [row] if len(found.bad) < BAD_SHOWN else []
            continue
        found.rows += 1
        found.in_order = found.in_order and row.at_ms >= before_ms
        before_ms = row.at_ms
        if found.kept is not None:
            found.kept.append(row)
            if found.rows >= ROWS_KEPT:
                found.kept = None
        _note(found, steps, latest, row, node)
    _check_lines(recording, found)
    if not found.in_order:
        found.kept = sorted(_rows(recording, found), key=lambda row: row.at_ms)
        steps.clear()
        latest.clear()
        for row in found.kept:
            _note(found, steps, latest, row, node)
    found.step_ms = round(step_seconds * 1000) if step_seconds else _median(steps)
    if found.step_ms <= 0:
        raise ReplayError(f"{recording.path}: no GPU has two rows to tell the step: give --step SECONDS")
    return found


def _note(found: Survey, steps: Counter[int], latest: dict[str, int], row: Row, node: str) -> None:
    at_ms, gpu = row.at_ms, row.gpu
    found.tells_holders = found.tells_holders or bool(row.owner or row.holder)
    found.first_ms = min(found.first_ms or at_ms, at_ms)
    found.last_ms = max(found.last_ms, at_ms)
    last_ms = latest.get(gpu)
    latest[gpu] = at_ms
    if last_ms is None:
        index = found.gpus[gpu].index if gpu in found.gpus else len(found.gpus)
        found.gpus[gpu] = Gpu(uuid=gpu, index=index, model=row.model)
        found.nodes[gpu] = row.node or node
    elif at_ms > last_ms:
        steps[at_ms - last_ms] += 1


def _rows(recording: Recording, found: Survey) -> Iterable[Row]:
    return found.kept or (row for row in recording if isinstance(row, Row))


def _check_lines(recording: Recording, found: Survey) -> None:
    lines = found.rows + found.bad_lines
    if lines and found.bad_lines > BAD_SHARE * lines:
        first = found.bad[0]
        raise ReplayError(
            f"{recording.path}: {found.bad_lines} of {lines} lines cannot be understood, more than 1 %; "
            f"the first is line {first.line}: {first.reason}"
        )
    if not found.rows:
        raise ReplayError(f"{recording.path} holds no rows")
    if found.last_ms - found.first_ms > LONGEST_MS:
        years = (found.last_ms - found.first_ms) / YEAR_MS
        raise ReplayError(f"{recording.path} spans {years:.1f} years: one of its times is wrong")


def _median(steps: Counter[int]) -> int:
    middle, seen = (steps.total() + 1) // 2, 0
    for step in sorted(steps):
        seen += steps[step]
        if seen >= middle:
            return step
    return 0


def replay(
    recording: Recording,
    found: Survey,
    books: Books,
    *,
    node: str,
    workload: Workload,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Enter a surveyed recording into the books and commit them; `progress` gets the rows entered so far.

    Raises ReplayError when the journal already holds some of the time, JournalError when it fails.
    """
    start_ms, end_ms = found.span_ms
    for uuid in found.gpus:
        line = books.tally.timelines.get(uuid)
        if line is not None and line.until_ms > start_ms:
            raise ReplayError(
                f"the journal already accounts for time of GPU {uuid[:80]} that {recording.path} covers: "
                "replay into a new journal"
            )
    _open(found, books)
    entered = waiting = 0
    for tick, holds in _ticks(_rows(recording, found), found, node, workload):
        books.post(tick, holds, complete=False)
        entered += len(tick.readings)
        waiting += len(tick.readings)
        if waiting >= COMMIT_READINGS:
            books.commit(tick.end_ms)
            waiting = 0
            progress(entered)
    for name in dict.fromkeys(line.node for line in books.tally.timelines.values()):
        books.resume(name, end_ms, 0)
    books.commit(end_ms)
    progress(entered)


def _open(found: Survey, books: Books) -> None:
    """Take all GPUs into the inventory for the whole span."""
    for name in dict.fromkeys(found.nodes.values()):
        gpus = tuple(gpu for gpu in found.gpus.values() if found.nodes[gpu.uuid] == name)
        opening = Tick(node=name, start_ms=found.span_ms[0], end_ms=found.first_ms, gpus=gpus)
        books.post(opening, {}, complete=False)


def _ticks(
    rows: Iterable[Row], found: Survey, node: str, workload: Workload
) -> Iterator[tuple[Tick, dict[str, tuple[Hold, ...]]]]:
    """Group the rows of the same moment, give or take half a step, into one tick per node."""
    before: dict[str, int] = {}
    where = dict(found.nodes)
    batch: dict[str, dict[str, tuple[Row, Reading]]] = {}
    opened_ms = 0
    for row in rows:
        name = row.node or node
        here = batch.setdefault(name, {})
        if row.gpu in here or (row.at_ms - opened_ms) * 2 >= found.step_ms:
            yield from _flush(batch, found, where, workload)
            here = batch.setdefault(name, {})
            opened_ms = row.at_ms
        last_ms = before.get(row.gpu, row.at_ms - found.step_ms)
        if last_ms >= row.at_ms:
            continue
        before[row.gpu] = row.at_ms
        start_ms = max(last_ms, row.at_ms - round(LONGEST_STEPS * found.step_ms))
        here[row.gpu] = row, reading_of(row.gpu, start_ms, row.at_ms, row.values)
    yield from _flush(batch, found, where, workload)


def _flush(
    batch: dict[str, dict[str, tuple[Row, Reading]]],
    found: Survey,
    where: dict[str, str],
    workload: Workload,
) -> Iterator[tuple[Tick, dict[str, tuple[Hold, ...]]]]:
    for name, pairs in batch.items():
        if not pairs:
            continue
        moved = tuple(found.gpus[uuid] for uuid in pairs if where[uuid] != name)
        where.update((gpu.uuid, name) for gpu in moved)
        readings = tuple(reading for _, reading in pairs.values())
        tick = Tick(
            node=name,
            start_ms=min(reading.start_ms for reading in readings),
            end_ms=max(reading.end_ms for reading in readings),
            readings=readings,
            gpus=moved or None,
        )
        yield tick, {uuid: held for uuid, (row, _) in pairs.items() if (held := _holds(row, workload))}
    batch.clear()


def _holds(row: Row, workload: Workload) -> tuple[Hold, ...]:
    if not row.owner and not row.holder:
        return ()
    owner, name = row.owner or row.holder, row.holder or row.owner
    return (Hold(Holder(kind="recorded", name=name, owner=owner, workload=workload)),)
