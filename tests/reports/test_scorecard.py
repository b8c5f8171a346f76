"""The scorecard: ratios of sums, amounts compared per GPU-hour, and no verdict on what was not seen."""

from dataclasses import replace

import pytest

from agent.tick import State
from reports.content.scorecard import scores
from reports.facts import Facts, GpuFacts, Week
from reports.outline import Report
from reports.sections import Group, Score
from reports.window import Window
from tests.reports.made import H100, H200, WEEK, WEEK_MS, Did, before, found, made

HOURS = {
    State.ACTIVE: 60.0,
    State.HELD_GAP: 10.0,
    State.HELD_IDLE: 30.0,
    State.FREE: 40.0,
    State.SERVICE: 4.0,
    State.DRAINED: 8.0,
    State.DOWN: 6.0,
    State.UNKNOWN: 10.0,
}
"""168 hours."""
GROUP = {H200: HOURS}


def by_name(report: Report, facts: Facts) -> dict[str, Score]:
    """Give the scores by name."""
    return {score.name: score for score in scores(report, facts)}


def shifted(idle: float) -> dict[Group, dict[State, float]]:
    """Make a week with so many idle hours, at the cost of free ones."""
    return {H200: {**HOURS, State.HELD_IDLE: idle, State.FREE: 70.0 - idle}}


def test_every_figure_is_a_part_over_a_whole() -> None:
    """Worked out by hand from one GPU's week, of which 4 seconds in 5 of seen time were busy."""
    report = made(Did("A", HOURS, owner="alice", busy=0.8, watts=500.0), price=2.0)
    found_ = {name: score.value for name, score in by_name(report, Facts()).items()}
    assert found_ == {
        "availability": pytest.approx(154 / 168),
        "coverage": pytest.approx(152 / 162),
        "occupancy": pytest.approx(100 / 140),
        "activity": pytest.approx(60 / 100),
        "intensity": pytest.approx(0.8),
        "effective": pytest.approx(0.8),
        "idle_share": pytest.approx(30 / 168),
        "idle_cost": pytest.approx(60.0),
        "energy": pytest.approx(84.0),
        "throttled": None,
        "incidents": 0,
    }


def test_effective_use_counts_unseen_time_as_nothing() -> None:
    """84 of 168 hours seen, half busy: a quarter of the inventory."""
    report = made(Did("A", {State.ACTIVE: 84.0}, owner="a", busy=0.5), Did("A", {State.UNKNOWN: 84.0}))
    assert by_name(report, Facts())["effective"].value == 0.25


def test_nothing_to_divide_by_is_not_zero() -> None:
    """A GPU that was down all week has no occupancy and no coverage."""
    report = made(Did("A", {State.DOWN: 168.0}))
    found_ = by_name(report, Facts())
    assert found_["availability"].value == 0.0
    assert [found_[name].value for name in ("coverage", "occupancy", "activity", "intensity")] == [None] * 4
    assert found_["idle_cost"].value is None


def test_the_mean_of_weeks_is_a_ratio_of_sums() -> None:
    """100 idle of 1,000 hours and 0 of 100: 100 of 1,100, not the mean of 10 % and 0 %."""
    weeks = (
        before(1, {H200: {State.ACTIVE: 900, State.HELD_IDLE: 100}}, cost=200.0),
        before(2, {H200: {State.ACTIVE: 100}}, cost=0.0),
    )
    found_ = by_name(made(Did("A", {State.ACTIVE: 168.0}, owner="a")), Facts(weeks=weeks))
    assert found_["idle_share"].mean4 == pytest.approx(100 / 1100)
    assert found_["idle_share"].last == pytest.approx(0.1)
    assert found_["idle_cost"].mean4 == 100.0


def test_the_mean_is_of_four_weeks_at_most() -> None:
    """The fifth week back, all idle, has no part."""
    weeks = (*(before(number, shifted(30)) for number in range(1, 5)), before(5, shifted(70)))
    found_ = by_name(made(Did("A", HOURS, owner="a")), Facts(weeks=weeks))
    assert found_["idle_share"].mean4 == pytest.approx(30 / 168)


@pytest.mark.parametrize(("idle", "verdict"), [(20.0, "better"), (40.0, "worse"), (32.0, "same")])
def test_without_noise_two_points_are_the_same(idle: float, verdict: str) -> None:
    """30 of 168 idle last week; 2 hours are 1.2 points, 10 hours are 6."""
    report = made(Did("A", shifted(idle)[H200], owner="a"))
    score = by_name(report, Facts(weeks=(before(1, GROUP),)))["idle_share"]
    assert (score.noise, score.verdict) == (None, verdict)


def test_noise_is_three_times_the_median_change() -> None:
    """Idle hours of 30, 34, 28, 36: changes of 4, 6 and 8, so 18 hours of 168 are noise."""
    weeks = tuple(before(number, shifted(idle)) for number, idle in enumerate((30, 34, 28, 36), 1))
    inside = by_name(made(Did("A", shifted(47.9)[H200], owner="a")), Facts(weeks=weeks))["idle_share"]
    assert inside.noise == pytest.approx(18 / 168)
    assert inside.verdict == "same"
    beyond = by_name(made(Did("A", shifted(48.1)[H200], owner="a")), Facts(weeks=weeks))["idle_share"]
    assert beyond.verdict == "worse"


def test_three_weeks_before_are_too_few_for_noise() -> None:
    """Two changes tell nothing."""
    weeks = tuple(before(number, shifted(30 + number)) for number in range(1, 4))
    assert by_name(made(Did("A", HOURS, owner="a")), Facts(weeks=weeks))["idle_share"].noise is None


def test_a_hole_in_the_weeks_is_no_change() -> None:
    """Of four weeks with one missing between, only two changes are from one week to the next."""
    weeks = tuple(before(number, shifted(30 + number)) for number in (1, 2, 4, 5))
    assert by_name(made(Did("A", HOURS, owner="a")), Facts(weeks=weeks))["idle_share"].noise is None


def test_a_quiet_figure_needs_half_a_point() -> None:
    """Where nothing ever moved, 0.3 points are no change, and 0.9 are."""
    weeks = tuple(before(number, shifted(30)) for number in range(1, 6))
    calm = by_name(made(Did("A", shifted(30.5)[H200], owner="a")), Facts(weeks=weeks))["idle_share"]
    moved = by_name(made(Did("A", shifted(31.5)[H200], owner="a")), Facts(weeks=weeks))["idle_share"]
    assert (calm.noise, calm.verdict, moved.verdict) == (0.0, "same", "worse")


@pytest.mark.parametrize("bad", ["this", "last"])
def test_weeks_below_90_percent_are_not_compared(bad: str) -> None:
    """A fifth of the time was not seen; only coverage itself is judged."""
    poor = {State.ACTIVE: 134.0, State.UNKNOWN: 34.0}
    good = {State.ACTIVE: 168.0}
    this, last = (poor, good) if bad == "this" else (good, poor)
    found_ = by_name(made(Did("A", this, owner="a")), Facts(weeks=(before(1, {H200: last}),)))
    assert {score.verdict for name, score in found_.items() if name != "coverage"} == {"unknown"}
    assert found_["coverage"].verdict == ("worse" if bad == "this" else "better")


def test_a_piece_of_a_week_is_not_compared() -> None:
    """A day of the window is accounted for."""
    day = Window(from_ms=WEEK.from_ms, to_ms=WEEK.from_ms + WEEK_MS // 7)
    report = made(Did("A", {State.ACTIVE: 24.0}, owner="a"), covered=day)
    found_ = by_name(report, Facts(weeks=(before(1, {H200: {State.ACTIVE: 168.0}}),)))
    assert found_["occupancy"].verdict == "unknown"


def test_badly_covered_weeks_are_in_no_mean_but_that_of_coverage() -> None:
    """The week before last was half unknown."""
    weeks = (
        before(1, {H200: {State.ACTIVE: 100, State.HELD_IDLE: 68}}),
        before(2, {H200: {State.ACTIVE: 84, State.UNKNOWN: 84}}),
    )
    found_ = by_name(made(Did("A", {State.ACTIVE: 168.0}, owner="a")), Facts(weeks=weeks))
    assert found_["idle_share"].mean4 == pytest.approx(68 / 168)
    assert found_["coverage"].mean4 == pytest.approx(252 / 336)


def test_amounts_are_compared_per_gpu_hour() -> None:
    """Twice the GPUs with twice the idle cost are no worse, although the sum doubled."""
    report = made(Did("A", HOURS, owner="a"), Did("B", HOURS, owner="a"), price=2.0)
    score = by_name(report, Facts(weeks=(before(1, GROUP, cost=60.0),)))["idle_cost"]
    assert (score.value, score.last, score.verdict) == (120.0, 60.0, "same")


def test_a_longer_week_is_no_change() -> None:
    """The week in which clocks go back has 169 hours."""
    long = Window(from_ms=WEEK.from_ms, to_ms=WEEK.to_ms + WEEK_MS // 168)
    report = made(Did("A", {State.ACTIVE: 169.0}, owner="a", busy=0.5, watts=100.0), window=long)
    last = before(1, {H200: {State.ACTIVE: 168.0}}, busy=0.5)
    found_ = by_name(report, Facts(weeks=(last,)))
    assert found_["availability"].verdict == found_["effective"].verdict == "same"


def test_a_single_failure_more_is_chance() -> None:
    """Counts of 1 and 0 differ by chance, of 9 and 0 they do not."""
    last = Facts(weeks=(before(1, GROUP),))
    one = made(Did("A", HOURS, owner="a"), findings=[found("gpu_down", "A", 1, 2)])
    nine = made(
        Did("A", HOURS, owner="a"), findings=[found("gpu_down", "A", 3 * n, 3 * n + 1) for n in range(9)]
    )
    assert (by_name(one, last)["incidents"].value, by_name(one, last)["incidents"].verdict) == (1, "same")
    assert (by_name(nine, last)["incidents"].value, by_name(nine, last)["incidents"].verdict) == (9, "worse")


def test_throttled_hours_are_those_for_heat() -> None:
    """Half an hour by the driver and one by the hardware; the power cap is normal."""
    gpu = GpuFacts(throttle_ms={"sw_thermal": 1_800_000, "hw_thermal": 3_600_000, "power_cap": 9_000_000})
    facts = Facts(gpus={("A", "n1"): gpu}, weeks=(before(1, GROUP, throttle_ms=0),))
    score = by_name(made(Did("A", HOURS, owner="a")), facts)["throttled"]
    assert (score.value, score.last, score.verdict) == (1.5, 0.0, "worse")


def test_findings_that_a_source_has_not_are_not_none_at_all() -> None:
    """What is not known is not 0."""
    facts = Facts(missing={"findings": "the store has none"})
    assert by_name(made(Did("A", HOURS, owner="a")), facts)["incidents"].value is None


def test_a_week_of_several_groups_is_one_sum() -> None:
    """What is owed is that of all groups."""
    week: Week = before(1, {H200: {State.ACTIVE: 100.0}, H100: {State.FREE: 68.0}})
    score = by_name(made(Did("A", HOURS, owner="a")), Facts(weeks=(replace(week, gpus=2),)))["occupancy"]
    assert score.last == pytest.approx(100 / 168)
