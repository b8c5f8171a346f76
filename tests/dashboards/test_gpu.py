"""One GPU's own limits, beside what it tells."""

from collections.abc import Mapping

import pytest

from agent.store import Store
from dashboards.boards.gpu import gpu
from dashboards.outline import Config
from tests.dashboards.asking import IDS, WAYS, Looker, Told
from tests.dashboards.filled import Filled, panel_of

pytestmark = pytest.mark.parametrize(("server", "config"), WAYS, ids=IDS)


@pytest.fixture
def look(servers: Mapping[str, Store], filled: Filled, server: str, config: Config) -> Looker:
    """Look at one GPU."""
    return Looker(servers[server], gpu(config), filled.end_ms, {"uuid": filled.uuid})


def own(filled: Filled, field: str, *labels: str) -> Told:
    """Give what the GPU told last of a field."""
    return {
        tuple(dict(told).get(label, "") for label in labels): value
        for told, value in filled.latest(field).items()
        if dict(told)["uuid"] == filled.uuid
    }


def test_heat_stands_beside_the_limits_of_the_board(look: Looker, filled: Filled) -> None:
    """Core, memory, and four limits; limits are dashed, and named as in the legend."""
    panel = panel_of(look.board, "Temperatures")
    told = {
        query.legend: column
        for query, column in zip(panel.queries, look.columns("Temperatures"), strict=True)
    }
    fields = {
        "core": "temperature_max_celsius",
        "memory": "memory_temperature_max_celsius",
        "operating_max": "temperature_operating_max_celsius",
        "slowdown": "temperature_slowdown_celsius",
        "shutdown": "temperature_shutdown_celsius",
        "memory limit": "memory_temperature_limit_celsius",
    }
    assert told.keys() == fields.keys()
    for legend, field in fields.items():
        assert told[legend] == pytest.approx(own(filled, field)), legend
    assert set(panel.dashed) == set(fields) - {"core", "memory"}
    assert told["operating_max"][()] < told["slowdown"][()] < told["shutdown"][()]


def test_margin_stands_beside_its_limits(look: Looker, filled: Filled) -> None:
    """0 is where the driver slows it; the others are below, by the device's own words."""
    margin, limits = look.columns("Margin", "limit")
    assert margin == {("",): pytest.approx(own(filled, "temperature_margin_celsius")[()])}
    truth = own(filled, "temperature_margin_limit_celsius", "limit")
    assert limits == {key: value for key, value in truth.items() if key != ("memory_max",)}
    assert limits["operating_max",] == 0 > limits["slowdown",] > limits["shutdown",]
