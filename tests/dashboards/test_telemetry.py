"""What agents say of themselves as the dashboard tells it: n1's is well, n2's is not."""

from collections.abc import Callable, Mapping

import pytest

from agent.store import Store
from dashboards.boards.health import health
from dashboards.boards.telemetry import telemetry
from dashboards.boards.thermals import thermals
from dashboards.outline import Board, Config
from tests.dashboards.ailing import MINUTE_MS, REPORT_AGE_SECONDS, UNKNOWN
from tests.dashboards.asking import IDS, PLAIN, RECORDED, WAYS, Looker
from tests.dashboards.filled import Filled
from tests.dashboards.test_boards import _NAME as NAME

N1, N2 = ("n1:9740",), ("n2:9740",)


@pytest.fixture(params=WAYS, ids=IDS)
def look(request: pytest.FixtureRequest, servers: Mapping[str, Store], filled: Filled) -> Looker:
    """Look at the end, at all nodes."""
    server, config = request.param
    return Looker(servers[server], telemetry(config), filled.end_ms)


def test_both_nodes_are_heard_of(look: Looker) -> None:
    """None is silent."""
    assert (look.one("Nodes"), look.one("Silent nodes")) == (2.0, 0.0)
    assert look.told("Silent nodes by name", "node") == {}


def test_nodes_that_fall_silent_are_counted_and_named(look: Looker, filled: Filled) -> None:
    """Half an hour after the last word; when they last spoke is true to five minutes."""
    later = look._replace(at_ms=filled.end_ms + 30 * MINUTE_MS)
    assert later.one("Silent nodes") == 2.0
    named = later.told("Silent nodes by name", "node")
    assert set(named) == {("n1",), ("n2",)}
    assert all(filled.end_ms - 5 * MINUTE_MS <= at_ms <= filled.end_ms for at_ms in named.values())
    train = later._replace(chosen={"pool": "train"})
    assert (train.one("Silent nodes"), set(train.told("Silent nodes by name", "node"))) == (1.0, {("n1",)})


def test_unknown_time_is_told_by_node(look: Looker, filled: Filled) -> None:
    """One of four GPUs was unknown for ten minutes, long before the end."""
    then = look._replace(at_ms=filled.end_ms + UNKNOWN[1] * MINUTE_MS)
    assert then.told("Nodes with unknown time", "node") == {("n2",): pytest.approx(0.25, rel=0.1)}
    assert look.told("Nodes with unknown time", "node") == {}


def test_intervals_are_delivered_late_or_not(look: Looker) -> None:
    """n2 enters every second interval, 3 s late, and its latest ended two minutes ago."""
    mean, worst = look.columns("Intervals delivered")
    assert (mean[()], worst[()]) == pytest.approx((0.75, 0.5), rel=0.01)
    assert look.one("Delivered") == pytest.approx(0.75, rel=0.01)
    _, latest = look.columns("How late intervals close")
    assert latest[()] == 3.0
    assert look.told("Oldest intervals", "instance") == {N1: 0.0, N2: 120.0}


def test_reading_is_told(look: Looker) -> None:
    """n2 spends half of its time in the driver; its probe ended once and hangs; it is without sight."""
    mean, worst = look.columns("Time in the driver")
    assert (mean[()], worst[()]) == pytest.approx((0.255, 0.5))
    assert look.told("Probes in trouble", "instance", "trouble") == pytest.approx(
        {(*N2, "blind intervals"): 3, (*N2, "probes ended"): 1, (*N2, "probes that hang"): 1}, rel=0.05
    )
    assert look.one("Without sight") == 1.0
    times, agents = look.columns("Values refused", "quantity", "reason")
    assert times == {("power_watts", "failed"): pytest.approx(4, rel=0.05)}
    assert agents == {("power_watts", "failed"): 1.0}


def test_journals_and_stores_are_told(look: Looker) -> None:
    """What n2 lost and what waits; n1 is not named."""
    lost = {"commits failed": 2, "readings dropped": 8, "ticks dropped": 6, "ticks that wait": 12}
    assert look.told("Journals in trouble", "instance", "trouble") == pytest.approx(
        {(*N2, trouble): number for trouble, number in lost.items()}, rel=0.05
    )
    lost = {"takes nothing": 1, "ticks that wait": 120, "rows refused": 5, "ticks dropped": 7}
    assert look.told("Exporters in trouble", "instance", "exporter", "trouble") == pytest.approx(
        {(*N2, "vm", trouble): number for trouble, number in lost.items()}, rel=0.05
    )
    assert look.one("Stores that do not take") == 1.0


def test_agents_are_told(look: Looker) -> None:
    """Processor time, journals, versions, holders, findings, and the report of two days ago."""
    mean, worst = look.columns("Processor time of agents")
    assert (mean[()], worst[()]) == pytest.approx((0.0125, 0.02))
    assert [column[()] for column in look.columns("Size of journals")] == [7e6, 9e6]
    assert look.told("Holders not known", "instance", "world") == {(*N2, "slurm"): 0.0}
    assert look.told("Findings about nodes", "rule", "instance") == {("journal_failing", *N2): 1.0}
    assert look.told("Versions", "version") == {("1.2.0",): 1.0, ("1.1.0",): 1.0}
    assert look.one("Last report") == REPORT_AGE_SECONDS


def test_what_no_agent_says_is_not_told_as_nothing_wrong(look: Looker) -> None:
    """Where agents only push, stats about their pages are empty, not 0."""
    pushed = look._replace(chosen={"cluster": "c1"})
    for title in ("Delivered", "Without sight", "Stores that do not take", "Last report"):
        assert pushed.one(title) is None, title
    assert pushed.one("Nodes") == 2.0


@pytest.mark.parametrize("make", [thermals, health, telemetry])
def test_no_drawing_asks_for_every_gpu(make: Callable[[Config], Board]) -> None:
    """Over time only sums are asked for, and what there is once for each node."""
    for panel in make(RECORDED).panels:
        for query in panel.queries:
            if not query.instant:
                names = NAME.findall(query.expr)
                assert all(":" in name or name.startswith("gputally_") for name in names), panel.title


@pytest.mark.parametrize("make", [thermals, health, telemetry])
@pytest.mark.parametrize("pool", [".*", "train", "serve"])
def test_no_table_has_only_one_of_its_columns(
    look: Looker, pool: str, make: Callable[[Config], Board]
) -> None:
    """Grafana calls the only column that has something by another name, and the table would be empty."""
    other = look._replace(
        board=make(RECORDED if look.board == telemetry(RECORDED) else PLAIN), chosen={"pool": pool}
    )
    for panel in other.board.panels:
        if panel.kind == "table" and len(panel.queries) > 1:
            columns = other.columns(panel.title, *dict(panel.labels))
            assert sum(map(bool, columns)) != 1, panel.title
