"""What must hold: an hour of bursts that no snapshot would see is accounted for within 0.1 %.

An hour of virtual time goes from the simulated driver through sampler and books into a journal, and what the
journal's accounts hold is compared with what the simulation did.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest

from agent.simulated.scenario import Simulation
from agent.simulator import uninstall
from agent.states import StateSettings
from tests.agent.driven import START_MS, Rig
from tests.agent.histories import books_at, check_hours, check_sums, rows, single

HOUR_MS = 3_600_000
ALLOWED = 0.001
COMMIT_TICKS = 30


@dataclass(frozen=True)
class Hour:
    """What the journal holds of an hour, and what the simulation did in the same time."""

    path: Path
    simulation: Simulation
    start_ms: int
    end_ms: int

    def account(self, column: str) -> int:
        """Add up a column of the accounts."""
        return single(self.path, f"SELECT sum({column}) FROM account")  # noqa: S608

    @property
    def busy_seconds(self) -> float:
        """Busy time as the simulation knows it."""
        return self.simulation.busy_seconds(0, self.start_ms * 1000, self.end_ms * 1000)

    @property
    def energy_joules(self) -> float:
        """Energy as the simulation knows it."""
        return self.simulation.energy_joules(0, self.start_ms * 1000, self.end_ms * 1000)

    def ends(self, column: str) -> tuple[Any, Any]:
        """Give the first and the last value of a column of the readings."""
        values = rows(self.path, f"SELECT {column} FROM reading ORDER BY end_ms")  # noqa: S608
        return values[0][0], values[-1][0]

    def mean_seconds(self, column: str) -> float:
        """Add up a share of the readings over their time."""
        query = f"SELECT sum({column} * (end_ms - start_ms)) / 1000 FROM reading"  # noqa: S608
        return float(rows(self.path, query)[0][0])


def live_through(text: str, folder: Path) -> Hour:
    """Let an agent account for an hour and a little more."""
    path = folder / "journal.db"
    rig = Rig(text)
    with books_at(path, StateSettings(), now_ms=START_MS) as books:
        ticks = rig.run(HOUR_MS / 1000)
        uninstall()
        for number, tick in enumerate(ticks):
            books.post(tick, {})
            if number % COMMIT_TICKS == 0:
                books.commit(tick.end_ms)
        books.commit(ticks[-1].end_ms)
    return Hour(path, rig.simulation, ticks[0].start_ms, ticks[-1].end_ms)


@pytest.fixture(scope="module")
def hour_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Hour]:
    """Give the hour of a simulation; the same one to all tests that ask for it."""
    return cache(lambda text: live_through(text, tmp_path_factory.mktemp("hour")))


HourOf = Callable[[str], Hour]
PLAYED = ("h200x1:bursty", "a100x1:bursty", "t4x1:bursty", "geforcex1:bursty", "h200x1:training")
PLAYED_STILL = ("h200x1:held", "h200x1:free")


@pytest.mark.parametrize("text", [*PLAYED, *PLAYED_STILL])
def test_every_millisecond_of_the_hour_is_in_the_accounts(text: str, hour_of: HourOf) -> None:
    """The states of each hour sum to the time that passed, and busy time and energy were known all along."""
    hour = hour_of(text)
    length_ms = hour.end_ms - hour.start_ms
    assert length_ms >= HOUR_MS
    check_hours(hour.path, {hour.simulation.uuid(0): (hour.start_ms, hour.end_ms)})
    check_sums(hour.path)
    columns = ("elapsed_ms", "busy_seen_ms", "energy_seen_ms")
    assert [hour.account(column) for column in columns] == [length_ms] * 3


@pytest.mark.parametrize("text", PLAYED)
def test_busy_time_is_the_truth(text: str, hour_of: HourOf) -> None:
    """Bursts of 0.1 to 0.4 s in every 0.84 s, or steps with gaps of 45 ms: within 0.1 % on every model."""
    hour = hour_of(text)
    assert 900 < hour.busy_seconds < 3_500
    assert hour.account("busy_us") / 1e6 == pytest.approx(hour.busy_seconds, rel=ALLOWED)


@pytest.mark.parametrize("text", PLAYED_STILL)
def test_a_gpu_that_does_nothing_has_no_busy_time(text: str, hour_of: HourOf) -> None:
    """An hour without work is exactly 0, and was seen."""
    hour = hour_of(text)
    assert (hour.busy_seconds, hour.account("busy_us")) == (0.0, 0)


@pytest.mark.parametrize("text", [text for text in (*PLAYED, *PLAYED_STILL) if "geforce" not in text])
def test_energy_is_the_truth(text: str, hour_of: HourOf) -> None:
    """Where the driver counts energy, the accounts hold it within 0.1 %."""
    hour = hour_of(text)
    assert hour.account("energy_mj") / 1000 == pytest.approx(hour.energy_joules, rel=ALLOWED)


@pytest.mark.parametrize("scenario", ["bursty", "training"])
def test_energy_without_a_counter_is_the_truth(scenario: str, hour_of: HourOf) -> None:
    """A GeForce counts no energy, and the driver's ring of power samples is integrated instead."""
    hour = hour_of(f"geforcex1:{scenario}")
    assert hour.account("energy_mj") / 1000 == pytest.approx(hour.energy_joules, rel=ALLOWED)


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("h200x1:training", {"active", "held_gap"}),
        ("h200x1:held", {"held_gap", "held_idle"}),
        ("h200x1:free", {"free"}),
    ],
)
def test_states_are_those_of_the_scenario(text: str, states: set[str], hour_of: HourOf) -> None:
    """Training pauses for its checkpoints, a holder without work becomes idle, a free GPU stays free."""
    path = hour_of(text).path
    assert {state for (state,) in rows(path, "SELECT state FROM account WHERE elapsed_ms > 0")} == states


@pytest.mark.parametrize(
    ("reason", "scenario"),
    [("power_cap", "training"), ("sw_thermal", "hot"), ("hw_thermal", "hot"), ("reliability", "bursty")],
)
def test_throttled_time_is_the_truth(reason: str, scenario: str, hour_of: HourOf) -> None:
    """From the first reading to the last, each reason's counter grew by the time that it lasted."""
    hour = hour_of(f"h200x1:{scenario}")
    first_ms, _ = hour.ends("end_ms")
    first, last = hour.ends(f"throttle_{reason}_seconds_total")
    truth = hour.simulation.throttle_seconds(0, reason, first_ms * 1000, hour.end_ms * 1000)
    assert truth > 300
    assert last - first == pytest.approx(truth, rel=ALLOWED)


def test_an_older_driver_tells_thermal_time_as_one_reason() -> None:
    """Where fields 269 and 270 are missing, all thermal time is the driver's, none the hardware's."""
    rig = Rig("a100x1:hot")
    ticks = rig.run(300)
    uninstall()
    first, last = ticks[0].readings[0], ticks[-1].readings[0]
    grown = (last.throttle_sw_thermal_seconds_total or 0) - (first.throttle_sw_thermal_seconds_total or 0)
    truth = rig.simulation.throttle_seconds(0, "sw_thermal", first.end_ms * 1000, last.end_ms * 1000)
    assert truth > 100
    assert grown == pytest.approx(truth, rel=ALLOWED)
    assert last.throttle_hw_thermal_seconds_total is None


GPM_ALLOWED = 1e-6
"""Samples chain, so nothing is missed; what is allowed is the time between interval and sample."""


@pytest.mark.parametrize("scenario", ["bursty", "training"])
@pytest.mark.parametrize("unit", ["sm", "tensor", "dram"])
def test_activity_of_units_is_the_truth(unit: str, scenario: str, hour_of: HourOf) -> None:
    """How long the multiprocessors, the tensor pipes and the memory worked is exact over an hour."""
    hour = hour_of(f"h200x1:{scenario}")
    truth = getattr(hour.simulation, f"{unit}_active_seconds")(0, hour.start_ms * 1000, hour.end_ms * 1000)
    assert truth > 100
    assert hour.mean_seconds(f"{unit}_active_ratio") == pytest.approx(truth, rel=GPM_ALLOWED)


@pytest.mark.parametrize("scenario", ["bursty", "training"])
@pytest.mark.parametrize("direction", ["tx", "rx"])
def test_traffic_is_the_truth(direction: Literal["tx", "rx"], scenario: str, hour_of: HourOf) -> None:
    """Bytes over PCIe, which the probe adds up, and over NVLink, which the driver counts."""
    hour = hour_of(f"h200x1:{scenario}")
    first_ms, _ = hour.ends("end_ms")
    for link, allowed in (("pcie", GPM_ALLOWED), ("nvlink", ALLOWED)):
        first, last = hour.ends(f"{link}_{direction}_bytes_total")
        of_link = getattr(hour.simulation, f"{link}_bytes")
        truth = of_link(0, direction, first_ms * 1000, hour.end_ms * 1000)
        assert truth > 1e9
        assert last - first == pytest.approx(truth, rel=allowed)


def test_all_that_went_over_pcie_is_told() -> None:
    """The total begins at 0 with the probe, and the first interval counts."""
    rig = Rig("h200x1:training")
    last = rig.run(60)[-1].readings[0]
    truth = rig.simulation.pcie_bytes(0, "rx", START_MS * 1000, last.end_ms * 1000)
    assert last.pcie_rx_bytes_total == pytest.approx(truth, rel=GPM_ALLOWED)
    uninstall()
