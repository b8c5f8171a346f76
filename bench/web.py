"""How long a scrape of /metrics takes while 50 clients scrape: a whole agent of 8 simulated GPUs answers.

The clients run in this process, in one thread, so that they wait for the agent and not for each other.
"""

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

from bench.latency import _port as port_of

CLIENTS = 50
ROUNDS = 20
EVERY_SECONDS = 1.0
START_SECONDS = 60.0
_REQUEST = (
    b"GET %b HTTP/1.1\r\nHost: bench\r\nUser-Agent: Prometheus/3.5.0\r\nAccept-Encoding: gzip\r\n"
    b"Accept: application/openmetrics-text;version=1.0.0\r\n\r\n"
)
"""As Prometheus asks."""

_GPUS_SHOWN = 5_000
"""Bytes of the compressed page beyond which it shows GPUs."""


class Scrapes(NamedTuple):
    """Percentile 99 of a scrape in milliseconds, and the size of the page.

    `p99_ms` is of 50 clients that each scrape once a second at a time of their own; `burst_p99_ms` is of 50
    that all connect in the same instant.
    """

    p99_ms: float
    burst_p99_ms: float
    page_bytes: int


def scrapes(folder: Path, path: str = "/metrics") -> Scrapes:
    """Start an agent whose journal lies in a folder, and measure."""
    command = [sys.executable, "-m", "gputally", "run", "--simulate", "h200x8", "--port", "0"]
    command += ["--journal", str(folder / "web.db")]
    environment = {**os.environ, "GPUTALLY_NODE_KERNEL_LOG": ""}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as agent:
        try:
            port = port_of(agent)
            return asyncio.run(measure(port, path))
        finally:
            agent.terminate()


async def measure(port: int, path: str) -> Scrapes:
    """Measure a server that runs, once its page shows GPUs."""
    end = time.monotonic() + START_SECONDS
    size = 0
    while size < _GPUS_SHOWN:
        if time.monotonic() > end:
            raise RuntimeError(f"{path} shows no GPUs")
        await asyncio.sleep(0.2)
        _, size = await _scrape(port, path)
    spread = random.Random(6)  # noqa: S311
    starts = [spread.uniform(0, EVERY_SECONDS) for _ in range(CLIENTS)]
    apart = await asyncio.gather(*(_client(port, path, start) for start in starts))
    together: list[float] = []
    for _ in range(ROUNDS):
        together += [took for took, _ in await asyncio.gather(*(_scrape(port, path) for _ in range(CLIENTS)))]
        await asyncio.sleep(0.2)
    return Scrapes(_p99_ms([took for client in apart for took in client]), _p99_ms(together), size)


async def _client(port: int, path: str, start: float) -> list[float]:
    await asyncio.sleep(start)
    took = []
    for _ in range(ROUNDS):
        seconds, _ = await _scrape(port, path)
        took.append(seconds)
        await asyncio.sleep(max(0.0, EVERY_SECONDS - seconds))
    return took


async def _scrape(port: int, path: str) -> tuple[float, int]:
    """Give the seconds from connecting to the last byte, and the bytes."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        began = time.perf_counter()
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, _REQUEST % path.encode())
        page = b""
        while more := await loop.sock_recv(client, 1 << 18):
            page += more
        took = time.perf_counter() - began
    if not page.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"not served: {page[:40]!r}")
    return took, len(page)


def _p99_ms(seconds: list[float]) -> float:
    return quantiles(seconds, n=100)[98] * 1000
