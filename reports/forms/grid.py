"""What stands in a section of the page: tables, drawings, maps and sentences, for a template to show.

Cells carry the number by which they are sorted beside their text; None sorts last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

from agent.tally import HOUR_MS
from reports import wording
from reports.wording import NONE, hours, kilowatt_hours, money, percent

Tone = Literal["", "good", "bad", "soft"]


class Cell(NamedTuple):
    """One field of a table. `share` is drawn as a bar of 0 to 1, `note` stands below, `chip` is a state."""

    text: str
    value: float | None = None
    href: str | None = None
    share: float | None = None
    note: str = ""
    tone: Tone = ""
    chip: str = ""


class Head(NamedTuple):
    """A column: names, texts, ids and moments stand left, amounts and money right."""

    title: str
    kind: Literal["name", "text", "id", "moment", "amount", "money"] = "amount"


Row = Sequence[Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under heads; `foot` are sums. `left_out` rows of `what` are not shown.

    Where the order of rows says something, it is `fixed`: they are not sorted.
    """

    kind: ClassVar[str] = "table"
    caption: str
    heads: Sequence[Head]
    rows: Sequence[Row]
    foot: Sequence[Row] = ()
    left_out: int = 0
    what: str = "rows"
    fixed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawing as SVG, which says the same in words; `legend` asks for the states beside it."""

    kind: ClassVar[str] = "figure"
    svg: str
    caption: str
    legend: bool = False
    small: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """Seven rows of 24 shares, drawn as a table; each cell is its text, its step of the ramp, and a mark."""

    kind: ClassVar[str] = "map"
    caption: str
    rows: Sequence[tuple[str, Sequence[tuple[str, int | None, bool]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Words and what they mean."""

    kind: ClassVar[str] = "terms"
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Sentences; a warning is shown so that nobody misses it."""

    kind: ClassVar[str] = "note"
    sentences: Sequence[str]
    warning: bool = False


Block = Table | Figure | Map | Terms | Note


def hours_cell(elapsed_ms: int | None, share: float | None = None) -> Cell:
    """Show ms as GPU-hours."""
    if elapsed_ms is None:
        return Cell(NONE)
    return Cell(hours(elapsed_ms), round(elapsed_ms / HOUR_MS, 4), share=share)


def change_cell(elapsed_ms: int | None) -> Cell:
    """Show ms as GPU-hours more or less."""
    if elapsed_ms is None:
        return Cell(NONE)
    return Cell(signed(elapsed_ms / HOUR_MS), round(elapsed_ms / HOUR_MS, 4))


def signed(value: float, digits: int = 1) -> str:
    """Write a change with its sign; what is shown as nothing has none."""
    return wording.signed(value, digits).replace("-", "−")  # noqa: RUF001  a minus, not a dash


def percent_cell(ratio: float | None, share: float | None = None) -> Cell:
    """Show a ratio as a percentage."""
    return Cell(percent(ratio), None if ratio is None else round(ratio, 6), share=share)


def money_cell(cost: float | None) -> Cell:
    """Show an amount in the currency of the price."""
    return Cell(money(cost), None if cost is None else round(cost, 2))


def energy_cell(joules: float | None) -> Cell:
    """Show joules as kWh."""
    return Cell(kilowatt_hours(joules), None if joules is None else round(joules / 3.6e6, 3))


def number_cell(value: float | None, digits: int = 0, unit: str = "") -> Cell:
    """Show a number with so many decimals, and its unit."""
    if value is None:
        return Cell(NONE)
    return Cell(f"{wording.number(value, digits)}{f' {unit}' if unit else ''}", round(value, 4))


def without_prices(block: Block) -> Block:
    """Leave out the columns of money of which nothing is known."""
    if not isinstance(block, Table):
        return block
    rows = [*block.rows, *block.foot]
    kept = [
        at
        for at, head in enumerate(block.heads)
        if head.kind != "money" or any(row[at].value is not None for row in rows)
    ]
    return replace(
        block,
        heads=[block.heads[at] for at in kept],
        rows=[[row[at] for at in kept] for row in block.rows],
        foot=[[row[at] for at in kept] for row in block.foot],
    )
