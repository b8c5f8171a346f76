"""The planner's figures against a plan of five weeks: each hour of each GPU is known."""

from collections.abc import Callable, Iterator, Mapping
from statistics import linear_regression

import pytest

from agent.store import Store
from agent.tally import HOUR_MS
from agent.tick import State
from dashboards.boards.capacity import FULL
from dashboards.boards.planner import planner
from dashboards.boards.spans import HELD, OUT, TAKEN
from dashboards.outline import Config
from dashboards.recorded import HOUR, MINUTE
from tests.dashboards.asking import IDS, WAYS, Looker, Told
from tests.dashboards.filled import END_MS, MINUTE_MS, stores
from tests.dashboards.planned import (
    ANN,
    BOB,
    BUSY,
    FREE_WATTS,
    HELD_WATTS,
    HOURS,
    LATE,
    PLAN,
    Account,
    Planned,
    planned,
)

WEEK = 7 * 24
NOW, BEFORE = range(HOURS - WEEK, HOURS), range(HOURS - 2 * WEEK, HOURS - WEEK)
FOUR_WEEKS = range(HOURS - 5 * WEEK, HOURS - WEEK)
FIVE_WEEKS = range(HOURS - 5 * WEEK, HOURS)
SPANS = {MINUTE: (WEEK * HOUR_MS, MINUTE_MS), HOUR: (HOURS * HOUR_MS, HOUR_MS)}
END_OF_WEEK_MS = END_MS - 1000
"""A week that Grafana calls the previous one ends just before its midnight."""
NEAR = 0.012
"""A hundredth: a store sums up whole hours, and an hour of a week is more than half of that."""
EDGE = 0.003
"""Of the inventory: so much of it may fall beyond the edges of a week, and be missing or unknown instead."""
Match = Callable[[Planned, Account], bool]

pytestmark = pytest.mark.parametrize(("server", "config"), WAYS, ids=IDS)


@pytest.fixture(scope="module")
def kept() -> Iterator[Mapping[str, Store]]:
    """Both stores with five weeks."""
    with stores(planned(), SPANS) as found:
        yield found


@pytest.fixture
def look(kept: Mapping[str, Store], server: str, config: Config) -> Looker:
    """Look at the last week."""
    return Looker(kept[server], planner(config), END_OF_WEEK_MS, {"__range": "7d"})


def hours(when: range, match: Match) -> float:
    """Give the GPU-hours of the accounts that match."""
    return sum(
        share
        for hour in when
        for gpu in PLAN
        for account, share in gpu.of_hour(hour).items()
        if match(gpu, account)
    )


def of(*states: State) -> Match:
    """Match states."""
    return lambda _, account: account.state in states


def owed(when: range, match: Callable[[Planned], bool] = lambda _: True) -> float:
    """Give the GPU-hours of the inventory."""
    return sum(gpu.of_owed(hour) for hour in when for gpu in PLAN if match(gpu))


def ladder(when: range) -> dict[str, float]:
    """Give the steps by the plan."""
    whole, busy = owed(when), BUSY * hours(when, of(State.ACTIVE))
    seen = hours(when, lambda _, account: account.state not in (State.UNKNOWN, State.DOWN))
    unknown = whole - seen - hours(when, of(State.DOWN))
    return {
        "1 available": 1 - hours(when, of(*OUT)) / whole,
        "2 coverage": seen / (whole - hours(when, of(State.DOWN))),
        "3 occupancy": hours(when, of(*HELD)) / hours(when, of(*HELD, State.FREE)),
        "4 activity": hours(when, of(State.ACTIVE)) / hours(when, of(*HELD)),
        "5 intensity": BUSY,
        "6 effective": busy / whole,
        "7 effective at most": (busy + unknown) / whole,
    }


def test_the_week_at_a_glance(look: Looker) -> None:
    """Inventory with a GPU that vanished, effective utilisation, coverage, idle hours and money, energy."""
    idle = hours(NOW, of(State.HELD_IDLE))
    told = ladder(NOW)
    by_owner = hours(NOW, lambda _, account: bool(account.owner))
    rest = hours(NOW, lambda _, account: not account.owner)
    assert owed(NOW) == 4 * WEEK - 6
    for title, value in (
        ("GPU-hours owed", owed(NOW)),
        ("Effective utilisation", told["6 effective"]),
        ("Coverage", told["2 coverage"]),
        ("Idle GPU-hours", idle),
        ("Idle money", idle * 2.5),
        ("Energy", by_owner * HELD_WATTS + rest * FREE_WATTS),
    ):
        assert look.one(title) == pytest.approx(value, rel=NEAR), title


def test_the_ladder_of_three_times(look: Looker) -> None:
    """This week, the one before, and the four before this."""
    columns = look.columns("Ladder", "figure")
    for column, when in zip(columns, (NOW, BEFORE, FOUR_WEEKS), strict=True):
        assert {name: value for (name,), value in column.items()} == pytest.approx(ladder(when), rel=NEAR)
    steps = {name: value for (name,), value in columns[1].items()}
    product = 1.0
    for name in ("2 coverage", "4 activity", "5 intensity"):
        product *= steps[name]
    assert steps["6 effective"] < product < 1


def test_all_hours_are_in_one_row(look: Looker) -> None:
    """What nobody told of is unknown; shares sum to the whole."""
    hours_told, share, before, cost = look.columns("All GPU-hours", "state")
    known = {State(state): hours(NOW, of(State(state))) for state in State}
    known[State.UNKNOWN] += owed(NOW) - sum(known.values())
    assert known[State.UNKNOWN] > 24
    truth = {(str(state),): value for state, value in known.items() if value}
    some = EDGE * owed(NOW)
    assert hours_told == pytest.approx(truth, rel=NEAR, abs=some)
    assert cost == pytest.approx({key: hours * 2.5 for key, hours in hours_told.items()})
    assert sum(share.values()) == pytest.approx(1, abs=EDGE)
    assert share == pytest.approx({key: hours / owed(NOW) for key, hours in hours_told.items()}, rel=EDGE)
    assert before["held_idle",] == pytest.approx(hours(BEFORE, of(State.HELD_IDLE)) / owed(BEFORE), rel=NEAR)


@pytest.mark.parametrize("group", [("train", "H200"), ("serve", "T4")], ids=["train", "serve"])
def test_pools_and_models(look: Looker, group: tuple[str, str]) -> None:
    """Each group by itself; shares sum to the whole."""
    columns = look.columns("By pool and model", "pool", "model")
    whole, effective, before, held, idle, free, out, unknown = (column[group] for column in columns)

    def own(gpu: Planned) -> bool:
        return gpu.pool == group[0]

    def within(when: range, *states: State) -> float:
        return hours(when, lambda gpu, account: own(gpu) and account.state in states)

    inventory = owed(NOW, own)
    assert whole == pytest.approx(inventory, rel=NEAR)
    assert effective == pytest.approx(BUSY * within(NOW, State.ACTIVE) / inventory, rel=NEAR)
    assert before == pytest.approx(BUSY * within(BEFORE, State.ACTIVE) / owed(BEFORE, own), rel=NEAR)
    assert held == pytest.approx(within(NOW, *TAKEN) / inventory, rel=NEAR)
    assert idle == pytest.approx(within(NOW, State.HELD_IDLE) / inventory, rel=NEAR)
    assert out == pytest.approx(within(NOW, *OUT) / inventory, rel=NEAR)
    seen = within(NOW, *(state for state in State if state is not State.UNKNOWN))
    assert unknown == pytest.approx(1 - seen / inventory, abs=EDGE)
    assert held + free + out + unknown == pytest.approx(1, abs=EDGE)


def held_by_hour(pool: str, when: range) -> list[float]:
    """Give the GPUs of a pool that were held in each hour."""
    return [
        hours(range(hour, hour + 1), lambda gpu, account: gpu.pool == pool and account.state in TAKEN)
        for hour in when
    ]


def test_room_and_where_it_goes(look: Looker) -> None:
    """Usable now, p95 of the week's hours, and the line through five weeks."""
    usable, p95, room, share = look.columns("Room by pool and model", "pool", "model")
    train = ("train", "H200")
    week = sorted(held_by_hour("train", NOW))
    most = week[round(0.95 * (len(week) - 1))]
    assert usable == pytest.approx({train: 2.0, ("serve", "T4"): 1.0}, abs=0.001)
    assert p95[train] == pytest.approx(most, rel=NEAR)
    assert p95["serve", "T4"] == pytest.approx(0.5, rel=NEAR)
    assert room[train] == pytest.approx(2.0 - p95[train])
    assert share["serve", "T4"] == pytest.approx(0.5, rel=NEAR)
    ahead, more, full = look.columns("If it goes on so", "pool", "model")
    slope = linear_regression(range(5 * WEEK), held_by_hour("train", FIVE_WEEKS)).slope
    assert more[train] == pytest.approx(slope * WEEK, rel=0.03)
    assert more["serve", "T4"] == pytest.approx(0, abs=0.001)
    assert ahead[train] == pytest.approx(p95[train] + 13 * more[train], rel=0.001)
    assert full[train] == pytest.approx(
        max(0.0, FULL * usable[train] - p95[train]) / more[train] * WEEK * 3600, rel=0.001
    )


def test_owners_by_idle_hours(look: Looker) -> None:
    """What they held idle, its price, the week before, and shares of what they held."""
    idle, cost, before, share, busy = look.columns("Owners by idle hours", "owner")
    for name, label in (("unattributed", ""), (ANN, ANN), (BOB, BOB), (LATE.owner, LATE.owner)):

        def within(*states: State, owner: str = label) -> Match:
            return lambda _, account: account.owner == owner and account.state in states

        own = hours(NOW, within(State.HELD_IDLE))
        held = hours(NOW, within(*TAKEN))
        of_an_hour = hours(range(HOURS - 1, HOURS), within(State.HELD_IDLE))
        assert idle[name,] == pytest.approx(own, rel=NEAR, abs=1.1 * of_an_hour)
        assert cost[name,] == pytest.approx(idle[name,] * 2.5)
        then = hours(BEFORE, within(State.HELD_IDLE))
        assert before.get((name,), 0.0) == pytest.approx(then, rel=NEAR)
        assert share[name,] == pytest.approx(own / held, rel=NEAR)
        assert busy[name,] == pytest.approx(BUSY * hours(NOW, within(State.ACTIVE)) / held, rel=NEAR)
    assert len(idle) == 4
    assert LATE.owner not in {name for (name,) in before}


def test_what_was_taken(look: Looker) -> None:
    """Lowered clocks but for idleness, GPUs that were out, and energy, of the week."""
    assert look.told("GPU-hours with lowered clocks", "reason") == pytest.approx(
        {("power_cap",): 0.02 * WEEK, ("sw_thermal",): 0.01 * WEEK}, rel=NEAR
    )
    assert look.told("GPU-hours down or drained", "pool") == pytest.approx(
        {("train",): hours(NOW, of(*OUT))}, rel=NEAR
    )
    energy = look.told("Energy by pool", "pool")
    assert energy["serve",] == pytest.approx(WEEK * FREE_WATTS, rel=NEAR)


def test_hours_are_shares(look: Looker) -> None:
    """In the last hour, states sum to one; the GPU that is silent is in none."""
    told: Told = {}
    for column in look.columns("GPUs by state, by the hour", "state"):
        told |= column
    assert sum(told.values()) == pytest.approx(1)
    assert told["unknown",] == pytest.approx(0.2 / 3, rel=NEAR)
    held, usable, full = look.columns("Held and usable")
    assert usable[()] == pytest.approx(3.0, abs=0.001)
    assert full[()] == pytest.approx(FULL * usable[()])
    last = range(HOURS - 1, HOURS)
    assert held[()] == pytest.approx(hours(last, of(*TAKEN)), rel=NEAR)
