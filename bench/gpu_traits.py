"""How a driver behaves where nothing says so: its rings, its energy counter, its refusals. Only reads.

Codes and numbers are those of nvml.h.
"""

from collections.abc import Callable, Iterable, Sequence
from ctypes import byref, c_uint, c_ulonglong
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from agent.batch import ALL_LINKS
from agent.cell import NO_GPU
from agent.clock import Clock
from agent.nvml import (
    Caller,
    EventData,
    EventSet,
    FieldValue,
    GpmMetrics,
    GpmSample,
    Nvml,
    Sample,
    versioned,
)

MAPS = Path("/proc/self/maps")
RING_NAMES = ("power", "gpu", "memory", "encoder", "decoder", "sm_clock", "memory_clock", "module_power")
ALL_RINGS = (*RING_NAMES, "jpeg", "ofa")
"""By number of nvmlSamplingType_t."""
MOST_SAMPLES = 1024
LAST_FIELD = 310
FIELDS_AT_ONCE = 64
LINK_FIELDS = (*range(138, 142), 146, *range(161, 169), *range(201, 223), *range(235, 251))
POWER_FIELDS = range(185, 193)
THRESHOLDS = 8
NO_SUCH_METRIC = 9_999
GPM_SECONDS = 0.4
FAST_SECONDS = 0.001
XID = 0x8


class Ring(NamedTuple):
    """A ring of samples: the code, how many it says it holds and gave, and how they lie in time.

    `age_ms` is how far behind the wall clock the newest is dated: years where it counts on another clock.
    """

    code: int
    capacity: int = 0
    samples: int = 0
    period_ms: float | None = None
    span_seconds: float | None = None
    age_ms: float | None = None
    value_type: int | None = None


class Quantum(NamedTuple):
    """The smallest step of a counter, the median time between steps, and how many were seen."""

    step: float | None
    period_ms: float | None
    steps: int


class Asked(NamedTuple):
    """A code, and how long the call took."""

    code: int
    microseconds: float


def libcuda_mapped(maps: str) -> bool:
    """Tell whether libcuda is among the mappings of a process, as /proc tells them."""
    return any("libcuda.so" in line for line in maps.splitlines())


def mapping_of_libcuda(nvml: Nvml, maps: Callable[[], str] = MAPS.read_text) -> dict[str, bool]:
    """Tell after which step libcuda is in the process: opened NVML, and asked for CUDA's version."""
    found = {"after_init": libcuda_mapped(maps())}
    for version in ("", "_v2"):
        nvml.call(NO_GPU, f"nvmlSystemGetCudaDriverVersion{version}", byref(c_uint()))
        found[f"after_cuda_version{version}"] = libcuda_mapped(maps())
    return found


def spacing_ms(times_us: Sequence[int]) -> float | None:
    """Give the median time between samples; None where there are not two."""
    return median(late - early for early, late in pairwise(times_us)) / 1000 if len(times_us) > 1 else None


def ring(nvml: Nvml, caller: Caller, kind: int, now_us: int) -> Ring:
    """Ask for a ring's capacity, then for all it holds."""
    value_type, capacity, count = c_uint(), c_uint(), c_uint(MOST_SAMPLES)
    asked = caller.handle, c_uint(kind), c_ulonglong(0), byref(value_type)
    name = "nvmlDeviceGetSamples"
    nvml.call(caller.index, name, *asked, byref(capacity), None)
    samples = (Sample * MOST_SAMPLES)()
    code = nvml.call(caller.index, name, *asked, byref(count), samples)
    if code:
        return Ring(code, capacity.value)
    times = sorted(samples[place].timeStamp for place in range(min(count.value, MOST_SAMPLES)))
    return Ring(
        code=code,
        capacity=capacity.value,
        samples=len(times),
        period_ms=spacing_ms(times),
        span_seconds=(times[-1] - times[0]) / 1e6 if times else None,
        age_ms=(now_us - times[-1]) / 1000 if times else None,
        value_type=value_type.value,
    )


def quantum(points: Iterable[tuple[float, int]]) -> Quantum:
    """Find the steps of a counter that was read often: (moment in ms, value)."""
    steps, moments = [], []
    for (_, before), (at_ms, after) in pairwise(points):
        if after != before:
            steps.append(after - before)
            moments.append(at_ms)
    periods = [late - early for early, late in pairwise(moments)]
    return Quantum(min(steps, default=None), median(periods) if periods else None, len(steps))


def energy_points(nvml: Nvml, caller: Caller, clock: Clock, seconds: float) -> list[tuple[float, int]]:
    """Read the energy counter as fast as it goes: (moment in ms, mJ); nothing where there is none."""
    points: list[tuple[float, int]] = []
    until_ns = clock.monotonic_ns() + round(seconds * 1e9)
    while (now_ns := clock.monotonic_ns()) < until_ns:
        millijoules = c_ulonglong()
        if nvml.call(caller.index, "nvmlDeviceGetTotalEnergyConsumption", caller.handle, byref(millijoules)):
            break
        points.append((now_ns / 1e6, millijoules.value))
        clock.wait(FAST_SECONDS)
    return points


def metric_out_of_range(nvml: Nvml, caller: Caller, clock: Clock) -> dict[str, int]:
    """Ask for a metric that is none together with one that is: by what was asked, the codes."""
    samples = GpmSample(), GpmSample()
    found: dict[str, int] = {}
    for sample in samples:
        code = nvml.call(caller.index, "nvmlGpmSampleAlloc", byref(sample))
        code = code or nvml.call(caller.index, "nvmlGpmSampleGet", caller.handle, sample)
        if code:
            return {"sample": code}
        clock.wait(GPM_SECONDS)
    for what, numbers in {"alone": (2,), "with_one_out_of_range": (2, NO_SUCH_METRIC)}.items():
        asked: Any = versioned(GpmMetrics)
        asked.numMetrics, asked.sample1, asked.sample2 = len(numbers), *samples
        for place, number in enumerate(numbers):
            asked.metrics[place].metricId = number
        found[what] = nvml.call(caller.index, "nvmlGpmMetricsGet", byref(asked))
        for place, number in enumerate(numbers):
            found[f"{what}:{number}"] = int(asked.metrics[place].nvmlReturn)
    for sample in samples:
        nvml.call(caller.index, "nvmlGpmSampleFree", sample)
    return found


def event_wait(nvml: Nvml, caller: Caller, clock: Clock) -> Asked | None:
    """Wait for an event with a timeout of 0; None where there are no events."""
    made = EventSet()
    if nvml.call(NO_GPU, "nvmlEventSetCreate", byref(made)):
        return None
    try:
        if nvml.call(caller.index, "nvmlDeviceRegisterEvents", caller.handle, c_ulonglong(XID), made):
            return None
        began_ns = clock.monotonic_ns()
        code = nvml.call(NO_GPU, "nvmlEventSetWait_v2", made, byref(EventData()), c_uint(0))
        return Asked(code, (clock.monotonic_ns() - began_ns) / 1000)
    finally:
        nvml.call(NO_GPU, "nvmlEventSetFree", made)


def sweep(nvml: Nvml, caller: Caller, links: int) -> None:
    """Ask for every field there is, and for every threshold: what answers is noted by the driver's stopwatch.

    Fields of links are asked for the first, the last, one too many and all; those of power for every scope.
    """
    wanted = [(number, 0) for number in range(1, LAST_FIELD + 1)]
    scopes = sorted({1, max(1, links - 1), max(1, links), ALL_LINKS})
    wanted += [(number, scope) for number in LINK_FIELDS for scope in scopes]
    wanted += [(number, scope) for number in POWER_FIELDS for scope in (1, 2, 3)]
    for first in range(0, len(wanted), FIELDS_AT_ONCE):
        some = wanted[first : first + FIELDS_AT_ONCE]
        values = (FieldValue * len(some))()
        for place, (number, scope) in enumerate(some):
            values[place].fieldId, values[place].scopeId = number, scope
        nvml.call(caller.index, "nvmlDeviceGetFieldValues", caller.handle, c_uint(len(some)), byref(values))
    for number in range(THRESHOLDS):
        nvml.call(
            caller.index, "nvmlDeviceGetTemperatureThreshold", caller.handle, c_uint(number), byref(c_uint())
        )
