"""The rows of a report's tables as text, cell by cell: what the forms for terminals and wikis write alike.

Nothing is escaped here: each form escapes what it obeys.
"""

from collections.abc import Iterator
from typing import NamedTuple

from agent.tick import Finding, State, said
from reports.outline import Decision, GpuLine, OwnerLine, Report, Revision, SpellLine, StateLine
from reports.window import Window, at, rfc3339, zone
from reports.wording import NONE, hours, kilowatt_hours, money, percent

OWNER_STATES = (State.HELD_IDLE, State.HELD_GAP, State.ACTIVE, State.SERVICE)
GPU_STATES = (State.HELD_IDLE, State.DOWN, State.UNKNOWN, State.FREE, State.ACTIVE)
GLOSSARY = {
    State.ACTIVE: "held, and its SMs or engines were at work",
    State.HELD_GAP: "held without activity, for less than the patience of its class: a normal pause",
    State.HELD_IDLE: "held without activity beyond that patience: could be won back",
    State.FREE: "nobody held it",
    State.SERVICE: "held by burn-in or health checks only",
    State.DRAINED: "taken out by an operator or the scheduler",
    State.DOWN: "lost, hung, missing, in need of a reset, or its host was off",
    State.UNKNOWN: "nobody looked, or the device would not say; never counted as idle",
}


def title(report: Report) -> str:
    """Name the report by its window."""
    window = report.window
    return f"GPU time, {window.label or f'{rfc3339(window.from_ms)} to {rfc3339(window.to_ms)}'}"


def revision_of(revision: Revision) -> str:
    """Tell in what a report differs from the one before it of the same window."""
    before = "" if revision.before_ms is None else f" of {rfc3339(revision.before_ms)}"
    return f"{revision.number}, since late data changed the one before{before}: {'; '.join(revision.changes)}"


def price_of(report: Report) -> str:
    """Tell by what prices time became money."""
    if report.price_per_gpu_hour is not None:
        return f"{report.price_per_gpu_hour:,} per GPU-hour, for all GPUs"
    return report.prices.note or "none is set, so no money is shown"


def header(report: Report) -> Iterator[tuple[str, str]]:
    """Tell what window it is, how far to trust it, and the sums of all, as names and texts."""
    window, covered = report.window, report.covered
    yield "window", _local(window)
    yield "in UTC", f"{rfc3339(window.from_ms)} to {rfc3339(window.to_ms)}"
    if (covered.from_ms, covered.to_ms) != (window.from_ms, window.to_ms):
        yield "covered", f"only {_local(covered)}"
    inventory, price = report.inventory, report.price_per_gpu_hour
    at_price = "" if price is None else f" at {price:,} per GPU-hour"
    currency = f"{report.prices.currency} " if report.prices.currency else ""
    cost = "" if inventory.cost is None else f", {currency}{money(inventory.cost)}{at_price}"
    gpus = f"{inventory.gpus:,} GPU{'' if inventory.gpus == 1 else 's'}"
    yield "inventory", f"{gpus}, {hours(inventory.gpu_ms)} GPU-hours{cost}"
    if price is None and report.prices.note:
        yield "prices", report.prices.note
    yield "coverage", _share(report.coverage_ratio, "of the time that GPUs were not down")
    yield "busy", _share(report.busy_ratio_mean, "of the time that was seen")
    low, high = report.effective_ratio
    yield "effective", f"{percent(low)} to {_share(high, 'of the inventory')}"
    yield "energy", _energy(report)
    if report.unread:
        count = len(report.unread)
        yield "missing", f"{count:,} journal{'s' * (count > 1)} could not be read, see below"
    yield from (("remark", remark) for remark in report.remarks)
    if report.revision and report.revision.number > 1:
        yield "revision", revision_of(report.revision)
    identity = "PASS" if report.identity_ok else f"FAIL in {report.violation_count:,} GPU-hours"
    yield "identity", f"{identity}: the states of each GPU sum to its time in each hour"


def _local(window: Window) -> str:
    where = zone(window.timezone)
    start, end = (f"{at(moment, where):%a %Y-%m-%d %H:%M}" for moment in (window.from_ms, window.to_ms))
    return f"{start} to {end} {window.timezone}, {hours(window.to_ms - window.from_ms)} h"


def _share(ratio: float | None, text: str) -> str:
    return "not known" if ratio is None else f"{percent(ratio)} {text}"


def _energy(report: Report) -> str:
    joules = report.sums.total.joules
    if joules is None:
        return "not known"
    whole = f"{kilowatt_hours(joules)} kWh"
    if report.energy_seen_ratio == 1:
        return whole
    return f"{whole} in {_share(report.energy_seen_ratio, 'of the time, the rest was not seen')}"


def compared_with(report: Report, last: Window, name: str) -> str:
    """Say which window the figures of another one are of, unless its name says so already."""
    where = zone(report.window.timezone)
    edges = " to ".join(f"{at(moment, where):%Y-%m-%d %H:%M}" for moment in (last.from_ms, last.to_ms))
    return f"{last.label}, {edges}" if last.label and last.label != name else edges


def cost_titles(report: Report) -> list[str]:
    """Give the title of a column of costs; none where nothing has a price."""
    return [report.prices.title] if report.priced else []


def cost_cells(report: Report, cost: float | None) -> list[str]:
    """Give the cell of that column."""
    return [money(cost) for _ in cost_titles(report)]


def amount(report: Report, one: Decision) -> str:
    """Give the GPU time and the money that hang on a decision; nothing where it is about none."""
    if not one.gpu_ms:
        return ""
    cost = "" if one.cost is None else f", {report.prices.title} {money(one.cost)}"
    return f"{hours(one.gpu_ms)} GPU-h{cost}"


class StateCells(NamedTuple):
    """What all GPUs did in one state, without its cost."""

    state: str
    gpu_hours: str
    share: str
    kwh: str


def state_cells(line: StateLine) -> StateCells:
    """Write one state."""
    amounts = line.amounts
    return StateCells(
        line.state.value,
        hours(amounts.elapsed_ms),
        percent(line.share_ratio),
        kilowatt_hours(amounts.joules),
    )


def owner_cells(report: Report, line: OwnerLine) -> list[str]:
    """Write one owner: hours by OWNER_STATES, busy, kWh, and cost with a price."""
    return [
        line.owner,
        *(hours(line.sums.elapsed_ms(state)) for state in OWNER_STATES),
        percent(line.sums.total.busy_ratio_mean),
        kilowatt_hours(line.sums.total.joules),
        *cost_cells(report, line.cost),
    ]


def gpu_cells(line: GpuLine) -> list[str]:
    """Write one GPU: node, index, UUID, model, hours by GPU_STATES, busy."""
    return [
        line.node,
        NONE if line.index is None else str(line.index),
        line.uuid,
        line.model or NONE,
        *(hours(line.sums.elapsed_ms(state)) for state in GPU_STATES),
        percent(line.sums.total.busy_ratio_mean),
    ]


def by_waste(report: Report) -> list[GpuLine]:
    """Give the GPUs, those that lost most of their time first, then those that were free most."""
    return sorted(report.gpus, key=lambda line: (-line.wasted_ms, -line.sums.elapsed_ms(State.FREE)))


class SpellCells(NamedTuple):
    """One spell; `goes_on` is empty if it ended."""

    node: str
    gpu: str
    owner: str
    holder: str
    began: str
    seen_hours: str
    beyond_hours: str
    goes_on: str


def spell_cells(report: Report, line: SpellLine) -> SpellCells:
    """Write one spell."""
    spell = line.spell
    return SpellCells(
        line.node,
        spell.uuid if line.index is None else f"{line.index} {spell.uuid}",
        spell.owner or NONE,
        said(spell.kind, spell.holder),
        f"{at(spell.start_ms, zone(report.window.timezone)):%Y-%m-%d %H:%M}",
        hours(spell.seen_ms),
        hours(spell.beyond_ms),
        "" if spell.ended else "goes on",
    )


class FindingCells(NamedTuple):
    """One finding: how grave, which rule, where, since when, until when, and what it says."""

    severity: str
    rule: str
    where: str
    opened: str
    closed: str
    text: str


def finding_cells(one: Finding) -> FindingCells:
    """Write one finding."""
    return FindingCells(
        one.severity,
        one.rule,
        f"{one.node} {one.uuid}".strip(),
        rfc3339(one.opened_ms),
        "open" if one.closed_ms is None else f"closed {rfc3339(one.closed_ms)}",
        f"{one.summary}; {one.action}" if one.action else one.summary,
    )
