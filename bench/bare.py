"""What sampling costs beside the same calls made barely: run as a process of its own over the bench's driver.

The sampler runs in virtual time and warm; then the same functions are called in the same order, through
nvidia-ml-py, and what they tell is not even looked at. Prints both as milliseconds of processor time per
tick, and the ratio.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import pynvml

from agent.cadence import SamplerSettings
from agent.cell import Cell
from agent.clock import VirtualClock, now_ms
from agent.frames import encode
from agent.nvml import Nvml
from agent.sampler import Sampler
from agent.tick import Tick

WARM_TICKS, TICKS, RUNS = 8, 12, 15
FIELDS = "nvmlDeviceGetFieldValues"


class Recording(Nvml):
    """Notes each call: its function, and how many fields it asks for."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell)
        self.made: list[tuple[str, int]] = []

    def prepare(self, index: int, name: str, *arguments: Any) -> Callable[[], int]:  # noqa: ANN401
        """Note a call whenever it is made."""
        call, note = (
            super().prepare(index, name, *arguments),
            (name, arguments[1].value if name == FIELDS else 0),
        )

        def make() -> int:
            self.made.append(note)
            return call()

        return make


def ticks_of(nvml: Nvml) -> Iterator[Tick]:
    """Sample in virtual time."""
    clock = VirtualClock(now_ms())
    return (tick for tick in Sampler(nvml, clock, SamplerSettings(), "bench").ticks() if tick)


def sampling() -> Callable[[], None]:
    """Prepare some ticks of the sampler, with their frames."""
    stream = ticks_of(Nvml(Cell()))
    for tick in islice(stream, WARM_TICKS):
        encode(tick)

    def run() -> None:
        for tick in islice(stream, TICKS):
            encode(tick)

    return run


def calls_made() -> list[tuple[str, int]]:
    """Note the calls of some ticks, in their order."""
    nvml = Recording(Cell())
    stream = ticks_of(nvml)
    list(islice(stream, WARM_TICKS))
    nvml.made.clear()
    list(islice(stream, TICKS))
    return nvml.made


def barely(made: list[tuple[str, int]]) -> Callable[[], None]:
    """Prepare the same calls through nvidia-ml-py; what is rare is taken to cost as much as the clock."""
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
    usual = partial(pynvml.nvmlDeviceGetClockInfo, gpu, pynvml.NVML_CLOCK_SM)
    energy = pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
    batches = {
        size: partial(pynvml.nvmlDeviceGetFieldValues, gpu, [energy] * size)
        for size in {size for _, size in made}
    }
    calls: list[Callable[[], object]] = [
        batches[size] if size else known.get(name, usual) for name, size in made
    ]

    def run() -> None:
        for call in calls:
            call()

    return run


def _tick_ms(run: Callable[[], None]) -> float:
    """Give the processor time of a tick."""
    began = time.process_time()
    run()
    return (time.process_time() - began) / TICKS * 1000


def main() -> None:
    """Run both in turns, so that a machine that is busy for a while is so for both; print the medians."""
    ours, bare = sampling(), barely(calls_made())
    bare()
    pairs = [(_tick_ms(ours), _tick_ms(bare)) for _ in range(RUNS)]
    print(
        median(one for one, _ in pairs),
        median(two for _, two in pairs),
        median(one / two for one, two in pairs),
    )


if __name__ == "__main__":
    main()
