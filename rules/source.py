"""A text of rules, and where in it something is said: what an error points at.

TOML's parser tells no lines once it has understood a file, so they are looked for: by the headings and by the
keys before each `=`. The line that shares most of a key's path is the one.
"""

import re
from collections.abc import Iterator, Sequence

from agent.errors import SettingsError
from agent.holders.names import printable

LONGEST_KEY = 100
_PART = r"(?:[\w-]+|\"[^\"]*\"|'[^']*')"
_PATH = rf"({_PART}(?:\s*\.\s*{_PART})*)"
_HEADING = re.compile(rf"\s*\[\[?\s*{_PATH}\s*\]")
_KEY = re.compile(rf"\s*{_PATH}\s*=")
_PARTS = re.compile(_PART)
_QUOTES = ('"""', "'''")

Path = tuple[str, ...]


class Source:
    """A text of rules with its name: a file's, as the user wrote it."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def wrong(self, path: Sequence[str], text: str) -> SettingsError:
        """Make an error that says file, line and key; the path is the rule's name and its keys."""
        line = self.line(tuple(path))
        place = f"{self.name}:{line}" if line else self.name
        rule, key = printable(path[0], LONGEST_KEY), printable(".".join(path[1:]), LONGEST_KEY)
        return SettingsError(f"{place}: [{rule}] {key}: {text}" if key else f"{place}: [{rule}] {text}")

    def line(self, path: Path) -> int:
        """Find the line where something is said, or the nearest that is there; 0 where nothing is."""
        best, found = 0, 0
        for number, here in self._paths():
            shared = _shared(here, path)
            if shared > best:
                best, found = shared, number
        return found

    def _paths(self) -> Iterator[tuple[int, Path]]:
        """Give each line that says something, with the whole path of what it says."""
        heading: Path = ()
        inside = ""
        for number, line in enumerate(self.text.split("\n"), 1):
            if inside:  # a text of several lines
                inside = "" if inside in line else inside
                continue
            inside = next((quotes for quotes in _QUOTES if line.count(quotes) == 1), "")
            if begins := _HEADING.match(line):
                heading = _split(begins[1])
                yield number, heading
            elif says := _KEY.match(line):
                yield number, (*heading, *_split(says[1]))


def _split(path: str) -> Path:
    return tuple(part.strip("\"'") for part in _PARTS.findall(path))


def _shared(one: Path, other: Path) -> int:
    for place, (here, there) in enumerate(zip(one, other, strict=False)):
        if here != there:
            return place
    return min(len(one), len(other))
