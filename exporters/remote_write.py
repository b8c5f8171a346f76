"""Prometheus remote write 1.0: rows in, the body of one request out.

Samples of one series are together and in order of time; of several at one moment the last one holds. Labels
are in order of their names, as receivers demand. protobuf and snappy are loaded by the first body.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache, partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from exporters.rows import Row
from exporters.sendable import sendable

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
)
"""What a request says of its body; 0.1.0 is how version 1.0 calls itself."""

MOST_SERIES = 4096
LONGEST_BYTES = 4096
"""Labels that are longer are not kept, so that those of 10 kB cost time and not memory."""

_NAME = "__name__"
_BAD = re.compile(r"[^a-zA-Z0-9_]|\A(?=[0-9])|\A\Z")
_Groups = dict[tuple[str, bytes, bytes], dict[str, dict[int, float]]]
"""Values by time, by field, by measurement and the labels before and after its name."""


def encode(rows: Iterable[Row]) -> bytes:
    """Give the compressed message with all samples of the rows."""
    from cramjam import snappy  # noqa: PLC0415  only where something is sent so

    wire, names, encoded = _wire(), _NAMES, []
    for (measurement, before, after), fields in _grouped(rows).items():
        for field, points in fields.items():
            series = wire.series()
            add = series.samples.add
            for at_ms, value in points.items():
                add(value=value, timestamp=at_ms)
            # A message in a message is its bytes, and bytes one after the other are merged.
            encoded.append(before + names[f"{measurement}_{field}"] + after + series.SerializeToString())
    return bytes(snappy.compress_raw(wire.request(timeseries=encoded).SerializeToString()))


def _grouped(rows: Iterable[Row]) -> _Groups:
    groups: _Groups = {}
    around = _AROUND
    for measurement, labels, fields, at_ms in sorted(rows, key=attrgetter("at_ms")):
        fields_of = groups.setdefault((measurement, *around[labels]), {})
        for field, value in fields:
            points = fields_of.get(field)
            if points is None:
                fields_of[field] = {at_ms: value}
            else:
                points[at_ms] = value
    return groups


class _Wire(NamedTuple):
    """The classes of messages."""

    label: Any
    series: Any
    request: Any


@cache
def _wire() -> _Wire:
    from google.protobuf.descriptor_pb2 import (  # noqa: PLC0415  only where something is sent so
        DescriptorProto,
        FieldDescriptorProto,
        FileDescriptorProto,
    )
    from google.protobuf.descriptor_pool import DescriptorPool  # noqa: PLC0415
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

    one = partial(FieldDescriptorProto, label=FieldDescriptorProto.LABEL_OPTIONAL)
    many = partial(FieldDescriptorProto, label=FieldDescriptorProto.LABEL_REPEATED)
    text, double, whole, inner, opaque = (
        FieldDescriptorProto.TYPE_STRING,
        FieldDescriptorProto.TYPE_DOUBLE,
        FieldDescriptorProto.TYPE_INT64,
        FieldDescriptorProto.TYPE_MESSAGE,
        FieldDescriptorProto.TYPE_BYTES,
    )
    messages = {
        "Label": [one(name="name", number=1, type=text), one(name="value", number=2, type=text)],
        "Sample": [one(name="value", number=1, type=double), one(name="timestamp", number=2, type=whole)],
        "Series": [
            many(name="labels", number=1, type=inner, type_name=".gputally.Label"),
            many(name="samples", number=2, type=inner, type_name=".gputally.Sample"),
        ],
        "Request": [many(name="timeseries", number=1, type=opaque)],
    }
    file = FileDescriptorProto(name="remote_write", package="gputally", syntax="proto3")
    file.message_type.extend(DescriptorProto(name=name, field=fields) for name, fields in messages.items())
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    label, series, request = (
        GetMessageClass(pool.FindMessageTypeByName(f"gputally.{name}"))
        for name in ("Label", "Series", "Request")
    )
    return _Wire(label, series, request)


def _named(text: str) -> str:
    """Give a name that Prometheus takes; ours stay as they are."""
    return _BAD.sub("_", text)


def _encoded(labels: Iterable[tuple[str, str]]) -> bytes:
    wire = _wire()
    message = wire.series(labels=[wire.label(name=name, value=text) for name, text in labels])
    encoded: bytes = message.SerializeToString()
    return encoded


class _Around(dict[tuple[tuple[str, str], ...], tuple[bytes, bytes]]):
    """The labels of a series that come before its name, and those that come after, encoded."""

    def __missing__(self, labels: tuple[tuple[str, str], ...]) -> tuple[bytes, bytes]:
        texts = sorted({_named(name): sendable(text) for name, text in labels if text}.items())
        before = _encoded(label for label in texts if label[0] < _NAME)
        after = _encoded(label for label in texts if label[0] > _NAME)
        if len(before) + len(after) <= LONGEST_BYTES:
            if len(self) >= MOST_SERIES:
                self.clear()
            self[labels] = before, after
        return before, after


class _Names(dict[str, bytes]):
    """Names of metrics, encoded."""

    def __missing__(self, name: str) -> bytes:
        if len(self) >= MOST_SERIES:
            self.clear()
        self[name] = encoded = _encoded([(_NAME, _named(name))])
        return encoded


_AROUND = _Around()
_NAMES = _Names()
