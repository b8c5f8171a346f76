"""A report on a real recording, 143 GPUs of a cluster over a day, against sums of its cells alone."""

import csv
import gzip
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import pytest

from gputally.cli import main

GENTD26 = Path(__file__).parents[2].parent / "shared/data/gentd26.csv.gz"
LONGEST_STEPS = 2.5
ACTIVE_BUSY = 0.05


class Cells(NamedTuple):
    """What the recording says: the mean over time, shares, and what usual roll-ups make of the same cells."""

    mean: float
    active_seconds: float
    seen_seconds: float
    owed_seconds: float
    wrong: dict[str, float]


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Add the cells up, each over the time that it describes."""
    if not GENTD26.exists():
        pytest.skip(f"the recording {GENTD26} is not here")
    rows: defaultdict[str, list[tuple[float, float | None]]] = defaultdict(list)
    with gzip.open(GENTD26, "rt", encoding="utf-8", newline="") as text:
        for line in csv.DictReader(text):
            busy = float(line["busy_ratio"]) if line["busy_ratio"] else None
            rows[line["gpu"]].append((float(line["time"]), busy))
    for told in rows.values():
        told.sort()
    step = median(b[0] - a[0] for told in rows.values() for a, b in pairwise(told))
    first, last = min(told[0][0] for told in rows.values()) - step, max(told[-1][0] for told in rows.values())
    busy_seconds = seen_seconds = active_seconds = 0.0
    for told in rows.values():
        before = told[0][0] - step
        for at, busy in told:
            length = min(at - before, LONGEST_STEPS * step)
            before = at
            if busy is not None:
                seen_seconds += length
                busy_seconds += busy * length
                active_seconds += length * (busy >= ACTIVE_BUSY)
    known = {gpu: [busy for _, busy in told if busy is not None] for gpu, told in rows.items()}
    wrong = {
        "mean of the GPUs' means": fmean(fmean(values) for values in known.values() if values),
        "mean of the GPUs' peaks": fmean(max(values) for values in known.values() if values),
        "mean without zeros": fmean(value for values in known.values() for value in values if value),
        "missing as idle": busy_seconds / (len(rows) * (last - first)),
    }
    mean = busy_seconds / seen_seconds
    return Cells(mean, active_seconds, seen_seconds, len(rows) * (last - first), wrong)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, cells: Cells) -> dict[str, object]:
    """Replay it, and have the command write a report."""
    assert cells
    folder = tmp_path_factory.mktemp("gentd26")
    journal, out = folder / "journal.db", folder / "report.json"
    assert main(["replay", str(GENTD26), "--journal", str(journal)]) == 0
    assert main(["report", "--journal", str(journal), "--all", "--out", str(out)]) == 0
    told: dict[str, object] = json.loads(out.read_text())
    return told


def seconds(report: dict[str, object], *states: str) -> float:
    """Give the GPU-seconds of some states."""
    told = report["states"]
    assert isinstance(told, dict)
    return sum(float(told[state]["gpu_seconds"]) for state in states)


def test_the_mean_is_that_over_time(report: dict[str, object], cells: Cells) -> None:
    """Busy time over the time for which it was seen, to a millionth."""
    assert report["busy_ratio_mean"] == pytest.approx(cells.mean, abs=1e-6)
    assert report["identity_ok"] is True


def test_the_mean_is_none_of_the_wrong_ones(report: dict[str, object], cells: Cells) -> None:
    """All roll-ups that one finds in the wild are off by more than a tenth of a point."""
    mean = report["busy_ratio_mean"]
    assert isinstance(mean, float)
    off = {name: abs(wrong - mean) for name, wrong in cells.wrong.items()}
    assert {name for name, far in off.items() if far > 0.001} == set(cells.wrong)


def test_what_was_not_seen_is_unknown(report: dict[str, object], cells: Cells) -> None:
    """Neither idle nor gone: the inventory is all GPUs over the whole span."""
    inventory = report["inventory"]
    assert isinstance(inventory, dict)
    assert inventory["gpu_seconds"] == pytest.approx(cells.owed_seconds)
    assert seconds(report, "unknown") == pytest.approx(cells.owed_seconds - cells.seen_seconds, rel=1e-6)


def test_shares_are_of_cells_and_not_of_their_means(report: dict[str, object], cells: Cells) -> None:
    """A GPU is active where a cell says so; averages over an hour would call most of the fleet active."""
    assert seconds(report, "active") == pytest.approx(cells.active_seconds, rel=1e-6)
    assert seconds(report, "held_gap", "held_idle", "free") == pytest.approx(
        cells.seen_seconds - cells.active_seconds, rel=1e-6
    )
