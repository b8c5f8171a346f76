"""Rules as text: what a file of the user changes, what it adds, and that a wrong one is refused well."""

from pathlib import Path
from typing import Any

import pytest

from agent.errors import SettingsError
from agent.xid_catalogue import numbers_of
from rules.definition import Comparison, Condition
from rules.load import LONGEST_BYTES, built_in, load

BUILT_IN = built_in()
BASE = '[noisy]\nsummary = "too loud"\nrunbook.action = "listen"\n'
"""A rule that wants only conditions."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file of rules."""
    return tmp_path / "rules.toml"


def read(path: Path, text: str) -> dict[str, Any]:
    """Read a text as a file of the user."""
    path.write_text(text, encoding="utf-8")
    return load(path)


def refused(path: Path, text: str) -> str:
    """Give the one sentence with which a text is refused, without the file's name."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 3_000
    assert str(path) in sentence
    return sentence.replace(str(path), "FILE")


# What a file changes


def test_without_a_file_the_rules_are_those_built_in(path: Path) -> None:
    """And so they are with an empty one."""
    assert load(None) == BUILT_IN
    assert read(path, "") == BUILT_IN
    assert read(path, "\ufeff# with a mark at its beginning\n") == BUILT_IN


def test_one_figure_is_changed_and_nothing_else(path: Path) -> None:
    """Down to a limit of one condition."""
    rules = read(path, "[thermal_margin_low]\nwhen.margin.at_most = 3\n")
    before = BUILT_IN["thermal_margin_low"]
    after = rules.pop("thermal_margin_low")
    assert rules == {name: rule for name, rule in BUILT_IN.items() if name != "thermal_margin_low"}
    assert after.when == {
        "margin": Condition(
            quantity="temperature_margin_celsius", comparison=Comparison.AT_MOST, number=3.0, until=8.0
        )
    }
    assert (after.summary, after.for_seconds, after.runbook) == (
        before.summary,
        before.for_seconds,
        before.runbook,
    )


def test_every_key_of_a_rule_can_be_changed(path: Path) -> None:
    """Texts, durations, lists, flags, and single texts of the runbook."""
    text = """
    [held_idle]
    summary = "idle"
    severity = "critical"
    audience = "sre"
    for = "1.5h"
    clear_for = "90s"
    coverage = 0.5
    workloads = ["serving", "batch"]
    inhibited_by = []
    enabled = false
    runbook.cost = "much"
    """
    rule = read(path, text)["held_idle"]
    assert (rule.summary, rule.severity, rule.audience) == ("idle", "critical", "sre")
    assert (rule.for_seconds, rule.clear_seconds, rule.coverage_ratio) == (5_400.0, 90.0, 0.5)
    assert (rule.workloads, rule.inhibited_by, rule.enabled) == (("serving", "batch"), (), False)
    assert rule.runbook.cost == "much"
    assert rule.runbook.action == BUILT_IN["held_idle"].runbook.action


def test_a_comparison_takes_the_place_of_another(path: Path) -> None:
    """At most becomes below; what belonged to a limit of another kind goes with it."""
    rules = read(path, "[thermal_margin_low]\nwhen.margin.below = 5\n[memory_hot]\nwhen.memory.above = 95\n")
    assert rules["thermal_margin_low"].when["margin"].comparison is Comparison.BELOW
    assert rules["thermal_margin_low"].when["margin"].until == 8.0
    (memory,) = rules["memory_hot"].when.values()
    assert (memory.number, memory.of, memory.plus, memory.until) == (95.0, "", 0.0, None)


def test_a_condition_can_be_added_to_a_rule_that_is_built_in(path: Path) -> None:
    """Beside those that it has, whatever it is called."""
    text = '[held_idle]\nwhen.above = { quantity = "memory_used_bytes", above = 1e9 }\n'
    assert set(read(path, text)["held_idle"].when) == {"idle", "above"}


def test_a_rule_of_ones_own(path: Path) -> None:
    """It stands behind those that are built in, and may be kept quiet by them."""
    text = """
    [too_hot_for_us]
    summary = "hotter than this hall can bear"
    when.core = { quantity = "temperature_celsius", above = "peers", times = 1.1, plus = 3, until = 1 }
    when.xid = { quantity = "xid_errors_total", at_least = 2, over = "1h", xids = "user", but_not = [13] }
    for = "10m"
    inhibited_by = ["gpu_down"]
    runbook.action = "open a window"
    """
    rules = read(path, text)
    assert list(rules)[:-1] == list(BUILT_IN)
    rule = rules["too_hot_for_us"]
    assert rule.when["core"] == Condition(
        quantity="temperature_celsius",
        comparison=Comparison.ABOVE,
        of="peers",
        times=1.1,
        plus=3.0,
        until=1.0,
    )
    assert rule.when["xid"].xids == tuple(one for one in numbers_of("user") if one != 13)
    assert (rule.severity, rule.audience, rule.coverage_ratio) == ("warning", "sre", 0.8)


# What is refused


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("noise = 3\n", "FILE:1: [noise] must be a rule: a table like [name_of_the_rule]"),
        ("\n[Noise]\n", "FILE:2: [Noise] must be a rule"),
        ("[[noise]]\n", "FILE:1: [noise] must be a rule"),
        ("[held_idle]\nfoo = 1\n", "FILE:2: [held_idle] foo: unknown; known are summary, about, severity"),
        ("[held_idle]\nfor = 5\n", "FILE:2: [held_idle] for: 5 is no duration: write '90s'"),
        ("[held_idle]\nfor = '5 m'\n", "FILE:2: [held_idle] for: '5 m' is no duration"),
        ("[held_idle]\nfor = '8d'\n", "FILE:2: [held_idle] for: must lie between 0 and 7d"),
        ("[held_idle]\n\nclear_for = ''\n", "FILE:3: [held_idle] clear_for: '' is no duration"),
        ("[held_idle]\nseverity = 'bad'\n", "FILE:2: [held_idle] severity: must be one of critical, warning"),
        (
            "[held_idle]\naudience = 'me'\n",
            "FILE:2: [held_idle] audience: must be one of sre, planner, owner",
        ),
        ("[held_idle]\nsummary = 3\n", "FILE:2: [held_idle] summary: must be a text in quotes"),
        ("[held_idle]\nsummary = ' '\n", "FILE:2: [held_idle] summary: a rule says what it is about"),
        ("[held_idle]\nenabled = 'no'\n", "FILE:2: [held_idle] enabled: must be true or false, not 'no'"),
        ("[held_idle]\ncoverage = 0\n", "FILE:2: [held_idle] coverage: must lie above 0 and not above 1"),
        ("[held_idle]\ncoverage = nan\n", "FILE:2: [held_idle] coverage: must be a number, not nan"),
        ("[held_idle]\ncoverage = true\n", "FILE:2: [held_idle] coverage: must be a number, not True"),
        ("[held_idle]\nworkloads = 'batch'\n", "FILE:2: [held_idle] workloads: must be a list like"),
        (
            "[held_idle]\nworkloads = ['batsch']\n",
            "FILE:2: [held_idle] workloads: must be some of batch, interactive, serving",
        ),
        (
            (
                "[x]\nsummary = 'x'\nrunbook.action = 'x'\nabout = 'node'\nwhen.w.quantity = 'power_watts'\n"
                "when.w.above = 1\n"
            ),
            "FILE:5: [x] when.w.quantity: a rule about the node is about one of missing_gpus, ",
        ),
        (
            "[x]\nsummary = 'x'\nrunbook.action = 'x'\nwhen.w.quantity = 'missing_gpus'\nwhen.w.above = 1\n",
            "FILE:4: [x] when.w.quantity: missing_gpus is of the node: say about = 'node'",
        ),
        (
            "[held_idle]\nabout = 'rack'\n",
            "FILE:2: [held_idle] about: must be one of gpu, node",
        ),
        (
            "[gpu_down]\ninhibited_by = ['held_idle']\n",
            "FILE:2: [gpu_down] inhibited_by: rules keep each other quiet: gpu_down < held_idle < gpu_down",
        ),
        (
            "[held_idle]\ninhibited_by = ['down']\n",
            "FILE:2: [held_idle] inhibited_by: there is no other rule 'down': choose among",
        ),
        (
            "[held_idle]\ninhibited_by = ['held_idle']\n",
            "FILE:2: [held_idle] inhibited_by: there is no other",
        ),
        (
            "[held_idle]\nrunbook.actoin = 'x'\n",
            "FILE:2: [held_idle] runbook.actoin: unknown; known are meaning",
        ),
        ("[held_idle.runbook]\naction = ''\n", "FILE:2: [held_idle] runbook.action: a rule says what to do"),
        ("[held_idle]\nrunbook = 'x'\n", "FILE:2: [held_idle] runbook: must be a table, not 'x'"),
        ("[held_idle]\nwhen = []\n", "FILE:2: [held_idle] when: must be a table, not a list"),
        ("[held_idle]\nwhen.idle = 1\n", "FILE:2: [held_idle] when.idle: must be a table, not 1"),
        (
            "[held_idle]\nwhen.idle.is = 'idle'\n",
            "FILE:2: [held_idle] when.idle.is: no state 'idle': there is",
        ),
        (
            "[held_idle]\nwhen.idle.is = 'unknown'\n",
            "FILE:2: [held_idle] when.idle.is: no state 'unknown': what is not known neither",
        ),
        ("[held_idle]\nwhen.idle.until = 1\n", "FILE:2: [held_idle] when.idle.until: a state has no second"),
        (
            "[held_idle]\nwhen.'a b'.is = 'free'\n",
            "FILE:2: [held_idle] when: 'a b' is no name of a condition",
        ),
        ("[noisy]\n", "FILE:1: [noisy] when: a rule needs at least one condition"),
        (
            "[noisy]\nwhen.a = { quantity = 'busy_ratio', above = 0.5 }\n",
            "FILE:1: [noisy] summary: a rule says what it is about",
        ),
        (BASE, "FILE:1: [noisy] when: a rule needs at least one condition"),
        (
            BASE + "when.a.quantity = 'temperatur_celsius'\nwhen.a.above = 1\n",
            "FILE:4: [noisy] when.a.quantity: there is no quantity 'temperatur_celsius': do you mean temp",
        ),
        (
            BASE + "when.a.above = 1\n",
            "FILE:4: [noisy] when.a.quantity: there is no quantity ''; `gputally metrics` lists them",
        ),
        (
            BASE + "[noisy.when.a]\nquantity = 'busy_ratio'\n",
            "FILE:4: [noisy] when.a: wants exactly one of at_most, at_least, below, above, or is = STATE",
        ),
        (
            BASE + "when.a = { quantity = 'busy_ratio', above = 1, below = 2 }\n",
            "FILE:4: [noisy] when.a: wants exactly one of",
        ),
        (
            BASE + "when.a = { quantity = 'busy_ratio', above = 'power_wats' }\n",
            "FILE:4: [noisy] when.a.above: a limit is a number, 'peers', 'job' or a gauge, not 'power_wats'",
        ),
        (
            BASE + "when.a = { quantity = 'busy_ratio', above = 'energy_joules_total' }\n",
            "FILE:4: [noisy] when.a.above: a limit is a number, 'peers', 'job' or a gauge",
        ),
        (
            BASE + "when.a = { quantity = 'up', below = 'peers' }\n",
            "FILE:4: [noisy] when.a.below: only a gauge is compared with another quantity",
        ),
        (
            BASE + "when.a = { quantity = 'busy_ratio', above = 0.5, over = '5m' }\n",
            "FILE:4: [noisy] when.a.over: a counter, and only a counter",
        ),
        (
            BASE + "when.a = { quantity = 'pcie_replays_total', above = 5 }\n",
            "FILE:4: [noisy] when.a.over: a counter, and only a counter",
        ),
        (
            BASE + "when.a = { quantity = 'pcie_replays_total', above = 5, over = '30d' }\n",
            "FILE:4: [noisy] when.a.over: must lie between 0 and 7d",
        ),
        (
            BASE + "when.a = { quantity = 'busy_ratio', above = 0.5, times = 2 }\n",
            "FILE:4: [noisy] when.a.times: belongs to a limit that is 'peers', 'job' or another quantity",
        ),
        (
            BASE + "when.a = { quantity = 'busy_ratio', above = 0.5, until = 0.6 }\n",
            "FILE:4: [noisy] when.a.until: closes before it opens: 0.6 must not lie above 0.5",
        ),
        (
            BASE + "when.a = { quantity = 'xid_errors_total', above = 0, over = '1h', xids = 'grave' }\n",
            "FILE:4: [noisy] when.a.xids: must be a list like [48, 79], or one of critical, warning",
        ),
        (
            BASE + "when.a = { quantity = 'xid_errors_total', above = 0, over = '1h', xids = [-1] }\n",
            "FILE:4: [noisy] when.a.xids: numbers of XIDs lie between 0 and 9999",
        ),
        (
            BASE + "when.a = { quantity = 'xid_errors_total', above = 0, xids = [48], but_not = [48] }\n",
            "FILE:4: [noisy] when.a.xids: a condition on XIDs, and only one, lists their numbers",
        ),
        (
            "[thermal_margin_low]\nfor = '1m'\nwhen.margin.at_most = 9\n",
            "FILE:3: [thermal_margin_low] when.margin.until: closes before it opens: 8 must not lie below 9",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_line_key_and_choices(path: Path, text: str, sentence: str) -> None:
    """File, line and key as they stand in the user's file, and what could stand there."""
    assert refused(path, text).startswith(sentence)


def test_the_line_is_that_of_the_condition_that_is_meant(path: Path) -> None:
    """Not of another with the same key, nor of a text of several lines that looks like it."""
    text = (
        BASE
        + 'runbook.meaning = """\nwhen.b.above = "1"\n"""\n'
        + "when.a.quantity = 'busy_ratio'\nwhen.a.above = 0.5\n"
        + "when.b.quantity = 'busy_ratio'\nwhen.b.above = true\n"
    )
    assert refused(path, text).startswith("FILE:10: [noisy] when.b.above: must be a number, not True")


def test_a_file_that_is_no_toml_is_refused_with_its_line(path: Path) -> None:
    """As the parser says it."""
    assert refused(path, "[held_idle]\nfor = \n").startswith("FILE is no TOML: ")
    assert "line 2" in refused(path, "[held_idle]\nfor = \n")
    assert "line 2" in refused(path, "[held_idle]\n[held_idle]\n")


def test_a_file_that_cannot_be_read_is_refused(path: Path) -> None:
    """Missing, a folder, not UTF-8, too long, or of a name that no file can have."""
    for wrong in (path, path.parent, Path("\0")):
        with pytest.raises(SettingsError, match="cannot read the rules"):
            load(wrong)
    path.write_bytes(b"\xff\xfe[held_idle]")
    with pytest.raises(SettingsError, match="cannot read the rules"):
        load(path)
    assert "longer than 1 MiB" in refused(path, "#" + "x" * LONGEST_BYTES)


@pytest.mark.parametrize(
    "value",
    [
        "0x" + "f" * 100_000,
        "9" * 400,
        "1e400",
        "[" * 100 + "]" * 100,
        "{ " + ".".join(["a"] * 5_000) + " = 1 }",
        "'" + "x" * 100_000 + "'",
        "'\u202e\u0007'",
        "2026-01-06T12:00:00Z",
        "12:00:00",
    ],
    ids=["hexadecimal", "long", "infinite", "deep list", "deep table", "long text", "marks", "date", "time"],
)
def test_what_python_would_not_even_print_is_refused(path: Path, value: str) -> None:
    """In every place where something else is wanted."""
    for key in (
        "for",
        "severity",
        "coverage",
        "enabled",
        "inhibited_by",
        "runbook",
        "when",
        "when.idle.is",
        "when.x.quantity",
        "when.x.xids",
    ):
        assert refused(path, f"[held_idle]\n{key} = {value}\n").isprintable()
