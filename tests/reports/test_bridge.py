"""The bridge: steps that lead from last week's active time to this week's, to the millisecond."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.bridge import MOST_GROUPS, bridge
from reports.facts import Facts, GroupWeek, Week
from reports.outline import Report
from reports.sections import Group, Step
from tests.reports.made import H100, H200, WEEK, Did, before, made

Hours = Mapping[State, float]


def steps(report: Report, *weeks: Week) -> list[tuple[str, Group | None, float]]:
    """Give the steps in hours."""
    found = bridge(report, Facts(weeks=weeks))
    return [(step.kind, step.group, step.gpu_ms / HOUR_MS) for step in found]


def test_nothing_to_compare_with_is_no_bridge() -> None:
    """The first week has no steps."""
    assert bridge(made(Did("A", {State.ACTIVE: 1.0}, owner="a")), Facts()) == ()


def test_a_rate_that_rose_is_one_step() -> None:
    """Of 100 hours 40 were active, now 60 are."""
    report = made(Did("A", {State.ACTIVE: 60.0, State.FREE: 40.0}, owner="a"))
    assert steps(report, before(1, {H200: {State.ACTIVE: 40, State.FREE: 60}})) == [
        ("last", None, 40.0),
        ("inventory", None, 0.0),
        ("mix", None, 0.0),
        ("coverage", None, 0.0),
        ("rate", H200, 20.0),
        ("this", None, 60.0),
    ]


def test_each_step_changes_one_thing() -> None:
    """Worked out by hand.

    Last: H200 100 h, all seen, 50 active; H100 100 h, 80 seen, 20 active; 70 active of 200 in all.
    This: H200 150 h, all seen, 90 active; H100 150 h, 150 seen, 30 active.
    Inventory: 300 h at 70/200 are 105, 35 more. Mix: the shares are as before, 0. Coverage: H100 seen 150
    instead of 120, at 20/80, 7.5 more. Rate: H200 90 instead of 75; H100 30 instead of 37.5.
    """
    report = made(
        Did("A", {State.ACTIVE: 90.0, State.FREE: 60.0}, owner="a"),
        Did("B", {State.ACTIVE: 30.0, State.FREE: 120.0}, owner="a", model=H100.model),
    )
    last = before(
        1,
        {
            H200: {State.ACTIVE: 50, State.FREE: 50},
            H100: {State.ACTIVE: 20, State.FREE: 60, State.UNKNOWN: 20},
        },
    )
    assert steps(report, last) == [
        ("last", None, 70.0),
        ("inventory", None, 35.0),
        ("mix", None, 0.0),
        ("coverage", None, 7.5),
        ("rate", H200, 15.0),
        ("rate", H100, -7.5),
        ("this", None, 120.0),
    ]


def test_mix_is_the_shift_towards_busier_groups() -> None:
    """H200 are active all the time and H100 never: 50 hours more of the one and less of the other."""
    report = made(Did("A", {State.ACTIVE: 150.0}, owner="a"), Did("B", {State.FREE: 50.0}, model=H100.model))
    last = before(1, {H200: {State.ACTIVE: 100}, H100: {State.FREE: 100}})
    assert steps(report, last)[1:3] == [("inventory", None, 0.0), ("mix", None, 50.0)]


def test_a_group_that_appears_begins_as_all_the_others() -> None:
    """H100 come with 100 h at the fleet's 40 %, 40 more; that 70 are active is their rate, 30 more."""
    report = made(
        Did("A", {State.ACTIVE: 40.0, State.FREE: 60.0}, owner="a"),
        Did("B", {State.ACTIVE: 70.0, State.FREE: 30.0}, owner="a", model=H100.model),
    )
    found = steps(report, before(1, {H200: {State.ACTIVE: 40, State.FREE: 60}}))
    assert found[1:-1] == [
        ("inventory", None, 40.0),
        ("mix", None, 0.0),
        ("coverage", None, 0.0),
        ("rate", H100, 30.0),
    ]


def test_a_group_that_vanishes_is_inventory_and_mix() -> None:
    """H100, idle, went: half the inventory is 50 active hours less, but it was the worse half."""
    report = made(Did("A", {State.ACTIVE: 100.0}, owner="a"))
    found = steps(report, before(1, {H200: {State.ACTIVE: 100}, H100: {State.FREE: 100}}))
    assert found[1:-1] == [("inventory", None, -50.0), ("mix", None, 50.0), ("coverage", None, 0.0)]


def test_a_fleet_from_nothing_is_inventory() -> None:
    """Without a GPU in the week before all of it is new."""
    report = made(Did("A", {State.ACTIVE: 10.0}, owner="a"))
    assert steps(report, before(1, {})) == [
        ("last", None, 0.0),
        ("inventory", None, 10.0),
        ("this", None, 10.0),
    ]


def test_only_the_largest_rates_are_named() -> None:
    """Eight groups gained 1 to 8 hours: the five largest are named, 1 + 2 + 3 are the others'."""
    deeds = [
        Did(f"G{n}", {State.ACTIVE: 50.0 + n, State.FREE: 50.0 - n}, owner="a", model=f"M{n}")
        for n in range(1, 9)
    ]
    last = before(1, {Group("", f"M{n}"): {State.ACTIVE: 50, State.FREE: 50} for n in range(1, 9)})
    rates = [one for one in steps(made(*deeds), last) if one[0] == "rate"]
    assert [(group.model if group else None, change) for _, group, change in rates] == [
        ("M8", 8.0),
        ("M7", 7.0),
        ("M6", 6.0),
        ("M5", 5.0),
        ("M4", 4.0),
        (None, 6.0),
    ]


_AMOUNTS = st.tuples(*[st.integers(0, 10**12)] * 3)
_FLEETS = st.dictionaries(st.integers(0, 9), _AMOUNTS, max_size=9)
_STATES = (State.ACTIVE, State.FREE, State.UNKNOWN)


@given(last=_FLEETS, this=_FLEETS)
def test_the_steps_lead_from_last_to_this(
    last: dict[int, tuple[int, ...]], this: dict[int, tuple[int, ...]]
) -> None:
    """Whatever came, went, or was not seen, the sum is exact in ms, and few groups are named."""
    week = before(1, {})
    told = {
        Group("", f"M{name}"): GroupWeek(
            owed_ms=sum(amounts),
            elapsed_ms=dict(zip(_STATES, amounts, strict=True)),
            busy_ms=0.0,
            held_p95=None,
        )
        for name, amounts in last.items()
    }
    deeds = [
        Did(
            f"G{name}",
            {state: ms / HOUR_MS for state, ms in zip(_STATES, amounts, strict=True)},
            owner="a",
            model=f"M{name}",
        )
        for name, amounts in this.items()
    ]
    last_week = Week(
        window=WEEK,
        gpus=len(told),
        groups=told,
        amounts=week.amounts,
        idle_ms={},
        idle_cost=None,
        throttle_ms=None,
        incidents=0,
    )
    found: tuple[Step, ...] = bridge(made(*deeds), Facts(weeks=(last_week,)))
    assert found[0].gpu_ms == sum(amounts[0] for amounts in last.values())
    assert found[-1].gpu_ms == sum(amounts[0] for amounts in this.values())
    assert sum(step.gpu_ms for step in found[:-1]) == found[-1].gpu_ms
    assert sum(step.kind == "rate" for step in found) <= MOST_GROUPS + 1
