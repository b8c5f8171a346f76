"""What a planner should do by the sections of a report: buy, give back, send back, cut up.

Each decision has the GPU time of the window that it is about; a purchase has none, so that it is told first.
"""

from collections.abc import Iterator

from agent.tally import DAY_MS, HOUR_MS
from reports.content.forecast import FULL
from reports.outline import Decision, Report
from reports.sections import CapacityLine, Fit, ForecastLine, FragmentLine, Sections, SizeLine
from reports.wording import hours, percent

SOON_MS = 26 * 7 * DAY_MS
"""GPUs take months to come: what will be full within half a year is decided now."""
RETURN_LEAST = 0.05
"""So much of a group must be spare in all but 0.5 % of the hours before any of it is given back."""
WEEK_MS = 7 * DAY_MS
LEAST_SAVED_MS = 24 * HOUR_MS
SELDOM = 0.5
"""A whole node that is free in less than half of the hours is seldom to be had."""


def urgent(report: Report, sections: Sections) -> Iterator[Decision]:
    """Give what cannot wait: groups that will be full, boards to be replaced."""
    for line in sections.forecast:
        if line.crossing_ms is not None and line.crossing_ms - report.window.to_ms <= SOON_MS:
            yield Decision(kind="buy", text=_buy(report, line), gpu_ms=0, cost=None)
            break
    sick = [line for line in sections.reliability.lines if line.replace] if sections.reliability else []
    if sick:
        first = sick[0]
        named = f"{first.serial or first.uuid} on node {first.node}"
        more = f" and {len(sick) - 1:,} more" if len(sick) > 1 else ""
        down_ms = sum(line.down_ms for line in sick)
        text = f"have {named}{more} replaced: what was found on them means a new board"
        yield Decision(kind="replace", text=text, gpu_ms=down_ms, cost=None)


def worthwhile(report: Report, sections: Sections) -> Iterator[Decision]:
    """Give what saves: GPUs that nobody needed, and holders that could do with less."""
    full = {line.group for line in sections.forecast if line.crossing_ms is not None}
    spare = [line for line in sections.capacity if _is_spare(line) and line.group not in full]
    for line in sorted(spare, key=lambda line: -line.returnable)[:1]:
        length_ms = report.covered.to_ms - report.covered.from_ms
        text = (
            f"give back or lend {line.returnable:,} of {line.gpus:,.0f} GPUs of {_name(line)}: "
            "they were not needed in 99.5 % of the hours"
        )
        gpu_ms = line.returnable * length_ms
        yield Decision(kind="return", text=text, gpu_ms=gpu_ms, cost=_cost(sections, line, gpu_ms))
    yield from _pack(sections)
    saved = [line for line in sections.sizes if line.saving_ms >= LEAST_SAVED_MS]
    if saved:
        most = max(saved, key=lambda line: line.saving_ms)
        yield Decision(
            kind="resize",
            text=_resize(most, len(saved)),
            gpu_ms=sum(line.saving_ms for line in saved),
            cost=_sum(saved),
        )


def _pack(sections: Sections) -> Iterator[Decision]:
    """Give the group whose free GPUs would make a whole node, and seldom do."""
    split = [
        (line, line.fits[-1])
        for line in sections.fragments
        if line.node_gpus > 1 and line.free_mean >= line.node_gpus and line.fits[-1].hours_ratio < SELDOM
    ]
    for line, fit in sorted(split, key=lambda pair: -pair[1].stranded_ms)[:1]:
        cost = _cost(sections, line, fit.stranded_ms)
        yield Decision(kind="pack", text=_packed(line, fit), gpu_ms=fit.stranded_ms, cost=cost)


def _packed(line: FragmentLine, fit: Fit) -> str:
    return (
        f"place small jobs of {_name(line)} together: {line.free_mean:,.1f} GPUs were free in the mean, "
        f"yet a job of {fit.gpus} on one node could begin in {percent(fit.hours_ratio)} of the hours only"
    )


def _cost(sections: Sections, line: CapacityLine | FragmentLine, gpu_ms: int) -> float | None:
    """Give what GPU time of a group costs, by what all of it costs."""
    known = [one for one in sections.groups if one.group == line.group and one.inventory_ms]
    costs = [one.cost * gpu_ms / one.inventory_ms for one in known if one.cost is not None]
    return costs[0] if costs else None


def _is_spare(line: CapacityLine) -> bool:
    return line.returnable >= 1 and line.returnable >= RETURN_LEAST * line.gpus


def _name(line: CapacityLine | ForecastLine | FragmentLine) -> str:
    model = line.group.model or "unknown model"
    return f"{model} in pool {line.group.pool}" if line.group.pool else model


def _buy(report: Report, line: ForecastLine) -> str:
    assert line.crossing_ms is not None  # noqa: S101  that was asked
    weeks = (line.crossing_ms - report.window.to_ms) / WEEK_MS
    when = "are full already" if weeks <= 0 else f"will be full in {weeks:,.0f} weeks"
    if line.reclaimed_ms is None:
        then = "win back idle time first: without it they are not full within three years"
    elif line.reclaimed_ms - line.crossing_ms >= WEEK_MS:
        later = (line.reclaimed_ms - line.crossing_ms) / WEEK_MS
        then = f"win back idle time, which puts that off by {later:,.0f} weeks, and plan for more"
    else:
        then = "plan for more"
    return f"{_name(line)} {when} ({FULL * 100:.0f} % of {line.limit / FULL:,.1f} usable): {then}"


def _resize(most: SizeLine, count: int) -> str:
    more = f", and {count - 1:,} more that could do with less" if count > 1 else ""
    return f"move {most.holder} of {most.owner} to {most.advice} (saves {hours(most.saving_ms)} GPU-h){more}"


def _sum(lines: list[SizeLine]) -> float | None:
    known = [line.cost for line in lines if line.cost is not None]
    return sum(known) if known else None
