"""A table: columns of equal width, none below 150 px, in the colours and texts of the JSON."""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate

from bench.mockup.drawn import Box, Drawn, nothing
from bench.mockup.fields import Json, Shape, shape
from bench.mockup.frames import Cell, Frame, sorted_rows
from bench.mockup.look import BOLD, told, width_of

ROW, LEAST, PAD, TEXT = 36, 150, 6, 14
CHOICE = 40
"""The height of the box in which a frame is chosen, where there are several."""


def table(panel: Json, frames: Sequence[Frame], box: Box) -> Drawn:
    """Draw the first frame."""
    if not frames or not frames[0].columns:
        return nothing(panel)
    frame, remarks = frames[0], []
    height = box.height
    if len(frames) > 1:
        height -= CHOICE
        lost = ", ".join(one.ref for one in frames[1:])
        remarks.append(f"not merged: only target {frame.ref} is shown, {lost} are behind a choice below")
    shapes = {name: shape(panel, name) for name in frame.columns}
    rows = sorted_rows(panel, frame)
    wide = _widths(shapes, box.width)
    whole = sum(wide.values())
    seen = int((height - ROW) // ROW)
    cells = [{name: _text(row[name], shapes[name], box) for name in shapes} for row in rows]
    remarks += _cut(frame, cells, wide)
    remarks += _changed(frame, rows, cells)
    plain = all(one.cell == "auto" for one in shapes.values())
    if plain and panel["fieldConfig"]["defaults"].get("thresholds"):
        remarks.append("thresholds colour nothing: no column has a type of cell that shows them")
    if whole > box.width + 1:
        ends = list(accumulate(wide.values()))
        shown = sum(end <= box.width + 1 for end in ends)
        lost = ", ".join(list(shapes)[shown:])
        remarks.append(f"scrolls sideways: {shown} of {len(shapes)} columns fit, hidden or cut: {lost}")
    if len(rows) > seen:
        remarks.append(f"scrolls: {seen} of {len(rows)} rows fit")
    for one in panel["options"].get("sortBy", ()):
        if one["displayName"] not in frame.columns:
            remarks.append(f"is to be sorted by {one['displayName']!r}, which it does not have")
    head = "".join(
        _cell(name, f'class="head{_place(number=name in frame.numbers, wide=wide[name])}"') for name in shapes
    )
    body = "".join(
        "<div class=row>"
        + "".join(
            _link(
                row,
                text[name],
                shapes[name],
                colour=_colour(row[name], shapes[name], box),
                place=_place(number=name in frame.numbers, wide=wide[name]),
            )
            for name in shapes
        )
        + "</div>"
        for row, text in zip(rows, cells, strict=True)
    )
    empty = "" if rows else '<div class="nothing">No data</div>'
    choice = f'<div class="choice">frame {told(frame.ref)} ▾</div>' if len(frames) > 1 else ""
    return Drawn(
        f'<div class="table" style="height:{height:.0f}px"><div style="width:{whole:.0f}px">'
        f"<div class=row>{head}</div>{body}{empty}</div></div>{choice}",
        remarks,
    )


def _widths(shapes: Mapping[str, Shape], width: float) -> dict[str, float]:
    """Share the room among columns that have no width of their own; none is narrower than the least."""
    own = {name: one.width for name, one in shapes.items() if one.width is not None}
    others = len(shapes) - len(own)
    least = max(one.custom.get("minWidth", LEAST) for one in shapes.values())
    share = max((width - sum(own.values())) / max(others, 1), least)
    return {name: own.get(name, share) for name in shapes}


def _text(cell: Cell, shape: Shape, box: Box) -> str:
    if isinstance(cell, str):
        return shape.words(cell, box.now_ms)
    return shape.number(cell, box.look, box.now_ms).text


def _changed(
    frame: Frame, rows: Sequence[Mapping[str, Cell]], cells: Sequence[Mapping[str, str]]
) -> list[str]:
    """Tell which texts are shown as something else: Grafana gives them the unit of all fields."""
    found = {}
    for row, text in zip(rows, cells, strict=True):
        for name in frame.columns:
            cell = row[name]
            if isinstance(cell, str) and cell and cell != text[name]:
                found[name] = f"column {name}: the text {cell!r} is shown as {text[name]!r}"
    return list(found.values())


def _cut(frame: Frame, cells: Sequence[Mapping[str, str]], wide: Mapping[str, float]) -> list[str]:
    """Tell which headings and cells are wider than their column."""
    remarks = []
    heads = [name for name in frame.columns if width_of(name, TEXT) * BOLD > wide[name] - 2 * PAD]
    if heads:
        remarks.append(f"headings cut: {', '.join(heads)}")
    for name in frame.columns:
        long = max((row[name] for row in cells), key=len, default="")
        room = wide[name] - 2 * PAD
        if width_of(long, TEXT) > room:
            remarks.append(f"cells of {name} cut: {long!r} in {room:.0f} px")
    return remarks


def _colour(cell: Cell, shape: Shape, box: Box) -> str:
    """Give the colour of a figure's cell as CSS, where its type of cell shows one."""
    if shape.cell == "auto" or cell is None or isinstance(cell, str):
        return ""
    colour = shape.number(cell, box.look, box.now_ms).colour
    return f";color:{colour}" if shape.cell == "color-text" else f";background:{colour};color:#111217"


def _place(*, number: bool, wide: float) -> str:
    """Give the end of a class and the beginning of a style."""
    return f'{" right" if number else ""}" style="width:{wide:.1f}px'


def _cell(text: str, opened: str) -> str:
    return f'<div {opened}"><span>{told(text)}</span></div>'


def _link(row: Mapping[str, Cell], text: str, shape: Shape, *, colour: str, place: str) -> str:
    opened = f'class="cell{place}{colour}"'
    if not shape.links:
        return _cell(text, opened)
    (link,) = shape.links
    url = re.sub(r"\$\{__data\.fields\.(\w+)\}", lambda found: _field(row, found[1]), link["url"])
    return f'<div {opened}"><a title="{told(link["title"])}: {told(url)}">{told(text)}</a></div>'


def _field(row: Mapping[str, Cell], name: str) -> str:
    """Give a cell for a link. Raises KeyError where the row has no such column."""
    return str(row[name])
