"""What a store holds of a fleet that it scrapes: pages as they stood, at the scraper's own times."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from exporters.rows import GPU, Row
from tests.reports import fleet
from tests.reports.fleet import START_MS, STEP_MS, Node

Labels = tuple[tuple[str, str], ...]
Columns = Mapping[Labels, tuple[list[int], list[float]]]
"""Times and values of each series, whose name is a label as in an import of VictoriaMetrics."""


class Scraper(NamedTuple):
    """Who scrapes: how often, how long after the full minute, and what it adds to all that it writes."""

    every_ms: int
    offset_ms: int
    labels: Labels = ()


def scrape(
    node: Node, paths: Iterable[Path], scraper: Scraper, addresses: Sequence[str], from_ms: int
) -> Columns:
    """Scrape a node from a moment on; each of its journals is of an agent with an address of its own.

    An agent that is away answers nothing. After it was started its page is empty until its first tick.
    """
    found: defaultdict[Labels, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for path, address in zip(paths, addresses, strict=False):
        target = (("job", "gputally"), ("instance", address), *scraper.labels)
        page: dict[Labels, float] = {}
        for end_ms, rows in _ticks(path):
            page.update(_shown(rows))
            page[("__name__", "gputally_tick_end_timestamp_seconds"),] = end_ms / 1000
            if end_ms < from_ms or not node.looks((end_ms - START_MS) // STEP_MS):
                continue
            late_ms = (scraper.offset_ms - end_ms) % scraper.every_ms
            for at_ms in range(end_ms + late_ms, end_ms + STEP_MS, scraper.every_ms):
                for labels, value in page.items():
                    times, values = found[(*labels, *target)]
                    times.append(at_ms)
                    values.append(value)
    return found


def _ticks(path: Path) -> Iterator[tuple[int, list[Row]]]:
    rows = (row for batch in fleet.rows(path, {"pool": "a"}) for row in batch)
    for end_ms, several in groupby(rows, key=lambda row: row.at_ms):
        yield end_ms, list(several)


def _shown(rows: Iterable[Row]) -> Iterator[tuple[Labels, float]]:
    read = (
        "info",
        "up",
        "mig_mode_flag",
        "tally_seconds_total",
        "tally_joules_total",
        "tally_busy_seconds_total",
    )
    for row in rows:
        if row.measurement == GPU:
            for name, value in row.fields:
                if name in read:
                    yield (("__name__", f"gpu_{name}"), *row.labels), value


def lines(columns: Columns, outages: Iterable[tuple[int, int]] = ()) -> bytes:
    """Write an import of VictoriaMetrics, without what came while the store was away."""
    told = []
    for labels, (times, values) in columns.items():
        kept = [
            (at_ms, value)
            for at_ms, value in zip(times, values, strict=True)
            if not any(first <= at_ms < last for first, last in outages)
        ]
        if kept:
            told.append(
                json.dumps(
                    {
                        "metric": dict(labels),
                        "timestamps": [at_ms for at_ms, _ in kept],
                        "values": [value for _, value in kept],
                    }
                )
            )
    return "\n".join(told).encode()
