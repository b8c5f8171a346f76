"""The sampler, driven through a simulated driver in virtual time.

Intervals follow the wall clock and one another; stalls and steps of a clock cost no truth; a GPU that is gone
is named, its neighbours are read on, and it is taken back when it answers again.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pynvml
import pytest

from agent.cadence import SamplerSettings
from agent.errors import NvmlUnavailable
from agent.nvml import Nvml
from agent.quantities import QUANTITIES
from agent.sampler import Sampler
from agent.simulator import uninstall
from agent.tick import Condition, Tick
from tests.agent.driven import (
    BLOCK_MS,
    NOWHERE,
    START_MS,
    BentClock,
    Driver,
    Happening,
    Rig,
    busy_seconds,
    known,
    of,
    refusals,
)

HOUR_SECONDS = 3_600.0


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def all_of(rig: Rig) -> set[str]:
    """Name the quantities that the model tells."""
    return known(
        rig.simulation.reading(1 if rig.simulation.name == "lost" else 0, START_MS, START_MS + 10_000)
    )


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
    """All but the first two intervals are of whole multiples of their length, each begins where one ended."""
    ticks = Rig("h200x1:bursty", interval_seconds=interval_seconds).run(5 * interval_seconds + 5)
    assert len(ticks) >= 5
    assert all(tick.end_ms % (interval_seconds * 1000) == 0 for tick in ticks[1:])
    assert all(before.end_ms == after.start_ms for before, after in pairwise(ticks))
    assert {tick.end_ms - tick.start_ms for tick in ticks[2:]} == {interval_seconds * 1000}


@pytest.mark.parametrize(
    ("into_ms", "ends"),
    [(3_217, [5, 10, 20]), (0, [2, 10, 20]), (8_999, [10, 20, 30]), (9_000, [10, 20, 30])],
)
def test_the_first_interval_is_short(into_ms: int, ends: list[int]) -> None:
    """It ends at a poll a second or two after the first look; the second ends at the next aligned moment."""
    rig = Rig("h200x1:bursty", start_ms=BLOCK_MS + into_ms)
    ticks = [rig.tick() for _ in ends]
    assert ticks[0].start_ms == BLOCK_MS + into_ms
    assert [(tick.end_ms - BLOCK_MS) / 1000 for tick in ticks] == ends
    assert all(before.end_ms == after.start_ms for before, after in pairwise(ticks))


def test_the_first_two_intervals_are_exact_already() -> None:
    """Their busy time is the truth, and both tell every quantity of the model."""
    rig = Rig("h200x1:bursty")
    for tick in (rig.tick(), rig.tick()):
        truth = rig.simulation.busy_seconds(0, tick.start_ms * 1000, tick.end_ms * 1000)
        assert busy_seconds(tick.readings) == pytest.approx(truth, abs=0.01)
        assert known(tick.readings[0]) == all_of(rig)


def test_when_the_probe_began_is_told_by_every_tick() -> None:
    """What the probe counts by itself began at 0 then."""
    assert {tick.since_ms for tick in Rig("t4x1:held").run(35)} == {START_MS}


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
    Driver("t4x1:held", clock)
    sampler = Sampler(Nvml(), clock, SamplerSettings(), "n", gpus_folder=NOWHERE)
    ticks = [tick for tick in sampler.ticks() if tick]
    assert [tick.end_ms - BLOCK_MS for tick in ticks] == [5_000, 10_000, 20_000, 29_000]
    assert [tick.start_ms for tick in ticks[1:]] == [tick.end_ms for tick in ticks[:-1]]
    assert ticks[-1].readings[0].busy_ratio == 0


@pytest.mark.parametrize("text", ["h200x8", "a100x8", "t4x8"])
def test_six_calls_per_gpu_and_second_are_enough(text: str) -> None:
    """Over a minute at default settings, the slow questions of that minute, rings and events included."""
    rig = Rig(text)
    rig.run(20)
    before = rig.driver.calls
    rig.run(60)
    assert (rig.driver.calls - before) / 60 / 8 <= 6


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


def test_energy_that_was_read_late_is_that_of_the_end() -> None:
    """What was used after the end, until the counter was read, is taken off: by the mean power."""
    rig = Rig("h200x1:training", happenings=[(35, "stall", 4)])
    for tick in rig.run(60):
        (reading,) = tick.readings
        truth = rig.simulation.counters(0, tick.end_ms * 1000).energy_nj / 1e9
        allowed = 0.01 if tick.late_seconds < 1 else 150
        assert reading.energy_joules_total == pytest.approx(truth, abs=allowed)


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


@cache
def stepped(at_seconds: float, length_seconds: float) -> tuple[Rig, list[Tick]]:
    """Give two minutes of a node whose wall clock is set; the same ones to all who ask."""
    rig = Rig("h200x1:bursty", happenings=[(at_seconds, "step", length_seconds)])
    return rig, rig.run(120)


@STEPS
def test_a_step_ends_the_interval_at_the_time_that_passed(at_seconds: float, length_seconds: float) -> None:
    """All ticks together last as long as time really did; later intervals are aligned to the new clock."""
    rig, ticks = stepped(at_seconds, length_seconds)
    lengths = [tick.end_ms - tick.start_ms for tick in ticks]
    assert all(0 < length <= 10_000 for length in lengths)
    (jump,) = [(before, after) for before, after in pairwise(ticks) if before.end_ms != after.start_ms]
    assert jump[1].start_ms - jump[0].end_ms == pytest.approx(length_seconds * 1000, abs=2)
    assert sum(lengths) == pytest.approx(rig.clock.monotonic_ns() / 1e6 - 350, abs=2)
    assert jump[0].end_ms - BLOCK_MS == pytest.approx((at_seconds + 3.217) * 1000, abs=1_100)
    assert all(tick.end_ms % 10_000 == 0 for tick in ticks[1:] if tick is not jump[0])


@STEPS
def test_no_reading_spans_a_step(at_seconds: float, length_seconds: float) -> None:
    """Power of every reading stays below the limit, and energy over all readings is the truth."""
    rig, ticks = stepped(at_seconds, length_seconds)
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
    rig, ticks = stepped(at_seconds, length_seconds)
    told = truth = untold_ms = 0.0
    true_ms = START_MS
    for reading in (tick.readings[0] for tick in ticks):
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
    assert all(tick.end_ms % 10_000 == 0 for tick in ticks[1:])


# What a driver refuses


def extra(rig: Rig, ticks: Sequence[Tick]) -> Counter[tuple[str, str]]:
    """Count the refusals that are not in the nature of the model."""
    usual = refusals([Rig(f"{rig.text.partition('x')[0]}x1:training").tick()])
    return refusals(ticks) - usual


def test_without_rings_busy_is_polled() -> None:
    """A driver without sample buffers is asked for its own mean each second, and the lack is told once."""
    rig = Rig("h200x1:bursty", "samples")
    ticks = rig.run(600)
    readings = [tick.readings[0] for tick in ticks]
    truth = rig.simulation.busy_seconds(0, ticks[0].start_ms * 1000, ticks[-1].end_ms * 1000)
    assert busy_seconds(readings) == pytest.approx(truth, rel=0.03)
    assert all(one.encoder_ratio is None for one in readings)
    expected = {(f"samples_{kind}", "unsupported"): 1 for kind in (0, 1, 2, 3, 4, 8, 9)}
    assert extra(rig, ticks) == expected
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
    told = {("energy_joules_total", "unsupported"): 1, ("samples_0", "unsupported"): 1}
    assert extra(rig, ticks) == dict(list(told.items())[: len(words)])


@pytest.mark.parametrize("model", ["h200", "h100", "a100", "t4", "geforce"])
def test_all_refusals_are_told_in_the_first_tick(model: str) -> None:
    """What a model has not is refused once and for all; later ticks have no refusal and tell all the rest."""
    rig = Rig(f"{model}x1:training")
    ticks = rig.run(65)
    assert {reason for _, reason in refusals(ticks)} == {"unsupported"}
    assert set(refusals(ticks).values()) == {1}
    assert refusals(ticks[1:]) == {}
    assert all(known(tick.readings[0]) == all_of(rig) for tick in ticks)


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
    assert all(one.uuid == rig.uuid(0) and one.reason == "failed" for one in ticks[-1].refusals)
    silent, well = of(ticks[-1], rig.uuid(0)), of(ticks[-1], rig.uuid(1))
    assert (silent.busy_ratio, silent.power_watts, silent.temperature_celsius) == (None, None, None)
    assert known(well) == all_of(rig)
    assert ticks[-1].refusals


# GPUs that are gone


def lost_rig(*happenings: Happening, start_ms: int = BLOCK_MS + 63_217, gpus: int = 3) -> Rig:
    """Make a node whose GPU 0 is gone from two to four minutes after the hour, until NVML is opened anew."""
    return Rig(f"h200x{gpus}:lost", "revival", happenings=happenings, start_ms=start_ms)


@cache
def loss() -> tuple[Rig, list[Tick]]:
    """Give the minutes around a loss, from one before it to three after the return."""
    rig = lost_rig()
    return rig, rig.run(400)


def test_a_lost_gpu_is_named_within_one_interval() -> None:
    """The interval in which it fell off the bus calls it lost, and so do all until it is back."""
    rig, ticks = loss()
    ticks = [tick for tick in ticks if tick.end_ms <= BLOCK_MS + 240_000]
    conditions = {tick.end_ms - BLOCK_MS: of(tick, rig.uuid(0)).condition for tick in ticks}
    assert conditions.pop(120_000) in (Condition.OK, Condition.LOST)
    well = {at for at, condition in conditions.items() if condition is Condition.OK}
    assert well == {65_000, *range(70_000, 120_000, 10_000)}
    assert set(conditions.values()) == {Condition.OK, Condition.LOST}


def test_neighbours_of_a_lost_gpu_keep_every_quantity() -> None:
    """Before, during and after the loss, through all re-initialisations, the others tell all they can."""
    rig, ticks = loss()
    for index in (1, 2):
        readings = [of(tick, rig.uuid(index)) for tick in ticks]
        assert all(known(one) == all_of(rig) for one in readings)
        assert {one.condition for one in readings} == {Condition.OK}
        truth = rig.simulation.busy_seconds(index, ticks[0].start_ms * 1000, ticks[-1].end_ms * 1000)
        assert busy_seconds(readings) == pytest.approx(truth, rel=0.001)
    assert all(len(tick.gpus or ()) == 3 for tick in ticks)


def test_a_lost_gpu_is_looked_for_ever_more_rarely() -> None:
    """NVML is opened anew 10 s after the loss, then after 20, 40 and 60 s."""
    rig, _ = loss()
    first, *later = [(at_us - BLOCK_MS * 1000) / 1e6 for at_us in rig.driver.opened_us]
    assert first == pytest.approx(63.217)
    waits = [after - before for before, after in pairwise([120.0, *later])]
    for wait, floor in zip(waits, (10, 20, 40, 60), strict=False):
        assert floor <= wait <= floor + 11
    assert len(later) == 4


def test_a_gpu_that_answers_again_is_read_again() -> None:
    """Within a minute and an interval after it is back, the GPU tells every quantity."""
    rig, ticks = loss()
    back = [tick for tick in ticks if tick.start_ms >= BLOCK_MS + 312_000]
    readings = [of(tick, rig.uuid(0)) for tick in back]
    assert {one.condition for one in readings} == {Condition.OK}
    assert all(known(one) == all_of(rig) for one in readings)
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
    rig = lost_rig((80, "step", -HOUR_SECONDS), gpus=2)
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
    driver = Forbidding("h200x3:training", clock)
    stream = Sampler(Nvml(), clock, SamplerSettings(), "hall2-n017", gpus_folder=NOWHERE).ticks()
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


# GPUs and drivers that come and go


def conditions(ticks: Sequence[Tick], uuid: str) -> dict[int, Condition]:
    """Give the condition of a GPU by the second at which an interval ended."""
    return {(tick.end_ms - BLOCK_MS) // 1000: of(tick, uuid).condition for tick in ticks}


@pytest.mark.parametrize(
    ("fault", "condition"), [("lost", Condition.LOST), ("reset_required", Condition.RESET_REQUIRED)]
)
def test_a_gpu_that_goes_and_comes_back_is_told_by_its_condition(fault: str, condition: Condition) -> None:
    """It is named within an interval, and taken back when NVML is opened anew and it answers."""
    rig = Rig(f"h200x2:training!{fault}=1@+25..+95", start_ms=BLOCK_MS)
    ticks = rig.run(250)
    told = conditions(ticks, rig.uuid(1))
    assert min(at for at, one in told.items() if one is condition) == 30
    assert set(told.values()) == {Condition.OK, condition}
    assert told[max(told)] is Condition.OK
    assert known(of(ticks[-1], rig.uuid(1))) == all_of(rig)
    assert set(conditions(ticks, rig.uuid(0)).values()) == {Condition.OK}
    assert all(known(of(tick, rig.uuid(0))) == all_of(rig) for tick in ticks)


def test_a_gpu_that_was_taken_out_is_missing() -> None:
    """First it is lost; when NVML, opened anew, does not list it, it is missing, and keeps its identity."""
    rig = Rig("h200x3:training!removed=1@+25", start_ms=BLOCK_MS)
    ticks = rig.run(120)
    told = conditions(ticks, rig.uuid(1))
    assert (told[20], told[30], told[120]) == (Condition.OK, Condition.LOST, Condition.MISSING)
    assert all({gpu.uuid for gpu in tick.gpus or ()} == {rig.uuid(n) for n in range(3)} for tick in ticks)
    assert known(of(ticks[-1], rig.uuid(2))) == all_of(rig)


def test_a_gpu_that_was_put_back_is_read_again() -> None:
    """One that was taken out and comes back goes on under its UUID."""
    rig = Rig("h200x2:training!removed=1@+25..+80", start_ms=BLOCK_MS)
    ticks = rig.run(300)
    assert of(ticks[-1], rig.uuid(1)).condition is Condition.OK
    assert known(of(ticks[-1], rig.uuid(1))) == all_of(rig)


def test_a_gpu_that_is_added_is_found_within_a_minute(tmp_path: Path) -> None:
    """The kernel driver's folder tells that one came, without a driver call; then NVML is opened anew."""
    (tmp_path / "0000:04:00.0").mkdir()
    rig = Rig("h200x2:training!removed=1@+0..+30", start_ms=BLOCK_MS, gpus_folder=tmp_path)
    assert [len(tick.readings) for tick in rig.run(45)] == [1] * 6
    (tmp_path / "0000:07:00.0").mkdir()
    ticks = rig.run(80)
    assert len(rig.driver.opened_us) == 2
    assert {one.condition for one in ticks[-1].readings} == {Condition.OK}
    assert [gpu.index for gpu in ticks[-1].gpus or ()] == [0, 1]
    first = next(tick for tick in ticks if len(tick.readings) == 2)
    assert first.end_ms <= BLOCK_MS + 130_000
    readings = [of(tick, rig.uuid(0)) for tick in ticks]
    assert all(known(one) == all_of(rig) for one in readings)


def test_counters_of_the_driver_that_begin_anew_cost_one_value() -> None:
    """After a restart of one GPU's counters the other's go on, and busy time is exact throughout."""
    rig = Rig("h200x2:training!restart=1@+25", start_ms=BLOCK_MS)
    ticks = rig.run(120)
    silent = [
        (tick.end_ms - BLOCK_MS) // 1000
        for tick in ticks
        if of(tick, rig.uuid(1)).energy_joules_total is None
    ]
    assert silent == [30]
    for index in (0, 1):
        readings = [of(tick, rig.uuid(index)) for tick in ticks]
        truth = rig.simulation.busy_seconds(index, ticks[0].start_ms * 1000, ticks[-1].end_ms * 1000)
        assert busy_seconds(readings) == pytest.approx(truth, rel=0.001)
    assert refusals(ticks)["energy_joules_total", "jumped"] == 1


def test_a_driver_that_is_unloaded_ends_the_ticks_and_may_come_back() -> None:
    """The sampler says that NVML cannot be used; a new one says that it is not loaded, until it is."""
    rig = Rig("h200x2:training!unloaded@+25..+60", start_ms=BLOCK_MS)
    with pytest.raises(NvmlUnavailable, match="NVML cannot be used"):
        rig.run(60)
    again = Sampler(Nvml(), rig.clock, SamplerSettings(), "hall2-n017", gpus_folder=NOWHERE)
    with pytest.raises(NvmlUnavailable, match="not loaded"):
        next(again.ticks())
    rig.clock.wait(60)
    stream = Sampler(Nvml(), rig.clock, SamplerSettings(), "hall2-n017", gpus_folder=NOWHERE).ticks()
    tick = next(one for one in stream if one is not None)
    assert tick.since_ms == tick.start_ms
    assert all(known(one) == all_of(rig) for one in tick.readings)


def test_a_probe_that_ends_gives_all_back() -> None:
    """After close there is no sample, no set of events and no open driver."""
    rig = Rig("h200x2:training!mig=1:3g.71gb+2g.35gb")
    rig.run(25)
    rig.sampler.close()
    assert len(rig.driver._samples._taken) == len(rig.driver._events._sets) == 0
    assert not rig.driver._is_open()


def test_two_unknown_errors_in_a_row_are_no_loss_and_three_are() -> None:
    """Code 999 of all of a GPU's polls makes it lost; of one question a poll it is a failure."""
    rig = Rig("h200x2:training", start_ms=BLOCK_MS)
    rig.run(15)
    for function in ("TemperatureV", "ClockInfo"):
        rig.driver.codes[f"nvmlDeviceGet{function}", 1] = pynvml.NVML_ERROR_UNKNOWN
    assert of(rig.tick(), rig.uuid(1)).condition is Condition.OK
    rig.driver.codes["nvmlDeviceGetMemoryInfo_v2", 1] = pynvml.NVML_ERROR_UNKNOWN
    tick = rig.tick()
    assert of(tick, rig.uuid(1)).condition is Condition.LOST
    assert of(tick, rig.uuid(0)).condition is Condition.OK
