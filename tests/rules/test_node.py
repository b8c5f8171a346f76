"""Rules about the node itself: judged beside its GPUs, kept in the journal, told without a GPU."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from agent.journal_file import connect
from agent.quantities import Amount
from agent.restore import open_findings
from agent.scene import NODE_FIGURES
from agent.states import StateSettings
from agent.tick import Condition, Finding
from agent.view import Health, Standing
from gputally.own_figures import own_figures
from rules.load import built_in
from rules.node import NodeJudge
from tests.agent.histories import INTERVAL_MS, MIDNIGHT, books_at, steady_tick
from tests.rules.looks import FIGURES_COUNTED, SOUND_FIGURES
from tests.rules.scenes import GPUS, Stage

SOUND: Mapping[str, Amount] = {**SOUND_FIGURES, **FIGURES_COUNTED}
STUCK = {**SOUND, "stuck_probes": 1.0}
RULES = {name: rule for name, rule in built_in().items() if rule.about == "node"}
HEALTH = Health(
    blind_ticks=7,
    late_seconds=0.25,
    driver_seconds=12.5,
    stuck_probes=2,
    journal_failures=3,
    readings_dropped=4,
    worlds={"slurm": "slurmd does not answer", "kubernetes": ""},
    refused={},
)
STANDINGS = (
    Standing(name="fleet", waiting_ticks=12, refused_rows=1, dropped_ticks=30),
    Standing(name="mimir", waiting_ticks=90),
    Standing(name="pager", waiting_ticks=1_000, refused_rows=2),
)


def figures_of(condition: Condition = Condition.OK, gpus: int = 2) -> dict[str, Amount]:
    """Give the figures of a node with one GPU."""
    scene = Stage({}).scene({}, condition=condition)
    stores = {"fleet", "mimir"}
    return own_figures(scene, HEALTH, STANDINGS, stores=stores, interval_seconds=10.0, gpus=gpus)


def test_the_agent_knows_all_that_rules_may_ask_of_it() -> None:
    """Each figure, in its unit; how far an exporter of changes is behind has no length of time."""
    assert figures_of() == {
        "missing_gpus": 1.0,
        "blind_seconds_total": 70.0,
        "late_seconds": 0.25,
        "driver_seconds_total": 12.5,
        "stuck_probes": 2.0,
        "silent_worlds": 1.0,
        "journal_failures_total": 3.0,
        "readings_dropped_total": 4.0,
        "exporter_waiting_seconds": 900.0,
        "exporter_lost_total": 33.0,
    }
    assert figures_of().keys() == NODE_FIGURES.keys() == SOUND.keys()


def test_a_gpu_that_does_not_answer_is_missing_where_it_is_expected() -> None:
    """Without a number nothing is known, and more than expected is no fault."""
    assert figures_of(Condition.LOST)["missing_gpus"] == 2.0
    assert figures_of(gpus=0)["missing_gpus"] is None
    assert figures_of(gpus=1)["missing_gpus"] == 0.0


def seen(judge: NodeJudge, start_ms: int, intervals: int, figures: Mapping[str, Amount]) -> list[Finding]:
    """Judge some intervals of a node; give what is open in the end."""
    stage, found = Stage({}), list[Finding]()
    stage.end_ms = start_ms
    for _ in range(intervals):
        scene = stage.scene({})
        found = judge.judge(replace(scene, figures=figures))
    return found


def test_a_finding_about_the_node_has_no_gpu() -> None:
    """It says what was seen; the GPU beside it is sound."""
    (finding,) = seen(NodeJudge(built_in(), 10_000), MIDNIGHT, 61, STUCK)
    assert (finding.rule, finding.uuid) == ("gputally_probe_stuck", "")
    assert finding.summary == "a process hangs in the driver (stuck_probes 1)"


def test_without_figures_nothing_about_the_node_opens_or_closes() -> None:
    """As in the journal, which does not keep them."""
    judge = NodeJudge(RULES, 10_000)
    assert seen(judge, MIDNIGHT, 61, STUCK)
    assert seen(judge, MIDNIGHT + 610_000, 30, {}) == []
    assert seen(judge, MIDNIGHT + 910_000, 1, dict.fromkeys(SOUND))
    assert seen(judge, MIDNIGHT + 920_000, 8, SOUND) == []


def test_it_outlives_a_restart_and_closes_after_it(tmp_path: Path) -> None:
    """The journal has it without a GPU; the next agent goes on with it and closes it when all is well."""
    path = tmp_path / "journal.db"
    figures: Mapping[str, Amount] = STUCK

    def run(start_ms: int, intervals: int) -> list[Finding]:
        with books_at(path, StateSettings()) as books:
            judge = NodeJudge(RULES, INTERVAL_MS, books.findings.open)
            for turn in range(intervals):
                tick = steady_tick(start_ms + turn * INTERVAL_MS)
                books.post(
                    tick,
                    {},
                    judge=lambda scene: judge.judge(replace(scene, figures=figures)),
                )
            books.commit(start_ms)
        with closing(connect(path)) as db:
            return open_findings(db)

    turns = 600_000 // INTERVAL_MS + 1
    (opened,) = run(MIDNIGHT, turns)
    assert (opened.rule, opened.uuid) == ("gputally_probe_stuck", "")
    later_ms = MIDNIGHT + turns * INTERVAL_MS
    assert run(later_ms, 2) == [opened]
    figures = SOUND
    assert run(later_ms + 2 * INTERVAL_MS, 60_000 // INTERVAL_MS + 1) == []


def test_findings_about_gpus_are_those_of_the_engine() -> None:
    """One judge for both, and each sees its own rules."""
    stage = Stage({})
    judge = NodeJudge(built_in(), 10_000)
    found: list[Finding] = []
    for _ in range(70):
        scene = stage.scene({"row_remap_pending_flag": 1.0})
        found = judge.judge(replace(scene, figures=STUCK))
    assert {(one.rule, one.uuid) for one in found} == {
        ("row_remap_pending", GPUS[0]),
        ("gputally_probe_stuck", ""),
    }
