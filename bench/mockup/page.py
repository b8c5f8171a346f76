"""A dashboard as one page: its panels where the grid has them, in Grafana's look, with nothing to load."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import NamedTuple

from bench.mockup.asking import ALL, View, answers, lines
from bench.mockup.drawn import EMPTY, Box, Drawn
from bench.mockup.fields import Json
from bench.mockup.figures import bars, stat
from bench.mockup.frames import frames_of, transformed
from bench.mockup.known import StrangeError, check
from bench.mockup.look import Look, told, width_of
from bench.mockup.plots import timeline, timeseries
from bench.mockup.style import STYLE
from bench.mockup.tables import table

WIDTH = 1600
EDGE, COLUMNS, CELL, BETWEEN = 16, 24, 30, 8
HEAD, PAD, BORDER = 32, 8, 1
TOP = 138
"""Above the panels: the name of the dashboard, its variables and links."""
_DRAW = {"stat": stat, "bargauge": bars, "timeseries": timeseries, "state-timeline": timeline}


class Page(NamedTuple):
    """HTML, its height in pixels, and remarks, each with the panel that it is about."""

    html: str
    height: int
    remarks: Sequence[str]


class Place(NamedTuple):
    """Where a panel lies, in pixels."""

    left: float
    top: float
    width: float
    height: float


def place_of(panel: Json) -> Place:
    """Place a panel as Grafana's grid does."""
    at = panel["gridPos"]
    column = (WIDTH - 2 * EDGE - (COLUMNS - 1) * BETWEEN) / COLUMNS
    return Place(
        at["x"] * (column + BETWEEN),
        at["y"] * (CELL + BETWEEN),
        at["w"] * column + (at["w"] - 1) * BETWEEN,
        at["h"] * CELL + (at["h"] - 1) * BETWEEN,
    )


def page(board: Json, view: View, look: Look, *, descriptions: bool = False) -> Page:
    """Draw a dashboard. Raises StrangeError for what is not understood, StoreError."""
    check(board)
    parts, remarks = [], list(_overlaps(board["panels"]))
    for panel in board["panels"]:
        place = place_of(panel)
        if panel["type"] == "row":
            style = f"left:{place.left:.1f}px;top:{place.top:.1f}px"
            parts.append(f'<h2 style="{style}">⌄ {told(panel["title"])}</h2>')
            continue
        says = panel["description"] if descriptions else ""
        room = place.width - 2 * (PAD + BORDER)
        told_in = 16 * (1 + int(width_of(says, 11) // room)) if says else 0
        box = Box(
            room,
            place.height - HEAD - 2 * (PAD + BORDER) - told_in,
            look,
            view.from_ms,
            view.until_ms,
        )
        drawn = _drawn(panel, view, box)
        remarks += [f"{panel['title']}: {remark}" for remark in drawn.remarks]
        if width_of(panel["title"], 14) > place.width - 48:
            remarks.append(f"{panel['title']}: title cut")
        parts.append(_panel(panel, place, drawn, told(says)))
    bottom = max(place.top + place.height for place in map(place_of, board["panels"]))
    height = round(TOP + bottom + EDGE)
    body = f'{_top(board, view)}<main style="height:{bottom:.0f}px">{"".join(parts)}</main>'
    title = told(board["title"])
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_rules(look)}</style></head><body>{body}</body></html>\n"
    )
    return Page(html, height, remarks)


def _drawn(panel: Json, view: View, box: Box) -> Drawn:
    if panel["type"] == "table":
        return table(panel, transformed(panel, frames_of(answers(panel, view), view.until_ms)), box)
    if panel["type"] not in _DRAW:
        raise StrangeError(f"a panel of type {panel['type']!r} is not known here")
    return _DRAW[panel["type"]](panel, lines(panel, view, box.width), box)


def _overlaps(panels: Sequence[Json]) -> Iterator[str]:
    for one, other in combinations(panels, 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        if not beside and not apart:
            yield f"{one['title']}: lies on {other['title']}"


def _panel(panel: Json, place: Place, drawn: Drawn, says: str) -> str:
    style = (
        f"left:{place.left:.1f}px;top:{place.top:.1f}px;width:{place.width:.1f}px;height:{place.height:.1f}px"
    )
    below = f"<p>{says}</p>" if says else ""
    state = " data-empty" if EMPTY in drawn.remarks else ""
    return (
        f'<section style="{style}"{state}><h3 title="{told(panel["description"])}">{told(panel["title"])}'
        f" <i>i</i></h3>{below}<div class=inner>{drawn.html}</div></section>"
    )


def _top(board: Json, view: View) -> str:
    chosen = "".join(
        f"<span><label>{told(one['label'])}</label><b>{told(_choice(one, view.chosen))} ▾</b></span>"
        for one in board["templating"]["list"]
    )
    marks = "".join(
        f"<span><label>{told(one['name'])}</label><b>◉</b></span>" for one in board["annotations"]["list"]
    )
    links = "".join(f'<a title="{told(one["tooltip"])}">{told(one["title"])}</a>' for one in board["links"])
    until = datetime.fromtimestamp(view.until_ms / 1000, UTC)
    time = f"{told(board['time']['from'])} to {until:%Y-%m-%d %H:%M} UTC"
    return (
        f"<header><nav>{told(board['title'])}<time>{time}</time></nav>"
        f"<div class=chosen>{chosen}{marks}</div><div class=links>{links}</div></header>"
    )


def _choice(variable: Json, chosen: Mapping[str, str]) -> str:
    if variable["type"] == "datasource":
        return "Prometheus"
    value = chosen[variable["name"]]
    return "All" if value == ALL else value


def _rules(look: Look) -> str:
    names = ("canvas", "panel", "border", "text", "faint", "link", "raised")
    own = "".join(f"--{name}:{getattr(look, name)};" for name in names)
    return f":root{{{own}--top:{TOP}px;--width:{WIDTH}px;--edge:{EDGE}px}}{STYLE}"
