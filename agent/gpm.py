"""GPU performance metrics of Hopper and newer: exact means between two samples of opaque counters.

A sample is taken at the end of each interval; the library subtracts the one before. So intervals chain,
nothing between two samples is missed, and a late one only makes a longer interval. All metrics of an interval
come in one call. Metric numbers and units are those of nvml.h.
"""

import struct
from collections.abc import Mapping
from ctypes import byref, c_uint
from math import isfinite

from agent.nvml import (
    INVALID_ARGUMENT,
    LASTING,
    NOTHING_NEW,
    Caller,
    GpmMetrics,
    GpmSample,
    GpmSupport,
    versioned,
)
from agent.polls import BYTES_PER_SECOND
from agent.sanity import believed

_METRIC = struct.Struct("IId24x")
"""nvmlGpmMetric_t: number, return code, value, and three pointers to texts."""
_SET_OLDER, _SET_NEWER = GpmMetrics.sample1.__set__, GpmMetrics.sample2.__set__
PER_CENT = 0.01
MEBIBYTE = 2.0**20

RATIOS: Mapping[str, tuple[int, ...]] = {
    "graphics_active_ratio": (1,),
    "sm_active_ratio": (2,),
    "sm_occupancy_ratio": (3,),
    "integer_active_ratio": (4,),
    "tensor_active_ratio": (5,),
    "tensor_dfma_active_ratio": (6,),
    "tensor_hmma_active_ratio": (7,),
    "tensor_dmma_active_ratio": (8,),
    "tensor_imma_active_ratio": (9,),
    "dram_active_ratio": (10,),
    "fp64_active_ratio": (11,),
    "fp32_active_ratio": (12,),
    "fp16_active_ratio": (13,),
    "decoder_ratio": tuple(range(30, 38)),
    "jpeg_ratio": tuple(range(40, 48)),
    "ofa_ratio": (50, 51),
}
"""Shares of the interval, in per cent; of several engines of a kind, the busiest."""
RATES: Mapping[str, int] = {
    "pcie_tx_bytes_total": 20,
    "pcie_rx_bytes_total": 21,
    "nvlink_rx_bytes_total": 60,
    "nvlink_tx_bytes_total": 61,
}
"""Traffic, in MiB per second: added up here, since the chain of samples misses none."""
LEAST_SECONDS = 0.2
"""The counters are refreshed every 100 ms: closer samples tell nothing."""


class Gpm:
    """The chain of samples of one GPU, or of one GPU instance of it.

    `totals` are what chains before this one added up, and are added to.
    """

    def __init__(
        self, caller: Caller, instance: int | None = None, totals: dict[str, float] | None = None
    ) -> None:
        self._caller = caller
        self._instance = instance
        self._what = "gpm" if instance is None else "slice_gpm"
        self._names: frozenset[str] = frozenset()
        self._wanted: dict[int, str] = {}
        self._numbers: list[int] = []
        self._refused: set[int] = set()
        self._older: object = None
        self._newer: object = None
        self._older_ns = 0
        self._metrics = versioned(GpmMetrics)
        self._answers = memoryview(self._metrics).cast("B")[GpmMetrics.metrics.offset :]
        self._totals = {} if totals is None else totals
        self._sure = False

    def want(self, names: frozenset[str]) -> None:
        """Choose what is asked for: keys of RATIOS and RATES."""
        if names == self._names:
            return
        self._names = names
        numbers = [(number, name) for name, several in RATIOS.items() for number in several]
        numbers += [(number, name) for name, number in RATES.items()]
        self._wanted = {
            number: name for number, name in numbers if name in names and number not in self._refused
        }
        self._sure = False

    def supported(self) -> bool:
        """Tell whether the device has these metrics. Raises GpuGone."""
        answer = versioned(GpmSupport)
        asked = self._caller.ask("gpm", "nvmlGpmQueryDeviceSupport", byref(answer))
        if asked and not answer.isSupportedDevice:
            self._caller.refuse("gpm", "unsupported")
        return bool(asked and answer.isSupportedDevice)

    def take(self, now_ns: int) -> dict[str, float]:
        """End an interval: take a sample and tell the means since the one before, and the totals so far.

        The first sample gives nothing; so does one that follows too soon, and then the interval goes on.
        """
        if self._older is not None and now_ns - self._older_ns < LEAST_SECONDS * 1e9:
            return {}
        if self._newer is None:
            self._newer = self._allocated()
        if self._newer is None or not self._sample():
            return {}
        older, self._older, self._newer = self._older, self._newer, self._older
        seconds, self._older_ns = (now_ns - self._older_ns) / 1e9, now_ns
        return {} if older is None else self._differences(older, seconds)

    def _allocated(self) -> object:
        sample = GpmSample()
        if self._what in self._caller.refused:
            return None
        code = self._caller.nvml.call(self._caller.index, "nvmlGpmSampleAlloc", byref(sample))
        if code:
            self._caller.sort(self._what, code)
            return None
        return sample

    def _sample(self) -> bool:
        if self._instance is None:
            return self._caller.ask(self._what, "nvmlGpmSampleGet", self._newer)
        return self._caller.ask(self._what, "nvmlGpmMigSampleGet", c_uint(self._instance), self._newer)

    def _differences(self, older: object, seconds: float) -> dict[str, float]:
        code = self._get(older, list(self._wanted))
        if code == INVALID_ARGUMENT and not self._sure:
            # A driver may refuse all for one number that it does not know; not if it refuses every one.
            bad = [number for number in self._wanted if self._get(older, [number]) == INVALID_ARGUMENT]
            if len(bad) < len(self._wanted):
                for number in bad:
                    self._refuse(number, "unsupported")
                code = self._get(older, list(self._wanted))
        if code:
            self._caller.sort(self._what, code)
            return {}
        self._sure = True
        return self._read(seconds)

    def _get(self, older: object, numbers: list[int]) -> int:
        asked = self._metrics
        _SET_OLDER(asked, older)
        _SET_NEWER(asked, self._older)
        if numbers != self._numbers:
            self._numbers, asked.numMetrics = numbers, len(numbers)
            for place, number in enumerate(numbers):
                asked.metrics[place].metricId = number
        return self._caller.nvml.call(self._caller.index, "nvmlGpmMetricsGet", byref(asked)) if numbers else 0

    def _refuse(self, number: int, reason: str) -> None:
        """Ask for a number no more; when the last one of a quantity goes, it is not to be had."""
        self._refused.add(number)
        name = self._wanted.pop(number)
        if name not in self._wanted.values():
            self._caller.refuse(name, reason)

    def _read(self, seconds: float) -> dict[str, float]:
        found: dict[str, float] = {}
        wanted = list(self._wanted.items())
        answers = _METRIC.iter_unpack(self._answers[: len(wanted) * _METRIC.size])
        for (number, name), (_, code, value) in zip(wanted, answers, strict=True):
            if code:
                if code in LASTING:
                    self._refuse(number, LASTING[code])
                elif code not in NOTHING_NEW:
                    self._caller.nvml.failed(self._caller.uuid, name, "failed")
                continue
            if name in RATES:
                self._add(name, value * MEBIBYTE * seconds, seconds, found)
            elif believed(name, ratio := value * PER_CENT):
                if name not in found or ratio > found[name]:
                    found[name] = ratio
            elif isfinite(value):
                self._caller.nvml.failed(self._caller.uuid, name, "impossible")
        return found

    def _add(self, name: str, amount: float, seconds: float, found: dict[str, float]) -> None:
        if 0 <= amount <= BYTES_PER_SECOND * seconds:
            self._totals[name] = self._totals.get(name, 0.0) + amount
        elif isfinite(amount):
            self._caller.nvml.failed(self._caller.uuid, name, "impossible")
        if name in self._totals:
            found[name] = self._totals[name]

    def close(self) -> None:
        """Give the samples back, before the driver is closed or the instance is forgotten."""
        for sample in (self._older, self._newer):
            if sample is not None:
                self._caller.nvml.call(self._caller.index, "nvmlGpmSampleFree", sample)
        self._older = self._newer = None
