"""A store that is away for a day: memory stays flat, the journal within its bound, what is left arrives."""

import json
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.journal_file import connect
from exporters.cursors import Cursors
from exporters.history import History
from tests.agent.histories import INTERVAL_MS, MIDNIGHT
from tests.command.outage import TICKS
from tests.stores.samples import at_times_of, differences, expected
from tests.stores.victoria import TOLERANCE, victoria

MIB = 2**20
GROWTH_MB = 6.0
"""So much may memory move in a day, and while all of it is sent; measured 0.6 and 0.1."""


@pytest.mark.slow
@pytest.mark.parametrize("most_bytes", [2048 * MIB, 8 * MIB])
def test_a_day_without_the_store(tmp_path: Path, most_bytes: int) -> None:
    """Every tick of the journal gets there; what its bound took is counted, and its time is named."""
    journal = tmp_path / "j.db"
    with victoria() as store:
        store.stop()
        command: list[str] = [
            sys.executable,
            "-m",
            "tests.command.outage",
            str(journal),
            f"{store.url}/influx",
            str(most_bytes),
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as day:
            assert day.stdin
            assert day.stdout
            told: list[dict[str, Any]] = []
            while not told or told[-1]["ticks"] < TICKS:
                told.append(json.loads(day.stdout.readline()))
            store.start()
            day.stdin.write("it is back\n")
            day.stdin.flush()
            after = [json.loads(line) for line in day.stdout]
            assert day.wait(60) == 0
        sys.stdout.write(f"{[round(one['resident_mb'], 1) for one in (*told, *after)]}\n")
        early_mb, late_mb = told[1]["resident_mb"], max(one["resident_mb"] for one in told)
        assert late_mb - early_mb < GROWTH_MB
        assert max(one["resident_mb"] for one in after) - after[0]["resident_mb"] < GROWTH_MB
        assert max(one["used_bytes"] for one in told) <= most_bytes
        assert after[-1]["waiting"] == 0
        with closing(connect(journal)) as db:
            oldest, newest, oldest_ms = db.execute(
                "SELECT min(id), max(id), min(start_ms) FROM tick"
            ).fetchone()
            history = History(db, oldest - 1, {})
            batches = iter(lambda: history.ticks(500), [])
            want = expected(row for batch in batches for _, rows in batch for row in rows)
        cursor = Cursors(journal).load("fleet")
        assert (cursor.tick_id, cursor.delivered_ticks) == (newest, newest - oldest + 1)
        assert cursor.dropped_ticks == oldest - 1
        assert (cursor.dropped_ticks > 0) == (most_bytes < 32 * MIB)
        if cursor.dropped_ticks:
            assert (cursor.dropped_from_ms, cursor.dropped_until_ms) == (MIDNIGHT, oldest_ms)
        assert newest == TICKS
        assert newest - oldest + 1 + cursor.dropped_ticks == TICKS
        _compare(store, want)


def _compare(store: Any, want: Any) -> None:  # noqa: ANN401
    got = at_times_of(store.samples(), want)
    assert differences(got, want, TOLERANCE) == []
    busy = next(points for series, points in want.items() if ("__name__", "gpu_busy_ratio") in series)
    steps = {after[0] - before[0] for before, after in pairwise(busy)}
    assert steps == {INTERVAL_MS}
