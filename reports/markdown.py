"""The report as Markdown, for tickets, wikis and chats: the same lines as the text, as tables.

Names from outside are escaped, so that none becomes a heading, a link, a picture or HTML.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from agent.tick import State, said
from reports.outline import Report
from reports.text import GLOSSARY, MOST_FINDINGS, MOST_GPUS, MOST_OWNERS, by_waste
from reports.window import at, rfc3339, zone
from reports.wording import NONE, hours, kilowatt_hours, money, percent, printable

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~$&@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""What Markdown obeys inside a line, addresses that GitHub's dialect makes links of too."""


def to_markdown(report: Report) -> str:
    """Write a report in GitHub's dialect of Markdown."""
    window = report.window
    label = window.label or f"{rfc3339(window.from_ms)} to {rfc3339(window.to_ms)}"
    sections = (
        (f"# GPU time, {escaped(label)}", _header(report)),
        ("## What to do", _decisions(report)),
        ("## Hours by state", _states(report)),
        ("## Hours by owner, idle first", _owners(report)),
        ("## Hours by GPU, wasted (idle, down, unknown) first", _gpus(report)),
        ("## Longest idle spells", _spells(report)),
        ("## Findings", _findings(report)),
        ("## Not in this report", (f"- {escaped(sentence)}" for sentence in report.unread)),
        ("## States", (f"- **{state.value}**: {escaped(text)}" for state, text in GLOSSARY.items())),
    )
    written = [(title, "\n".join(lines)) for title, lines in sections]
    return "\n\n".join(f"{title}\n\n{body}" for title, body in written if body) + "\n"


def escaped(text: str) -> str:
    """Write a text so that Markdown shows it and obeys nothing in it."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> Iterator[str]:
    """Make a table whose first columns are texts, which are escaped, and all others figures of ours."""
    yield f"| {' | '.join(titles)} |"
    yield f"|{' --- |' * texts}{' ---: |' * (len(titles) - texts)}"
    for row in rows:
        yield f"| {' | '.join([*map(escaped, row[:texts]), *row[texts:]])} |"


def _header(report: Report) -> Iterator[str]:
    window, inventory = report.window, report.inventory
    where = zone(window.timezone)
    start, end = (f"{at(moment, where):%a %Y-%m-%d %H:%M}" for moment in (window.from_ms, window.to_ms))
    yield f"- **window**: {start} to {end} {escaped(window.timezone)}"
    yield f"- **in UTC**: {rfc3339(window.from_ms)} to {rfc3339(window.to_ms)}"
    covered = report.covered
    if (covered.from_ms, covered.to_ms) != (window.from_ms, window.to_ms):
        yield f"- **covered**: only {rfc3339(covered.from_ms)} to {rfc3339(covered.to_ms)}"
    price = report.price_per_gpu_hour
    cost = "" if price is None else f", {money(inventory.cost)} at {price:,} per GPU-hour"
    yield f"- **inventory**: {inventory.gpus:,} GPUs, {hours(inventory.gpu_ms)} GPU-hours{cost}"
    yield f"- **coverage**: {percent(report.coverage_ratio)} of the time that GPUs were not down"
    yield f"- **busy**: {percent(report.busy_ratio_mean)} of the time that was seen"
    low, high = report.effective_ratio
    yield f"- **effective**: {percent(low)} to {percent(high)} of the inventory"
    joules = report.sums.total.joules
    seen = percent(report.energy_seen_ratio)
    yield f"- **energy**: {kilowatt_hours(joules)} kWh, seen for {seen} of the time"
    identity = "PASS" if report.identity_ok else f"FAIL in {report.violation_count:,} GPU-hours"
    yield f"- **identity**: {identity}: the states of each GPU sum to its time in each hour"


def _decisions(report: Report) -> Iterator[str]:
    if not report.decisions:
        yield "Nothing stands out."
    for number, decision in enumerate(report.decisions, 1):
        cost = "" if decision.cost is None else f", cost {money(decision.cost)}"
        yield f"{number}. {escaped(decision.text)} ({hours(decision.gpu_ms)} GPU-h{cost})"


def _states(report: Report) -> Iterator[str]:
    rows = [
        (
            line.state.value,
            hours(line.amounts.elapsed_ms),
            percent(line.share_ratio),
            kilowatt_hours(line.amounts.joules),
            *_cost(report, line.cost),
        )
        for line in report.states
    ]
    return _table(("state", "GPU-h", "share", "kWh", *_cost_title(report)), rows, 1)


def _cost_title(report: Report) -> tuple[str, ...]:
    return () if report.price_per_gpu_hour is None else ("cost",)


def _cost(report: Report, cost: float | None) -> tuple[str, ...]:
    return () if report.price_per_gpu_hour is None else (money(cost),)


def _owners(report: Report) -> Iterator[str]:
    states = (State.HELD_IDLE, State.HELD_GAP, State.ACTIVE, State.SERVICE)
    rows = [
        (
            line.owner,
            *(hours(line.sums.elapsed_ms(state)) for state in states),
            percent(line.sums.total.busy_ratio_mean),
            kilowatt_hours(line.sums.total.joules),
            *_cost(report, line.cost),
        )
        for line in report.owners[:MOST_OWNERS]
    ]
    titles = ("owner", "idle h", "gap h", "active h", "service h", "busy", "kWh", *_cost_title(report))
    yield from _table(titles, rows, 1)
    yield from _not_shown(len(report.owners), MOST_OWNERS, "owners")


def _not_shown(count: int, most: int, what: str) -> Iterator[str]:
    if count > most:
        yield f"\n{count - most:,} more {what} are not shown; `--format json` and `csv` have all of them."


def _gpus(report: Report) -> Iterator[str]:
    states = (State.HELD_IDLE, State.DOWN, State.UNKNOWN, State.FREE, State.ACTIVE)
    rows = [
        (
            line.node,
            NONE if line.index is None else str(line.index),
            line.uuid,
            line.model or NONE,
            *(hours(line.sums.elapsed_ms(state)) for state in states),
            percent(line.sums.total.busy_ratio_mean),
        )
        for line in by_waste(report)[:MOST_GPUS]
    ]
    titles = ("node", "#", "uuid", "model", "idle h", "down h", "unknown h", "free h", "active h", "busy")
    yield from _table(titles, rows, 4)
    yield from _not_shown(len(report.gpus), MOST_GPUS, "GPUs")


def _spells(report: Report) -> Iterator[str]:
    if not report.spells:
        return iter(["None went beyond its patience."])
    where = zone(report.window.timezone)
    rows = [
        (
            line.node,
            line.spell.uuid if line.index is None else f"{line.index} {line.spell.uuid}",
            line.spell.owner or NONE,
            said(line.spell.kind, line.spell.holder),
            f"{at(line.spell.start_ms, where):%Y-%m-%d %H:%M}",
            "" if line.spell.ended else "goes on",
            hours(line.spell.seen_ms),
            hours(line.spell.beyond_ms),
        )
        for line in report.spells
    ]
    return _table(("node", "gpu", "owner", "holder", "began", "", "seen h", "beyond patience h"), rows, 6)


def _findings(report: Report) -> Iterator[str]:
    for one in report.findings[:MOST_FINDINGS]:
        closed = "open" if one.closed_ms is None else f"closed {rfc3339(one.closed_ms)}"
        where = f"{one.node} {one.uuid}".strip()
        head = f"**{escaped(one.severity)}** {escaped(one.rule)} on {escaped(where)}"
        action = f"; {one.action}" if one.action else ""
        yield f"- {head}, {rfc3339(one.opened_ms)}, {closed}: {escaped(one.summary + action)}"
    yield from _not_shown(len(report.findings), MOST_FINDINGS, "findings")
