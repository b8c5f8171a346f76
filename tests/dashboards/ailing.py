"""What is wrong with two simulated nodes: signs of GPUs, time that is lost, and what their agents say."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from exporters.catalogue import FAMILIES
from exporters.rows import GPU, OWN, Row

MINUTE_MS = 60_000
DOWN = -50, -30
"""Minutes from the end in which a GPU that is free else was down."""
UNKNOWN = -90, -80
"""And in which nothing was known of it."""
MINUTES = 120


class Where(NamedTuple):
    """A GPU."""

    node: str
    gpu: str


LINKED, SICK, LOST, HOT = Where("n2", "0"), Where("n2", "1"), Where("n2", "3"), Where("n1", "4")
LAZY_RATIO = 0.02
"""How busy the hot GPU is: its job has two more, which are at work."""
SIGNS: Mapping[Where, Mapping[str, float]] = {
    LINKED: {"row_remap_pending_flag": 1, "pcie_link_lanes": 8},
    SICK: {
        "row_remap_failure_flag": 1,
        "sram_threshold_exceeded_flag": 1,
        "recovery_action_code": 4,
        "nvlink_active_links": 17,
    },
}
GROWING: Mapping[tuple[str, str], float] = {
    ("nvlink_errors_total", "crc_data"): 0.1,
    ("throttle_seconds_total", "power_brake"): 0.5,
    ("pcie_replays_total", ""): 0.05,
}
"""By field and kind how much a counter of `LINKED` grows in a second."""


def ailing(rows: Iterable[Row], end_ms: int) -> Iterator[Row]:
    """Change rows of healthy nodes; sums of accounts stay as they are."""
    for row in rows:
        labels = dict(row.labels)
        where = Where(labels.get("node", ""), labels.get("gpu", ""))
        minutes = (row.at_ms - end_ms) / MINUTE_MS
        fields = row.fields if row.measurement != GPU else tuple(_changed(row, labels, where, minutes))
        yield row._replace(fields=fields)
        if where == HOT and row.measurement == GPU and any(name == "power_watts" for name, _ in row.fields):
            yield row._replace(fields=(("fan_speed_least_ratio", 0.0), ("fan_speed_most_ratio", 0.8)))


def _changed(
    row: Row, labels: Mapping[str, str], where: Where, minutes: float
) -> Iterator[tuple[str, float]]:
    kind = labels.get("kind", labels.get("reason", ""))
    for name, value in row.fields:
        told = SIGNS.get(where, {}).get(name, value)
        if where == LINKED and (name, kind) in GROWING:
            told = (minutes + MINUTES) * 60 * GROWING[name, kind]
        if where == HOT and name == "busy_ratio":
            told = LAZY_RATIO
        if where == SICK and (name, kind) == ("ecc_volatile_errors_total", "uncorrected"):
            told = 2.0
        if where == LOST:
            told = _lost(name, labels, minutes, told)
        yield name, told


def _lost(name: str, labels: Mapping[str, str], minutes: float, value: float) -> float:
    state = labels.get("state", "")
    is_down = DOWN[0] < minutes <= DOWN[1]
    if name == "tally_seconds_total":
        down, unknown = _passed(DOWN, minutes), _passed(UNKNOWN, minutes)
        return value + {"free": -down - unknown, "down": down, "unknown": unknown}.get(state, 0.0)
    if is_down and name == "condition":
        return float(labels["condition"] == "lost")
    if is_down and name == "state":
        return float(state == "down")
    return 0.0 if is_down and name == "up" else value


def _passed(span: tuple[int, int], minutes: float) -> float:
    """Give the seconds of a span that have passed."""
    first, last = span
    return (min(max(minutes, first), last) - first) * 60


Figure = tuple[str, Mapping[str, str], Callable[[int], float], Callable[[int], float]]
"""A name, labels, and the figures of a healthy and of an ailing agent by minutes since the beginning."""


def _always(value: float) -> Callable[[int], float]:
    return lambda _: value


def _late(value: float) -> Callable[[int], float]:
    """Grow from 0 in the last half hour."""
    return lambda minute: value if minute > MINUTES - 30 else 0.0


_NONE = _always(0.0)
_STORE = {"exporter": "vm"}
FIGURES: tuple[Figure, ...] = (
    ("interval_seconds", {}, _always(60), _always(60)),
    ("probe_up", {}, _always(1), _NONE),
    ("tick_late_seconds", {}, _always(0.1), _always(3)),
    ("tick_cpu_seconds", {}, _always(0.3), _always(1.2)),
    ("journal_bytes", {}, _always(5e6), _always(9e6)),
    ("journal_pending_ticks", {}, _NONE, _always(12)),
    ("ticks_total", {}, float, lambda minute: minute * 0.5),
    ("blind_ticks_total", {}, _NONE, _late(3)),
    ("driver_seconds_total", {}, lambda minute: minute * 0.6, lambda minute: minute * 30.0),
    ("probe_restarts_total", {}, _NONE, _late(1)),
    ("stuck_probes", {}, _NONE, _always(1)),
    ("journal_failures_total", {}, _NONE, _late(2)),
    ("readings_dropped_total", {}, _NONE, _late(8)),
    ("journal_ticks_dropped_total", {}, _NONE, _late(6)),
    ("holders_up", {"world": "slurm"}, _always(1), _NONE),
    ("exporter_up", _STORE, _always(1), _NONE),
    ("exporter_waiting_ticks", _STORE, _NONE, _always(120)),
    ("exporter_refused_rows_total", _STORE, _NONE, _late(5)),
    ("exporter_dropped_ticks_total", _STORE, _NONE, _late(7)),
    ("refused_values_total", {"quantity": "power_watts", "reason": "failed"}, _NONE, _late(4)),
)
VERSIONS = {"n1": "1.2.0", "n2": "1.1.0"}
EXPECTED = {"n1": 8, "n2": 5}
BEHIND_SECONDS = {"n1": 0, "n2": 120}
REPORT_AGE_SECONDS = 2 * 86_400


def agents(end_ms: int) -> Iterator[Row]:
    """Give what the agents tell of themselves as Prometheus would scrape it: n1's is well, n2's is not."""
    for minute in range(1, MINUTES + 1):
        at_ms = end_ms - (MINUTES - minute) * MINUTE_MS
        for number, node in enumerate(VERSIONS):
            yield _own(node, "info", {"version": VERSIONS[node]}, 1.0, at_ms)
            yield _own(node, "expected_gpus", {"node": node}, EXPECTED[node], at_ms)
            ended = at_ms / 1000 - BEHIND_SECONDS[node]
            yield _own(node, "tick_end_timestamp_seconds", {}, ended, at_ms)
            for name, labels, *figures in FIGURES:
                yield _own(node, name, labels, figures[number](minute), at_ms)
        yield _own("n2", "finding", {"rule": "journal_failing", "severity": "warning"}, 1.0, at_ms)
        made = end_ms / 1000 - REPORT_AGE_SECONDS
        yield _own("n1", "report_last_success_timestamp_seconds", {}, made, at_ms)


def _own(node: str, name: str, labels: Mapping[str, str], value: float, at_ms: int) -> Row:
    assert tuple(labels) == FAMILIES[f"gputally_{name}"].labels
    scraped = (("instance", f"{node}:9740"), ("job", "gputally"))
    return Row(OWN, (*scraped, *labels.items()), ((name, float(value)),), at_ms)
