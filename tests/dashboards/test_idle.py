"""What is held idle as the dashboard tells it, against what the nodes wrote and against a plan."""

from collections.abc import Iterator, Mapping

import pytest

from agent.store import Store
from agent.tally import HOUR_MS
from agent.tick import State
from dashboards.boards.idle import idle
from dashboards.outline import Config
from dashboards.recorded import HOUR, MINUTE
from tests.dashboards.asking import IDS, WAYS, Looker, by
from tests.dashboards.filled import END_MS, MINUTE_MS, Filled, stores
from tests.dashboards.planned import ANN, LATE, LATE_HOURS, PLAN, planned

PRICE = 2.5
IDLE_OF_BOB = {("n1", "2", "bob"): 5400.0, ("n2", "2", "bob"): 5400.0}
"""Half an hour of patience, and then idle for an hour and a half, to the end."""

pytestmark = pytest.mark.parametrize(("server", "config"), WAYS, ids=IDS)


@pytest.fixture
def look(servers: Mapping[str, Store], filled: Filled, server: str, config: Config) -> Looker:
    """Look at the end, at all GPUs."""
    return Looker(servers[server], idle(config), filled.end_ms)


def test_how_much_is_idle_now(look: Looker, filled: Filled) -> None:
    """Two GPUs of ten that are held; what they cost; the memory on them."""
    memory = by(filled, "memory_used_bytes", "node", "gpu")
    for title, value in (
        ("Held idle", 2.0),
        ("Of those held", 2 / 10),
        ("Money per hour", 2 * PRICE),
        ("Idle GPU-hours", 2.0),
        ("Idle money", 2 * PRICE),
        ("Memory held idle", memory["n1", "2"] + memory["n2", "2"]),
    ):
        assert look.one(title) == pytest.approx(value, rel=0.002), title


def test_a_part_of_the_fleet_is_a_part(look: Looker) -> None:
    """One of them is in each pool; there is none where there are no GPUs."""
    assert look._replace(chosen={"pool": "train"}).one("Held idle") == pytest.approx(1.0, rel=0.002)
    assert look._replace(chosen={"pool": "nowhere"}).one("Held idle") is None


def test_nobody_idle_is_none(look: Looker, filled: Filled) -> None:
    """A quarter of an hour after the beginning everybody is patient: 0, and empty panels."""
    early = look._replace(at_ms=filled.end_ms - 105 * MINUTE_MS)
    assert early.one("Held idle") == 0.0
    assert early.one("Money per hour") == 0.0
    assert early.told("By owner", "owner") == {}
    assert early.columns("GPUs that are held idle now", "node", "gpu") == [{}, {}, {}]


def test_by_owner_and_pool(look: Looker) -> None:
    """Bob alone; one in each pool; all that pauses is beyond its patience."""
    assert look.told("By owner", "owner") == pytest.approx({("bob",): 2.0}, rel=0.002)
    assert look.told("By pool", "pool") == pytest.approx({("train",): 1.0, ("serve",): 1.0}, rel=0.002)
    pauses = look.told("Pauses and idling", "state")
    assert pauses["held_idle",] == pytest.approx(2.0, rel=0.002)
    assert pauses["held_gap",] == pytest.approx(0.0, abs=0.001)


def test_which_gpus_since_when_and_for_how_much(look: Looker, filled: Filled) -> None:
    """Each once, with the seconds of a day, their cost, and its memory; whose it is, and what holds it."""
    title = "GPUs that are held idle now"
    seconds, cost, memory = look.columns(title, "node", "gpu", "owner")
    assert seconds == pytest.approx(IDLE_OF_BOB)
    assert cost == pytest.approx({key: value / 3600 * PRICE for key, value in IDLE_OF_BOB.items()}, rel=0.001)
    used = by(filled, "memory_used_bytes", "node", "gpu")
    assert memory == pytest.approx({key: used[key[:2]] for key in IDLE_OF_BOB})
    whole = look.columns(title, "owner", "holder", "kind", "node", "gpu", "model", "uuid")[0]
    assert {key[1:3] for key in whole} == {("python -m ipykernel_launcher", "process")}
    assert {key[5] for key in whole} == {"NVIDIA H200", "NVIDIA H100 80GB HBM3"}
    assert all(key[6].startswith("GPU-") for key in whole)


def test_whom_to_talk_to(look: Looker, filled: Filled) -> None:
    """Hours of a week by owner, their cost, and the share of what he held; no finding is for owners."""
    hours = (
        sum(
            value
            for key, value in by(filled, "tally_seconds_total", "owner", "state", "node").items()
            if key[1] == State.HELD_IDLE
        )
        / 3600
    )
    assert hours == 3.0
    assert look.told("Idle GPU-hours of 7 days", "owner") == pytest.approx({("bob",): hours}, rel=0.03)
    idle_hours, cost, share = look.columns("Owners, 7 days", "owner")
    assert idle_hours == pytest.approx({("bob",): hours}, rel=0.03)
    assert cost == pytest.approx({key: value * PRICE for key, value in idle_hours.items()})
    assert share == pytest.approx({("bob",): 3 / 4}, rel=0.03)
    assert look.told("Findings for owners", "rule", "node") == {}


def test_what_is_not_used_and_no_owner_is_to_blame(look: Looker) -> None:
    """Two GPUs are free; none is down any more."""
    told = look.told("Not used, and no owner's fault", "state")
    assert told["free",] == pytest.approx(2.0, rel=0.002)
    assert told["down",] == pytest.approx(0.0, abs=0.001)


@pytest.fixture(scope="module")
def kept() -> Iterator[Mapping[str, Store]]:
    """Both stores with five weeks by a plan."""
    spans = {MINUTE: (2 * HOUR_MS, MINUTE_MS), HOUR: (2 * HOUR_MS, HOUR_MS)}
    with stores(planned(), spans) as found:
        yield found


def test_a_day_is_a_day_however_old_the_account(
    kept: Mapping[str, Store], server: str, config: Config
) -> None:
    """Of an account of weeks the last day counts; of one that is six hours old, all of it."""
    look = Looker(kept[server], idle(config), END_MS)
    seconds, *_ = look.columns("GPUs that are held idle now", "uuid", "owner")
    assert seconds["GPU-1", ANN] == pytest.approx(0.2 * 86_400)
    assert seconds["GPU-4", ""] == pytest.approx(0.1 * 86_400)
    share = next(gpu.shares[LATE][0] for gpu in PLAN if LATE in gpu.shares)
    assert seconds["GPU-2", LATE.owner] == pytest.approx(share * LATE_HOURS * 3600)
