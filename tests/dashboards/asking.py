"""Asking a panel as a user looks at it: one value at the end of the time for each series, by its labels."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.store import Store
from dashboards.outline import Board, Config, Query
from tests.dashboards.filled import Filled, asked, panel_of

RECORDED, PLAIN = Config(), Config(recorded=False)
WAYS = [("victoria", PLAIN), ("prometheus", PLAIN), ("victoria", RECORDED)]
IDS = ["victoria", "prometheus", "victoria, recorded"]
Told = dict[tuple[str, ...], float]


class Looker(NamedTuple):
    """Looks at a dashboard at a moment, with what is chosen at its top."""

    store: Store
    board: Board
    at_ms: int
    chosen: Mapping[str, str] = {}

    def columns(self, title: str, *labels: str) -> list[Told]:
        """Give what each query of a panel tells, by some labels; none may tell the same twice."""
        return [self._told(query, labels) for query in panel_of(self.board, title).queries]

    def told(self, title: str, *labels: str) -> Told:
        """Give what a panel of one query tells."""
        (only,) = self.columns(title, *labels)
        return only

    def one(self, title: str) -> float | None:
        """Give the figure of a stat; None where it has none."""
        return self.told(title).get(())

    def _told(self, query: Query, labels: Sequence[str]) -> Told:
        found: Told = {}
        for series in asked(self.store, query, self.chosen, self.at_ms):
            at_ms, value = series.samples[-1]
            key = tuple(series.labels.get(label, "") for label in labels)
            assert key not in found, (query.expr, key)
            if at_ms == self.at_ms:
                found[key] = value
        return found


def by(filled: Filled, field: str, *labels: str) -> Told:
    """Give the last value of a field of GPUs, by some of their labels."""
    return {
        tuple(dict(told).get(label, "") for label in labels): value
        for told, value in filled.latest(field).items()
    }
