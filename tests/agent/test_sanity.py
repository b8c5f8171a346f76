"""Whatever a driver says, no figure is impossible: it is dropped and counted by its name and a reason."""

from collections.abc import Callable, Iterator
from ctypes import addressof, memmove, sizeof
from math import inf, nan
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import NvmlUnavailable
from agent.pieces import PARTS, SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.sanity import BOUNDS, SENTINEL, believed
from agent.simulated.calling import target
from agent.simulator import uninstall
from agent.tick import Condition, Tick
from tests.agent.driven import BLOCK_MS, Rig, impossible, known, of, refusals, seconds_of

NAMES = sorted({*QUANTITIES, *SLICE_QUANTITIES, *PARTS})
COUNTS = {name for name in NAMES if name.endswith("_total")}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


# Bounds


@pytest.mark.parametrize("name", NAMES)
def test_every_quantity_has_bounds(name: str) -> None:
    """What is no number, infinite, or a word of ones in 64 bits is never believed; 1 can always be."""
    assert not any(believed(name, value) for value in (nan, inf, -inf, 2.0**64 - 1, 2.0**63, -(2.0**63)))
    assert believed(name, 1.0)
    assert BOUNDS[name][0] < BOUNDS[name][1]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("_celsius")])
def test_nothing_but_heat_is_negative(name: str) -> None:
    """Temperatures and what is left of them may be below 0, nothing else."""
    assert not believed(name, -1e-6)
    assert believed(name, 0.0)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in COUNTS and not name.endswith("_bytes")]
)
def test_no_gauge_is_a_word_of_ones(name: str) -> None:
    """Neither the word nor a thousandth of it; numbers of bytes are told in 64 bits."""
    word = 2.0**32 - 1
    scale = {"_watts": 1e-3, "_hertz": 1e6, "_ratio": 1e-2}.get("_" + name.rpartition("_")[2], 1.0)
    assert not believed(name, word * scale)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("busy_ratio", 1.0),
        ("ecc_mode_flag", 1.0),
        ("temperature_celsius", 200.0),
        ("fan_speed_ratio", 2.0),
        ("memory_total_bytes", 2.0**50),
        ("energy_joules_total", SENTINEL),
    ],
)
def test_bounds_are_believed_and_nothing_beyond(name: str, most: float) -> None:
    """The bound itself can be."""
    assert believed(name, most)
    assert not believed(name, most * (1 + 1e-9))


@pytest.mark.parametrize("celsius", [-1.0, -40.0, -273.0])
def test_no_core_is_below_freezing(celsius: float) -> None:
    """A margin may be, when clocks are lowered for heat."""
    assert not believed("temperature_celsius", celsius)
    assert not believed("memory_temperature_celsius", celsius)
    assert believed("temperature_margin_celsius", celsius)


# A driver that talks nonsense for a while

SPOILED = {
    "busy_ratio",
    "memory_busy_ratio",
    "encoder_ratio",
    "decoder_ratio",
    "jpeg_ratio",
    "ofa_ratio",
    "memory_used_bytes",
    "power_watts",
    "temperature_celsius",
    "memory_power_watts",
}
WITH_THEM = SPOILED | {
    "energy_joules_total",
    "memory_used_max_bytes",
    "power_max_watts",
    "temperature_max_celsius",
}
"""What cannot be told while the fault `garbage` lasts."""


def while_it_lasts(ticks: list[Tick]) -> list[Tick]:
    """Give the ticks of intervals that lie within the nonsense, which lasts from 35 to 95 seconds."""
    return [tick for tick in ticks if tick.start_ms >= BLOCK_MS + 40_000 and tick.end_ms <= BLOCK_MS + 90_000]


@pytest.mark.parametrize("scenario", ["training", "bursty"])
def test_nonsense_makes_no_figure(scenario: str) -> None:
    """No value of any reading is impossible; what is spoiled is None and neither 0 nor clamped."""
    rig = Rig(f"h200x2:{scenario}!garbage=0@+35..+95", start_ms=BLOCK_MS)
    ticks = rig.run(180)
    assert all(impossible(tick) == {} for tick in ticks)
    within = while_it_lasts(ticks)
    assert len(within) == 5
    whole = known(rig.simulation.reading(0, BLOCK_MS, BLOCK_MS + 10_000))
    for tick in within:
        assert whole - known(of(tick, rig.uuid(0))) == WITH_THEM
        assert known(of(tick, rig.uuid(1))) == whole
        assert {one.sm_ratio for one in of(tick, rig.uuid(0)).processes or ()} == {None}
        assert {one.condition for one in tick.readings} == {Condition.OK}


def test_nonsense_is_counted_by_name_and_reason() -> None:
    """Each quantity that is spoiled is told as such in each tick, of the GPU that it is about."""
    rig = Rig("h200x2:training!garbage=0@+35..+95", start_ms=BLOCK_MS)
    for tick in while_it_lasts(rig.run(100)):
        told = refusals([tick])
        assert {name for name, reason in told if reason == "impossible"} >= SPOILED | {"process_sm_ratio"}
        assert told["energy_joules_total", "impossible"] + told["energy_joules_total", "jumped"] == 1
        assert {name for name, _ in told} <= WITH_THEM | {"process_sm_ratio"}
        assert {one.uuid for one in tick.refusals} == {rig.uuid(0)}


def test_after_the_nonsense_all_is_right_again() -> None:
    """From the second interval on everything is told and true, and nothing is refused any more."""
    rig = Rig("h200x1:bursty!garbage=0@+35..+95", start_ms=BLOCK_MS)
    ticks = [tick for tick in rig.run(400) if tick.start_ms >= BLOCK_MS + 110_000]
    told = [tick.readings[0] for tick in ticks]
    assert refusals(ticks) == {}
    whole = known(rig.simulation.reading(0, BLOCK_MS, BLOCK_MS + 10_000))
    assert all(known(one) == whole for one in told)
    start_us, end_us = told[0].start_ms * 1000, told[-1].end_ms * 1000
    busy = rig.simulation.busy_seconds(0, start_us, end_us)
    assert seconds_of("busy_ratio", told) == pytest.approx(busy, rel=0.001)
    joules = rig.simulation.energy_joules(0, start_us, end_us)
    assert seconds_of("power_watts", told) == pytest.approx(joules, rel=0.001)
    assert told[-1].energy_joules_total == pytest.approx(
        rig.simulation.counters(0, end_us).energy_nj / 1e9, abs=0.01
    )


def test_a_probe_that_begins_in_nonsense_recovers() -> None:
    """When the first answers are the wrong ones, the right ones are believed soon after they come."""
    rig = Rig("h200x1:training!garbage=0@+0..+25", start_ms=BLOCK_MS)
    ticks = rig.run(60)
    assert all(impossible(tick) == {} for tick in ticks)
    last = ticks[-1].readings[0]
    truth = rig.simulation.reading(0, last.start_ms, last.end_ms)
    assert known(last) == known(truth)
    assert last.energy_joules_total == pytest.approx(truth.energy_joules_total, abs=0.01)


# Single words


def spoiling(
    field: int, change: Callable[[int], int], seconds: tuple[float, float]
) -> Callable[[Rig], Callable[..., int]]:
    """Make a meddler that changes the whole number of a field for a while."""

    def of_rig(rig: Rig) -> Callable[..., int]:
        def meddle(name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
            since = rig.clock.monotonic_ns() / 1e9
            for entry in target(arguments[1]) if name == "nvmlDeviceGetFieldValues" else ():
                if entry.fieldId == field and seconds[0] <= since < seconds[1]:
                    entry.value.ullVal = change(entry.value.ullVal)
            return code

        return meddle

    return of_rig


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (83, "energy_joules_total"),
        (74, "throttle_power_cap_seconds_total"),
        (138, "nvlink_tx_bytes_total"),
        (3, "ecc_corrected_volatile_total"),
        (94, "pcie_replays_total"),
    ],
)
@pytest.mark.parametrize("word", [2**64 - 1, 2**63 - 1, 2**64 - 2**32])
def test_a_word_of_ones_is_no_counter(word: int, field: int, name: str) -> None:
    """From the first reading on: a sentinel is not believed because there was nothing before it."""
    rig = Rig("h200x1:training", start_ms=BLOCK_MS)
    rig.driver.meddle = spoiling(field, lambda _: word, (0, 15))(rig)
    ticks = rig.run(40)
    values = {(tick.end_ms - BLOCK_MS) // 1000: getattr(tick.readings[0], name) for tick in ticks}
    assert [values[at] for at in (2, 10)] == [None, None]
    assert all(values[at] is not None for at in (20, 30, 40))
    assert refusals(ticks)[name, "impossible"] >= 2


@pytest.mark.parametrize("change", [lambda word: word // 2, lambda word: word * 2, lambda _: 0])
def test_a_counter_that_is_wrong_once_costs_one_value(change: Callable[[int], int]) -> None:
    """It goes back or jumps up, is named as such, and the next interval has it and its truth again."""
    rig = Rig("h200x1:training", start_ms=BLOCK_MS)
    rig.driver.meddle = spoiling(83, change, (29, 31))(rig)
    readings = {(tick.end_ms - BLOCK_MS) // 1000: (tick, tick.readings[0]) for tick in rig.run(60)}
    assert readings[30][1].energy_joules_total is None
    assert refusals([readings[30][0]]) == {("energy_joules_total", "jumped"): 1}
    for at in (40, 50, 60):
        tick, reading = readings[at]
        truth = rig.simulation.reading(0, reading.start_ms, reading.end_ms)
        assert reading.energy_joules_total == pytest.approx(truth.energy_joules_total, abs=0.01)
        assert reading.power_watts == pytest.approx(truth.power_watts, rel=0.001)
        assert refusals([tick]) == {}


def test_power_of_the_interval_of_a_wrong_counter_comes_from_the_ring() -> None:
    """What the driver sampled stands in for what it counted."""
    rig = Rig("h200x1:training", start_ms=BLOCK_MS)
    rig.driver.meddle = spoiling(83, lambda _: 0, (29, 31))(rig)
    for reading in [tick.readings[0] for tick in rig.run(60)][2:]:
        truth = rig.simulation.reading(0, reading.start_ms, reading.end_ms)
        assert reading.power_watts == pytest.approx(truth.power_watts, rel=0.02)


def test_a_counter_that_restarts_for_good_goes_on_from_there() -> None:
    """One value is missing; all others are those of the driver, before and after it began anew."""
    rig = Rig("h200x1:training!restart=0@+25", start_ms=BLOCK_MS)
    ticks = rig.run(60)
    values = {(tick.end_ms - BLOCK_MS) // 1000: tick.readings[0] for tick in ticks}
    assert values[30].energy_joules_total is None
    assert values[30].throttle_power_cap_seconds_total is None
    since_us = (BLOCK_MS + 25_000) * 1000
    for at in (40, 50, 60):
        truth = rig.simulation.energy_joules(0, since_us, (BLOCK_MS + at * 1000) * 1000)
        assert values[at].energy_joules_total == pytest.approx(truth, abs=0.01)
    for at in (20, 50, 60):
        true = rig.simulation.reading(0, values[at].start_ms, values[at].end_ms)
        assert values[at].power_watts == pytest.approx(true.power_watts, rel=0.001)
    assert {reason for _, reason in refusals([tick for tick in ticks if tick.readings[0] is values[30]])} == {
        "jumped"
    }
    assert known(values[60]) == known(rig.simulation.reading(0, BLOCK_MS, BLOCK_MS + 10_000))


# Anything at all

CODES = (0, 2, 3, 4, 6, 7, 9, 10, 13, 15, 16, 20, 25, 28, 999, 4711, -1)
PASSING = (2, 6, 7, 10, 20, 999)
"""Codes that are no lasting refusal."""
SPARED = ("nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID")
"""Functions without which there is no GPU to go mad: spared by every second seed."""
WORDS = (0, 1, 7, 100, 101, 2**31 - 1, 2**31, 2**32 - 1)


class Chaos:
    """Spoils answers: with codes, with bytes, or with both, as often as told."""

    def __init__(
        self, seed: int, codes_per_cent: int, bytes_per_cent: int, codes: tuple[int, ...] = CODES
    ) -> None:
        self.random = Random(seed)  # noqa: S311  a test that can be repeated
        self.spares = seed % 2
        self.codes = codes
        self.codes_per_cent = codes_per_cent
        self.bytes_per_cent = bytes_per_cent

    def __call__(self, name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        """Spoil one answer."""
        if self.spares and name in SPARED:
            return code
        if self.random.randrange(100) < self.bytes_per_cent:
            for argument in arguments:
                self._scribble(argument)
        if self.random.randrange(100) < self.codes_per_cent:
            return self.random.choice(self.codes)
        return code

    def _scribble(self, argument: Any) -> None:  # noqa: ANN401
        out = target(argument)
        if argument is out and not hasattr(out, "_length_"):
            return  # a plain number, which the driver cannot change
        size = sizeof(out)
        if size < 1 << 16:
            memmove(addressof(out), self._content(size), size)

    def _content(self, size: int) -> bytes:
        match self.random.randrange(4):
            case 0:
                return b"\xff" * size
            case 1:
                return self.random.choice(WORDS).to_bytes(4, "little") * (size // 4 + 1)
            case 2:
                return bytes(size)
            case _:
                return self.random.randbytes(size)


def live_through(text: str, chaos: Chaos, ticks: int) -> None:
    """Let a sampler live with a driver gone mad; then with the same one come to its senses."""
    rig = Rig(text)
    rig.driver.meddle = chaos
    try:
        for _ in range(ticks):
            tick = rig.tick()
            assert impossible(tick) == {}
            assert all(refusal.times > 0 and refusal.reason for refusal in tick.refusals)
    except NvmlUnavailable:
        return
    finally:
        rig.stream.close()  # type: ignore[attr-defined]


TEXT = "h200x2:training!mig=1:3g.71gb+2g.35gb+1g.18gb"
ANYTHING = given(
    seed=st.integers(0, 2**32 - 1),
    codes_per_cent=st.sampled_from([0, 1, 5, 30, 100]),
    bytes_per_cent=st.sampled_from([0, 1, 5, 30, 100]),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@ANYTHING
def test_no_answer_of_a_driver_stops_the_sampler(seed: int, codes_per_cent: int, bytes_per_cent: int) -> None:
    """Whatever codes and bytes come from every function, it goes on, and tells no impossible value."""
    live_through(TEXT, Chaos(seed, codes_per_cent, bytes_per_cent), 3)


@pytest.mark.slow
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@ANYTHING
def test_no_answer_of_a_driver_ever_stops_the_sampler(
    seed: int, codes_per_cent: int, bytes_per_cent: int
) -> None:
    """The same for much longer, through reopenings."""
    live_through(TEXT, Chaos(seed, codes_per_cent, bytes_per_cent), 12)


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), codes_per_cent=st.sampled_from([2, 10, 50]))
def test_a_sampler_outlives_a_fit_of_failures(seed: int, codes_per_cent: int) -> None:
    """When answers come again where calls failed, in time everything is told and true again."""
    rig = Rig("h200x1:training")
    whole = known(rig.simulation.reading(0, BLOCK_MS, BLOCK_MS + 10_000))
    rig.tick()
    rig.driver.meddle = Chaos(seed, codes_per_cent, 0, PASSING)
    try:
        for _ in range(2):
            rig.tick()
    except NvmlUnavailable:
        return
    rig.driver.meddle = None
    *_, last = rig.run(90)
    told = of(last, rig.uuid(0))
    truth = rig.simulation.reading(0, told.start_ms, told.end_ms)
    assert known(told) == whole
    assert told.energy_joules_total == pytest.approx(truth.energy_joules_total, abs=0.01)
    assert told.busy_ratio == pytest.approx(truth.busy_ratio, abs=0.01)
