"""A letter as a value, and how it is written: as HTML that mail clients show, and as plain text.

The HTML has its styles in the tags and asks nobody for anything. All text is escaped where it is written,
names are made printable first. Needs the extra `report`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.wording import Column, printable, table, wrapped

WIDTH = 96
"""Cells of a line of plain text."""


class Head(NamedTuple):
    """The head of a column; amounts stand right, and only names may be cut to fit."""

    title: str
    kind: Literal["name", "text", "amount"] = "name"


class Answer(NamedTuple):
    """A question, a figure that answers it, and what that means."""

    question: str
    figure: str
    below: str
    bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A table; without heads its first column names what the second says."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    heads: tuple[Head, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What somebody is told."""

    subject: str
    title: str
    below: str
    alerts: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    deeds: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    notes: tuple[str, ...] = ()


def to_html(letter: Letter) -> str:
    """Write a letter as HTML."""
    return _environment().get_template("mail.html.j2").render(letter=letter)


def to_text(letter: Letter) -> str:
    """Write a letter as plain text."""
    return "\n\n".join("\n".join(lines) for lines in _paragraphs(letter)) + "\n"


def _paragraphs(letter: Letter) -> Iterator[list[str]]:
    yield [wrapped(letter.title, WIDTH), wrapped(letter.below, WIDTH)]
    for text in letter.alerts:
        yield [wrapped(text, WIDTH, "! ", "  ")]
    for answer in letter.answers:
        yield [
            wrapped(f"{answer.question} {answer.figure}", WIDTH),
            wrapped(answer.below, WIDTH, "  ", "  "),
        ]
    if letter.deeds:
        deeds = (wrapped(text, WIDTH, f"  {at}. ", "     ") for at, text in enumerate(letter.deeds, 1))
        yield ["What to do", *deeds]
    for block in letter.blocks:
        yield [wrapped(block.title, WIDTH), *_rows(block)]
        if block.note:
            yield [wrapped(block.note, WIDTH)]
    for text in letter.notes:
        yield [wrapped(text, WIDTH)]


def _rows(block: Block) -> list[str]:
    if not block.heads:
        return [wrapped(": ".join(row), WIDTH, "  ", "    ") for row in block.rows]
    columns = [Column(head.title, head.kind) for head in block.heads]
    return table(columns, block.rows, WIDTH)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("gputally"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: object) -> object:
    """Make what a template writes printable, unless it is ours."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
