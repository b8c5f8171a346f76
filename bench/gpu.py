"""`make gpu`: checks the agent on a machine with a real GPU, against nvidia-smi and against a known load.

The agent's sampler runs in this process. At rest and under the load it is compared with nvidia-smi; busy
time, activity, power and energy are compared with when the load's kernels ran. What the driver answered, how
fast, and how it behaves is written to a recording without names. No setting of a GPU is changed, and the load
runs on a GPU that nobody uses, or not at all.
"""

import argparse
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from agent.cadence import SamplerSettings
from agent.clock import Clock, SystemClock
from agent.device import Device
from agent.errors import NvmlUnavailable
from agent.inventory import enumerate_devices
from agent.nvml import GpuGone, Nvml
from agent.quantities import QUANTITIES
from agent.sampler import Sampler
from agent.slow import limits
from agent.tick import Gpu, Reading, Tick
from bench import gpu_traits as traits
from bench.gpu_calls import Answers, TimedNvml, latencies
from bench.gpu_compare import compare
from bench.gpu_load import PHASES, STEADY
from bench.gpu_phases import judge
from bench.gpu_programs import NVIDIA_SMI, Answer, Load, ask, power_log
from bench.gpu_recording import write
from bench.gpu_rows import Row, not_checked, rows_table, summary, table
from bench.gpu_smi import SmiError, parse, parse_power

OUT = Path(__file__).resolve().parents[1] / "tests" / "recorded"
INTERVAL_SECONDS = 2.0
SHORTEST_SECONDS = 15.0
ENERGY_SECONDS = 3.0
SETTLED_TICKS = 2
"""So many intervals pass before nvidia-smi is asked: the first is short."""


class Met(NamedTuple):
    """The GPU that is looked at closely, whether nobody uses it, and how its driver behaves."""

    gpu: Gpu
    is_free: bool
    driver: dict[str, Any]


class Run:
    """The sampler at work, and its ticks so far."""

    def __init__(self, sampler: Sampler) -> None:
        self.ticks: list[Tick] = []
        self._stream = sampler.ticks()

    def until(self, done: Callable[[], bool]) -> None:
        """Let the sampler go on until something is so; it is looked at after each poll."""
        while not done():
            tick = next(self._stream)
            if tick is not None:
                self.ticks.append(tick)

    def more(self, ticks: int) -> None:
        """Let the sampler give so many ticks more."""
        enough = len(self.ticks) + ticks
        self.until(lambda: len(self.ticks) >= enough)

    def compared(self, asked: Callable[[], Answer], *, slow_moved: bool = False) -> list[Row]:
        """Ask nvidia-smi in the midst of it, and compare."""
        first = len(self.ticks) - 1
        with asked() as answer:
            self.until(answer.ready)
            self.more(2)
            try:
                told = parse(answer.text())
            except SmiError as error:
                return [not_checked("node", "all of it", str(error))]
        return compare(self.ticks[first:], self.ticks[:first], told, slow_moved=slow_moved)

    def readings(self, uuid: str) -> list[Reading]:
        """Give all readings of a GPU."""
        return [one for tick in self.ticks for one in tick.readings if one.uuid == uuid]


def meet(answers: Answers, clock: Clock) -> Met:
    """Find out how the driver behaves, on the first GPU that nobody uses. Raises NvmlUnavailable."""
    nvml = TimedNvml(answers)
    nvml.open()
    try:
        mapped = traits.mapping_of_libcuda(nvml)
        devices, _ = enumerate_devices(nvml, {})
        if not devices:
            raise NvmlUnavailable("no GPU answers: see dmesg for messages of NVRM")
        free = [device for device in devices if not device.processes()]
        device = (free or devices)[0]
        return Met(device.gpu, bool(free), {"libcuda_mapped": mapped, **behaviour(nvml, device, clock)})
    finally:
        nvml.close()


def behaviour(nvml: TimedNvml, device: Device, clock: Clock) -> dict[str, Any]:
    """Look at rings, the energy counter, metrics, events and fields of one GPU. Raises GpuGone."""
    caller = device.caller
    waited = traits.event_wait(nvml, caller, clock)
    rings = {
        name: traits.ring(nvml, caller, kind, clock.wall_ms() * 1000)._asdict()
        for kind, name in enumerate(traits.ALL_RINGS)
    }
    found = {
        "rings": rings,
        "energy_millijoules": traits.quantum(
            traits.energy_points(nvml, caller, clock, ENERGY_SECONDS)
        )._asdict(),
        "metrics": traits.metric_out_of_range(nvml, caller, clock),
        "event_wait": waited and waited._asdict(),
    }
    traits.sweep(nvml, caller, round(limits(device).get("nvlink_present_links") or 0))
    return found


def loaded(run: Run, met: Met, seconds: float) -> tuple[list[Row], list[Row]]:
    """Let the load run; give how we compare with nvidia-smi under it, and with its kernels."""
    why = "it is in use, and the load must not disturb it" if not met.is_free else ""
    why = why or ("it is partitioned by MIG" if run.readings(met.gpu.uuid)[-1].mig_mode_flag else "")
    if why:
        return [], [not_checked(f"gpu {met.gpu.index}", "load", why)]
    with Load(met.gpu.pci_bus, seconds) as load, power_log(met.gpu.pci_bus) as power:
        under = _under(run, load, seconds)
        run.until(load.ready)
        run.more(1)
        if load.failure():
            return under, [not_checked(f"gpu {met.gpu.index}", "load", load.failure())]
        watts = parse_power(power.text())
        wall_ahead_ns = time.time_ns() - time.monotonic_ns()
        return under, judge(load.phases(), run.readings(met.gpu.uuid), watts, wall_ahead_ns)


def _under(run: Run, load: Load, seconds: float) -> list[Row]:
    """Compare with nvidia-smi once the steady load has run for a while."""

    def settled() -> bool:
        began_ns = load.began_ns(STEADY.name)
        return load.ready() or (began_ns is not None and time.monotonic_ns() > began_ns + seconds / 4 * 1e9)

    run.until(settled)
    return [] if load.ready() else run.compared(ask, slow_moved=True)


def document(
    met: Met, run: Run, nvml: TimedNvml, answers: Answers, tables: dict[str, Sequence[Row]]
) -> dict[str, Any]:
    """Put together what is written down."""
    last = run.readings(met.gpu.uuid)[-1]
    refused = {(one.quantity, one.reason) for tick in run.ticks for one in tick.refusals}
    return {
        "model": met.gpu.model,
        "driver": met.gpu.driver,
        "cuda": met.gpu.cuda,
        "date": datetime.now(UTC).date().isoformat(),
        "calls": answers.calls,
        "fields": answers.fields,
        "field_latency_us": answers.slowest_us,
        "metrics": answers.metrics,
        "reading": {name: getattr(last, name) for name in QUANTITIES if getattr(last, name) is not None},
        "refusals": sorted(refused),
        "latencies": [one._asdict() for one in latencies(nvml.times_us)],
        "behaviour": met.driver,
        **{name: [asdict(row) for row in rows] for name, rows in tables.items()},
    }


def secrets(run: Run) -> set[str]:
    """Give what must not be written down."""
    gpus = {gpu for tick in run.ticks for gpu in tick.gpus or ()}
    names = {name for gpu in gpus for name in (gpu.uuid, gpu.serial, gpu.chassis)}
    return (names | {socket.gethostname()}) - {""}


def missing() -> str:
    """Say in a sentence what this machine lacks; empty if nothing."""
    try:
        nvml = Nvml()
        nvml.open()
        nvml.close()
    except NvmlUnavailable as error:
        return str(error)
    if shutil.which(NVIDIA_SMI) is None:
        return "nvidia-smi is not in the PATH: install the NVIDIA driver's programs"
    return ""


def show(met: Met, nvml: TimedNvml, answers: Answers) -> None:
    """Print what was measured of the driver."""
    print("\nCalls of the driver, by the time they took together\n")
    lines = [
        (one.function, str(one.calls), f"{one.median_us:.1f}", f"{one.largest_us:.1f}")
        for one in latencies(nvml.times_us)
    ]
    print(table(("function", "calls", "median µs", "largest µs"), lines))
    slowest = sorted(answers.slowest_us.items(), key=lambda one: -one[1])[:12]
    if any(microseconds for _, microseconds in slowest):
        print("\nThe slowest fields, as the driver tells\n")
        print(table(("field", "µs"), [(key, str(microseconds)) for key, microseconds in slowest]))
    print("\nRings of samples\n")
    header = tuple(traits.Ring._fields)
    rings = met.driver["rings"]
    print(table(("ring", *header), [(name, *map(_shown, one.values())) for name, one in rings.items()]))
    print("\nHow the driver behaves\n")
    print(table(("what", "told"), [(k, str(v)) for k, v in met.driver.items() if k != "rings"]))


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def check(
    clock: Clock, asked: Callable[[], Answer], load_seconds: float | None, out: Path
) -> tuple[list[Row], Path]:
    """Do it all, print it and write the recording; without seconds, without the load. NvmlUnavailable."""
    answers = Answers()
    met = meet(answers, clock)
    nvml = TimedNvml(answers, met.gpu.index)
    sampler = Sampler(nvml, clock, SamplerSettings(interval_seconds=INTERVAL_SECONDS), "bench")
    run = Run(sampler)
    tables: dict[str, Sequence[Row]] = {}
    try:
        run.more(SETTLED_TICKS)
        tables["at_rest"] = run.compared(asked)
        if load_seconds is not None:
            tables["under_load"], tables["load"] = loaded(run, met, load_seconds)
    finally:
        sampler.close()
    show(met, nvml, answers)
    path = write(out, document(met, run, nvml, answers, tables), secrets(run))
    titles = {"at_rest": "At rest", "under_load": "Under a steady load", "load": "What the load did"}
    for name, rows in tables.items():
        theirs = "kernels" if name == "load" else "nvidia-smi"
        print(f"\n{titles[name]}: {summary(rows)}\n\n{rows_table(rows, theirs)}")
    return [row for rows in tables.values() for row in rows], path


def _idle(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; 1 when something disagrees, could not be checked, or is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each phase of the load lasts")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the recording")
    options = parser.parse_args(arguments)
    if options.seconds < SHORTEST_SECONDS:
        parser.error(f"--seconds must be at least {SHORTEST_SECONDS:.0f}")
    lack = missing()
    if lack:
        print(lack, file=sys.stderr)
        return 1
    print(f"This takes about {(len(PHASES) * options.seconds + 30) / 60:.0f} minutes.", flush=True)
    try:
        rows, path = check(SystemClock(_idle), ask, options.seconds, options.out)
    except (NvmlUnavailable, GpuGone) as error:
        print(f"the check ended early: {error}", file=sys.stderr)
        return 1
    wrong = [row for row in rows if row.fails]
    print(f"\nRecorded in {path}.")
    print(f"{len(wrong)} of {len(rows)} lines disagree or could not be checked.")
    if wrong:
        print(f"\n{rows_table(wrong, 'theirs')}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
