"""Heat and energy: who was slowed down by what, what was drawn without work, and the carbon of it."""

from pathlib import Path

import pytest

from agent.quantities import QUANTITIES
from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.heat import ALARMING, energy, heat, thermal_ms
from reports.facts import Facts, GpuFacts
from reports.prices import Carbon, PriceBook
from tests.reports.made import Did, hour, made
from tests.reports.small import BOB, MONDAY_MS, Small, gpu, report_of

WEEK = {State.ACTIVE: 168.0}
HOT = GpuFacts(throttle_ms={"sw_thermal": 100}, margin_least_celsius=20.0, temperature_max_celsius=70.0)


def lines(**gpus: GpuFacts) -> list[str]:
    """Name the GPUs of the list."""
    report = made(*(Did(name, WEEK, owner="a") for name in gpus))
    return [
        line.uuid for line in heat(report, Facts(gpus={(name, "n1"): told for name, told in gpus.items()}))
    ]


def test_the_reasons_are_those_of_the_driver() -> None:
    """Names of the vocabulary, not our own."""
    reasons = {dict(one.labels).get("reason") for one in QUANTITIES.values()}
    assert set(ALARMING) < reasons


def test_the_worst_comes_first() -> None:
    """By time slowed for heat, then time lost, then margin; the brake alone comes after heat."""
    found = lines(
        A=GpuFacts(throttle_ms={"power_brake": 10**9}),
        B=GpuFacts(throttle_ms={"sw_thermal": 100}, heat_lost_ms=10),
        C=GpuFacts(throttle_ms={"sw_thermal": 60, "hw_thermal": 60}),
        D=GpuFacts(throttle_ms={"hw_thermal": 100}, heat_lost_ms=50),
        E=GpuFacts(margin_least_celsius=1.0),
    )
    assert found == ["C", "D", "B", "E", "A"]


def test_normal_reasons_put_no_gpu_on_the_list() -> None:
    """Full load meets the power cap; 6 K of margin are enough; no margin is no alarm, whatever the heat."""
    found = lines(
        A=GpuFacts(throttle_ms={"power_cap": 10**9, "low_utilization": 10**9, "sw_thermal": 0}),
        B=GpuFacts(margin_least_celsius=6.0),
        C=GpuFacts(temperature_max_celsius=95.0),
        D=GpuFacts(margin_least_celsius=5.0),
    )
    assert found == ["D"]


def test_a_line_tells_all_that_is_known() -> None:
    """Also the normal reasons; those of nothing are left out."""
    told = GpuFacts(throttle_ms={"sw_thermal": 100, "power_cap": 7, "hw_thermal": 0}, power_max_watts=700.0)
    report = made(Did("A", WEEK, owner="a"))
    (line,) = heat(report, Facts(gpus={("A", "n1"): told}))
    assert (line.throttle_ms, line.power_max_watts) == ({"power_cap": 7, "sw_thermal": 100}, 700.0)
    assert (line.lost_ms, line.margin_least_celsius, line.node, line.index) == (None, None, "n1", 0)


def test_thermal_time_is_none_where_nobody_tells() -> None:
    """A card that tells no reasons is not a cool one."""
    assert thermal_ms(Facts(gpus={("A", "n1"): GpuFacts(throttle_ms={"power_cap": 5})})) is None
    assert (
        thermal_ms(Facts(gpus={("A", "n1"): HOT, ("B", "n1"): GpuFacts(throttle_ms={"hw_thermal": 7})}))
        == 107
    )


def test_energy_is_worked_out_by_hand() -> None:
    """700 W for 68 h and 100 W for 100 h: 47.6 and 10 kWh; at a PUE of 1.5 86.4 kWh; at 400 g 34.56 kg."""
    report = made(
        Did("A", {State.ACTIVE: 68.0}, owner="a", watts=700.0),
        Did("A", {State.HELD_IDLE: 40.0, State.HELD_GAP: 10.0}, owner="a", watts=100.0),
        Did("A", {State.FREE: 50.0}, watts=100.0),
        prices=PriceBook(pue_ratio=1.5, carbon=(Carbon(grams_per_kwh=400.0, source="a table"),)),
    )
    told = energy(report, Facts())
    assert told.kwh == pytest.approx(57.6)
    assert told.idle_kwh == pytest.approx(10.0)
    assert told.kwh_with_overhead == pytest.approx(86.4)
    assert told.carbon_kg == pytest.approx(34.56)
    assert (told.seen_ratio, told.pue_ratio, told.carbon_source) == (1.0, 1.5, "a table")


def test_energy_that_nobody_saw_is_not_none_at_all() -> None:
    """No carbon of it either; without an intensity there is none."""
    book = PriceBook(pue_ratio=1.5, carbon=(Carbon(grams_per_kwh=400.0),))
    told = energy(made(Did("A", WEEK, owner="a"), prices=book), Facts())
    assert (told.kwh, told.idle_kwh, told.kwh_with_overhead, told.carbon_kg) == (None, None, None, None)
    told = energy(made(Did("A", WEEK, owner="a", watts=1.0)), Facts())
    assert (told.carbon_kg, told.carbon_grams_per_kwh, told.peak_kilowatts) == (None, None, None)


def test_a_grid_without_carbon_gives_none() -> None:
    """0 g/kWh is a measurement."""
    book = PriceBook(carbon=(Carbon(grams_per_kwh=0.0),))
    assert energy(made(Did("A", WEEK, owner="a", watts=1.0), prices=book), Facts()).carbon_kg == 0.0


def test_the_peak_is_the_hour_that_drew_most() -> None:
    """Two GPUs at 700 W and 300 W are 1 kW; an hour outside the window does not count."""
    rows = (
        hour(0, State.ACTIVE, 1.0, watts=900.0),
        hour(1, State.ACTIVE, 1.0, watts=700.0),
        hour(1, State.FREE, 1.0, watts=300.0),
        hour(-1, State.ACTIVE, 9.0, watts=900.0),
    )
    told = energy(made(Did("A", WEEK, owner="a", watts=1.0)), Facts(hours=rows))
    assert told.peak_kilowatts == pytest.approx(1.0)


def test_carbon_is_that_of_its_time(tmp_path: Path) -> None:
    """Four hours at 500 W and a PUE of 2: two kWh each at 100 and 300 g; before there is no figure."""
    small = Small(tmp_path / "j.db")
    for _ in range(4):
        small.pass_by(HOUR_MS, {gpu(0): (BOB, {"busy_ratio": 1.0, "power_watts": 500.0})})
    small.save()
    first = Carbon(grams_per_kwh=100.0, source="a", from_ms=MONDAY_MS)
    second = Carbon(grams_per_kwh=300.0, source="b", from_ms=MONDAY_MS + 2 * HOUR_MS)
    told = energy(report_of(small.path, prices=PriceBook(pue_ratio=2.0, carbon=(first, second))), Facts())
    assert (told.kwh, told.kwh_with_overhead) == (2.0, 4.0)
    assert told.carbon_kg == pytest.approx(0.8)
    assert told.carbon_grams_per_kwh == pytest.approx(200.0)
    assert told.carbon_source == "a; b"
    told = energy(report_of(small.path, prices=PriceBook(carbon=(second,))), Facts())
    assert told.carbon_kg is None
