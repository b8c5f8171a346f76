"""The built-in rules over the simulated driver: sampler, books and states of a node, in virtual time."""

from pathlib import Path

import pytest

from tests.rules.played import PLAYED, RULES, Course

SLACK_SECONDS = 90.0
"""What changes seldom is read once a minute, and an interval has to end."""


def test_every_rule_about_gpus_has_a_course() -> None:
    """And no course is of a rule that is no more."""
    assert PLAYED.keys() == {name for name, rule in RULES.items() if rule.about == "gpu"}


@pytest.mark.parametrize("name", PLAYED)
def test_a_rule_opens_on_its_fault_and_closes_after_it(name: str, tmp_path: Path) -> None:
    """On the GPU that has it, as soon as the rule says and no sooner, and nothing else does."""
    rule, played = RULES[name], PLAYED[name]
    begins, ends = played.fault_seconds
    over = max(one.over_seconds for one in rule.when.values())
    slack = SLACK_SECONDS + 3 * played.every_seconds
    closed = ends + rule.clear_seconds + over + played.cools_seconds + slack
    course = Course(
        played.text,
        closed + slack,
        tmp_path,
        every_seconds=played.every_seconds,
        workload=played.workload,
    )
    assert course.ever() == {(one, played.gpu) for one in (name, *played.also)}
    ((opened, last),) = course.spans(name, played.gpu)
    soonest = begins + rule.for_seconds - played.every_seconds
    assert soonest <= opened <= soonest + played.warms_seconds + over + slack
    assert ends + rule.clear_seconds - 2 * played.every_seconds <= last <= closed
    assert course.open[max(course.open)] == set()


@pytest.mark.parametrize("model", ["h200", "h100", "a100", "t4", "geforce"])
def test_training_at_the_power_cap_opens_nothing(model: str, tmp_path: Path) -> None:
    """Of any model, and with a checkpoint; as seen by the rings of one."""
    assert Course(f"{model}x2:training", 2_000, tmp_path, rings=model == "h200").ever() == set()


def test_heat_is_told_once_and_by_what_is_gravest(tmp_path: Path) -> None:
    """Without margin the low margin is not told as well; the memory beside the core is."""
    course = Course("h200x1:hot", 2_400, tmp_path)
    assert {rule for rule, _ in course.ever()} == {
        "thermal_margin_critical",
        "thermal_slowdown_hardware",
        "memory_hot",
    }
    ((begins, _),) = course.spans("thermal_margin_critical", 0)
    assert 240 <= begins <= 320


def test_a_board_that_tells_temperatures_is_near_shutdown(tmp_path: Path) -> None:
    """An A100 has no margins of its own; it is judged by the temperature at which it switches off."""
    assert ("near_shutdown_core", 0) in Course("a100x1:hot", 120, tmp_path).ever()


def test_a_gpu_that_falls_off_is_down_and_nothing_else(tmp_path: Path) -> None:
    """From minute 2 to 4; it is told within a minute, and over when it answered for two."""
    course = Course("h200x2:lost", 560, tmp_path)
    assert course.ever() == {("gpu_down", 0)}
    ((begins, ends),) = course.spans("gpu_down", 0)
    assert 120 <= begins <= 180
    assert 240 <= ends <= 380


def test_an_agent_that_is_gone_opens_and_closes_nothing(tmp_path: Path) -> None:
    """What was open before stays, and what the GPUs did meanwhile is not made up."""
    text = "h200x2:training!unpersistent=0@+50..+1500!unpersistent=1@+200..+500"
    course = Course(text, 1_200, tmp_path, blind=(100, 700))
    assert course.ever() == {("persistence_mode_off", 0)}
    ((begins, ends),) = course.spans("persistence_mode_off", 0)
    assert begins < 130
    assert ends > 1_190


def test_xids_open_by_their_tier(tmp_path: Path) -> None:
    """79 needs a drain, 94 a word, 31 is the job's own; ten minutes later all is said."""
    course = Course("h200x3:training!xid=0:79@+60!xid=1:94@+60!xid=2:31@+60!xid=2:45@+61", 800, tmp_path)
    assert course.ever() == {("xid_critical", 0), ("xid_warning", 1)}
    for rule, gpu in course.ever():
        ((begins, ends),) = course.spans(rule, gpu)
        assert 60 <= begins <= 80
        assert 590 <= ends - begins <= 600


def test_memory_errors_open_when_they_were_not_corrected(tmp_path: Path) -> None:
    """A storm of corrected ones does not."""
    course = Course("h200x2:training!ecc=0:900000:0@+100!ecc=1:0:1@+100", 1_000, tmp_path)
    assert course.ever() == {("ecc_uncorrected", 1)}
    ((_, ends),) = course.spans("ecc_uncorrected", 1)
    assert ends > 990


def test_several_faults_are_told_each_on_its_gpu(tmp_path: Path) -> None:
    """Modes, links and what the driver asks for, on one node and over when the fault is."""
    text = (
        "h200x4:training!unpersistent=0@+200..+500!linkdown=1:3@+200..+900"
        "!recovery=2:1@+200..+500!recovery=3:3@+200..+500!fabric=0:2@+600..+1200"
    )
    course = Course(text, 1_700, tmp_path)
    assert course.ever() == {
        ("persistence_mode_off", 0),
        ("nvlink_down", 1),
        ("recovery_reset_asked", 2),
        ("recovery_drain_asked", 3),
        ("fabric_not_ready", 0),
    }
    assert course.open[max(course.open)] == set()


@pytest.mark.parametrize("model", ["h200", "t4"])
def test_a_free_gpu_opens_nothing(model: str, tmp_path: Path) -> None:
    """Its PCIe link dropped to save power, if it is a T4, and its clocks did."""
    assert Course(f"{model}x1:free!narrow=0:8", 2_000, tmp_path).ever() == set()


# The nearest harmless thing


@pytest.mark.parametrize(
    "text",
    [
        "h200x2:training!hang=1@+100..+103!slowcalls=0:20@+100..+400",
        "h200x2:training!removed=1@+100..+104",
        "geforcex2:free!fanstop=1",
        "h200x1:training!plays=0:given@+100..+1850",
        "h200x2:free!leak=1",
        "h200x1:training!leak=0@+100..+650",
    ],
    ids=[
        "calls that take long and return",
        "out for less than anybody looks",
        "a fan that rests while it is cool",
        "a job that loads its data for half an hour",
        "no process and no memory",
        "a process that just ended",
    ],
)
def test_what_is_nearly_a_fault_opens_nothing(text: str, tmp_path: Path) -> None:
    """Of a GPU that hangs, is missing, has a fan that failed, is held or has memory that nobody has."""
    assert Course(text, 2_100, tmp_path).ever() == set()


def test_a_job_that_idles_with_a_process_is_not_held_without_one(tmp_path: Path) -> None:
    """It is held idle, and no more is said."""
    assert Course("t4x1:held", 2_200, tmp_path).ever() == {("held_idle", 0)}


def test_a_lost_gpu_is_down_and_not_missing(tmp_path: Path) -> None:
    """The driver still counts it."""
    course = Course("h200x2:training!lost=1@+100..+400", 500, tmp_path)
    assert course.ever() == {("gpu_down", 1)}


@pytest.mark.parametrize("scenario", ["computing", "stalled"])
def test_work_without_matrices_stalls_only_if_it_does_nothing(scenario: str, tmp_path: Path) -> None:
    """Physics in double precision is as busy as a collective that waits for ever."""
    course = Course(f"h200x1:{scenario}", 1_200, tmp_path)
    assert course.ever() == ({("stalled", 0)} if scenario == "stalled" else set())
