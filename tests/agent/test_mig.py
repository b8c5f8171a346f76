"""MIG: slices come and go with what each of them does; the GPU's own figures are never repeated on them."""

from collections import Counter
from collections.abc import Iterator, Sequence

import pynvml
import pytest

from agent.inventory import enumerate_devices
from agent.mig import Slices
from agent.nvml import Nvml
from agent.pieces import SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.simulated.layouts import SLICES
from agent.simulator import uninstall
from agent.tick import Reading, Slice, Tick
from tests.agent.driven import BLOCK_MS, START_MS, BentClock, Driver, Rig, impossible, known, of, refusals

THREE = "3g.71gb+2g.35gb+1g.18gb"
TWO = "4g.71gb+3g.71gb"
SHARED = "1c.3g.71gb+2c.3g.71gb+2g.35gb"
WHOLE_ONLY = {"busy_ratio", "memory_busy_ratio", "encoder_ratio"}
"""What only rings tell, which a partitioned GPU refuses."""
ROWS = {name for name in QUANTITIES if "remap" in name}
"""What a GPU with instances refuses besides."""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def history(text: str, seconds: float, *refuse: str) -> tuple[Rig, list[Reading]]:
    """Give the readings of GPU 0, from a start on a full ten seconds."""
    rig = Rig(text, *refuse, start_ms=BLOCK_MS)
    return rig, [of(tick, rig.uuid(0)) for tick in rig.run(seconds)]


def profiles(reading: Reading) -> list[str] | None:
    """Name the slices of a reading by their profiles."""
    return None if reading.slices is None else [one.profile for one in reading.slices]


def silent(one: Slice) -> set[str]:
    """Name what a slice does not tell."""
    return {name for name in SLICE_QUANTITIES if getattr(one, name) is None}


def test_slices_come_and_go_while_the_agent_runs() -> None:
    """Off, partitioned, partitioned otherwise, into nothing, off: each interval has its slices."""
    text = f"h200x1:training!mig=0:{THREE}@+35..+65!mig=0:{TWO}@+65..+95!mig=0:none@+95..+125"
    _, readings = history(text, 150)
    seen = {(one.end_ms - BLOCK_MS) // 1000: profiles(one) for one in readings}
    three, two = THREE.split("+"), TWO.split("+")
    assert [seen[at] for at in (20, 30)] == [None, None]
    assert [seen[at] for at in (40, 50, 60)] == [three] * 3
    assert [seen[at] for at in (70, 80, 90)] == [two] * 3
    assert [seen[at] for at in (100, 110, 120)] == [[]] * 3
    assert [seen[at] for at in (130, 140, 150)] == [None] * 3
    modes = [one.mig_mode_flag for one in readings]
    assert modes == [float(profiles(one) is not None) for one in readings]


def test_slices_tell_everything_from_their_second_interval_on() -> None:
    """Memory at once, activity when there are two samples; each slice by a UUID and a share of its own."""
    _, readings = history(f"h200x1:training!mig=0:{THREE}@+35", 80)
    first, *later = [one.slices for one in readings if one.slices]
    activity = {name for name in SLICE_QUANTITIES if name.endswith("_ratio")}
    assert [silent(one) for one in first] == [activity] * 3
    for slices in later:
        assert [silent(one) for one in slices] == [set()] * 3
        assert [one.weight_ratio for one in slices] == [3 / 7, 2 / 7, 1 / 7]
        assert len({one.uuid for one in slices}) == 3
    assert len({tuple(one.uuid for one in slices) for slices in (first, *later)}) == 1


def test_activity_of_slices_is_the_truth() -> None:
    """Over five minutes each slice's multiprocessors were active as long as the simulation says."""
    rig, readings = history(f"h200x1:bursty!mig=0:{THREE}", 300)
    readings = readings[1:]
    start_us, end_us = readings[0].start_ms * 1000, readings[-1].end_ms * 1000
    for position in range(3):
        told = sum(
            (one.slices[position].sm_active_ratio or 0) * (one.end_ms - one.start_ms) / 1000
            for one in readings
            if one.slices
        )
        truth = rig.driver.partitions.slice_sm_active_seconds(0, position, start_us, end_us)
        assert truth > 10
        assert told == pytest.approx(truth, rel=0.005)


def test_a_slice_has_its_own_memory() -> None:
    """What is told of it is its own: slices are smaller than the GPU, and differ."""
    rig, readings = history(f"h200x1:training!mig=0:{THREE}", 20)
    reading = readings[-1]
    sizes = [one.memory_total_bytes or 0 for one in reading.slices or ()]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) <= rig.simulation.model.memory_total_bytes
    assert sum(one.memory_used_bytes or 0 for one in reading.slices or ()) <= (reading.memory_used_bytes or 0)
    assert [one.memory_used_bytes for one in reading.slices or ()][1:] == [0, 0]


def test_a_partitioned_gpu_tells_what_is_still_its_own() -> None:
    """Energy, power, heat, throttling, errors and GPM go on; what NVML refuses with MIG is None, not 0."""
    rig, readings = history(f"h200x1:training!mig=0:{THREE}", 40)
    whole = known(rig.simulation.reading(0, BLOCK_MS, BLOCK_MS + 10_000))
    for reading in readings:
        assert whole - known(reading) == WHOLE_ONLY | ROWS
        assert known(reading) <= whole
    last = readings[-1]
    truth = rig.simulation.reading(0, last.start_ms, last.end_ms)
    assert last.sm_active_ratio == pytest.approx(truth.sm_active_ratio)
    assert last.power_watts == pytest.approx(truth.power_watts, rel=0.001)


def test_energy_goes_on_through_all_changes() -> None:
    """Power of every interval is the counter's difference, and the counter is that of the whole GPU."""
    text = f"h200x1:training!mig=0:{THREE}@+35..+65!mig=0:{TWO}@+65..+95"
    rig, readings = history(text, 150)
    for reading in readings:
        truth = rig.simulation.reading(0, reading.start_ms, reading.end_ms)
        assert reading.energy_joules_total == pytest.approx(truth.energy_joules_total, abs=0.01)
        assert reading.power_watts == pytest.approx(truth.power_watts, rel=0.001)


def test_what_was_refused_is_asked_anew_when_the_mode_changes() -> None:
    """Rings and rows are refused while it lasts, by their names, and are told again after it."""
    rig = Rig(f"h200x1:training!mig=0:{THREE}@+35..+65", start_ms=BLOCK_MS)
    ticks = {(tick.end_ms - BLOCK_MS) // 1000: tick for tick in rig.run(120)}
    whole = known(rig.simulation.reading(0, BLOCK_MS, BLOCK_MS + 10_000))
    usual = refusals([ticks[2]])
    assert known(ticks[30].readings[0]) == whole
    assert whole - known(ticks[60].readings[0]) == WHOLE_ONLY | ROWS
    refused = {name for name, reason in refusals([ticks[40], ticks[50]]) if reason == "unsupported"}
    assert refused >= {"samples_1", "samples_2", *ROWS}
    assert refusals([ticks[60]]) == {}
    assert {name for name, _ in refusals([ticks[70]])} <= {name for name, _ in usual} | {"slice_memory"}
    assert {name for name, _ in refusals([ticks[80]])} <= {name for name, _ in usual}
    assert refusals([ticks[at] for at in (90, 100, 110, 120)]) == {}
    assert all(known(ticks[at].readings[0]) == whole for at in (80, 90, 100, 110, 120))


def test_processes_name_their_slice() -> None:
    """A process that runs on an instance carries the UUID of its slice, one on a whole GPU none."""
    rig = Rig(f"h200x2:training!mig=0:{THREE}", start_ms=BLOCK_MS)
    for tick in rig.run(40)[1:]:
        parted, whole = (of(tick, rig.uuid(index)) for index in (0, 1))
        places = {process.slice for process in parted.processes or ()}
        assert places == {(parted.slices or ())[0].uuid}
        assert {process.slice for process in whole.processes or ()} == {""}


def test_compute_instances_of_one_instance_share_its_figures() -> None:
    """Memory and activity are of the GPU instance: only the first of its slices tells them."""
    _, readings = history(f"h200x1:training!mig=0:{SHARED}", 40)
    for slices in [one.slices or () for one in readings[1:]]:
        assert [one.profile for one in slices] == ["1c.3g.71gb", "2c.3g.71gb", "2g.35gb"]
        assert [one.weight_ratio for one in slices] == [1 / 7, 2 / 7, 2 / 7]
        assert [silent(one) for one in slices] == [set(), set(SLICE_QUANTITIES), set()]


@pytest.mark.parametrize("layout", [THREE, SHARED, TWO, "7g.141gb"])
def test_activity_of_the_gpu_may_come_from_its_slices(layout: str) -> None:
    """Where a driver refuses GPM of a partitioned GPU, its slices add up by the share of each instance."""
    rig = Rig(f"h200x1:training!mig=0:{layout}", start_ms=BLOCK_MS)
    rig.driver.codes["nvmlGpmSampleGet"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    readings = [tick.readings[0] for tick in rig.run(40)][2:]
    placed = rig.driver.partitions.layout(0, BLOCK_MS * 1000)
    assert placed is not None
    weights = Counter[int]()
    for one in placed.instances:
        weights[one.gpu_instance] += one.slices
    share = sum(placed.shares[number] * slices / SLICES for number, slices in weights.items())
    for reading in readings:
        truth = rig.simulation.reading(0, reading.start_ms, reading.end_ms).sm_active_ratio or 0
        assert reading.sm_active_ratio == pytest.approx(share * truth)
        assert reading.tensor_active_ratio is None


@pytest.mark.parametrize("function", ["nvmlGpmMigSampleGet", "nvmlDeviceGetMigDeviceHandleByIndex"])
def test_without_a_function_of_slices_the_gpu_is_told_all_the_same(function: str) -> None:
    """A driver that cannot sample slices samples the GPU, and 0 is not invented for what nobody tells."""
    rig, readings = history(f"h200x1:training!mig=0:{THREE}", 40, f"function:{function}")
    _, usual = history(f"h200x1:training!mig=0:{THREE}", 40)
    for reading, other in zip(readings, usual, strict=True):
        assert known(reading) == known(other)
        assert reading.sm_active_ratio == other.sm_active_ratio
        assert all(one.sm_active_ratio is None for one in reading.slices or ())
    rig.driver.codes["nvmlGpmSampleGet"] = pynvml.NVML_ERROR_TIMEOUT
    assert rig.tick().readings[0].sm_active_ratio is None


def test_slices_without_memory_do_not_cost_more_calls() -> None:
    """A driver that does not tell the memory of slices is not asked for its slices at every tick."""
    rig = Rig(f"h200x1:training!mig=0:{THREE}", "function:nvmlDeviceGetMemoryInfo_v2")
    rig.run(90)
    before = sum(
        times for (name, _), times in rig.driver.asked.items() if name.endswith("MigDeviceHandleByIndex")
    )
    rig.run(50)
    after = sum(
        times for (name, _), times in rig.driver.asked.items() if name.endswith("MigDeviceHandleByIndex")
    )
    assert after - before <= 7


def test_a_mode_that_is_not_told_once_is_no_change() -> None:
    """A timeout of the question about the mode makes nobody ask for everything anew."""
    rig = Rig(f"h200x1:training!mig=0:{THREE}")
    rig.run(30)
    rig.driver.codes["nvmlDeviceGetMigMode"] = pynvml.NVML_ERROR_TIMEOUT
    tick = rig.tick()
    assert refusals([tick]) == {("mig_mode_flag", "failed"): 1}
    assert [silent(one) for one in tick.readings[0].slices or ()] == [set()] * 3


def test_an_instance_that_stays_keeps_its_figures_when_another_goes() -> None:
    """A slice whose handle died makes the slices be looked for anew; the others are not read twice."""
    driver = Driver(f"h200x1:training!mig=0:{THREE}", BentClock(START_MS))
    nvml = Nvml()
    nvml.open()
    slices = Slices(enumerate_devices(nvml, {})[0][0].caller, has_gpm=True)
    slices.take(driver.clock.monotonic_ns())
    driver.clock.wait(10)
    broken = slices._found[1].caller
    broken.handle = slices._found[1].caller.handle.__class__()
    first, second, third = slices.take(driver.clock.monotonic_ns())
    assert (silent(first), silent(third)) == (set(), set())
    assert second.memory_total_bytes is not None


def test_a_slice_without_a_name_is_none() -> None:
    """Where a slice does not tell a UUID it is left out: it would be mixed up with others."""
    rig = Rig(f"h200x1:training!mig=0:{THREE}")
    rig.driver.codes["nvmlDeviceGetUUID", -1] = pynvml.NVML_ERROR_TIMEOUT
    assert rig.tick().readings[0].slices == ()


def test_many_changes_leave_no_sample_behind() -> None:
    """Chains of slices that are gone give their samples back."""
    edges = "".join(f"!mig=0:{(THREE, TWO)[n % 2]}@+{20 * n}..+{20 * n + 20}" for n in range(1, 20))
    rig = Rig(f"h200x1:training{edges}")
    ticks: Sequence[Tick] = rig.run(420)
    assert all(impossible(tick) == {} for tick in ticks)
    assert len(rig.driver._samples._taken) == 2
    assert {tick.readings[0].slices is None for tick in ticks[-1:]} == {True}


def test_a_partition_is_seen_at_the_event() -> None:
    """The driver reports that a GPU was partitioned anew: its slices are looked for at once."""
    rig = Rig(f"h200x1:training!mig=0:{THREE}@+0..+33!mig=0:{TWO}@+33", start_ms=BLOCK_MS)
    seen = {(tick.end_ms - BLOCK_MS) // 1000: profiles(tick.readings[0]) for tick in rig.run(50)}
    assert seen[30] == THREE.split("+")
    assert seen[40] == TWO.split("+")


def test_no_slices_are_no_activity_of_nought() -> None:
    """A GPU that is not cut up yet, and whose driver refuses GPM of it, tells no activity."""
    rig = Rig("h200x1:training!mig=0:none")
    rig.driver.codes["nvmlGpmSampleGet"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    assert {tick.readings[0].sm_active_ratio for tick in rig.run(30)} == {None}


def test_slices_of_which_one_is_not_told_make_no_activity_of_the_gpu() -> None:
    """An instance whose first slice has no name would be missing in the sum."""
    driver = Driver(f"h200x1:training!mig=0:{SHARED}", BentClock(START_MS))
    nvml = Nvml()
    nvml.open()
    slices = Slices(enumerate_devices(nvml, {})[0][0].caller, has_gpm=True)
    slices.take(driver.clock.monotonic_ns())
    driver.clock.wait(10)
    assert slices.sm_active_ratio(slices.take(driver.clock.monotonic_ns())) is not None
    driver.clock.wait(10)
    slices._found = slices._found[1:]
    assert slices.sm_active_ratio(slices.take(driver.clock.monotonic_ns())) is None
