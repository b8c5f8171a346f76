"""How the sections of a report are written in Markdown: the parts of the text, on a page of another kind.

Names from outside are escaped, so that none becomes a heading, a link, a picture or HTML.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reports.forms.text_page import MOST_ROWS, Page
from reports.wording import Column, printable

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~$&@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""What Markdown obeys inside a line, addresses that GitHub's dialect makes links of too."""
_LEADING = re.compile(r"^ *(\d*)([-+=.)])")
"""What it obeys at the beginning of one: lists within lists, lines below headings."""


def escaped(text: str) -> str:
    """Write a text so that Markdown shows it and obeys nothing in it."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def escaped_line(text: str) -> str:
    """Write a text that a line begins with."""
    return _LEADING.sub(r"\1\\\2", escaped(text).lstrip(" "))


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Make a table; names and texts are escaped, amounts are ours."""
    yield f"| {' | '.join(escaped(column.title) for column in columns)} |"
    yield f"|{'|'.join(' ---: ' if column.kind == 'amount' else ' --- ' for column in columns)}|"
    for row in rows:
        told = (
            text if column.kind == "amount" else escaped(text)
            for column, text in zip(columns, row, strict=True)
        )
        yield f"| {' | '.join(told)} |"


@dataclass(frozen=True, slots=True)
class MarkdownPage(Page):
    """Writes what a part consists of in Markdown; the width is of no account.

    Blocks that must not run into those before them begin with an empty line.
    """

    width: int = 0

    def rows(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], what: str) -> Iterator[str]:
        """Write a table of at most twenty rows, and how many are left out; nothing without rows."""
        if rows:
            yield ""
            yield from table(columns, rows[:MOST_ROWS])
        yield from self.left_out(len(rows) - MOST_ROWS, what)

    def left_out(self, count: int, what: str) -> Iterator[str]:
        """Say how many are not shown; nothing if none."""
        if count > 0:
            yield f"\n{count:,} more {what} are not shown; `--format json` has all of them."

    def item(self, text: str, mark: str = "") -> str:
        """Write a sentence: a paragraph, one of a list, or one below that."""
        if not mark.strip():
            return f"  - {escaped_line(text)}" if mark else f"\n{escaped_line(text)}"
        return f"- {escaped_line(text)}"

    def fact(self, name: str, text: str) -> str:
        """Write a named fact."""
        return f"- **{escaped(name)}**: {escaped(text)}"

    def drawing(self, lines: Iterable[str]) -> Iterator[str]:
        """Write lines of our own that must stay as they are."""
        yield from ("", "```text", *lines, "```")
