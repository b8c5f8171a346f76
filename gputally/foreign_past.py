"""A fleet's past as another exporter told it to a store: which GPUs there were, and what each did when.

What is asked for at once is small whatever the fleet's size: the labels of all GPUs for some hours, then the
samples of one node for some time.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

from agent.errors import StoreError
from agent.holders.contract import Claimant
from agent.promql import quoted, span
from agent.sanity import believed
from agent.store import Series, Store
from agent.tally import DAY_MS, HOUR_MS
from gputally.foreign_schemas import HOLDER, SCHEMAS, XID, Metric, Schema, claimant_of

PIECE_MS = 6 * HOUR_MS
"""So much of the window is looked through at once for labels."""
MOST_SAMPLES = 150_000
"""So many are asked for at once, as far as can be told before."""
LEAST_STEPS = 10
MOST_XID = 10_000
_SERIES_OF_HOLDERS = 20
"""Processes come and go: so many series of them are expected per GPU."""
_SLICES = 7


@dataclass(slots=True)
class Known:
    """A GPU of the window: a node that it was in, its number there, its model, whether it had slices."""

    uuid: str
    node: str
    index: int
    model: str = ""
    memory_total_bytes: float | None = None
    sliced: bool = False


@dataclass(slots=True)
class Piece:
    """A MIG instance at a moment."""

    profile: str
    values: dict[str, float] = field(default_factory=dict)
    holders: dict[Claimant, None] = field(default_factory=dict)


@dataclass(slots=True)
class Moment:
    """What a scrape told of one GPU; pieces are by the number of the MIG instance."""

    at_ms: int
    uuid: str
    node: str
    values: dict[str, float] = field(default_factory=dict)
    holders: dict[Claimant, None] = field(default_factory=dict)
    pieces: dict[str, Piece] = field(default_factory=dict)
    xid: int | None = None


class _Meaning(NamedTuple):
    """What the labels of a series say."""

    uuid: str
    node: str
    metric: Metric
    factor: float
    slice: tuple[str, str]
    holder: Claimant | None


class Past:
    """One exporter's series in a store. `from_ms` and `to_ms` bound what is looked at. Raises StoreError."""

    def __init__(self, store: Store, schema: Schema, from_ms: int, to_ms: int) -> None:
        self._store, self.schema = store, schema
        self._span = from_ms, to_ms
        self._anchors = schema.anchors[0]
        self._exported: frozenset[str] = frozenset()
        self.refused: Counter[str] = Counter()
        """How many values could not be believed, by quantity."""
        self.homeless: set[str] = set()
        """MIG instances that do not say which GPU they are of."""

    def gpus(self) -> list[Known]:
        """Find all GPUs that were seen in the window, by node. Raises StoreError where there are none."""
        schema = self.schema
        labels = [schema.uuid, *schema.nodes, *schema.models, schema.index, schema.slice_id, "instance"]
        by = ", ".join(dict.fromkeys(name for name in labels if name))
        found: dict[str, Known] = {}
        for anchors in schema.anchors:
            for end_ms, back in self._pieces():
                query = f"count by ({by}) (last_over_time({_any_of(anchors)}[{back}]))"
                for value in self._store.values(query, end_ms):
                    self._note(found, value.labels)
            if found:
                self._anchors = anchors
                break
        else:
            raise StoreError(self._nothing())
        self._tell_more(found)
        self._exported = self._exporting()
        return sorted(found.values(), key=lambda one: (one.node, one.index, one.uuid))

    def _pieces(self) -> Iterator[tuple[int, str]]:
        """Give the ends of the pieces of the window, and how far to look back from each."""
        first_ms, last_ms = self._span
        for start_ms in range(first_ms, last_ms, PIECE_MS):
            end_ms = min(start_ms + PIECE_MS, last_ms)
            yield end_ms, span(end_ms - start_ms)

    def _note(self, found: dict[str, Known], labels: Mapping[str, str]) -> None:
        uuid = self.schema.uuid_of(labels)
        if not uuid:
            told = labels.get(self.schema.uuid, "")
            self.homeless.update([told] if told else [])
            return
        if uuid not in found:
            found[uuid] = Known(uuid, self.schema.node_of(labels), _number(labels.get(self.schema.index, "")))
        one = found[uuid]
        one.model = one.model or next((labels[name] for name in self.schema.models if labels.get(name)), "")
        one.sliced = one.sliced or bool(self.schema.slice_of(labels)[0])

    def _tell_more(self, found: Mapping[str, Known]) -> None:
        """Learn how much memory the GPUs have, and what only a series of information tells."""
        schema = self.schema
        for end_ms, back in self._pieces():
            for total in schema.totals:
                query = f"max by ({schema.uuid}) ({total.replace('RANGE', back)})"
                for labels, value in self._store.values(query, end_ms):
                    one = found.get(schema.uuid_of(labels))
                    if one and believed("memory_total_bytes", value):
                        one.memory_total_bytes = max(value, one.memory_total_bytes or 0.0)
            if schema.info:
                by = ", ".join((schema.uuid, *schema.models, schema.index))
                query = f"count by ({by}) (last_over_time({schema.info}[{back}]))"
                for labels, _ in self._store.values(query, end_ms):
                    one = found.get(schema.uuid_of(labels))
                    if one:
                        model = next((labels[name] for name in schema.models if labels.get(name)), "")
                        one.model, one.index = model or one.model, _number(labels.get(schema.index, ""))

    def _exporting(self) -> frozenset[str]:
        """Name the scrape jobs in which the labels of holders begin with `exported_`."""
        anchors = _any_of(self._anchors, 'exported_pod!=""')
        return frozenset(
            labels.get("job", "")
            for end_ms, back in self._pieces()
            for labels, _ in self._store.values(f"count by (job) (last_over_time({anchors}[{back}]))", end_ms)
        )

    def _nothing(self) -> str:
        """Say that the schema is not there, and which are."""
        names = {one.name: [name for group in one.anchors for name in group] for one in SCHEMAS.values()}
        found: dict[str, None] = {}
        for other, anchors in names.items():
            for end_ms, back in self._pieces():
                if self._store.values(f"count(last_over_time({_any_of(anchors)}[{back}]))", end_ms):
                    found[other] = None
                    break
        told = " and ".join(f"{SCHEMAS[name].exporter} (--schema {name})" for name in found)
        looked = ", ".join(names[self.schema.name])
        return (
            f"{self._store.url} holds no series of {self.schema.exporter} in that time ({looked}); "
            f"it holds those of {told or 'none of ' + ', '.join(one.exporter for one in SCHEMAS.values())}"
        )

    def step_ms(self, uuid: str) -> int:
        """Tell the median distance of a GPU's samples; 0 where there are no two. Raises StoreError."""
        first_ms, last_ms = self._span
        selector = _any_of(self._anchors, self._matcher([uuid]))
        distances: list[int] = []
        for start_ms in range(first_ms, last_ms, DAY_MS):
            for one in self._store.samples(selector, start_ms, min(start_ms + DAY_MS, last_ms)):
                times = (at_ms for at_ms, _ in one.samples)
                distances += (late - early for early, late in pairwise(times) if late > early)
        return median_low(distances) if distances else 0

    def moments(self, gpus: Sequence[Known], step_ms: int, until_ms: int) -> Iterator[Moment]:
        """Give what was told of some GPUs up to a moment, in order of time. Raises StoreError."""
        sliced = any(one.sliced for one in gpus)
        wanted = {
            name: one.quantity
            for name, one in self.schema.metrics.items()
            if sliced or one.quantity != "graphics_active_ratio"
        }
        quantities = set(wanted.values())
        each = len(quantities) * (_SLICES if sliced else 1)
        each += _SERIES_OF_HOLDERS if HOLDER in quantities else 0
        steps = max(LEAST_STEPS, MOST_SAMPLES // (each * max(1, len(gpus))))
        chunk_ms = min(steps * step_ms, DAY_MS)
        selector = _any_of(wanted, self._matcher(one.uuid for one in gpus))
        for start_ms in range(self._span[0], until_ms, chunk_ms):
            end_ms = min(start_ms + chunk_ms, until_ms)
            yield from self._chunk(self._store.samples(selector, start_ms, end_ms))

    def _matcher(self, uuids: Iterable[str]) -> str:
        names = "|".join(re.escape(self.schema.told_as(uuid)) for uuid in uuids)
        return f"{self.schema.uuid}=~{quoted(names)}"

    def _chunk(self, told: Iterable[Series]) -> list[Moment]:
        moments: dict[tuple[int, str], Moment] = {}
        for series in told:
            meaning = self._meaning(series.labels)
            if meaning is None:
                continue
            for at_ms, value in series.samples:
                moment = moments.get((at_ms, meaning.uuid))
                if moment is None:
                    moment = moments[at_ms, meaning.uuid] = Moment(at_ms, meaning.uuid, meaning.node)
                self._take(moment, meaning, value)
        return [moments[key] for key in sorted(moments)]

    def _meaning(self, labels: Mapping[str, str]) -> _Meaning | None:
        uuid, metric = self.schema.uuid_of(labels), self.schema.metrics.get(labels.get("__name__", ""))
        if not uuid or metric is None:
            return None
        base = metric.base_label and labels.get(metric.base_label)
        return _Meaning(
            uuid,
            self.schema.node_of(labels),
            metric,
            1.0 if base else metric.factor,
            self.schema.slice_of(labels),
            claimant_of(labels, exported=labels.get("job", "") in self._exported),
        )

    def _take(self, moment: Moment, meaning: _Meaning, value: float) -> None:
        """Note one sample; the same one again, as for each pod that shares the GPU, changes nothing."""
        number, profile = meaning.slice
        where: Moment | Piece = moment
        if number:
            where = moment.pieces.get(number) or moment.pieces.setdefault(number, Piece(profile))
        if meaning.holder:
            where.holders[meaning.holder] = None
        quantity = meaning.metric.quantity
        if quantity == HOLDER:
            return
        if quantity == XID:
            moment.xid = int(value) if 0 <= value <= MOST_XID else None
        elif believed(quantity, value * meaning.factor):
            values = where.values if meaning.metric.of_slices else moment.values
            values[quantity] = value * meaning.factor
        else:
            self.refused[quantity] += 1


def _any_of(names: Collection[str], matcher: str = "") -> str:
    """Write a selector of metrics by their names."""
    chosen = f"__name__=~{quoted('|'.join(sorted(names)))}"
    return f"{{{chosen},{matcher}}}" if matcher else f"{{{chosen}}}"


def by_node(gpus: Iterable[Known]) -> dict[str, list[Known]]:
    """Group GPUs by the node in which they were seen first."""
    found: defaultdict[str, list[Known]] = defaultdict(list)
    for one in gpus:
        found[one.node].append(one)
    return dict(found)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 6 else 0  # noqa: PLR2004
