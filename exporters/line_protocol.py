"""InfluxDB line protocol: rows in, one line each out, times in milliseconds (`precision=ms`).

Nothing in a name or a label can end its place, its line or another's. What no server reads back as it was
sent is replaced by a look-alike: control characters, and backslashes before what they would escape. So all
texts stay different and can be read, and InfluxDB and VictoriaMetrics, which disagree on such backslashes,
keep the same.
"""

import re
from collections.abc import Callable, Iterable

from exporters.rows import Row
from exporters.sendable import sendable

MOST_SERIES = 4096
LONGEST_CHARACTERS = 4096
"""Beginnings of lines that are longer are not kept, so that 10 kB labels cost time and not memory."""

_PICTURES = {number: 0x2400 + number for number in range(32)} | {0x7F: 0x2421}
_FULL_WIDTH = 0xFEE0
"""So far behind an ASCII character is the same in full width."""
_CLINGING = r"\\(?=[\\,= ]|\Z)"
_Series = tuple[str, tuple[tuple[str, str], ...]]


def encode(rows: Iterable[Row]) -> bytes:
    """Give one line for each row, in their order."""
    starts, keys, lines = _STARTS, _KEYS, []
    for measurement, labels, fields, at_ms in rows:
        figures = ",".join([f"{keys[key]}={value!r}" for key, value in fields])
        lines.append(f"{starts[measurement, labels]}{figures} {at_ms}\n")
    return "".join(lines).encode()


def _writer(separators: str, alike: str = "") -> Callable[[str], str]:
    """Make what writes texts of one place in a line: it escapes the separators there.

    `alike` is a pattern of what would mean something else there besides.
    """
    bad = re.compile(_CLINGING + alike)
    ending = re.compile(f"([{separators}])")

    def write(text: str) -> str:
        harmless = bad.sub(lambda found: chr(ord(found[0]) + _FULL_WIDTH), sendable(text))
        return ending.sub(r"\\\1", harmless.translate(_PICTURES))

    return write


_measurement = _writer(", ", r"|\A#")
_tag_key = _writer(",= ")
_tag_value = _writer(",= ")
_field_key = _writer(",= ", '|"')


class _Starts(dict[_Series, str]):
    """Beginnings of lines, up to the fields."""

    def __missing__(self, series: _Series) -> str:
        measurement, labels = series
        tags = sorted({_tag_key(name): _tag_value(text) for name, text in labels if text}.items())
        start = ",".join([_measurement(measurement), *[f"{name}={text}" for name, text in tags]]) + " "
        if len(start) <= LONGEST_CHARACTERS:
            if len(self) >= MOST_SERIES:
                self.clear()
            self[series] = start
        return start


class _Keys(dict[str, str]):
    """Keys of fields, escaped."""

    def __missing__(self, key: str) -> str:
        if len(self) >= MOST_SERIES:
            self.clear()
        self[key] = written = _field_key(key)
        return written


_STARTS = _Starts()
_KEYS = _Keys()
