"""Bodies of OTLP, read by OpenTelemetry's own messages, and held against the specification."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Metric,
    NumberDataPoint,
)

from exporters.catalogue import FAMILIES
from exporters.conventions import BY_OWN_NAME
from exporters.rows import Row
from tests.exporters.difficult import unicode_of
from tests.stores.samples import Samples, series_of

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,254}")
HARDWARE: Mapping[str, tuple[str, str, set[str]]] = {
    "hw.gpu.utilization": ("1", "gauge", {"hw.gpu.task"}),
    "hw.gpu.memory.usage": ("By", "updowncounter", set()),
    "hw.gpu.memory.limit": ("By", "updowncounter", set()),
    "hw.gpu.io": ("By", "counter", {"network.io.direction"}),
    "hw.energy": ("J", "counter", set()),
    "hw.power": ("W", "gauge", set()),
    "hw.errors": ("{error}", "counter", {"error.type"}),
    "hw.status": ("1", "updowncounter", {"hw.state"}),
    "hw.temperature": ("Cel", "gauge", {"hw.sensor_location"}),
    "hw.temperature.limit": ("Cel", "gauge", {"hw.sensor_location", "hw.limit_type"}),
    "hw.fan.speed_ratio": ("1", "gauge", set()),
}
"""Unit, instrument and attributes of each metric, as the pages of the conventions have them."""
_UNITS = {
    "_ratio": "1",
    "_bytes": "By",
    "_watts": "W",
    "_celsius": "Cel",
    "_hertz": "Hz",
    "_seconds": "s",
    "_joules": "J",
}


def read(body: bytes) -> Samples:
    """Take a body apart: each series by its name and attributes. Fails for what the specification forbids."""
    request = ExportMetricsServiceRequest.FromString(body)
    assert len(request.SerializeToString()) == len(body), "something is said twice"
    _check_known(request)
    found: Samples = {}
    hosts = []
    for resource in request.resource_metrics:
        about = _attributes(resource.resource.attributes)
        host = about.get("host.name", "")
        hosts.append(host)
        whose = {"host.name": host, "service.instance.id": host} if host else {}
        assert about == {"service.name": "gputally", **whose}
        (scoped,) = resource.scope_metrics
        assert scoped.scope.name == "gputally"
        names = Counter(metric.name for metric in scoped.metrics)
        assert max(names.values()) == 1, names.most_common(1)
        for metric in scoped.metrics:
            for series, points in _series(metric, host).items():
                assert series not in found
                found[series] = points
    assert len(set(hosts)) == len(hosts)
    return found


def _check_known(message: Message) -> None:
    """Fail for fields that the messages do not have."""
    assert not len(UnknownFieldSet(message))
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in [value] if isinstance(value, Message) else value:
                _check_known(one)


def _attributes(told: Iterable[KeyValue]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in told:
        assert one.key
        assert one.key not in found
        assert one.value.WhichOneof("value") == "string_value"
        assert one.value.string_value
        found[one.key] = one.value.string_value
    return found


def _series(metric: Metric, host: str) -> Samples:
    assert _NAME.fullmatch(metric.name)
    instrument = _check_instrument(metric)
    wanted = HARDWARE.get(metric.name, (_unit(metric.name), _kind(metric.name), set()))
    assert (metric.unit, instrument) == wanted[:2], metric.name
    assert metric.unit.isascii()
    assert 0 < len(metric.unit) < 64
    found: Samples = {}
    for point in metric.gauge.data_points or metric.sum.data_points:
        attributes = _attributes(point.attributes)
        assert attributes.get("node", "") == host
        if metric.name in HARDWARE:
            assert attributes.keys() >= {"hw.id", "hw.type", "hw.name"} | wanted[2]
            assert ("hw.parent" in attributes) == (attributes["hw.type"] != "gpu")
        found.setdefault(series_of({**attributes, "__name__": metric.name}), []).append(_sample(point))
    for points in found.values():
        times = [at_ms for at_ms, _ in points]
        assert times == sorted(set(times))
    assert found
    return found


def _check_instrument(metric: Metric) -> str:
    """Tell what it was made with; sums are cumulative."""
    if metric.WhichOneof("data") == "gauge":
        return "gauge"
    assert metric.WhichOneof("data") == "sum"
    assert metric.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    return "counter" if metric.sum.is_monotonic else "updowncounter"


def _kind(name: str) -> str:
    family = FAMILIES.get(name)
    return family.kind if family else "counter" if name.endswith("_total") else "gauge"


def _unit(name: str) -> str:
    """Tell the unit of one of our names: by its ending, else what is counted, which receivers leave out."""
    word = "_" + name.removesuffix("_total").rpartition("_")[2]
    return _UNITS.get(word) or "{" + word[1:].removesuffix("s") + "}"


def _sample(point: NumberDataPoint) -> tuple[int, float]:
    assert point.WhichOneof("value") == "as_double"
    assert point.start_time_unix_nano == 0
    assert point.flags == 0
    at_ms, rest = divmod(point.time_unix_nano, 1_000_000)
    assert rest == 0
    return at_ms, point.as_double


def expected(rows: Iterable[Row]) -> Samples:
    """Tell what a body of rows should say: of one series and moment, the last value."""
    found: dict[frozenset[tuple[str, str]], dict[int, float]] = {}
    for row in sorted(rows, key=lambda one: one.at_ms):
        labels = {name: unicode_of(text) for name, text in row.labels if text}
        for field, value in row.fields:
            own = f"{row.measurement}_{field}"
            told = [(one, one.attributes_of(labels)) for one in BY_OWN_NAME.get(own, ())]
            for one, more in told:
                if more is not None:
                    series = series_of({**labels, **dict(more), "__name__": one.name})
                    found.setdefault(series, {})[row.at_ms] = 1 - value if one.contrary else value
            if all(more is None for _, more in told):
                found.setdefault(series_of({**labels, "__name__": own}), {})[row.at_ms] = value
    return {series: sorted(points.items()) for series, points in found.items()}
