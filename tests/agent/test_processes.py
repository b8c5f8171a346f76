"""The processes of an interval: all that were there, and what each had of the multiprocessors."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pynvml
import pytest

from agent.inventory import enumerate_devices
from agent.nvml import Nvml
from agent.processes import LIST_MS, OTHERS_MS, Processes
from agent.simulated.calling import put_number, target
from agent.simulator import uninstall
from agent.tick import Process
from tests.agent.driven import START_MS, BentClock, Driver, Rig

GIB = 2**30
NO_INSTANCE = 0xFFFFFFFF
LISTS = {
    "compute": "nvmlDeviceGetComputeRunningProcesses_v3",
    "graphics": "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "mps": "nvmlDeviceGetMPSComputeRunningProcesses_v3",
}


class Listed(NamedTuple):
    """A process as the driver lists it."""

    pid: int
    memory_bytes: int = 5 * GIB
    instance: int = NO_INSTANCE


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


class Bench:
    """The processes of one GPU; `lists` are what the driver lists, `shares` (pid, ms ago, per cent)."""

    def __init__(self, *refuse: str) -> None:
        self.clock = BentClock(START_MS)
        self.driver = Driver("h200x1:free", self.clock, frozenset(refuse))
        self.nvml = Nvml()
        self.nvml.open()
        device = enumerate_devices(self.nvml, {})[0][0]
        self.nvml.failures.clear()
        self.lists: dict[str, Sequence[Listed]] = {}
        self.shares: list[tuple[int, int, int]] = []
        self.driver.meddle = self._meddle
        self.processes = Processes(device, self.clock)

    def _meddle(self, name: str, _gpu: int, arguments: tuple[Any, ...], code: int) -> int:
        for kind, function in LISTS.items():
            if name == function and not code:
                self._list(self.lists.get(kind, ()), *arguments)
        if name == "nvmlDeviceGetProcessUtilization":
            return self._share(*arguments)
        return code

    def _list(self, listed: Sequence[Listed], count: Any, buffer: Any) -> None:  # noqa: ANN401
        put_number(len(listed), count)
        for place, one in enumerate(listed):
            entry = target(buffer)[place]
            entry.pid, entry.usedGpuMemory, entry.gpuInstanceId = one

    def _share(self, buffer: Any, count: Any, seen_us: Any) -> int:  # noqa: ANN401
        now_us = self.clock.wall_ms() * 1000
        fresh = [(pid, now_us - ago_ms * 1000, share) for pid, ago_ms, share in self.shares]
        fresh = [one for one in fresh if one[1] > seen_us.value]
        put_number(len(fresh), count)
        for place, (pid, at_us, share) in enumerate(fresh):
            entry = target(buffer)[place]
            entry.pid, entry.timeStamp, entry.smUtil = pid, at_us, share
        return 0 if fresh else pynvml.NVML_ERROR_NOT_FOUND

    def live(self, seconds: int = 10) -> tuple[Process, ...] | None:
        """Let an interval pass, in which processes are polled each second and sampled twice."""
        for second in range(1, seconds + 1):
            self.clock.wait(1)
            self.processes.poll(lambda instance: f"MIG-{instance}")
            if second % 5 == 0:
                self.processes.sample()
        return self.processes.end()

    def fails(self) -> set[tuple[str, str]]:
        """Name what failed since the last time."""
        failed = {key[1:] for key in self.nvml.failures}
        self.nvml.failures.clear()
        return failed


def test_processes_that_came_and_went_are_all_listed() -> None:
    """One that was there at any look of the interval held the GPU; in the next it is forgotten."""
    bench = Bench()
    bench.lists["compute"] = [Listed(7), Listed(4)]
    bench.live(3)
    bench.live(3)
    bench.clock.wait(LIST_MS / 1000)
    bench.processes.poll(str)
    bench.lists["compute"] = [Listed(9)]
    assert [one.pid for one in bench.live() or ()] == [4, 7, 9]
    assert [one.pid for one in bench.live() or ()] == [9]
    bench.lists["compute"] = []
    assert bench.live() == ()


def test_a_list_that_is_refused_is_unknown() -> None:
    """It is not an empty one, and not asked for again."""
    bench = Bench("processes")
    assert bench.live() is None
    assert bench.live() is None
    assert bench.fails() == {("processes_compute", "unsupported")}
    assert bench.driver.asked[LISTS["compute"], 0] == 1


def test_a_list_that_fails_once_is_asked_again_soon() -> None:
    """After a timeout the next poll asks, and the interval knows its processes."""
    bench = Bench()
    bench.lists["compute"] = [Listed(7)]
    bench.driver.codes[LISTS["compute"]] = pynvml.NVML_ERROR_TIMEOUT
    bench.clock.wait(1)
    bench.processes.poll(str)
    bench.driver.codes.clear()
    assert [one.pid for one in bench.live(2) or ()] == [7]
    assert bench.fails() == {("processes_compute", "failed")}


def test_lists_are_asked_for_twice_in_an_interval() -> None:
    """Contexts every five seconds, other clients once a minute: they are dear questions."""
    bench = Bench()
    for _ in range(12):
        bench.live()
    asked = {kind: bench.driver.asked[function, 0] for kind, function in LISTS.items()}
    assert asked["compute"] == 24
    assert asked["graphics"] == asked["mps"] == 120_000 // OTHERS_MS


def test_other_clients_are_listed_with_their_kind() -> None:
    """Graphics and MPS clients stay in every interval until they are asked for again."""
    bench = Bench()
    bench.lists = {"compute": [Listed(7)], "graphics": [Listed(8)], "mps": [Listed(9)]}
    kinds = [{one.pid: one.kind for one in bench.live() or ()} for _ in range(5)]
    assert kinds == [{7: "compute", 8: "graphics", 9: "mps"}] * 5


def test_a_process_that_computes_and_draws_computes() -> None:
    """What is on two lists is told once."""
    bench = Bench()
    bench.lists = {"compute": [Listed(7, 5 * GIB)], "graphics": [Listed(7, 1 * GIB)]}
    assert bench.live() == (Process(pid=7, memory_used_bytes=5 * GIB),)


@pytest.mark.parametrize(
    ("told", "failures"), [(2**64 - 1, set()), (2**62, {("process_memory", "impossible")})]
)
def test_memory_that_is_not_known_is_none(told: int, failures: set[tuple[str, str]]) -> None:
    """NVML's word for unknown is no failure; what cannot be is one."""
    bench = Bench()
    bench.lists["compute"] = [Listed(7, told), Listed(8)]
    assert [one.memory_used_bytes for one in bench.live() or ()] == [None, 5 * GIB]
    assert bench.fails() == failures


def test_processes_on_instances_carry_their_slice() -> None:
    """By the number of the instance; others carry none."""
    bench = Bench()
    bench.lists["compute"] = [Listed(7, instance=3), Listed(8)]
    assert [one.slice for one in bench.live() or ()] == ["MIG-3", ""]


def test_shares_are_means_over_the_interval() -> None:
    """Each sample stands for the time since the one before: half of the time at 80 % are 40 %."""
    bench = Bench()
    bench.lists["compute"] = [Listed(7), Listed(8)]
    bench.live()
    bench.shares = [(7, 100, 60), (8, 100, 20)]
    assert [one.sm_ratio for one in bench.live() or ()] == pytest.approx([0.6, 0.2])
    bench.live(5)
    bench.shares = [(7, 100, 80)]
    bench.clock.wait(0.01)
    for _ in range(5):
        bench.clock.wait(1)
        bench.processes.poll(str)
    bench.processes.sample()
    bench.shares = []
    told = {one.pid: one.sm_ratio for one in bench.live(5) or ()}
    assert told == {7: pytest.approx(0.4, abs=0.001), 8: None}


def test_a_process_listed_once_per_context_is_no_more_than_the_whole() -> None:
    """Two rows of a pid are not added up: each is the share of the process."""
    bench = Bench()
    bench.lists["compute"] = [Listed(7)]
    bench.live()
    bench.shares = [(7, 100, 90), (7, 200, 90)]
    assert [one.sm_ratio for one in bench.live() or ()] == pytest.approx([0.9])


@pytest.mark.parametrize("per_cent", [101, 2**32 - 1])
def test_a_share_above_the_whole_is_dropped_and_counted(per_cent: int) -> None:
    """Drivers are known to tell them."""
    bench = Bench()
    bench.lists["compute"] = [Listed(7)]
    bench.live()
    bench.shares = [(7, 100, per_cent)]
    assert [one.sm_ratio for one in bench.live() or ()] == [None]
    assert bench.fails() == {("process_sm_ratio", "impossible")}


def test_a_sample_of_the_future_hides_nothing() -> None:
    """It is not believed, and the samples that come in time go on to be."""
    bench = Bench()
    bench.lists["compute"] = [Listed(7)]
    bench.live()
    bench.shares = [(7, -3_600_000, 50)]
    assert [one.sm_ratio for one in bench.live() or ()] == [None]
    assert bench.fails() == {("process_sm_ratio", "impossible")}
    bench.shares = [(7, 100, 50)]
    assert [one.sm_ratio for one in bench.live() or ()] == pytest.approx([0.5])


def test_what_was_before_the_first_look_is_not_counted() -> None:
    """The first sample opens the chain."""
    bench = Bench()
    bench.lists["compute"] = [Listed(7)]
    bench.shares = [(7, 100, 50)]
    bench.processes.sample()
    assert [one.sm_ratio for one in bench.processes.end() or ()] == []
    assert [one.sm_ratio for one in bench.live() or ()] == pytest.approx([0.5])


def test_two_looks_at_once_are_one() -> None:
    """Without time between them there is no share, and no division by nothing."""
    bench = Bench()
    bench.lists["compute"] = [Listed(7)]
    bench.live()
    bench.shares = [(7, -1, 50)]
    bench.processes.poll(str)
    bench.processes.sample()
    assert [one.sm_ratio for one in bench.processes.end() or ()] == [None]


def test_shares_of_the_simulation_are_the_truth() -> None:
    """Over ten minutes of bursts, the process that made them had what the multiprocessors had."""
    rig = Rig("h200x1:bursty")
    readings = [tick.readings[0] for tick in rig.run(600)][2:]
    told = sum(
        (one.sm_ratio or 0) * (reading.end_ms - reading.start_ms) / 1000
        for reading in readings
        for one in reading.processes or ()
    )
    truth = rig.simulation.busy_seconds(0, readings[0].start_ms * 1000, readings[-1].end_ms * 1000)
    assert told == pytest.approx(truth, rel=0.02)


def test_a_step_of_the_clock_makes_no_share() -> None:
    """An hour forward or back leaves shares between nothing and the whole, and they go on."""
    for step in (3_600.0, -3_600.0):
        rig = Rig("h200x1:training", happenings=[(34.5, "step", step)])
        ticks = rig.run(120)
        shares = [one.sm_ratio for tick in ticks for one in tick.readings[0].processes or ()]
        assert all(0 <= share <= 1 for share in shares if share is not None)
        assert shares[-1] == pytest.approx(ticks[-1].readings[0].busy_ratio, abs=0.02)
