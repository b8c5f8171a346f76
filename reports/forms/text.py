"""The report as text for a terminal or a mail: what to do first, then the numbers that say why.

Names from outside are escaped, so that no job or owner can speak to the terminal.
"""

from collections.abc import Iterator

from reports.forms import cells
from reports.forms.cells import GLOSSARY, cost_cells, cost_titles
from reports.forms.text_page import NARROWEST, Page
from reports.forms.text_sections import END, FRONT, HOURS, REST, parts_of
from reports.outline import Report
from reports.sections import Sections
from reports.wording import NONE, Column, bar, hours, kilowatt_hours, table, wrapped

BAR_CELLS = 20
MOST_GPUS = 20
MOST_OWNERS = 20
MOST_FINDINGS = 20
MOST_SPELLS = 10


def to_text(report: Report, width: int = 100) -> str:
    """Write a report in lines of so many terminal cells, as far as names can be cut to fit."""
    page = Page(report.sections or Sections(), report, max(NARROWEST, width))
    parts = (
        ("", _header(page)),
        ("What to do", _decisions(page)),
        *parts_of(page, FRONT),
        ("Hours by state", _states(page)),
        *parts_of(page, HOURS),
        (
            "Longest idle spells: hours seen, and beyond patience (of whole spells, also outside the window)",
            _spells(page),
        ),
        ("Hours by owner, idle first", _owners(page)),
        ("Hours by GPU, wasted (idle, down, unknown) first; spell is the longest", _gpus(page)),
        *parts_of(page, REST),
        ("Findings", _findings(page)),
        *parts_of(page, END),
        ("States", (page.item(text, f"{state.value:<11}") for state, text in GLOSSARY.items())),
    )
    blocks = []
    for title, lines in parts:
        body = "\n".join(lines)
        if body:
            blocks.append(f"{wrapped(title, page.width)}\n{body}" if title else body)
    return "\n\n".join(blocks) + "\n"


def _header(page: Page) -> Iterator[str]:
    yield wrapped(cells.title(page.report), page.width)
    yield from (page.fact(name, text) for name, text in cells.header(page.report))


def _decisions(page: Page) -> Iterator[str]:
    if not page.report.decisions:
        yield "  nothing stands out"
    for number, decision in enumerate(page.report.decisions, 1):
        amount = cells.amount(page.report, decision)
        yield page.item(f"{decision.text} [{amount}]" if amount else decision.text, f"{number}. ")


def _costs(report: Report) -> list[Column]:
    return list(map(Column, cost_titles(report)))


def _states(page: Page) -> list[str]:
    report = page.report
    columns = [Column("state", "text"), Column("GPU-h"), Column("share"), Column("", "text")]
    columns += [Column("kWh"), *_costs(report)]
    rows = []
    for line in report.states:
        told = cells.state_cells(line)
        drawn = bar(line.share_ratio, BAR_CELLS)
        rows.append([told.state, told.gpu_hours, told.share, drawn, told.kwh, *cost_cells(report, line.cost)])
    whole = report.sums.total
    total = ["sum", hours(whole.elapsed_ms), "", "", kilowatt_hours(whole.joules)]
    cost = sum(line.cost or 0 for line in report.states)
    return table(columns, [*rows, [*total, *cost_cells(report, cost)]], page.width)


def _owners(page: Page) -> Iterator[str]:
    columns = [Column("owner", "name"), Column("idle"), Column("gap"), Column("active")]
    columns += [Column("service"), Column("busy"), Column("kWh"), *_costs(page.report)]
    owners = page.report.owners
    rows = [cells.owner_cells(page.report, line) for line in owners[:MOST_OWNERS]]
    yield from table(columns, rows, page.width)
    yield from page.left_out(len(owners) - MOST_OWNERS, "owners")


def _gpus(page: Page) -> Iterator[str]:
    columns = [Column("node", "name"), Column("#"), Column("uuid", "name"), Column("model", "name")]
    columns += [Column(title) for title in ("idle", "down", "unknown", "free", "active")]
    columns += [Column("busy"), Column("spell")]
    rows = [
        [*cells.gpu_cells(line), NONE if line.longest_spell_ms is None else hours(line.longest_spell_ms)]
        for line in cells.by_waste(page.report)[:MOST_GPUS]
    ]
    yield from table(columns, rows, page.width)
    yield from page.left_out(len(page.report.gpus) - MOST_GPUS, "GPUs")


def _spells(page: Page) -> list[str]:
    columns = [Column(title, "name") for title in ("node", "gpu", "owner", "holder")]
    columns += [Column("began", "text"), Column("seen"), Column("beyond"), Column("", "text")]
    rows = [cells.spell_cells(page.report, line) for line in page.report.spells[:MOST_SPELLS]]
    return table(columns, rows, page.width) if rows else ["  none went beyond its patience"]


def _findings(page: Page) -> Iterator[str]:
    for finding in page.report.findings[:MOST_FINDINGS]:
        told = cells.finding_cells(finding)
        head = f"{told.severity} {told.rule} on {told.where}, {told.opened}, {told.closed}"
        yield page.item(f"{head}: {told.text}", "- ")
    yield from page.left_out(len(page.report.findings) - MOST_FINDINGS, "findings")
