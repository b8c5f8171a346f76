"""Line protocol read twice, as two servers do who disagree on backslashes.

InfluxDB looks at the character before a separator: a backslash there escapes it, and only such backslashes
go. VictoriaMetrics counts the backslashes, and of two makes one. What both read the same is read so by all.
"""

import re
from collections.abc import Callable
from typing import NamedTuple


class Line(NamedTuple):
    """One line, taken apart."""

    measurement: str
    tags: list[tuple[str, str]]
    fields: list[tuple[str, float]]
    at_ms: int


class _Dialect(NamedTuple):
    """How one server splits at a separator, and what it then makes of backslashes."""

    split: Callable[[str, str], list[str]]
    plain: Callable[[str], str]


def _split_looking_back(text: str, separator: str) -> list[str]:
    return re.split(rf"(?<!\\){separator}", text)


def _split_counting(text: str, separator: str) -> list[str]:
    parts, part, at = [], "", 0
    while at < len(text):
        step = 2 if text[at] == "\\" else 1
        if text[at] == separator:
            parts.append(part)
            part = ""
        else:
            part += text[at : at + step]
        at += step
    return [*parts, part]


INFLUX = _Dialect(_split_looking_back, lambda text: re.sub(r"\\([,= ])", r"\1", text))
VICTORIA = _Dialect(_split_counting, lambda text: re.sub(r"\\([,= \\])", r"\1", text))


def read(body: bytes, dialect: _Dialect) -> list[Line]:
    """Take a body apart; every line must have three parts and end."""
    *lines, rest = body.decode().split("\n")
    assert rest == ""
    return [_line(line, dialect) for line in lines if not line.startswith("#")]


def _line(line: str, dialect: _Dialect) -> Line:
    series, figures, at_ms = dialect.split(line, " ")
    measurement, *tags = dialect.split(series, ",")
    return Line(
        dialect.plain(measurement),
        [_pair(tag, dialect) for tag in tags],
        [
            (name, float(value))
            for name, value in (_pair(one, dialect) for one in dialect.split(figures, ","))
        ],
        int(at_ms),
    )


def _pair(text: str, dialect: _Dialect) -> tuple[str, str]:
    name, value = dialect.split(text, "=")
    return dialect.plain(name), dialect.plain(value)
