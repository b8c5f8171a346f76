"""The sums of a report, compared with numbers worked out by hand."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ReportError
from agent.states import StateSettings
from agent.tally import HOUR_MS
from agent.tick import Condition, State
from gputally.journals import opened
from reports.report import Report, build
from reports.window import Asked, Window
from tests.reports.small import (
    ALICE,
    BOB,
    MINUTE_MS,
    MONDAY_MS,
    Deed,
    Small,
    day,
    gpu,
    report_of,
    tamper,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write four hours of four GPUs."""
    return day(tmp_path_factory.mktemp("day") / "journal.db")


@pytest.fixture(scope="module")
def report(path: Path) -> Report:
    """Report on them at 2 per GPU-hour."""
    return report_of(path, price=2.0)


def hours_by_state(report: Report) -> dict[State, float]:
    """Give the hours of the states that have any."""
    found = {line.state: line.amounts.elapsed_ms / HOUR_MS for line in report.states}
    return {state: hours for state, hours in found.items() if hours}


def test_the_states_sum_to_the_inventory(report: Report) -> None:
    """16 GPU-hours: bob 3.5, alice 0.5 + 3, free 3.5 + 0.5, down 3, unknown 4 x 0.5."""
    assert (report.inventory.gpus, report.inventory.gpu_ms) == (4, 16 * HOUR_MS)
    assert hours_by_state(report) == {
        State.ACTIVE: 3.5,
        State.HELD_GAP: 0.5,
        State.HELD_IDLE: 3.0,
        State.FREE: 4.0,
        State.DOWN: 3.0,
        State.UNKNOWN: 2.0,
    }
    assert [line.state for line in report.states] == list(State)
    assert report.identity_ok


def test_coverage_leaves_out_what_was_down(report: Report) -> None:
    """1 - 2 / (16 - 3)."""
    assert report.coverage_ratio == pytest.approx(11 / 13)


def test_busy_is_a_ratio_of_sums(report: Report) -> None:
    """0.8 x 3.5 h of the 3.5 + 3.5 + 3.5 + 0.5 h in which it was seen."""
    assert report.busy_ratio_mean == pytest.approx(2.8 / 11)


def test_unknown_time_bounds_the_effective_ratio(report: Report) -> None:
    """2.8 of 16 hours at least; with the 2 unknown ones busy, 4.8."""
    assert report.effective_ratio.low == pytest.approx(2.8 / 16)
    assert report.effective_ratio.high == pytest.approx(4.8 / 16)


def test_energy_says_for_how_much_of_the_time_it_was_seen(report: Report) -> None:
    """3.5 h at 500 W and 3.5 h at 100 W, of 16 h; free GPUs told nothing, which is not 0."""
    assert report.sums.total.joules == 3.5 * 3600 * 600
    assert report.energy_seen_ratio == pytest.approx(7 / 16)
    assert report.sums.by_state[State.HELD_IDLE].joules == 3 * 3600 * 100
    assert report.sums.by_state[State.FREE].joules is None


def test_costs_follow_the_price(report: Report, path: Path) -> None:
    """Each hour costs 2; without a price nothing has a cost."""
    costs = {line.state: line.cost for line in report.states}
    assert (costs[State.HELD_IDLE], costs[State.DOWN], report.inventory.cost) == (6.0, 6.0, 32.0)
    unpriced = report_of(path)
    assert {line.cost for line in unpriced.states} == {None}
    assert {decision.cost for decision in unpriced.decisions} == {None}


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1.0])
def test_a_price_that_is_none_is_refused(path: Path, price: float) -> None:
    """NaN would spread into every sum."""
    with pytest.raises(ReportError, match="price"):
        report_of(path, price=price)


def test_owners_come_with_the_idlest_first(report: Report) -> None:
    """The unattributed have a line, nobody's time has none."""
    assert [line.owner for line in report.owners] == ["alice", "bob", "unattributed"]
    alice, bob, nobody = report.owners
    assert (alice.sums.elapsed_ms(State.HELD_IDLE), alice.idle_cost, alice.cost) == (3 * HOUR_MS, 6.0, 7.0)
    assert bob.sums.total.busy_ratio_mean == pytest.approx(0.8)
    assert nobody.sums.total.elapsed_ms == 0
    assert nobody.sums.total.busy_ratio_mean is None


def test_each_gpu_has_its_own_account(report: Report) -> None:
    """The second was held idle, the last one failed after an hour."""
    assert [line.index for line in report.gpus] == [0, 1, 2, 3]
    assert [line.inventory_ms for line in report.gpus] == [4 * HOUR_MS] * 4
    second, last = report.gpus[1], report.gpus[3]
    assert (second.uuid, second.node, second.model, second.serial) == (
        "GPU-00000001-aaaa",
        "n1",
        "NVIDIA H200",
        "165001",
    )
    assert second.longest_spell_ms == 3.5 * HOUR_MS
    assert last.longest_spell_ms is None
    assert last.coverage_ratio == pytest.approx(0.5)
    assert last.sums.elapsed_ms(State.DOWN) == 3 * HOUR_MS


def test_the_longest_idle_spell_names_its_holder(report: Report) -> None:
    """Alice's job held a GPU for 3.5 h, of which 3 h beyond the patience of a batch job."""
    (line,) = report.spells
    spell = line.spell
    assert (spell.owner, spell.holder, line.node, line.index) == ("alice", "4711", "n1", 1)
    assert spell.start_ms == MONDAY_MS + HOUR_MS // 2
    assert (spell.seen_ms, spell.beyond_ms, spell.ended) == (3.5 * HOUR_MS, 3 * HOUR_MS, False)


def test_a_window_cuts_the_accounts_at_its_edges(path: Path) -> None:
    """In the second hour nothing was unknown."""
    asked = Asked(since="2026-11-16T01:00:00Z", until="2026-11-16T02:00:00Z")
    report = report_of(path, asked)
    assert report.inventory.gpu_ms == 4 * HOUR_MS
    assert hours_by_state(report) == {
        State.ACTIVE: 1.0,
        State.HELD_IDLE: 1.0,
        State.FREE: 1.0,
        State.DOWN: 1.0,
    }
    assert report.coverage_ratio == 1.0
    assert report.identity_ok


def test_a_partly_covered_window_counts_what_is_covered(path: Path) -> None:
    """The inventory of time that has not come yet is not owed."""
    report = report_of(path, Asked(week="2026-W47"))
    assert report.inventory.gpu_ms == 16 * HOUR_MS
    assert report.covered.to_ms == MONDAY_MS + 4 * HOUR_MS
    assert report.identity_ok


@pytest.mark.parametrize(
    ("statement", "owed_ms", "entered_ms"),
    [
        (
            "UPDATE account_hour SET elapsed_ms = elapsed_ms + 1 WHERE state = 'held_idle' AND hour_ms = ?",
            HOUR_MS,
            HOUR_MS + 1,
        ),
        ("DELETE FROM account_hour WHERE gpu_id = 2 AND hour_ms = ?", HOUR_MS, 0),
        (
            "UPDATE place SET from_ms = ? + 7200000 WHERE gpu_id = 2 AND from_ms < 1e15",
            0,
            HOUR_MS,
        ),
    ],
)
def test_an_hour_that_does_not_add_up_is_found(
    tmp_path: Path, statement: str, owed_ms: int, entered_ms: int
) -> None:
    """One millisecond too many, a lost hour, an inventory that begins too late."""
    path = day(tmp_path / "journal.db")
    tamper(path, statement, MONDAY_MS + HOUR_MS)
    report = report_of(path)
    assert not report.identity_ok
    row = next(row for row in report.violations if row.hour_ms == MONDAY_MS + HOUR_MS)
    assert (row.uuid, row.owed_ms, row.entered_ms) == ("GPU-00000001-aaaa", owed_ms, entered_ms)
    assert report.decisions[0].kind == "identity"


def test_a_moved_gpu_counts_once_and_has_a_line_for_each_node(tmp_path: Path) -> None:
    """An hour in n1, two in n2: three GPU-hours of one GPU."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(HOUR_MS, {gpu(0): (BOB, {"busy_ratio": 1.0})})
    small.pass_by(2 * HOUR_MS, {gpu(0): (BOB, {"busy_ratio": 0.5})}, node="n2")
    small.save()
    report = report_of(tmp_path / "journal.db")
    assert (report.inventory.gpus, report.inventory.gpu_ms) == (1, 3 * HOUR_MS)
    assert [(line.node, line.inventory_ms) for line in report.gpus] == [("n1", HOUR_MS), ("n2", 2 * HOUR_MS)]
    assert report.busy_ratio_mean == pytest.approx(2 / 3)
    assert report.identity_ok


def test_a_device_that_does_not_tell_busy_widens_the_bounds(tmp_path: Path) -> None:
    """It worked by its SMs: between none and all of its time may have been busy."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(HOUR_MS, {gpu(0): (BOB, {"sm_active_ratio": 0.4})})
    small.save()
    report = report_of(tmp_path / "journal.db")
    assert report.busy_ratio_mean is None
    assert report.effective_ratio == (0.0, 1.0)


def test_all_down_has_no_coverage(tmp_path: Path) -> None:
    """Nothing could have been seen: the ratio is none, not 0 and not 1."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(HOUR_MS, {gpu(0): (None, Condition.LOST)})
    small.save()
    report = report_of(tmp_path / "journal.db")
    assert report.coverage_ratio is None
    assert report.effective_ratio == (0.0, 0.0)


def test_held_time_without_an_owner_is_unattributed(tmp_path: Path) -> None:
    """Neither a holder with an empty owner nor memory that somebody holds disappears."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(HOUR_MS, {gpu(0): (replace(ALICE, owner=""), {"busy_ratio": 1.0})})
    small.pass_by(HOUR_MS, {gpu(0): (None, {"busy_ratio": 0.0, "memory_used_bytes": 2e9})})
    small.save()
    (line,) = report_of(tmp_path / "journal.db").owners
    assert (line.owner, line.sums.total.elapsed_ms) == ("unattributed", 2 * HOUR_MS)


def test_service_is_held_but_not_active(tmp_path: Path) -> None:
    """Burn-in has its own state."""
    small = Small(tmp_path / "journal.db", settings=StateSettings(service_owners=("bob",)))
    small.pass_by(HOUR_MS, {gpu(0): (BOB, {"busy_ratio": 1.0})})
    small.save()
    assert hours_by_state(report_of(tmp_path / "journal.db")) == {State.SERVICE: 1.0}


def test_findings_of_the_window_are_shown(path: Path, tmp_path: Path) -> None:
    """One that closed before is not, one that is open is."""
    copy = tmp_path / "journal.db"
    copy.write_bytes(path.read_bytes())
    row = "INSERT INTO finding VALUES (NULL, 1, ?, 'gpu_lost', 'critical', ?, ?, 'lost', 'reset it', 1, '')"
    tamper(copy, row, 4, MONDAY_MS + HOUR_MS, None)
    tamper(copy, row, None, MONDAY_MS - HOUR_MS, MONDAY_MS - MINUTE_MS)
    (finding,) = report_of(copy).findings
    assert (finding.uuid, finding.node, finding.closed_ms) == ("GPU-00000003-aaaa", "n1", None)


def test_the_journal_is_read_as_of_one_moment(path: Path) -> None:
    """After a report no transaction is left open."""
    window = Window(from_ms=MONDAY_MS, to_ms=MONDAY_MS + HOUR_MS)
    with opened([path]) as journals:
        (one,) = journals.opened
        assert one.db.in_transaction
        found = build(journals.gather(window, 1), window, now_ms=0)
    assert found.inventory.gpu_ms == 4 * HOUR_MS
    with pytest.raises(sqlite3.ProgrammingError):
        one.db.execute("SELECT 1")


STEPS = st.lists(
    st.tuples(
        st.integers(1, 3 * HOUR_MS),
        st.lists(
            st.sampled_from(
                [
                    (ALICE, {"busy_ratio": 0.0, "power_watts": 90.0}),
                    (BOB, {"busy_ratio": 0.37, "power_watts": 410.0}),
                    (None, {"busy_ratio": 0.0, "memory_used_bytes": 0.0}),
                    (None, Condition.HUNG),
                    (None, None),
                ]
            ),
            min_size=2,
            max_size=2,
        ),
    ),
    min_size=1,
    max_size=12,
)


@given(steps=STEPS)
@settings(max_examples=20, deadline=None)
def test_whatever_happens_the_accounts_add_up(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, list[Deed]]]
) -> None:
    """States sum to inventory, owners and GPUs to states, and the bounds are in order."""
    path = tmp_path_factory.mktemp("any") / "journal.db"
    small = Small(path)
    for length_ms, does in steps:
        small.pass_by(length_ms, {gpu(number): did for number, did in enumerate(does)})
    small.save()
    report = report_of(path)
    assert report.identity_ok
    assert report.sums.total.elapsed_ms == report.inventory.gpu_ms == 2 * (small.now_ms - MONDAY_MS)
    assert sum(line.sums.total.elapsed_ms for line in report.gpus) == report.inventory.gpu_ms
    held_ms = report.sums.elapsed_ms(State.ACTIVE, State.HELD_GAP, State.HELD_IDLE)
    assert sum(line.sums.total.elapsed_ms for line in report.owners) == held_ms
    low, high = report.effective_ratio
    assert low is not None
    assert high is not None
    assert 0 <= low <= high <= 1
