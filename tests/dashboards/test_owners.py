"""Owners and jobs as the dashboard tells them, against what the nodes wrote and against a plan."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import fmean, quantiles

import pytest

from agent.store import Store
from agent.tally import HOUR_MS
from agent.tick import State
from dashboards.boards.owners import UNATTRIBUTED, owners
from dashboards.outline import Config
from dashboards.recorded import HOUR, MINUTE
from tests.dashboards.ailing import HOT, LAZY_RATIO
from tests.dashboards.asking import IDS, WAYS, Looker, by
from tests.dashboards.filled import END_MS, MINUTE_MS, Filled, stores
from tests.dashboards.planned import planned

PRICE = 2.5
GPUS = {"alice": 3, "svc-chat": 3, "bob": 2, "dana": 1, "erik": 1}
"""By owner, from the beginning to the end."""
JOBS = {
    ("alice", "python train.py", "process"): 3,
    ("svc-chat", "python -m serving.chat", "process"): 3,
    ("bob", "python -m ipykernel_launcher", "process"): 2,
    ("dana", "python -m finetune", "process"): 1,
    ("erik", "torchrun", "process"): 1,
}
DOWN_HOURS = 0.2
"""Of the last hour, in which dana's GPU had an error and was down."""
HELD = (State.ACTIVE, State.HELD_GAP, State.HELD_IDLE)

pytestmark = pytest.mark.parametrize(("server", "config"), WAYS, ids=IDS)


@pytest.fixture
def look(servers: Mapping[str, Store], filled: Filled, server: str, config: Config) -> Looker:
    """Look at the end, at all GPUs."""
    return Looker(servers[server], owners(config), filled.end_ms)


def busy_of(filled: Filled, minutes: int) -> dict[str, float]:
    """Give the busy share of what an owner held at the end, from how much its accounts grew."""
    now = filled.until("tally_busy_seconds_total", filled.end_ms)
    before = filled.until("tally_busy_seconds_total", filled.end_ms - minutes * MINUTE_MS)
    grown: defaultdict[str, float] = defaultdict(float)
    for labels, (_, value) in now.items():
        grown[dict(labels).get("owner", "")] += value - before.get(labels, (0, 0.0))[1]
    return {owner: grown[owner] / (minutes * 60 * gpus) for owner, gpus in GPUS.items()}


def test_what_all_hold_and_use(look: Looker, filled: Filled) -> None:
    """Ten GPUs of twelve, how busy they are, how idle, and what an hour of them costs."""
    busy = sum(share * GPUS[owner] for owner, share in busy_of(filled, 5).items())
    hours = 10 - DOWN_HOURS
    for title, value in (
        ("GPUs held", 10.0),
        ("Busy", busy / 10),
        ("Idle", 0.2),
        ("GPU-hours", hours),
        ("Money", hours * PRICE),
    ):
        assert look.one(title) == pytest.approx(value, rel=0.005), title


def test_energy_is_of_owners_alone(look: Looker, filled: Filled) -> None:
    """Wh of an hour by what the accounts of owners grew; free GPUs have none."""
    now = filled.until("tally_joules_total", filled.end_ms)
    before = filled.until("tally_joules_total", filled.end_ms - HOUR_MS)
    joules = sum(
        value - before.get(labels, (0, 0.0))[1]
        for labels, (_, value) in now.items()
        if dict(labels).get("owner")
    )
    assert look.one("Energy") == pytest.approx(joules / 3600, rel=0.02)


def test_one_owner_is_told_alone(look: Looker, filled: Filled) -> None:
    """What is chosen at the top holds for all of it."""
    own = look._replace(chosen={"owner": "alice"})
    assert own.one("GPUs held") == pytest.approx(3.0, rel=0.002)
    assert own.one("Busy") == pytest.approx(busy_of(filled, 5)["alice"], rel=0.005)
    assert own.one("Idle") == 0.0
    assert look._replace(chosen={"owner": "bob"}).one("Idle") == pytest.approx(1.0, rel=0.002)
    assert own.columns("Jobs now", "owner")[0].keys() == {("alice",)}


def test_owners_over_time(look: Looker, filled: Filled) -> None:
    """Each with his GPUs and their busy share; a fifth, half and four fifths of five owners."""
    shares = busy_of(filled, 5)
    told = look.told("Busy by owner", "owner")
    assert told == pytest.approx({(owner,): share for owner, share in shares.items()}, rel=0.01, abs=0.001)
    low, half, high, whole = (column[()] for column in look.columns("Busy, spread over owners"))
    cuts = quantiles(shares.values(), n=5, method="inclusive")
    assert (low, high) == pytest.approx((cuts[0], cuts[3]), rel=0.01)
    assert half == pytest.approx(sorted(shares.values())[2], rel=0.01)
    busy = sum(share * GPUS[owner] for owner, share in shares.items())
    assert whole == pytest.approx(busy / 10, rel=0.01)


def test_all_owners_of_a_week(look: Looker, filled: Filled) -> None:
    """Hours since the beginning, two for each GPU but for one that was down, their cost, and now."""
    hours, cost, busy, energy, held, busy_now, idle = look.columns("All owners", "owner")
    truth: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for key, value in by(filled, "tally_seconds_total", "owner", "state", "uuid").items():
        if key[0] and key[1] in HELD:
            truth[key[0],] += value / 3600
    assert hours == pytest.approx(dict(truth), rel=0.04)
    assert cost == pytest.approx({key: value * PRICE for key, value in hours.items()})
    assert held == pytest.approx({(owner,): float(gpus) for owner, gpus in GPUS.items()}, rel=0.002)
    assert busy_now == pytest.approx(
        {(owner,): share for owner, share in busy_of(filled, 5).items()}, rel=0.01, abs=0.001
    )
    assert idle == pytest.approx({("bob",): 2.0}, rel=0.002)
    assert busy["alice",] == pytest.approx(busy_of(filled, 110)["alice"], rel=0.03)
    joules = by(filled, "tally_joules_total", "owner", "state", "uuid")
    of_alice = sum(value for key, value in joules.items() if key[0] == "alice")
    assert energy["alice",] == pytest.approx(of_alice / 3600, rel=0.05)


def ratio_of(filled: Filled, node: str, gpu: str) -> float:
    """Give the mean busy share of a GPU over the last quarter of an hour."""
    return fmean(
        value
        for row in filled.rows
        for name, value in row.fields
        if name == "busy_ratio"
        and row.at_ms > filled.end_ms - 15 * MINUTE_MS
        and (dict(row.labels)["node"], dict(row.labels)["gpu"]) == (node, gpu)
        and "slice" not in dict(row.labels)
    )


def test_jobs_and_the_gpu_that_lags(look: Looker, filled: Filled) -> None:
    """GPUs of each job over both nodes, mean and least busy of a quarter of an hour, the fullest memory."""
    gpus, busy, least, memory = look.columns("Jobs now", "owner", "holder", "kind")
    assert gpus == {job: float(number) for job, number in JOBS.items()}
    train = ("alice", "python train.py", "process")
    own = [ratio_of(filled, node, gpu) for node, gpu in (("n1", "0"), HOT, ("n2", "0"))]
    assert min(own) == own[1] == pytest.approx(LAZY_RATIO)
    assert least[train] == pytest.approx(LAZY_RATIO)
    assert busy[train] == pytest.approx(sum(own) / 3, rel=0.02)
    used = by(filled, "memory_used_max_bytes", "node", "gpu")
    whole = by(filled, "memory_total_bytes", "node", "gpu")
    fullest = max(used[key] / whole[key] for key in (("n1", "0"), ("n1", "4"), ("n2", "0")))
    assert memory[train] == pytest.approx(fullest)
    lagging = look.told("Stragglers", "owner", "holder", "node", "gpu")
    assert lagging == pytest.approx({(*train[:2], *HOT): LAZY_RATIO})


@pytest.fixture(scope="module")
def kept() -> Iterator[Mapping[str, Store]]:
    """Both stores with five weeks by a plan."""
    spans = {MINUTE: (2 * HOUR_MS, MINUTE_MS), HOUR: (8 * 24 * HOUR_MS, HOUR_MS)}
    with stores(planned(), spans) as found:
        yield found


def test_what_nobody_known_held(kept: Mapping[str, Store], server: str, config: Config) -> None:
    """By state, and as a row of its own among the owners."""
    look = Looker(kept[server], owners(config), END_MS)
    told = look.told("Held by nobody known", "state")
    assert told == pytest.approx({("active",): 0.4, ("held_idle",): 0.1, ("service",): 0.02}, rel=0.01)
    hours, *_ = look.columns("All owners", "owner")
    assert hours[UNATTRIBUTED,] == pytest.approx(0.52 * 7 * 24, rel=0.012)
