"""Windows that begin or end within an hour of UTC: what each tick added tells what is of which window."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ReportError
from agent.quantities import Amount
from agent.tally import HOUR_MS
from agent.tick import Condition, Hold, State, Tick, reading_of
from reports.outline import Report
from reports.sources.edges import outside
from reports.sources.journal_facts import facts
from reports.sums import Amounts, Outside
from reports.window import Asked, Window, rfc3339
from tests.reports.small import (
    ALICE,
    BOB,
    MINUTE_MS,
    MONDAY_MS,
    Deed,
    Small,
    fleet_report_of,
    gpu,
    reading,
    report_of,
    tamper,
)
from tests.reports.test_money import book

WORK: Deed = (BOB, {"busy_ratio": 0.5, "power_watts": 100.0})
IDLE: Deed = (ALICE, {"busy_ratio": 0.0, "power_watts": 60.0})
LOST: Deed = (None, Condition.LOST)
HALF_MS = HOUR_MS // 2


def between(first_ms: int, last_ms: int) -> Asked:
    """Ask for a time, in ms of Monday."""
    return Asked(since=rfc3339(MONDAY_MS + first_ms), until=rfc3339(MONDAY_MS + last_ms))


def states(report: Report) -> dict[str, float]:
    """Give the minutes of each state in which there was time."""
    return {
        line.state.value: line.amounts.elapsed_ms / MINUTE_MS
        for line in report.states
        if line.amounts.elapsed_ms
    }


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write four hours by the half, in which one GPU works in every second half and else is lost."""
    small = Small(tmp_path_factory.mktemp("edges") / "journal.db")
    for number in range(8):
        small.pass_by(HALF_MS, {gpu(0): LOST if number % 2 else WORK, gpu(1): WORK})
    small.save()
    return small.path


def test_a_day_of_india_is_accounted_for_to_the_millisecond(halves: Path) -> None:
    """From half past to half past: an hour and a half each at work and lost, and the other GPU at work."""
    report = report_of(halves, between(HALF_MS, HOUR_MS * 3 + HALF_MS), price=2.0)
    assert states(report) == {"active": 90.0 + 180.0, "down": 90.0}
    assert report.inventory.gpu_ms == 6 * HOUR_MS
    assert report.inventory.cost == 12.0
    assert report.identity_ok
    active = report.sums.by_state[State.ACTIVE]
    assert (active.busy_us, active.busy_seen_ms) == (135 * MINUTE_MS * 1000, 270 * MINUTE_MS)
    assert active.energy_mj == 270 * 60 * 100 * 1000


def test_both_edges_may_lie_in_one_hour(halves: Path) -> None:
    """Twenty minutes in the middle of the second hour: ten of each half."""
    report = report_of(halves, between(HOUR_MS + 20 * MINUTE_MS, HOUR_MS + 40 * MINUTE_MS))
    assert states(report) == {"active": 30.0, "down": 10.0}
    assert report.identity_ok


def test_whole_hours_are_not_looked_at(halves: Path) -> None:
    """Nor is an edge where the accounted time ends."""
    with reading(halves) as db:
        assert outside(db, Window(from_ms=MONDAY_MS, to_ms=MONDAY_MS + HOUR_MS)) == []
        assert outside(db, Window(from_ms=MONDAY_MS - 1, to_ms=MONDAY_MS + 5 * HOUR_MS + 1)) == []
        half = outside(db, Window(from_ms=MONDAY_MS, to_ms=MONDAY_MS + HALF_MS))
    assert half[0] == Outside(MONDAY_MS, gpu(0).uuid, "n1", State.DOWN, "", Amounts(elapsed_ms=HALF_MS))
    assert [(one.uuid, one.state, one.amounts.elapsed_ms) for one in half[1:]] == [
        (gpu(1).uuid, State.ACTIVE, HALF_MS)
    ]


def test_the_hours_of_facts_agree_with_the_accounts(halves: Path) -> None:
    """The first and the last are halves."""
    report = report_of(halves, between(HALF_MS, HOUR_MS * 3 + HALF_MS))
    with reading(halves) as db:
        told = facts(db, report.covered).hours
    by_hour = [
        sum(row.amounts.elapsed_ms for row in told if row.hour_ms == MONDAY_MS + hour * HOUR_MS) / HOUR_MS
        for hour in range(5)
    ]
    assert by_hour == [1.0, 2.0, 2.0, 1.0, 0.0]
    for state in State:
        whole = sum((row.amounts for row in told if row.state is state), Amounts())
        assert whole == report.sums.by_state[state]


def test_without_the_ticks_of_the_hour_a_split_is_refused(halves: Path, tmp_path: Path) -> None:
    """Nobody is given a guess, but what could be asked for instead."""
    path = tmp_path / "old.db"
    path.write_bytes(halves.read_bytes())
    tamper(path, "DELETE FROM posting WHERE start_ms < ?", MONDAY_MS + HALF_MS)
    with pytest.raises(ReportError, match=r"00:30:00Z is not on a whole UTC hour.* 2026-11-16T01:00:00Z, or"):
        report_of(path, between(HALF_MS, 2 * HOUR_MS))
    assert states(report_of(path, between(HOUR_MS, 2 * HOUR_MS + HALF_MS))) == {"active": 150.0, "down": 30.0}


def test_what_was_entered_long_after_is_found(tmp_path: Path) -> None:
    """The agent was away for five hours; what it did not see was entered when it came back."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(10 * MINUTE_MS, {gpu(0): WORK})
    small.now_ms += 5 * HOUR_MS
    small.pass_by(10 * MINUTE_MS, {gpu(0): WORK})
    small.save()
    report = report_of(small.path, between(HALF_MS, 2 * HOUR_MS + HALF_MS))
    assert states(report) == {"unknown": 120.0}
    assert report.identity_ok


def test_a_gpu_that_moved_within_the_hour_is_in_both_nodes(tmp_path: Path) -> None:
    """Each has its part; the gap between is of the first."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(20 * MINUTE_MS, {gpu(0): WORK}, node="n1")
    small.now_ms += 10 * MINUTE_MS
    small.pass_by(60 * MINUTE_MS, {gpu(0): WORK}, node="n2")
    small.save()
    report = report_of(small.path, between(10 * MINUTE_MS, 40 * MINUTE_MS))
    assert [(line.node, line.inventory_ms / MINUTE_MS) for line in report.gpus] == [
        ("n1", 20.0),
        ("n2", 10.0),
    ]
    assert states(report) == {"active": 20.0, "unknown": 10.0}
    assert report.identity_ok


def test_journals_of_several_nodes_are_split_alike(tmp_path: Path) -> None:
    """A GPU is carried at half past one from a node that goes on missing it; it is down for no time."""
    one, two = Small(tmp_path / "n1.db"), Small(tmp_path / "n2.db", MONDAY_MS + 3 * HALF_MS)
    for number in range(6):
        one.pass_by(HALF_MS, {gpu(1): WORK} if number > 2 else {gpu(0): WORK, gpu(1): WORK}, node="n1")
    for _ in range(3):
        two.pass_by(HALF_MS, {gpu(0): IDLE}, node="n2")
    one.save()
    two.save()
    report = fleet_report_of([one.path, two.path], between(HALF_MS, 5 * HALF_MS), prices=book(1.0, 10.0))
    assert states(report) == {"active": 60.0 + 120.0, "held_gap": 30.0, "held_idle": 30.0}
    assert report.identity_ok
    assert report.inventory.cost == 2 * 1.5 * 1.0 + 2 * 0.5 * 10.0


STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 7, 10, 23, 60, 90, 150]),
        st.sampled_from(["work", "idle", "lost", "unread", "counted", "shared", "away"]),
    ),
    min_size=2,
    max_size=14,
)
SHARED = (Hold(ALICE, share=0.3), Hold(BOB, share=0.6), Hold(replace(BOB, name="8")))


def step(small: Small, minutes: int, kind: str) -> None:
    """Let one GPU do something, while another works; or let nobody look."""
    start_ms, small.now_ms = small.now_ms, small.now_ms + minutes * MINUTE_MS
    if kind == "away":
        return
    told: dict[str, Amount] = {"busy_ratio": 0.0 if kind == "idle" else 1 / 3, "power_watts": 100.0}
    if kind == "counted":
        told["energy_joules_total"] = (small.now_ms - MONDAY_MS) * 0.09
    condition = Condition.LOST if kind == "lost" else Condition.OK
    values: dict[str, Amount] = {} if kind == "lost" else told
    readings = [reading_of(gpu(1).uuid, start_ms, small.now_ms, {"busy_ratio": 0.9})]
    if kind != "unread":
        readings.append(reading_of(gpu(0).uuid, start_ms, small.now_ms, values, condition=condition))
    small.books.post(
        Tick(
            node="n1",
            start_ms=start_ms,
            end_ms=small.now_ms,
            readings=tuple(readings),
            gpus=(gpu(0), gpu(1)),
        ),
        {gpu(1).uuid: (Hold(BOB),), gpu(0).uuid: SHARED if kind == "shared" else (Hold(ALICE),)},
    )


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, edge=st.integers(1, 100 * MINUTE_MS), second=st.integers(1, 200 * MINUTE_MS))
def test_adjacent_windows_sum_to_the_whole(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[tuple[int, str]], edge: int, second: int
) -> None:
    """Wherever they are cut, whatever happened, and whatever lies across the cut; all amounts are whole.

    A line that is cut twice, by windows of less than an interval, may be off by a ms in one of them.
    """
    small = Small(tmp_path_factory.mktemp("cut") / "journal.db", MONDAY_MS + 5 * MINUTE_MS)
    for minutes, kind in ((1, "work"), *steps, (1, "counted")):
        step(small, minutes, kind)
    small.save()
    whole = report_of(small.path)
    first_ms = whole.covered.from_ms
    cuts = [at_ms for at_ms in (first_ms + edge, first_ms + edge + second) if at_ms < whole.covered.to_ms]
    marks = [rfc3339(at_ms) for at_ms in (first_ms, *cuts, whole.covered.to_ms)]
    parts = [report_of(small.path, Asked(since=since, until=until)) for since, until in pairwise(marks)]
    for state in State:
        assert sum((part.sums.by_state[state] for part in parts), Amounts()) == whole.sums.by_state[state]
    assert sum(part.inventory.gpu_ms for part in parts) == whole.inventory.gpu_ms
    assert all(part.identity_ok for part in parts)
    for part in parts:
        for row in part.accounts:
            assert row.amounts.elapsed_ms >= -1
            assert row.amounts.busy_seen_ms <= row.amounts.elapsed_ms
