"""How long a scrape of /metrics takes while 50 clients scrape: a whole agent of 8 simulated GPUs answers.

The clients are one thread of C (crowd.c), for 50 of them in Python take longer than what is measured. They
share the machine's cores with the agent, so that a server in C that has its page ready is measured beside it.
"""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

from bench.latency import _port as port_of

SOURCE = Path(__file__).with_name("crowd.c")
CLIENTS = 50
ROUNDS = 20
START_SECONDS = 60.0
_GPUS_SHOWN = 5_000
"""Bytes of the compressed page beyond which it shows GPUs."""


class Scrapes(NamedTuple):
    """Percentile 99 of a scrape in milliseconds, and the size of the page.

    `p99_ms` is of 50 clients that each scrape once a second at a time of their own; `burst_p99_ms` is of 50
    that all connect in the same instant, and `floor_burst_p99_ms` what these get from a server in C.
    """

    p99_ms: float
    burst_p99_ms: float
    page_bytes: int
    floor_burst_p99_ms: float


def scrapes(folder: Path, path: str = "/metrics") -> Scrapes:
    """Start an agent whose journal lies in a folder, and measure. Raises RuntimeError without a compiler."""
    crowd = _build(folder)
    command = [sys.executable, "-m", "gputally", "run", "--simulate", "h200x8", "--port", "0"]
    command += ["--journal", str(folder / "web.db")]
    environment = {**os.environ, "GPUTALLY_NODE_KERNEL_LOG": ""}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as agent:
        try:
            return measure(crowd, port_of(agent), path)
        finally:
            agent.terminate()


def measure(crowd: Path, port: int, path: str) -> Scrapes:
    """Measure a server that runs, once its page shows GPUs."""
    end = time.monotonic() + START_SECONDS
    size = 0
    while size < _GPUS_SHOWN:
        if time.monotonic() > end:
            raise RuntimeError(f"{path} shows no GPUs")
        time.sleep(0.2)
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(asked) as answer:  # noqa: S310
            size = len(answer.read())
    apart, together = (_p99_ms(crowd, mode, port, path) for mode in ("apart", "together"))
    with subprocess.Popen([crowd, "floor", str(size)], stdout=subprocess.PIPE, text=True) as floor:
        try:
            least = _p99_ms(crowd, "together", int((floor.stdout or sys.stdin).readline()), path)
        finally:
            floor.terminate()
    return Scrapes(apart, together, size, least)


def _build(folder: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("clients that do not stand in their own way need a C compiler: install gcc")
    crowd = folder / "crowd"
    subprocess.run([compiler, "-O2", "-o", str(crowd), str(SOURCE)], check=True)
    return crowd


def _p99_ms(crowd: Path, mode: str, port: int, path: str) -> float:
    command = [str(crowd), mode, str(port), path, str(CLIENTS), str(ROUNDS)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return quantiles([int(line.split()[0]) for line in told], n=100)[98] / 1000
