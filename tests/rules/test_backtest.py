"""Backtest: a journal judged again tells what the node told; others tell what is different, and on whom."""

import random
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.journal_file import connect
from agent.states import StateSettings
from agent.tick import Hold, Holder, Reading, Tick, Xid, reading_of
from rules.backtest import Backtest, changed, look_back_ms
from rules.definition import Condition, Rule, Runbook
from rules.engine import Engine
from rules.hindsight import Moment, Seat, even, pace
from rules.load import built_in
from tests.agent.histories import MIDNIGHT, books_at, gpu_of, rows
from tests.rules.histories import GPUS, World, history, some_rules
from tests.rules.pasts import FAULTS, FOR_EVER_MS, found_by, judged, lived, moved, played, told
from tests.rules.scenes import INTERVAL_MS, NODE, START_MS, Stage
from tests.rules.test_engine import HOT

RULES = built_in()
BOOK = Runbook(action="look")
ADA = Seat("slurm", "4711", "vision", "batch")
BOB = Seat("slurm", "4712", "lab", "batch")
XID = Rule(
    name="xid",
    summary="an error",
    when={"e": Condition(quantity="xid_errors_total", number=1.0, over_seconds=60.0, xids=(79,))},
    runbook=BOOK,
)


def chance_of(seed: int) -> random.Random:
    """Give chance that falls the same way each time."""
    return random.Random(seed)  # noqa: S311  chance for a test, not a secret


def margins(*celsius: float) -> list[Moment]:
    """Let one GPU, held by Ada, have these margins in turn."""
    stage = Stage({})
    scenes = [stage.scene({"temperature_margin_celsius": one}) for one in celsius]
    return [Moment(scene, {GPUS[0]: (ADA,)}) for scene in scenes]


def outcome_of(moments: list[Moment], rule: Rule, present: Rule | None = None, *, from_ms: int = 0) -> Any:  # noqa: ANN401
    """Judge by one rule, beside another of its name if there is one."""
    present_rules = None if present is None else {present.name: present}
    work = Backtest({rule.name: rule}, present_rules, INTERVAL_MS, from_ms)
    work.take(moments)
    return work.outcome()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (FAULTS, 1_400),
        ("h200x2:lost", 560),
        ("h200x2:training!removed=1@+100..+300!xid=0:79@+60!xid=0:79@+90!xid=1:94@+60", 900),
        ("t4x1:held", 2_600),
    ],
)
def test_a_journal_judged_again_tells_what_the_node_told(text: str, seconds: float, tmp_path: Path) -> None:
    """Rule, GPU, times, how often, by whom it was held, and the words: all is the same."""
    lived(tmp_path / "j.db", text, seconds, RULES, blind=(330, 390))
    live = told(tmp_path / "j.db")
    assert live
    assert found_by(judged(tmp_path / "j.db", RULES)) == live


@pytest.mark.parametrize("seed", range(12))
def test_random_rules_find_the_same_in_random_journals(seed: int, tmp_path: Path) -> None:
    """Gaps, counters that begin anew, XIDs, rules that keep others quiet, and two nodes at once."""
    chance = chance_of(seed)
    rules = some_rules(chance)
    here = history(chance, World.of(rules))
    there = moved(history(chance, World.of(rules)), "hall2-n018", "-there")
    both = [scene for pair in zip(here, there, strict=True) for scene in pair]
    played(tmp_path / "j.db", both if seed % 2 else [*here, *there], rules, chance)
    assert found_by(judged(tmp_path / "j.db", rules)) == told(tmp_path / "j.db")


@pytest.mark.parametrize("seed", range(8))
def test_the_present_rules_find_beside_others_what_they_find_alone(seed: int, tmp_path: Path) -> None:
    """Though only what differs is judged twice; time in common is what both have open at once."""
    chance = chance_of(seed)
    present = some_rules(chance)
    rules = {name: replace(rule, for_seconds=rule.for_seconds / 2) for name, rule in present.items()}
    rules |= {name: present[name] for name in chance.sample(list(present), 4)}
    rules.pop(chance.choice(list(rules)))
    played(tmp_path / "j.db", history(chance, World.of(present)), {}, chance)
    beside, alone = judged(tmp_path / "j.db", rules, present), judged(tmp_path / "j.db", present)
    assert beside.present is not None
    assert beside.present.rules == {
        name: replace(one, alone=beside.present.rules[name].alone) for name, one in alone.rules.rules.items()
    }
    assert beside.present.covered_ms == alone.rules.covered_ms
    for name in rules:
        now, before = beside.pair(name)
        assert 0 <= beside.both_ms.get(name, 0) <= min(now.open_ms, before.open_ms)


def test_xids_between_the_first_and_the_last_of_a_boot_are_later_than_they_were(tmp_path: Path) -> None:
    """The journal keeps when an XID came first and last: the second of three counts as of the third."""
    rules = {"xid": XID}
    gpu, engine = gpu_of(0), Engine(rules, INTERVAL_MS)
    with books_at(tmp_path / "j.db", StateSettings()) as books:
        for turn in range(60):
            start_ms, end_ms = MIDNIGHT + turn * INTERVAL_MS, MIDNIGHT + (turn + 1) * INTERVAL_MS
            came = [Xid(end_ms, gpu.uuid, 79)] if turn in (10, 20, 50) else []
            books.xids.take(came, end_ms)
            seen = (reading_of(gpu.uuid, start_ms, end_ms, {"busy_ratio": 0.5}),)
            tick = Tick(node=NODE, start_ms=start_ms, end_ms=end_ms, readings=seen, gpus=(gpu,))
            books.post(tick, {}, judge=engine.judge)
            books.commit(end_ms)
    (live,), (again,) = told(tmp_path / "j.db"), found_by(judged(tmp_path / "j.db", rules))
    assert (live.opened_ms, live.times) == (MIDNIGHT + 11 * INTERVAL_MS, 3)
    assert (again.opened_ms, again.times) == (live.opened_ms, 2)


def test_a_stricter_rule_finds_more_and_longer() -> None:
    """What both find is told apart from what only one does."""
    moments = margins(20, 7, 7, 20, 20, 20, 20, 4, 4, 20, 20, 20)
    strict = replace(HOT, when={"m": replace(HOT.when["margin"], number=8.0, until=8.0)})
    rule, present = replace(strict, for_seconds=0.0, clear_seconds=0.0), replace(HOT, for_seconds=0.0)
    outcome = outcome_of(moments, rule, present)
    now, before = outcome.pair(HOT.name)
    assert (now.findings, before.findings) == (1, 1)  # it flapped
    assert now.times == 2
    assert (now.alone, before.alone) == (0, 0)
    assert outcome.both_ms == {HOT.name: 2 * INTERVAL_MS}
    assert now.open_ms == 4 * INTERVAL_MS


def test_a_rule_that_is_switched_off_is_found_by_the_present_rules_only() -> None:
    """It is gone from the new ones, with its time."""
    moments, rule = margins(20, 4, 4, 20, 20), replace(HOT, for_seconds=0.0, clear_seconds=0.0)
    outcome = outcome_of(moments, replace(rule, enabled=False), rule)
    now, before = outcome.pair(HOT.name)
    assert (now.findings, before.findings, before.alone) == (0, 1, 1)
    assert (outcome.rules.covered_ms, outcome.present.covered_ms) == (0, 2 * INTERVAL_MS)
    assert [mark for mark, _ in outcome.findings()] == [False]


def test_the_same_rules_are_said_to_be_the_same() -> None:
    """They are judged once, and compared with nothing."""
    outcome = outcome_of(margins(4, 4, 4), HOT, HOT)
    assert outcome.is_same
    assert outcome.present is None


def test_a_value_that_hovers_is_one_finding_and_without_hysteresis_several_times_one() -> None:
    """`until` is judged as the node judges it."""
    hovers = margins(20, *[4, 7] * 6, 20, 20)
    calm = replace(HOT, for_seconds=0.0, clear_seconds=0.0)
    nervous = replace(calm, when={"m": replace(HOT.when["margin"], until=None)})
    outcome = outcome_of(hovers, nervous, calm)
    now, before = outcome.pair(HOT.name)
    assert (now.findings, now.times) == (1, 6)
    assert (before.findings, before.times) == (1, 1)


def test_what_was_pending_when_the_time_begins_opens_when_it_did(tmp_path: Path) -> None:
    """With what is before it looked at; the rest of a finding that was open already is counted."""
    name = "persistence_mode_off"
    rules = {name: replace(RULES[name], for_seconds=100.0, clear_seconds=60.0, inhibited_by=())}
    lived(tmp_path / "j.db", "h200x2:training!unpersistent=1@+200..+700", 1_000, rules)
    (live,) = told(tmp_path / "j.db")
    assert live.closed_ms is not None
    for from_ms in (live.opened_ms - 15_000, live.opened_ms + 100_000):
        (case,) = judged(tmp_path / "j.db", rules, from_ms=from_ms, start_ms=0).rules.cases
        assert case.finding == live
        assert case.open_ms == live.closed_ms - max(from_ms, live.opened_ms)
    (blind,) = judged(tmp_path / "j.db", rules, from_ms=live.opened_ms - 15_000).rules.cases
    assert blind.finding.opened_ms > live.opened_ms


def test_what_closed_before_the_time_does_not_count() -> None:
    """And what is after it is never read."""
    rule = replace(HOT, for_seconds=0.0, clear_seconds=0.0)
    outcome = outcome_of(margins(4, 20, 20, 20), rule, from_ms=START_MS + 3 * INTERVAL_MS)
    assert outcome.rules.cases == ()
    assert (outcome.intervals, outcome.observed_ms) == (1, INTERVAL_MS)


def test_how_far_back_rules_look() -> None:
    """For `for` and for `clear_for`, each behind the growth of a counter; not for what is switched off."""
    counts = replace(XID, for_seconds=30.0, clear_seconds=600.0)
    assert look_back_ms({"xid": counts, "off": replace(HOT, for_seconds=9_999.0, enabled=False)}) == 660_000


def test_time_is_counted_to_those_who_hold_the_gpu() -> None:
    """Shared evenly; of a long time unseen only its end is anybody's that is known."""
    moments = margins(4, 4, 4, 4)
    seats: list[Mapping[str, tuple[Seat, ...]]] = [{}, {GPUS[0]: (ADA,)}, {GPUS[0]: (ADA, BOB)}, {}]
    moments = [Moment(one.scene, held) for one, held in zip(moments, seats, strict=True)]
    late = moments[-1].scene
    late_ms = late.end_ms + 10 * INTERVAL_MS
    reading = replace(late.readings[0], start_ms=late_ms - INTERVAL_MS, end_ms=late_ms)
    moments.append(Moment(replace(late, end_ms=late_ms, readings=[reading]), {GPUS[0]: (BOB,)}))
    outcome = outcome_of(moments, replace(HOT, for_seconds=0.0))
    whom = outcome.rules.rules[HOT.name].whom
    assert whom == {ADA: 15_000, BOB: 25_000, None: 90_000}
    assert outcome.rules.rules[HOT.name].open_ms == 130_000


def test_holders_without_number_are_not_told_apart_for_ever() -> None:
    """What a rule keeps of them is bounded; no time is lost."""
    stage = Stage({})
    moments = [
        Moment(
            stage.scene({"temperature_margin_celsius": 4.0}),
            {GPUS[0]: (Seat("slurm", str(turn), "vision", "batch"),)},
        )
        for turn in range(2_100)
    ]
    one = outcome_of(moments, replace(HOT, for_seconds=0.0)).rules.rules[HOT.name]
    assert len(one.whom) == 2_000
    assert sum(one.whom.values()) == one.open_ms


def test_a_gpu_that_is_not_seen_to_the_end_keeps_its_finding_open() -> None:
    """Not seeing is no recovery: the time until the last interval of all counts."""
    stage = Stage({})
    hot, cool = {"temperature_margin_celsius": 4.0}, {"temperature_margin_celsius": 20.0}
    first = Moment(stage.scene([hot, cool]), {})
    later = [stage.scene([cool, cool]) for _ in range(3)]
    unseen = [Moment(replace(one, readings=one.readings[1:]), {}) for one in later]
    outcome = outcome_of([first, *unseen], replace(HOT, for_seconds=0.0))
    (case,) = outcome.rules.cases
    assert (case.finding.closed_ms, case.open_ms) == (None, 3 * INTERVAL_MS)


def test_a_clock_that_is_set_back_counts_no_time_twice() -> None:
    """The time until where it was is counted already."""
    moments = margins(4, 4, 4, 4)
    again = [moments[0], moments[1], moments[2], moments[1], moments[2], moments[3]]
    outcome = outcome_of(again, replace(HOT, for_seconds=0.0))
    assert outcome.observed_ms == 4 * INTERVAL_MS
    assert outcome.rules.covered_ms == 3 * INTERVAL_MS


def test_what_a_changed_rule_keeps_quiet_may_change_as_well() -> None:
    """Children of children too; all others need no second look."""
    parent, other = replace(HOT, name="parent"), replace(HOT, name="other")
    child = replace(HOT, name="child", inhibited_by=("parent",))
    grandchild = replace(HOT, name="grandchild", inhibited_by=("child",))
    rules = {one.name: one for one in (parent, child, grandchild, other)}
    eager = {**rules, "parent": replace(parent, for_seconds=0.0)}
    assert changed(eager, rules) == {"parent", "child", "grandchild"}
    assert changed(rules, rules) == set()


def test_the_pace_of_a_journal_is_that_of_its_median_interval(tmp_path: Path) -> None:
    """Clocks are not exact to the millisecond; what is much longer or shorter is counted."""
    gpu = gpu_of(0)
    with books_at(tmp_path / "j.db", StateSettings()) as books:
        start_ms = MIDNIGHT
        for length_ms in (10_003, 9_998, 10_002, 40_000, 10_001, 2_000):
            end_ms = start_ms + length_ms
            seen: tuple[Reading, ...] = (reading_of(gpu.uuid, start_ms, end_ms, {"busy_ratio": 0.5}),)
            books.post(Tick(node=NODE, start_ms=start_ms, end_ms=end_ms, readings=seen, gpus=(gpu,)), {})
            start_ms = end_ms
        books.commit(start_ms)
    with closing(connect(tmp_path / "j.db")) as db:
        assert pace(db, 0, FOR_EVER_MS) == (10_000, 6, 2)
        assert pace(db, 0, 1) is None
    assert (even(2_500), even(500), even(899_900)) == (2_500, 500, 900_000)


def test_a_journal_of_an_older_version_is_judged_by_what_it_has(tmp_path: Path) -> None:
    """A quantity that it has no column for is not known, and all else is as it was."""
    rules = {HOT.name: HOT, XID.name: XID}
    chance = chance_of(1)
    played(tmp_path / "j.db", history(chance, World.of(rules)), rules, chance)
    with closing(sqlite3.connect(tmp_path / "j.db")) as db:
        db.execute("ALTER TABLE reading DROP COLUMN temperature_margin_celsius")
        db.commit()
    assert {one.rule for one in told(tmp_path / "j.db")} == {"hot", "xid"}
    again = found_by(judged(tmp_path / "j.db", rules))
    assert again == [one for one in told(tmp_path / "j.db") if one.rule == "xid"]


def test_a_gpu_that_left_the_node_closes_what_the_node_closed(tmp_path: Path) -> None:
    """What was about it ends when it leaves the inventory, as on the node."""
    rules = {HOT.name: replace(HOT, for_seconds=0.0, clear_seconds=0.0)}
    gpus, engine = (gpu_of(0), gpu_of(1)), Engine(rules, INTERVAL_MS)
    with books_at(tmp_path / "j.db", StateSettings(missing_days=1.0)) as books:
        for turn, end_ms in enumerate((MIDNIGHT, MIDNIGHT + INTERVAL_MS, MIDNIGHT + 3 * 86_400_000)):
            seen = gpus if turn < 2 else gpus[:1]
            readings = tuple(
                reading_of(one.uuid, end_ms - INTERVAL_MS, end_ms, {"temperature_margin_celsius": 4.0})
                for one in seen
            )
            start_ms = end_ms - INTERVAL_MS
            tick = Tick(node=NODE, start_ms=start_ms, end_ms=end_ms, readings=readings, gpus=seen)
            books.post(
                tick, {seen[0].uuid: (Hold(Holder(kind="slurm", name="1", owner="a")),)}, judge=engine.judge
            )
            books.commit(end_ms)
    assert rows(tmp_path / "j.db", "SELECT count(*) FROM event WHERE kind = 'gpu_left'") == [(1,)]
    assert found_by(judged(tmp_path / "j.db", rules)) == told(tmp_path / "j.db")
