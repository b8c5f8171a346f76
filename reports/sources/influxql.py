"""Asks a store in InfluxQL over `/query`: InfluxDB 1, and 2 and 3, which speak it too."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.asking import LONGEST_WORD, Asker, TooLongError, told
from agent.errors import StoreError
from agent.holders.names import printable


class Points(NamedTuple):
    """What a statement gave for some tags: points as (ms since the epoch, value) in order of time."""

    tags: Mapping[str, str]
    points: list[tuple[int, float]]


class Influx(Asker):
    """One database; in InfluxDB 2 a bucket that a database is mapped to."""

    def __init__(
        self,
        url: str,
        database: str,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        longest: int | None = None,
    ) -> None:
        super().__init__(url, token_file=token_file, ca_file=ca_file, scheme="Token", longest=longest)
        self.database = database

    def points(self, statement: str) -> Iterator[Points]:
        """Give the first column after the time, of each series. Raises StoreError."""
        try:
            said = self.ask("/query", {"db": self.database, "epoch": "ms", "q": statement})
        except TooLongError:
            raise StoreError(f"{self.url} answers {statement[:200]} with too much") from None
        try:
            (result,) = json.loads(said)["results"]
            problem, series = result.get("error"), result.get("series", ())
            is_partial = any(bool(one.get("partial")) for one in (result, *series))
            found = [_points(one) for one in series]
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise StoreError(
                f"{self.url} does not answer as InfluxDB does: is it the address before /query?"
            ) from error
        if problem:
            raise StoreError(f"{self.url} cannot answer: {printable(str(problem), LONGEST_WORD)}")
        if is_partial:
            raise StoreError(f"{self.url} cuts its answers short: raise max-row-limit of its [http] section")
        yield from found


def name(text: str) -> str:
    """Write a name of a tag, field or measurement, with its quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def any_of(tag: str, values: list[str]) -> str:
    """Match any of some values of a tag, as they are and not as patterns."""
    inside = "|".join("".join(_literal(char) for char in value) for value in values)
    return f"{name(tag)} =~ /^({inside})$/"


def _literal(char: str) -> str:
    """Write a character as a pattern of RE2 within slashes; what is not of ASCII stands for itself."""
    return char if char.isalnum() or not char.isascii() else f"\\x{ord(char):02x}"


def _points(one: Mapping[str, object]) -> Points:
    values, tags = one["values"], one.get("tags") or {}
    if not isinstance(values, list) or not isinstance(tags, Mapping):
        raise TypeError("no list of values")
    points = [(int(row[0]), float(row[1])) for row in values if row[1] is not None]
    points = [point for point in points if math.isfinite(point[1])]
    return Points({told(key): told(text) for key, text in tags.items()}, points)
