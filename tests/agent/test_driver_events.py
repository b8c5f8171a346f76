"""What the driver reports by itself arrives in the next tick, by the UUID of its GPU, and costs no wait."""

from collections.abc import Iterator
from itertools import pairwise

import pynvml
import pytest

from agent.clock import VirtualClock
from agent.driver_events import MOST_AT_ONCE, REST_MS, DriverEvents
from agent.errors import NvmlUnavailable
from agent.inventory import enumerate_devices
from agent.nvml import Nvml
from agent.simulator import uninstall
from agent.tick import Condition, Tick, Xid
from tests.agent.driven import BLOCK_MS, START_MS, BentClock, Driver, Rig, of, refusals

EVENT_CALLS = {
    "nvmlEventSetCreate",
    "nvmlEventSetWait_v2",
    "nvmlDeviceRegisterEvents",
    "nvmlDeviceGetSupportedEventTypes",
}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


class Bench:
    """The events of a driver; `take` gives what was reported so much later."""

    def __init__(self, text: str, *refuse: str) -> None:
        self.clock = BentClock(START_MS)
        self.driver = Driver(text, self.clock, frozenset(refuse))
        self.nvml = Nvml()
        self.nvml.open()
        self.devices = enumerate_devices(self.nvml, {})[0]
        self.nvml.failures.clear()
        self.events = DriverEvents(self.nvml, self.clock)
        self.events.open(self.devices)

    def take(self, seconds: float = 1) -> list[tuple[int, int]]:
        """Give (GPU, number) of each error."""
        self.clock.wait(seconds)
        places = {device.uuid: device.gpu.index for device in self.devices}
        return [(places[one.uuid], one.number) for one in self.events.take().xids]

    def fails(self) -> dict[tuple[str, str], int]:
        """Count what failed since the last time."""
        failed = {key[1:]: times for key, times in self.nvml.failures.items()}
        self.nvml.failures.clear()
        return failed


def xids(ticks: list[Tick]) -> list[tuple[int, str, int]]:
    """Give (second of the tick's end, UUID, number) of each error."""
    return [((tick.end_ms - BLOCK_MS) // 1000, one.uuid, one.number) for tick in ticks for one in tick.xids]


def test_errors_are_told_once_and_by_their_gpu() -> None:
    """Each with its number, in the order of time; with nothing new there is nothing."""
    bench = Bench("h200x3!xid=2:79@+5!xid=0:48@+3!xid=1:13*3@+20")
    assert bench.take(2) == []
    assert bench.take(6) == [(0, 48), (2, 79)]
    assert bench.take(10) == []
    assert bench.take(10) == [(1, 13)] * 3
    assert bench.fails() == {}


def test_the_driver_is_asked_and_not_waited_for() -> None:
    """A look costs no time, one call if nothing happened and one more per event."""
    bench = Bench("h200x1!xid=0:79*5@+5")
    before_ns, before = bench.clock.monotonic_ns(), bench.nvml.calls
    bench.events.take()
    assert (bench.clock.monotonic_ns(), bench.nvml.calls) == (before_ns, before + 1)
    assert len(bench.take(10)) == 5
    assert bench.nvml.calls == before + 7


def test_a_storm_is_taken_in_parts() -> None:
    """What does not fit into one look comes with the next; nothing is told twice."""
    bench = Bench(f"h200x1!xid=0:13*{MOST_AT_ONCE + 50}@+1")
    assert [len(bench.take(5)) for _ in range(3)] == [MOST_AT_ONCE, 50, 0]


def test_a_storm_does_not_hold_up_the_polls() -> None:
    """When the calls themselves are slow, a look ends after some milliseconds, and the rest waits."""

    class Slow(VirtualClock):
        def monotonic_ns(self) -> int:
            self._monotonic_ns += 1_000_000
            return self._monotonic_ns

    bench = Bench("h200x1!xid=0:13*100@+1")
    bench.clock.wait(5)
    bench.events._clock = Slow(START_MS)
    assert 5 < len(bench.events.take().xids) < 40


def test_errors_arrive_with_the_tick() -> None:
    """In the tick of the interval in which they were heard, by UUID, with the time of the look."""
    rig = Rig("h200x2:training!xid=1:79@+33!xid=0:48@+52.5", start_ms=BLOCK_MS)
    ticks = rig.run(80)
    assert xids(ticks) == [(40, rig.uuid(1), 79), (60, rig.uuid(0), 48)]
    at_ms = [one.at_ms - BLOCK_MS for tick in ticks for one in tick.xids]
    assert [33_000 <= at_ms[0] <= 34_000, 52_500 <= at_ms[1] <= 54_000] == [True, True]
    assert {one.source for tick in ticks for one in tick.xids} == {"nvml"}


def test_errors_are_heard_after_the_driver_is_opened_anew() -> None:
    """A set of a driver that was closed is of no use; the new one hears all GPUs again."""
    rig = Rig("h200x3:training!lost=2@+25..+60!xid=0:13@+48!xid=2:31@+148", start_ms=BLOCK_MS)
    ticks = rig.run(180)
    assert len(rig.driver.opened_us) > 2
    assert xids(ticks) == [(50, rig.uuid(0), 13), (150, rig.uuid(2), 31)]


@pytest.mark.parametrize("code", [1, 2, 3, 15, 999])
def test_a_set_that_answers_errors_at_once_is_left_alone(code: int) -> None:
    """For a minute, and counted; then it is asked again. It would spin otherwise."""
    bench = Bench("h200x1!xid=0:79@+5")
    bench.driver.codes["nvmlEventSetWait_v2"] = code
    asked = bench.driver.asked
    for _ in range(REST_MS // 1000):
        assert bench.take(1) == []
    assert asked["nvmlEventSetWait_v2", 0] == 1
    assert bench.fails() == {("xid_errors_total", "failed"): 1}
    bench.driver.codes.clear()
    assert bench.take(1) == [(0, 79)]


def test_a_gpu_that_is_lost_while_it_registers_costs_its_neighbours_nothing() -> None:
    """Their errors are heard; it has none."""
    bench = Bench("h200x3!xid=0:13@+5!xid=1:79@+5!xid=2:31@+5")
    bench.driver.codes["nvmlDeviceRegisterEvents", 1] = pynvml.NVML_ERROR_GPU_IS_LOST
    bench.events.open(bench.devices)
    assert bench.take(10) == [(0, 13), (2, 31)]


def test_a_gpu_lost_while_registering_is_found_lost_by_the_next_poll() -> None:
    """A sampler that begins just then names its condition, and hears the others."""
    rig = Rig("h200x2:training!lost=1@+0.5..+300!xid=0:13@+7", start_ms=BLOCK_MS)
    rig.driver.codes["nvmlDeviceRegisterEvents", 1] = pynvml.NVML_ERROR_GPU_IS_LOST
    ticks = rig.run(20)
    assert of(ticks[0], rig.uuid(1)).condition is Condition.LOST
    assert xids(ticks) == [(10, rig.uuid(0), 13)]


def test_a_driver_that_went_away_while_registering_is_unavailable() -> None:
    """UNINITIALIZED is no matter of one GPU."""
    bench = Bench("h200x1")
    bench.driver.codes["nvmlDeviceRegisterEvents"] = 1
    with pytest.raises(NvmlUnavailable):
        bench.events.open(bench.devices)


@pytest.mark.parametrize("function", sorted(EVENT_CALLS))
def test_without_events_everything_else_is_told(function: str) -> None:
    """A driver that has no events is told so once, and is not asked for them."""
    plain = refusals(Rig("h200x2:training").run(5))
    rig = Rig("h200x2:training!xid=0:13@+7", f"function:{function}")
    ticks = rig.run(70)
    assert xids(ticks) == []
    lacks = refusals(ticks) - plain
    assert {name for name, _ in lacks} <= {"events", "xid_errors_total"}
    assert lacks.total() <= 4
    assert all(reading.busy_ratio is not None for tick in ticks for reading in tick.readings)


def test_a_gpu_without_events_is_not_registered() -> None:
    """A card that supports none of the kinds costs no further question, and its set is never asked."""
    bench = Bench("t4x1", "event_types")
    assert bench.take(1) == []
    assert bench.driver.asked["nvmlEventSetWait_v2", 0] == 0
    assert bench.driver.asked["nvmlDeviceRegisterEvents", 0] == 0
    assert bench.fails() == {("events", "unsupported"): 1}


def test_a_partition_is_reported_by_its_gpu() -> None:
    """By the UUID of the GPU that was partitioned, and not as an error."""
    bench = Bench("h200x2!mig=1:3g.71gb@+5")
    bench.clock.wait(10)
    happened = bench.events.take()
    assert happened.xids == []
    assert happened.repartitioned == {bench.devices[1].uuid}


def test_sets_are_given_back() -> None:
    """However often the driver's GPUs are registered anew, one set is there, and none after the end."""
    bench = Bench("h200x1")
    for _ in range(5):
        bench.events.open(bench.devices)
    assert len(bench.driver._events._sets) == 1
    bench.events.close()
    assert len(bench.driver._events._sets) == 0
    assert bench.take(1) == []


def test_an_error_of_a_gpu_that_nobody_knows_has_no_uuid() -> None:
    """It is told all the same: something happened on this node."""
    bench = Bench("h200x1!xid=0:79@+5")
    bench.events._uuids = {7: "GPU-of-others"}
    bench.clock.wait(10)
    assert [one._replace(at_ms=0) for one in bench.events.take().xids] == [Xid(0, "", 79)]


def test_times_of_errors_do_not_go_back() -> None:
    """Errors come in the order in which they happened."""
    rig = Rig("h200x4:training!xid=0:13*20@+3!xid=3:31*20@+3.3!xid=1:79@+40")
    at_ms = [one.at_ms for tick in rig.run(60) for one in tick.xids]
    assert len(at_ms) == 41
    assert all(before <= after for before, after in pairwise(at_ms))
