"""What a journal says of now: the latest interval of every GPU, who held it, and the day behind it."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.tally import DAY_MS, HOUR_MS
from agent.tick import State, said

LOOK_BACK_TICKS = 10_000
"""A GPU that no tick mentioned for so long is shown without a reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNow:
    """One GPU in the latest interval that the journal has of it; None where nothing was said."""

    uuid: str
    node: str
    index: int
    model: str
    end_ms: int
    state: State
    condition: str | None = None
    busy_ratio: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    temperature_max_celsius: float | None = None
    holders: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    inactive_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """All GPUs of a journal, and the time by state of the whole hours of the day before its end, in ms."""

    end_ms: int
    step_ms: int
    gpus: tuple[GpuNow, ...]
    day: Mapping[State, int]


_LAST_POSTINGS = """
    SELECT state, owner, kind, name FROM posting LEFT JOIN holder ON holder.id = holder_id
    WHERE tick_id = :tick AND gpu_id = :gpu AND (elapsed_ms > 0 OR holder_id IS NOT NULL)
    AND start_ms = (SELECT max(start_ms) FROM posting
                    WHERE tick_id = :tick AND gpu_id = :gpu AND elapsed_ms > 0)
    ORDER BY elapsed_ms DESC"""
_READING = (
    "condition",
    "busy_ratio",
    "memory_used_bytes",
    "memory_total_bytes",
    "power_watts",
    "power_limit_watts",
    "temperature_max_celsius",
)


def now(db: sqlite3.Connection) -> Now | None:
    """Read the latest of a journal; None when it holds no GPU."""
    places = db.execute(
        f"""SELECT gpu.id, uuid, node.name, position, model, until_ms,
                   (SELECT max(tick_id) FROM posting WHERE posting.gpu_id = gpu.id
                    AND tick_id > (SELECT max(id) FROM tick) - {LOOK_BACK_TICKS})
            FROM gpu JOIN timeline ON timeline.gpu_id = gpu.id JOIN node ON node.id = timeline.node_id
            JOIN place ON place.gpu_id = gpu.id AND to_ms IS NULL ORDER BY node.name, position, uuid"""
    ).fetchall()
    if not places:
        return None
    end_ms = max(row[5] for row in places)
    row = db.execute("SELECT end_ms - start_ms FROM tick ORDER BY id DESC LIMIT 1").fetchone()
    return Now(
        end_ms=end_ms,
        step_ms=row[0] if row else 0,
        gpus=tuple(_gpu(db, place) for place in places),
        day=_day(db, end_ms),
    )


def _gpu(db: sqlite3.Connection, place: tuple[int, str, str, int, str, int, int | None]) -> GpuNow:
    gpu_id, uuid, node, index, model, until_ms, tick_id = place
    values: Sequence[object] = (None,) * len(_READING)
    row = db.execute(
        f"SELECT {', '.join(_READING)} FROM reading WHERE tick_id = ? AND gpu_id = ?", (tick_id, gpu_id)
    ).fetchone()
    postings = db.execute(_LAST_POSTINGS, {"tick": tick_id, "gpu": gpu_id}).fetchall()
    inactive = db.execute(
        "SELECT max(seen_ms) FROM spell WHERE gpu_id = ? AND ended = 0", (gpu_id,)
    ).fetchone()[0]
    held = [(owner, said(kind, name)) for _, owner, kind, name in postings if owner is not None]
    return GpuNow(
        uuid=uuid,
        node=node,
        index=index,
        model=model,
        end_ms=until_ms,
        state=State(postings[0][0]) if postings else State.UNKNOWN,
        holders=tuple(dict.fromkeys(name for _, name in held if name)),
        owners=tuple(dict.fromkeys(owner for owner, _ in held)),
        inactive_ms=inactive,
        **dict(zip(_READING, row or values, strict=True)),
    )


def _day(db: sqlite3.Connection, end_ms: int) -> dict[State, int]:
    first_ms = (end_ms - DAY_MS) // HOUR_MS * HOUR_MS
    rows = db.execute(
        "SELECT state, sum(elapsed_ms) FROM account_hour WHERE hour_ms >= ? GROUP BY state", (first_ms,)
    )
    told = {State(state): total for state, total in rows}
    return {state: told.get(state, 0) for state in State}
