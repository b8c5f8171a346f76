"""How long dashboards take to ask: every query of every dashboard at `All`, on a large fleet, for six hours.

The store has what nodes push in a quarter of an hour, and what the recording rules made of it for as long as
dashboards ask. Nodes are copies of one, with their own names, owners and moments.
"""

import contextlib
import json
import re
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from agent.books import Books
from agent.clock import now_ms
from agent.journal import Journal, JournalSettings
from agent.journal_file import connect
from agent.simulated.scenario import parse_simulation
from agent.states import StateSettings
from agent.store import Store
from agent.tally import HOUR_MS
from agent.tick import Tick
from dashboards.build import boards
from dashboards.outline import Board, Config, Query
from dashboards.recorded import ALL, MINUTE
from exporters.catalogue import FAMILIES
from exporters.history import History
from exporters.rows import GPU, Row

MINUTE_MS = 60_000
TOLD_MINUTES = 16
NODE_GPUS = 8
OWNERS = 60
"""Times that the owners of the node are named anew: some hundred owners in all."""
STEP_MS = 30_000
"""Between two points of a drawing of six hours, some 800 pixels wide."""
SHOWN_MS = 6 * HOUR_MS
HISTORY_MS = {MINUTE: SHOWN_MS + HOUR_MS, "1h": 35 * 24 * HOUR_MS}
"""For how long there is what is recorded each minute, and each hour."""
_NAME = re.compile(r"\b(?:gpu_|gputally_)[a-z0-9_]+")
_TIMES = {"$__rate_interval": "5m", "$__interval": "30s"}
_BATCH = 4000


class Asked(NamedTuple):
    """A query, and how long it took in the median."""

    board: str
    panel: str
    seconds: float
    series: int


def fill(url: str, gpus: int, folder: Path) -> int:
    """Push the fleet and what is recorded of it; give the end of it in ms."""
    end_ms = now_ms() // MINUTE_MS * MINUTE_MS
    wanted = _names()
    template = [row for row in _told(folder / "node.db", end_ms) if row.measurement == GPU]
    _import(url, _copies(template, gpus // NODE_GPUS, wanted))
    _import(url, _own(gpus // NODE_GPUS, wanted, end_ms))
    _flush(url)
    with contextlib.closing(Store(url, longest=1 << 30)) as store:
        _import(url, _recorded(store, end_ms))
    _flush(url)
    return end_ms


def slowest(url: str, end_ms: int, runs: int = 3) -> list[Asked]:
    """Ask everything; give the slowest first. Raises StoreError for a query that fails."""
    found = []
    with contextlib.closing(Store(url, longest=1 << 30)) as store:
        for board in boards(Config()):
            for panel in board.panels:
                for query in panel.queries:
                    expr = _filled_in(query.expr, board, store, end_ms)
                    took = [_ask(store, query, expr, end_ms) for _ in range(runs)]
                    seconds = median(one for one, _ in took)
                    found.append(Asked(board.name, panel.title, seconds, took[0][1]))
    return sorted(found, key=lambda one: -one.seconds)


def _names() -> frozenset[str]:
    """Name the series that dashboards and recording rules ask for."""
    texts = [query.expr for board in boards(Config()) for panel in board.panels for query in panel.queries]
    texts += [one.full(Config()) for one in ALL]
    return frozenset(name for text in texts for name in _NAME.findall(text))


def _told(journal_path: Path, end_ms: int) -> Iterator[Row]:
    """Let one node run, and give what it would push."""
    simulation = parse_simulation(f"h200x{NODE_GPUS}:mixed")
    gpus = tuple(simulation.gpu(index) for index in range(NODE_GPUS))
    journal = Journal(journal_path, JournalSettings(sync="normal"), now_ms())
    soon = StateSettings(patience_batch_seconds=120.0, patience_serving_seconds=300.0)
    books = Books(journal, soon, node="node")
    for number in range(TOLD_MINUTES):
        start_ms = end_ms - (TOLD_MINUTES - number) * MINUTE_MS
        readings = tuple(
            simulation.reading(index, start_ms, start_ms + MINUTE_MS) for index in range(NODE_GPUS)
        )
        tick = Tick(node="node", start_ms=start_ms, end_ms=start_ms + MINUTE_MS, readings=readings, gpus=gpus)
        books.post(tick, {})
    books.commit(end_ms)
    journal.close()
    with contextlib.closing(connect(journal_path)) as db:
        history = History(db, 0, {})
        while ticks := history.ticks(200):
            for _, rows in ticks:
                yield from rows


def _copies(template: Iterable[Row], nodes: int, wanted: frozenset[str]) -> Iterator[str]:
    """Give each series of the node, once for each node, as lines of VictoriaMetrics' import."""
    series: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[int, float]]] = {}
    for row in template:
        for name, value in row.fields:
            whole = f"{row.measurement}_{name}"
            if whole in wanted:
                series.setdefault((whole, row.labels), []).append((row.at_ms, value))
    told = [(name, dict(labels), points) for (name, labels), points in series.items()]
    for node in range(nodes):
        place = {"node": f"node-{node:04}", "cluster": f"c{node % 2}", "pool": f"pool{node % 4}"}
        for name, labels, points in told:
            own = labels | place | {"__name__": name, "uuid": f"{labels['uuid']}-{node:04}"}
            if "owner" in own:
                own["owner"] = f"{own['owner']}-{node % OWNERS}"
            times, values = zip(*points, strict=True)
            yield json.dumps({"metric": own, "timestamps": times, "values": values})


def _own(nodes: int, wanted: frozenset[str], end_ms: int) -> Iterator[str]:
    """Give what each agent tells of itself; each of its labels has one value."""
    times = [end_ms - minute * MINUTE_MS for minute in reversed(range(TOLD_MINUTES))]
    for name in sorted(wanted):
        family = FAMILIES.get(name)
        if not name.startswith("gputally_") or family is None:
            continue
        values = [float(minute * 6) for minute in range(TOLD_MINUTES)]
        if name.endswith("timestamp_seconds"):
            values = [at_ms / 1000 for at_ms in times]
        for node in range(nodes):
            place = {"job": "gputally", "instance": f"node-{node:04}:9740"}
            place |= {"cluster": f"c{node % 2}", "pool": f"pool{node % 4}", "__name__": name}
            own = place | dict.fromkeys(family.labels, "one") | {"node": f"node-{node:04}"}
            yield json.dumps({"metric": own, "timestamps": times, "values": values})


def _recorded(store: Store, end_ms: int) -> Iterator[str]:
    """Give what the rules would have recorded: what they say now, all the time."""
    for one in ALL:
        step_ms = MINUTE_MS if one.interval == MINUTE else HOUR_MS
        last_ms = end_ms // step_ms * step_ms
        times = list(range(last_ms - HISTORY_MS[one.interval], last_ms + 1, step_ms))
        for told in store.values(one.full(Config()), end_ms):
            metric = {**told.labels, "__name__": one.name}
            yield json.dumps({"metric": metric, "timestamps": times, "values": [told.value] * len(times)})


def _import(url: str, lines: Iterable[str]) -> None:
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _BATCH:
            _post(f"{url}/api/v1/import", batch)
            batch = []
    if batch:
        _post(f"{url}/api/v1/import", batch)


def _post(url: str, lines: Sequence[str]) -> None:
    asked = urllib.request.Request(url, data="\n".join(lines).encode())  # noqa: S310  our own address
    with urllib.request.urlopen(asked):  # noqa: S310
        pass


def _flush(url: str) -> None:
    with urllib.request.urlopen(f"{url}/internal/force_flush"):  # noqa: S310  our own address
        pass


def _filled_in(expr: str, board: Board, store: Store, end_ms: int) -> str:
    """Put in `All`, or the first that there is, and the time that the dashboard opens with."""
    for name, text in {**_TIMES, "$__range": board.since.removeprefix("now-")}.items():
        expr = expr.replace(name, text)
    chosen: Mapping[str, str] = {one.name: ".*" for one in board.variables if one.every}
    for one in board.variables:
        if not one.every and f"${one.name}" in expr:
            (first, *_) = store.values(f"topk(1, gpu_up) by ({one.name})", end_ms)
            chosen = {**chosen, one.name: first.labels[one.name]}
    return re.sub(r"\$(\w+)", lambda found: chosen.get(found[1], ".*"), expr)


def _ask(store: Store, query: Query, expr: str, end_ms: int) -> tuple[float, int]:
    """Ask once; give seconds and how many series there are."""
    began = time.perf_counter()
    if query.instant:
        count = len(store.values(expr, end_ms))
    else:
        count = len(store.steps(expr, end_ms - SHOWN_MS, end_ms, STEP_MS))
    return time.perf_counter() - began, count
