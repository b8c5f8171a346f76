"""A report on a large fleet out of one VictoriaMetrics: a week of accounts, a point each five minutes.

The store is filled by its import of JSON lines. Accounts follow a day of work, pauses, idle and free hours,
shifted from GPU to GPU; what is measured is how long the report takes and how much memory, not what it says.
"""

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from agent.tally import HOUR_MS
from reports.window import rfc3339

STEP_MS = 300_000
POINTS = 7 * 24 * HOUR_MS // STEP_MS + 2
OWNERS = 50
SHAPES = 24
_DAY = ("active",) * 14 + ("held_gap",) * 1 + ("held_idle",) * 4 + ("free",) * 5
WATTS = {"active": 600, "held_gap": 120, "held_idle": 120, "free": 70, "unknown": 0}
BATCH_GPUS = 20


class Course(NamedTuple):
    """How the accounts of a GPU grow, as JSON lists; the same for all GPUs of a shape."""

    seconds: dict[str, str]
    joules: dict[str, str]
    busy: str


def courses() -> list[Course]:
    """Make the courses: each begins the day at another hour."""
    found = []
    for shift in range(SHAPES):
        seconds = {state: [1000.0 * (shift + 1)] for state in WATTS}
        for step in range(POINTS - 1):
            now = _DAY[(step * STEP_MS // HOUR_MS + shift) % 24]
            for state, points in seconds.items():
                points.append(points[-1] + (STEP_MS / 1000 if state == now else 0.0))
        joules = {
            state: json.dumps([one * WATTS[state] for one in points]) for state, points in seconds.items()
        }
        busy = json.dumps([one * 0.75 for one in seconds["active"]])
        found.append(Course({state: json.dumps(points) for state, points in seconds.items()}, joules, busy))
    return found


def lines(gpus: int, first_ms: int) -> Iterator[bytes]:
    """Give the fleet as bodies of /api/v1/import, from a step before the week."""
    times = json.dumps([first_ms + (step - 1) * STEP_MS for step in range(POINTS)])
    shapes, body = courses(), []
    for gpu in range(gpus):
        labels = {
            "node": f"node-{gpu // 8:05}",
            "gpu": str(gpu % 8),
            "uuid": f"GPU-{gpu:08x}-1111-2222-3333-444455556666",
            "model": ("NVIDIA H200", "NVIDIA H100 80GB HBM3")[gpu // 8 % 2],
            "pool": ("train", "serve", "research")[gpu // 8 % 3],
        }
        course, owner = shapes[gpu % SHAPES], f"team-{gpu // 8 % OWNERS}"
        for state, points in course.seconds.items():
            who = {**labels, "state": state, **({"owner": owner} if state not in ("free", "unknown") else {})}
            body.append(_line("gpu_tally_seconds_total", who, points, times))
            body.append(_line("gpu_tally_joules_total", who, course.joules[state], times))
        body.append(_line("gpu_tally_busy_seconds_total", {**labels, "owner": owner}, course.busy, times))
        told = {**labels, "serial": f"{gpu:013}", "vbios": "96.00.99.00.01", "driver": "570.86.15"}
        body.append(_line("gpu_info", told, json.dumps([1] * POINTS), times))
        if gpu % BATCH_GPUS == BATCH_GPUS - 1 or gpu == gpus - 1:
            yield "\n".join(body).encode()
            body = []


def _line(name: str, labels: dict[str, str], values: str, times: str) -> str:
    metric = json.dumps({"__name__": name, **labels})
    return f'{{"metric":{metric},"values":{values},"timestamps":{times}}}'


def fill(url: str, gpus: int, first_ms: int) -> float:
    """Fill the store; give the seconds that it took."""
    began = time.monotonic()
    for body in lines(gpus, first_ms):
        request = urllib.request.Request(f"{url}/api/v1/import", data=body, method="POST")  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            answer.read()
    with urllib.request.urlopen(f"{url}/internal/force_flush") as answer:  # noqa: S310
        answer.read()
    return time.monotonic() - began


class Taken(NamedTuple):
    """What a report took, from the start of the command to its end: seconds and megabytes; what it found."""

    seconds: float
    megabytes: float
    gpus: int
    identity_ok: bool


def taken(url: str, first_ms: int, out: Path) -> Taken:
    """Have the command write a report of the week, as JSON or as what the file's name says."""
    week = [rfc3339(first_ms), rfc3339(first_ms + 7 * 24 * HOUR_MS)]
    asked = ["report", "--source", url, "--from", week[0], "--to", week[1], "--out", str(out)]
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", "gputally", *asked], stderr=subprocess.DEVNULL) as command:
        most = 0
        while command.poll() is None:
            with contextlib.suppress(psutil.Error):
                most = max(most, psutil.Process(command.pid).memory_info().rss)
            time.sleep(0.05)
    seconds = time.monotonic() - began
    if out.suffix != ".json":
        return Taken(seconds, most / 1e6, 0, identity_ok=command.returncode == 0)
    told = json.loads(out.read_text(encoding="utf-8"))
    return Taken(seconds, most / 1e6, told["inventory"]["gpus"], told["identity_ok"])
