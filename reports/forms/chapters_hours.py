"""The chapters on where the hours went: scorecard, states, the bridge from the week before, and the days."""

from collections.abc import Iterator, Sequence

from agent.tick import State
from reports.compared import label
from reports.forms import charts
from reports.forms.colours import RAMP
from reports.forms.grid import (
    Block,
    Cell,
    Figure,
    Head,
    Map,
    Note,
    Row,
    Table,
    change_cell,
    energy_cell,
    hours_cell,
    money_cell,
    number_cell,
    percent_cell,
    signed,
)
from reports.forms.story import MOST_ROWS, Story, group_cell
from reports.sections import HeatMap, Score
from reports.window import at
from reports.wording import NONE, money, percent

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_VERDICTS = {"better": "good", "worse": "bad", "same": "", "unknown": "soft"}
_NAMES = tuple(state.value for state in State)


def scorecard(story: Story) -> Iterator[Block]:
    """Compare this week with another one and with four."""
    this, last = story.names
    told = story.sections.last
    heads = [
        Head("figure", "name"),
        Head(this),
        Head(last),
        Head("change"),
        Head("mean of 4 weeks"),
    ]
    heads += [Head("noise ±"), Head("verdict", "text")]
    yield Table(
        caption=_title(this) + (f" beside {label(told)}" if told else ""),
        heads=heads,
        rows=[_score(one) for one in story.sections.scores],
        fixed=True,
    )
    yield Note(
        sentences=[
            "A change within the noise is called the same; a week that was not covered well is not compared."
        ]
    )


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def _score(one: Score) -> Row:
    change = None if one.value is None or one.last is None else one.value - one.last
    arrow = "" if not change else "▲ " if change > 0 else "▼ "
    compared = one.verdict in ("better", "worse")
    return [
        Cell(one.name.replace("_", " "), note=one.meaning),
        _amount(one, one.value),
        _amount(one, one.last),
        _change(one, change),
        _amount(one, one.mean4),
        _amount(one, one.noise, noise=True),
        Cell(f"{arrow if compared else ''}{one.verdict}", tone=_VERDICTS[one.verdict]),  # type: ignore[arg-type]
    ]


_UNITS = {"gpu_hours": "GPU-h", "kwh": "kWh", "hours": "h", "count": "", "money": "", "ratio": ""}


def _amount(one: Score, value: float | None, *, noise: bool = False) -> Cell:
    if value is None:
        return Cell(NONE)
    if one.unit == "ratio":
        return Cell(f"{value * 100:.1f} pp", value) if noise else Cell(percent(value), value)
    if one.unit == "money":
        return Cell(money(value), value)
    return number_cell(value, 0 if one.unit == "count" and not value % 1 else 1, _UNITS[one.unit])


def _change(one: Score, change: float | None) -> Cell:
    if change is None:
        return Cell(NONE)
    if one.unit == "ratio":
        return Cell(f"{signed(change * 100)} pp", change)
    digits = {"money": 2, "count": 0}.get(one.unit, 1)
    return Cell(f"{signed(change, digits)} {_UNITS[one.unit]}".rstrip(), change)


def states(story: Story) -> Iterator[Block]:
    """Say where all hours went, then those of each group and day."""
    report = story.report
    picture = charts.fleet_bar(report.states)
    yield Figure(svg=picture.svg, caption="All GPU-hours by state", legend=True)
    rows: list[Row] = [
        [
            Cell(line.state.value, chip=line.state.value),
            hours_cell(line.amounts.elapsed_ms),
            percent_cell(line.share_ratio, share=line.share_ratio or 0.0),
            number_cell(story.gpus(line.amounts.elapsed_ms), 1),
            energy_cell(line.amounts.joules),
            money_cell(line.cost),
        ]
        for line in report.states
    ]
    whole = report.sums.total
    total = [Cell("sum"), hours_cell(whole.elapsed_ms), percent_cell(_whole_share(story))]
    total += [number_cell(story.gpus(whole.elapsed_ms), 1), energy_cell(whole.joules)]
    costs = [line.cost for line in report.states if line.cost is not None]
    yield Table(
        caption="Hours by state; the eight states sum to the inventory",
        heads=[
            Head("state", "text"),
            Head("GPU-h"),
            Head("share"),
            Head("as GPUs"),
            Head("kWh"),
            Head("cost", "money"),
        ],
        rows=rows,
        foot=[[*total, money_cell(sum(costs) if costs else None)]],
        fixed=True,
    )
    yield from _groups(story)
    yield from _days(story)


def _whole_share(story: Story) -> float | None:
    owed_ms = story.report.inventory.gpu_ms
    return story.report.sums.total.elapsed_ms / owed_ms if owed_ms else None


def _shares_of(elapsed: Sequence[int]) -> list[Cell]:
    whole = sum(elapsed)
    return [percent_cell(part / whole if whole else None) for part in elapsed]


def _groups(story: Story) -> Iterator[Block]:
    lines = story.sections.groups
    if not lines:
        why = story.why_absent("groups")
        if why:
            yield Note(sentences=[f"Hours by pool and model are not shown: {why}"])
        return
    picture = charts.group_bars(lines)
    caption = "GPU-hours by pool and model"
    yield Figure(svg=picture.svg, caption=caption, legend=True)
    rows: list[Row] = [
        [
            *group_cell(line.group),
            number_cell(line.gpus),
            hours_cell(line.inventory_ms),
            *_shares_of([line.elapsed_ms.get(state, 0) for state in State]),
            percent_cell(line.busy_ratio_mean),
            money_cell(line.cost),
        ]
        for line in sorted(lines, key=lambda line: -line.inventory_ms)
    ]
    heads = [Head("pool", "name"), Head("model", "name"), Head("GPUs"), Head("GPU-h"), *map(Head, _NAMES)]
    yield Table(
        caption="Shares of the hours of each pool and model",
        heads=[*heads, Head("busy"), Head("cost", "money")],
        rows=rows[:MOST_ROWS],
        left_out=max(0, len(rows) - MOST_ROWS),
        what="groups",
    )


def _days(story: Story) -> Iterator[Block]:
    days = story.sections.days
    if not days:
        why = story.why_absent("days")
        if why:
            yield Note(sentences=[f"Hours by day are not shown: {why}"])
        return
    names = [f"{at(day.start_ms, story.where):%a %d %b}" for day in days]
    if len(days) <= charts.MOST_GROUPS:
        picture = charts.day_bars(days, names)
        yield Figure(svg=picture.svg, caption="GPU-hours by day", legend=True)
    rows: list[Row] = [
        [
            Cell(name, day.start_ms),
            hours_cell(sum(day.elapsed_ms.values())),
            *(hours_cell(day.elapsed_ms.get(state, 0)) for state in State),
            hours_cell(day.busy_ms),
        ]
        for name, day in zip(names, days, strict=True)
    ]
    yield Table(
        caption="GPU-hours of each day",
        heads=[Head("day", "moment"), Head("all"), *map(Head, _NAMES), Head("busy")],
        rows=rows[-MOST_ROWS:],
        left_out=max(0, len(rows) - MOST_ROWS),
        what="days",
    )


def bridge(story: Story) -> Iterator[Block]:
    """Say why there is more or less active time than in the week compared with."""
    steps, names = story.sections.bridge, story.names
    picture = charts.waterfall(steps, names)
    caption = f"Active GPU-hours, from {names.last} to {names.this}; the axis does not begin at 0"
    yield Figure(svg=picture.svg, caption=caption)
    rows: list[Row] = []
    for step in steps:
        whole = step.kind in ("last", "this")
        named = step.group if step.kind in ("mix", "rate") else None
        what = charts.group_name(named) if named else "other groups" if step.kind == "rate" else "all"
        amount = hours_cell(step.gpu_ms) if whole else change_cell(step.gpu_ms)
        rows.append([Cell(charts.kinds(names)[step.kind]), Cell(what), amount])
    yield Table(
        caption="The steps: each changes one thing and leaves all others as they were",
        heads=[Head("step", "text"), Head("of which GPUs", "name"), Head("active GPU-h")],
        rows=rows,
        fixed=True,
    )


def rhythm(story: Story) -> Iterator[Block]:
    """Show at which hours of the week GPUs work, and are held."""
    found = story.sections.heat_map
    if found is None:
        return
    rates = []
    if found.weekday_effective is not None:
        rates.append(f"on weekdays {percent(found.weekday_effective)}")
    if found.weekend_effective is not None:
        rates.append(f"at the weekend {percent(found.weekend_effective)}")
    if rates:
        yield Note(sentences=[f"Effective use: {', '.join(rates)} of the inventory."])
    zone = story.report.window.timezone
    yield _map(f"Effective use in %: busy time over the inventory; {zone}", found.effective, found)
    yield _map(f"Occupancy in %: held time over what was seen and up; {zone}", found.occupied, found)
    if found.changed:
        yield Note(
            sentences=["The clocks changed in cells with a ring: they have more or less than an hour."]
        )


def _map(caption: str, shares: Sequence[Sequence[float | None]], found: HeatMap) -> Map:
    changed = set(found.changed)
    return Map(
        caption=caption,
        rows=[
            (
                _DAYS[day],
                [
                    (
                        NONE if share is None else f"{share * 100:.0f}",
                        None if share is None else min(len(RAMP) - 1, max(0, int(share * len(RAMP)))),
                        (day, hour) in changed,
                    )
                    for hour, share in enumerate(row)
                ],
            )
            for day, row in enumerate(shares)
        ],
    )
