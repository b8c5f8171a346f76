"""What the built-in rules say: complete, with queries and numbers that are ours, and in a sound order."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.quantities import QUANTITIES
from agent.tick import FAULTS, State
from agent.xid_catalogue import numbers_of
from exporters.catalogue import FAMILIES
from rules.definition import Comparison, Rule
from rules.load import built_in

RULES = built_in()
OF_GPUS = [rule for rule in RULES.values() if rule.about == "gpu"]
EVERY = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
FROM_METRIC = re.compile(r"gpu_[a-z0-9_]+")
LABELS = re.compile(r"(gpu_[a-z0-9_]+)\{([a-z_]+)=~?\"([^\"]*)\"\}")


@EVERY
def test_a_runbook_is_complete(rule: Rule) -> None:
    """Meaning, cost, how to confirm, what to do, and when it is wrong: sentences without a full stop."""
    for part in (
        rule.summary,
        rule.runbook.meaning,
        rule.runbook.cost,
        rule.runbook.confirm_query,
        rule.runbook.confirm_command,
        rule.runbook.action,
        rule.runbook.false_positives,
    ):
        assert part
        assert part.isascii()
        assert not part.endswith(".")
    assert len(rule.summary) <= 80 or rule.name == "persistence_mode_off"
    assert not rule.summary[0].isupper() or rule.summary.split()[0].isupper()


@EVERY
def test_a_query_is_about_metrics_that_we_have(rule: Rule) -> None:
    """With labels that they have, and values that these take."""
    query = rule.runbook.confirm_query
    for name in FROM_METRIC.findall(query):
        assert name in FAMILIES
    taken = {
        (f"gpu_{one.family}", label, value) for one in QUANTITIES.values() for label, value in one.labels
    }
    taken |= {("gpu_state", "state", state) for state in State}
    taken |= {("gpu_condition", "condition", why) for why in FAULTS}
    assert set(LABELS.findall(query)) <= taken
    for name in FROM_METRIC.findall(rule.runbook.action):
        assert name in FAMILIES


def test_queries_are_promql(tmp_path: Path) -> None:
    """Prometheus's own tool understands each of them."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed")
    path = tmp_path / "rules.yml"
    lines = ["groups:", "  - name: confirm", "    rules:"]
    for rule in RULES.values():
        query = rule.runbook.confirm_query.replace("'", "''")
        lines += [f"      - alert: {rule.name}", f"        expr: '{query}'"]
    path.write_text("\n".join(lines) + "\n")
    done = subprocess.run([tool, "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_parents_stand_before_their_children() -> None:
    """So that a fault that is both in one interval is told by the graver rule alone."""
    places = {name: place for place, name in enumerate(RULES)}
    for rule in RULES.values():
        assert all(places[parent] < places[rule.name] for parent in rule.inhibited_by), rule.name


def test_a_gpu_that_is_down_keeps_all_else_quiet_but_its_cause() -> None:
    """The XID that came with it is told."""
    free = {rule.name for rule in OF_GPUS if "gpu_down" not in rule.inhibited_by}
    assert free == {"gpu_down", "gpu_hung", "gpu_missing", "xid_critical"}


def test_the_tiers_of_xids_do_not_overlap() -> None:
    """Each is what the catalogue says, but for what other rules tell or what says nothing."""
    (critical,) = RULES["xid_critical"].when.values()
    (warning,) = RULES["xid_warning"].when.values()
    assert critical.xids == numbers_of("critical")
    assert set(warning.xids) == set(numbers_of("warning")) - {45, 154}
    assert not set(critical.xids) & set(warning.xids)


def test_no_temperature_is_absolute() -> None:
    """Each is compared with a limit of the device or with its peers; only margins have numbers."""
    for rule in RULES.values():
        for condition in rule.when.values():
            if condition.quantity.endswith("_celsius") and "margin" not in condition.quantity:
                assert condition.of, rule.name


def test_what_hovers_has_a_second_limit() -> None:
    """A measured value on one side of a number; not flags, codes and counts, nor what only goes along."""
    measured = ("_celsius", "_ratio")
    guards = {"spins", "single", "double"}
    for rule in RULES.values():
        for name, condition in rule.when.items():
            if condition.quantity.endswith(measured) and name not in guards:
                assert condition.until is not None, f"{rule.name} {name}"


def test_what_costs_nothing_is_no_warning() -> None:
    """A GPU at its limit of power, one warmer than others, and one that is free, or idle for some minutes."""
    info = {rule.name for rule in RULES.values() if rule.severity == "info"}
    assert info == {"power_capped_long", "hotter_than_peers", "held_idle", "free_long"}
    assert {rule.name for rule in RULES.values() if rule.audience == "planner"} == {"free_long"}
    assert {rule.name for rule in RULES.values() if rule.audience == "owner"} == {
        name for name in RULES if name.startswith("held_")
    }


def test_persistence_mode_off_keeps_its_name_and_says_what_to_enable() -> None:
    """Journals hold findings of this name from before rules were data."""
    rule = RULES["persistence_mode_off"]
    (condition,) = rule.when.values()
    assert (condition.quantity, condition.comparison, condition.number) == (
        "persistence_mode_flag",
        Comparison.AT_MOST,
        0.0,
    )
    assert (rule.severity, rule.for_seconds) == ("warning", 0.0)
    assert "systemctl enable --now nvidia-persistenced" in rule.runbook.action
