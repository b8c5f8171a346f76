"""The past of a fleet that does not run our agent, as a journal: a report of it is made like any other.

Samples of another exporter go the way of recordings: in virtual time into the books, by the same states,
patience and rules for gaps (agent/replay.py). They are snapshots, so all of it is an estimate; `remarks_of`
gives the sentences that say so.
"""

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from agent.books import Books
from agent.errors import SettingsError
from agent.holders.contract import Claimant
from agent.holders.owners import Owners
from agent.replay import COMMIT_READINGS, LONGEST_STEPS
from agent.store import Store
from agent.tenures import Tenures
from agent.tick import Gpu, Hold, Reading, Slice, Tick, Workload, Xid, reading_of, slice_of
from agent.xids import XidBook
from gputally.batch import bulk_books
from gputally.foreign_past import Known, Moment, Past, Piece, by_node
from gputally.foreign_schemas import SCHEMAS
from gputally.settings import Settings

KEPT_DAYS = 0.1
"""Ticks are kept for so long behind the accounts, so that a large fleet takes little room."""
LEAST_OWNERS = 10_000
USUAL_STEP_MS = 30_000
"""Of a node that never told anything twice."""
_SLICES = {"A30": 4}
_MOST_SLICES = 7
_ENGINE, _ACTIVE = "graphics_active_ratio", "sm_active_ratio"
_BUSY = 0.05
_REMARKS = "remarks"


@contextmanager
def foreign_journal(
    store: Store,
    schema: str,
    from_ms: int,
    to_ms: int,
    settings: Settings,
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Path]:
    """Make a journal of what a store holds of [from_ms, to_ms); it is gone when the context ends.

    `progress` gets how many nodes are done, and how many there are. Time beyond what the store holds yet is
    unknown. Raises SettingsError for a schema that is not in SCHEMAS, StoreError where the store cannot be
    asked or has nothing of that schema, JournalError.
    """
    if schema not in SCHEMAS:
        raise SettingsError(f"--schema {schema!r} is not known: choose one of {', '.join(SCHEMAS)}")
    with tempfile.TemporaryDirectory(prefix="gputally-") as folder:
        path = Path(folder) / "journal.db"
        past = Past(store, SCHEMAS[schema], from_ms, to_ms)
        remarks = _write(path, past, (from_ms, to_ms), settings, progress)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_REMARKS, json.dumps(remarks)))
        yield path


def remarks_of(db: sqlite3.Connection) -> tuple[str, ...]:
    """Give what must be said of a journal that was made of another exporter's past; empty for our own."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (_REMARKS,)).fetchone()
    return tuple(json.loads(row[0])) if row else ()


def _write(
    path: Path,
    past: Past,
    window: tuple[int, int],
    settings: Settings,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Enter all nodes, one after the other; give what is to be remarked."""
    gpus = past.gpus()
    nodes = by_node(gpus)
    kept = replace(settings.journal, tick_age_days=KEPT_DAYS, accounts_age_days=36_500.0)
    lean = replace(settings, journal=kept)
    most = max(settings.holders.most_owners, LEAST_OWNERS)
    owners = Owners(settings.holders.map, Workload(settings.states.default_workload), most)
    steps: set[int] = set()
    engines = 0
    with bulk_books(path, lean) as books:
        for number, (node, here) in enumerate(nodes.items()):
            progress(number, len(nodes))
            step_ms = next((step for one in here if (step := past.step_ms(one.uuid))), USUAL_STEP_MS)
            steps.add(step_ms)
            books.tenures = Tenures(node, settings.states.spell_unknown_seconds)
            books.xids = XidBook("", node)
            history = _History(books, owners, here, step_ms, window)
            history.enter(past.moments(here, step_ms, window[1] + round(LONGEST_STEPS * step_ms)))
            engines += len(history.by_engine)
            books.journal.prune(window[1])
    progress(len(nodes), len(nodes))
    return list(_remarks(past, gpus, steps, engines))


class _History:
    """Enters what was told of the GPUs of one node."""

    def __init__(
        self, books: Books, owners: Owners, gpus: Iterable[Known], step_ms: int, window: tuple[int, int]
    ) -> None:
        self._books, self._owners, self._step_ms = books, owners, step_ms
        self._from_ms, self._to_ms = window
        self._gpus = {one.uuid: one for one in gpus}
        self._holders: dict[Claimant, Hold] = {}
        self._nodes: dict[str, str] = {}
        self._upto: dict[str, int] = {}
        self._xids: dict[str, int] = {}
        self.by_engine: set[str] = set()
        """GPUs of which a slice's activity was told by its engine alone."""

    def enter(self, moments: Iterable[Moment]) -> None:
        """Enter and commit all of it; then let go of the GPUs, which no other node has."""
        books, waiting = self._books, 0
        for (at_ms, node), several in groupby(moments, key=lambda one: (one.at_ms, one.node)):
            waiting += self._post(min(at_ms, self._to_ms), node, list(several))
            if waiting >= COMMIT_READINGS:
                books.journal.thin(1)  # accounts rest on the ledger; readings would fill the disk
                books.commit(at_ms)
                waiting = 0
        for node in dict.fromkeys(line.node for line in books.tally.timelines.values()):
            books.resume(node, self._to_ms, 0)
        books.journal.thin(2)
        books.commit(self._to_ms)
        books.tally.timelines.clear()
        books.gpus.clear()

    def _post(self, at_ms: int, node: str, several: list[Moment]) -> int:
        """Enter the moment of a node; give how many readings it made."""
        readings: list[Reading] = []
        holds: dict[str, tuple[Hold, ...]] = {}
        for one in several:
            self._seat(one.uuid, node, at_ms)
            start_ms = self._upto.get(one.uuid, max(self._from_ms, at_ms - self._step_ms))
            start_ms = max(start_ms, at_ms - round(LONGEST_STEPS * self._step_ms))
            if start_ms < at_ms:
                self._upto[one.uuid] = at_ms
                reading, holds[one.uuid] = self._reading(one, start_ms, at_ms)
                readings.append(reading)
            self._note_xid(one, at_ms)
        if readings:
            tick = Tick(
                node=node,
                start_ms=min(reading.start_ms for reading in readings),
                end_ms=at_ms,
                readings=tuple(readings),
            )
            self._books.post(tick, holds, complete=False)
        return len(readings)

    def _seat(self, uuid: str, node: str, at_ms: int) -> None:
        """Take a GPU into the inventory: for the whole window where it is told of first; then let it move."""
        before = self._nodes.get(uuid)
        if before == node:
            return
        self._nodes[uuid] = node
        known = self._gpus[uuid]
        since_ms = self._from_ms if before is None else self._upto.get(uuid, at_ms)
        gpu = Gpu(uuid=uuid, index=known.index, model=known.model)
        opening = Tick(node=node, start_ms=since_ms, end_ms=since_ms, gpus=(gpu,))
        self._books.post(opening, {}, complete=False)

    def _reading(self, one: Moment, start_ms: int, at_ms: int) -> tuple[Reading, tuple[Hold, ...]]:
        values: dict[str, float | None] = {**one.values}
        values["memory_total_bytes"] = self._gpus[one.uuid].memory_total_bytes
        if at_ms < one.at_ms:  # the window ends before: its energy counter is of later
            values.pop("energy_joules_total", None)
        values.pop(_ENGINE, None)
        if not one.pieces:
            if values.get(_ACTIVE) == 0 and (values.get("busy_ratio") or 0) >= _BUSY:
                del values[_ACTIVE]  # a kernel that is resident has a warp: this counter was not read
            holds = tuple(self._hold(claimant) for claimant in one.holders)
            return reading_of(one.uuid, start_ms, at_ms, values), holds
        # A partitioned GPU has no activity of its own, and its memory is that of its slices.
        for name in ("busy_ratio", _ACTIVE, "memory_used_bytes"):
            values.pop(name, None)
        used = [piece.values.get("memory_used_bytes") for piece in one.pieces.values()]
        if None not in used:
            values["memory_used_bytes"] = sum(told or 0.0 for told in used)
        slices = tuple(self._slice(one.uuid, number, piece) for number, piece in sorted(one.pieces.items()))
        holds = tuple(
            self._hold(claimant)._replace(slice=_name(one.uuid, number))
            for number, piece in sorted(one.pieces.items())
            for claimant in piece.holders
        )
        return reading_of(one.uuid, start_ms, at_ms, values, slices=slices), holds

    def _slice(self, uuid: str, number: str, piece: Piece) -> Slice:
        values: dict[str, float | None] = {**piece.values}
        if values.get(_ACTIVE) is None and _ENGINE in values:
            values[_ACTIVE] = values[_ENGINE]
            self.by_engine.add(uuid)
        weight = _weight(piece.profile, self._gpus[uuid].model)
        return slice_of(_name(uuid, number), piece.profile, weight, values)

    def _hold(self, claimant: Claimant) -> Hold:
        if claimant not in self._holders:
            self._holders[claimant] = Hold(self._owners.holder_of(claimant))
        return self._holders[claimant]

    def _note_xid(self, one: Moment, at_ms: int) -> None:
        """Count an XID where the number of the latest one changes; that at the start may be old."""
        if one.xid is None:
            return
        before = self._xids.get(one.uuid)
        self._xids[one.uuid] = one.xid
        if one.xid and before is not None and before != one.xid and at_ms == one.at_ms:
            self._books.xids.take([Xid(at_ms - 1, one.uuid, one.xid)], at_ms)


def _name(uuid: str, number: str) -> str:
    """Name a MIG instance, whose UUID the exporter does not tell."""
    return f"{uuid}/{number}"


def _weight(profile: str, model: str) -> float:
    """Give the share of the GPU's compute slices that a profile has, such as 3g.40gb; 0 for one unknown."""
    most = next((slices for name, slices in _SLICES.items() if name in model.split()), _MOST_SLICES)
    count, g, _ = profile.partition("g.")
    return min(1.0, int(count) / most) if g and count.isdecimal() and count.isascii() else 0.0


def _remarks(past: Past, gpus: list[Known], steps: set[int], engines: int) -> Iterator[str]:
    """Say how all of it was come by."""
    exporter = past.schema.exporter
    often = " to ".join(f"{step / 1000:.3g}" for step in sorted({min(steps), max(steps)}))
    yield (
        f"estimated from snapshots of {exporter} every {often} s: what came and went between two of them was "
        "not seen"
    )
    yield (
        f"what {exporter} told of ({len(gpus):,} GPUs) counts as there for the whole window, what it never "
        "told of as not there at all; time of which it told nothing is unknown, also where a GPU was down"
    )
    sliced = sum(one.sliced for one in gpus)
    if sliced:
        engine = (
            f"; for {engines:,} of them the engine's activity stands for that of the SMs" if engines else ""
        )
        yield (
            f"{sliced:,} GPUs were partitioned (MIG): their time is shared out by the compute slices that "
            f"the profiles of their instances name, the rest of them is free{engine}"
        )
    if past.homeless:
        number = len(past.homeless)
        yield f"{number:,} MIG instances are left out: {exporter} does not tell of which GPUs they are"
    if past.schema.unable:
        yield f"{exporter} does not tell {' and '.join(past.schema.unable)}"
    if past.refused:
        most = sorted(past.refused.items(), key=lambda pair: (-pair[1], pair[0]))
        said = ", ".join(f"{times:,} of {name}" for name, times in most)
        yield f"values that cannot be were left out: {said}"
