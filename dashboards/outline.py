"""What a dashboard is, before any of Grafana's types: rows of panels that ask a store in PromQL.

Expressions hold Grafana's variables. `Config` is the one place where a site's own names are told.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["stat", "timeseries", "table", "state_timeline", "bars"]
Language = Literal["promql", "influxql"]
WIDTH = 24
"""Columns of Grafana's grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a site names things. Without `recorded`, dashboards ask for every GPU: fit for some hundred.

    `price` is money for a GPU-hour. In `influxql` there are Fleet, Node and GPU, and nothing is recorded.
    """

    cluster_label: str = "cluster"
    pool_label: str = "pool"
    recorded: bool = True
    price: float = 2.5
    language: Language = "promql"

    def __post_init__(self) -> None:
        for label in (self.cluster_label, self.pool_label):
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label):
                raise ValueError(f"{label!r} cannot be the name of a label: letters, digits and _")
        if self.cluster_label == self.pool_label:
            raise ValueError(f"clusters and pools cannot both be told by the label {self.pool_label}")
        if not 0 <= self.price < math.inf:
            raise ValueError(f"a GPU-hour cannot cost {self.price:g}")

    @property
    def group(self) -> tuple[str, ...]:
        """The labels by which a fleet is summed up."""
        return self.cluster_label, self.pool_label, "model"

    @property
    def of_group(self) -> str:
        """Match what is chosen of a fleet; GPUs without such a label are of `All`."""
        return f'{self.cluster_label}=~"$cluster", {self.pool_label}=~"$pool", model=~"$model"'


class Query(NamedTuple):
    """An expression, and what its series are called; an instant one is of the end of the time shown.

    In a table of several queries each is a column: `legend` is its title, and `unit` its unit if another.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    unit: str = ""


class Step(NamedTuple):
    """From a value on, a colour; the first has no value."""

    value: float | None
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `unit` is Grafana's name of it; `says` tells what a high and a low value mean.

    `quiet` marks one that is empty while nothing is wrong. Stacked series are drawn on top of each other;
    those that are single events, each by itself, as bars.
    `colours` are by the name of a series, and those `dashed` are limits. `labels` are the columns of a table,
    with their titles; rows that have the same labels are one. `value` is the title of its figure, empty to
    hide it; `smallest` puts the least at its top, `by_name` sorts by the first label.
    """

    title: str
    says: str
    kind: Kind
    unit: str
    queries: tuple[Query, ...]
    width: int = 12
    height: int = 8
    steps: tuple[Step, ...] = ()
    quiet: bool = False
    stacked: bool = False
    single: bool = False
    decimals: int | None = None
    least: float | None = None
    most: float | None = None
    colours: tuple[tuple[str, str], ...] = ()
    dashed: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    value: str = "value"
    smallest: bool = False
    by_name: bool = False


class Row(NamedTuple):
    """A row with a title, and its panels from left to right."""

    title: str
    panels: tuple[Panel, ...]


class Variable(NamedTuple):
    """What may be chosen at the top: values of a label; with `every` several, or all."""

    name: str
    label: str
    query: str
    every: bool = True


class Event(NamedTuple):
    """Moments that are marked in all panels: where an expression is not 0."""

    name: str
    expr: str
    colour: str


class Shortcut(NamedTuple):
    """A link to the same dashboard at a time in Grafana's words."""

    title: str
    since: str
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard. `name` is the end of its stable UID."""

    name: str
    title: str
    says: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    events: tuple[Event, ...] = ()
    since: str = "now-6h"
    language: Language = "promql"
    shortcuts: tuple[Shortcut, ...] = ()

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels in their order."""
        return (panel for row in self.rows for panel in row.panels)
