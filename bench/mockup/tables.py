"""A table: columns of equal width, none below 150 px, in the colours and texts of the JSON."""

import re
from collections.abc import Mapping, Sequence

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
    wide = max(box.width / len(shapes), LEAST)
    seen = int((height - ROW) // ROW)
    cells = [{name: _text(row[name], shapes[name], box) for name in shapes} for row in rows]
    remarks += _cut(frame, cells, wide)
    remarks += _changed(frame, rows, cells)
    if panel["fieldConfig"]["defaults"].get("thresholds"):
        remarks.append("thresholds colour nothing: no column has a type of cell that shows them")
    if wide * len(shapes) > box.width + 1:
        shown = int(box.width // wide)
        lost = ", ".join(list(shapes)[shown:])
        remarks.append(f"scrolls sideways: {shown} of {len(shapes)} columns fit, hidden or cut: {lost}")
    if len(rows) > seen:
        remarks.append(f"scrolls: {seen} of {len(rows)} rows fit")
    for one in panel["options"].get("sortBy", ()):
        if one["displayName"] not in frame.columns:
            remarks.append(f"is to be sorted by {one['displayName']!r}, which it does not have")
    head = "".join(_cell(name, "head", name in frame.numbers, wide) for name in shapes)
    body = "".join(
        "<div class=row>"
        + "".join(_link(row, name, text[name], shapes[name], name in frame.numbers, wide) for name in shapes)
        + "</div>"
        for row, text in zip(rows, cells, strict=True)
    )
    empty = "" if rows else '<div class="nothing">No data</div>'
    choice = f'<div class="choice">frame {told(frame.ref)} ▾</div>' if len(frames) > 1 else ""
    width = wide * len(shapes)
    return Drawn(
        f'<div class="table" style="height:{height:.0f}px"><div style="width:{width:.0f}px">'
        f"<div class=row>{head}</div>{body}{empty}</div></div>{choice}",
        remarks,
    )


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


def _cut(frame: Frame, cells: Sequence[Mapping[str, str]], wide: float) -> list[str]:
    """Tell which headings and cells are wider than their column."""
    room, remarks = wide - 2 * PAD, []
    heads = [name for name in frame.columns if width_of(name, TEXT) * BOLD > room]
    if heads:
        remarks.append(f"headings cut: {', '.join(heads)}")
    for name in frame.columns:
        long = max((row[name] for row in cells), key=len, default="")
        if width_of(long, TEXT) > room:
            remarks.append(f"cells of {name} cut: {long!r} in {room:.0f} px")
    return remarks


def _cell(text: str, kind: str, number: bool, wide: float) -> str:  # noqa: FBT001  a column's kind
    side = " right" if number else ""
    return f'<div class="{kind}{side}" style="width:{wide:.1f}px"><span>{told(text)}</span></div>'


def _link(
    row: Mapping[str, Cell],
    name: str,
    text: str,
    shape: Shape,
    number: bool,  # noqa: FBT001  from one place
    wide: float,
) -> str:
    if not shape.links:
        return _cell(text, "cell", number, wide)
    (link,) = shape.links
    url = re.sub(r"\$\{__data\.fields\.(\w+)\}", lambda found: _field(row, found[1]), link["url"])
    side = " right" if number else ""
    return (
        f'<div class="cell{side}" style="width:{wide:.1f}px">'
        f'<a title="{told(link["title"])}: {told(url)}">{told(text)}</a></div>'
    )


def _field(row: Mapping[str, Cell], name: str) -> str:
    """Give a cell for a link. Raises KeyError where the row has no such column."""
    return str(row[name])
