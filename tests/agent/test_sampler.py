"""The sampler, driven through a simulated driver in virtual time.

Intervals follow the wall clock and one another; stalls and steps of a clock cost no truth; a GPU that is gone
is named, its neighbours are read on, and it is taken back when it answers again.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from ctypes import addressof, c_ulonglong, c_void_p, cast
from functools import partial
from itertools import islice, pairwise
from typing import Any

import pynvml
import pytest

from agent.cadence import SamplerSettings
from agent.clock import VirtualClock
from agent.errors import NvmlUnavailable
from agent.nvml import Nvml
from agent.sampler import Sampler
from agent.simulated.scenario import parse_simulation
from agent.simulator import Library, install, uninstall
from agent.tick import QUANTITIES, Condition, Reading, Tick

BLOCK_MS = 1_767_700_800_000
"""6 January 2026, 12:00 UTC: from minute 2 to 4 of every ten, GPU 0 of the scenario `lost` is gone."""
START_MS = BLOCK_MS + 3_217
HOUR_SECONDS = 3_600.0

Happening = tuple[float, str, float]
"""At so many seconds, a `stall` of all clocks or a `step` of the wall clock, of so many seconds."""


class BentClock(VirtualClock):
    """A clock to which things happen while somebody waits."""

    def __init__(self, wall_ms: int, happenings: Sequence[Happening] = ()) -> None:
        super().__init__(wall_ms)
        self.began_ms = wall_ms
        self.happenings = sorted(happenings)
        self.steps: list[tuple[int, int]] = []

    def wait(self, seconds: float) -> bool:
        """Let time pass, and what falls into it happen."""
        until_ns = self.monotonic_ns() + round(seconds * 1e9)
        while self.happenings and self.happenings[0][0] * 1e9 <= until_ns:
            at_seconds, kind, length_seconds = self.happenings.pop(0)
            super().wait(at_seconds - self.monotonic_ns() / 1e9)
            if kind == "stall":
                super().wait(length_seconds)
            else:
                self.step(length_seconds)
                self.steps.append((self.true_us(), round(length_seconds * 1_000_000)))
        super().wait((until_ns - self.monotonic_ns()) / 1e9)
        return True

    def true_us(self) -> int:
        """Give the time that passed, from the beginning on, whatever was done to the wall clock."""
        return self.began_ms * 1000 + self.monotonic_ns() // 1000

    def told_us(self, true_us: int) -> int:
        """Give what the wall clock said at a true moment."""
        return true_us + sum(length_us for at_us, length_us in self.steps if at_us < true_us)


class Driver(Library):
    """A driver whose samples are dated by the wall clock as it was when each was taken.

    `codes` holds codes to answer instead, by function, or by function and number of the GPU; `opened_us` the
    moments at which the library was initialised.
    """

    def __init__(self, text: str, clock: BentClock, refuse: frozenset[str]) -> None:
        super().__init__(parse_simulation(text), clock.true_us, refuse=refuse)
        self.clock = clock
        self.codes: dict[str | tuple[str, int], int] = {}
        self.opened_us: list[int] = []

    def __getattr__(self, name: str) -> Callable[..., int | bytes]:
        """Find a function by its name in C."""
        if name == "nvmlDeviceGetSamples":
            return partial(self._dated, super().__getattr__(name))
        return super().__getattr__(name)

    def _init(self, *flags: object) -> int:
        self.opened_us.append(self.clock.true_us())
        return super()._init(*flags)

    def _about_gpu(self, name: str, handle: Any, *arguments: Any) -> int:  # noqa: ANN401  as ctypes passes them
        gpu = (cast(handle, c_void_p).value or 0) - addressof(self._handles)
        code = self.codes.get((name, gpu), self.codes.get(name))
        if code is None:
            return super()._about_gpu(name, handle, *arguments)
        self.calls += 1
        return code

    def _dated(self, call: Callable[..., int | bytes], *arguments: Any) -> int:  # noqa: ANN401
        handle, kind, seen, value_type, count, buffer = arguments
        code = int(call(handle, kind, seen if buffer is None else c_ulonglong(0), value_type, count, buffer))
        if code or buffer is None:
            return code
        taken = [(one.timeStamp, one.sampleValue.uiVal) for one in list(buffer)[: count._obj.value]]
        dated = [(self.clock.told_us(at_us), value) for at_us, value in taken]
        fresh = [one for one in dated if one[0] > getattr(seen, "value", seen)]
        for place, (at_us, value) in enumerate(fresh):
            buffer[place].timeStamp, buffer[place].sampleValue.uiVal = at_us, value
        count._obj.value = len(fresh)
        return 0 if fresh else pynvml.NVML_ERROR_NOT_FOUND


class Rig:
    """A sampler, its clock and the driver that it looks at; `run` gives what it yields."""

    def __init__(
        self,
        text: str,
        *refuse: str,
        happenings: Sequence[Happening] = (),
        interval_seconds: float = 10,
        start_ms: int = START_MS,
    ) -> None:
        self.clock = BentClock(start_ms, happenings)
        self.driver = Driver(text, self.clock, frozenset(refuse))
        install(self.driver)
        self.simulation = self.driver.simulation
        settings = SamplerSettings(interval_seconds=interval_seconds)
        self.nvml = Nvml()
        self.stream = Sampler(self.nvml, self.clock, settings, "hall2-n017").ticks()

    def run(self, seconds: float) -> list[Tick]:
        """Give the ticks of so much more time, up to the first that ends after it."""
        until_ns = self.clock.monotonic_ns() + round(seconds * 1e9)
        ticks = []
        while self.clock.monotonic_ns() < until_ns:
            ticks.append(next(tick for tick in self.stream if tick is not None))
        return ticks

    def uuid(self, index: int) -> str:
        """Name a GPU."""
        return self.simulation.uuid(index)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def of(tick: Tick, uuid: str) -> Reading:
    """Give the one reading of a GPU in a tick."""
    (reading,) = [one for one in tick.readings if one.uuid == uuid]
    return reading


def known(reading: Reading) -> set[str]:
    """Name the quantities that a reading tells."""
    return {name for name in QUANTITIES if getattr(reading, name) is not None}


def busy_seconds(readings: Sequence[Reading]) -> float:
    """Add up what readings say of busy time."""
    return sum((one.busy_ratio or 0.0) * (one.end_ms - one.start_ms) / 1000 for one in readings)


def check_plausible(ticks: Sequence[Tick], limit_watts: float = 700.0) -> None:
    """Assert that power lies between nothing and the limit, and shares between 0 and 1."""
    for reading in (one for tick in ticks for one in tick.readings):
        assert reading.power_watts is not None
        assert 0 < reading.power_watts <= limit_watts
        ratios = [getattr(reading, name) for name in QUANTITIES if name.endswith("_ratio")]
        assert all(0 <= ratio <= 1 for ratio in ratios if ratio is not None)


# Intervals


@pytest.mark.parametrize("interval_seconds", [1, 7, 10, 60])
def test_intervals_are_aligned_and_follow_one_another(interval_seconds: int) -> None:
    """All but the first interval begin and end at multiples of their length, each where the last ended."""
    ticks = Rig("h200x1:bursty", interval_seconds=interval_seconds).run(5 * interval_seconds + 5)
    assert len(ticks) >= 5
    assert all(tick.end_ms % (interval_seconds * 1000) == 0 for tick in ticks)
    assert all(before.end_ms == after.start_ms for before, after in pairwise(ticks))
    assert {tick.end_ms - tick.start_ms for tick in ticks[1:]} == {interval_seconds * 1000}


def test_the_first_interval_is_short() -> None:
    """It runs from the first look to the next aligned moment, and its busy time is exact already."""
    rig = Rig("h200x1:bursty")
    tick = rig.run(15)[0]
    assert (tick.start_ms, tick.end_ms) == (START_MS, BLOCK_MS + 10_000)
    truth = rig.simulation.busy_seconds(0, tick.start_ms * 1000, tick.end_ms * 1000)
    assert busy_seconds(tick.readings) == pytest.approx(truth, abs=0.01)


def test_a_reading_spans_its_tick() -> None:
    """Every GPU has one reading per tick, of the tick's own interval."""
    for tick in Rig("h200x8").run(35):
        assert [gpu.index for gpu in tick.gpus or ()] == list(range(8))
        assert {(one.start_ms, one.end_ms) for one in tick.readings} == {(tick.start_ms, tick.end_ms)}
        assert len({one.uuid for one in tick.readings}) == len(tick.readings) == 8


def test_every_poll_is_a_sign_of_life() -> None:
    """Between two ticks comes a None for each second."""
    rig = Rig("t4x1:held")
    rig.run(15)
    signs = []
    for tick in rig.stream:
        signs.append(tick)
        if tick is not None:
            break
    assert signs[:-1] == [None] * 9


def test_the_end_of_waiting_is_the_end_of_ticks() -> None:
    """When the clock says stop, the interval in progress is closed at once and the stream ends."""

    class Stopping(BentClock):
        def wait(self, seconds: float) -> bool:
            return super().wait(seconds) and self.monotonic_ns() < 25e9

    clock = Stopping(START_MS)
    install(Driver("t4x1:held", clock, frozenset()))
    ticks = [tick for tick in Sampler(Nvml(), clock, SamplerSettings(), "n").ticks() if tick]
    assert [tick.end_ms - BLOCK_MS for tick in ticks] == [10_000, 20_000, 29_000]
    assert [tick.start_ms for tick in ticks[1:]] == [tick.end_ms for tick in ticks[:-1]]
    assert ticks[-1].readings[0].busy_ratio == 0


def test_calls_stay_below_eight_per_gpu_and_second() -> None:
    """Over a minute a GPU costs the driver fewer than eight calls a second, rings and processes included."""
    rig = Rig("h200x8")
    rig.run(20)
    before = rig.driver.calls
    rig.run(60)
    assert (rig.driver.calls - before) / 60 / 8 <= 8


def test_the_driver_calls_of_an_interval_are_told() -> None:
    """A tick says how many calls it took, and no call is told twice."""
    rig = Rig("h200x2:training")
    ticks = rig.run(65)
    told = sum(tick.driver_calls for tick in ticks)
    assert 0.5 * rig.driver.calls < told <= rig.driver.calls
    assert all(tick.driver_seconds > 0 for tick in ticks)


# Stalls


def test_a_stall_closes_the_interval_and_leaves_a_gap() -> None:
    """After 37 s in which nothing ran, the interval ends where it should; the rest is in no reading."""
    rig = Rig("h200x1:bursty", happenings=[(33, "stall", 37)])
    ticks = rig.run(120)
    (hole,) = [(before, after) for before, after in pairwise(ticks) if before.end_ms != after.start_ms]
    assert (hole[0].start_ms, hole[0].end_ms) == (BLOCK_MS + 30_000, BLOCK_MS + 40_000)
    assert (hole[1].start_ms, hole[1].end_ms) == (BLOCK_MS + 70_000, BLOCK_MS + 80_000)
    assert hole[0].late_seconds == pytest.approx(33.217)
    assert [tick.late_seconds for tick in ticks if tick is not hole[0]] == [0.0] * (len(ticks) - 1)
    check_plausible(ticks)


def test_what_follows_a_stall_is_exact_again() -> None:
    """Busy and power of the interval in which the agent woke up are the truth, from rings and counters."""
    rig = Rig("h200x1:bursty", happenings=[(33, "stall", 37)])
    after = [tick for tick in rig.run(120) if tick.start_ms >= BLOCK_MS + 70_000]
    truth = rig.simulation.busy_seconds(0, after[0].start_ms * 1000, after[-1].end_ms * 1000)
    assert busy_seconds([tick.readings[0] for tick in after]) == pytest.approx(truth, rel=0.001, abs=0.01)


def test_a_short_stall_costs_nothing() -> None:
    """Four seconds late at an interval's end leave no gap, and busy time stays exact: the rings remember."""
    rig = Rig("h200x1:bursty", happenings=[(35, "stall", 4)])
    ticks = rig.run(100)
    assert all(before.end_ms == after.start_ms for before, after in pairwise(ticks))
    assert max(tick.late_seconds for tick in ticks) == pytest.approx(2.217)
    truth = rig.simulation.busy_seconds(0, ticks[0].start_ms * 1000, ticks[-1].end_ms * 1000)
    assert busy_seconds([tick.readings[0] for tick in ticks]) == pytest.approx(truth, rel=0.001)


# Steps of the wall clock

STEPS = pytest.mark.parametrize(
    ("at_seconds", "length_seconds"),
    [
        (34.5, HOUR_SECONDS),
        (34.5, -HOUR_SECONDS),
        (34.5, 2.5),
        (34.5, -2.5),
        (36.9, HOUR_SECONDS),  # while the last samples of an interval are waited for
        (36.9, -HOUR_SECONDS),
        (27.0, HOUR_SECONDS),
        (27.0, -HOUR_SECONDS),
    ],
)


@STEPS
def test_a_step_ends_the_interval_at_the_time_that_passed(at_seconds: float, length_seconds: float) -> None:
    """All ticks together last as long as time really did; later intervals are aligned to the new clock."""
    rig = Rig("h200x1:bursty", happenings=[(at_seconds, "step", length_seconds)])
    ticks = rig.run(120)
    lengths = [tick.end_ms - tick.start_ms for tick in ticks]
    assert all(0 < length <= 10_000 for length in lengths)
    (jump,) = [(before, after) for before, after in pairwise(ticks) if before.end_ms != after.start_ms]
    assert jump[1].start_ms - jump[0].end_ms == pytest.approx(length_seconds * 1000, abs=2)
    assert sum(lengths) == pytest.approx(rig.clock.monotonic_ns() / 1e6 - 350, abs=2)
    assert jump[0].end_ms - BLOCK_MS == pytest.approx((at_seconds + 3.217) * 1000, abs=1_100)
    assert all(tick.end_ms % 10_000 == 0 for tick in ticks if tick is not jump[0])


@STEPS
def test_no_reading_spans_a_step(at_seconds: float, length_seconds: float) -> None:
    """Power of every reading stays below the limit, and energy over all readings is the truth."""
    rig = Rig("h200x1:bursty", happenings=[(at_seconds, "step", length_seconds)])
    ticks = rig.run(120)
    check_plausible(ticks)
    readings = [tick.readings[0] for tick in ticks]
    joules = sum((one.power_watts or 0.0) * (one.end_ms - one.start_ms) / 1000 for one in readings)
    end_us = rig.clock.true_us() - 350_000
    truth = rig.simulation.energy_joules(0, START_MS * 1000, end_us)
    assert joules == pytest.approx(truth, rel=0.001)
    last = readings[-1].energy_joules_total or 0.0
    assert last - rig.simulation.counters(0, end_us).energy_nj / 1e9 == pytest.approx(0, abs=0.01)


@STEPS
def test_a_step_costs_little_busy_time(at_seconds: float, length_seconds: float) -> None:
    """At most ten seconds around a step do not tell busy time, and what is told is the truth within 2 %."""
    rig = Rig("h200x1:bursty", happenings=[(at_seconds, "step", length_seconds)])
    told = truth = untold_ms = 0.0
    true_ms = START_MS
    for reading in (tick.readings[0] for tick in rig.run(120)):
        length_ms = reading.end_ms - reading.start_ms
        if reading.busy_ratio is None:
            untold_ms += length_ms
        else:
            told += reading.busy_ratio * length_ms / 1000
            truth += rig.simulation.busy_seconds(0, true_ms * 1000, (true_ms + length_ms) * 1000)
        true_ms += length_ms
    assert untold_ms <= 10_000
    assert told == pytest.approx(truth, rel=0.02)


def test_a_small_correction_of_the_clock_is_no_step() -> None:
    """A wall clock that is moved by 0.2 s leaves intervals aligned and in a row."""
    ticks = Rig("h200x1:bursty", happenings=[(34.5, "step", 0.2), (54.5, "step", -0.2)]).run(100)
    assert all(before.end_ms == after.start_ms for before, after in pairwise(ticks))
    assert all(tick.end_ms % 10_000 == 0 for tick in ticks)


# What a driver refuses


def refusals(ticks: Sequence[Tick]) -> Counter[tuple[str, str]]:
    """Count refusals by quantity and reason."""
    counts: Counter[tuple[str, str]] = Counter()
    for refusal in (one for tick in ticks for one in tick.refusals):
        counts[refusal.quantity, refusal.reason] += refusal.times
    return counts


def test_without_rings_busy_is_polled() -> None:
    """A driver without sample buffers is asked for its own mean each second, and the lack is told once."""
    rig = Rig("h200x1:bursty", "samples")
    ticks = rig.run(600)
    readings = [tick.readings[0] for tick in ticks]
    truth = rig.simulation.busy_seconds(0, ticks[0].start_ms * 1000, ticks[-1].end_ms * 1000)
    assert busy_seconds(readings) == pytest.approx(truth, rel=0.03)
    assert all(one.encoder_ratio is None for one in readings)
    expected = {(f"samples_{kind}", "unsupported"): 1 for kind in (1, 2, 3, 4, 8, 9)}
    assert refusals(ticks) == expected
    assert {one.uuid for one in ticks[0].refusals} == {rig.uuid(0)}


@pytest.mark.parametrize(("words", "allowed"), [(("energy",), 0.001), (("energy", "samples:0"), 0.02)])
def test_without_an_energy_counter_power_is_sampled(words: tuple[str, ...], allowed: float) -> None:
    """The ring of power samples stands for it, else the mean of the polls; energy stays untold, once."""
    rig = Rig("h200x1:training", *words)
    ticks = rig.run(600)
    check_plausible(ticks)
    readings = [tick.readings[0] for tick in ticks]
    assert {one.energy_joules_total for one in readings} == {None}
    joules = sum((one.power_watts or 0.0) * (one.end_ms - one.start_ms) / 1000 for one in readings)
    truth = rig.simulation.energy_joules(0, ticks[0].start_ms * 1000, ticks[-1].end_ms * 1000)
    assert joules == pytest.approx(truth, rel=allowed)
    told = {("field_83", "unsupported"): 1, ("samples_0", "unsupported"): 1}
    assert refusals(ticks) == dict(list(told.items())[: len(words)])


def test_a_driver_that_refuses_nothing_has_no_refusals() -> None:
    """Of an H200 every quantity but SM activity is told, in every interval, without a refusal."""
    ticks = Rig("h200x1:training").run(65)
    assert refusals(ticks) == {}
    assert all(known(tick.readings[0]) == QUANTITIES.keys() - {"sm_active_ratio"} for tick in ticks)


def test_the_same_refusal_of_two_gpus_is_told_of_each() -> None:
    """A refusal names the GPU that it is about."""
    ticks = Rig("t4x2:held").run(15)
    about = Counter(one.uuid for one in ticks[0].refusals)
    assert len(about) == 2
    assert len(set(about.values())) == 1


def test_a_driver_that_is_gone_ends_the_ticks() -> None:
    """When NVML is shut down behind the sampler's back, it says that NVML cannot be used."""
    rig = Rig("h200x1:training")
    rig.run(15)
    pynvml.nvmlShutdown()
    with pytest.raises(NvmlUnavailable, match="NVML cannot be used"):
        rig.run(5)


def test_a_gpu_without_any_quantity_is_still_read() -> None:
    """Of a GPU that fails every call there is a reading that says nothing, and all failures are counted."""
    rig = Rig("h200x2:training")
    rig.run(15)
    for name in ("FieldValues", "Samples", "TemperatureV", "MemoryInfo_v2", "ClockInfo", "PowerUsage"):
        rig.driver.codes[f"nvmlDeviceGet{name}", 0] = pynvml.NVML_ERROR_TIMEOUT
    ticks = rig.run(25)
    silent, well = of(ticks[-1], rig.uuid(0)), of(ticks[-1], rig.uuid(1))
    assert (silent.busy_ratio, silent.power_watts, silent.temperature_celsius) == (None, None, None)
    assert known(well) == QUANTITIES.keys() - {"sm_active_ratio"}
    assert {one.uuid for one in ticks[-1].refusals} == {rig.uuid(0)}
    assert {one.reason for one in ticks[-1].refusals} == {"failed"}


# GPUs that are gone


def lost_rig(*happenings: Happening, start_ms: int = BLOCK_MS + 63_217, gpus: int = 3) -> Rig:
    """Make a node whose GPU 0 is gone from two to four minutes after the hour, until NVML is opened anew."""
    return Rig(f"h200x{gpus}:lost", "revival", happenings=happenings, start_ms=start_ms)


def test_a_lost_gpu_is_named_within_one_interval() -> None:
    """The interval in which it fell off the bus calls it lost, and so do all until it is back."""
    rig = lost_rig()
    ticks = rig.run(170)
    conditions = {tick.end_ms - BLOCK_MS: of(tick, rig.uuid(0)).condition for tick in ticks}
    assert conditions.pop(120_000) in (Condition.OK, Condition.LOST)
    assert {at for at, condition in conditions.items() if condition is Condition.OK} == set(
        range(70_000, 120_000, 10_000)
    )
    assert set(conditions.values()) == {Condition.OK, Condition.LOST}


def test_neighbours_of_a_lost_gpu_keep_every_quantity() -> None:
    """Before, during and after the loss, through all re-initialisations, the others tell all they can."""
    rig = lost_rig()
    ticks = rig.run(400)
    for index in (1, 2):
        readings = [of(tick, rig.uuid(index)) for tick in ticks]
        assert all(known(one) == QUANTITIES.keys() - {"sm_active_ratio"} for one in readings)
        assert {one.condition for one in readings} == {Condition.OK}
        truth = rig.simulation.busy_seconds(index, ticks[0].start_ms * 1000, ticks[-1].end_ms * 1000)
        assert busy_seconds(readings) == pytest.approx(truth, rel=0.001)
    assert all(len(tick.gpus or ()) == 3 for tick in ticks)


def test_a_lost_gpu_is_looked_for_ever_more_rarely() -> None:
    """NVML is opened anew 10 s after the loss, then after 20, 40 and 60 s."""
    rig = lost_rig()
    rig.run(400)
    first, *later = [(at_us - BLOCK_MS * 1000) / 1e6 for at_us in rig.driver.opened_us]
    assert first == pytest.approx(63.217)
    waits = [after - before for before, after in pairwise([120.0, *later])]
    for wait, floor in zip(waits, (10, 20, 40, 60), strict=False):
        assert floor <= wait <= floor + 11
    assert len(later) == 4


def test_a_gpu_that_answers_again_is_read_again() -> None:
    """Within a minute and an interval after it is back, the GPU tells every quantity."""
    rig = lost_rig()
    ticks = rig.run(400)
    back = [tick for tick in ticks if tick.start_ms >= BLOCK_MS + 312_000]
    readings = [of(tick, rig.uuid(0)) for tick in back]
    assert {one.condition for one in readings} == {Condition.OK}
    assert all(known(one) == QUANTITIES.keys() - {"sm_active_ratio"} for one in readings)
    truth = rig.simulation.busy_seconds(0, back[0].start_ms * 1000, back[-1].end_ms * 1000)
    assert busy_seconds(readings) == pytest.approx(truth, rel=0.001)


def test_a_gpu_that_is_lost_at_the_start_is_taken_in_when_it_answers() -> None:
    """An agent that starts while a GPU is off the bus finds it once it is back."""
    rig = lost_rig(start_ms=BLOCK_MS + 150_000)
    ticks = rig.run(300)
    assert {one.uuid for one in ticks[0].readings} >= {rig.uuid(1), rig.uuid(2)}
    assert of(ticks[-1], rig.uuid(0)).condition is Condition.OK


def test_a_clock_set_back_does_not_delay_the_return_of_a_lost_gpu() -> None:
    """An hour less on the wall clock while a GPU is lost costs no hour of waiting."""
    rig = lost_rig((80, "step", -HOUR_SECONDS))
    ticks = rig.run(400)
    assert of(ticks[-1], rig.uuid(0)).condition is Condition.OK


@pytest.mark.parametrize("code", [15, 16])
def test_a_gpu_that_fails_while_it_is_identified_hides_nobody(code: int) -> None:
    """One that tells its UUID and nothing more, as when it needs a reset, leaves the others readable."""
    rig = Rig("h200x2:training")
    rig.driver.codes["nvmlDeviceGetSerial", 0] = code
    ticks = rig.run(25)
    assert of(ticks[-1], rig.uuid(1)).condition is Condition.OK


def test_a_gpu_that_needs_a_reset_is_called_so() -> None:
    """RESET_REQUIRED from any call is the GPU's condition."""
    rig = Rig("h200x2:training")
    rig.run(15)
    rig.driver.codes["nvmlDeviceGetClockInfo", 1] = pynvml.NVML_ERROR_RESET_REQUIRED
    ticks = rig.run(10)
    assert of(ticks[-1], rig.uuid(1)).condition is Condition.RESET_REQUIRED
    assert of(ticks[-1], rig.uuid(0)).condition is Condition.OK


def test_a_gpu_that_is_no_longer_enumerated_is_missing() -> None:
    """When NVML, opened anew for a lost GPU, lists fewer than before, those are missing."""
    rig = lost_rig()
    rig.run(60)
    rig.driver.codes["nvmlDeviceGetUUID", 2] = pynvml.NVML_ERROR_UNKNOWN
    ticks = rig.run(30)
    assert of(ticks[-1], rig.uuid(2)).condition is Condition.MISSING
    assert of(ticks[-1], rig.uuid(1)).condition is Condition.OK
    assert len(ticks[-1].readings) == 3


class Forbidding(Driver):
    """A driver that gives out no handle of GPU 1, as in a container that was given only the others."""

    def _handle_by_index(self, index: Any, out: Any) -> int:  # noqa: ANN401
        forbidden = getattr(index, "value", index) == 1
        return pynvml.NVML_ERROR_NO_PERMISSION if forbidden else super()._handle_by_index(index, out)


def test_a_gpu_that_is_forbidden_is_not_waited_for() -> None:
    """One that belongs to others is no lost one: NVML is not opened again and again for it."""
    clock = BentClock(START_MS)
    driver = Forbidding("h200x3:training", clock, frozenset())
    install(driver)
    stream = Sampler(Nvml(), clock, SamplerSettings(), "hall2-n017").ticks()
    ticks = [tick for tick in islice(stream, 300) if tick is not None]
    assert [gpu.index for gpu in ticks[-1].gpus or ()] == [0, 2]
    assert len(driver.opened_us) == 1


def test_memory_and_processes_are_those_of_the_node() -> None:
    """Processes, memory and identity of a reading are what the simulation says."""
    rig = Rig("h200x2:training")
    tick = rig.run(15)[0]
    for index in (0, 1):
        reading = of(tick, rig.uuid(index))
        expected = {one.pid: one.memory_bytes for one in rig.simulation.processes(index, START_MS * 1000)}
        assert {one.pid: one.memory_used_bytes for one in reading.processes or ()} == expected
        assert reading.memory_used_bytes == sum(expected.values())
    assert tick.gpus == (rig.simulation.gpu(0), rig.simulation.gpu(1))
    assert tick.node == "hall2-n017"
