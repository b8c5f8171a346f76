"""Holds what the agent told around a moment against what nvidia-smi told then, quantity by quantity.

Counters and gauges of ours are a range, from before nvidia-smi began until after it ended: theirs must lie in
it, but for rounding, and for gauges what they may change in between.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from agent.tick import Gpu, Part, Reading, Tick
from bench.gpu_rows import Row, Tolerance, close, same
from bench.gpu_smi import NUMBERS, TEXTS, WORDS, Told

MIB = float(1 << 20)
SMALL_MEMORY = Tolerance(64 * MIB)
DEGREES = Tolerance(3.0)
CLOCK = Tolerance(45e6, 0.10)
THROTTLED = Tolerance(0.25)
"""Seconds: the driver refreshes these counters in steps of up to 0.1 s."""

TOLERANCES: Mapping[str, Tolerance] = {
    "memory_total_bytes": Tolerance(MIB),
    "memory_reserved_bytes": Tolerance(2 * MIB),
    "memory_used_bytes": SMALL_MEMORY,
    "memory_free_bytes": SMALL_MEMORY,
    "bar1_total_bytes": Tolerance(MIB),
    "bar1_used_bytes": SMALL_MEMORY,
    "power_watts": Tolerance(15.0, 0.10),
    "memory_power_watts": Tolerance(8.0, 0.10),
    "module_power_watts": Tolerance(25.0, 0.10),
    "power_limit_watts": Tolerance(0.5),
    "power_limit_default_watts": Tolerance(0.5),
    "power_limit_min_watts": Tolerance(0.5),
    "power_limit_max_watts": Tolerance(0.5),
    "energy_joules_total": Tolerance(1.0),
    "temperature_celsius": DEGREES,
    "temperature_margin_celsius": DEGREES,
    "memory_temperature_celsius": DEGREES,
    "sm_clock_hertz": CLOCK,
    "memory_clock_hertz": CLOCK,
    "throttle_power_cap_seconds_total": THROTTLED,
    "throttle_sync_boost_seconds_total": THROTTLED,
    "throttle_sw_thermal_seconds_total": THROTTLED,
    "throttle_hw_thermal_seconds_total": THROTTLED,
    "throttle_power_brake_seconds_total": THROTTLED,
    "fan_speed_ratio": Tolerance(0.05),
}
"""By how much each quantity may differ; what is not listed must be equal."""

SLOW = frozenset(
    {"bar1_used_bytes", "memory_clock_hertz", "performance_state_code", "pcie_link_generation"}
    | {"fan_speed_ratio", "temperature_margin_celsius"}
)
"""Gauges that the agent reads seldom: once they may have changed, a difference says nothing."""


def compare(
    around: Sequence[Tick], earlier: Sequence[Tick], told: Mapping[str, Told], *, slow_moved: bool
) -> list[Row]:
    """Compare all GPUs. `earlier` are ticks before, which may tell what is read seldom.

    `slow_moved` says that since the agent last read what it reads seldom, that may have changed.
    """
    rows: list[Row] = []
    gpus = {gpu.uuid: gpu for tick in (*earlier, *around) for gpu in tick.gpus or ()}
    for uuid in sorted({*gpus, *told}, key=lambda one: (gpus[one].index if one in gpus else 0, one)):
        readings = [one for tick in around for one in tick.readings if one.uuid == uuid]
        before = [one for tick in earlier for one in tick.readings if one.uuid == uuid]
        subject = f"gpu {gpus[uuid].index}" if uuid in gpus else "gpu ?"
        theirs = told.get(uuid, Told())
        rows += _present(
            [
                same(subject, "uuid", uuid if uuid in gpus else "", uuid if uuid in told else ""),
                *_identities(subject, gpus.get(uuid), theirs),
                *_values(subject, readings, theirs, slow_moved=slow_moved),
                *_parts(subject, [*before, *readings], theirs, slow_moved=slow_moved),
                *_processes(subject, readings, theirs),
            ]
        )
    return rows


def _present(rows: Iterable[Row | None]) -> list[Row]:
    return [row for row in rows if row is not None]


def _identities(subject: str, gpu: Gpu | None, theirs: Told) -> Iterator[Row | None]:
    for name in (*TEXTS, "driver", "cuda"):
        yield same(subject, name, getattr(gpu, name) if gpu else "", theirs.texts.get(name))


def _values(
    subject: str, readings: Sequence[Reading], theirs: Told, *, slow_moved: bool
) -> Iterator[Row | None]:
    for name in dict.fromkeys((*NUMBERS, *WORDS, *theirs.values)):
        ours = [value for one in readings if (value := getattr(one, name)) is not None]
        if name == "sm_clock_hertz":
            ours += [one.sm_clock_min_hertz for one in readings if one.sm_clock_min_hertz is not None]
        yield close(
            subject,
            name,
            ours,
            theirs.values.get(name),
            TOLERANCES.get(name, Tolerance()),
            may_move=slow_moved and name in SLOW,
        )


def _parts(
    subject: str, readings: Sequence[Reading], theirs: Told, *, slow_moved: bool
) -> Iterator[Row | None]:
    latest: tuple[Part, ...] = next((one.parts for one in reversed(readings) if one.parts), ())
    ours = {(part.quantity, part.labels): part.value for part in latest}
    for (quantity, labels), value in theirs.parts.items():
        known = ours.get((quantity, labels))
        row = close(
            subject,
            quantity,
            [] if known is None else [known],
            value,
            TOLERANCES.get(quantity, Tolerance()),
            may_move=slow_moved and quantity in SLOW,
        )
        if row is not None:
            yield replace(row, quantity=f"{quantity} {' '.join(labels)}")


def _processes(subject: str, readings: Sequence[Reading], theirs: Told) -> Iterator[Row | None]:
    """Compare the processes by pid. One that only one side lists may have begun or ended meanwhile."""
    ours: dict[int, list[float]] = {}
    for process in (one for reading in readings for one in reading.processes or ()):
        if process.memory_used_bytes is not None:
            ours.setdefault(process.pid, []).append(float(process.memory_used_bytes))
        else:
            ours.setdefault(process.pid, [])
    for pid in sorted({*ours, *theirs.processes}):
        on_both = pid in ours and pid in theirs.processes
        told = theirs.processes.get(pid)
        if on_both and not ours[pid] and told is None:
            yield same(subject, "process without memory", "listed", "listed")
        else:
            row = close(subject, "process_memory_bytes", ours.get(pid, ()), told, SMALL_MEMORY)
            yield row and replace(row, quantity=f"memory of process {pid}")
