"""A week of misfortune in virtual time: nothing grows, no interval is lost, totals are the driver's."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.command.journals import check_identity, rows
from tests.command.virtual_week import GPUS

DAYS, SEED = 7, 20_260_106
GROWTH_MB = 8.0
ROUNDING = 0.001


@pytest.mark.slow
def test_a_week_of_misfortune(tmp_path: Path) -> None:
    """Every second is entered once; busy time and energy are the driver's, less what nobody saw."""
    command = [sys.executable, "-m", "tests.command.virtual_week", str(tmp_path), str(DAYS), str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3_000)
    assert done.returncode == 0, done.stderr
    *days, week = [json.loads(line) for line in done.stdout.splitlines()]
    sys.stdout.write(done.stdout)
    journal = tmp_path / "j.db"

    assert max(day["resident_mb"] for day in days[-2:]) < days[0]["resident_mb"] + GROWTH_MB
    assert {day["threads"] for day in days} == {days[0]["threads"]}
    assert {day["descriptors"] for day in days} == {days[0]["descriptors"]}

    met = week["met"]
    assert all(met.get(kind) for kind in ("crash", "disk full", "reload", "scrape")), met
    assert week["steps"] > DAYS
    assert week["failures"] > 0
    assert week["pending"] <= 1
    assert week["lower"] == []

    check_identity(journal)
    ticks = rows(journal, "SELECT id, start_ms, end_ms FROM tick ORDER BY id")
    assert [number for number, _, _ in ticks] == list(range(1, len(ticks) + 1))
    assert all(start_ms < end_ms for _, start_ms, end_ms in ticks)
    back = sum(after[1] < before[2] for before, after in pairwise(ticks))
    assert back <= week["steps"]
    (sums,) = rows(
        journal,
        """SELECT sum(elapsed_ms), sum(busy_us), sum(busy_seen_ms), sum(energy_mj), sum(energy_seen_ms),
                  min(elapsed_ms), min(busy_us), min(busy_seen_ms), min(energy_mj), min(energy_seen_ms)
           FROM account""",
    )
    assert min(sums[5:]) >= 0
    elapsed, busy, busy_seen, joules, _ = (
        one / scale for one, scale in zip(sums[:5], (1e3, 1e6, 1e3, 1e3, 1e3), strict=True)
    )
    lived, again = GPUS * week["true_seconds"], GPUS * week["again_seconds"]
    assert lived - GPUS * 7_200 <= elapsed <= lived + GPUS * 7_200
    assert again > 0
    assert busy_seen <= lived
    assert busy_seen > 0.75 * lived
    once_busy = week["true_busy_seconds"] - week["again_busy_seconds"]
    unseen = lived - again - busy_seen
    slack = ROUNDING * week["true_busy_seconds"]
    assert once_busy - unseen - slack <= busy <= once_busy + slack
    assert joules == pytest.approx(week["true_joules"] - week["again_joules"], rel=0.01)
