"""How GPUs were used, as text: comparison with the weeks before, capacity, waste, and what is to come."""

from collections.abc import Iterator

from reports.forms.cells import compared_with
from reports.forms.text_page import MOST_ROWS, SHOWN, Page, group_name
from reports.sections import ForecastLine, Score, Step
from reports.wording import NONE, Column, hours, money, number, percent, signed

_BRIDGE = {
    "inventory": "more or less GPU time in all",
    "mix": "shares of the groups in it",
    "coverage": "more or less of it seen",
}
GIBIBYTE = 2**30
MOST_SIZES = 10


def scores(page: Page) -> Iterator[str]:
    """Write the scorecard, and what it is compared with; what is not known of any figure is left out."""
    this, last = page.names
    columns = [Column("figure", "text"), Column(this), Column(last)]
    columns += [Column("4-week mean" if this == "this week" else "mean of 4"), Column("noise")]
    columns += [Column("", "text")]
    rows = [
        [
            line.name.replace("_", " "),
            *(_figure(line, value) for value in (line.value, line.last, line.mean4)),
            NONE if line.noise is None else f"±{_figure(line, line.noise)}",
            NONE if line.verdict == "unknown" else line.verdict,
        ]
        for line in page.sections.scores
        if not line.value == line.last == line.mean4 is None
    ]
    told = [at for at in range(len(columns)) if at <= 1 or any(row[at] != NONE for row in rows)]
    yield from page.rows([columns[at] for at in told], [[row[at] for at in told] for row in rows], "figures")
    if rows and page.sections.last is not None:
        yield page.item(f"{last} is {compared_with(page.report, page.sections.last, last)}")
    if why := page.sections.absent.get("scores"):
        yield page.item(why)


def _figure(line: Score, value: float | None) -> str:
    if value is None:
        return NONE
    match line.unit:
        case "ratio":
            return percent(value)
        case "money":
            return money(value)
        case "kwh":
            return f"{number(value)} kWh"
        case "gpu_hours" | "hours":
            return f"{number(value)} h"
        case "count":
            return number(value).removesuffix(".0")


def bridge(page: Page) -> Iterator[str]:
    """Write the steps from the active time of the time compared with to that of this."""
    rows = [[_step(page, step), _moved(step)] for step in page.sections.bridge]
    yield from page.rows([Column("", "name"), Column("GPU-h")], rows, "steps")


def _step(page: Page, step: Step) -> str:
    match step.kind:
        case "last":
            return page.names.last
        case "this":
            return page.names.this
        case "rate":
            whose = "all others" if step.group is None else group_name(step.group)
            return f"how active they were: {whose}"
        case kind:
            return _BRIDGE[kind]


def _moved(step: Step) -> str:
    if step.kind in ("last", "this") or not step.gpu_ms:
        return hours(step.gpu_ms)
    return f"{'-' if step.gpu_ms < 0 else '+'}{hours(abs(step.gpu_ms))}"


def groups(page: Page) -> Iterator[str]:
    """Write where the hours of each group went."""
    columns = [Column("group", "name"), Column("GPUs"), Column("GPU-h")]
    columns += [Column(title) for title, _ in SHOWN]
    rows = []
    for line in page.sections.groups:
        shares = (
            sum(line.elapsed_ms.get(state, 0) for state in states) / line.inventory_ms
            if line.inventory_ms
            else None
            for _, states in SHOWN
        )
        amounts = [f"{line.gpus:,}", hours(line.inventory_ms)]
        rows.append([group_name(line.group), *amounts, *map(percent, shares)])
    yield from page.rows(columns, rows, "groups")


def capacity(page: Page) -> Iterator[str]:
    """Write what each group has and what was held of it."""
    columns = [Column("group", "name"), Column("GPUs"), Column("usable"), Column("mean"), Column("p95")]
    columns += [Column("p99"), Column("peak"), Column("at", "text"), Column("spare"), Column("return")]
    rows = [
        [
            group_name(line.group),
            *(number(value) for value in (line.gpus, line.usable, line.held_mean)),
            *(number(value) for value in (line.held_p95, line.held_p99, line.peak)),
            page.moment(line.peak_ms)[5:],
            number(line.headroom),
            f"{line.returnable:,}",
        ]
        for line in page.sections.capacity
    ]
    yield from page.rows(columns, rows, "groups")


def fragments(page: Page) -> Iterator[str]:
    """Write how the free GPUs of each group lay, and what jobs could have begun on them."""
    lines = page.sections.fragments
    sizes = sorted({fit.gpus for line in lines for fit in line.fits})
    columns = [Column("group", "name"), Column("free"), Column("pieces"), Column("p50"), Column("p5")]
    columns += [*(Column(f"job of {size}") for size in sizes), Column("stranded")]
    rows = []
    for line in lines:
        ratios = {fit.gpus: percent(fit.hours_ratio) for fit in line.fits}
        rows.append(
            [
                group_name(line.group),
                number(line.free_mean),
                hours(line.pieces_ms),
                f"{line.largest_p50}",
                f"{line.largest_p5}",
                *(ratios.get(size, NONE) for size in sizes),
                hours(line.fits[-1].stranded_ms),
            ]
        )
    yield from page.rows(columns, rows, "groups")


def waste(page: Page) -> Iterator[str]:
    """Write the league table of idle time."""
    columns = [Column("owner", "name"), Column("idle"), Column("share"), *page.cost_column()]
    last = "last" if page.names.last == "last week" else page.names.last.removeprefix("week ")
    columns += [Column(last), Column("weeks"), Column("worst holder", "name"), Column("on", "name")]
    columns += [Column("spell"), Column("GiB")]
    rows = [
        [
            line.owner,
            hours(line.idle_ms),
            percent(line.share_ratio),
            *page.cost_cell(line.cost),
            NONE if line.idle_last_ms is None else hours(line.idle_last_ms),
            f"{line.weeks:,}",
            line.holder or NONE,
            line.node or NONE,
            NONE if line.spell_ms is None else hours(line.spell_ms),
            NONE if line.memory_bytes is None else f"{line.memory_bytes / GIBIBYTE:,.1f}",
        ]
        for line in page.sections.waste
    ]
    yield from page.rows(columns, rows, "owners")


def sizes(page: Page) -> Iterator[str]:
    """Write who could do with less, and what instead."""
    for line in page.sections.sizes[:MOST_SIZES]:
        cost = "" if line.cost is None else f", cost {money(line.cost)}"
        used = f"active {percent(line.activity_mean)} of {hours(line.gpu_ms)} GPU-h"
        memory = f"at most {line.memory_max_bytes / GIBIBYTE:,.1f} GiB"
        saving = f"would free {hours(line.saving_ms)} GPU-h{cost}"
        yield page.item(
            f"{line.holder} of {line.owner} on {line.model or NONE}, {used}, {memory}: "
            f"{line.advice} {saving}",
            "- ",
        )
    yield from page.left_out(len(page.sections.sizes) - MOST_SIZES, "holders")


def forecast(page: Page) -> Iterator[str]:
    """Write when each group will be full."""
    for line in page.sections.forecast[:MOST_ROWS]:
        trend = f"trend {signed(line.slope_per_week, 2)} a week over {line.weeks:,} weeks"
        demand = f"demand {number(line.demand[-1][1])} GPUs, full at {number(line.limit)}"
        text = f"{group_name(line.group)}: {demand}, {trend}; {_crossing(page, line.crossing_ms)}"
        yield page.item(text + _interval(page, line), "- ")
        if line.reclaimed_ms != line.crossing_ms:
            yield page.item(f"had idle time been won back: {_crossing(page, line.reclaimed_ms)}", "  ")
    yield from page.left_out(len(page.sections.forecast) - MOST_ROWS, "groups")


def _crossing(page: Page, at_ms: int | None) -> str:
    if at_ms is None:
        return "not full within three years"
    return "full already" if at_ms <= page.report.window.to_ms else f"full on {page.day(at_ms)}"


def _interval(page: Page, line: ForecastLine) -> str:
    """Give the ends between which it lies in 80 of 100 cases; nothing where both are the same day."""
    early, late = line.crossing_early_ms, line.crossing_late_ms
    if early is None or late == page.report.window.to_ms:
        return ""
    if late is not None and page.day(early) == page.day(late):
        return ""
    first = "already" if early <= page.report.window.to_ms else page.day(early)
    return f" (80 %: {first} to {'not within three years' if late is None else page.day(late)})"
