"""How GPUs were used, as text: comparison with the weeks before, capacity, waste, and what is to come."""

from collections.abc import Iterator

from reports.sections import Score
from reports.text_page import SHOWN, Page, group_name
from reports.wording import NONE, Column, hours, money, percent, table

_BRIDGE = {
    "last": "last week",
    "inventory": "more or less GPU time in all",
    "mix": "shares of the groups in it",
    "coverage": "more or less of it seen",
    "rate": "how active they were: ",
    "this": "this week",
}
GIBIBYTE = 2**30
MOST_SIZES = 10


def scores(page: Page) -> Iterator[str]:
    """Write the scorecard, and which week is the last."""
    columns = [Column("figure", "text"), Column("this week"), Column("last"), Column("4-week mean")]
    columns += [Column("noise"), Column("", "text")]
    rows = [
        [
            line.name.replace("_", " "),
            *(_figure(line, value) for value in (line.value, line.last, line.mean4)),
            NONE if line.noise is None else f"±{_figure(line, line.noise)}",
            NONE if line.verdict == "unknown" else line.verdict,
        ]
        for line in page.sections.scores
    ]
    yield from page.rows(columns, rows, "figures")
    last = page.sections.last
    if rows and last is not None:
        yield page.item(f"last is {page.moment(last.from_ms)} to {page.moment(last.to_ms)}")


def _figure(line: Score, value: float | None) -> str:
    if value is None:
        return NONE
    match line.unit:
        case "ratio":
            return percent(value)
        case "money":
            return money(value)
        case "kwh":
            return f"{value:,.1f} kWh"
        case "gpu_hours" | "hours":
            return f"{value:,.1f} h"
        case "count":
            return f"{value:,.1f}".removesuffix(".0")


def bridge(page: Page) -> Iterator[str]:
    """Write the steps from last week's active time to this week's."""
    rows = []
    for step in page.sections.bridge:
        what = _BRIDGE[step.kind]
        if step.kind == "rate":
            what += "all others" if step.group is None else group_name(step.group)
        sign = "" if step.kind in ("last", "this") else "-" if step.gpu_ms < 0 else "+"
        rows.append([what, sign + hours(abs(step.gpu_ms))])
    yield from table([Column("", "name"), Column("GPU-h")], rows, page.width) if rows else ()


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
            *(f"{value:,.1f}" for value in (line.gpus, line.usable, line.held_mean)),
            *(f"{value:,.1f}" for value in (line.held_p95, line.held_p99, line.peak)),
            page.moment(line.peak_ms)[5:],
            f"{line.headroom:,.1f}",
            f"{line.returnable:,}",
        ]
        for line in page.sections.capacity
    ]
    yield from page.rows(columns, rows, "groups")


def waste(page: Page) -> Iterator[str]:
    """Write the league table of idle time."""
    columns = [Column("owner", "name"), Column("idle"), Column("share"), *page.cost_column()]
    columns += [Column("last"), Column("weeks"), Column("worst holder", "name"), Column("on", "name")]
    columns += [Column("spell"), Column("GiB")]
    rows = [
        [
            line.owner,
            hours(line.idle_ms),
            percent(line.share_ratio),
            *page.cost_cell(money(line.cost)),
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
    if len(page.sections.sizes) > MOST_SIZES:
        yield f"  ... and {len(page.sections.sizes) - MOST_SIZES:,} more holders, not shown"


def forecast(page: Page) -> Iterator[str]:
    """Write when each group will be full."""
    for line in page.sections.forecast:
        trend = f"{line.slope_per_week:+,.2f} GPUs a week over {line.weeks:,} weeks"
        head = (
            f"{group_name(line.group)}: demand {line.demand[-1][1]:,.1f} of {line.limit:,.1f} GPUs, {trend}; "
        )
        yield page.item(head + _crossing(page, line.crossing_ms), "- ")
        now_ms = page.report.window.to_ms
        if line.crossing_early_ms is not None and line.crossing_late_ms != now_ms:
            late = line.crossing_late_ms
            upto = "not within three years" if late is None else page.day(late)
            yield page.item(f"80 % interval: {page.day(line.crossing_early_ms)} to {upto}", "  ")
        if line.reclaimed_ms != line.crossing_ms:
            yield page.item(f"without idle time: {_crossing(page, line.reclaimed_ms)}", "  ")


def _crossing(page: Page, at_ms: int | None) -> str:
    if at_ms is None:
        return "not full within three years"
    return "full now" if at_ms <= page.report.window.to_ms else f"full on {page.day(at_ms)}"
