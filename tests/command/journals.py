"""What a journal holds, asked in SQL without any code of ours."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

HOUR_MS = 3_600_000


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a journal."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def owed(path: Path) -> dict[tuple[str, int], int]:
    """Give the milliseconds that each GPU was there, by hour, from where it sat."""
    found: dict[tuple[str, int], int] = {}
    for uuid, from_ms, to_ms in rows(
        path,
        """SELECT uuid, from_ms, coalesce(to_ms, until_ms) FROM place
           JOIN gpu ON gpu.id = place.gpu_id JOIN timeline ON timeline.gpu_id = place.gpu_id""",
    ):
        for hour_ms in range(from_ms // HOUR_MS * HOUR_MS, to_ms, HOUR_MS):
            part_ms = min(to_ms, hour_ms + HOUR_MS) - max(from_ms, hour_ms)
            found[uuid, hour_ms] = found.get((uuid, hour_ms), 0) + part_ms
    return found


def entered(path: Path) -> dict[tuple[str, int], int]:
    """Give the milliseconds that the states of each GPU have, by hour."""
    found = rows(
        path,
        """SELECT uuid, hour_ms, sum(elapsed_ms) FROM account_hour
           JOIN gpu ON gpu.id = gpu_id GROUP BY uuid, hour_ms""",
    )
    return {(uuid, hour_ms): elapsed_ms for uuid, hour_ms, elapsed_ms in found}


def check_identity(path: Path) -> None:
    """Fail unless per GPU and hour the states sum to the time that it was there, and the totals agree."""
    assert owed(path)
    assert entered(path) == owed(path)
    by_state = (
        "SELECT state, sum(elapsed_ms) FROM {} GROUP BY state HAVING sum(elapsed_ms) > 0 ORDER BY state"
    )
    assert rows(path, by_state.format("account")) == rows(path, by_state.format("account_hour"))
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def seconds(path: Path, state: str) -> float:
    """Give the seconds of all GPUs in a state."""
    (found,) = rows(path, f"SELECT total(elapsed_ms) FROM account WHERE state = '{state}'")  # noqa: S608
    return float(found[0]) / 1000
