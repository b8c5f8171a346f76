"""One truth: what opens and closes on a node opens and closes in Prometheus."""

import os
import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from agent.alerts import alert_name
from agent.promql import span
from agent.scene import Scene
from agent.tick import State
from gputally.rules import markdown
from rules.definition import Comparison, Condition, Rule, Runbook
from rules.fleet import fleet_rules
from rules.groups import Ruler, gpu_group, text_of
from rules.load import built_in
from tests.rules.histories import TURNS, World, history, shortened, some_rules
from tests.rules.scenes import GPUS, INTERVAL_MS, Stage
from tests.rules.test_engine import HOT, margin
from tests.rules.unit_tests import Open, judged, promtool, unit_test, unit_tested, write
from tests.stores.server import program

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "dashboards" / "alerts"
SHIPPED, RUNBOOKS = ALERTS / "gputally.rules.yaml", ROOT / "docs" / "runbooks.md"
BOOK = Runbook(action="look")
RULERS: tuple[Ruler, ...] = ("prometheus", "vmalert")


def changes(found: Sequence[Open]) -> int:
    """Count what opened and closed."""
    return sum(len(one ^ two) for one, two in pairwise(found))


def agree(folder: Path, several: Mapping[str, tuple[Mapping[str, Rule], Sequence[Scene | None]]]) -> int:
    """Let engine and Prometheus judge histories, by what is exported for it and for vmalert.

    Fails where they differ, else counts what changed.
    """
    files, changed = [], 0
    for name, (rules, scenes) in several.items():
        found = judged(rules, scenes)
        changed += changes(found)
        test = unit_test(scenes, found)
        files += [write(folder, f"{name}_{ruler}", rules, [test], ruler) for ruler in RULERS]
    said = unit_tested(files)
    assert not said, said[:10_000]
    return changed


def by_chance(first: int, count: int) -> dict[str, tuple[dict[str, Rule], list[Scene | None]]]:
    """Make rules and a history of each of some numbers."""
    made = {}
    for seed in range(first, first + count):
        chance = random.Random(seed)  # noqa: S311  no secrets
        rules = some_rules(chance)
        made[f"history_{seed}"] = rules, history(chance, World.of(rules))
    return made


def test_random_rules_open_and_close_as_on_the_node(tmp_path: Path) -> None:
    """Six histories with gaps, resets and lost GPUs: the same findings after each single interval."""
    assert agree(tmp_path, by_chance(0, 6)) > 150


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_random_rules_open_and_close_as_on_the_node(tmp_path: Path, block: int) -> None:
    """Two hundred others."""
    assert agree(tmp_path, by_chance(1_000 + 20 * block, 20)) > 500


@pytest.mark.parametrize("turns", [TURNS // 3, pytest.param(TURNS, marks=pytest.mark.slow)])
def test_built_in_rules_open_and_close_as_on_the_node(tmp_path: Path, turns: int) -> None:
    """All of them, with short windows, on values on and around their limits."""
    rules = shortened(built_in())
    chance = random.Random(6)  # noqa: S311  no secrets
    assert agree(tmp_path, {"built_in": (rules, history(chance, World.of(rules), turns))}) > turns


def test_prometheus_takes_what_is_exported(tmp_path: Path) -> None:
    """All rules, judged by the store or by the nodes."""
    for judge in ("store", "node"):
        path = tmp_path / f"{judge}.yaml"
        path.write_text(text_of(built_in(), fleet_rules(), INTERVAL_MS, judged_by=judge), encoding="utf-8")
        assert promtool("check", "rules", path) == ""


def test_vmalert_takes_what_is_exported(tmp_path: Path) -> None:
    """All rules, with their templates."""
    path = tmp_path / "rules.yaml"
    path.write_text(text_of(built_in(), fleet_rules(), INTERVAL_MS, ruler="vmalert"), encoding="utf-8")
    command = [program("vmalert", "victoria-metrics"), "-dryRun", "-rule", str(path), "-loggerLevel=ERROR"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_shipped_is_what_is_exported_golden() -> None:
    """The files for Prometheus and the runbooks are fresh; GOLDEN=write writes them anew."""
    texts = {
        SHIPPED: text_of(built_in(), fleet_rules(), INTERVAL_MS),
        ALERTS / "gputally.node.rules.yaml": text_of(
            built_in(), fleet_rules(), INTERVAL_MS, judged_by="node"
        ),
        RUNBOOKS: markdown(built_in()),
    }
    for path, text in texts.items():
        if os.environ.get("GOLDEN") == "write":
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("path", sorted(ALERTS.glob("*_test.yaml")), ids=lambda path: path.stem)
def test_shipped_unit_tests_pass(path: Path) -> None:
    """What a user may run beside the shipped rules says that they do what they should."""
    assert promtool("test", "rules", path) == ""


def test_every_alert_is_named_once_and_has_a_runbook() -> None:
    """No two rules share a name, a series or a heading, and every link leads to one."""
    groups = yaml.safe_load(text_of(built_in(), fleet_rules(), INTERVAL_MS))["groups"]
    entries = [entry for group in groups for entry in group["rules"]]
    names = [entry.get("alert") or entry["record"] for entry in entries]
    assert len(names) == len(set(names))
    headings = {line[3:] for line in markdown(built_in()).splitlines() if line.startswith("## ")}
    for entry in entries:
        if "alert" in entry:
            assert entry["annotations"]["runbook_url"].partition("#")[2] in headings
            assert {"summary", "action"} <= entry["annotations"].keys()
            assert {"rule", "severity", "audience"} == entry["labels"].keys()


def test_an_alert_says_what_is_seen_now(tmp_path: Path) -> None:
    """The summary has the value with the digits that the node gives it; labels are those of the GPU."""
    stage = Stage({"hot": HOT})
    scenes = [stage.scene(margin(4.25)) for _ in range(9)]
    (finding,) = judged_findings(HOT, scenes)
    own = {"gpu": "0", "instance": "hall2-n017:9740", "job": "gputally", "model": "NVIDIA H200"}
    own |= {"node": "hall2-n017", "uuid": GPUS[0], "rule": "hot", "severity": "warning", "audience": "sre"}
    told = {"summary": finding, "action": "look at the fans", "runbook_url": "docs/runbooks.md#hot"}
    test = unit_test(scenes, []) | {
        "alert_rule_test": [
            {
                "alertname": "GpuHot",
                "eval_time": "90s",
                "exp_alerts": [{"exp_labels": own, "exp_annotations": told}],
            }
        ]
    }
    assert promtool("test", "rules", write(tmp_path, "one", {"hot": HOT}, [test])) == ""


def judged_findings(rule: Rule, scenes: Sequence[Scene]) -> list[str]:
    """Give the summaries of what is open in the end."""
    engine = Stage({rule.name: rule}).engine
    return [one.summary for one in [engine.judge(scene) for scene in scenes][-1]]


def test_a_finding_outlives_an_hour_without_anybody_who_looks(tmp_path: Path) -> None:
    """A GPU that is no longer seen keeps its finding, and closes it when it is seen well."""
    stage = Stage({"hot": HOT})
    scenes: list[Scene | None] = [stage.scene(margin(4)) for _ in range(10)]
    scenes += [None] * 400
    stage.skip(400)
    scenes += [stage.scene(margin(9)) for _ in range(6)]
    found = judged({"hot": HOT}, scenes)
    assert [len(found[at]) for at in (6, 7, 409, 410)] == [0, 1, 1, 0]
    agree(tmp_path, {"away": ({"hot": HOT}, scenes)})


def test_a_gpu_that_moved_leaves_its_finding_behind(tmp_path: Path) -> None:
    """The finding of a GPU that is seen elsewhere, or under another index, ends."""
    stage = Stage({"hot": HOT})
    scenes: list[Scene | None] = [stage.scene(margin(4)) for _ in range(10)]
    moved = [replace(stage.scene(margin(9)), node="hall2-n018") for _ in range(10)]
    found = [*judged({"hot": HOT}, scenes), *[frozenset[tuple[str, str]]()] * 10]
    path = write(tmp_path, "moved", {"hot": HOT}, [unit_test([*scenes, *moved], found)])
    assert promtool("test", "rules", path) == ""


def test_a_state_that_is_not_known_closes_nothing(tmp_path: Path) -> None:
    """What a GPU is no longer known to do, it may still do."""
    idle = Condition(quantity="state", is_state="held_idle")
    rule = Rule(name="idle", summary="idle", when={"i": idle}, clear_seconds=30.0, runbook=BOOK)
    stage = Stage({"idle": rule})
    states = [State.HELD_IDLE, *[State.UNKNOWN] * 9, State.ACTIVE, State.UNKNOWN, *[State.ACTIVE] * 3]
    here = {GPUS[0]: "NVIDIA H200"}
    scenes = [replace(stage.scene({}, state=state), models=here) for state in states]
    assert [len(one) for one in judged({"idle": rule}, scenes)] == [1] * 10 + [0] * 5
    assert agree(tmp_path, {"idle": ({"idle": rule}, scenes)}) == 1


def test_rules_that_are_switched_off_are_not_exported() -> None:
    """Nor do they keep others quiet."""
    off = replace(HOT, name="off", enabled=False)
    child = replace(HOT, inhibited_by=("off",))
    text = yaml.safe_dump(gpu_group({"off": off, "hot": child}, INTERVAL_MS))
    assert "off" not in text.replace("offset", "")


def test_texts_with_braces_stay_texts(tmp_path: Path) -> None:
    """What looks like a template in a rule is shown as it is written."""
    rule = replace(
        HOT, for_seconds=0.0, summary="see {{ $labels.node }}", runbook=Runbook(action="{{ nothing")
    )
    stage = Stage({"hot": rule})
    scenes = [stage.scene(margin(4)) for _ in range(2)]
    path = write(tmp_path, "braces", {"hot": rule}, [unit_test(scenes, judged({"hot": rule}, scenes))])
    assert promtool("check", "rules", path.with_name("braces.yaml")) == ""
    assert promtool("test", "rules", path) == ""


def test_names_and_lengths_are_those_of_prometheus() -> None:
    """Rules in words, durations in units."""
    assert alert_name("thermal_margin_low") == "GpuThermalMarginLow"
    assert alert_name("gpu_down") == "GpuDown"
    assert [span(ms) for ms in (595_000, 500, 90_061_001)] == ["9m55s", "500ms", "1d1h1m1s1ms"]


def test_conditions_with_odd_names_are_told_apart(tmp_path: Path) -> None:
    """Two keys that differ only in characters that no series may have."""
    grown = Condition(
        quantity="pcie_replays_total", comparison=Comparison.ABOVE, number=1.0, over_seconds=30.0
    )
    rule = Rule(
        name="odd",
        summary="odd",
        when={
            "a b": grown,
            "a-b": replace(grown, number=2.0),
            "ä": Condition(quantity="state", is_state="active"),
        },
        runbook=BOOK,
    )
    stage = Stage({"odd": rule})
    values = (1.0, 2.0, 2.5, 5.0, 5.0, 5.0, 5.0)
    scenes = [stage.scene({"pcie_replays_total": value}, state=State.ACTIVE) for value in values]
    assert agree(tmp_path, {"odd": ({"odd": rule}, scenes)}) == 2
