"""Entries of a TOML file that a user wrote, read key by key; errors say file, line and entry."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, tzinfo
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from agent.errors import SettingsError
from reports.window import moment_of
from reports.wording import printable

LONGEST_BYTES = 1 << 20
LONGEST_TEXT = 200
DEAREST = 1e12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Table = Mapping[str, Any]
_NEVER = re.compile(r"(?!)")


class Source:
    """A file as it is written. Raises SettingsError where it cannot be read or is no TOML."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = _text_of(path)
        try:
            self.told: Table = tomllib.loads(self._text)
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"{path} is no TOML: {printable(str(error)[:LONGEST_TEXT])}") from error

    def entries(self, name: str, known: Sequence[str]) -> Iterator["Entry"]:
        """Give the entries [[name]], in order."""
        told = self.told.get(name, [])
        if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
            raise Entry(self, {}, ()).wrong(name, f"must be written as [[{name}]] entries")
        for number, table in enumerate(told, 1):
            yield Entry(self, table, known, Place(name, number))

    def line(self, entry: str, number: int, path: Sequence[str]) -> int:
        """Find the line that says most of a path of keys in an entry; 0 where none says even its heading."""
        headed = re.compile(rf"\s*\[\[?\s*{re.escape(entry)}\s*\]") if entry else _NEVER
        below = f"[{entry}."
        says = [re.compile(rf"\s*\[?[\w.]*[\"']?{re.escape(key)}[\"']?\s*[=\]]") for key in path if key]
        seen, found, depth = (0 if entry else number), 0, 0
        for at, line in enumerate(self._text.split("\n"), 1):
            if headed.match(line):
                seen += 1
                found = at if seen == number else found
            elif seen == number and line.startswith("[") and not line.startswith(below):
                break
            elif seen == number and depth < len(says) and (said := _said(says, line)) > depth:
                found, depth = at, said
        return found


def _said(says: Sequence[re.Pattern[str]], line: str) -> int:
    """Tell how much of a path a line says."""
    return max((depth for depth, one in enumerate(says, 1) if one.match(line)), default=0)


class Place(NamedTuple):
    """Where in a file a table stands: which entry of a name it is, or is within; no name is the top."""

    name: str = ""
    number: int = 1
    within: str = ""


class Entry:
    """A table of a file, whose keys are all known. Everything raises SettingsError that says where."""

    def __init__(self, source: Source, table: Table, known: Sequence[str], place: Place = Place()) -> None:  # noqa: B008  a value
        self._source, self._table, self._place = source, table, place
        for key in table:
            if key not in known:
                raise self.wrong(key, f"unknown; known are {', '.join(known)}")

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def wrong(self, key: str, text: str) -> SettingsError:
        """Make an error that says file, line, entry and key."""
        name, number, within = self._place
        line = self._source.line(name, number, (within, key)) or self._source.line(name or key, 1, ())
        where = f"{self._source.path}:{line}" if line else str(self._source.path)
        is_one = isinstance(self._source.told.get(name), dict)
        heading = f"[{name}]" if is_one else f"[[{name}]] {number}" if name else ""
        keys = ".".join(filter(None, (within, printable(key[:LONGEST_TEXT]))))
        return SettingsError(": ".join(filter(None, (where, f"{heading} {keys}".strip(), text))))

    def table(self, key: str, known: Sequence[str]) -> "Entry":
        """Give a table that stands in this one; one that is missing is empty."""
        value = self._table.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"must be a table, not {_shown(value)}")
        place = self._place._replace(within=key) if self._place.name else Place(key)
        return Entry(self._source, value, known, place)

    def word(self, key: str, usual: str) -> str:
        """Read a printable text."""
        value = self._table.get(key, usual)
        if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
            raise self.wrong(key, f"must be a printable text in quotes, not {_shown(value)}")
        return value

    def number(
        self, key: str, usual: float | None = None, least: float = 0.0, most: float = DEAREST
    ) -> float:
        """Read a number within bounds; without a usual one it must be there."""
        value = self._table.get(key, usual)
        if value is None:
            raise self.wrong(key, "is missing")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most or not isfinite(value):
            limit = "" if most == DEAREST else f" to {most:g}"
            raise self.wrong(key, f"must be a number from {least:g}{limit}, not {_shown(value)}")
        return float(value)

    def moment(self, key: str, where: tzinfo) -> int:
        """Read a date, which means its first moment in a zone, or a time; in ms since the epoch."""
        value = self._table.get(key)
        if value is None:
            raise self.wrong(key, f"is missing: write {key} = 2026-01-01")
        if not isinstance(value, date):  # a datetime is one too
            raise self.wrong(key, f"must be a date like 2026-01-01, without quotes, not {_shown(value)}")
        try:
            if isinstance(value, datetime):
                aware = value if value.tzinfo else value.replace(tzinfo=where)
                return round((aware - _EPOCH).total_seconds() * 1000)
            return moment_of(value.isoformat(), where)
        except OverflowError:
            raise self.wrong(key, "is out of reach") from None


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            told = file.read(LONGEST_BYTES + 1)
        text = told.decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path that cannot be one
        raise SettingsError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    if len(told) > LONGEST_BYTES:
        raise SettingsError(f"{path} is longer than {LONGEST_BYTES >> 20} MiB")
    return text


def _shown(value: object) -> str:
    return "a table" if isinstance(value, dict) else printable(repr(value)[:60])
