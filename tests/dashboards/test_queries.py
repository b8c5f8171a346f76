"""Every query of every panel, on real stores: none fails, none is empty without a reason, all are true."""

import re
from collections.abc import Mapping

import pytest

from agent.store import Store
from dashboards.build import boards
from dashboards.outline import Board, Config, Query
from tests.dashboards.asking import IDS, PLAIN, WAYS
from tests.dashboards.filled import MINUTE_MS, Filled, asked, chosen_of, panel_of

NAMES = [board.name for board in boards(PLAIN)]


CHOSEN = {"cluster": "c1", "pool": "train", "model": "NVIDIA H200", "owner": "bob"}
"""What is chosen at the top: an owner who holds a GPU idle."""


def board_of(config: Config, name: str) -> Board:
    """Give one dashboard."""
    return next(board for board in boards(config) if board.name == name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("server", "config"), WAYS, ids=IDS)
def test_every_query_is_answered(
    servers: Mapping[str, Store], filled: Filled, server: str, config: Config, name: str
) -> None:
    """Those that are quiet while nothing is wrong may be empty; all else has something to show."""
    board = board_of(config, name)
    empty = [
        (panel.title, query.expr)
        for panel in board.panels
        for query in panel.queries
        if not asked(servers[server], query, chosen_of(board, filled), filled.end_ms)
        and not panel.quiet
        and query.legend != "silent"
    ]
    assert empty == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("server", "config"), WAYS, ids=IDS)
def test_every_query_is_answered_about_what_is_chosen(
    servers: Mapping[str, Store], filled: Filled, server: str, config: Config, name: str
) -> None:
    """One cluster, one pool, one model, one owner, as Grafana puts them in, have something to show, too."""
    board = board_of(config, name)
    chosen = {**chosen_of(board, filled), **CHOSEN}
    empty = [
        (panel.title, query.expr)
        for panel in board.panels
        for query in panel.queries
        if not asked(servers[server], query, chosen, filled.end_ms)
        and not panel.quiet
        and query.legend != "silent"
    ]
    assert empty == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("server", "config"), WAYS, ids=IDS)
def test_every_variable_has_values(
    servers: Mapping[str, Store], filled: Filled, server: str, config: Config, name: str
) -> None:
    """Those at the top, each for all that stands before it; they are not empty."""
    board = board_of(config, name)
    for variable in board.variables:
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable.query)
        assert found, variable.query
        expr, label = found.groups()
        told = asked(
            servers[server],
            Query(f"count by ({label}) ({expr})", instant=True),
            chosen_of(board, filled),
            filled.end_ms,
        )
        values = {one.labels.get(label, "") for one in told} - {""}
        assert values, (board.name, variable.name)
        if variable.name in CHOSEN:
            assert any(re.fullmatch(CHOSEN[variable.name], value) for value in values), values


@pytest.mark.parametrize(("server", "config"), WAYS, ids=IDS)
def test_the_fleet_is_told_truly(
    servers: Mapping[str, Store], filled: Filled, server: str, config: Config
) -> None:
    """GPUs, power, the least margin, and how many GPUs were in each state over five minutes."""
    board = board_of(config, "fleet")

    def told(title: str) -> dict[str, float]:
        found = {}
        for query in panel_of(board, title).queries:
            for one in asked(servers[server], query, {}, filled.end_ms):
                found[next(iter(one.labels.values()), "")] = one.samples[-1][1]
        return found

    assert told("GPUs") == {"": 12.0}
    assert told("Silent") == {"": 0.0}
    assert told("Accounted for")[""] == pytest.approx(1.0, rel=1e-6)
    watts = filled.latest("power_watts")
    assert sum(told("Power").values()) == pytest.approx(sum(watts.values()), rel=1e-6)
    margins = filled.latest("temperature_margin_celsius")
    assert told("Least margin")[""] == pytest.approx(min(margins.values()), rel=1e-6)
    states = told("GPUs by state")
    assert sum(states.values()) == pytest.approx(12.0, rel=1e-6)
    for state, gpus in true_states(filled).items():
        assert states[state] == pytest.approx(gpus, abs=0.01), state
    idle = {owner: gpus for owner, gpus in true_idle(filled).items() if gpus}
    assert told("Idle GPUs by owner now") == pytest.approx(idle, abs=0.01)


def true_states(filled: Filled) -> dict[str, float]:
    """Give by state how many GPUs' worth of time was entered in the last five minutes."""
    return _grown(filled, "state")


def true_idle(filled: Filled) -> dict[str, float]:
    """Give that of idle time by owner."""
    return _grown(filled, "owner", "held_idle")


def _grown(filled: Filled, label: str, state: str = "") -> dict[str, float]:
    now = filled.until("tally_seconds_total", filled.end_ms)
    before = filled.until("tally_seconds_total", filled.end_ms - 5 * MINUTE_MS)
    found: dict[str, float] = {}
    for labels, (at_ms, value) in now.items():
        told = dict(labels)
        if not state or told["state"] == state:
            name = told.get(label, "")
            before_ms, less = before.get(labels, (at_ms - 1, value))
            found[name] = found.get(name, 0.0) + (value - less) * 1000 / (at_ms - before_ms)
    return found


@pytest.mark.parametrize("server", ["victoria", "prometheus"])
def test_what_is_wrong_with_a_gpu_is_shown(servers: Mapping[str, Store], filled: Filled, server: str) -> None:
    """Its finding and its XIDs, on the page of the GPU and of the node, and on that of the fleet."""
    for name in ("fleet", "node", "gpu", "health"):
        board = board_of(PLAIN, name)
        title = "Findings that are open"
        (query,) = panel_of(board, title).queries
        (told,) = asked(servers[server], query, chosen_of(board, filled), filled.end_ms)
        assert told.samples[-1][1] == 1.0, name
    gpu = board_of(PLAIN, "gpu")
    (query,) = panel_of(gpu, "XIDs").queries
    (told,) = asked(servers[server], query, chosen_of(gpu, filled), filled.end_ms)
    assert (told.labels["xid"], told.samples) == ("79", [(filled.end_ms, 2.0)])


@pytest.mark.parametrize("server", ["victoria", "prometheus"])
def test_a_part_of_the_fleet_is_a_part(servers: Mapping[str, Store], filled: Filled, server: str) -> None:
    """By pool, by model, by both, and none."""
    (query,) = panel_of(board_of(PLAIN, "fleet"), "GPUs").queries
    for chosen, gpus in (
        ({"pool": "train"}, [8.0]),
        ({"pool": "train|serve"}, [12.0]),
        ({"model": ".*H100.*"}, [4.0]),
        ({"cluster": "c1", "pool": "serve", "model": ".*H200.*"}, []),
    ):
        told = asked(servers[server], query, chosen, filled.end_ms)
        assert [one.samples[-1][1] for one in told] == gpus


@pytest.mark.parametrize("server", ["victoria", "prometheus"])
def test_states_over_time_are_places_in_the_colours(
    servers: Mapping[str, Store], filled: Filled, server: str
) -> None:
    """Each GPU has one line."""
    (query,) = panel_of(board_of(PLAIN, "node"), "State").queries
    told = asked(servers[server], query, {"node": "n1"}, filled.end_ms)
    assert sorted(one.labels["gpu"] for one in told) == [str(index) for index in range(8)]
    assert {value for one in told for _, value in one.samples} <= set(range(8))
