"""Processes of the simulated driver, and answers into buffers that a caller keeps: one call, no sizing."""

from collections.abc import Iterator
from ctypes import byref, c_uint, c_ulonglong
from typing import Any

import pynvml
import pytest

from agent.simulator import uninstall
from tests.agent.test_simulator import NOON, SECOND, Bench, code_of

ROOM = 64


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def call(name: str, *arguments: object) -> int:
    """Call a function by its name in C."""
    return int(pynvml._nvmlGetFunctionPointer(name)(*arguments))


def shares(bench: Bench, seen_us: int, index: int = 0) -> tuple[int, list[tuple[int, int, int]]]:
    """Ask in one call what each process had: the code, and (pid, time, per cent) of each."""
    buffer, count = (pynvml.c_nvmlProcessUtilizationSample_t * ROOM)(), c_uint(ROOM)
    arguments = buffer, byref(count), c_ulonglong(seen_us)
    code = call("nvmlDeviceGetProcessUtilization", bench.handle(index), *arguments)
    return code, [(one.pid, one.timeStamp, one.smUtil) for one in buffer[: count.value]] if not code else []


def test_one_call_fetches_a_ring() -> None:
    """A buffer with room gives in one call what the wrapper gives in two."""
    bench = Bench("h200x1:bursty")
    buffer, count, value_type = (pynvml.c_nvmlSample_t * 256)(), c_uint(256), c_uint()
    arguments = c_uint(1), c_ulonglong(NOON - 3 * SECOND), byref(value_type), byref(count), buffer
    assert call("nvmlDeviceGetSamples", bench.handle(), *arguments) == 0
    told = [(one.timeStamp, one.sampleValue.uiVal) for one in buffer[: count.value]]
    _, wrapped = pynvml.nvmlDeviceGetSamples(bench.handle(), 1, NOON - 3 * SECOND)
    assert told == [(one.timeStamp, one.sampleValue.uiVal) for one in wrapped]
    assert (len(told), value_type.value, buffer[count.value].timeStamp) == (18, 1, 0)


def test_a_small_buffer_holds_the_oldest_samples() -> None:
    """What has no room is left for the next call."""
    bench = Bench("h200x1:training")
    buffer, count = (pynvml.c_nvmlSample_t * 5)(), c_uint(5)
    arguments = c_uint(1), c_ulonglong(0), byref(c_uint()), byref(count), buffer
    assert call("nvmlDeviceGetSamples", bench.handle(), *arguments) == 0
    wrapped = pynvml.nvmlDeviceGetSamples(bench.handle(), 1, 0)[1]
    assert [one.timeStamp for one in buffer] == [one.timeStamp for one in wrapped[:5]]


@pytest.mark.parametrize("kind", ["Compute", "Graphics", "MPSCompute"])
def test_one_call_lists_processes(kind: str) -> None:
    """Compute processes are those of the simulation, without an instance; there are no others."""
    bench = Bench("h200x8")
    for index in range(8):
        buffer, count = (pynvml.c_nvmlProcessInfo_v3_t * ROOM)(), c_uint(ROOM)
        name = f"nvmlDeviceGet{kind}RunningProcesses_v3"
        assert call(name, bench.handle(index), byref(count), buffer) == 0
        expected = bench.simulation.processes(index, NOON) if kind == "Compute" else ()
        told = [(one.pid, one.usedGpuMemory, one.gpuInstanceId) for one in buffer[: count.value]]
        assert told == [(one.pid, one.memory_bytes, 0xFFFFFFFF) for one in expected]


def test_a_list_that_does_not_fit_says_how_long_it_is() -> None:
    """Too little room is told with the room that is needed, and nothing is written."""
    bench = Bench("h200x8")
    buffer, count = (pynvml.c_nvmlProcessInfo_v3_t * 1)(), c_uint(1)
    handle = bench.handle(7)
    assert call("nvmlDeviceGetComputeRunningProcesses_v3", handle, byref(count), buffer) == 7
    assert (count.value, buffer[0].pid) == (2, 0)


def test_processes_share_the_busy_time_evenly() -> None:
    """Since the last sample each had its part of what the GPU was busy, in whole per cents."""
    bench = Bench("h200x8")
    code, told = shares(bench, NOON - 5 * SECOND, index=7)
    busy = bench.simulation.busy_seconds(7, NOON - 5 * SECOND, told[0][1])
    window = (told[0][1] - NOON) / SECOND + 5
    assert (code, len(told)) == (0, 2)
    assert {percent for _, _, percent in told} == {round(100 * busy / window / 2)}
    assert [pid for pid, _, _ in told] == [one.pid for one in bench.simulation.processes(7, NOON)]
    assert NOON - SECOND / 6 <= told[0][1] <= NOON


def test_shares_chain_to_the_busy_time() -> None:
    """Asked every few seconds with the time of the last answer, nothing is missed or counted twice."""
    bench = Bench("h200x1:bursty")
    _, [(_, first_us, _)] = shares(bench, NOON - SECOND)
    seen_us, busy = first_us, 0.0
    for poll in range(1, 60):
        bench.now_us = NOON + poll * 3_937_000
        _, [(_, at_us, percent)] = shares(bench, seen_us)
        busy += percent / 100 * (at_us - seen_us) / SECOND
        seen_us = at_us
    assert busy == pytest.approx(bench.simulation.busy_seconds(0, first_us, seen_us), rel=0.01)


def test_shares_reach_back_ten_seconds() -> None:
    """Whoever asks after longer gets the mean of the last ten seconds."""
    bench = Bench("h200x1:bursty")
    assert shares(bench, 0) == shares(bench, NOON - 60 * SECOND)
    _, [(_, at_us, percent)] = shares(bench, 0)
    busy = bench.simulation.busy_seconds(0, at_us - 10 * SECOND, at_us)
    assert percent == round(10 * busy)


def test_nothing_newer_and_nothing_done_are_not_found() -> None:
    """A second question right away, and one about a GPU at rest, have no answer."""
    bench = Bench("h200x1:training")
    _, [(_, at_us, _)] = shares(bench, 0)
    assert shares(bench, at_us)[0] == 6
    assert shares(Bench("h200x1:held"), 0)[0] == 6


def test_the_wrapper_asks_for_the_room_first() -> None:
    """Two calls give what one call gives."""
    bench = Bench("h200x1:training")
    told: list[Any] = pynvml.nvmlDeviceGetProcessUtilization(bench.handle(), NOON - 5 * SECOND)
    assert [(one.pid, one.timeStamp, one.smUtil) for one in told] == shares(bench, NOON - 5 * SECOND)[1]
    assert told[0].memUtil < told[0].smUtil
    assert (told[0].encUtil, told[0].decUtil) == (0, 0)


def test_a_test_may_refuse_the_shares() -> None:
    """The word takes the call away."""
    bench = Bench("h200x1:training", "process_utilization")
    assert code_of(pynvml.nvmlDeviceGetProcessUtilization, bench.handle(), 0) == 3
