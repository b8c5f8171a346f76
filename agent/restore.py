"""Reads back what a restarted agent must remember: inventory, timelines, accounts, open spells."""

import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from agent.accounts import Account, Accounts, Key
from agent.findings import FLAP_MS
from agent.lifelong import Chain, Row
from agent.spells import Spell
from agent.tally import Timeline
from agent.tenures import Tenure, with_figures
from agent.tick import Finding, Gpu, Holder, State, Workload
from agent.xids import XidRow

_GPU = tuple(field.name for field in fields(Gpu))


class Memory(NamedTuple):
    """The state of the books as last committed."""

    gpus: dict[str, Gpu]
    timelines: dict[str, Timeline]
    accounts: Accounts
    counters: list[Row]
    xids: list[XidRow]
    findings: list[Finding]
    tenures: list[Tenure]


HOLDER = tuple(field.name for field in fields(Holder))
"""The columns of a holder in the journal, in their order."""


def holder_of(row: Sequence[str]) -> Holder:
    """Make a holder of its columns in the journal."""
    values: dict[str, Any] = dict(zip(HOLDER, row, strict=True))
    return Holder(**{**values, "workload": Workload(values["workload"])})


def restore(db: sqlite3.Connection) -> Memory:
    """Read the memory of a journal; an empty journal gives an empty memory."""
    timelines = _timelines(db)
    for uuid, spell in _open_spells(db):
        if uuid in timelines:
            timelines[uuid].spells[spell.holder, spell.slice] = spell
    tenures = tenures_of(db, "ended = 0")
    return Memory(_gpus(db), timelines, _accounts(db), _counters(db), _xids(db), _late_findings(db), tenures)


def tenures_of(db: sqlite3.Connection, condition: str, *values: str | int) -> list[Tenure]:
    """Read the tenures that meet a condition of our own, oldest first."""
    columns = ", ".join(f"holder.{name}" for name in HOLDER)
    rows = db.execute(
        f"""SELECT node.name, tenure.start_ms, end_ms, ended, figures, {columns} FROM tenure
            JOIN node ON node.id = node_id JOIN holder ON holder.id = holder_id
            WHERE {condition} ORDER BY start_ms, holder.name""",
        values,
    )
    return [
        with_figures(Tenure(holder_of(holder), node, int(start_ms), int(end_ms), bool(ended)), figures)
        for node, start_ms, end_ms, ended, figures, *holder in rows
    ]


def _gpus(db: sqlite3.Connection) -> dict[str, Gpu]:
    columns = ", ".join("position" if name == "index" else name for name in _GPU)
    rows = db.execute(
        f"""SELECT {columns}
            FROM gpu JOIN place ON place.gpu_id = gpu.id AND to_ms IS NULL ORDER BY position, uuid"""
    )
    return {row[0]: Gpu(**dict(zip(_GPU, row, strict=True))) for row in rows}


def _counters(db: sqlite3.Connection) -> list[Row]:
    rows = db.execute("SELECT uuid, name, base, raw, epoch FROM counter JOIN gpu ON gpu.id = gpu_id")
    return [Row(uuid, name, Chain(float(base), float(raw), epoch)) for uuid, name, base, raw, epoch in rows]


def _xids(db: sqlite3.Connection) -> list[XidRow]:
    rows = db.execute("SELECT uuid, number, boot_id, count, first_ms, last_ms FROM xid")
    return [
        XidRow(
            uuid=uuid,
            number=int(number),
            boot_id=boot_id,
            count=int(count),
            first_ms=int(first_ms),
            last_ms=int(last_ms),
        )
        for uuid, number, boot_id, count, first_ms, last_ms in rows
    ]


FOREVER_MS = 2**62


def _timelines(db: sqlite3.Connection) -> dict[str, Timeline]:
    rows = db.execute(
        """SELECT uuid, node.name, until_ms, seen_ms, energy_joules, energy_at_ms, boot_id
           FROM timeline JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id ORDER BY gpu_id"""
    )
    return {
        uuid: Timeline(
            uuid=uuid,
            node=node,
            until_ms=until_ms,
            seen_ms=seen_ms,
            energy_joules=joules,
            energy_at_ms=at_ms,
            boot_id=boot_id,
        )
        for uuid, node, until_ms, seen_ms, joules, at_ms, boot_id in rows
    }


def open_findings(db: sqlite3.Connection) -> list[Finding]:
    """Read the findings that are open, oldest first."""
    return findings_since(db, FOREVER_MS)


FINDING_COLUMNS = """rule, severity, node.name, coalesce(gpu.uuid, ''), opened_ms, finding.closed_ms, summary,
    action, finding.times, held_by"""
"""A finding in SQL, of the tables finding, node and gpu; see finding_of."""
_FINDING = (
    *("rule", "severity", "node", "uuid", "opened_ms", "closed_ms", "summary"),
    *("action", "times", "held_by"),
)


def finding_of(row: Sequence[Any]) -> Finding:
    """Make a finding of FINDING_COLUMNS."""
    return Finding(**dict(zip(_FINDING, row, strict=True)))


def findings_since(db: sqlite3.Connection, closed_ms: int) -> list[Finding]:
    """Read the findings that are open or closed at or after a moment, oldest first."""
    return [finding for _, finding in numbered_findings(db, closed_ms)]


def numbered_findings(db: sqlite3.Connection, closed_ms: int) -> list[tuple[int, Finding]]:
    """Read the findings that are open or closed at or after a moment, each with its number."""
    rows = db.execute(
        f"""SELECT finding.id, {FINDING_COLUMNS}
            FROM finding JOIN node ON node.id = node_id LEFT JOIN gpu ON gpu.id = gpu_id
            WHERE closed_ms IS NULL OR closed_ms >= ? ORDER BY opened_ms, finding.id""",
        (closed_ms,),
    )
    return [(number, finding_of(row)) for number, *row in rows]


def _late_findings(db: sqlite3.Connection) -> list[Finding]:
    """Read what is open, and what closed so late that it may open again."""
    newest_ms = db.execute("SELECT coalesce(max(end_ms), 0) FROM tick").fetchone()[0]
    return findings_since(db, newest_ms - FLAP_MS)


def _accounts(db: sqlite3.Connection) -> Accounts:
    accounts = Accounts()
    rows = db.execute(
        """SELECT uuid, node.name, state, owner.name, elapsed_ms, busy_us, busy_seen_ms, energy_mj,
                  energy_seen_ms, born_ms, grown_ms
           FROM account JOIN gpu ON gpu.id = gpu_id JOIN node ON node.id = node_id
           JOIN owner ON owner.id = owner_id"""
    )
    for uuid, node, state, owner, *amounts in rows:
        accounts.by_key[Key(uuid, node, State(state), owner)] = Account(*amounts)
    return accounts


def _open_spells(db: sqlite3.Connection) -> list[tuple[str, Spell]]:
    columns = ", ".join(f"holder.{name}" for name in HOLDER)
    rows = db.execute(
        f"""SELECT uuid, slice, start_ms, end_ms, seen_ms, beyond_ms, unknown_ms, {columns}
           FROM spell JOIN gpu ON gpu.id = gpu_id JOIN holder ON holder.id = holder_id WHERE ended = 0"""
    )
    return [
        (
            uuid,
            Spell(
                uuid=uuid,
                holder=holder_of(holder),
                slice=piece,
                start_ms=start_ms,
                end_ms=end_ms,
                seen_ms=seen_ms,
                beyond_ms=beyond_ms,
                unknown_ms=unknown_ms,
            ),
        )
        for uuid, piece, start_ms, end_ms, seen_ms, beyond_ms, unknown_ms, *holder in rows
    ]
