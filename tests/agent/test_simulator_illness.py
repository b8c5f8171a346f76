"""Faults by which simulated GPUs do something else, are hot, or err again and again: the driver is true."""

from collections.abc import Iterator
from ctypes import byref
from itertools import pairwise

import pynvml
import pytest

from agent.quantities import QUANTITIES
from agent.simulated.defects import SOUND
from agent.simulated.faults import parse_faults, resolve, split
from agent.simulated.phases import REASONS
from agent.simulated.scenario import Simulation, parse_simulation
from agent.simulated.scheduler import Crowd, Scheduler
from agent.simulated.seen import with_faults
from agent.simulator import uninstall
from agent.tick import Tick
from tests.agent import driven
from tests.agent.faulty import NOON, SECOND, Rig

MINUTE = 60 * SECOND


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def ill(text: str, *, began_us: int = NOON) -> Simulation:
    """Make a simulation whose truth has all faults of the text; their times count from a moment."""
    node, texts = split(resolve(text, began_us / SECOND))
    simulation = parse_simulation(node)
    faults = parse_faults(texts, simulation.count)
    simulation.undergo(faults)
    simulation.defects_at = lambda gpu, at_us: with_faults(SOUND, faults, gpu, at_us)
    return simulation


# What a GPU does


def test_a_gpu_plays_another_scenario_for_a_while() -> None:
    """Before and after it does its own, and its neighbour always does."""
    simulation = ill("h200x2:training!plays=1:free@+60..+120")
    moments = [NOON + seconds * SECOND for seconds in (30, 90, 150)]
    assert [len(simulation.processes(1, at_us)) for at_us in moments] == [1, 0, 1]
    assert [simulation.memory_used_bytes(1, at_us) > 0 for at_us in moments] == [True, False, True]
    assert simulation.busy_seconds(1, NOON + MINUTE, NOON + 2 * MINUTE) == 0
    assert simulation.busy_seconds(0, NOON + MINUTE, NOON + 2 * MINUTE) > 50


def test_sums_go_on_through_all_turns() -> None:
    """They grow as those of what is played, and never jump or fall."""
    text = (
        "h200x1:training!plays=0:computing@+60..+120!slowed=0:power_cap:50@+90..+180!plays=0:held@+100..+130"
    )
    simulation, own = ill(text), parse_simulation("h200x1:training")
    other = parse_simulation("h200x1:computing")
    edges = [NOON + seconds * SECOND for seconds in range(240)]
    told = [simulation.counters(0, at_us) for at_us in edges]
    assert told[0] == own.counters(0, edges[0])
    steps = [[new - old for new, old in zip(after, before, strict=True)] for before, after in pairwise(told)]
    assert all(0 <= step[0] <= SECOND and 0 < step[1] < 700e9 * 1.1 for step in steps)
    work = simulation.work(0, edges[80]).fp64 - simulation.work(0, edges[70]).fp64
    assert work == other.work(0, edges[80]).fp64 - other.work(0, edges[70]).fp64 > 0
    assert simulation.busy_seconds(0, edges[200], edges[230]) == own.busy_seconds(0, edges[200], edges[230])


def test_an_interval_over_turns_touches_what_is_played_in_each() -> None:
    """Memory of a minute is weighed by both halves."""
    simulation = ill("h200x1:free!plays=0:held@+30..+90")
    start_ms = NOON // 1000
    whole = simulation.memory_used_bytes(0, NOON + MINUTE)
    first, second = (simulation.reading(0, at_ms, at_ms + 60_000) for at_ms in (start_ms, start_ms + 60_000))
    assert first.memory_used_bytes == second.memory_used_bytes == whole / 2
    assert (first.running_processes, second.running_processes) == (1, 0)


def test_heat_of_what_was_done_before_goes_slowly() -> None:
    """The temperature does not jump when a GPU begins or ends another scenario."""
    simulation = ill("h200x1:training!plays=0:free@+60..+600")
    edges = range(NOON, NOON + 20 * MINUTE, SECOND)
    told = [simulation.temperature_celsius(0, at_us) for at_us in edges]
    assert all(abs(after - before) < 0.6 for before, after in pairwise(told))
    assert told[590] < 36
    assert told[-1] == pytest.approx(
        parse_simulation("h200x1:training").temperature_celsius(0, edges[-1]), abs=0.5
    )


def test_everybody_who_comes_with_a_played_scenario_has_a_name() -> None:
    """Processes have other pids than those of the GPU's own scenario, and its allocation is told."""
    simulation = ill("h200x2:training!plays=1:held@+60..+120!plays=1:given@+120..+180")
    own, held = (simulation.processes(1, NOON + seconds * SECOND)[0] for seconds in (30, 90))
    assert own.pid != held.pid
    assert Crowd(simulation).resolve([held.pid])[held.pid] is not None
    scheduler = Scheduler(simulation, lambda: NOON // 1000 + 150_000)
    assert scheduler.answer().given.keys() == {simulation.uuid(1)}


@pytest.mark.parametrize("reason", REASONS)
def test_clocks_are_lowered_for_a_reason(reason: str) -> None:
    """Only in the window and at work: the counter of the reason grows, clock and power are lower."""
    rig = Rig(f"h200x1:computing!slowed=0:{reason}:40@+60..+120").open()
    simulation = rig.simulation
    seconds = [
        simulation.throttle_seconds(0, reason, NOON + start * SECOND, NOON + (start + 60) * SECOND)
        for start in (0, 60, 120)
    ]
    assert seconds == [0, pytest.approx(60, abs=1), 0]
    told = []
    for at_seconds in (30, 90, 150):
        rig.at(at_seconds)
        told.append(
            (
                pynvml.nvmlDeviceGetClockInfo(rig.handle(), 1),
                pynvml.nvmlDeviceGetPowerUsage(rig.handle()) > 400_000,
                pynvml.nvmlDeviceGetCurrentClocksEventReasons(rig.handle()) > 1,
            )
        )
    assert told == [(1_785, True, False), (714, False, True), (1_785, True, False)]


def test_reasons_for_lower_clocks_add_up() -> None:
    """The clock is that of the fault that is written last."""
    simulation = ill("h200x1:computing!slowed=0:sw_thermal:80!slowed=0:power_brake:30")
    assert simulation.throttles_at(0, NOON) == {"sw_thermal", "power_brake"}
    assert simulation.clock_hertz(0, NOON) == pytest.approx(0.3 * 1_785e6)


def test_a_stalled_gpu_is_busy_and_computes_nothing() -> None:
    """All of the time and at little power, with some multiprocessors that spin."""
    simulation = ill("h200x1:training!plays=0:stalled@+60")
    span = 0, NOON + MINUTE, NOON + 2 * MINUTE
    assert simulation.busy_seconds(*span) == 60
    assert simulation.tensor_active_seconds(*span) == 0
    assert 0.3 < simulation.sm_active_seconds(*span) < 12
    assert simulation.energy_joules(*span) / 60 < 350


# Heat


@pytest.mark.parametrize(("place", "grown"), [("core", (20, 24)), ("memory", (0, 20))])
def test_heat_comes_and_goes_slowly(place: str, grown: tuple[float, float]) -> None:
    """The memory beside a hot core is hot as well; a memory that is hot by itself heats no core."""
    rig = Rig(f"h200x1:computing!heat=0:{place}:20@+60..+660").open()
    told = []
    for seconds in (59, 61, 659, 661, 1_300):
        rig.at(seconds)
        told.append((pynvml.nvmlDeviceGetTemperature(rig.handle(), 0), rig.field(82).value.uiVal))
    before, soon, last, after, late = told
    assert [last[0] - before[0], last[1] - before[1]] == pytest.approx(list(grown), abs=1)
    assert [soon, after, late] == [pytest.approx(near, abs=1) for near in (before, last, before)]


# Errors and marks


def test_errors_come_at_a_rate_and_stay_counted() -> None:
    """Sixty a minute for a minute; a restart of the counters begins them anew."""
    rig = Rig("h200x1!errors=0:pcie_replay:60@+60..+120!errors=0:crc:30@+60!restart=0@+240").open()
    told = []
    for seconds in (59, 90, 120, 180, 241, 300):
        rig.at(seconds)
        told.append((rig.field(94).value.ullVal, rig.field(38).value.ullVal))
    assert told == [(0, 0), (30, 15), (60, 30), (60, 60), (0, 0), (0, 30)]


def test_errors_of_always_began_with_the_world() -> None:
    """No counter is above what a minute of the simulation's time can bring."""
    rig = Rig("h200x1!errors=0:recovery:1").open()
    first = rig.field(59).value.ullVal
    rig.at(120)
    assert 0 < first < 3_000_000
    assert rig.field(59).value.ullVal == first + 2


@pytest.mark.parametrize(
    ("mark", "model", "number", "counted"),
    [("remap_failed", "h200", 145, 143), ("page_pending", "t4", 31, 30)],
)
def test_a_mark_of_the_memory_goes_and_what_was_counted_stays(
    mark: str, model: str, number: int, counted: int
) -> None:
    """A row, or a page, is one more from then on."""
    rig = Rig(f"{model}x1!memory=0:{mark}@+10..+20").open()
    told = []
    for seconds in (5, 15, 25):
        rig.at(seconds)
        told.append((rig.field(number).value.uiVal, rig.field(counted).value.ullVal))
    assert told == [(0, 0), (1, 1), (0, 1)]


def test_too_many_errors_of_sram_are_a_status() -> None:
    """While the fault lasts."""
    rig = Rig("h200x1!memory=0:sram_exceeded@+10..+20").open()
    told = []
    for seconds in (5, 15, 25):
        rig.at(seconds)
        status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
        pynvml.nvmlDeviceGetSramEccErrorStatus(rig.handle(), byref(status))
        told.append(status.bThresholdExceeded)
    assert told == [0, 1, 0]


def test_only_so_many_links_are_up() -> None:
    """The first ones; another that is down besides is one less."""
    rig = Rig("h200x2!links=0:16@+10..+20!linkdown=0:3@+10..+20!links=1:0").open()
    told = []
    for seconds in (5, 15, 25):
        rig.at(seconds)
        told.append([sum(rig.field(165, gpu, link).value.ullVal for link in range(18)) for gpu in (0, 1)])
    assert told == [[18, 0], [15, 0], [18, 0]]


@pytest.mark.parametrize(("code", "shift"), [(2, 4), (3, 0)])
def test_the_fabric_says_how_it_is_and_why(code: int, shift: int) -> None:
    """Unhealthy for a route, of limited capacity for lost bandwidth."""
    rig = Rig(f"h200x1!unhealthy=0:{code}").open()
    told = pynvml.c_nvmlGpuFabricInfo_v3_t()
    told.version = pynvml.nvmlGpuFabricInfo_v3
    pynvml.nvmlDeviceGetGpuFabricInfoV(rig.handle(), byref(told))
    assert (told.state, told.healthSummary) == (3, code)
    assert told.healthMask >> shift & 3 == 1


# The agent and the truth

MANY = (
    "h200x2:training!errors=1:pcie_replay:600@+20!errors=1:crc:120@+20!errors=1:replay:30@+20"
    "!errors=1:recovery:6@+20!memory=1:remap_failed@+20!links=1:7@+20!slowlink=1:3@+20!unhealthy=1:3@+20"
)
DOES = [
    "h200x2:computing!slowed=1:power_brake:30@+20",
    "h200x2:computing!heat=1:core:12@+20!heat=1:memory:9@+20",
    "h200x2:training!plays=1:stalled@+20",
    "t4x2:training!plays=1:waiting@+20!memory=1:page_pending@+20",
]


@pytest.mark.parametrize("text", [MANY, *DOES])
def test_an_agent_reads_what_is_true(text: str) -> None:
    """Gauges of the last interval, and what counters grew by in five minutes."""
    rig = driven.Rig(text)
    truth = ill(text, began_us=driven.START_MS * 1000)
    ticks = rig.run(300)
    told = [driven.of(tick, rig.uuid(1)) for tick in (ticks[0], ticks[-1])]
    true = [truth.reading(1, one.start_ms, one.end_ms) for one in told]
    assert driven.known(told[1]) == driven.known(true[1])
    for name in driven.known(true[1]):
        first, last = getattr(true[0], name), getattr(true[1], name)
        if QUANTITIES[name].kind == "counter":
            grown = getattr(told[1], name) - getattr(told[0], name)
            units = 20 if "errors" in name or "replays" in name else 0.5
            assert grown == pytest.approx(last - first, rel=0.01, abs=units), name
        else:
            units = 1.5 if name.endswith("_celsius") else 0.02
            assert getattr(told[1], name) == pytest.approx(last, rel=0.05, abs=units), name


def test_a_guarded_rig_leaves_out_a_gpu_that_hangs_and_takes_it_in_again() -> None:
    """As the parent of a probe does, and time goes on meanwhile."""
    rig = driven.Rig("h200x2:training!hang=1@+60..+120", guarded=True)
    ticks: list[Tick] = rig.run(200)
    conditions = [driven.of(tick, rig.uuid(1)).condition.value for tick in ticks]
    assert sorted(set(conditions)) == ["hung", "ok"]
    assert conditions[0] == conditions[-1] == "ok"
    assert {driven.of(tick, rig.uuid(0)).condition.value for tick in ticks} == {"ok"}
