"""A VictoriaMetrics with a day of two simulated nodes and all that may be wrong with them, and one of weeks.

The tests' own fleets are taken: nodes that fail for every dashboard, five planned weeks for the planner.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.store import Store
from agent.tally import HOUR_MS
from dashboards.recorded import HOUR, MINUTE
from exporters import line_protocol
from exporters.rows import GPU, Row
from tests.dashboards import ailing, filled, planned
from tests.dashboards.filled import MINUTE_MS, Filled
from tests.stores.victoria import victoria

HOURS = 25
"""So long the nodes run: the longest dashboard but the planner shows 24 hours."""
PLANNER = "planner"
_DAY = {MINUTE: (HOURS * HOUR_MS, MINUTE_MS), HOUR: (filled.LONG_AGO_MS, HOUR_MS)}
_WEEKS = {MINUTE: (7 * 24 * HOUR_MS, 10 * MINUTE_MS), HOUR: (planned.HOURS * HOUR_MS, HOUR_MS)}
_HEARD = 8, 3
"""Hours before the end between which the node that is silent now was heard of."""
_BATCH = 4000


class Fleet(NamedTuple):
    """A store, the moment at which it is looked at, and what to choose where only one can be."""

    store: Store
    at_ms: int
    wanted: Mapping[str, str]


@contextmanager
def fleets(names: Iterable[str]) -> Iterator[Mapping[str, Fleet]]:
    """Fill what the named dashboards need; give the fleet of each."""
    found: dict[str, Fleet] = {}
    with ExitStack() as stack:
        for is_planner, make, spans in ((False, _day, _DAY), (True, planned.planned, _WEEKS)):
            looked = [name for name in names if (name == PLANNER) is is_planner]
            if looked:
                found |= dict.fromkeys(looked, stack.enter_context(_fleet(make(), spans)))
        yield found


@contextmanager
def _fleet(told: Filled, spans: Mapping[str, tuple[int, int]]) -> Iterator[Fleet]:
    """Push rows to a store of their own, and what is recorded of them."""
    with victoria() as server:
        for first in range(0, len(told.rows), _BATCH):
            server.write_lines(line_protocol.encode(told.rows[first : first + _BATCH])).good()
        server.ask("GET", "/internal/force_flush").good()
        filled.record(server, told.end_ms, spans)
        labels = dict(told.rows[0].labels)
        with closing(Store(server.url, longest=1 << 28)) as store:
            yield Fleet(store, told.end_ms, {name: labels[name] for name in ("node", "uuid")})


def _day() -> Filled:
    """Let the tests' nodes run for longer, with what is wrong at the same distance from the end."""
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as folder:
        patched.setattr(filled, "LENGTH_MS", HOURS * HOUR_MS)
        patched.setattr(ailing, "MINUTES", HOURS * 60)
        told = filled.made(Path(folder))
        return told._replace(rows=[*told.rows, *_silent(told)])


def _silent(told: Filled) -> Iterator[Row]:
    """Give a third node, like the second one, that was heard of for some hours and is not now."""
    first_ms, last_ms = (told.end_ms - hours * HOUR_MS for hours in _HEARD)
    for row in told.rows:
        labels = dict(row.labels)
        if row.measurement == GPU and labels["node"] == "n2" and first_ms <= row.at_ms < last_ms:
            own = {**labels, "node": "n3", "uuid": f"{labels['uuid'][:-1]}x"}
            yield row._replace(labels=tuple(own.items()))
