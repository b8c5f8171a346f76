"""Bodies of remote write, taken apart without the library that made them."""

import struct
from typing import NamedTuple

from cramjam import snappy

from agent.holders.protobuf import Decoder, last, pieces

_UNSIGNED, _SIGNED = 1 << 64, 1 << 63


class Series(NamedTuple):
    """One series of a body."""

    labels: list[tuple[str, str]]
    samples: list[tuple[int, float]]


def read(body: bytes) -> list[Series]:
    """Take a body apart; nothing may be in it that remote write does not have."""
    decoder = Decoder()
    request = decoder.fields(bytes(snappy.decompress_raw(body)))
    assert request.keys() <= {1}
    return [_series(decoder, one) for one in pieces(request, 1)]


def _series(decoder: Decoder, message: bytes) -> Series:
    fields = decoder.fields(message)
    assert fields.keys() <= {1, 2}
    labels = [decoder.fields(one) for one in pieces(fields, 1)]
    samples = [decoder.fields(one) for one in pieces(fields, 2)]
    return Series(
        [(last(label, 1).decode(), last(label, 2).decode()) for label in labels],
        [(_whole(sample.get(2, [0])[0]), _double(sample.get(1, [0])[0])) for sample in samples],
    )


def _whole(number: int | bytes) -> int:
    assert isinstance(number, int)
    return number - _UNSIGNED if number >= _SIGNED else number


def _double(number: int | bytes) -> float:
    assert isinstance(number, int)
    value: float = struct.unpack("<d", number.to_bytes(8, "little"))[0]
    return value
