"""GPU performance metrics: opaque samples, and the exact mean of each metric between two of them.

A sample is no more than whose it is and when it was taken: the means are differences of the simulation's
sums. Samples belong to one library and are gone when it is shut down.
"""

from collections.abc import Callable, Mapping
from ctypes import addressof, c_byte, c_void_p
from functools import partial
from math import nan
from struct import Struct
from typing import NamedTuple

from agent.simulated.calling import (
    INVALID,
    NO_MEMORY,
    OK,
    REFUSED,
    WRONG_VERSION,
    Argument,
    Look,
    address,
    raw,
    target,
)
from agent.simulated.phases import SECOND_US
from agent.simulated.scenario import Simulation
from agent.simulated.work import Work

InstanceMeans = Callable[[int, int, int, int], Mapping[int, float] | None]
"""(GPU, GPU instance, start_us, end_us) → metric → mean; None where there is no such instance."""

VERSION = 1
MOST_SAMPLES = 4_096
MOST_METRICS = 333
REFRESH_US = 100_000
"""The counters behind the metrics are refreshed so often: samples that are closer tell nothing."""

SHARES: Mapping[int, int] = {
    number: Work._fields.index(name)
    for number, name in {
        1: "graphics",
        2: "sm",
        3: "occupancy",
        4: "integer",
        5: "tensor",
        6: "tensor_dfma",
        7: "tensor_hmma",
        8: "tensor_dmma",
        9: "tensor_imma",
        10: "dram",
        11: "fp64",
        12: "fp32",
        13: "fp16",
    }.items()
}
"""Metric in per cent → its place in `Work`."""
TRAFFIC: Mapping[int, int] = {
    number: Work._fields.index(name)
    for number, name in {
        20: "pcie_tx_bytes",
        21: "pcie_rx_bytes",
        60: "nvlink_rx_bytes",
        61: "nvlink_tx_bytes",
    }.items()
}
"""Metric in MiB per second → its place in `Work`."""
ENGINES = (*range(30, 38), *range(40, 48), 50, 51)
"""Decoders, JPEG engines and optical flow accelerators, in per cent: nobody uses them."""

_HEAD = Struct("IIPP")
_METRIC = Struct("IId3P")
_TOLD = Struct("=Id")


def means_of(before: Work, after: Work, elapsed_us: int) -> dict[int, float]:
    """Return every metric between two sums, in the units of NVML."""
    means = {number: (after[at] - before[at]) / (10 * elapsed_us) for number, at in SHARES.items()}
    for number, at in TRAFFIC.items():
        means[number] = (after[at] - before[at]) * SECOND_US / elapsed_us / 2**20
    for number in ENGINES:
        means[number] = 0.0
    return means


def gpu_means(simulation: Simulation, gpu: int, start_us: int, end_us: int) -> dict[int, float]:
    """Return every metric of a whole GPU over an interval that is not empty."""
    return means_of(simulation.work(gpu, start_us), simulation.work(gpu, end_us), end_us - start_us)


class Taken(NamedTuple):
    """What a sample holds: of which GPU or GPU instance, and of when."""

    gpu: int
    instance: int | None
    at_us: int


class Samples:
    """The samples that a library has given out; `instance_means` knows the metrics of GPU instances."""

    def __init__(
        self, simulation: Simulation, refused: frozenset[str], instance_means: InstanceMeans | None = None
    ) -> None:
        self.refused = refused
        self._simulation = simulation
        self._instance_means = instance_means
        self._room = (c_byte * MOST_SAMPLES)()
        self._taken: dict[int, Taken | None] = {}

    def clear(self) -> None:
        """Forget all samples."""
        self._taken.clear()

    def allocate(self, out: Argument) -> int:
        """Give out a sample that nothing was put into yet."""
        first = addressof(self._room)
        for place in range(first, first + MOST_SAMPLES):
            if place not in self._taken:
                self._taken[place] = None
                c_void_p.from_address(addressof(target(out))).value = place
                return OK
        return NO_MEMORY

    def free(self, pointer: Argument) -> int:
        """Take a sample back."""
        place = address(pointer)
        if place not in self._taken:
            return INVALID
        del self._taken[place]
        return OK

    def take(self, pointer: Argument, gpu: int, at_us: int, instance: int | None = None) -> int:
        """Fill a sample with what a GPU, or one of its instances, has done up to a moment."""
        place = address(pointer)
        if place not in self._taken:
            return INVALID
        self._taken[place] = Taken(gpu, instance, at_us)
        return OK

    def metrics(self, asked: Argument) -> int:
        """Fill in every metric asked for: its mean between the two samples, or that there is none."""
        where = address(asked)
        version, count, older, newer = _HEAD.unpack_from(raw(where, _HEAD.size))
        if version != VERSION:
            return WRONG_VERSION
        before, after = self._taken.get(older), self._taken.get(newer)
        if not count <= MOST_METRICS or before is None or after is None or before[:2] != after[:2]:
            return INVALID
        means = self._means(before, after)
        if means is None:
            return INVALID
        entries = raw(where + _HEAD.size, _METRIC.size * count)
        for place in range(0, _METRIC.size * count, _METRIC.size):
            number = _METRIC.unpack_from(entries, place)[0]
            code = OK if number in means else REFUSED
            _TOLD.pack_into(entries, place + 4, code, means.get(number, 0.0))
        return OK

    def _means(self, before: Taken, after: Taken) -> Mapping[int, float] | None:
        if after.at_us - before.at_us < REFRESH_US:
            return dict.fromkeys((*SHARES, *TRAFFIC, *ENGINES), nan)
        if after.instance is None:
            return gpu_means(self._simulation, after.gpu, before.at_us, after.at_us)
        if self._instance_means is None:
            return None
        return self._instance_means(after.gpu, after.instance, before.at_us, after.at_us)


def _support(samples: Samples, look: Look, out: Argument) -> int:
    answer = target(out)
    if answer.version != VERSION:
        return WRONG_VERSION
    answer.isSupportedDevice = int("gpm" not in samples.refused | look.refused)
    return OK


def _sample(samples: Samples, look: Look, pointer: Argument) -> int:
    return samples.take(pointer, look.gpu, look.at_us)


def gpm_calls(samples: Samples) -> Mapping[str, Callable[..., int]]:
    """Return the functions that need no GPU."""
    return {
        "nvmlGpmSampleAlloc": samples.allocate,
        "nvmlGpmSampleFree": samples.free,
        "nvmlGpmMetricsGet": samples.metrics,
    }


def gpm_device_calls(samples: Samples) -> Mapping[str, tuple[str, Callable[..., int]]]:
    """Return the functions about one GPU, as rows of `DEVICE_CALLS`."""
    return {
        "nvmlGpmQueryDeviceSupport": ("", partial(_support, samples)),
        "nvmlGpmSampleGet": ("gpm", partial(_sample, samples)),
    }
