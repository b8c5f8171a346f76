"""OTLP metrics over HTTP: rows in, the body of one request out; and what the answer to it says.

Every point has the end of its own interval as its time, so that ticks of an outage are told as they were.
Names are those of exporters/conventions.py, which adds to our labels. Counters are cumulative and have no
time of start: rows do not know it, and a receiver that is given one may write a 0 there, from which all that
was counted before would seem to grow at once.

What a series needs again and again (its attributes, above all) is encoded once, by OpenTelemetry's own
messages. What is left of a point, a time and a figure, has a fixed width, and is packed behind it.
"""

import struct
from collections.abc import Iterable, Mapping
from functools import cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from exporters.catalogue import FAMILIES
from exporters.conventions import BY_OWN_NAME, Convention, Labels, own_convention
from exporters.rows import Row
from exporters.sendable import sendable
from exporters.settle import DELIVERED, Outcome, tidy

HEADERS: Mapping[str, str] = MappingProxyType({"Content-Type": "application/x-protobuf"})
"""What a request says of its body."""
SERVICE = "gputally"

MOST_SERIES = 4096
LONGEST_BYTES = 4096
"""Attributes that are longer are not kept, so that those of 10 kB cost time and not memory."""
MOST_REFUSED = 10**9
"""More figures than any body has: no answer makes a count absurd."""

_END = struct.Struct("<BQBd")
_NS_OF_MS = 1_000_000
_Points = dict[int, float]


class _Series(NamedTuple):
    """What all points of a series say alike: whose it is, its labels, and how its points begin."""

    node: str
    labels: Labels
    begin: bytes


class _Metric(NamedTuple):
    """A metric's encoded name and unit, the field that its points are in, and what ends that."""

    convention: Convention
    head: bytes
    field: int
    tail: bytes


class _Wire(NamedTuple):
    """The modules of messages."""

    service: Any
    metrics: Any
    common: Any
    resource: Any


def encode(rows: Iterable[Row]) -> bytes:
    """Give the message with all points of the rows."""
    nodes: dict[str, dict[str, tuple[_Metric, list[bytes]]]] = {}
    for (measurement, _), (series, fields) in _grouped(rows).items():
        metrics = nodes.setdefault(series.node, {})
        for field, points in fields.items():
            for metric, begin in _told(series, f"{measurement}_{field}"):
                packed = _packed(begin, points, contrary=metric.convention.contrary)
                metrics.setdefault(metric.convention.name, (metric, []))[1].append(packed)
    return b"".join([piece for node, metrics in nodes.items() for piece in _of_node(node, metrics.values())])


def outcome_of(answer: bytes) -> Outcome:
    """Settle a batch that was taken: its store may say that it left out some of the points.

    Those are refused for good, the rest is there, and by the protocol nothing is sent again.
    """
    from google.protobuf.message import DecodeError  # noqa: PLC0415  only where something is sent so

    try:
        partial = _wire().service.ExportMetricsServiceResponse.FromString(answer).partial_success
    except DecodeError:  # of a server that says what it likes
        return DELIVERED
    if partial.rejected_data_points <= 0:
        return DELIVERED
    refused = min(partial.rejected_data_points, MOST_REFUSED)
    return DELIVERED._replace(refused=refused, reason=tidy(f"partial success: {partial.error_message}"))


def _grouped(rows: Iterable[Row]) -> dict[tuple[str, bytes], tuple[_Series, dict[str, _Points]]]:
    """Give the points of each series in order of time; of several at one moment the last one holds."""
    groups: dict[tuple[str, bytes], tuple[_Series, dict[str, _Points]]] = {}
    known = _SERIES
    for measurement, labels, fields, at_ms in sorted(rows, key=attrgetter("at_ms")):
        series = known[labels]
        key = measurement, series.begin
        group = groups.get(key)
        if group is None:
            group = groups[key] = series, {}
        fields_of = group[1]
        for field, value in fields:
            points = fields_of.get(field)
            if points is None:
                fields_of[field] = {at_ms: value}
            else:
                points[at_ms] = value
    return groups


def _told(series: _Series, own: str) -> list[tuple[_Metric, bytes]]:
    """Tell under which metrics a series goes, and how its points begin there."""
    as_told = [(metric, _BEGINNINGS[series.labels, metric.convention]) for metric in _METRICS[own]]
    found = [(metric, begin) for metric, begin in as_told if begin]
    return found or [(_OWN_METRICS[own], series.begin)]


def _packed(begin: bytes, points: _Points, *, contrary: bool) -> bytes:
    """Encode the points of a series; the beginning is the same for each."""
    at_tag, value_tag = _point_tags()
    pack = _END.pack
    if contrary:
        points = {at_ms: 1.0 - value for at_ms, value in points.items()}
    ends = [pack(at_tag, at_ms * _NS_OF_MS, value_tag, value) for at_ms, value in points.items()]
    return begin + begin.join(ends)


def _of_node(node: str, metrics: Iterable[tuple[_Metric, list[bytes]]]) -> list[bytes]:
    """Give the pieces of a node's part of a request; they are long, and put together once."""
    wire = _wire()
    scope, resource = wire.metrics.ScopeMetrics, wire.metrics.ResourceMetrics
    told = [_scope()]
    for metric, packed in metrics:
        points = _inside(metric.field, [*packed, metric.tail])
        told += _inside(scope.METRICS_FIELD_NUMBER, [metric.head, *points])
    scoped = _inside(resource.SCOPE_METRICS_FIELD_NUMBER, told)
    request = wire.service.ExportMetricsServiceRequest
    return _inside(request.RESOURCE_METRICS_FIELD_NUMBER, [_resource(node), *scoped])


@cache
def _wire() -> _Wire:
    from opentelemetry.proto.collector.metrics.v1 import (  # noqa: PLC0415  only where something is sent so
        metrics_service_pb2,
    )
    from opentelemetry.proto.common.v1 import common_pb2  # noqa: PLC0415
    from opentelemetry.proto.metrics.v1 import metrics_pb2  # noqa: PLC0415
    from opentelemetry.proto.resource.v1 import resource_pb2  # noqa: PLC0415

    return _Wire(metrics_service_pb2, metrics_pb2, common_pb2, resource_pb2)


def _inside(field: int, pieces: list[bytes]) -> list[bytes]:
    """Give the pieces of an encoded message as a field of another: a tag and its length come before."""
    return [bytes([field << 3 | 2]) + _length(sum(map(len, pieces))), *pieces]


def _length(number: int) -> bytes:
    """Encode a length: seven bits a byte, the lowest first, the high bit where another follows."""
    encoded = bytearray()
    while number >= 0x80:  # noqa: PLR2004
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


@cache
def _point_tags() -> tuple[int, int]:
    """Give what goes before the time and the figure of a point; both take eight bytes (wire type 1)."""
    point = _wire().metrics.NumberDataPoint
    return point.TIME_UNIX_NANO_FIELD_NUMBER << 3 | 1, point.AS_DOUBLE_FIELD_NUMBER << 3 | 1


def _attributes(texts: Iterable[tuple[str, str]]) -> list[Any]:
    common = _wire().common
    return [common.KeyValue(key=name, value=common.AnyValue(string_value=text)) for name, text in texts]


def _begin(attributes: Iterable[tuple[str, str]]) -> bytes:
    """Encode a point up to its time."""
    metrics = _wire().metrics
    encoded = metrics.NumberDataPoint(attributes=_attributes(attributes)).SerializeToString()
    tag = bytes([metrics.Gauge.DATA_POINTS_FIELD_NUMBER << 3 | 2])  # that of Sum is the same
    return tag + _length(len(encoded) + _END.size) + bytes(encoded)


@cache
def _scope() -> bytes:
    wire = _wire()
    scope = wire.common.InstrumentationScope(name=SERVICE)
    return bytes(wire.metrics.ScopeMetrics(scope=scope).SerializeToString())


def _resource(node: str) -> bytes:
    """Say who tells: the service, and the host that is its only instance."""
    wire = _wire()
    host = (("host.name", node), ("service.instance.id", node)) if node else ()
    resource = wire.resource.Resource(attributes=_attributes((("service.name", SERVICE), *host)))
    return bytes(wire.metrics.ResourceMetrics(resource=resource).SerializeToString())


def _metric(convention: Convention) -> _Metric:
    metrics = _wire().metrics
    family = FAMILIES.get(convention.name)
    head = metrics.Metric(
        name=sendable(convention.name), unit=convention.unit, description=family.help if family else ""
    ).SerializeToString()
    if convention.instrument == "gauge":
        return _Metric(convention, head, metrics.Metric.GAUGE_FIELD_NUMBER, b"")
    tail = metrics.Sum(
        aggregation_temporality=metrics.AGGREGATION_TEMPORALITY_CUMULATIVE,
        is_monotonic=convention.instrument == "counter",
    ).SerializeToString()
    return _Metric(convention, head, metrics.Metric.SUM_FIELD_NUMBER, tail)


class _AllSeries(dict[Labels, _Series]):
    """Labels, made fit to be sent, in order of their names."""

    def __missing__(self, labels: Labels) -> _Series:
        texts = {sendable(name): sendable(text) for name, text in labels if name and text}
        in_order = tuple(sorted(texts.items()))
        series = _Series(texts.get("node", ""), in_order, _begin(in_order))
        if len(series.begin) <= LONGEST_BYTES:
            if len(self) >= MOST_SERIES:
                self.clear()
            self[labels] = series
        return series


class _Beginnings(dict[tuple[Labels, Convention], bytes]):
    """How points of series begin where a convention adds to their labels; empty where it does not apply."""

    def __missing__(self, key: tuple[Labels, Convention]) -> bytes:
        labels, convention = key
        texts = dict(labels)
        more = convention.attributes_of(texts)
        begin = b""
        if more is not None:
            texts.update((name, sendable(text)) for name, text in more)
            begin = _begin(sorted(texts.items()))
        if len(begin) <= LONGEST_BYTES:
            if len(self) >= MOST_SERIES:
                self.clear()
            self[key] = begin
        return begin


class _Metrics(dict[str, list[_Metric]]):
    """What the conventions make of a metric, by its own name; empty for most."""

    def __missing__(self, own: str) -> list[_Metric]:
        if len(self) >= MOST_SERIES:
            self.clear()
        self[own] = found = [_metric(one) for one in BY_OWN_NAME.get(own, ())]
        return found


class _OwnMetrics(dict[str, _Metric]):
    """Metrics under their own names."""

    def __missing__(self, own: str) -> _Metric:
        if len(self) >= MOST_SERIES:
            self.clear()
        self[own] = found = _metric(own_convention(own))
        return found


_SERIES = _AllSeries()
_BEGINNINGS = _Beginnings()
_METRICS = _Metrics()
_OWN_METRICS = _OwnMetrics()
