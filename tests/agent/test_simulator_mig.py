"""MIG in the simulated driver: layouts that come and go, handles of instances, and what each of them does."""

from collections.abc import Iterator
from typing import Any

import pynvml
import pytest

from agent.simulated.layouts import BUSIEST_SHARE, share_out
from agent.simulator import uninstall
from tests.agent.faulty import Rig, code_of, place_of

THREE = "3g.71gb+2g.35gb+1g.18gb"


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def slices(rig: Rig, index: int = 0) -> list[Any]:
    """Enumerate the MIG devices of a GPU, past all holes."""
    parent = rig.handle(index)
    found = []
    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(parent)):
        code = code_of(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, parent, place)
        assert code in (0, 6)
        if code == 0:
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, place))
    return found


def test_mig_is_on_while_the_fault_lasts() -> None:
    """The neighbour is whole, and so is the GPU before and after."""
    rig = Rig(f"h200x2!mig=0:{THREE}@+10..+20").open()
    for seconds, mode in ((5, 0), (15, 1), (25, 0)):
        rig.at(seconds)
        assert pynvml.nvmlDeviceGetMigMode(rig.handle(0)) == [mode, mode]
        assert pynvml.nvmlDeviceGetMigMode(rig.handle(1)) == [0, 0]
        assert pynvml.nvmlDeviceGetMaxMigDeviceCount(rig.handle(0)) == 7 * mode


def test_a_model_without_mig_says_so() -> None:
    """Its mode is not supported, and it has room for no instance."""
    rig = Rig("t4x1").open()
    assert code_of(pynvml.nvmlDeviceGetMigMode, rig.handle()) == 3
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(rig.handle()) == 0
    assert code_of(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, rig.handle(), 0) == 3


def test_instances_are_found_past_holes() -> None:
    """Their indexes are not dense; each has its own name, number and size."""
    rig = Rig(f"h200x1!mig=0:{THREE}").open()
    parent = rig.handle()
    codes = [code_of(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, parent, index) for index in range(8)]
    assert codes == [0, 6, 6, 0, 6, 0, 6, 2]
    found = slices(rig)
    assert [pynvml.nvmlDeviceGetName(one) for one in found] == [
        "NVIDIA H200 MIG 3g.71gb",
        "NVIDIA H200 MIG 2g.35gb",
        "NVIDIA H200 MIG 1g.18gb",
    ]
    assert [pynvml.nvmlDeviceGetGpuInstanceId(one) for one in found] == [1, 2, 3]
    assert [pynvml.nvmlDeviceGetComputeInstanceId(one) for one in found] == [0, 0, 0]
    assert [pynvml.nvmlDeviceGetIndex(one) for one in found] == [0, 3, 5]
    attributes = [pynvml.nvmlDeviceGetAttributes_v2(one) for one in found]
    assert [one.multiprocessorCount for one in attributes] == [60, 32, 16]
    assert [one.gpuInstanceSliceCount for one in attributes] == [3, 2, 1]
    assert [round(one.memorySizeMB / 1_024) for one in attributes] == [70, 35, 18]


def test_a_handle_knows_what_it_is() -> None:
    """A MIG device leads to its GPU; a GPU is no MIG device."""
    rig = Rig(f"h200x2!mig=1:{THREE}").open()
    one = slices(rig, 1)[2]
    assert pynvml.nvmlDeviceIsMigDeviceHandle(one).value == 1
    assert pynvml.nvmlDeviceIsMigDeviceHandle(rig.handle(1)).value == 0
    parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(one)
    assert place_of(parent) == place_of(rig.handle(1))
    assert code_of(pynvml.nvmlDeviceGetGpuInstanceId, rig.handle(1)) == 3


def test_the_uuid_of_an_instance_is_that_of_gpu_layout_and_place() -> None:
    """The same in every run and every time; others differ. It finds the device."""
    text = f"h200x2!mig=0-1:{THREE}@+0..+10!mig=0:{THREE}@+20..+30!mig=0:1g.18gb+1g.18gb@+40..+50"
    rig = Rig(text).open()
    uuids = []
    for seconds, index in ((5, 0), (5, 1), (25, 0), (45, 0)):
        rig.at(seconds)
        uuids.append([pynvml.nvmlDeviceGetUUID(one) for one in slices(rig, index)])
    assert uuids[0] == uuids[2]
    everything = [uuid for some in (uuids[0], uuids[1], uuids[3]) for uuid in some]
    assert len(set(everything)) == len(everything) == 8
    assert all(uuid.startswith("MIG-") and len(uuid) == 40 for uuid in everything)
    found = pynvml.nvmlDeviceGetHandleByUUID(uuids[3][1])
    assert pynvml.nvmlDeviceGetUUID(found) == uuids[3][1]
    assert code_of(pynvml.nvmlDeviceGetHandleByUUID, uuids[0][0]) == 6


def test_a_handle_dies_with_its_layout() -> None:
    """Also if the same layout is made again later."""
    rig = Rig(f"h200x1!mig=0:{THREE}@+0..+10!mig=0:{THREE}@+20").open()
    old = slices(rig)[0]
    for seconds in (15, 25):
        rig.at(seconds)
        assert code_of(pynvml.nvmlDeviceGetUUID, old) == 2
        assert code_of(pynvml.nvmlDeviceGetMemoryInfo, old) == 2
    assert code_of(pynvml.nvmlDeviceGetUUID, slices(rig)[0]) == 0


def test_mig_without_instances_has_none() -> None:
    """It is on, and remapped rows are still told."""
    rig = Rig("h200x1!mig=0:none").open()
    assert pynvml.nvmlDeviceGetMigMode(rig.handle()) == [1, 1]
    assert slices(rig) == []
    assert rig.field(142).nvmlReturn == 0
    assert code_of(pynvml.nvmlDeviceGetSamples, rig.handle(), 1, 0) == 3


def test_a_partitioned_gpu_refuses_what_is_its_instances() -> None:
    """Busy shares, processes' shares and remapped rows; power, heat and counters it tells."""
    rig = Rig(f"h200x1:training!mig=0:{THREE}").open()
    handle = rig.handle()
    assert [code_of(pynvml.nvmlDeviceGetSamples, handle, kind, 0) for kind in (1, 2, 3, 4, 8, 9)] == [3] * 6
    assert code_of(pynvml.nvmlDeviceGetUtilizationRates, handle) == 3
    assert code_of(pynvml.nvmlDeviceGetProcessUtilization, handle, 0) == 3
    assert [rig.field(number).nvmlReturn for number in (142, 143, 144, 145)] == [3] * 4
    assert code_of(pynvml.nvmlDeviceGetSamples, handle, 0, 0) == 0
    assert [rig.field(number).nvmlReturn for number in (83, 74, 3, 186)] == [0] * 4
    assert code_of(pynvml.nvmlDeviceGetTemperatureV, handle, 0) == 0
    assert code_of(pynvml.nvmlDeviceGetMemoryInfo, handle) == 0


def test_an_instance_refuses_what_is_the_gpus() -> None:
    """Power, heat and counters are not told by instance."""
    one = slices(Rig(f"h200x1!mig=0:{THREE}").open())[0]
    assert code_of(pynvml.nvmlDeviceGetPowerUsage, one) == 3
    assert code_of(pynvml.nvmlDeviceGetTemperatureV, one, 0) == 3
    assert code_of(pynvml.nvmlDeviceGetFieldValues, one, [83]) == 3
    assert code_of(pynvml.nvmlDeviceGetMigMode, one) == 3


def test_processes_are_spread_over_the_instances() -> None:
    """The GPU says where each runs; the instance lists its own, and cannot use more than it has."""
    rig = Rig("h200x8!mig=0-7:1g.18gb+1g.18gb").open()
    most = 0
    for index in range(8):
        listed = pynvml.nvmlDeviceGetComputeRunningProcesses(rig.handle(index))
        most = max(most, len(listed))
        assert [one.gpuInstanceId for one in listed] == [number % 2 + 1 for number in range(len(listed))]
        assert all(one.computeInstanceId == 0 for one in listed)
        for number, one in enumerate(slices(rig, index), start=1):
            here = pynvml.nvmlDeviceGetComputeRunningProcesses(one)
            assert [each.pid for each in here] == [
                each.pid for each in listed if each.gpuInstanceId == number
            ]
            memory = pynvml.nvmlDeviceGetMemoryInfo(one, version=pynvml.nvmlMemory_v2)
            assert memory.used == sum(each.usedGpuMemory for each in here)
            assert memory.total == memory.used + memory.free + memory.reserved
    assert most


def test_compute_instances_share_a_gpu_instance() -> None:
    """They have one memory, and a part of the multiprocessors each."""
    rig = Rig("h200x1:training!mig=0:1c.3g.71gb+2c.3g.71gb+1c.3g.71gb").open()
    found = slices(rig)
    numbers = [
        (pynvml.nvmlDeviceGetGpuInstanceId(one), pynvml.nvmlDeviceGetComputeInstanceId(one)) for one in found
    ]
    assert numbers == [(1, 0), (1, 1), (2, 0)]
    assert [pynvml.nvmlDeviceGetIndex(one) for one in found] == [0, 1, 3]
    counts = [pynvml.nvmlDeviceGetAttributes_v2(one) for one in found]
    assert [one.multiprocessorCount for one in counts] == [20, 40, 20]
    assert [one.computeInstanceSliceCount for one in counts] == [1, 2, 1]
    used = [pynvml.nvmlDeviceGetMemoryInfo(one).used for one in found]
    assert used[0] == used[1] > used[2]


# What instances do


def test_shares_make_up_the_gpu() -> None:
    """Weighted they sum to 1; no share is more than an instance can take."""
    for weights, wishes in (([3 / 7, 3 / 7, 1 / 7], [0.5, 1.4, 1.0]), ([4 / 7, 3 / 7], [0.5, 1.5])):
        shares = share_out(weights, wishes)
        assert sum(weight * share for weight, share in zip(weights, shares, strict=True)) == pytest.approx(1)
        assert max(shares) <= BUSIEST_SHARE
        assert len(set(shares)) > 1


def test_shares_of_a_gpu_that_is_not_used_up_differ() -> None:
    """Each is nearly as much as an instance can take; together they are a little less than the GPU."""
    weights = [3 / 7, 2 / 7, 1 / 7]
    shares = share_out(weights, [0.5, 1.0, 0.75])
    assert len({round(share, 3) for share in shares}) == 3
    assert 0.95 < sum(weight * share for weight, share in zip(weights, shares, strict=True)) < 0.98
    assert max(shares) < BUSIEST_SHARE
    assert share_out([], []) == []


def test_instances_together_do_what_the_gpu_does() -> None:
    """The truth about slices adds up to the truth about the GPU."""
    rig = Rig("h200x1:bursty!mig=0:3g.71gb+2g.35gb+2g.35gb").open()
    start_us, end_us = rig.now_us(), rig.now_us() + 60_000_000
    parts = [
        weight / 7 * rig.driver.partitions.slice_sm_active_seconds(0, position, start_us, end_us)
        for position, weight in enumerate((3, 2, 2))
    ]
    assert sum(parts) == pytest.approx(rig.simulation.sm_active_seconds(0, start_us, end_us))
    assert min(parts) > 0
    with pytest.raises(LookupError):
        rig.driver.partitions.slice_sm_active_seconds(0, 3, start_us, end_us)


def metrics(older: Any, newer: Any, *numbers: int) -> list[tuple[int, float]]:  # noqa: ANN401
    """Ask for metrics between two samples: code and value of each."""
    asked = pynvml.c_nvmlGpmMetricsGet_t()
    asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    asked.numMetrics = len(numbers)
    asked.sample1, asked.sample2 = older, newer
    for place, number in enumerate(numbers):
        asked.metrics[place].metricId = number
    pynvml.nvmlGpmMetricsGet(asked)
    return [(one.nvmlReturn, one.value) for one in asked.metrics[: len(numbers)]]


def test_metrics_of_an_instance_are_its_truth() -> None:
    """By GPU instance on the parent, and by the handle of the MIG device; links are not told."""
    rig = Rig(f"h200x1:bursty!mig=0:{THREE}").open()
    parent, start_us = rig.handle(), rig.now_us()
    samples = [pynvml.nvmlGpmSampleAlloc() for _ in range(4)]
    pynvml.nvmlGpmMigSampleGet(parent, 2, samples[0])
    pynvml.nvmlGpmSampleGet(slices(rig)[1], samples[1])
    rig.at(30)
    pynvml.nvmlGpmMigSampleGet(parent, 2, samples[2])
    pynvml.nvmlGpmSampleGet(slices(rig)[1], samples[3])
    truth = rig.driver.partitions.slice_sm_active_seconds(0, 1, start_us, rig.now_us()) / 30
    for older, newer in ((samples[0], samples[2]), (samples[1], samples[3])):
        active, sent = metrics(older, newer, 2, 60)
        assert active[0] == 0
        assert active[1] == pytest.approx(truth * 100)
        assert sent[0] == 3
    assert code_of(pynvml.nvmlGpmMigSampleGet, parent, 4, samples[0]) == 2


def test_the_gpu_has_metrics_of_the_whole_while_it_is_partitioned() -> None:
    """Its own sample is not that of an instance."""
    rig = Rig(f"h200x1:bursty!mig=0:{THREE}").open()
    older, newer = pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()
    start_us = rig.now_us()
    pynvml.nvmlGpmSampleGet(rig.handle(), older)
    rig.at(30)
    pynvml.nvmlGpmSampleGet(rig.handle(), newer)
    truth = rig.simulation.sm_active_seconds(0, start_us, rig.now_us()) / 30
    assert metrics(older, newer, 2)[0][1] == pytest.approx(truth * 100)


def test_samples_of_two_layouts_have_no_metrics() -> None:
    """The instance's number was given to another one meanwhile."""
    rig = Rig(f"h200x1!mig=0:{THREE}@+0..+10!mig=0:{THREE}@+10").open()
    older, newer = pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()
    pynvml.nvmlGpmMigSampleGet(rig.handle(), 1, older)
    rig.at(15)
    pynvml.nvmlGpmMigSampleGet(rig.handle(), 1, newer)
    assert code_of(metrics, older, newer, 2) == 2


@pytest.mark.parametrize(("kind", "code"), [("lost", 15), ("reset_required", 16)])
def test_instances_go_with_their_gpu(kind: str, code: int) -> None:
    """Every call on them says what every call on the GPU says."""
    rig = Rig(f"h200x1!mig=0:{THREE}!{kind}=0@+10").open()
    one = slices(rig)[0]
    rig.at(12)
    assert code_of(pynvml.nvmlDeviceGetUUID, one) == code
