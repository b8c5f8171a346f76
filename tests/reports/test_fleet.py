"""Reports of several journals: each second of each GPU counts once, and what nobody saw is unknown."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import JournalError, ReportError
from agent.tally import HOUR_MS
from agent.tick import Condition, State
from gputally.cli import main
from gputally.journals import journals_of
from reports.report import Report
from tests.reports.small import ALICE, BOB, MONDAY_MS, Deed, Small, day, fleet_report_of, gpu

WORK: Deed = (ALICE, {"busy_ratio": 0.9, "power_watts": 650.0})
OTHER: Deed = (BOB, {"busy_ratio": 0.5, "power_watts": 400.0})
GONE: Deed = (None, Condition.MISSING)


def node(folder: Path, name: str, *hours: Mapping[int, Deed], start_hour: float = 0.0) -> Path:
    """Write a node's journal, hour by hour, with what each GPU does."""
    path = folder / name / "journal.db"
    path.parent.mkdir()
    small = Small(path, MONDAY_MS + round(start_hour * HOUR_MS))
    for does in hours:
        small.pass_by(HOUR_MS, {gpu(number): deed for number, deed in does.items()}, node=name)
    small.save()
    return path


def hours_of(report: Report) -> dict[str, float]:
    """Give the hours of each state in which there was time."""
    by_state = report.sums.by_state.items()
    return {state.value: one.elapsed_ms / HOUR_MS for state, one in by_state if one.elapsed_ms}


def test_nodes_add_up(tmp_path: Path) -> None:
    """Two nodes of different GPUs are the sum of both."""
    one = node(tmp_path, "n1", {0: WORK, 1: WORK}, {0: WORK, 1: WORK})
    two = node(tmp_path, "n2", {2: OTHER}, {2: OTHER})
    report = fleet_report_of([one, two])
    assert (report.inventory.gpus, report.inventory.gpu_ms) == (3, 6 * HOUR_MS)
    assert hours_of(report) == {"active": 6.0}
    assert [(line.node, line.uuid) for line in report.gpus] == [
        ("n1", gpu(0).uuid),
        ("n1", gpu(1).uuid),
        ("n2", gpu(2).uuid),
    ]
    assert {
        line.owner: line.sums.total.elapsed_ms for line in report.owners if line.sums.total.elapsed_ms
    } == {
        "alice": 4 * HOUR_MS,
        "bob": 2 * HOUR_MS,
    }
    assert report.identity_ok


def test_a_node_that_vanished_is_owed_to_the_end_as_unknown(tmp_path: Path) -> None:
    """Its GPUs are still paid for."""
    one = node(tmp_path, "n1", {0: WORK})
    two = node(tmp_path, "n2", *[{1: WORK}] * 4)
    report = fleet_report_of([one, two])
    assert report.inventory.gpu_ms == 8 * HOUR_MS
    assert hours_of(report) == {"active": 5.0, "unknown": 3.0}
    assert report.identity_ok


def test_a_node_that_came_later_owes_nothing_before(tmp_path: Path) -> None:
    """It was not there."""
    one = node(tmp_path, "n1", *[{0: WORK}] * 4)
    two = node(tmp_path, "n2", {1: WORK}, start_hour=3)
    report = fleet_report_of([one, two])
    assert report.inventory.gpu_ms == 5 * HOUR_MS
    assert hours_of(report) == {"active": 5.0}


@pytest.mark.parametrize("start_hour", [2.0, 2.5])
def test_a_gpu_that_was_carried_to_another_node_counts_once(tmp_path: Path, start_hour: float) -> None:
    """It is missing in the first node from hour 1 on: down until it turns up in the other, and not after."""
    one = node(tmp_path, "n1", {0: WORK, 1: WORK}, *[{1: WORK}] * 3)
    hours = 4 - start_hour
    two = node(tmp_path, "n2", *[{0: OTHER}] * int(hours), start_hour=start_hour)
    report = fleet_report_of([one, two])
    left = 4 - start_hour - int(hours)  # the journal of the second ends so much earlier
    expected = {"active": 5.0 + int(hours), "down": start_hour - 1, "unknown": left}
    assert hours_of(report) == {state: amount for state, amount in expected.items() if amount}
    assert report.inventory.gpu_ms == 8 * HOUR_MS
    assert report.inventory.gpus == 2
    assert report.identity_ok
    lines = {(line.uuid, line.node): line.inventory_ms / HOUR_MS for line in report.gpus}
    assert lines[gpu(0).uuid, "n1"] == start_hour
    assert lines[gpu(0).uuid, "n2"] == 4 - start_hour


def test_a_gpu_that_was_lent_and_came_back(tmp_path: Path) -> None:
    """Each node has it for as long as it saw it; on the way back it is of the one that saw it last."""
    one = node(tmp_path, "n1", {0: WORK}, {}, {}, {0: WORK}, {0: WORK})
    two = node(tmp_path, "n2", {0: OTHER, 5: OTHER}, *[{5: OTHER}] * 3, start_hour=1)
    report = fleet_report_of([one, two])
    assert report.inventory.gpu_ms == (5 + 4) * HOUR_MS
    hours = {
        (line.uuid, line.node): {
            state.value: amounts.elapsed_ms / HOUR_MS
            for state, amounts in line.sums.by_state.items()
            if amounts.elapsed_ms
        }
        for line in report.gpus
    }
    assert hours[gpu(0).uuid, "n2"] == {"active": 1.0, "down": 1.0}
    assert hours[gpu(0).uuid, "n1"] == {"active": 3.0}
    assert report.identity_ok


def test_a_node_that_was_installed_anew_goes_on(tmp_path: Path) -> None:
    """Two journals of one node, one after the other, with an hour in between that nobody saw."""
    old = node(tmp_path, "n1", {0: WORK})
    (tmp_path / "n1").rename(tmp_path / "old")
    old = tmp_path / "old" / "journal.db"
    new = node(tmp_path, "n1", {0: WORK}, {0: WORK}, start_hour=2)
    report = fleet_report_of([old, new])
    assert hours_of(report) == {"active": 3.0, "unknown": 1.0}
    assert report.inventory.gpu_ms == 4 * HOUR_MS


def test_two_nodes_that_both_saw_a_gpu_at_work_fail_loudly(tmp_path: Path) -> None:
    """No card is in two nodes: clocks are wrong, or somebody clones serial numbers."""
    one = node(tmp_path, "n1", *[{0: WORK}] * 3)
    two = node(tmp_path, "n2", *[{0: OTHER}] * 2, start_hour=1)
    report = fleet_report_of([one, two])
    assert not report.identity_ok
    assert report.decisions[0].kind == "identity"


def test_a_copy_of_a_journal_is_refused(tmp_path: Path) -> None:
    """Its hours would count twice."""
    one = node(tmp_path, "n1", {0: WORK})
    copy = tmp_path / "copy.db"
    shutil.copyfile(one, copy)
    with pytest.raises(
        ReportError, match=r"n1/journal.db and .*copy.db both account for GPU-00000000-aaaa in node n1"
    ):
        fleet_report_of([one, copy])


def test_the_order_of_journals_does_not_matter(tmp_path: Path) -> None:
    """Nor what their files are called."""
    paths = [
        node(tmp_path, "n1", {0: WORK, 1: WORK}, {1: WORK}, {1: WORK}),
        node(tmp_path, "n2", {0: OTHER}, start_hour=2),
        node(tmp_path, "n3", {2: (None, None)}),
    ]
    one, other = fleet_report_of(paths), fleet_report_of(paths[::-1])
    assert (one.sums, one.gpus, one.owners) == (other.sums, other.gpus, other.owners)
    assert one.accounts == other.accounts


def test_a_folder_is_read_whole_and_what_is_broken_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are reported; the exit code says that something is missing."""
    node(tmp_path, "n1", {0: WORK})
    node(tmp_path, "n2", {1: WORK})
    (tmp_path / "n3").mkdir()
    (tmp_path / "n3" / "journal.db").write_bytes(b"no journal")
    assert main(["report", "--journal", str(tmp_path), "--all"]) == 1
    said = capsys.readouterr().out
    assert "2 GPUs, 2.0 GPU-hours" in said
    assert "1 journal could not be read" in said
    assert "not in this report:" in said
    assert "n3/journal.db" in said
    for form in ("json", "markdown"):
        assert main(["report", "--journal", str(tmp_path), "--all", "--format", form]) == 1
        assert "n3/journal.db" in capsys.readouterr().out


def test_a_folder_without_journals_says_so(tmp_path: Path) -> None:
    """And one journal alone must be sound."""
    with pytest.raises(JournalError, match=r"no journal \(\*\.db\)"):
        journals_of(tmp_path)
    assert journals_of(tmp_path / "x.db") == [tmp_path / "x.db"]


def test_a_single_journal_is_as_it_was(tmp_path: Path) -> None:
    """Alone or in a folder of its own."""
    path = day(tmp_path / "j.db")
    report = fleet_report_of(journals_of(tmp_path))
    assert report == fleet_report_of([path])
    assert report.sums.elapsed_ms(State.HELD_IDLE) > 0


PLACES = st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=7)
"""Where three GPUs are in each hour: in a node, or nowhere (0)."""


@settings(max_examples=25, deadline=None)
@given(places=PLACES)
def test_wherever_gpus_are_carried_each_hour_counts_once(places: Sequence[Sequence[int]]) -> None:
    """Active where one is seen; else down in the node that saw it last, from the first time on."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        paths = [
            node(
                folder,
                f"n{number}",
                *[{at: WORK for at, where in enumerate(hour) if where == number} for hour in places],
            )
            for number in (1, 2, 3)
            if any(number in hour for hour in places)
        ]
        if not paths:
            return
        report = fleet_report_of(paths)
    active = down = 0
    for at in range(3):
        seen = [bool(hour[at]) for hour in places]
        active += sum(seen)
        down += sum(not one for one in seen[seen.index(True) :]) if any(seen) else 0
    assert hours_of(report) == {
        state: float(amount) for state, amount in (("active", active), ("down", down)) if amount
    }
    assert report.inventory.gpu_ms == (active + down) * HOUR_MS
    assert report.identity_ok
