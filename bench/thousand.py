"""A thousand nodes push into one store: 8 simulated GPUs each, a tick each 10 s, spread over the interval.

One node's rows are made once and written as line protocol; of each node only the name, the UUIDs and the
moment differ. What is measured is the store and the shape of the load, not the agents.
"""

import queue
import threading
import time
import urllib.request
from statistics import median
from typing import NamedTuple

import psutil

from agent.clock import now_ms
from agent.simulated.scenario import parse_simulation
from exporters.line_protocol import encode
from exporters.rows import GPU, Row

NODES = 1_000
INTERVAL_SECONDS = 10.0
WORKERS = 4
_NODE, _MOMENT = "node-00000", 1_000_000_000_000


class Load(NamedTuple):
    """What came of it: values a second, lag from a tick's end to the store's answer, the store's memory."""

    values_per_second: float
    lag_ms: float
    worst_lag_ms: float
    late: int
    store_megabytes: float


def _template() -> tuple[bytes, int]:
    """Write one node's tick; give it and how many values it has."""
    simulation, rows = parse_simulation("h200x8:training"), []
    for index in range(8):
        gpu = simulation.gpu(index)
        reading = simulation.reading(index, _MOMENT - 10_000, _MOMENT)
        labels = (
            ("node", _NODE),
            ("gpu", str(index)),
            ("uuid", f"GPU-{_NODE}-{index}"),
            ("model", gpu.model),
        )
        known = {name: value for name, value in vars(reading).items() if isinstance(value, float)}
        rows.append(Row(GPU, labels, tuple(sorted(known.items())), _MOMENT))
        for state in ("active", "held_idle", "free"):
            figures = (("tally_seconds_total", 12_345.0), ("tally_joules_total", 6.789e6))
            rows.append(Row(GPU, (*labels, ("state", state)), figures, _MOMENT))
    return encode(rows), sum(len(row.fields) for row in rows)


def push(url: str, pid: int, seconds: float, nodes: int = NODES) -> Load:
    """Push for so long; `pid` is the store's process."""
    body, values = _template()
    due: queue.Queue[tuple[float, int] | None] = queue.Queue()
    lags: list[float] = []
    workers = [threading.Thread(target=_work, args=(url, body, due, lags)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    began = time.monotonic()
    rounds = max(1, round(seconds / INTERVAL_SECONDS))
    for turn in range(rounds):
        for node in range(nodes):
            at = began + turn * INTERVAL_SECONDS + node / nodes * INTERVAL_SECONDS
            time.sleep(max(0.0, at - time.monotonic()))
            due.put((at, node))
    for _ in workers:
        due.put(None)
    for worker in workers:
        worker.join()
    spent = time.monotonic() - began
    return Load(
        values_per_second=values * len(lags) / spent,
        lag_ms=median(lags) * 1000,
        worst_lag_ms=max(lags) * 1000,
        late=sum(lag > INTERVAL_SECONDS for lag in lags),
        store_megabytes=psutil.Process(pid).memory_info().rss / 1e6,
    )


def _work(url: str, body: bytes, due: "queue.Queue[tuple[float, int] | None]", lags: list[float]) -> None:
    while (one := due.get()) is not None:
        at, node = one
        told = body.replace(_NODE.encode(), f"node-{node:05d}".encode())
        told = told.replace(str(_MOMENT).encode(), str(now_ms()).encode())
        request = urllib.request.Request(f"{url}/write?precision=ms", data=told, method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310  our own address
            lags.append(time.monotonic() - at)
