"""Many figures as one short text: eight bytes each, in base64.

Those of a list of names begin with a checksum of the names, so that figures of a version that knows others
are not taken for ours.
"""

import struct
from binascii import a2b_base64, b2a_base64, crc32
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, isnan, nan

_BYTES = 8


def write_numbers(numbers: Sequence[float]) -> str:
    """Write numbers."""
    return _text(struct.pack(f"<{len(numbers)}d", *numbers))


def read_numbers(text: str) -> tuple[float, ...]:
    """Read them. Raises ValueError for what `write_numbers` did not write, and for what is not finite."""
    data = a2b_base64(text, strict_mode=True)
    if len(data) % _BYTES:
        raise ValueError(f"{len(data)} bytes of figures")
    numbers: tuple[float, ...] = struct.unpack(f"<{len(data) // _BYTES}d", data)
    if not all(map(isfinite, numbers)):
        raise ValueError("a figure without bounds")
    return numbers


def _text(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


class Figures:
    """Writes and reads the figures of a list of names; what is not known is left out."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._form = struct.Struct(f"<I{len(self._names)}d")
        self._checksum = crc32(",".join(self._names).encode())

    def write(self, known: Mapping[str, float | None]) -> str:
        """Write the figures of those that have one; names that are not ours are passed over."""
        numbers = [nan if number is None else number for number in map(known.get, self._names)]
        return _text(self._form.pack(self._checksum, *numbers))

    def read(self, text: str) -> dict[str, float]:
        """Read them. Raises ValueError for what `write` did not write."""
        data = a2b_base64(text, strict_mode=True)
        if len(data) != self._form.size:
            raise ValueError(f"{len(data)} bytes of figures, not {self._form.size}")
        checksum, *numbers = self._form.unpack(data)
        if checksum != self._checksum:
            raise ValueError("figures of other names")
        found = {name: number for name, number in zip(self._names, numbers, strict=True) if not isnan(number)}
        if not all(map(isfinite, found.values())):
            raise ValueError("a figure without bounds")
        return found
