"""The engine: what opens, what closes, and what does neither."""

from collections.abc import Mapping
from dataclasses import replace

from agent.tick import Condition as Health
from agent.tick import State
from rules.definition import Comparison, Condition, Rule, Runbook
from rules.engine import Engine
from tests.rules.scenes import GPUS, INTERVAL_MS, Stage

BOOK = Runbook(action="look at the fans")
HOT = Rule(
    name="hot",
    summary="hot",
    when={
        "margin": Condition(
            quantity="temperature_margin_celsius", comparison=Comparison.AT_MOST, number=5.0, until=8.0
        )
    },
    for_seconds=100.0,
    clear_seconds=50.0,
    runbook=BOOK,
)
BRAKE = Rule(
    name="brake",
    summary="brake",
    when={
        "b": Condition(
            quantity="throttle_power_brake_seconds_total",
            comparison=Comparison.ABOVE,
            number=1.0,
            over_seconds=50.0,
        )
    },
    runbook=BOOK,
)
OPEN = {("hot", GPUS[0])}


def margin(celsius: float | None) -> dict[str, float | None]:
    """Make a reading of a margin."""
    return {"temperature_margin_celsius": celsius}


def stage(*rules: Rule) -> Stage:
    """Make a node with some rules."""
    return Stage({rule.name: rule for rule in rules})


def test_it_opens_when_all_of_the_window_is_true() -> None:
    """Eight of ten intervals suffice where nothing else is known; one that is false begins anew."""
    one = stage(HOT)
    assert one.see(margin(4), intervals=7) == set()
    assert one.see(margin(4)) == OPEN
    two = stage(HOT)
    assert two.see(margin(9)) == set()
    assert two.see(margin(4), intervals=9) == set()
    assert two.see(margin(4)) == OPEN


def test_it_closes_when_the_way_back_is_long_enough() -> None:
    """Between the limits it stays; beyond the second for all of clear_for it closes."""
    one = stage(HOT)
    assert one.see(margin(4), intervals=10) == OPEN
    assert one.see(margin(7), intervals=100) == OPEN
    assert one.see(margin(9), intervals=4) == OPEN
    assert one.see(margin(7)) == OPEN
    assert one.see(margin(9), intervals=4) == OPEN
    assert one.see(margin(9)) == set()
    assert one.see(margin(7), intervals=100) == set()


def test_what_is_not_known_neither_opens_nor_closes() -> None:
    """Values that are missing, a GPU that does not answer, intervals that were not seen."""
    one = stage(HOT)
    assert one.see(margin(4), intervals=4) == set()
    assert one.see(margin(None), intervals=3) == set()
    assert one.see(margin(4), intervals=7) == set()
    assert one.see(margin(4)) == OPEN
    assert one.see(margin(None), intervals=1000) == OPEN
    assert one.see({}, condition=Health.LOST, intervals=1000) == OPEN
    one.skip(10_000)
    assert one.see(margin(None)) == OPEN
    assert one.see(margin(9), intervals=5) == set()


def test_a_gap_counts_as_not_known() -> None:
    """Three of ten intervals that nobody saw are too many, two are not."""
    one = stage(HOT)
    one.see(margin(9))
    one.see(margin(4), intervals=4)
    one.skip(3)
    assert one.see(margin(4), intervals=3) == set()
    two = stage(HOT)
    two.see(margin(9))
    two.see(margin(4), intervals=4)
    two.skip(2)
    assert two.see(margin(4), intervals=4) == OPEN


def test_it_goes_on_with_what_was_open() -> None:
    """A restart of the agent opens nothing anew, and closes nothing."""
    one = stage(HOT)
    one.see(margin(4), intervals=10)
    opened = [*one.engine._gpus[GPUS[0]].open.values()]
    two = Stage({}, Engine({"hot": HOT}, INTERVAL_MS, opened))
    two.end_ms = one.end_ms
    assert two.see(margin(9), intervals=4) == OPEN
    assert two.see(margin(9)) == set()


def test_a_finding_says_what_was_seen_and_what_to_do() -> None:
    """Value, rule, moment, action."""
    one = stage(HOT)
    one.see(margin(4.25), intervals=8)
    (finding,) = one.engine._gpus[GPUS[0]].open.values()
    assert finding.summary == "hot (temperature_margin_celsius 4.25)"
    assert (finding.action, finding.opened_ms) == ("look at the fans", one.end_ms)


def test_a_finding_about_xids_names_those_that_came() -> None:
    """Not how many, nor those of long ago."""
    rule = Rule(
        name="xid",
        summary="an error",
        when={
            "x": Condition(
                quantity="xid_errors_total",
                comparison=Comparison.ABOVE,
                number=0.0,
                over_seconds=60.0,
                xids=(48, 79, 94),
            )
        },
        runbook=BOOK,
    )
    one = stage(rule)
    one.xids = {(GPUS[0], 48): 3, (GPUS[0], 31): 1}
    assert one.see({}) == set()
    one.xids = {(GPUS[0], 48): 3, (GPUS[0], 31): 2, (GPUS[0], 94): 1, (GPUS[0], 79): 1}
    one.see({})
    (finding,) = one.engine._gpus[GPUS[0]].open.values()
    assert finding.summary == "an error (XID 79, 94)"


def test_a_parent_keeps_its_children_quiet() -> None:
    """While the GPU is down and for an interval more nothing else opens; what was open stays."""
    down = Rule(
        name="down", summary="down", when={"d": Condition(quantity="state", is_state="down")}, runbook=BOOK
    )
    child = replace(HOT, inhibited_by=("down",), for_seconds=0.0)
    one = stage(down, child)
    assert one.see(margin(4), state=State.DOWN) == {("down", GPUS[0])}
    assert one.see(margin(4)) == set()
    assert one.see(margin(4)) == OPEN
    assert one.see(margin(4), state=State.DOWN) == OPEN | {("down", GPUS[0])}


def test_parents_of_parents_keep_quiet_wherever_they_stand() -> None:
    """A rule that is written first is judged after those that keep it quiet, and after their parents."""
    grandparent = replace(HOT, name="one", for_seconds=0.0)
    parent = replace(HOT, name="two", for_seconds=0.0, inhibited_by=("one",))
    child = replace(HOT, name="three", for_seconds=0.0, inhibited_by=("two",))
    assert stage(child, parent, grandparent).see(margin(4)) == {("one", GPUS[0])}
    assert stage(child, parent).see(margin(4)) == {("two", GPUS[0])}


def test_the_state_that_is_not_known_is_not_known() -> None:
    """Unknown is no state that a rule could be about."""
    idle = Rule(
        name="idle",
        summary="idle",
        when={"i": Condition(quantity="state", is_state="held_idle")},
        for_seconds=20.0,
        coverage_ratio=0.5,
        runbook=BOOK,
    )
    one = stage(idle)
    found = {("idle", GPUS[0])}
    assert one.see({}, state=State.HELD_IDLE) == found
    assert one.see({}, state=State.UNKNOWN, intervals=100) == found
    assert one.see({}, state=State.ACTIVE) == set()


def test_growth_of_a_counter_is_that_of_its_window() -> None:
    """More than a limit within the window opens; when the window has passed by, it closes."""
    one = stage(BRAKE)
    found = {("brake", GPUS[0])}

    def counted(seconds: float | None) -> dict[str, float | None]:
        return {"throttle_power_brake_seconds_total": seconds}

    assert one.see(counted(100.0)) == set()
    assert one.see(counted(100.7)) == set()
    assert one.see(counted(101.4)) == found
    assert one.see(counted(None), intervals=2) == found
    assert one.see(counted(101.4)) == found
    assert one.see(counted(101.4)) == set()


def test_xids_count_by_their_numbers() -> None:
    """Any of the list, within the window; others do not."""
    gone = Rule(
        name="xid",
        summary="xid",
        when={
            "x": Condition(
                quantity="xid_errors_total",
                comparison=Comparison.ABOVE,
                number=0.0,
                over_seconds=30.0,
                xids=(48, 79),
            )
        },
        runbook=BOOK,
    )
    one = stage(gone)
    assert one.see({}) == set()
    one.xids[GPUS[0], 31] = 1
    assert one.see({}) == set()
    one.xids[GPUS[0], 79] = 1
    assert one.see({}) == {("xid", GPUS[0])}
    assert one.see({}, intervals=2) == {("xid", GPUS[0])}
    assert one.see({}) == set()


def test_peers_are_gpus_of_the_same_model() -> None:
    """Of three or more their median is the limit, plus what the rule adds."""
    outlier = Rule(
        name="outlier",
        summary="outlier",
        when={
            "t": Condition(
                quantity="temperature_celsius", comparison=Comparison.ABOVE, of="peers", plus=12.0, until=8.0
            )
        },
        runbook=BOOK,
    )

    def celsius(*values: float) -> list[dict[str, float]]:
        return [{"temperature_celsius": value} for value in values]

    one = stage(outlier)
    assert one.see(celsius(50, 52, 54, 65)) == set()
    assert one.see(celsius(50, 52, 54, 66)) == {("outlier", GPUS[3])}
    assert one.see(celsius(50, 52, 54, 62)) == {("outlier", GPUS[3])}
    assert one.see(celsius(50, 52, 54, 61)) == set()
    assert stage(outlier).see(celsius(50, 90)) == set()


def test_a_rule_may_be_about_some_classes_of_work() -> None:
    """Where nobody of these classes holds the GPU it does not hold."""
    batch = replace(HOT, workloads=("batch",), for_seconds=0.0)
    assert stage(batch).see(margin(4), workload="serving") == set()
    one = stage(replace(batch, clear_seconds=0.0))
    assert one.see(margin(4), workload="batch") == OPEN
    assert one.see(margin(4), workload="serving") == set()


def test_what_was_pending_goes_on_after_a_restart() -> None:
    """The intervals before the start count; what they opened is only what the journal says is open."""
    one, two = stage(HOT), stage(HOT)
    scenes = [two.scene(margin(4)) for _ in range(7)]
    one.engine.look_back(scenes)
    one.end_ms = two.end_ms
    assert one.see(margin(4)) == OPEN
    three, four = stage(HOT), stage(HOT)
    three.engine.look_back([four.scene(margin(4)) for _ in range(20)])
    three.end_ms = four.end_ms
    assert three.engine._gpus[GPUS[0]].open == {}


def test_a_gpu_is_compared_with_those_of_its_job() -> None:
    """Another's work beside it is no measure; of fewer than three there is no median."""
    slow = Rule(
        name="slow",
        summary="slow",
        when={
            "b": Condition(
                quantity="busy_ratio", comparison=Comparison.BELOW, of="job", plus=-0.3, until=-0.1
            )
        },
        runbook=BOOK,
    )
    one = stage(slow)
    jobs = dict.fromkeys(GPUS[:3], "slurm 4711")
    values = [{"busy_ratio": busy} for busy in (0.2, 0.9, 0.8, 0.0)]

    def see(busy: float, jobs: Mapping[str, str]) -> set[tuple[str, str]]:
        scene = one.scene([{"busy_ratio": busy}, *values[1:]])
        return {(each.rule, each.uuid) for each in one.engine.judge(replace(scene, jobs=jobs))}

    assert see(0.2, {}) == set()
    assert see(0.2, {GPUS[0]: "slurm 1", **dict.fromkeys(GPUS[1:], "slurm 4711")}) == {("slow", GPUS[3])}
    assert see(0.2, dict.fromkeys(GPUS[:2], "slurm 4711")) == {("slow", GPUS[3])}
    assert see(0.2, jobs) == {("slow", GPUS[0]), ("slow", GPUS[3])}
    assert see(0.6, jobs) == {("slow", GPUS[0]), ("slow", GPUS[3])}
    assert see(0.75, jobs) == {("slow", GPUS[3])}
