"""Reads back what a restarted agent must remember: inventory, timelines, accounts, open spells."""

import sqlite3
from typing import NamedTuple

from agent.accounts import Account, Accounts, Key
from agent.spells import Spell
from agent.tally import Timeline
from agent.tick import Gpu, Holder, State, Workload


class Memory(NamedTuple):
    """The state of the books as last committed."""

    gpus: dict[str, Gpu]
    timelines: dict[str, Timeline]
    accounts: Accounts


def holder_of(kind: str, name: str, owner: str, user: str, workload: str) -> Holder:
    """Make a holder of its columns in the journal."""
    return Holder(kind=kind, name=name, owner=owner, user=user, workload=Workload(workload))


def restore(db: sqlite3.Connection) -> Memory:
    """Read the memory of a journal; an empty journal gives an empty memory."""
    timelines = _timelines(db)
    for uuid, spell in _open_spells(db):
        if uuid in timelines:
            timelines[uuid].spells[spell.holder] = spell
    return Memory(_gpus(db), timelines, _accounts(db))


def _gpus(db: sqlite3.Connection) -> dict[str, Gpu]:
    rows = db.execute(
        """SELECT uuid, position, model, serial, board_part, vbios, driver, cuda, pci_bus
           FROM gpu JOIN place ON place.gpu_id = gpu.id AND to_ms IS NULL ORDER BY position, uuid"""
    )
    names = ("uuid", "index", "model", "serial", "board_part", "vbios", "driver", "cuda", "pci_bus")
    return {row[0]: Gpu(**dict(zip(names, row, strict=True))) for row in rows}


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
    rows = db.execute(
        """SELECT uuid, kind, holder.name, owner, user, workload, start_ms, end_ms,
                  seen_ms, beyond_ms, unknown_ms
           FROM spell JOIN gpu ON gpu.id = gpu_id JOIN holder ON holder.id = holder_id WHERE ended = 0"""
    )
    return [
        (
            uuid,
            Spell(
                uuid=uuid,
                holder=holder_of(kind, name, owner, user, workload),
                start_ms=start_ms,
                end_ms=end_ms,
                seen_ms=seen_ms,
                beyond_ms=beyond_ms,
                unknown_ms=unknown_ms,
            ),
        )
        for uuid, kind, name, owner, user, workload, start_ms, end_ms, seen_ms, beyond_ms, unknown_ms in rows
    ]
