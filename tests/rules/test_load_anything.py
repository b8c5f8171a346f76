"""Whatever a file of rules holds, it is understood or refused with one sentence."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import SettingsError
from rules.definition import KNOWN, SEVERITIES, Comparison
from rules.load import built_in, load

BUILT_IN = built_in()
BASE = '[noisy]\nsummary = "too loud"\nrunbook.action = "listen"\n'
"""A rule that wants only conditions."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file of rules."""
    return tmp_path / "rules.toml"


WORDS = st.sampled_from(
    [
        *KNOWN,
        *Comparison,
        *SEVERITIES,
        *("peers", "5m", "0s", "7d", "held_idle", "gpu_down", "idle", "batch", "critical", "sre", ""),
    ]
)
SCALARS = st.one_of(
    WORDS.map(lambda one: f'"{one}"'),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.sampled_from(["true", "false", "2026-01-06", "[]", "{}", "[48, 79]", '["batch"]', '["gpu_down"]']),
)
KEYS = st.sampled_from(
    [
        *("summary", "severity", "audience", "for", "clear_for", "coverage", "enabled", "workloads"),
        *("inhibited_by", "when", "runbook", "runbook.action", "runbook.cost", "when.idle", "when.margin"),
        *(f"when.{name}.{key}" for name in ("idle", "margin", "x") for key in (*Comparison, "quantity")),
        *(
            f"when.{name}.{key}"
            for name in ("idle", "margin", "x")
            for key in ("is", "over", "xids", "until")
        ),
        *("when.x.times", "when.x.plus", "when.x.but_not"),
    ]
)
LINES = st.tuples(KEYS, SCALARS).map(" = ".join)
HEADINGS = st.sampled_from(
    ["[held_idle]", "[thermal_margin_low]", "[noisy]", "[noisy.when.x]", "[[a]]", BASE]
)
FILES = st.lists(st.one_of(LINES, LINES, LINES, HEADINGS), max_size=12).map("\n".join)
UNHURRIED = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def harmless(path: Path, told: bytes) -> None:
    """Read whatever it is: rules, or SettingsError with one sentence."""
    path.write_bytes(told)
    sentence = f"{path} is understood"
    try:
        assert load(path).keys() >= BUILT_IN.keys()
    except SettingsError as error:
        sentence = str(error)
    assert str(path) in sentence
    assert "\n" not in sentence


@UNHURRIED
@given(text=FILES)
def test_no_rules_whatever_make_a_traceback(path: Path, text: str) -> None:
    """Keys and values that a rule has, in places where they do not belong."""
    harmless(path, text.encode())


@UNHURRIED
@given(text=st.one_of(st.text(), st.binary()))
def test_no_text_whatever_makes_a_traceback(path: Path, text: str | bytes) -> None:
    """Bytes, too."""
    harmless(path, text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
