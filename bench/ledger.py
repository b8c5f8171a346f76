"""A report on a large fleet out of one VictoriaMetrics: a week of accounts, a point each five minutes.

The store is filled by its import of JSON lines. Accounts follow a day of work, pauses, idle and free hours,
shifted from GPU to GPU; what is measured is how long the report takes and how much memory, not what it says.
"""

import json
import resource
import time
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

from agent.store import Store
from agent.tally import HOUR_MS
from reports.from_ledger import gather_from
from reports.prom_ledger import PromLedger
from reports.report import Report, build
from reports.window import Window

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
    """What a report took: seconds, the peak of the process in MB."""

    seconds: float
    megabytes: float
    report: Report


def taken(url: str, first_ms: int) -> Taken:
    """Make a report."""
    window = Window(from_ms=first_ms, to_ms=first_ms + 7 * 24 * HOUR_MS, label="the week")
    began = time.monotonic()
    ledger = PromLedger(Store(url, longest=1 << 28), "pool")
    drawn = gather_from(ledger, window, now_ms=window.to_ms + 2 * HOUR_MS)
    report = build(drawn.gathered, window, now_ms=window.to_ms)
    seconds = time.monotonic() - began
    return Taken(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, report)
