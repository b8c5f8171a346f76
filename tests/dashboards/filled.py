"""Two simulated nodes with a finding and an XID, in real stores; and Grafana's variables put into queries."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.simulated.scenario import parse_simulation
from agent.store import Series, Store
from agent.tally import DAY_MS, HOUR_MS
from dashboards.outline import Board, Config, Panel, Query
from dashboards.recorded import ALL, HOUR, MINUTE
from exporters import line_protocol, remote_write
from exporters.rows import GPU, Row
from gputally import demo
from gputally.settings import NodeSettings
from tests.dashboards.ailing import agents, ailing
from tests.exporters.simulated import SETTINGS
from tests.reports import fleet
from tests.stores.prometheus import Prometheus, prometheus
from tests.stores.victoria import Victoria, victoria

NODES = {"n1": ("h200x8:mixed", "train"), "n2": ("h100x4:mixed", "serve")}
MINUTE_MS = 60_000
LENGTH_MS = 2 * HOUR_MS
END_MS = 1_789_380_000_000
"""Monday 14 September 2026, 10:00 UTC: no GPU changed its state for a while."""
LONG_AGO_MS = 9 * DAY_MS
"""Before the end: when a GPU was there for some hours, and never again."""
SPANS = {MINUTE: (LENGTH_MS, MINUTE_MS), HOUR: (LONG_AGO_MS + DAY_MS, HOUR_MS)}
ALL_OF_IT = ".*"
_TIMES = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}


class Filled(NamedTuple):
    """Rows as nodes pushed them, and the moment at which dashboards are looked at."""

    rows: Sequence[Row]
    end_ms: int

    def latest(self, field: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Give the last value of a field of GPUs, by labels."""
        return {labels: value for labels, (_, value) in self.until(field, self.end_ms).items()}

    def until(self, field: str, at_ms: int) -> dict[tuple[tuple[str, str], ...], tuple[int, float]]:
        """Give the last value of a field of GPUs up to a moment, and when it was told, by labels."""
        found = {}
        for row in self.rows:
            if row.measurement == GPU and row.at_ms <= at_ms:
                for name, value in row.fields:
                    if name == field:
                        found[row.labels] = row.at_ms, float(value)
        return found

    @property
    def uuid(self) -> str:
        """The GPU that has a finding."""
        return dict(self.rows[0].labels)["uuid"]


def made(folder: Path) -> Filled:
    """Let the nodes write their journals; add a finding and an XID of the first GPU."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(demo, "now_ms", lambda: END_MS)
        return _made(folder)


def _made(folder: Path) -> Filled:
    rows: list[Row] = []
    for name, (simulation, pool) in NODES.items():
        path = folder / f"{name}.db"
        demo.back_fill(
            parse_simulation(simulation), replace(SETTINGS, node=NodeSettings(name=name)), path, LENGTH_MS
        )
        for batch in fleet.rows(path, {"cluster": "c1", "pool": pool}):
            rows += batch
    end_ms = max(row.at_ms for row in rows)
    who = rows[0].labels[:6]
    for minute in range(60):
        at_ms = end_ms - minute * MINUTE_MS
        opened = (*who, ("rule", "thermal_margin_low"), ("severity", "warning"))
        rows.append(Row(GPU, opened, (("finding", 1.0),), at_ms))
        times = 2.0 if minute < 30 else float(minute < 59)
        rows.append(Row(GPU, (*who, ("xid", "79")), (("xid_errors_total", times),), at_ms))
        told = end_ms / 1000 - (30 * 60 if minute < 30 else 90 * 60)
        rows.append(Row(GPU, (*who, ("xid", "79")), (("xid_last_timestamp_seconds", told),), at_ms))
    return Filled([*ailing(rows, end_ms), *agents(end_ms)], end_ms)


@contextmanager
def stores(filled: Filled, spans: Mapping[str, tuple[int, int]] = SPANS) -> Iterator[Mapping[str, Store]]:
    """Push the rows to a VictoriaMetrics and a Prometheus; the first also has what is recorded of them."""
    parts = [filled.rows[first : first + 2000] for first in range(0, len(filled.rows), 2000)]
    with victoria() as one, prometheus(out_of_order="1000h") as two:
        for part in parts:
            one.write_lines(line_protocol.encode(part)).good()
            two.write_remote(remote_write.encode(part), remote_write.HEADERS).good()
        one.ask("GET", "/internal/force_flush").good()
        record(one, filled.end_ms, spans)
        with closing(_store(one)) as first, closing(_store(two)) as second:
            yield {"victoria": first, "prometheus": second}


def _store(server: Victoria | Prometheus) -> Store:
    return Store(server.url, longest=1 << 28)


def record(server: Victoria, end_ms: int, spans: Mapping[str, tuple[int, int]] = SPANS) -> None:
    """Write what the recording rules would have written: each at its interval, while there were GPUs.

    `spans` are length and step in ms by interval.
    """
    lines = []
    with closing(_store(server)) as store:
        for one in ALL:
            length_ms, step_ms = spans[one.interval]
            for told in store.steps(one.full(Config()), end_ms - length_ms, end_ms, step_ms):
                times, values = zip(*told.samples, strict=True)
                metric = {"__name__": one.name, **told.labels}
                lines.append(json.dumps({"metric": metric, "timestamps": times, "values": values}))
    server.ask("POST", "/api/v1/import", "\n".join(lines).encode()).good()
    server.ask("GET", "/internal/force_flush").good()


def filled_in(expr: str, chosen: Mapping[str, str]) -> str:
    """Put values of variables into an expression, as Grafana does; those of time may be chosen as well."""
    for name, text in _TIMES.items():
        expr = expr.replace(name, chosen.get(name.removeprefix("$"), text))
    expr = re.sub(r"\$(\w+)", lambda found: chosen.get(found[1], ALL_OF_IT), expr)
    assert "$" not in expr
    return expr


def chosen_of(board: Board, filled: Filled) -> dict[str, str]:
    """Choose the first node or GPU where a dashboard is about one, else all."""
    one = {"node": "n1", "uuid": filled.uuid}
    return {
        variable.name: ALL_OF_IT if variable.every else one[variable.name] for variable in board.variables
    }


def asked(store: Store, query: Query, chosen: Mapping[str, str], end_ms: int) -> list[Series]:
    """Ask as Grafana does: for the end, or for an hour in steps."""
    expr = filled_in(query.expr, chosen)
    if query.instant:
        return [Series(one.labels, [(end_ms, one.value)]) for one in store.values(expr, end_ms)]
    return store.steps(expr, end_ms - HOUR_MS, end_ms, MINUTE_MS)


def panel_of(board: Board, title: str) -> Panel:
    """Find a panel."""
    return next(panel for panel in board.panels if panel.title == title)
