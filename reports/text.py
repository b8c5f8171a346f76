"""The report as text for a terminal or a mail: what to do first, then the numbers that say why.

Names from outside are escaped, so that no job or owner can speak to the terminal.
"""

from collections.abc import Iterator

from agent.tick import State, said
from reports.outline import GpuLine, Report, SpellLine
from reports.text_sections import section_parts
from reports.window import Window, at, rfc3339, zone
from reports.wording import NONE, Column, bar, hours, kilowatt_hours, money, percent, table, wrapped

NARROWEST = 80
BAR_CELLS = 20
MOST_GPUS = 20
MOST_OWNERS = 20
MOST_FINDINGS = 20
MOST_SPELLS = 10
MOST_SHOWN_VIOLATIONS = 5
FULL_ENERGY = 0.98

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


def to_text(report: Report, width: int = 100) -> str:
    """Write a report in lines of so many terminal cells, as far as names can be cut to fit."""
    width = max(NARROWEST, width)
    parts = (
        ("", _header(report, width)),
        ("What to do", _decisions(report, width)),
        ("Hours by state", _states(report, width)),
        *(section_parts(report.sections, report, width) if report.sections else ()),
        ("Hours by owner, idle first", _owners(report, width)),
        ("Hours by GPU, wasted (idle, down, unknown) first; spell is the longest", _gpus(report, width)),
        (
            "Longest idle spells: hours seen, and beyond patience (of whole spells, also outside the window)",
            _spells(report, width),
        ),
        ("Findings", _findings(report, width)),
        ("Quality of the data", _quality(report, width)),
        ("States", _glossary(width)),
    )
    blocks = []
    for title, lines in parts:
        body = "\n".join(lines)
        if body:
            blocks.append(f"{wrapped(title, width)}\n{body}" if title else body)
    return "\n\n".join(blocks) + "\n"


def _header(report: Report, width: int) -> Iterator[str]:
    window, covered = report.window, report.covered
    label = window.label or f"{rfc3339(window.from_ms)} to {rfc3339(window.to_ms)}"
    yield wrapped(f"GPU time, {label}", width)
    yield _fact("window", _local(window), width)
    yield _fact("in UTC", f"{rfc3339(window.from_ms)} to {rfc3339(window.to_ms)}", width)
    if (covered.from_ms, covered.to_ms) != (window.from_ms, window.to_ms):
        yield _fact("covered", f"only {_local(covered)}", width)
    inventory = report.inventory
    cost = (
        ""
        if inventory.cost is None
        else f", {money(inventory.cost)} at {report.price_per_gpu_hour:,} per GPU-hour"
    )
    yield _fact("inventory", f"{inventory.gpus:,} GPUs, {hours(inventory.gpu_ms)} GPU-hours{cost}", width)
    yield _fact("coverage", _share(report.coverage_ratio, "of the time that GPUs were not down"), width)
    yield _fact("busy", _share(report.busy_ratio_mean, "of the time that was seen"), width)
    low, high = report.effective_ratio
    yield _fact("effective", f"{percent(low)} to {_share(high, 'of the inventory')}", width)
    yield _fact("energy", _energy(report), width)
    if report.unread:
        count = len(report.unread)
        yield _fact("missing", f"{count:,} journal{'s' * (count > 1)} could not be read, see below", width)
    identity = "PASS" if report.identity_ok else "FAIL"
    for remark in report.remarks:
        yield _fact("remark", remark, width)
    yield _fact("identity", f"{identity}: the states of each GPU sum to its time in each hour", width)


def _share(ratio: float | None, text: str) -> str:
    return "not known" if ratio is None else f"{percent(ratio)} {text}"


def _fact(name: str, text: str, width: int) -> str:
    return wrapped(text, width, f"  {name:<11}", " " * 13)


def _energy(report: Report) -> str:
    joules = report.sums.total.joules
    if joules is None:
        return "not known"
    whole = f"{kilowatt_hours(joules)} kWh"
    if report.energy_seen_ratio == 1:
        return whole
    return f"{whole} in {_share(report.energy_seen_ratio, 'of the time, the rest was not seen')}"


def _local(window: Window) -> str:
    where = zone(window.timezone)
    start, end = (f"{at(moment, where):%a %Y-%m-%d %H:%M}" for moment in (window.from_ms, window.to_ms))
    return f"{start} to {end} {window.timezone}, {hours(window.to_ms - window.from_ms)} h"


def _item(text: str, width: int, mark: str = "") -> str:
    return wrapped(text, width, f"  {mark}", " " * (2 + len(mark)))


def _decisions(report: Report, width: int) -> Iterator[str]:
    if not report.decisions:
        yield "  nothing stands out"
    for number, decision in enumerate(report.decisions, 1):
        cost = "" if decision.cost is None else f", cost {money(decision.cost)}"
        text = f"{decision.text} [{hours(decision.gpu_ms)} GPU-h{cost}]"
        yield _item(text, width, f"{number}. ")


def _states(report: Report, width: int) -> list[str]:
    columns = [Column("state", "text"), Column("GPU-h"), Column("share"), Column("", "text")]
    columns += [Column("kWh"), *_cost_column(report)]
    rows = [
        [
            line.state.value,
            hours(line.amounts.elapsed_ms),
            percent(line.share_ratio),
            bar(line.share_ratio, BAR_CELLS),
            kilowatt_hours(line.amounts.joules),
            *_cost_cell(report, line.cost),
        ]
        for line in report.states
    ]
    whole = report.sums.total
    total = ["sum", hours(whole.elapsed_ms), "", "", kilowatt_hours(whole.joules)]
    cost = sum(line.cost or 0 for line in report.states)
    return table(columns, [*rows, [*total, *_cost_cell(report, cost)]], width)


def _cost_column(report: Report) -> list[Column]:
    return [] if report.price_per_gpu_hour is None else [Column("cost")]


def _cost_cell(report: Report, cost: float | None) -> list[str]:
    return [] if report.price_per_gpu_hour is None else [money(cost)]


def _owners(report: Report, width: int) -> Iterator[str]:
    columns = [Column("owner", "name"), Column("idle"), Column("gap"), Column("active")]
    columns += [Column("service"), Column("busy"), Column("kWh"), *_cost_column(report)]
    states = (State.HELD_IDLE, State.HELD_GAP, State.ACTIVE, State.SERVICE)
    rows = [
        [
            line.owner,
            *(hours(line.sums.elapsed_ms(state)) for state in states),
            percent(line.sums.total.busy_ratio_mean),
            kilowatt_hours(line.sums.total.joules),
            *_cost_cell(report, line.cost),
        ]
        for line in report.owners[:MOST_OWNERS]
    ]
    yield from table(columns, rows, width)
    yield from _not_shown(len(report.owners), MOST_OWNERS, "owners")


def _not_shown(count: int, most: int, what: str) -> Iterator[str]:
    if count > most:
        yield f"  ... and {count - most:,} more {what}, not shown; --format json has all of them"


def _gpus(report: Report, width: int) -> Iterator[str]:
    columns = [Column("node", "name"), Column("#"), Column("uuid", "name"), Column("model", "name")]
    columns += [Column(title) for title in ("idle", "down", "unknown", "free", "active")]
    columns += [Column("busy"), Column("spell")]
    states = (State.HELD_IDLE, State.DOWN, State.UNKNOWN, State.FREE, State.ACTIVE)
    rows = [
        [
            line.node,
            NONE if line.index is None else str(line.index),
            line.uuid,
            line.model or NONE,
            *(hours(line.sums.elapsed_ms(state)) for state in states),
            percent(line.sums.total.busy_ratio_mean),
            NONE if line.longest_spell_ms is None else hours(line.longest_spell_ms),
        ]
        for line in by_waste(report)[:MOST_GPUS]
    ]
    yield from table(columns, rows, width)
    yield from _not_shown(len(report.gpus), MOST_GPUS, "GPUs")


def by_waste(report: Report) -> list[GpuLine]:
    """Give the GPUs, those that lost most of their time first, then those that were free most."""
    return sorted(report.gpus, key=lambda line: (-line.wasted_ms, -line.sums.elapsed_ms(State.FREE)))


def _spells(report: Report, width: int) -> list[str]:
    columns = [Column(title, "name") for title in ("node", "gpu", "owner", "holder")]
    columns += [Column("began", "text"), Column("seen"), Column("beyond"), Column("", "text")]
    rows = [_spell(report, line) for line in report.spells[:MOST_SPELLS]]
    return table(columns, rows, width) if rows else ["  none went beyond its patience"]


def _spell(report: Report, line: SpellLine) -> list[str]:
    spell = line.spell
    return [
        line.node,
        spell.uuid if line.index is None else f"{line.index} {spell.uuid}",
        spell.owner or NONE,
        said(spell.kind, spell.holder),
        f"{at(spell.start_ms, zone(report.window.timezone)):%Y-%m-%d %H:%M}",
        hours(spell.seen_ms),
        hours(spell.beyond_ms),
        "" if spell.ended else "goes on",
    ]


def _findings(report: Report, width: int) -> Iterator[str]:
    for finding in report.findings[:MOST_FINDINGS]:
        where = f"{finding.node} {finding.uuid}".strip()
        closed = "open" if finding.closed_ms is None else f"closed {rfc3339(finding.closed_ms)}"
        head = f"{finding.severity} {finding.rule} on {where}, {rfc3339(finding.opened_ms)}, {closed}: "
        action = f"; {finding.action}" if finding.action else ""
        yield _item(f"{head}{finding.summary}{action}", width, "- ")
    yield from _not_shown(len(report.findings), MOST_FINDINGS, "findings")


def _quality(report: Report, width: int) -> Iterator[str]:
    for sentence in report.unread:
        yield _item(f"not in this report: {sentence}", width, "- ")
    for row in report.violations[:MOST_SHOWN_VIOLATIONS]:
        text = (
            f"{row.uuid} in the hour from {rfc3339(row.hour_ms)}: was there {row.owed_ms / 1000:,.3f} s, "
            f"its states sum to {row.entered_ms / 1000:,.3f} s"
        )
        yield _item(text, width, "- ")
    yield from _not_shown(report.violation_count, MOST_SHOWN_VIOLATIONS, "hours that do not add up")
    if report.energy_seen_ratio is None or report.energy_seen_ratio < FULL_ENERGY:
        share = percent(report.energy_seen_ratio)
        yield _item(f"energy was seen for {share} of the time; the rest is missing, not 0", width, "- ")
    if report.span.first_ms > report.span.enrolled_ms >= 0:
        first, enrolled = rfc3339(report.span.first_ms), rfc3339(report.span.enrolled_ms)
        yield _item(f"GPUs are known since {enrolled}, their accounts reach back to {first}", width, "- ")
    if not report.identity_ok:
        yield _item("the accounts or the inventory were changed outside gputally, or it has a defect", width)


def _glossary(width: int) -> list[str]:
    return [_item(text, width, f"{state.value:<11}") for state, text in GLOSSARY.items()]
