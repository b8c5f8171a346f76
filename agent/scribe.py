"""Writes rows of the journal inside a transaction that someone else began.

What is remembered between transactions is forgotten by `forget` when one was rolled back, since rows that
gave it may be gone.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter

from agent.accounts import Account, Key
from agent.hourly import FIGURES, Hourly
from agent.lifelong import Row
from agent.numbers import Numbers
from agent.pieces import SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.schema import merging
from agent.spells import Spell
from agent.tally import HOUR_MS, Entry, Timeline
from agent.tenures import Tenure, figures_of, key_of
from agent.tick import Event, Finding, Gpu, Part, Reading, Tick
from agent.xids import XidRow

_TICK = """INSERT INTO tick (node_id, start_ms, end_ms, late_seconds, driver_calls, driver_seconds)
    VALUES (?, ?, ?, ?, ?, ?)"""
_IDENTITY = tuple(
    field.name for field in fields(Gpu) if field.name not in ("uuid", "index", "pci_bus")
)  # the other two are of its place
_FINDING = """INSERT INTO finding
    (node_id, gpu_id, rule, severity, opened_ms, summary, action, times, held_by)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_REOPEN = """UPDATE finding SET closed_ms = NULL, summary = ?, action = ?, times = ?, held_by = ?
    WHERE node_id = ? AND gpu_id IS ? AND rule = ? AND opened_ms = ?"""
_CLOSE = """UPDATE finding SET closed_ms = ?
    WHERE node_id = ? AND gpu_id IS ? AND rule = ? AND closed_ms IS NULL"""
_POSTING = "INSERT INTO posting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_HOUR = """INSERT INTO account_hour VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET elapsed_ms = elapsed_ms + excluded.elapsed_ms,
    busy_us = busy_us + excluded.busy_us, busy_seen_ms = busy_seen_ms + excluded.busy_seen_ms,
    energy_mj = energy_mj + excluded.energy_mj, energy_seen_ms = energy_seen_ms + excluded.energy_seen_ms"""
_GPU_HOUR = merging("gpu_hour", ("hour_ms", "gpu_id", "node_id"), FIGURES)
_XID_HOUR = merging("xid_hour", ("hour_ms", "node_id", "uuid", "number"), {"count": "sum"})
_quantities_of = attrgetter(*QUANTITIES)
_slice_quantities_of = attrgetter(*SLICE_QUANTITIES)

Hours = dict[tuple[int, int, int, str, int], list[int]]
"""Sums by (hour_ms, GPU, node, state, owner), in the order of Entry's amounts."""


class Scribe:
    """Turns values of the vocabulary into rows."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._numbers = Numbers(db)
        self._seated: dict[str, tuple[Gpu, str]] = {}
        self._told: dict[tuple[int, str, tuple[str, ...]], float] = {}
        self._parts_told: dict[str, tuple[Part, ...]] = {}
        self._labelled: dict[str, Mapping[str, str]] = {}

    def forget(self) -> None:
        """Forget all numbers; call it after a rollback."""
        self._numbers.forget()
        self._seated.clear()
        self._told.clear()
        self._parts_told.clear()
        self._labelled.clear()

    def tick(self, tick: Tick) -> int:
        """Write a tick with its readings; give its number."""
        number = self._db.execute(
            _TICK,
            (
                self._numbers.node(tick.node),
                tick.start_ms,
                tick.end_ms,
                tick.late_seconds,
                tick.driver_calls,
                tick.driver_seconds,
            ),
        ).lastrowid
        if number is None:
            raise sqlite3.InternalError("the tick got no number")
        self._readings(number, tick.readings)
        for reading in tick.readings:
            if reading.slices:
                self._slices(number, reading)
            if reading.parts:
                self._parts(reading)
        return number

    def _slices(self, tick_id: int, reading: Reading) -> None:
        names = ("tick_id", "gpu_id", "uuid", "profile", "weight_ratio", *SLICE_QUANTITIES)
        gpu_id = self._numbers.gpu(reading.uuid)
        self._db.executemany(
            f"INSERT OR REPLACE INTO slice_reading ({', '.join(names)}) VALUES (?{', ?' * (len(names) - 1)})",
            (
                (tick_id, gpu_id, one.uuid, one.profile, one.weight_ratio, *_slice_quantities_of(one))
                for one in reading.slices or ()
            ),
        )

    def _parts(self, reading: Reading) -> None:
        """Write the parts whose value is another than the one written last."""
        if self._parts_told.get(reading.uuid) == reading.parts:
            return
        self._parts_told[reading.uuid] = reading.parts or ()
        gpu_id = self._numbers.gpu(reading.uuid)
        rows = []
        for part in reading.parts or ():
            key = gpu_id, part.quantity, part.labels
            if self._told.get(key) != part.value:
                self._told[key] = part.value
                rows.append((gpu_id, part.quantity, json.dumps(part.labels), reading.end_ms, part.value))
        self._db.executemany("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?)", rows)

    def counters(self, rows: Iterable[Row]) -> None:
        """Write what counters go on with."""
        self._db.executemany(
            "INSERT OR REPLACE INTO counter VALUES (?, ?, ?, ?, ?)",
            ((self._numbers.gpu(row.uuid), row.name, *row.chain) for row in rows),
        )

    def xids(self, rows: Iterable[XidRow]) -> None:
        """Write how often XIDs came."""
        self._db.executemany(
            "INSERT OR REPLACE INTO xid VALUES (?, ?, ?, ?, ?, ?)",
            ((row.uuid, row.number, row.boot_id, row.count, row.first_ms, row.last_ms) for row in rows),
        )

    def _readings(self, tick_id: int, readings: Sequence[Reading]) -> None:
        """Write readings; columns in which all of them are silent are left out, which is much faster."""
        columns = zip(*(_quantities_of(reading) for reading in readings), strict=True)
        told = [
            (name, one) for name, one in zip(QUANTITIES, columns, strict=False) if one.count(None) < len(one)
        ]
        names = ["tick_id", "gpu_id", "start_ms", "end_ms", "condition", *(name for name, _ in told)]
        identity = (
            [tick_id] * len(readings),
            [self._numbers.gpu(reading.uuid) for reading in readings],
            [reading.start_ms for reading in readings],
            [reading.end_ms for reading in readings],
            [reading.condition.value for reading in readings],
        )
        self._db.executemany(
            f"INSERT INTO reading ({', '.join(names)}) VALUES (?{', ?' * (len(names) - 1)})",
            zip(*identity, *(column for _, column in told), strict=True),
        )

    def entries(self, tick_id: int, entries: Iterable[Entry], hours: Hours) -> None:
        """Write the ledger lines of a tick, and add them up in `hours`."""
        rows = []
        for entry in entries:
            gpu_id, node_id = self._numbers.gpu(entry.uuid), self._numbers.node(entry.node)
            holder_id = self._numbers.holder(entry.holder) if entry.holder else None
            owner_id = self._numbers.owner(entry.holder.owner) if entry.holder else 0
            state = entry.state.value
            amounts = entry[5:10]
            rows.append((tick_id, gpu_id, state, holder_id, entry.start_ms, *amounts, entry.slice))
            key = (entry.start_ms // HOUR_MS * HOUR_MS, gpu_id, node_id, state, owner_id)
            total = hours.get(key)
            if total is None:
                hours[key] = list(amounts)
            else:
                for place, amount in enumerate(amounts):
                    total[place] += amount
        self._db.executemany(_POSTING, rows)

    def hours(self, hours: Hours) -> None:
        """Add sums to the hourly accounts."""
        self._db.executemany(_HOUR, ((*key, *amounts) for key, amounts in hours.items()))

    def hourly(self, hourly: Hourly, node: str) -> None:
        """Merge what an interval of a node adds into its hours."""
        node_id, number_of = self._numbers.node(node), self._numbers.gpu
        if hourly.gpus:
            self._db.executemany(
                _GPU_HOUR,
                ((hour_ms, number_of(uuid), node_id, *figures) for hour_ms, uuid, figures in hourly.gpus),
            )
        if hourly.xids:
            self._db.executemany(
                _XID_HOUR,
                (
                    (hour_ms, node_id, uuid, number, count)
                    for (hour_ms, uuid, number), count in hourly.xids.items()
                ),
            )

    def label(self, node: str, labels: Mapping[str, str]) -> None:
        """Write the labels of a node in place of those before."""
        if self._labelled.get(node) != labels:
            told = json.dumps(dict(labels), sort_keys=True)
            self._db.execute("UPDATE node SET labels = ? WHERE id = ?", (told, self._numbers.node(node)))
            self._labelled[node] = labels

    def accounts(self, accounts: Mapping[Key, Account], keys: Iterable[Key]) -> None:
        """Write lifetime accounts as they stand."""
        rows = []
        for key in keys:
            account = accounts[key]
            rows.append(
                (
                    self._numbers.gpu(key.uuid),
                    self._numbers.node(key.node),
                    key.state.value,
                    self._numbers.owner(key.owner),
                    account.elapsed_ms,
                    account.busy_us,
                    account.busy_seen_ms,
                    account.energy_mj,
                    account.energy_seen_ms,
                    account.born_ms,
                    account.grown_ms,
                )
            )
        self._db.executemany(f"INSERT OR REPLACE INTO account VALUES (?{', ?' * 10})", rows)

    def spells(self, spells: Iterable[Spell], kept_ms: int) -> None:
        """Write spells as they stand; an ended one that is shorter than `kept_ms` is not kept."""
        numbers = self._numbers
        latest = {(spell.uuid, spell.holder, spell.slice, spell.start_ms): spell for spell in spells}
        kept = [spell for spell in latest.values() if not spell.ended or spell.seen_ms >= kept_ms]
        gone = [spell for spell in latest.values() if spell.ended and spell.seen_ms < kept_ms]
        self._db.executemany(
            "INSERT OR REPLACE INTO spell VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    self._numbers.gpu(spell.uuid),
                    self._numbers.holder(spell.holder),
                    spell.slice,
                    spell.start_ms,
                    spell.end_ms,
                    spell.seen_ms,
                    spell.beyond_ms,
                    spell.unknown_ms,
                    int(spell.ended),
                )
                for spell in kept
            ),
        )
        self._db.executemany(
            "DELETE FROM spell WHERE gpu_id = ? AND holder_id = ? AND slice = ? AND start_ms = ?",
            (
                (numbers.gpu(spell.uuid), numbers.holder(spell.holder), spell.slice, spell.start_ms)
                for spell in gone
            ),
        )

    def timelines(self, timelines: Iterable[Timeline]) -> None:
        """Write up to when each GPU is accounted for."""
        self._db.executemany(
            "INSERT OR REPLACE INTO timeline VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    self._numbers.gpu(line.uuid),
                    self._numbers.node(line.node),
                    line.until_ms,
                    line.seen_ms,
                    line.energy_joules,
                    line.energy_at_ms,
                    line.boot_id,
                )
                for line in timelines
            ),
        )

    def tenures(self, tenures: Iterable[Tenure]) -> None:
        """Write tenures as they stand."""
        self._db.executemany(
            f"INSERT OR REPLACE INTO tenure VALUES (?{', ?' * 8})",
            (
                (
                    self._numbers.node(one.node),
                    *key_of(one.holder),
                    one.start_ms,
                    one.end_ms,
                    int(one.ended),
                    self._numbers.holder(one.holder),
                    figures_of(one),
                )
                for one in tenures
            ),
        )

    def events(self, events: Iterable[Event]) -> None:
        """Write events."""
        self._db.executemany(
            "INSERT INTO event (node_id, gpu_id, at_ms, kind, text) VALUES (?, ?, ?, ?, ?)",
            (
                (
                    self._numbers.node(event.node),
                    self._numbers.gpu(event.uuid) if event.uuid else None,
                    event.at_ms,
                    event.kind,
                    event.text,
                )
                for event in events
            ),
        )

    def findings(self, findings: Iterable[Finding]) -> None:
        """Write findings that opened, and when others closed."""
        for one in findings:
            whose = self._numbers.node(one.node), self._numbers.gpu(one.uuid) if one.uuid else None, one.rule
            what = one.severity, one.opened_ms, one.summary, one.action, one.times, one.held_by
            again = (*what[2:], *whose, one.opened_ms)  # it is the one before, once more
            # In a file that was begun anew there is none before it.
            if (one.times == 1 and one.closed_ms is None) or not self._db.execute(_REOPEN, again).rowcount:
                self._db.execute(_FINDING, (*whose, *what))
            if one.closed_ms is not None:
                self._db.execute(_CLOSE, (one.closed_ms, *whose))

    def seat(self, gpu: Gpu, node: str, at_ms: int) -> None:
        """Write a GPU's identity and where it sits; a change of place closes the row before."""
        if self._seated.get(gpu.uuid) == (gpu, node):
            return
        gpu_id, node_id = self._numbers.gpu(gpu.uuid), self._numbers.node(node)
        self._db.execute(
            f"UPDATE gpu SET {', '.join(f'{name} = ?' for name in _IDENTITY)} WHERE id = ?",
            (*(getattr(gpu, name) for name in _IDENTITY), gpu_id),
        )
        place = (node_id, gpu.index, gpu.pci_bus)
        now = self._db.execute(
            "SELECT node_id, position, pci_bus, from_ms FROM place WHERE gpu_id = ? AND to_ms IS NULL",
            (gpu_id,),
        ).fetchone()
        if now is None or now[:3] != place:
            at_ms = max(at_ms, now[3]) if now else at_ms  # the clock may have been set back
            self._db.execute("UPDATE place SET to_ms = ? WHERE gpu_id = ? AND to_ms IS NULL", (at_ms, gpu_id))
            self._db.execute(
                "INSERT OR REPLACE INTO place VALUES (?, ?, ?, ?, ?, NULL)", (gpu_id, *place, at_ms)
            )
        self._seated[gpu.uuid] = (gpu, node)

    def unseat(self, line: Timeline) -> None:
        """End a GPU's stay in the inventory where its time is accounted for up to."""
        gpu_id = self._numbers.gpu(line.uuid)
        self._db.execute(
            "UPDATE place SET to_ms = max(from_ms, ?) WHERE gpu_id = ? AND to_ms IS NULL",
            (line.until_ms, gpu_id),
        )
        self._db.execute("DELETE FROM timeline WHERE gpu_id = ?", (gpu_id,))
        self._seated.pop(line.uuid, None)
