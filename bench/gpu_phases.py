"""Holds what the agent told of a known load against when its kernels ran.

Only intervals that lie wholly within a phase count, so nothing needs to begin at the same moment.
"""

from collections.abc import Iterator, Sequence

from agent.tick import Reading
from bench.gpu_cuda import Kernel
from bench.gpu_load import Played
from bench.gpu_rows import Row, Tolerance, close, not_checked
from bench.gpu_smi import Power

NS_PER_MS = 1_000_000
BUSY = Tolerance(0.35, 0.02)
"""Seconds: a sample of 1/6 s may belong to either side of both ends."""
ACTIVE = Tolerance(0.04)
POWER = Tolerance(10.0, 0.10)
ENERGY = Tolerance(40.0, 0.10)
"""nvidia-smi's mean looks back a second and is read twice a second: a loose comparison."""


def inside(readings: Sequence[Reading], phase: Played, wall_ahead_ns: int) -> list[Reading]:
    """Choose the readings whose interval lies within a phase; `wall_ahead_ns` is wall less monotonic time."""
    began_ms, ended_ms = ((at_ns + wall_ahead_ns) / NS_PER_MS for at_ns in (phase.began_ns, phase.ended_ns))
    return [one for one in readings if began_ms <= one.start_ms and one.end_ms <= ended_ms]


def busy_seconds(kernels: Sequence[Kernel], start_ns: int, end_ns: int) -> float:
    """Add up the time in [start, end) in which a kernel ran; it ended when the host heard of it."""
    total_ns = 0.0
    for kernel in kernels:
        began_ns = max(kernel.began_ns, kernel.ended_ns - kernel.event_ms * NS_PER_MS)
        total_ns += max(0.0, min(kernel.ended_ns, end_ns) - max(began_ns, start_ns))
    return total_ns / 1e9


def mean_watts(power: Sequence[Power], start_ms: int, end_ms: int) -> float | None:
    """Give the mean of nvidia-smi's power in an interval: its average, or what it says of the moment."""
    told = [
        one.instant_watts if one.average_watts is None else one.average_watts
        for one in power
        if start_ms <= one.at_ms < end_ms
    ]
    known = [one for one in told if one is not None]
    return sum(known) / len(known) if known else None


def judge(
    phases: Sequence[Played], readings: Sequence[Reading], power: Sequence[Power], wall_ahead_ns: int
) -> list[Row]:
    """Compare every phase."""
    rows: list[Row] = []
    for phase in phases:
        mine = inside(readings, phase, wall_ahead_ns)
        if not mine:
            rows.append(not_checked(phase.name, "all of it", "no interval lay within it"))
            continue
        found = (*_activity(phase, mine, wall_ahead_ns), *_power(phase, mine, power))
        rows += [row for row in found if row is not None]
    return rows


def _lengths(readings: Sequence[Reading]) -> list[float]:
    return [(one.end_ms - one.start_ms) / 1000 for one in readings]


def _integral(readings: Sequence[Reading], name: str) -> list[float]:
    """Give the integral of a quantity over readings, or nothing where one of them does not tell."""
    values = [getattr(one, name) for one in readings]
    if None in values:
        return []
    return [sum(value * length for value, length in zip(values, _lengths(readings), strict=True))]


def _activity(phase: Played, readings: Sequence[Reading], wall_ahead_ns: int) -> Iterator[Row | None]:
    seconds = sum(_lengths(readings))
    truth = sum(
        busy_seconds(
            phase.kernels,
            one.start_ms * NS_PER_MS - wall_ahead_ns,
            one.end_ms * NS_PER_MS - wall_ahead_ns,
        )
        for one in readings
    )
    yield close(phase.name, "busy_seconds", _integral(readings, "busy_ratio"), truth, BUSY)
    for name in ("graphics_active_ratio", "sm_active_ratio"):
        mean = [total / seconds for total in _integral(readings, name)]
        share = phase.share if name == "sm_active_ratio" else 1.0
        if mean:  # older GPUs than Hopper do not tell
            yield close(phase.name, name, mean, share * truth / seconds, ACTIVE)


def _power(phase: Played, readings: Sequence[Reading], power: Sequence[Power]) -> Iterator[Row | None]:
    seconds = sum(_lengths(readings))
    watts = mean_watts(power, readings[0].start_ms, readings[-1].end_ms)
    joules = _integral(readings, "power_watts")
    yield close(phase.name, "power_watts", [total / seconds for total in joules], watts, POWER)
    counts = [one.energy_joules_total for one in readings if one.energy_joules_total is not None]
    if len(counts) > 1 and len(counts) == len(readings):
        later = sum(_lengths(readings[1:]))  # each reading's counter is that of its end
        used = [counts[-1] - counts[0]]
        theirs = None if watts is None else watts * later
        yield close(phase.name, "energy_joules_total", used, theirs, ENERGY)
        chained = _integral(readings[1:], "power_watts")
        if chained:
            yield close(phase.name, "power_over_time_joules_total", chained, used[0], Tolerance(1.0, 0.01))
