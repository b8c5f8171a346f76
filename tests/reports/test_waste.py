"""The league of idle time: who, for how many weeks, and with which holder to begin."""

import pytest

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.waste import waste
from reports.facts import Facts
from tests.reports.made import H200, Did, before, made, spell, tenure

WORK = {H200: {State.ACTIVE: 168.0}}
IDLE = Did("A", {State.HELD_IDLE: 84.0, State.ACTIVE: 84.0}, owner="alice")


def test_owners_come_by_idle_time() -> None:
    """Who held nothing idle is not there; nobody known is."""
    report = made(
        IDLE,
        Did("B", {State.HELD_IDLE: 100.0, State.FREE: 68.0}),
        Did("C", {State.ACTIVE: 168.0}, owner="carol"),
        price=2.0,
    )
    first, second = waste(report, Facts())
    assert (first.owner, first.idle_ms, first.cost) == ("unattributed", 100 * HOUR_MS, 200.0)
    assert (second.owner, second.share_ratio, second.cost) == ("alice", 84 / 504, 168.0)
    assert (second.holder, second.node, second.uuid, second.spell_ms) == ("", "", "", None)
    assert (second.idle_last_ms, second.weeks) == (None, 1)


def test_there_are_never_more_than_twenty() -> None:
    """The twenty with most idle time."""
    report = made(
        *(Did(f"G{n}", {State.HELD_IDLE: 10.0 + n, State.FREE: 1.0}, owner=f"o{n}") for n in range(25))
    )
    found = [line.owner for line in waste(report, Facts())]
    assert found == [f"o{n}" for n in range(24, 4, -1)]


def test_weeks_are_counted_up_to_the_first_without() -> None:
    """Idle for this week and two before, then not, then again: three in a row."""
    weeks = tuple(
        before(number, WORK, idle={"alice": hours}) for number, hours in enumerate((50, 2, 1.6, 90), 1)
    )
    (line,) = waste(made(IDLE), Facts(weeks=weeks))
    assert (line.weeks, line.idle_last_ms) == (3, 50 * HOUR_MS)


def test_a_missing_week_ends_the_row() -> None:
    """What happened two weeks ago does not follow on what happens now."""
    (line,) = waste(made(IDLE), Facts(weeks=(before(2, WORK, idle={"alice": 50}),)))
    assert line.weeks == 1


def test_last_week_without_idle_time_is_none_of_it() -> None:
    """A week that is known and has nothing of an owner is 0, not unknown."""
    (line,) = waste(made(IDLE), Facts(weeks=(before(1, WORK),)))
    assert line.idle_last_ms == 0


def test_who_does_not_stand_out_has_no_weeks() -> None:
    """1 of 168 hours is less than 1 %."""
    report = made(Did("A", {State.HELD_IDLE: 1.0, State.ACTIVE: 167.0}, owner="alice"))
    (line,) = waste(report, Facts(weeks=(before(1, WORK, idle={"alice": 50}),)))
    assert line.weeks == 0


def test_the_worst_holder_is_the_one_idle_most_in_the_window() -> None:
    """Job 1 was idle 90 hours, of which a tenth in the window; job 2 20 hours, all of them in it."""
    tenures = (
        tenure("1", {State.HELD_IDLE: 90}, start=-90, end=10),
        tenure("2", {State.HELD_IDLE: 20}, start=10, end=60, memory=4e9),
        tenure("3", {State.HELD_IDLE: 99}, owner="bob"),
    )
    spells = (
        spell("A", "alice", "2", 20, 32),
        spell("A", "alice", "2", 33, 36),
        spell("A", "alice", "1", -90, 0),
    )
    (line,) = waste(made(IDLE, spells=spells), Facts(tenures=tenures))
    assert (line.holder, line.node, line.uuid) == ("job 2", "n1", "A")
    assert (line.spell_ms, line.memory_bytes) == (12 * HOUR_MS, 4e9)


@pytest.mark.parametrize(("gpus", "uuid"), [(("A",), "A"), (("A", "B"), "")])
def test_without_a_spell_only_a_single_gpu_is_named(gpus: tuple[str, ...], uuid: str) -> None:
    """Which of two GPUs was idle is not known; a memory of 0 is not known either."""
    one = tenure("1", {State.HELD_IDLE: 9}, gpus=gpus, memory=0.0)
    (line,) = waste(made(IDLE), Facts(tenures=(one,)))
    assert (line.uuid, line.spell_ms, line.memory_bytes) == (uuid, None, None)


def test_without_holders_the_longest_spell_is_named() -> None:
    """Of the owner, also of the one without a name."""
    report = made(
        IDLE,
        Did("B", {State.HELD_IDLE: 50.0}, node="n2"),
        spells=(
            spell("A", "alice", "5", 0, 9),
            spell("A", "alice", "6", 10, 30),
            spell("B", "", "", 0, 40, kind="memory"),
        ),
    )
    alice, nobody = waste(report, Facts())
    assert (alice.holder, alice.uuid, alice.spell_ms, alice.memory_bytes) == (
        "job 6",
        "A",
        20 * HOUR_MS,
        None,
    )
    assert (nobody.owner, nobody.node, nobody.spell_ms) == ("unattributed", "n2", 40 * HOUR_MS)
