"""How a report writes amounts, names and columns for a terminal: units visible, nothing raw from outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from unicodedata import combining, east_asian_width

from agent.tally import HOUR_MS

NONE = "-"
"""What stands for a value that is not known."""
SHORTEST = 6
GAP = "  "


def hours(elapsed_ms: int) -> str:
    """Write ms as hours with one decimal; what is more than nothing is not shown as 0."""
    return "<0.1" if 0 < elapsed_ms < HOUR_MS // 20 else f"{elapsed_ms / HOUR_MS:,.1f}"


def kilowatt_hours(joules: float | None) -> str:
    """Write joules as kWh with two decimals."""
    return NONE if joules is None else f"{joules / 3.6e6:,.2f}"


def percent(ratio: float | None) -> str:
    """Write a ratio as a percentage with one decimal; only 0 is shown as 0 and only 1 as 100."""
    if ratio is None:
        return NONE
    if 0 < ratio < 0.0005:  # noqa: PLR2004  half of the last digit shown
        return "<0.1 %"
    if 0.9995 <= ratio < 1:  # noqa: PLR2004  same
        return ">99.9 %"
    return f"{ratio * 100:,.1f} %"


def number(value: float, digits: int = 1) -> str:
    """Write a number with so many decimals; what is shown as nothing has no sign."""
    text = f"{value:,.{digits}f}"
    return text if text.strip("-0.") else text.removeprefix("-")


def signed(value: float, digits: int = 1) -> str:
    """Write a change with its sign; what is shown as nothing has none."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and text.strip("0.") else text


def money(cost: float | None) -> str:
    """Write an amount in the currency of the price."""
    return NONE if cost is None else f"{cost:,.2f}"


def bar(ratio: float | None, cells: int) -> str:
    """Draw a ratio as a bar; more than nothing fills at least one cell."""
    if ratio is None or ratio <= 0:
        return "." * cells
    filled = min(cells, max(1, round(ratio * cells)))
    return "#" * filled + "." * (cells - filled)


def printable(text: str) -> str:
    """Escape what a terminal would obey instead of show: control characters, marks of writing direction."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def cells(text: str) -> int:
    """Count the terminal cells that a printable text takes."""
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, most: int) -> str:
    """Shorten a printable text to so many cells by leaving out its middle."""
    if cells(text) <= most:
        return text
    head, tail = len(text) // 2, len(text) - len(text) // 2
    while head + len(text) - tail > 0 and cells(text[:head] + text[tail:]) > most - 1:
        if head >= len(text) - tail:
            head -= 1
        else:
            tail += 1
    return f"{text[:head]}…{text[tail:]}"


def wrapped(text: str, width: int, head: str = "", indent: str = "") -> str:
    """Escape a text and break it into lines of so many cells, the first behind `head`, the others indented.

    Unlike textwrap it counts cells and not characters. A word that is longer than a line is broken.
    """
    lines, line, empty = [], head, True
    for word in printable(text).split(" "):
        if not empty and cells(line) + 1 + cells(word) > width:
            lines.append(line)
            line, empty = indent, True
        line += word if empty else f" {word}"
        empty = False
        while cells(line) > width:
            fits = next(upto for upto in range(len(line), 0, -1) if cells(line[:upto]) <= width)
            lines.append(line[:fits])
            line = indent + line[fits:]
    return "\n".join([*lines, line])


@dataclass(frozen=True, slots=True)
class Column:
    """A column: names and texts stand left, amounts right; only names may be cut to fit."""

    title: str
    kind: Literal["name", "text", "amount"] = "amount"


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Align rows under their titles within so many cells, as far as names can be cut; escapes all cells."""
    shown = [[column.title for column in columns], *([printable(text) for text in row] for row in rows)]
    widths = [max(cells(row[place]) for row in shown) for place in range(len(columns))]
    while sum(widths) + len(GAP) * len(columns) > width:
        names = [
            place
            for place, column in enumerate(columns)
            if column.kind == "name" and widths[place] > SHORTEST
        ]
        if not names:
            break
        widths[max(names, key=lambda place: widths[place])] -= 1
    return [_line(columns, row, widths) for row in shown]


def _line(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> str:
    parts = []
    for column, text, wide in zip(columns, row, widths, strict=True):
        fit = cut(text, wide) if column.kind == "name" else text
        space = " " * (wide - cells(fit))
        parts.append(space + fit if column.kind == "amount" else fit + space)
    return (GAP + GAP.join(parts)).rstrip()
