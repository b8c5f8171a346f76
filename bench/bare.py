"""What sampling costs beside the same calls made barely: run as a process of its own over the bench's driver.

The sampler runs in virtual time and warm; then each function is called as often, through nvidia-ml-py, and
what it tells is not even looked at. Prints both as milliseconds of processor time per tick.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import pynvml

from agent.cadence import SamplerSettings
from agent.cell import Cell
from agent.clock import VirtualClock, now_ms
from agent.frames import encode
from agent.nvml import Nvml
from agent.sampler import Sampler
from agent.tick import Tick

WARM_TICKS, TICKS, COUNTED_TICKS = 8, 60, 12
LOOPS, RUNS = 300, 5
FIELDS = "nvmlDeviceGetFieldValues"


class Counting(Nvml):
    """Counts the calls by function, and by how many fields they ask for."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell)
        self.counts: Counter[tuple[str, int]] = Counter()

    def call(self, index: int, name: str, *arguments: Any) -> int:  # noqa: ANN401  as ctypes takes them
        """Make a call and count it."""
        self.counts[name, arguments[1].value if name == FIELDS else 0] += 1
        return super().call(index, name, *arguments)


def ticks_of(nvml: Nvml) -> Iterator[Tick]:
    """Sample in virtual time."""
    clock = VirtualClock(now_ms())
    return (tick for tick in Sampler(nvml, clock, SamplerSettings(), "bench").ticks() if tick)


def sampling_ms() -> float:
    """Measure a tick of the sampler, with its frame."""
    stream = ticks_of(Nvml(Cell()))
    for tick in islice(stream, WARM_TICKS):
        encode(tick)
    began = time.process_time()
    for tick in islice(stream, TICKS):
        encode(tick)
    return (time.process_time() - began) / TICKS * 1000


def counts() -> Mapping[tuple[str, int], float]:
    """Count the calls of a tick."""
    nvml = Counting(Cell())
    stream = ticks_of(nvml)
    list(islice(stream, WARM_TICKS))
    nvml.counts.clear()
    list(islice(stream, COUNTED_TICKS))
    return {call: count / COUNTED_TICKS for call, count in nvml.counts.items()}


def bare_ms(calls: Mapping[tuple[str, int], float]) -> float:
    """Measure the same calls through nvidia-ml-py; what is rare is taken to cost as much as the clock."""
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    sample, metrics = pynvml.nvmlGpmSampleAlloc(), pynvml.c_nvmlGpmMetricsGet_t()
    metrics.version, metrics.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, 17
    metrics.sample1 = metrics.sample2 = sample
    known: Mapping[str, Callable[[], object]] = {
        "nvmlDeviceGetTemperatureV": lambda: pynvml.nvmlDeviceGetTemperatureV(gpu, 0),
        "nvmlDeviceGetMemoryInfo_v2": lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu, pynvml.nvmlMemory_v2),
        "nvmlDeviceGetSamples": lambda: pynvml.nvmlDeviceGetSamples(gpu, 1, (now_ms() - 5_000) * 1000),
        "nvmlDeviceGetComputeRunningProcesses_v3": lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(gpu),
        "nvmlGpmSampleGet": lambda: pynvml.nvmlGpmSampleGet(gpu, sample),
        "nvmlGpmMetricsGet": lambda: pynvml.nvmlGpmMetricsGet(metrics),
        "nvmlDeviceGetMarginTemperature": lambda: pynvml.nvmlDeviceGetMarginTemperature(gpu),
    }
    total = 0.0
    for (name, size), count in calls.items():
        usual = partial(pynvml.nvmlDeviceGetClockInfo, gpu, pynvml.NVML_CLOCK_SM)
        fields = [pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION] * size
        batch = partial(pynvml.nvmlDeviceGetFieldValues, gpu, fields)
        total += count * _median_ms(batch if size else known.get(name, usual))
    return total


def _median_ms(function: Callable[[], object]) -> float:
    spent = []
    for _ in range(RUNS):
        began = time.process_time()
        for _ in range(LOOPS):
            function()
        spent.append((time.process_time() - began) / LOOPS * 1000)
    return sorted(spent)[RUNS // 2]


if __name__ == "__main__":
    print(sampling_ms(), bare_ms(counts()))
