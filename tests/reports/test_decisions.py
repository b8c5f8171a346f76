"""Decisions: what stands out is said with its hours, what does not is not."""

from pathlib import Path

from agent.tally import HOUR_MS
from agent.tick import Condition, Gpu, Holder
from reports.outline import Decision
from tests.reports.small import ALICE, BOB, Deed, Small, day, gpu, report_of

FREE = (
    "find work for 4.0 GPU-hours that nobody held (25.0 % of the inventory, as if 1.0 GPUs stood free), "
    "or buy fewer"
)
WORK: Deed = (BOB, {"busy_ratio": 0.9})
IDLE: Deed = (ALICE, {"busy_ratio": 0.0})


def decisions(small: Small) -> dict[str, Decision]:
    """Save a journal and give the decisions of its report by kind."""
    small.save()
    return {decision.kind: decision for decision in report_of(small.path, price=2.0).decisions}


def test_a_fleet_at_work_needs_no_decision(tmp_path: Path) -> None:
    """Nothing is made up to fill the list."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(8 * HOUR_MS, {gpu(0): WORK})
    assert decisions(small) == {}


def test_each_kind_of_loss_has_its_sentence(tmp_path: Path) -> None:
    """Idle, free, down and unknown hours are named with their share, the most hours first."""
    report = report_of(day(tmp_path / "journal.db"), price=2.0)
    assert [(decision.text, decision.gpu_hours, decision.cost) for decision in report.decisions] == [
        (FREE, 4.0, 8.0),
        ("GPU-00000003-aaaa on node n1 was down 3.0 h: see why, repair or replace it", 3.0, 6.0),
        ("reclaim 3.0 GPU-hours held idle by alice (18.8 % of the inventory)", 3.0, 6.0),
        ("find out why 12.5 % of the time is unknown", 2.0, 4.0),
    ]


def test_a_week_is_told_per_week(tmp_path: Path) -> None:
    """168 hours held, less the half hour of patience."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(168 * HOUR_MS, {gpu(0): IDLE, gpu(1): WORK})
    found = decisions(small)["reclaim"]
    assert found.text == "reclaim 167.5 GPU-hours per week held idle by alice (49.9 % of the inventory)"


def test_longer_windows_give_the_rate_and_the_sum(tmp_path: Path) -> None:
    """Three weeks: 503.5 hours in all, 167.8 per week."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(3 * 168 * HOUR_MS, {gpu(0): IDLE})
    found = decisions(small)["reclaim"]
    assert found.text.startswith("reclaim 167.8 GPU-hours per week (503.5 in all) held idle by alice")
    assert found.gpu_hours == 503.5


def test_idle_time_without_a_name_asks_who_it_is(tmp_path: Path) -> None:
    """Nobody can be told to release what nobody is known to hold."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(8 * HOUR_MS, {gpu(0): (None, {"busy_ratio": 0.0, "memory_used_bytes": 3e10})})
    assert decisions(small)["reclaim"].text.startswith("find out who holds 7.5 GPU-hours idle without a name")


def test_an_owner_who_is_barely_busy_is_asked_why(tmp_path: Path) -> None:
    """8 active hours at 10 % leave 7.2 hours."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(8 * HOUR_MS, {gpu(0): (BOB, {"busy_ratio": 0.1})})
    found = decisions(small)["barely_busy"]
    assert found.text == "see why the active GPUs of bob were busy only 10.0 % of the time"
    assert (found.gpu_hours, found.cost) == (7.2, 14.4)


def test_there_are_never_more_than_five(tmp_path: Path) -> None:
    """With everything wrong at once the most hours win; two owners are enough."""
    small = Small(tmp_path / "journal.db")
    owners = [Holder(kind="slurm", name=str(number), owner=f"team{number}") for number in range(4)]
    does: dict[Gpu, Deed] = {}
    for number, holder in enumerate(owners):
        does[gpu(number)] = (holder, {"busy_ratio": 0.0})
        does[gpu(10 + number)] = (None, Condition.LOST)
        does[gpu(20 + number)] = (None, None)
        does[gpu(30 + number)] = (holder, {"busy_ratio": 0.1})
    small.pass_by(24 * HOUR_MS, does)
    small.save()
    kinds = [decision.kind for decision in report_of(small.path).decisions]
    assert kinds == ["down", "unknown", "reclaim", "reclaim", "barely_busy"]


def test_many_failed_gpus_are_one_decision(tmp_path: Path) -> None:
    """Their hours are added up, and the worst is named."""
    small = Small(tmp_path / "journal.db")
    small.pass_by(2 * HOUR_MS, {gpu(number): (None, Condition.LOST) for number in range(3)})
    small.pass_by(HOUR_MS, {gpu(0): WORK, gpu(1): (None, Condition.LOST), gpu(2): WORK})
    found = decisions(small)["down"]
    assert found.text == (
        "repair or replace 3 GPUs that were down, above all GPU-00000001-aaaa on node n1 (3.0 h)"
    )
    assert found.gpu_hours == 7.0
