"""Catching up: a day of an 8-GPU node, 8 640 ticks, from the journal into a real VictoriaMetrics."""

import contextlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from agent.books import Books
from agent.clock import now_ms
from agent.journal import Journal, JournalSettings
from agent.simulated.scenario import parse_simulation
from agent.states import StateSettings
from agent.tick import Tick
from exporters.destination import ExporterSettings
from exporters.fleet import shipment_of
from exporters.shipper import IDLE_SECONDS, Shipper

TICK_MS = 10_000
TICKS = 8_640


def write_day(path: Path) -> None:
    """Write a day of ticks."""
    simulation = parse_simulation("h200x8:demo")
    gpus = tuple(simulation.gpu(index) for index in range(8))
    journal = Journal(path, JournalSettings(sync="normal"), now_ms())
    books = Books(journal, StateSettings(), node="bench")
    end_ms = now_ms() // TICK_MS * TICK_MS
    for number in range(TICKS):
        start_ms = end_ms - (TICKS - number) * TICK_MS
        readings = tuple(simulation.reading(index, start_ms, start_ms + TICK_MS) for index in range(8))
        tick = Tick(node="bench", start_ms=start_ms, end_ms=start_ms + TICK_MS, readings=readings, gpus=gpus)
        books.post(tick, {})
        if number % 500 == 499:  # noqa: PLR2004
            books.commit(tick.end_ms)
    books.commit(end_ms)
    journal.close()


@contextlib.contextmanager
def store(*arguments: str) -> Iterator[tuple[str, int]]:
    """Run a VictoriaMetrics; give its address and process, or no address where it is not installed."""
    binary = shutil.which("victoria-metrics")
    if binary is None:
        yield "", 0
        return
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        command = [binary, f"-httpListenAddr={address}", f"-storageDataPath={folder}", "-loggerLevel=ERROR"]
        command += arguments
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                _wait(f"http://{address}/health")
                yield f"http://{address}", server.pid
            finally:
                server.terminate()


def _wait(url: str) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), urllib.request.urlopen(url):  # noqa: S310  our own address
            return
        time.sleep(0.05)
    raise RuntimeError("VictoriaMetrics does not answer")


def catch_up(journal: Path, url: str, kind: str) -> tuple[float, int]:
    """Send a whole journal; give the seconds, and how many values the store took."""
    if kind == "influx1":
        settings = ExporterSettings(name=kind, kind=kind, url=url, database="gpu")
    elif kind == "influx":
        settings = ExporterSettings(name=kind, kind=kind, url=f"{url}/influx", bucket="gpu")
    else:
        settings = ExporterSettings(name=kind, kind=kind, url=f"{url}/api/v1/write")
    before, shipper = _rows(url), Shipper(shipment_of(settings), journal, {})
    began = time.perf_counter()
    while shipper.step() < IDLE_SECONDS:
        pass
    return time.perf_counter() - began, _rows(url) - before


def _rows(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics") as page:  # noqa: S310  our own address
        told = re.findall(r"^vm_rows_inserted_total.* (\d+)$", page.read().decode(), re.MULTILINE)
    return sum(map(int, told))
