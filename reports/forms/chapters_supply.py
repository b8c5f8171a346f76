"""The chapters on supply: capacity and headroom, the forecast, and the register of assets."""

from collections.abc import Iterator

from agent.tick import State
from reports.forms import charts
from reports.forms.grid import (
    Block,
    Cell,
    Figure,
    Head,
    Note,
    Row,
    Table,
    hours_cell,
    number_cell,
    percent_cell,
    signed,
)
from reports.forms.story import MOST_ROWS, Story, group_cell, index_cell
from reports.sections import AssetLine, ForecastLine
from reports.wording import NONE

MOST_FORECASTS = 6
_STATES = frozenset(state.value for state in State)


def capacity(story: Story) -> Iterator[Block]:
    """Say what could still be taken on, and what is never needed."""
    lines = sorted(story.sections.capacity, key=lambda line: -line.gpus)
    picture = charts.capacity_bars(lines)
    caption = "Usable GPUs (frame), held on average (bar) and in all but 5 % of the hours (line)"
    yield Figure(svg=picture.svg, caption=caption)
    heads = [Head("pool", "name"), Head("model", "name"), Head("GPUs"), Head("usable"), Head("held, mean")]
    heads += [
        Head("p95"),
        Head("p99"),
        Head("peak"),
        Head("peak at", "moment"),
        Head("headroom"),
        Head("returnable"),
    ]
    rows: list[Row] = [
        [
            *group_cell(line.group),
            *(number_cell(value, 1) for value in (line.gpus, line.usable, line.held_mean)),
            *(number_cell(value, 1) for value in (line.held_p95, line.held_p99, line.peak)),
            story.moment_cell(line.peak_ms),
            number_cell(line.headroom, 1),
            number_cell(line.returnable),
        ]
        for line in lines
    ]
    yield Table(
        caption="Capacity and headroom, in GPUs",
        heads=heads,
        rows=rows[:MOST_ROWS],
        left_out=max(0, len(rows) - MOST_ROWS),
        what="groups",
    )
    yield Note(
        sentences=[
            "Headroom: usable less what was held in all but 5 % of the hours; so many GPUs of new work fit.",
            "Returnable: what was not needed in 99.5 % of the hours.",
        ]
    )


def fragments(story: Story) -> Iterator[Block]:
    """Say how free GPUs lay, and what jobs could have begun on them."""
    lines = sorted(story.sections.fragments, key=lambda line: -line.free_mean)
    sizes = sorted({fit.gpus for line in lines for fit in line.fits})
    heads = [Head("pool", "name"), Head("model", "name"), Head("per node"), Head("free, mean")]
    heads += [Head("pieces h"), Head("largest p50"), Head("p5")]
    heads += [Head(f"job of {size}") for size in sizes] + [Head("stranded h")]
    rows: list[Row] = []
    for line in lines:
        ratios = {fit.gpus: fit.hours_ratio for fit in line.fits}
        rows.append(
            [
                *group_cell(line.group),
                number_cell(line.node_gpus),
                number_cell(line.free_mean, 1),
                hours_cell(line.pieces_ms),
                number_cell(line.largest_p50),
                number_cell(line.largest_p5),
                *(percent_cell(ratios.get(size)) for size in sizes),
                hours_cell(line.fits[-1].stranded_ms),
            ]
        )
    yield Table(
        caption="Free GPUs, and the share of the hours in which a job of that size could begin on one node",
        heads=heads,
        rows=rows[:MOST_ROWS],
        left_out=max(0, len(rows) - MOST_ROWS),
        what="groups",
    )
    yield Note(
        sentences=[
            "Free: throughout an hour. Pieces: free for a part of an hour, or a part of a GPU.",
            "Largest: the largest job on one node that could begin in half of the hours (p50), in 95 % (p5).",
            "Stranded: free on nodes of which other GPUs were not: no job of a whole node could begin.",
        ]
    )


def forecast(story: Story) -> Iterator[Block]:
    """Say when demand will pass what is usable."""
    lines = sorted(
        story.sections.forecast, key=lambda line: (line.crossing_ms is None, line.crossing_ms or 0)
    )
    heads = [Head("pool", "name"), Head("model", "name"), Head("weeks seen"), Head("limit GPUs")]
    heads += [
        Head("GPUs a week"),
        Head("full on", "moment"),
        Head("earliest", "moment"),
        Head("latest", "moment"),
    ]
    yield Table(
        caption="When demand passes what is usable, by the trend of the weeks; 80 % interval",
        heads=[*heads, Head("if idle is won back", "moment")],
        rows=[_forecast(story, line) for line in lines[:MOST_ROWS]],
        left_out=max(0, len(lines) - MOST_ROWS),
        what="groups",
    )
    for line in lines[:MOST_FORECASTS]:
        picture = charts.forecast_lines(line, story.report.window.to_ms)
        caption = f"{charts.group_name(line.group)}: weekly demand (dots), trend, and limit"
        yield Figure(svg=picture.svg, caption=caption, small=True)
    if len(lines) > MOST_FORECASTS:
        yield Note(sentences=[f"Drawn are the {MOST_FORECASTS} groups that are full first."])


def _forecast(story: Story, line: ForecastLine) -> Row:
    moments = (line.crossing_ms, line.crossing_early_ms, line.crossing_late_ms, line.reclaimed_ms)
    return [
        *group_cell(line.group),
        number_cell(line.weeks),
        number_cell(line.limit, 1),
        Cell(signed(line.slope_per_week, 2), line.slope_per_week),
        *(Cell("not in 3 years") if one is None else Cell(story.day(one), one) for one in moments),
    ]


def assets(story: Story) -> Iterator[Block]:
    """List every GPU with its places; those that are not well first."""
    lines = sorted(
        story.sections.assets, key=lambda line: (line.state == State.ACTIVE.value, not line.moves, line.node)
    )
    heads = [
        Head("GPU", "id"),
        Head("serial", "name"),
        Head("model", "name"),
        Head("node", "name"),
        Head("#"),
    ]
    heads += [Head("there since", "moment"), Head("first seen", "moment"), Head("last seen", "moment")]
    heads += [Head("seen h"), Head("active h"), Head("state", "text"), Head("places before", "text")]
    yield Table(
        caption=f"The register: {len(lines):,} GPUs; not active first, then those that were moved",
        heads=heads,
        rows=[_asset(story, line) for line in lines[:MOST_ROWS]],
        left_out=max(0, len(lines) - MOST_ROWS),
        what="GPUs",
    )


def _asset(story: Story, line: AssetLine) -> Row:
    before = "; ".join(f"{node} until {story.date_cell(to_ms).text}" for node, _, to_ms in line.moves)
    return [
        story.gpu_cell(line.uuid),
        Cell(line.serial or NONE),
        Cell(line.model or NONE),
        story.node_cell(line.node),
        index_cell(line.index),
        story.date_cell(line.since_ms),
        story.date_cell(line.first_seen_ms),
        story.date_cell(line.last_seen_ms),
        hours_cell(line.seen_ms),
        hours_cell(line.active_ms),
        Cell(line.state or NONE, chip=line.state if line.state in _STATES else ""),
        Cell(before),
    ]
