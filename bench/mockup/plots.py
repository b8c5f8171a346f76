"""What is drawn over time: lines, areas on top of each other, and states in rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.mockup.asking import Line
from bench.mockup.axes import TICK, moments, scale, ticks
from bench.mockup.drawn import Box, Drawn, nothing
from bench.mockup.fields import Json, Shape, shape
from bench.mockup.look import told, width_of

UNDER, GAP = 21, 9
"""Below the plot the times, left of it the ticks and their texts."""
ENTRY, LEGEND = 20, 0.35
"""The height of a line of the legend, and how much of a panel a legend may take."""
DOT = 2.5


class Plot(NamedTuple):
    """Where the plot lies in its box, and what its edges are."""

    left: float
    width: float
    height: float
    low: float
    high: float
    box: Box

    def x(self, at_ms: int) -> float:
        """Place a moment."""
        return self.left + self.width * (at_ms - self.box.from_ms) / (self.box.now_ms - self.box.from_ms)

    def y(self, value: float) -> float:
        """Place a value; what is beyond the scale stays at its edge."""
        share = (value - self.low) / (self.high - self.low)
        return self.height * (1 - min(max(share, -0.01), 1.01)) + 4


def timeseries(panel: Json, lines: Sequence[Line], box: Box) -> Drawn:
    """Draw lines with their legend below."""
    lines = [line for line in lines if line.points]
    if not lines:
        return nothing(panel)
    shapes = [shape(panel, line.name) for line in lines]
    colours = [one.line(number, box.look) for number, one in enumerate(shapes)]
    legend, tall, remarks = _legend(panel, [line.name for line in lines], colours, box)
    stacked = "stacking" in shapes[0].custom
    layers = _stacked(lines) if stacked else [dict(line.points) for line in lines]
    values = [value for layer in layers for value in layer.values()]
    common = shape(panel)
    low, high = scale([0.0, *values] if stacked else values, common)
    height = box.height - tall - UNDER - 4
    marks = ticks(low, high, height, common, box.now_ms)
    left = GAP + min(max(width_of(text, TICK) for _, text in marks or [(0, "")]), box.width * 0.4)
    plot = Plot(left, box.width - left - 8, height, low, high, box)
    parts = [_axes(plot, marks)]
    bottom: Mapping[int, float] = {}
    drawn = []
    for line, one, layer, colour in zip(lines, shapes, layers, colours, strict=True):
        drawn.append(
            _series(plot, line, one=one, layer=layer, below=bottom if stacked else None, colour=colour)
        )
        bottom = layer
    parts += reversed(drawn) if stacked else drawn
    if common.custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        parts += [_limit(plot, value, box.look.colour(colour)) for value, colour in common.steps[1:]]
    return Drawn(f"{_svg(box.width, box.height - tall, ''.join(parts))}{legend}", remarks)


def _stacked(lines: Sequence[Line]) -> list[dict[int, float]]:
    """Add up series from the first; one that has no value somewhere adds nothing there."""
    times = sorted({at_ms for line in lines for at_ms, _ in line.points})
    below = dict.fromkeys(times, 0.0)
    found = []
    for line in lines:
        own = dict(line.points)
        below = {at_ms: value + own.get(at_ms, 0.0) for at_ms, value in below.items()}
        found.append(below)
    return found


def _runs(times: Sequence[int], step_ms: int) -> list[list[int]]:
    """Cut times where more than a step lacks."""
    runs: list[list[int]] = []
    for at_ms in times:
        if runs and at_ms - runs[-1][-1] <= step_ms:
            runs[-1].append(at_ms)
        else:
            runs.append([at_ms])
    return runs


def _series(
    plot: Plot,
    line: Line,
    *,
    one: Shape,
    layer: Mapping[int, float],
    below: Mapping[int, float] | None,
    colour: str,
) -> str:
    stroke = f'stroke="{colour}" stroke-width="{one.custom.get("lineWidth", 1)}" fill="none"'
    if one.dash:
        stroke += f' stroke-dasharray="{" ".join(map(str, one.dash))}"'
    fill = one.custom.get("fillOpacity", 0) / 100
    style = one.custom.get("drawStyle", "line")
    if style != "line":
        radius = one.custom.get("pointSize", 5) / 2
        wide = max(plot.x(line.step_ms) - plot.x(0), 1) * 0.6
        base = plot.y(0.0)
        dots = ((plot.x(at_ms), plot.y(value)) for at_ms, value in line.points)
        if style == "points":
            return "".join(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>' for x, y in dots
            )
        return "".join(
            f'<rect x="{x - wide / 2:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{base - y:.1f}" '
            f'fill="{colour}" fill-opacity="{fill or 1}"/>'
            for x, y in dots
        )
    parts = []
    for run in _runs(sorted(layer), line.step_ms):
        path = " ".join(f"{plot.x(at_ms):.1f},{plot.y(layer[at_ms]):.1f}" for at_ms in run)
        if len(run) == 1:
            x, _, y = path.partition(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="{DOT}" fill="{colour}"/>')
            continue
        if fill:
            floor = [(at_ms, 0.0 if below is None else below.get(at_ms, 0.0)) for at_ms in reversed(run)]
            back = " ".join(f"{plot.x(at_ms):.1f},{plot.y(value):.1f}" for at_ms, value in floor)
            parts.append(f'<polygon points="{path} {back}" fill="{colour}" fill-opacity="{fill}"/>')
        parts.append(f'<polyline points="{path}" {stroke}/>')
    return "".join(parts)


def _limit(plot: Plot, value: float, colour: str) -> str:
    if not plot.low <= value <= plot.high:
        return ""
    y = f"{plot.y(value):.1f}"
    ends = f'x1="{plot.left:.1f}" x2="{plot.left + plot.width:.1f}" y1="{y}" y2="{y}"'
    return f'<line {ends} stroke="{colour}" stroke-opacity=".8" stroke-dasharray="10 10" stroke-width="2"/>'


def _axes(plot: Plot, marks: Sequence[tuple[float, str]]) -> str:
    look, right = plot.box.look, plot.left + plot.width
    parts = []
    for value, text in marks:
        y = plot.y(value)
        parts.append(f'<line x1="{plot.left - 4:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{plot.left - GAP:.1f}" y="{y + 4:.1f}" text-anchor="end">{told(text)}</text>')
    for at_ms, text in moments(plot.box.from_ms, plot.box.now_ms, plot.width):
        x, base = plot.x(at_ms), plot.height + 4
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{base + 4:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + UNDER - 5:.1f}" text-anchor="middle">{text}</text>')
    return f'<g stroke="{look.grid}" class="axes">{"".join(parts)}</g>'


def _svg(width: float, height: float, inner: str) -> str:
    return (
        f'<svg width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.1f} {height:.1f}">{inner}</svg>'
    )


def _legend(
    panel: Json, names: Sequence[str], colours: Sequence[str], box: Box
) -> tuple[str, float, list[str]]:
    """Lay out the legend; give it, its height, and what is wrong with it."""
    if not panel["options"]["legend"]["showLegend"]:
        return "", 0.0, []
    remarks = []
    rows, at = 1, 0.0
    for name in names:
        wide = 14 + 8 + width_of(name, TICK) + 10
        if at and at + wide > box.width:
            rows, at = rows + 1, 0.0
        at += wide
    wanted = rows * ENTRY
    tall = min(wanted, box.height * LEGEND)
    if wanted > tall + 1:
        remarks.append(f"legend of {len(names)} scrolls: {tall / ENTRY:.1f} of {rows} lines fit")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        remarks.append(f"names that several lines have: {', '.join(twice[:5])}")
    entries = "".join(
        f'<span><i style="background:{colour}"></i>{told(name)}</span>'
        for name, colour in zip(names, colours, strict=True)
    )
    return f'<div class="legend" style="height:{tall:.0f}px">{entries}</div>', tall, remarks


def timeline(panel: Json, lines: Sequence[Line], box: Box) -> Drawn:
    """Draw a row of states for each series."""
    lines = [line for line in lines if line.points]
    if not lines:
        return nothing(panel)
    options, remarks = panel["options"], []
    page = lines[: options["perPage"]]
    paged = 32.0 if len(lines) > len(page) else 0.0
    if paged:
        remarks.append(f"pages: {len(page)} of {len(lines)} rows on the first")
    if not options["legend"]["showLegend"] and options["showValue"] == "never":
        remarks.append("neither legend nor values: what a colour means is told under the mouse only")
    legend, tall, more_remarks = _legend(panel, *_meanings(panel, lines, box), box)
    remarks += more_remarks
    height = box.height - UNDER - 4 - paged - tall
    left = GAP + min(max(width_of(line.name, TICK) for line in page), box.width * 0.4)
    plot = Plot(left, box.width - left - 8, height, 0, 1, box)
    each = height / len(page)
    parts = [_axes(plot, [])]
    for number, line in enumerate(page):
        one = shape(panel, line.name)
        middle = 4 + each * (number + 0.5)
        thick = each * options["rowHeight"]
        name = told(line.name)
        parts.append(
            f'<text class="axes" x="{left - GAP:.1f}" y="{middle + 4:.1f}" text-anchor="end">{name}</text>'
        )
        for begin_ms, end_ms, value in _states(line, box.now_ms):
            x, width = plot.x(begin_ms), plot.x(end_ms) - plot.x(begin_ms)
            colour = one.number(value, box.look, box.now_ms).colour
            place = (
                f'x="{x:.1f}" y="{middle - thick / 2:.1f}" width="{max(width, 1):.1f}" height="{thick:.1f}"'
            )
            parts.append(f'<rect {place} fill="{colour}" fill-opacity=".7"/>')
    more = f'<div class="choice">1 of {-(-len(lines) // options["perPage"])} ▸</div>' if paged else ""
    return Drawn(_svg(box.width, box.height - paged - tall, "".join(parts)) + legend + more, remarks)


def _meanings(panel: Json, lines: Sequence[Line], box: Box) -> tuple[list[str], list[str]]:
    """Give the states that are seen, and their colours, for the legend."""
    values = sorted({value for line in lines for _, value in line.points})
    told_so = dict.fromkeys(shape(panel).number(value, box.look, box.now_ms) for value in values)
    return [one.text for one in told_so], [one.colour for one in told_so]


def _states(line: Line, until_ms: int) -> list[tuple[int, int, float]]:
    """Join steps of the same value; a state lasts until the next one, or until a step lacks."""
    found: list[tuple[int, int, float]] = []
    for at_ms, value in line.points:
        end_ms = min(at_ms + line.step_ms, until_ms)
        if found and found[-1][2] == value and found[-1][1] >= at_ms:
            found[-1] = found[-1][0], end_ms, value
        else:
            found.append((at_ms, end_ms, value))
    return found
