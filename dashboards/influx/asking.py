"""InfluxQL over what agents push: measurement `gpu`, a field for each quantity, a tag for each label.

What is grown between two spans is taken from the last value of each: spans end where the time shown ends, so
that none is cut, and the time of the outer statement is told as well, since InfluxDB would count more spans.
"""

from collections.abc import Sequence
from typing import NamedTuple

from dashboards.outline import Config

TO = "${__to}ms"
SHOWN = f"$timeFilter AND time < {TO}"


class Account(NamedTuple):
    """An account of GPUs: its field, a condition, and the tags that tell its series apart."""

    field: str
    where: str
    tags: tuple[str, ...]


LATEST = f"time >= {TO} - 5m AND time < {TO}"
"""The last five minutes of what is shown: also what stands still is told every two."""
SPAN = "5m"
_TWO_SPANS = f"time >= {TO} - 10m AND time < {TO}"
_GPU = ("uuid", "node")


def of_group(config: Config) -> str:
    """Match what is chosen of a fleet."""
    pairs = ((config.cluster_label, "cluster"), (config.pool_label, "pool"), ("model", "model"))
    return " AND ".join(f'"{label}" =~ /^${variable}$/' for label, variable in pairs)


def drawn_sum(field: str, where: str, by: Sequence[str]) -> str:
    """Ask for the sum of a gauge of GPUs over time, by tags: of each GPU its mean in a span."""
    one = (
        f'SELECT mean("{field}") AS "value" FROM "gpu" WHERE {SHOWN} AND {where} '
        f"GROUP BY {_span()}{_tags((*_GPU, *by))} fill(none)"
    )
    return (
        f'SELECT sum("value") AS "value" FROM ({one}) WHERE {SHOWN} GROUP BY {_span()}{_tags(by)} fill(none)'
    )


def drawn(field: str, where: str, by: Sequence[str]) -> str:
    """Ask for a gauge over time as it was told, one line for each of some tags."""
    return (
        f'SELECT mean("{field}") AS "value" FROM "gpu" WHERE {SHOWN} AND {where} '
        f"GROUP BY time($__interval, {TO}){_tags(by)} fill(none)"
    )


def latest(field: str, where: str, by: Sequence[str], function: str = "last") -> str:
    """Ask for the newest value of a gauge, by tags."""
    return f'SELECT {function}("{field}") AS "value" FROM "gpu" WHERE {LATEST} AND {where}{_group(by)}'


def now(field: str, where: str, outer: str) -> str:
    """Ask for one figure of the newest values of all GPUs."""
    return f'SELECT {outer}("value") AS "value" FROM ({latest(field, where, _GPU)})'


def seen(where: str, length: str, name: str) -> str:
    """Ask which GPUs were heard of in a time that ends with what is shown."""
    return (
        f'SELECT last("up") AS "{name}" FROM "gpu" WHERE time > {TO} - {length} AND time <= {TO} '
        f'AND {where} GROUP BY "uuid"'
    )


def growth(field: str, where: str, inner: Sequence[str], *, shown: str, name: str = "value") -> str:
    """Ask how fast an account of each GPU grew from span to span, per second."""
    rate = f'non_negative_derivative(last("{field}"), 1s) AS "{name}"'
    tags = _tags((*_GPU, *inner))
    return f'SELECT {rate} FROM "gpu" WHERE {shown} AND {where} GROUP BY {_span()}{tags} fill(none)'


def grown(field: str, where: str, by: Sequence[str], inner: Sequence[str] = (), *, beyond: str = "") -> str:
    """Ask how fast accounts grew over time, summed by tags; `beyond` leaves out what grows no faster."""
    one = growth(field, where, (*by, *inner), shown=SHOWN)
    kept = f' AND "value" > {beyond}' if beyond else ""
    return (
        f'SELECT sum("value") AS "value" FROM ({one}) WHERE {SHOWN}{kept} '
        f"GROUP BY {_span()}{_tags(by)} fill(none)"
    )


def counted(field: str, where: str, by: Sequence[str]) -> str:
    """Ask how often something happened in each span, where it did."""
    one = (
        f'SELECT non_negative_difference(last("{field}")) AS "value" FROM "gpu" WHERE {SHOWN} AND {where} '
        f"GROUP BY {_span()}{_tags((*_GPU, *by))} fill(none)"
    )
    return (
        f'SELECT sum("value") AS "value" FROM ({one}) WHERE {SHOWN} AND "value" > 0 '
        f"GROUP BY {_span()}{_tags(by)} fill(none)"
    )


def grew(field: str, where: str, by: Sequence[str], inner: Sequence[str] = (), *, times: str = "") -> str:
    """Ask how fast accounts grew in the last span, summed by tags."""
    one = growth(field, where, (*by, *inner), shown=_TWO_SPANS)
    return _newest(f'SELECT sum("value"){times} AS "value" FROM ({one})', by)


def ratio(above: Account, below: Account, by: Sequence[str] = (), *, over_time: bool = True) -> str:
    """Ask for the ratio of how fast two accounts grew, over time or in the last span."""
    shown = SHOWN if over_time else _TWO_SPANS
    first = growth(above.field, above.where, (*by, *above.tags), shown=shown, name="above")
    second = growth(below.field, below.where, (*by, *below.tags), shown=shown, name="below")
    told = f'SELECT sum("above") / sum("below") AS "value" FROM ({first}), ({second})'
    if not over_time:
        return _newest(told, by)
    return f"{told} WHERE {SHOWN} GROUP BY {_span()}{_tags(by)} fill(none)"


def _newest(told: str, by: Sequence[str]) -> str:
    """Take the last of two spans: asked without spans, InfluxDB would also count what grew before them."""
    spans = f"{told} WHERE {_TWO_SPANS} GROUP BY {_span()}{_tags(by)} fill(none)"
    return f'SELECT last("value") AS "value" FROM ({spans}){_group(by)}'


def share(part: str, whole: str, where: str) -> str:
    """Ask for the ratio of two gauges of GPUs over time, each the mean of a span."""
    each = (
        f'SELECT mean("{part}") AS "above", mean("{whole}") AS "below" FROM "gpu" '
        f"WHERE {SHOWN} AND {where} GROUP BY {_span()}{_tags(_GPU)} fill(none)"
    )
    told = f'SELECT sum("above") / sum("below") AS "value" FROM ({each})'
    return f"{told} WHERE {SHOWN} GROUP BY {_span()} fill(none)"


def values(tag: str, where: str = "") -> str:
    """Ask which values a tag has."""
    return f'SHOW TAG VALUES FROM "gpu" WITH KEY = "{tag}"{f" WHERE {where}" if where else ""}'


def _span() -> str:
    return f"time({SPAN}, {TO})"


def _tags(tags: Sequence[str]) -> str:
    return "".join(f', "{tag}"' for tag in dict.fromkeys(tags))


def _group(tags: Sequence[str]) -> str:
    return f" GROUP BY {_tags(tags)[2:]}" if tags else ""
