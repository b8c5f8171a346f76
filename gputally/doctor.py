"""`gputally doctor`: what can be read on this node, what cannot, why, and what to do about it."""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from textwrap import fill

from agent.errors import JournalError
from agent.frames import Absent
from agent.journal_file import connect
from agent.kernel_log import KernelLog
from agent.prober import Ended, Hung, Prober
from agent.quantities import QUANTITIES
from agent.tick import Condition, Tick
from gputally import host
from gputally.run import simulated
from gputally.settings import Settings, journal_path, load
from gputally.surroundings import Check, stores, worlds

PATIENCE_SECONDS = 60.0
WHY = {
    "unsupported": "this device or driver does not have it",
    "no_permission": "this user may not ask: run as root, or grant access to the device",
    "failed": "the driver answered with an error",
    "impossible": "the driver told what cannot be",
    "jumped": "a counter went back or grew faster than it can",
    "garbled": "the text is no UTF-8: a corrupt InfoROM?",
}
"""Reasons of refusals, in words."""
ALSO = {
    "samples_0": "samples of power",
    "samples_1": "samples of busy time: busy_ratio is a snapshot, or comes from the slices",
    "samples_2": "samples of memory activity",
    "samples_3": "samples of the video encoder",
    "samples_4": "samples of the video decoder",
    "samples_8": "samples of the JPEG engine",
    "samples_9": "samples of the optical flow accelerator",
    "process_samples": "each process's share of the GPU",
    "gpm": "performance metrics: SM, tensor and memory activity, PCIe traffic (Hopper and newer)",
    "events": "XIDs from NVML",
    "fans": "fans (there are none on passively cooled boards)",
    "platform": "chassis, slot and tray",
    "module": "number of the module's slot",
    "ecc_sram": "ECC errors of the SRAM",
    "utilization": "the driver's own utilization",
}
"""What was refused and is no quantity by itself."""


ALSO_TOLD_BY = {
    "temperature_margin": "temperature_margin_celsius",
    "samples_1": "busy_ratio",
    "utilization": "busy_ratio",
    "power_watts_now": "power_watts",
    "power_limit_now": "power_limit_watts",
    "memory_v2": "memory_used_bytes",
    "temperature_v": "temperature_celsius",
    "sm_clock": "sm_clock_hertz",
}
"""Questions for which there is another one: what tells whether that was answered."""
OF_METRICS = ("active_ratio", "occupancy_ratio", "pcie_tx_bytes_total", "pcie_rx_bytes_total")
WIDTH = 110


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--settings", type=Path, metavar="FILE", help="default: /etc/gputally/gputally.toml")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="default: where `gputally run` writes")
    parser.add_argument(
        "--simulate", metavar="MODELxN[:SCENARIO][!FAULT]", default="", help="look at a simulated driver"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Look at everything once; 1 when something is bad. Raises SettingsError."""
    settings = load(options.settings, os.environ)
    simulation = simulated(options.simulate)[0] if options.simulate else ""
    journal = journal_path(options.journal, settings)
    checks = [
        *_driver(settings, simulation),
        _kernel_log(settings),
        _journal(journal),
        host.disk(journal, settings.journal),
        *([] if simulation else host.devices()),
        *([] if simulation else [host.clock()]),
        host.page(settings.web),
        *worlds(settings.holders),
        *stores(settings),
    ]
    if options.json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            mark = {True: "ok  ", False: "BAD ", None: "-   "}[check.good]
            text = f"{check.what}: {check.text}"
            print(fill(text, WIDTH, initial_indent=f"{mark} ", subsequent_indent=" " * 7))
    return int(any(check.good is False for check in checks))


def _driver(settings: Settings, simulation: str) -> Iterator[Check]:
    """Read one short interval through a probe, as the agent does."""
    until = time.monotonic() + PATIENCE_SECONDS
    with closing(Prober(settings.agent, settings.node.resolved(), simulation)) as prober:
        while (left := until - time.monotonic()) > 0:
            match prober.next(left):
                case Tick() as tick:
                    yield from _read(tick)
                    return
                case Hung(index, _, function, seconds):
                    yield Check(
                        what=f"GPU {index}",
                        good=False,
                        text=f"{function} does not come back for {seconds:.0f} s: reset the GPU or reboot",
                    )
                case Absent(sentence):
                    yield Check(what="driver", good=False, text=sentence)
                    return
                case Ended(reason, _):
                    yield Check(what="driver", good=False, text=f"the probe ended: {reason}")
                    return
                case _:
                    pass
    yield Check(what="driver", good=False, text=f"nothing was heard for {PATIENCE_SECONDS:.0f} s")


def _read(tick: Tick) -> Iterator[Check]:
    gpus = tick.gpus or ()
    first = gpus[0] if gpus else None
    if first:
        text = f"version {first.driver}, CUDA {first.cuda or 'unknown'}, {len(gpus)} GPUs"
        yield Check(what="driver", good=True, text=text)
    conditions = {reading.uuid: reading.condition for reading in tick.readings}
    for gpu in gpus:
        condition = conditions.get(gpu.uuid, Condition.MISSING)
        well = condition is Condition.OK
        text = f"{gpu.model} {gpu.uuid}" + ("" if well else f" is {condition}")
        yield Check(what=f"GPU {gpu.index}", good=well, text=text)
    for refusal in tick.refusals:
        if refusal.quantity == "device":
            text = f"is {refusal.reason} and does not even tell its name: reset it or reboot"
            yield Check(what="a GPU", good=False, text=text)
    for reading in tick.readings:
        if reading.persistence_mode_flag == 0:
            text = "off: enable nvidia-persistenced, or idle GPUs look busy and counters begin anew"
            yield Check(what=f"persistence mode of {reading.uuid}", good=False, text=text)
    yield from _absent(tick)
    seconds = (tick.end_ms - tick.start_ms) / 1000
    text = f"{tick.driver_calls} calls took {tick.driver_seconds * 1000:.0f} ms of the first {seconds:.1f} s"
    yield Check(what="calls of NVML", good=None, text=text)


def _absent(tick: Tick) -> Iterator[Check]:
    """Give what is not told, by reason and by how many of the GPUs do not tell it."""
    well = [reading for reading in tick.readings if reading.condition is Condition.OK]
    silent = {
        name: {reading.uuid for reading in well if getattr(reading, name) is None} for name in QUANTITIES
    }
    whose: dict[tuple[str, str], set[str]] = {}
    for refusal in tick.refusals:
        told_otherwise = not silent.get(ALSO_TOLD_BY.get(refusal.quantity, refusal.quantity), {""})
        if refusal.uuid and refusal.reason in WHY and not told_otherwise and ":" not in refusal.quantity:
            whose.setdefault((refusal.reason, refusal.quantity), set()).add(refusal.uuid)
    named = {quantity for _, quantity in whose}
    for name, uuids in silent.items():
        explained = name in named or ("gpm" in named and name.endswith(OF_METRICS))
        if uuids and not explained:
            whose["unsupported", name] = uuids
    for reason, told in WHY.items():
        names = [
            ALSO.get(quantity, quantity)
            + ("" if len(uuids) >= len(well) else f" (on {len(uuids)} of {len(well)} GPUs)")
            for (why, quantity), uuids in whose.items()
            if why == reason
        ]
        if names:
            yield Check(what=f"absent: {told}", good=None, text="; ".join(names))


def _kernel_log(settings: Settings) -> Check:
    if not settings.node.kernel_log:
        return Check(what="kernel log", good=None, text="switched off: XIDs come from NVML alone")
    log = KernelLog(Path(settings.node.kernel_log))
    trouble = log.open()
    log.close()
    if trouble:
        return Check(what="kernel log", good=None, text=f"{trouble}; XIDs come from NVML alone")
    return Check(what="kernel log", good=True, text=f"{settings.node.kernel_log} can be read")


def _journal(path: Path) -> Check:
    if not path.exists():
        return Check(what="journal", good=None, text=f"{path} is not there yet: `gputally run` makes it")
    try:
        connect(path).close()
    except JournalError as error:
        return Check(what="journal", good=False, text=str(error))
    return Check(what="journal", good=True, text=f"{path} can be read")
