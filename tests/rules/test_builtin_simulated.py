"""The built-in rules over the simulated driver: sampler, books and states of a node, in virtual time."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from agent.scene import Scene
from agent.simulator import uninstall
from agent.states import StateSettings
from agent.tick import Finding
from gputally.run import holders_in
from gputally.settings import Settings
from rules.engine import Engine
from rules.load import built_in
from tests.agent.driven import Rig
from tests.agent.histories import books_at

RULES = built_in()
Opened = tuple[str, int]
"""A rule, and the index of a GPU."""


class Course:
    """What was open at the end of each interval of a simulation, by seconds since its beginning."""

    def __init__(
        self, text: str, seconds: float, folder: Path, *, blind: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        rig, engine = Rig(text), Engine(RULES, 10_000)
        holders = holders_in(rig.simulation, Settings(), rig.clock.wall_ms)
        places = {rig.uuid(index): index for index in range(rig.simulation.count)}
        self.open: dict[float, set[Opened]] = {}

        def judge(scene: Scene) -> Iterable[Finding]:
            findings = engine.judge(scene)
            at_seconds = (scene.end_ms - rig.clock.began_ms) / 1000
            self.open[at_seconds] = {(one.rule, places[one.uuid]) for one in findings}
            return findings

        try:
            with books_at(folder / "journal.db", StateSettings()) as books:
                for tick in rig.run(seconds):
                    if blind[0] <= (tick.end_ms - rig.clock.began_ms) / 1000 < blind[1]:
                        continue
                    books.xids.take(tick.xids, tick.end_ms)
                    gpus = {gpu.uuid: gpu for gpu in tick.gpus or ()}
                    books.post(tick, holders.holds(tick.readings, gpus), judge=judge)
        finally:
            holders.close()
            uninstall()

    def ever(self) -> set[Opened]:
        """Give all that was ever open."""
        return set().union(*self.open.values())

    def spans(self, rule: str, gpu: int) -> list[tuple[float, float]]:
        """Give from when to when a finding was open; one that still is ends with the last interval."""
        found: list[tuple[float, float]] = []
        before = False
        for at_seconds, now in self.open.items():
            if (rule, gpu) in now:
                found = (
                    [*found[:-1], (found[-1][0], at_seconds)]
                    if before
                    else [*found, (at_seconds, at_seconds)]
                )
            before = (rule, gpu) in now
        return found


@pytest.mark.parametrize("model", ["h200", "h100", "a100", "t4", "geforce"])
def test_training_at_the_power_cap_opens_nothing(model: str, tmp_path: Path) -> None:
    """Of any model, and with a checkpoint."""
    assert Course(f"{model}x2:training", 2_000, tmp_path).ever() == set()


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
    assert 120 <= begins <= 160
    assert 240 <= ends <= 380


def test_a_gpu_that_is_taken_out_is_down(tmp_path: Path) -> None:
    """The driver no longer enumerates it."""
    course = Course("h200x2:training!removed=1@+100..+300", 400, tmp_path)
    assert course.ever() == {("gpu_down", 1)}


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


def test_memory_that_waits_for_a_reset(tmp_path: Path) -> None:
    """A row to be remapped."""
    assert Course("h200x2:training!remap=1@+100", 400, tmp_path).ever() == {("row_remap_pending", 1)}


def test_modes_links_and_what_the_driver_asks_for(tmp_path: Path) -> None:
    """Each on its GPU, and over when the fault is."""
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


def test_a_narrow_link_is_told_at_work_only(tmp_path: Path) -> None:
    """Of a GPU that is free nobody can tell."""
    assert Course("h200x1:training!narrow=0:8", 1_500, tmp_path).ever() == {("pcie_lanes_low", 0)}


@pytest.mark.parametrize("model", ["h200", "t4"])
def test_a_free_gpu_opens_nothing(model: str, tmp_path: Path) -> None:
    """Its PCIe link dropped to save power, if it is a T4, and its clocks did."""
    assert Course(f"{model}x1:free!narrow=0:8", 2_000, tmp_path).ever() == set()


def test_held_without_work_opens_after_patience_and_a_little(tmp_path: Path) -> None:
    """A batch job may pause for half an hour; after two hours it is a warning."""
    course = Course("t4x1:held", 7_600, tmp_path)
    assert course.ever() == {("held_idle", 0), ("held_idle_long", 0)}
    ((begins, ends),) = course.spans("held_idle", 0)
    assert 1_880 <= begins <= 1_960
    assert ends > 7_500
    ((begins, _),) = course.spans("held_idle_long", 0)
    assert 7_000 <= begins <= 7_300
