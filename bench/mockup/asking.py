"""Puts variables into a panel's targets and asks a store, with Grafana's times, steps and names of series."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from agent.store import Series, Value
from bench.mockup.fields import Json
from bench.mockup.known import StrangeError

SCRAPE_MS = 15_000
"""The interval that Grafana assumes of a Prometheus of which nobody told another one."""
ALL = ".*"
_SPANS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_ROUND: Sequence[tuple[float, int]] = (
    *((1.5, 1), (3.5, 2), (7.5, 5), (12.5, 10), (17.5, 15), (25, 20), (45, 30), (90, 60), (210, 120)),
    *((450, 300), (750, 600), (1050, 900), (1500, 1200), (2700, 1800), (5400, 3600), (9000, 7200)),
    *((16_200, 10_800), (32_400, 21_600), (86_400, 43_200)),
)
"""Below so many seconds a step becomes so many."""


class Source(Protocol):
    """What answers: a store, or a test."""

    def values(self, query: str, at_ms: int) -> list[Value]:
        """Give what an expression is at a moment."""
        ...

    def steps(self, query: str, first_ms: int, last_ms: int, step_ms: int) -> list[Series]:
        """Give what it is at moments."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A dashboard at a moment: what is chosen at its top, and the time shown."""

    source: Source
    chosen: Mapping[str, str]
    from_ms: int
    until_ms: int

    def filled(self, text: str, step_ms: int) -> str:
        """Put variables into a text. Raises StrangeError for one that is not known."""
        length = (self.until_ms - self.from_ms) // 1000
        own = {
            "__interval": f"{step_ms // 1000}s",
            "__rate_interval": f"{max(step_ms + SCRAPE_MS, 4 * SCRAPE_MS) // 1000}s",
            "__range": f"{length}s",
        }

        def put(found: re.Match[str]) -> str:
            name = found[1] or found[2]
            if name not in own and name not in self.chosen:
                raise StrangeError(f"the variable ${name} is not known: {text}")
            return own.get(name) or self.chosen[name]

        return re.sub(r"\$(?:(\w+)|\{(\w+)\})", put, text)


class Line(NamedTuple):
    """A series with its name; points are (ms, value), and what lacks is a gap wider than a step."""

    name: str
    points: Sequence[tuple[int, float]]
    step_ms: int


class Answer(NamedTuple):
    """What one target of a table gave: labels and values."""

    ref: str
    rows: Sequence[Value]


def length_of(since: str) -> int:
    """Read "now-6h" in ms. Raises StrangeError for any other form."""
    found = re.fullmatch(r"now-(\d+)([smhdw])", since)
    if found is None:
        raise StrangeError(f"a dashboard that begins at {since!r} is not known here")
    return int(found[1]) * _SPANS[found[2]]


def step_of(length_ms: int, width: float) -> int:
    """Choose the step for a panel that is so many pixels wide."""
    wanted = max(length_ms / max(width, 1), SCRAPE_MS) / 1000
    return next((step for below, step in _ROUND if wanted < below), 86_400) * 1000


def chosen_at(board: Json, source: Source, at_ms: int, wanted: Mapping[str, str]) -> dict[str, str]:
    """Choose values of all variables: what is wanted, or All, or the first that there is."""
    chosen: dict[str, str] = {}
    for variable in board["templating"]["list"]:
        name = variable["name"]
        if variable["type"] == "datasource":
            continue
        if variable["includeAll"]:
            chosen[name] = wanted.get(name, ALL)
            continue
        view = View(source=source, chosen=chosen, from_ms=at_ms, until_ms=at_ms)
        query = view.filled(variable["query"]["query"], SCRAPE_MS)
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        if found is None:
            raise StrangeError(f"the variable {name} asks {query!r}")
        told = source.values(f"count by ({found[2]}) ({found[1]})", at_ms)
        values = sorted({one.labels.get(found[2], "") for one in told} - {""})
        if not values:
            raise StrangeError(f"the variable {name} has no values: {query}")
        chosen[name] = wanted[name] if wanted.get(name) in values else values[0]
    return chosen


def lines(panel: Json, view: View, width: float) -> list[Line]:
    """Ask the targets of a panel that draws series; instant ones have one point each."""
    length_ms = view.until_ms - view.from_ms
    step_ms = step_of(length_ms, width)
    found: list[tuple[Json, Series]] = []
    for target in panel["targets"]:
        expr = view.filled(target["expr"], step_ms)
        if target["instant"]:
            told = [Series(one.labels, [(view.until_ms, one.value)]) for one in _ordered(view, expr)]
        else:
            first_ms, last_ms = (at_ms // step_ms * step_ms for at_ms in (view.from_ms, view.until_ms))
            told = view.source.steps(expr, first_ms, last_ms, step_ms)
        found += [(target, one) for one in told]
    every = [one.labels for _, one in found]
    return [Line(_name(target, one.labels, every), one.samples, step_ms) for target, one in found]


def answers(panel: Json, view: View) -> list[Answer]:
    """Ask the targets of a table."""
    step_ms = step_of(view.until_ms - view.from_ms, 1000)
    return [
        Answer(target["refId"], _ordered(view, view.filled(target["expr"], step_ms)))
        for target in panel["targets"]
    ]


def _ordered(view: View, expr: str) -> list[Value]:
    """Ask for the end of the time shown. Order is that of the store: `topk` and `sort` are kept."""
    return view.source.values(expr, view.until_ms)


def _name(target: Json, labels: Mapping[str, str], every: Iterable[Mapping[str, str]]) -> str:
    legend = target["legendFormat"]
    if legend == "__auto":
        return _by_labels(labels, every) if labels else target["expr"]
    put = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), legend)
    return put or _by_labels(labels, every)


def _by_labels(labels: Mapping[str, str], every: Iterable[Mapping[str, str]]) -> str:
    """Name a series by its labels: by the value alone where all series have the same single one."""
    names = {name for one in every for name in one}
    if len(names) == 1 and labels:
        return next(iter(labels.values())) or "Value"
    inside = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{{{inside}}}" if inside else "Value"
