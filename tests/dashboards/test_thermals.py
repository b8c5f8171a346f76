"""Heat and power as the dashboard tells them, against what the nodes wrote."""

from collections import Counter
from collections.abc import Mapping

import pytest

from agent.store import Store
from dashboards.boards.thermals import thermals
from dashboards.outline import Config
from dashboards.signs import MARGIN_BANDS
from tests.dashboards.ailing import HOT
from tests.dashboards.asking import IDS, WAYS, Looker, by
from tests.dashboards.filled import MINUTE_MS, Filled

pytestmark = pytest.mark.parametrize(("server", "config"), WAYS, ids=IDS)


@pytest.fixture
def look(servers: Mapping[str, Store], filled: Filled, server: str, config: Config) -> Looker:
    """Look at the end, at all GPUs."""
    return Looker(servers[server], thermals(config), filled.end_ms)


def band_of(margin: float) -> str:
    """Name the band of a margin."""
    if margin <= 0:
        return "at the limit"
    if margin <= 5:
        return "up to 5 K"
    return "5 to 10 K" if margin <= 10 else "10 to 20 K" if margin <= 20 else "more than 20 K"


def test_each_gpu_is_in_one_band(look: Looker, filled: Filled) -> None:
    """All twelve tell their margin; one is beyond its limit; bands without GPUs are 0."""
    margins = by(filled, "temperature_margin_celsius", "uuid")
    told = dict(zip(MARGIN_BANDS, look.columns("GPUs by margin"), strict=True))
    counted = Counter(band_of(margin) for margin in margins.values())
    assert {band: found[()] for band, found in told.items()} == {band: counted[band] for band in told}
    assert sum(counted.values()) == 12
    assert (look.one("At their limit"), look.one("Within 5 K")) == (1.0, 0.0)


def test_bands_are_of_what_is_chosen(look: Looker) -> None:
    """The hot GPU is in the pool train."""
    assert look._replace(chosen={"pool": "serve"}).one("At their limit") == 0.0
    assert look._replace(chosen={"pool": "nowhere"}).one("At their limit") is None


def test_margin_by_model(look: Looker, filled: Filled) -> None:
    """The least of a model, and the mean of all its GPUs."""
    least, mean = look.columns("Margin by model", "model")
    for model in ("NVIDIA H200", "NVIDIA H100 80GB HBM3"):
        margins = [
            margin
            for (own, _), margin in by(filled, "temperature_margin_celsius", "model", "uuid").items()
            if own == model
        ]
        assert least[(model,)] == pytest.approx(min(margins))
        assert mean[(model,)] == pytest.approx(sum(margins) / len(margins))


def test_the_hottest_gpus_have_all_figures(look: Looker, filled: Filled) -> None:
    """Each column is of the same GPUs, and as they told it."""
    columns = look.columns("Hottest GPUs", "node", "gpu")
    fields = (
        "temperature_margin_celsius",
        "temperature_max_celsius",
        "memory_temperature_max_celsius",
        "power_watts",
        "power_limit_watts",
    )
    for column, field in zip(columns, fields, strict=True):
        assert column == pytest.approx(by(filled, field, "node", "gpu"))
    margins = columns[0]
    assert min(margins, key=margins.__getitem__) == HOT


def test_memory_has_a_margin_of_its_own(look: Looker, filled: Filled) -> None:
    """Its limit less its largest temperature."""
    limits = by(filled, "memory_temperature_limit_celsius", "uuid")
    most = by(filled, "memory_temperature_max_celsius", "uuid")
    told = look.told("Memory nearest to its limit", "uuid")
    assert told == pytest.approx({uuid: limits[uuid] - most[uuid] for uuid in limits})


def test_a_fan_stands_still_on_a_hot_gpu(look: Looker) -> None:
    """Its margin and the slowest fan, of this GPU alone."""
    margin, fan = look.columns("Fans that stand still", "node", "gpu")
    assert margin == pytest.approx({HOT: -2.7})
    assert fan == {HOT: 0.0}


def test_nodes_by_their_hottest_gpu_and_by_spread(look: Looker, filled: Filled) -> None:
    """One GPU of n1 is within 5 K; spread is hottest less coolest."""
    least, near = look.columns("Nodes nearest to their limits", "node")
    spread, of_power = look.columns("Spread within nodes", "node")
    margins = by(filled, "temperature_margin_celsius", "node", "gpu")
    assert near == {("n1",): 1.0, ("n2",): 0.0}
    for node in ("n1", "n2"):
        assert least[(node,)] == pytest.approx(min(value for key, value in margins.items() if key[0] == node))
        for told, field in ((spread, "temperature_celsius"), (of_power, "power_watts")):
            values = [value for key, value in by(filled, field, "node", "gpu").items() if key[0] == node]
            assert told[(node,)] == pytest.approx(max(values) - min(values))


def test_what_heat_and_brake_take(look: Looker, filled: Filled) -> None:
    """GPUs' worth of time: one GPU is slowed for heat, one is braked for half of the time."""
    reasons = look.told("Clocks lowered", "reason")
    for reason in ("sw_thermal", "hw_thermal", "power_cap"):
        assert reasons[(reason,)] == pytest.approx(grown(filled, reason), rel=0.02, abs=0.001), reason
    heat = look.one("Lost to heat")
    assert heat == pytest.approx(reasons["sw_thermal",] + reasons["hw_thermal",])
    assert heat is not None
    assert heat > 0.1
    assert look.one("Power brake") == pytest.approx(0.5)
    assert ("low_utilization",) not in reasons


def grown(filled: Filled, reason: str) -> float:
    """Give GPUs' worth of throttled time from rows: what grew in five minutes."""
    now = filled.until("throttle_seconds_total", filled.end_ms)
    before = filled.until("throttle_seconds_total", filled.end_ms - 5 * MINUTE_MS)
    return sum(
        (value - before[labels][1]) * 1000 / (at_ms - before[labels][0])
        for labels, (at_ms, value) in now.items()
        if dict(labels)["reason"] == reason
    )


def test_power_energy_and_limits(look: Looker, filled: Filled) -> None:
    """Sums over twelve GPUs; an hour at this rate in kWh by two ways, and that of GPUs held idle."""
    watts = sum(filled.latest("power_watts").values())
    limits = sum(filled.latest("power_limit_watts").values())
    assert limits == 12 * 700
    assert look.one("Power") == pytest.approx(watts)
    assert look.one("Of the limits") == pytest.approx(watts / limits)
    counted, by_power, idle = (column[()] for column in look.columns("Energy of an hour"))
    assert by_power == pytest.approx(watts / 1000)
    assert counted == pytest.approx(watts / 1000, rel=0.2)
    assert idle == pytest.approx((77 + 71) / 1000, rel=0.01)
