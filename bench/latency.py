"""What the agent costs beside the driver's calls: an agent over a driver in C whose calls take a known time.

The driver is built with the machine's C compiler and lies where the loader finds it first.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import psutil

SOURCE = Path(__file__).with_name("driver.c")
GPUS = 8
TICK_SECONDS = 10
SETTLE_SECONDS = 24


class Cost(NamedTuple):
    """Per tick of 10 s and 8 GPUs: milliseconds of processor time of our own, and in the driver's calls."""

    own_ms: float
    calls_ms: float
    calls_per_gpu_second: float


def build(folder: Path) -> Path | None:
    """Build the driver; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    return library


def sampling(library: Path, latency_us: int) -> tuple[float, float, float]:
    """Give the milliseconds of a tick of sampling and of the same calls made barely, and their ratio."""
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(library.parent),
        "BENCH_LATENCY_US": str(latency_us),
    }
    command = [sys.executable, "-m", "bench.bare"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    ours_ms, bare_ms, ratio = map(float, done.stdout.split())
    return ours_ms, bare_ms, ratio


def cost(library: Path, latency_us: int, ticks: int) -> Cost:
    """Run an agent for so many intervals over calls that take so long."""
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(library.parent),
        "BENCH_LATENCY_US": str(latency_us),
        "GPUTALLY_NODE_KERNEL_LOG": "",
    }
    journal = library.parent / f"latency-{latency_us}.db"
    arguments = [sys.executable, "-m", "gputally", "run", "--journal", str(journal), "--port", "0"]
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) as agent:
        try:
            port = _port(agent)
            time.sleep(SETTLE_SECONDS)
            parent = psutil.Process(agent.pid)
            processes = [parent, *parent.children()]
            before, cpu_before = _page(port), _cpu_seconds(processes)
            time.sleep(ticks * TICK_SECONDS)
            cpu, after = _cpu_seconds(processes) - cpu_before, _page(port)
        finally:
            agent.terminate()
    calls, seconds, entered = (late - early for early, late in zip(before, after, strict=True))
    return Cost(
        own_ms=(cpu - seconds) / entered * 1000,
        calls_ms=seconds / entered * 1000,
        calls_per_gpu_second=calls / entered / GPUS / TICK_SECONDS,
    )


def _port(agent: "subprocess.Popen[str]") -> int:
    for line in agent.stderr or ():
        found = re.search(r":(\d+)/$", line.strip())
        if found:
            return int(found[1])
    raise RuntimeError("the agent did not start")


def _page(port: int) -> tuple[float, float, float]:
    """Read calls, seconds in calls, and intervals so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    calls, seconds, ticks = (
        float(re.search(rf"^gputally_{name} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]
        for name in ("driver_calls_total", "driver_seconds_total", "ticks_total")
    )
    return calls, seconds, ticks


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(one.cpu_times().user + one.cpu_times().system for one in processes)
