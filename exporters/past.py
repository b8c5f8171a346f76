"""What the journal holds of some ticks, as typed rows; nothing is decided here. All raise sqlite3.Error."""

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import NamedTuple

from agent.pieces import SLICE_QUANTITIES
from agent.quantities import QUANTITIES, Amount
from agent.restore import FOREVER_MS, HOLDER
from agent.schema import columns
from agent.tick import Gpu

_GPU = tuple(field.name for field in fields(Gpu) if field.name not in ("uuid", "index", "pci_bus"))
_OWNER = HOLDER.index("owner")
_TICKS = """
    SELECT tick.id, name, start_ms, end_ms, late_seconds FROM tick
    JOIN node ON node.id = node_id WHERE tick.id > ? AND tick.id <= ? ORDER BY tick.id LIMIT ?"""
_SEATS = f"""
    SELECT gpu.id, node.name, position, uuid, from_ms, coalesce(to_ms, {FOREVER_MS}), pci_bus,
        {", ".join(_GPU)}
    FROM place JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id ORDER BY from_ms"""
_READINGS = "SELECT tick_id, gpu_id, condition, {} FROM reading WHERE tick_id > ? AND tick_id <= ?"
_SLICES = """
    SELECT tick_id, gpu_id, uuid, profile, weight_ratio, {} FROM slice_reading
    WHERE tick_id > ? AND tick_id <= ?"""
_POSTINGS = f"""
    SELECT tick_id, gpu_id, state, start_ms, elapsed_ms, energy_mj, busy_us, slice,
        {", ".join(f"holder.{name}" for name in HOLDER)}
    FROM posting LEFT JOIN holder ON holder.id = holder_id WHERE tick_id > ? AND tick_id <= ?"""
_ACCOUNTS = """
    SELECT gpu_id, node.name, state, owner.name, elapsed_ms, energy_mj, busy_us FROM account
    JOIN node ON node.id = node_id JOIN owner ON owner.id = owner_id"""
_SINCE = """
    SELECT gpu_id, node_id, state, holder_id, sum(elapsed_ms), sum(energy_mj), sum(busy_us)
    FROM posting JOIN tick ON tick.id = tick_id WHERE tick_id > ? GROUP BY 1, 2, 3, 4"""
_FINDINGS = f"""
    SELECT gpu_id, rule, severity, opened_ms, coalesce(closed_ms, {FOREVER_MS}) FROM finding
    WHERE gpu_id IS NOT NULL AND opened_ms <= ? AND coalesce(closed_ms, {FOREVER_MS}) > ?"""
_XIDS = """
    SELECT gpu.id, number, sum(count), min(first_ms), max(last_ms) FROM xid JOIN gpu ON gpu.uuid = xid.uuid
    GROUP BY 1, 2"""
_PARTS = """
    SELECT gpu_id, quantity, labels, value FROM part WHERE at_ms > ? AND at_ms <= ? ORDER BY at_ms"""


class TickRow(NamedTuple):
    """A tick, without what was read in it."""

    id: int
    node: str
    start_ms: int
    end_ms: int
    late_seconds: float


class Seat(NamedTuple):
    """Where a GPU sat, in (from_ms, to_ms], and what was known of it."""

    node: str
    position: int
    uuid: str
    from_ms: int
    to_ms: int
    identity: Mapping[str, str]


class ReadRow(NamedTuple):
    """A reading; values follow QUANTITIES."""

    gpu_id: int
    condition: str
    values: Sequence[Amount]


class SliceRow(NamedTuple):
    """A slice of a reading's GPU; values follow SLICE_QUANTITIES."""

    gpu_id: int
    uuid: str
    profile: str
    weight_ratio: float
    values: Sequence[Amount]


class PostingRow(NamedTuple):
    """A line of the ledger; `holder` follows the columns of a holder, None where nobody held the GPU."""

    gpu_id: int
    state: str
    start_ms: int
    elapsed_ms: int
    energy_mj: int
    busy_us: int
    slice: str
    holder: Sequence[str] | None

    @property
    def owner(self) -> str:
        """Who answers for it; empty where nobody held the GPU."""
        return self.holder[_OWNER] if self.holder else ""


class Sum(NamedTuple):
    """What an account holds, or what was added to it."""

    gpu_id: int
    node: str
    state: str
    owner: str
    elapsed_ms: int
    energy_mj: int
    busy_us: int


class FindingRow(NamedTuple):
    """A finding on a GPU, open in [opened_ms, closed_ms)."""

    gpu_id: int
    rule: str
    severity: str
    opened_ms: int
    closed_ms: int


class XidSum(NamedTuple):
    """How often an XID came to a GPU over all boots: first at `first_ms`, and no more since `last_ms`."""

    gpu_id: int
    number: int
    times: int
    first_ms: int
    last_ms: int


class PartRow(NamedTuple):
    """A part of a GPU whose value changed; labels are JSON."""

    gpu_id: int
    quantity: str
    labels: str
    value: float


Span = tuple[int, int]
"""Ticks by number: after the first, up to the second."""


def ticks(db: sqlite3.Connection, span: Span, most: int) -> list[TickRow]:
    """Read ticks in the order of their numbers."""
    return [TickRow(*row) for row in db.execute(_TICKS, (*span, most))]


def seats(db: sqlite3.Connection) -> defaultdict[int, list[Seat]]:
    """Read where each GPU sat, oldest first."""
    found = defaultdict(list)
    for gpu_id, node, index, uuid, from_ms, to_ms, pci_bus, *identity in db.execute(_SEATS):
        known = {**dict(zip(_GPU, identity, strict=True)), "pci_bus": pci_bus}
        found[gpu_id].append(Seat(node, index, uuid, from_ms, to_ms, known))
    return found


def readings(db: sqlite3.Connection, span: Span) -> defaultdict[int, list[ReadRow]]:
    """Read the readings of some ticks."""
    found = defaultdict(list)
    asked = _READINGS.format(columns(db, "reading", QUANTITIES))
    for tick_id, gpu_id, condition, *values in db.execute(asked, span):
        found[tick_id].append(ReadRow(gpu_id, condition, values))
    return found


def slices(db: sqlite3.Connection, span: Span) -> defaultdict[int, list[SliceRow]]:
    """Read the slices of some ticks."""
    found = defaultdict(list)
    asked = _SLICES.format(columns(db, "slice_reading", SLICE_QUANTITIES))
    for tick_id, gpu_id, uuid, profile, weight_ratio, *values in db.execute(asked, span):
        found[tick_id].append(SliceRow(gpu_id, uuid, profile, weight_ratio, values))
    return found


def postings(db: sqlite3.Connection, span: Span) -> defaultdict[int, list[PostingRow]]:
    """Read the ledger of some ticks."""
    found = defaultdict(list)
    for tick_id, gpu_id, *amounts_and_holder in db.execute(_POSTINGS, span):
        state, start_ms, elapsed_ms, energy_mj, busy_us, piece, *holder = amounts_and_holder
        who = None if holder[0] is None else holder
        found[tick_id].append(PostingRow(gpu_id, state, start_ms, elapsed_ms, energy_mj, busy_us, piece, who))
    return found


def accounts(db: sqlite3.Connection) -> list[Sum]:
    """Read all lifetime accounts as they stand."""
    return [Sum(*row) for row in db.execute(_ACCOUNTS)]


def added_since(db: sqlite3.Connection, after: int) -> list[Sum]:
    """Read what ticks after a number added to the accounts."""
    nodes = dict(db.execute("SELECT id, name FROM node"))
    owners = {None: "", **dict(db.execute("SELECT id, owner FROM holder"))}
    return [
        Sum(gpu_id, nodes[node_id], state, owners[holder_id], *amounts)
        for gpu_id, node_id, state, holder_id, *amounts in db.execute(_SINCE, (after,))
    ]


def parts(db: sqlite3.Connection, after_ms: int, until_ms: int) -> list[PartRow]:
    """Read the parts that changed in (after_ms, until_ms], oldest change first."""
    return [PartRow(*row) for row in db.execute(_PARTS, (after_ms, until_ms))]


def findings(db: sqlite3.Connection, from_ms: int, until_ms: int) -> list[FindingRow]:
    """Read the findings on GPUs that were open at some time of [from_ms, until_ms]."""
    return [FindingRow(*row) for row in db.execute(_FINDINGS, (until_ms, from_ms))]


def xids(db: sqlite3.Connection) -> list[XidSum]:
    """Read how often each XID came; what was before the last of each is not kept."""
    return [XidSum(*row) for row in db.execute(_XIDS)]
