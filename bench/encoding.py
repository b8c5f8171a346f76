"""How fast rows become bytes, beside influxdb-client's Point objects: the same rows, in turns, on one core.

The rows are ten minutes of a node of 8 GPUs: per GPU and tick one row of 80 figures and 60 small ones.
"""

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from statistics import median
from typing import Any, NamedTuple

from influxdb_client.client.write.point import Point
from influxdb_client.domain.write_precision import WritePrecision

from agent.quantities import QUANTITIES
from exporters import line_protocol, remote_write
from exporters.rows import GPU, Row

GPUS, TICKS, TICK_MS, FIGURES, SMALL, RUNS = 8, 60, 10_000, 80, 60, 5
START_MS = 1_790_000_000_000
LINES_PROMISED, REMOTE_PROMISED = 2.5, 0.8
MILLION = 1_000_000


class Speeds(NamedTuple):
    """Million values per second of processor time; what is `over` is by how much faster than the points."""

    points: float
    lines: float
    remote: float
    lines_over: float
    remote_over: float


def rows() -> list[Row]:
    """Make the rows, the same each time."""
    chance = random.Random(8)  # noqa: S311  figures, not secrets
    names = list(islice(QUANTITIES, FIGURES))
    parts = [
        (("part", f"part {number // 3}"), ("owner", f"lab {number % 3}")) for number in range(SMALL)
    ]  # as links, fans, states and owners are told
    made = []
    for tick in range(TICKS):
        at_ms = START_MS + tick * TICK_MS
        for gpu in range(GPUS):
            labels = (
                ("node", "node-0001"),
                ("gpu", str(gpu)),
                ("uuid", f"GPU-5f0c3a1e-7d42-11ee-b962-0242ac12000{gpu}"),
                ("model", "NVIDIA H200"),
                ("cluster", "west"),
            )
            made.append(Row(GPU, labels, tuple((name, _figure(name, tick, chance)) for name in names), at_ms))
            for number, extra in enumerate(parts):
                fields = tuple((name, _figure(name, tick, chance)) for name in names[: 1 + number % 3])
                made.append(Row(GPU, (*labels, *extra), fields, at_ms))
    return made


def _figure(name: str, tick: int, chance: random.Random) -> float:
    """Give a figure as long as such figures are: ratios have 16 digits, bytes are whole."""
    if name.endswith("_ratio"):
        return chance.random()
    if name.endswith("_total"):
        return tick * 1234.567 + chance.random()
    if name.endswith("_bytes"):
        return float(chance.randrange(141 * 2**30))
    return chance.choice((0.0, float(chance.randrange(2000)), round(chance.random() * 700, 3)))


def as_points(some: list[Row]) -> bytes:
    """Encode as influxdb-client does."""
    make: Callable[[str], Any] = Point  # has no types
    lines = []
    for measurement, labels, fields, at_ms in some:
        point = make(measurement)
        for name, text in labels:
            point = point.tag(name, text)
        for name, value in fields:
            point = point.field(name, value)
        lines.append(point.time(at_ms, WritePrecision.MS).to_line_protocol())
    return "\n".join(lines).encode()


def speeds(runs: int = RUNS) -> Speeds:
    """Measure in turns, so that a machine that is busy for a while is so for all three; give medians."""
    some = rows()
    values = sum(len(row.fields) for row in some)
    encoders: tuple[Callable[[list[Row]], bytes], ...] = (
        as_points,
        line_protocol.encode,
        remote_write.encode,
    )
    for encode in encoders:
        encode(some[: len(some) // TICKS])
    turns = [[values / _seconds(encode, some) / MILLION for encode in encoders] for _ in range(runs)]
    points, lines, remote = (median(column) for column in zip(*turns, strict=True))
    return Speeds(
        points,
        lines,
        remote,
        median(turn[1] / turn[0] for turn in turns),
        median(turn[2] / turn[0] for turn in turns),
    )


def _seconds(encode: Callable[[list[Row]], bytes], some: list[Row]) -> float:
    began = time.process_time()
    encode(some)
    return time.process_time() - began


def figures(runs: int = RUNS) -> Iterator[tuple[str, str, str]]:
    """Give what was measured, its figure, and what was promised."""
    found = speeds(runs)
    yield "influxdb-client's points, million values per second", f"{found.points:.2f}", ""
    yield (
        "line protocol, million values per second (over points)",
        f"{found.lines:.2f} ({found.lines_over:.1f})",
        f"at least {LINES_PROMISED} of points",
    )
    yield (
        "remote write, million values per second (over points)",
        f"{found.remote:.2f} ({found.remote_over:.1f})",
        f"at least {REMOTE_PROMISED} of points",
    )
