"""The drawings of the report, as SVG that needs no script: Vega-Altair says what, vl-convert draws it.

Every mark tells its figure in words, and every drawing has a text that says the same as the picture. Colours
are fixed by state; other colours follow the scheme of the page.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from statistics import median

import altair as alt

from agent.tally import HOUR_MS
from agent.tick import State
from reports.compared import Names
from reports.forms.colours import LIGHT, STATES
from reports.forms.drawing import WIDTH, Drawing, Value, colour, data, draw
from reports.forms.grid import signed
from reports.outline import StateLine
from reports.sections import CapacityLine, DayLine, ForecastLine, Group, GroupLine, Step
from reports.wording import cut, hours, number, percent, printable

ROW = 26
MOST_GROUPS = 24
LABEL_FROM = 0.065
NAME_CELLS = 44
WEEK_MS = 168 * HOUR_MS
MOST_WEEKS = 52
_NAMED = {"#ffffff": "white", "#000000": "black"}
"""Inks of states by name: they have no role, and stay as they are in both schemes."""


_Points = Sequence[tuple[float, float]]
"""Weeks from now, and GPUs."""


def group_name(group: Group) -> str:
    """Say which GPUs stand in for one another."""
    return " · ".join(part for part in group if part) or "all"


def fleet_bar(lines: Sequence[StateLine]) -> Drawing:
    """Draw where all hours went, as one bar of 100 %."""
    shares = [line.share_ratio or 0.0 for line in lines]
    ends = list(accumulate(shares))
    rows: list[dict[str, Value]] = [
        {
            "state": line.state.value,
            "from": end - share,
            "to": end,
            "middle": end - share / 2,
            "ink": _NAMED[STATES[line.state].ink],
            "name": line.state.value if share >= LABEL_FROM else "",
            "share": percent(share) if share >= LABEL_FROM else "",
            "says": f"{line.state.value}: {percent(share)}, {hours(line.amounts.elapsed_ms)} GPU-h",
        }
        for line, share, end in zip(lines, shares, ends, strict=True)
    ]
    x = alt.X(
        "from:Q",
        axis=alt.Axis(format="%", title=None, grid=False, tickCount=10),
        scale=alt.Scale(domain=[0, 1], nice=False),
    )
    base = alt.Chart(data(rows))
    bars = base.mark_bar(stroke=LIGHT.page, strokeWidth=1.5, height=56).encode(
        x=x, x2="to:Q", color=colour([line.state for line in lines]), description="says:N"
    )
    ink = alt.Color("ink:N", scale=None)
    names = base.mark_text(fontSize=12, dy=-9, aria=False).encode(x="middle:Q", text="name:N", color=ink)
    figures = base.mark_text(fontSize=14, fontWeight="bold", dy=9, aria=False).encode(
        x="middle:Q", text="share:N", color=ink
    )
    words = "Share of all GPU-hours: " + "; ".join(
        f"{line.state.value} {percent(line.share_ratio)}" for line in lines
    )
    return draw(bars + names + figures, words, 96)


def _pieces(name: str, elapsed: Mapping[State, int]) -> Iterable[dict[str, Value]]:
    """Cut what was done under a name into the parts of a bar of 100 %."""
    whole = sum(elapsed.values())
    upto = 0
    for place, state in enumerate(State):
        part = elapsed.get(state, 0)
        if part and whole:
            yield {
                "name": name,
                "state": state.value,
                "from": upto / whole,
                "to": (upto + part) / whole,
                "place": place,
                "says": f"{printable(name)}: {state.value} {percent(part / whole)}, {hours(part)} GPU-h",
            }
        upto += part


def _shares(elapsed: Mapping[State, int]) -> str:
    whole = sum(elapsed.values())
    return ", ".join(
        f"{state.value} {percent(elapsed[state] / whole)}" for state in State if whole and elapsed.get(state)
    )


def _bars(names: Sequence[str], each: Sequence[Mapping[State, int]], words: str) -> Drawing:
    rows = [row for name, elapsed in zip(names, each, strict=True) for row in _pieces(name, elapsed)]
    chart = (
        alt.Chart(data(rows))
        .mark_bar(stroke=LIGHT.page, strokeWidth=1)
        .encode(
            x=alt.X(
                "from:Q",
                axis=alt.Axis(format="%", title=None, grid=False, tickCount=10),
                scale=alt.Scale(domain=[0, 1], nice=False),
            ),
            x2="to:Q",
            y=alt.Y(
                "name:N", sort=[printable(name) for name in names], title=None, axis=alt.Axis(ticks=False)
            ),
            color=colour(tuple(State)),
            description="says:N",
        )
    )
    said = "; ".join(f"{name}: {_shares(elapsed)}" for name, elapsed in zip(names, each, strict=True))
    return draw(chart, f"{words}. {said}", 36 + ROW * len(names))


def _told_apart(names: Iterable[str]) -> list[str]:
    """Cut names to fit; of those that look the same then, all but the first get a number."""
    found: list[str] = []
    for name in names:
        short = cut(printable(name), NAME_CELLS)
        seen = sum(one == short or one.startswith(f"{short} (") for one in found)
        found.append(f"{short} ({seen + 1})" if seen else short)
    return found


def group_bars(lines: Sequence[GroupLine]) -> Drawing:
    """Draw where the hours of each group went, as bars of 100 %; the largest groups only."""
    shown = sorted(lines, key=lambda line: -line.inventory_ms)[:MOST_GROUPS]
    names = _told_apart(group_name(line.group) for line in shown)
    return _bars(names, [line.elapsed_ms for line in shown], "Share of the GPU-hours of each group")


def day_bars(days: Sequence[DayLine], names: Sequence[str]) -> Drawing:
    """Draw where the hours of each day went, as bars of 100 %."""
    return _bars(names, [day.elapsed_ms for day in days], "Share of the GPU-hours of each day")


def kinds(names: Names) -> dict[str, str]:
    """Say what the steps of the bridge are called, in their order."""
    return {
        "last": names.last,
        "inventory": "inventory",
        "mix": "mix of groups",
        "coverage": "coverage",
        "rate": "rate of use",
        "this": names.this,
    }


def _steps(steps: Sequence[Step], names: Names) -> list[dict[str, Value]]:
    """Sum up steps of a kind, and stack them on one another."""
    sums = {kind: sum(step.gpu_ms for step in steps if step.kind == kind) for kind in kinds(names)}
    there = {step.kind for step in steps}
    rows: list[dict[str, Value]] = []
    upto = 0
    for kind, name in kinds(names).items():
        if kind not in there:
            continue
        whole = kind in ("last", "this")
        start, upto = (sums[kind], sums[kind]) if whole else (upto, upto + sums[kind])
        text = hours(upto) if whole else signed(sums[kind] / HOUR_MS)
        rows.append(
            {
                "name": name,
                "from": start / HOUR_MS,
                "to": upto / HOUR_MS,
                "most": max(start, upto) / HOUR_MS,
                "text": text,
                "colour": STATES[State.ACTIVE].fill if whole else LIGHT.good if upto >= start else LIGHT.bad,
                "whole": "yes" if whole else "no",
                "says": f"{name}: {text} active GPU-h",
            }
        )
    return rows


def waterfall(steps: Sequence[Step], names: Names) -> Drawing:
    """Draw how active time came from another week's to this week's; the axis does not begin at 0."""
    rows = _steps(steps, names)
    low, high = _around([float(row[key] or 0) for row in rows for key in ("from", "to")], 0.18)
    y = alt.Y(
        "from:Q",
        title="active GPU-h",
        scale=alt.Scale(domain=[low, high], nice=False),
        axis=alt.Axis(format=",.0f", tickCount=5),
    )
    order = [str(row["name"]) for row in rows]
    x = alt.X("name:N", sort=order, title=None, axis=alt.Axis(labelAngle=0, ticks=False))
    base = alt.Chart(data(rows)).encode(x=x)
    fill = alt.Color("colour:N", scale=None)
    bars = base.transform_filter("datum.whole == 'no'").mark_bar(width=64)
    ticks = base.transform_filter("datum.whole == 'yes'").mark_tick(thickness=4, width=64, opacity=1)
    text = base.mark_text(dy=-11, fontWeight="bold", aria=False).encode(y=alt.Y("most:Q"), text="text:N")
    words = f"Active GPU-hours, from {names.last} to {names.this}: " + "; ".join(
        f"{row['name']} {row['text']}" for row in rows
    )
    layers = (
        bars.encode(y=y, y2="to:Q", color=fill, description="says:N")
        + ticks.encode(y=y, color=fill, description="says:N")
        + text
    )
    return draw(layers, words, 250)


def _around(values: Sequence[float], part: float) -> tuple[float, float]:
    """Give ends of an axis on which all values lie, with so much of their spread left on both sides."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    pad = (high - low) * part or 1.0
    return low - pad, high + pad


def capacity_bars(lines: Sequence[CapacityLine]) -> Drawing:
    """Draw what groups have, what of it was held on average, and at the 95th percentile of their hours."""
    shown = sorted(lines, key=lambda line: -line.gpus)[:MOST_GROUPS]
    names = _told_apart(group_name(line.group) for line in shown)
    rows: list[dict[str, Value]] = [
        {
            "name": name,
            "usable": line.usable,
            "mean": line.held_mean,
            "p95": line.held_p95,
            "free": f"{number(line.headroom)} left",
            "says": f"{name}: {line.usable:,.1f} usable, held {line.held_mean:,.1f} on average, "
            f"{line.held_p95:,.1f} at p95, {number(line.headroom)} headroom",
        }
        for name, line in zip(names, shown, strict=True)
    ]
    base = alt.Chart(data(rows)).encode(
        y=alt.Y("name:N", sort=names, title=None, axis=alt.Axis(ticks=False)), description="says:N"
    )
    most = max((line.usable for line in shown), default=0) * 1.14 or 1
    x = alt.X(
        "usable:Q",
        title="GPUs",
        axis=alt.Axis(grid=False, tickCount=6),
        scale=alt.Scale(domain=[0, most], nice=False),
    )
    usable = base.mark_bar(height=18, color=LIGHT.panel, stroke=LIGHT.soft, strokeWidth=1).encode(x=x)
    mean = base.mark_bar(height=9, color=STATES[State.ACTIVE].fill).encode(x="mean:Q")
    p95 = base.mark_tick(thickness=3, size=18, color=LIGHT.bad, opacity=1).encode(x="p95:Q")
    text = base.mark_text(align="left", dx=6, aria=False).encode(x="usable:Q", text="free:N")
    words = "Usable GPUs, and what was held of them. " + "; ".join(str(row["says"]) for row in rows)
    return draw(usable + mean + p95 + text, words, 48 + (ROW + 4) * len(names))


def forecast_lines(line: ForecastLine, now_ms: int) -> Drawing:
    """Draw the weekly demand of a group, its trend, and what is usable; time is in weeks from now."""
    points = [((at_ms - now_ms) / WEEK_MS, demand) for at_ms, demand in line.demand]
    level = median([demand - line.slope_per_week * at for at, demand in points]) if points else 0.0
    crossing = None if line.crossing_ms is None else (line.crossing_ms - now_ms) / WEEK_MS
    first = min((at for at, _ in points), default=0.0)
    last = min(MOST_WEEKS, max(12.0, 1.15 * (crossing or 0)))
    trend = [(at, level + line.slope_per_week * at) for at in (first, last)]
    low, high = _around([line.limit, *(gpus for _, gpus in (*points, *trend))], 0.12)
    x = alt.X(
        "at:Q",
        title="weeks from the end of the window",
        scale=alt.Scale(domain=[first, last], nice=False),
        axis=alt.Axis(grid=False, tickCount=6),
    )
    y = alt.Y(
        "gpus:Q",
        title="GPUs",
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        axis=alt.Axis(tickCount=4),
    )
    when = "does not cross" if crossing is None else f"crosses in {crossing:,.0f} weeks"
    words = (
        f"Demand of {group_name(line.group)}: {'; '.join(f'{gpus:,.1f}' for _, gpus in points)} GPUs in "
        f"{line.weeks} weeks, {signed(line.slope_per_week, 2)} a week; limit {line.limit:,.1f}; {when}"
    )
    return draw(_limit(line.limit, first, x, y) + _demand(points, trend, x, y), words, 200, WIDTH / 2)


def _limit(gpus: float, first: float, x: alt.X, y: alt.Y) -> alt.LayerChart:
    base = alt.Chart(data([{"gpus": gpus, "at": first, "says": f"limit {gpus:,.1f}"}]))
    rule = base.mark_rule(color=LIGHT.bad, strokeWidth=1.5).encode(y=y, description="says:N")
    label = base.mark_text(align="left", dx=4, dy=-7, color=LIGHT.bad, aria=False)
    both: alt.LayerChart = rule + label.encode(x=x, y=y, text="says:N")
    return both


def _demand(points: _Points, trend: _Points, x: alt.X, y: alt.Y) -> alt.LayerChart:
    fill = STATES[State.ACTIVE].fill
    seen: list[dict[str, Value]] = [
        {"at": at, "gpus": gpus, "says": f"{-at:,.0f} weeks before the end: {gpus:,.1f} GPUs"}
        for at, gpus in points
    ]
    path = alt.Chart(data({"at": at, "gpus": gpus} for at, gpus in trend))
    dots = alt.Chart(data(seen)).mark_point(color=fill, filled=True, size=50, opacity=1)
    both: alt.LayerChart = path.mark_line(color=fill, strokeDash=[5, 4]).encode(x=x, y=y) + dots.encode(
        x=x, y=y, description="says:N"
    )
    return both
