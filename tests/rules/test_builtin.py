"""Every built-in rule: its fault opens it, what is nearly that does not, and it closes by its own limit."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.tick import State
from rules.definition import FAULTS, Rule
from rules.load import built_in
from tests.rules.cases import Case
from tests.rules.every_case import CASES
from tests.rules.looks import FREE, IDLE, SILENT, SOUND, UNSEEN, Look, Post

RULES = built_in()
LONG_SECONDS = 3_600.0
SLACK_SECONDS = 180.0
"""More than an interval, however long, and than any wait for coverage."""

EVERY = pytest.mark.parametrize("name", sorted(RULES))
WITH_FOR = pytest.mark.parametrize("name", sorted(n for n, one in RULES.items() if one.for_seconds >= 60))
WITH_UNTIL = pytest.mark.parametrize(
    "name", sorted(n for n, one in RULES.items() if any(c.until is not None for c in one.when.values()))
)


def post_for(rule: Rule, case: Case) -> Post:
    """Make a node with all rules that was well for a while; slow rules are judged once a minute."""
    post = Post(RULES, 60_000 if max(rule.for_seconds, rule.clear_seconds) > LONG_SECONDS else 10_000)
    assert post.see(case.well, 1_200) == set()
    return post


def window_seconds(rule: Rule) -> float:
    """Give the longest time over which the rule asks for growth."""
    return max(one.over_seconds for one in rule.when.values())


def lasting_seconds(name: str) -> float:
    """Give a time in which the fault of a rule opens it; an XID comes once."""
    rule = RULES[name]
    return SLACK_SECONDS + (0 if CASES[name].fault.xids else rule.for_seconds + window_seconds(rule))


def opened(name: str) -> Post:
    """Let the fault of a rule last until it opened."""
    post = post_for(RULES[name], CASES[name])
    assert name in post.see(CASES[name].fault, lasting_seconds(name))
    return post


def test_every_rule_has_a_case() -> None:
    """A rule that nobody tried is not built in; one with a second limit says what lies between the two."""
    assert set(CASES) == set(RULES)
    for name, rule in RULES.items():
        has_until = any(one.until is not None for one in rule.when.values())
        assert (CASES[name].between is not None) == has_until, name
        assert CASES[name].harmless, name


@EVERY
def test_its_fault_opens_it(name: str) -> None:
    """And nothing else but what rightly comes with it: parents keep their children quiet."""
    rule, case = RULES[name], CASES[name]
    post = post_for(rule, case)
    assert {name} <= post.see(case.fault, lasting_seconds(name)) <= {name} | case.also
    (finding,) = (one for one in post.findings if one.rule == name)
    assert finding.summary.startswith(rule.summary)
    assert (finding.severity, finding.action) == (rule.severity, rule.runbook.action)


def harmless() -> Iterator[tuple[str, str]]:
    """List what is nearly a fault."""
    return ((name, what) for name in sorted(CASES) for what in CASES[name].harmless)


@pytest.mark.parametrize(("name", "what"), list(harmless()))
def test_what_is_nearly_its_fault_does_not_open_it(name: str, what: str) -> None:
    """At no interval."""
    case = CASES[name]
    post = post_for(RULES[name], case)
    for look, seconds in case.harmless[what]:
        for _ in range(max(1, round(seconds * 1000 / post.interval_ms))):
            assert name not in post.see(look)


@WITH_FOR
def test_half_of_its_time_is_not_enough(name: str) -> None:
    """A fault that is over by then was none, and leaves nothing pending behind."""
    rule, case = RULES[name], CASES[name]
    post = post_for(rule, case)
    for _ in range(2):
        assert name not in post.see(case.fault, rule.for_seconds / 2 - window_seconds(rule) / 2)
        assert name not in post.see(case.well, max(window_seconds(rule), 60.0))


@WITH_UNTIL
def test_between_its_limits_it_stays(name: str) -> None:
    """What hovers is one finding: it is neither closed nor told again."""
    post, rule = opened(name), RULES[name]
    (before,) = (one for one in post.findings if one.rule == name)
    between = CASES[name].between
    assert between
    assert name in post.see(between, 2 * (rule.clear_seconds + window_seconds(rule)) + SLACK_SECONDS)
    assert before in post.findings


@WITH_UNTIL
def test_between_its_limits_it_does_not_open(name: str) -> None:
    """The same value that keeps it open does not open it."""
    post, rule = post_for(RULES[name], CASES[name]), RULES[name]
    between = CASES[name].between
    assert between
    assert name not in post.see(between, 1.5 * rule.for_seconds + window_seconds(rule) + SLACK_SECONDS)


@EVERY
def test_it_closes_when_it_was_well_for_long_enough(name: str) -> None:
    """Not before clear_for is over, and soon afterwards."""
    post, rule, well = opened(name), RULES[name], CASES[name].well
    early_seconds = rule.clear_seconds - 2 * post.interval_ms / 1000
    if early_seconds > 0:
        assert name in post.see(well, early_seconds)
    assert name not in post.see(well, window_seconds(rule) + SLACK_SECONDS)


@EVERY
def test_what_nobody_saw_closes_nothing(name: str) -> None:
    """An agent that is gone, and a GPU that answers but tells nothing.

    But that it answers is known then, and no growth of what it counts.
    """
    post = opened(name)
    (before,) = (one for one in post.findings if one.rule == name)
    post.see(replace(CASES[name].fault, seen=False, state=State.UNKNOWN), 1_800)
    says_why = any(one.quantity in FAULTS for one in RULES[name].when.values())
    if not window_seconds(RULES[name]) and not says_why:
        assert name in post.see(SILENT, 1_800)
    assert name in post.see(CASES[name].fault)
    assert before in post.findings


def test_what_nobody_saw_opens_nothing() -> None:
    """Neither from the beginning nor after a sound hour."""
    post = Post(RULES)
    for look in (SILENT, UNSEEN, SOUND, SILENT, UNSEEN, SILENT):
        assert post.see(look, 1_800) == set()


@pytest.mark.parametrize(
    "look",
    [SOUND, FREE, IDLE, Look(values=FREE.values, state=State.DRAINED), Look(workload="serving")],
    ids=["full load", "free", "a pause", "drained", "serving"],
)
def test_a_sound_day_opens_nothing(look: Look) -> None:
    """Eighteen hours of each, on all GPUs."""
    assert Post(RULES, 60_000).see(replace(look, others=look.values), 18 * 3_600) == set()
