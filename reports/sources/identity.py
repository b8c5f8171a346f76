"""The check that a report rests on: per GPU and hour, the states sum to the time that the GPU was there.

What is owed comes from where the GPU sat, what was entered from the accounts; neither is derived from the
other (planning facts, section 2.1).
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from agent.tally import HOUR_MS
from reports.sums import Outside, Stretch, hours_of
from reports.window import Window


class Violation(NamedTuple):
    """An hour in which a GPU's states do not sum to its time."""

    uuid: str
    hour_ms: int
    owed_ms: int
    entered_ms: int


def violations(
    db: sqlite3.Connection, window: Window, stretches: Iterable[Stretch], outside: Iterable[Outside] = ()
) -> list[Violation]:
    """Find all hours of a window, cut to the accounted time, that do not add up; by GPU and hour."""
    owed: Counter[tuple[str, int]] = Counter()
    for stretch in stretches:
        for hour_ms in range(stretch.start_ms // HOUR_MS * HOUR_MS, stretch.end_ms, HOUR_MS):
            start_ms, end_ms = max(stretch.start_ms, hour_ms), min(stretch.end_ms, hour_ms + HOUR_MS)
            owed[stretch.uuid, hour_ms] += end_ms - start_ms
    rows = db.execute(
        """SELECT uuid, hour_ms, SUM(elapsed_ms) FROM account_hour JOIN gpu ON gpu.id = gpu_id
           WHERE hour_ms >= ? AND hour_ms < ? GROUP BY gpu_id, hour_ms""",
        hours_of(window),
    )
    entered = Counter({(uuid, hour_ms): elapsed_ms for uuid, hour_ms, elapsed_ms in rows})
    for row in outside:
        entered[row.uuid, row.hour_ms] -= row.amounts.elapsed_ms
    return [
        Violation(uuid, hour_ms, owed[uuid, hour_ms], entered[uuid, hour_ms])
        for uuid, hour_ms in sorted(owed.keys() | entered.keys())
        if owed[uuid, hour_ms] != entered[uuid, hour_ms]
    ]
