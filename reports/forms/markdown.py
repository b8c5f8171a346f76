"""The report as Markdown, for tickets, wikis and chats: the same lines as the text, as tables.

Names from outside are escaped, so that none becomes a heading, a link, a picture or HTML.
"""

from collections.abc import Iterable, Iterator

from reports.forms import cells
from reports.forms.cells import GLOSSARY, cost_cells, cost_titles
from reports.forms.markdown_sections import MarkdownPage, escaped, table
from reports.forms.text import MOST_FINDINGS, MOST_GPUS, MOST_OWNERS
from reports.forms.text_sections import END, FRONT, HOURS, REST, parts_of
from reports.outline import Report
from reports.sections import Sections
from reports.wording import Column

MOST_SPELLS = 20


def to_markdown(report: Report) -> str:
    """Write a report in GitHub's dialect of Markdown."""
    page = MarkdownPage(report.sections or Sections(), report)
    parts: tuple[tuple[str, Iterable[str]], ...] = (
        ("What to do", _decisions(page)),
        *parts_of(page, FRONT),
        ("Hours by state", _states(page)),
        *parts_of(page, HOURS),
        ("Longest idle spells", _spells(page)),
        ("Hours by owner, idle first", _owners(page)),
        ("Hours by GPU, wasted (idle, down, unknown) first", _gpus(page)),
        *parts_of(page, REST),
        ("Findings", _findings(page)),
        *parts_of(page, END),
        ("States", (page.fact(state.value, text) for state, text in GLOSSARY.items())),
    )
    head = "\n".join(page.fact(name, text) for name, text in cells.header(report))
    written = [(title, "\n".join(lines).strip("\n")) for title, lines in parts]
    chapters = [f"## {escaped(title)}\n\n{body}" for title, body in written if body]
    return "\n\n".join([f"# {escaped(cells.title(report))}", head, *chapters]) + "\n"


def _decisions(page: MarkdownPage) -> Iterator[str]:
    if not page.report.decisions:
        yield "Nothing stands out."
    for number, decision in enumerate(page.report.decisions, 1):
        amount = cells.amount(page.report, decision)
        yield f"{number}. {escaped(decision.text)}{f' ({amount})' if amount else ''}"


def _columns(texts: Iterable[str], figures: Iterable[str]) -> list[Column]:
    return [*(Column(title, "text") for title in texts), *map(Column, figures)]


def _states(page: MarkdownPage) -> Iterator[str]:
    report = page.report
    rows = [[*cells.state_cells(line), *cost_cells(report, line.cost)] for line in report.states]
    return table(_columns(["state"], ["GPU-h", "share", "kWh", *cost_titles(report)]), rows)


def _owners(page: MarkdownPage) -> Iterator[str]:
    owners = page.report.owners
    titles = ["idle h", "gap h", "active h", "service h", "busy", "kWh", *cost_titles(page.report)]
    rows = [cells.owner_cells(page.report, line) for line in owners[:MOST_OWNERS]]
    yield from table(_columns(["owner"], titles), rows)
    yield from page.left_out(len(owners) - MOST_OWNERS, "owners")


def _gpus(page: MarkdownPage) -> Iterator[str]:
    titles = ["idle h", "down h", "unknown h", "free h", "active h", "busy"]
    rows = [cells.gpu_cells(line) for line in cells.by_waste(page.report)[:MOST_GPUS]]
    yield from table(_columns(["node", "#", "uuid", "model"], titles), rows)
    yield from page.left_out(len(page.report.gpus) - MOST_GPUS, "GPUs")


def _spells(page: MarkdownPage) -> Iterator[str]:
    spells = page.report.spells
    if not spells:
        yield "None went beyond its patience."
        return
    told = [cells.spell_cells(page.report, line) for line in spells[:MOST_SPELLS]]
    rows = [(*one[:5], one.goes_on, one.seen_hours, one.beyond_hours) for one in told]
    texts = ["node", "gpu", "owner", "holder", "began", ""]
    yield from table(_columns(texts, ["seen h", "beyond patience h"]), rows)
    yield from page.left_out(len(spells) - MOST_SPELLS, "spells")


def _findings(page: MarkdownPage) -> Iterator[str]:
    for finding in page.report.findings[:MOST_FINDINGS]:
        told = cells.finding_cells(finding)
        head = f"**{escaped(told.severity)}** {escaped(told.rule)} on {escaped(told.where)}"
        yield f"- {head}, {told.opened}, {told.closed}: {escaped(told.text)}"
    yield from page.left_out(len(page.report.findings) - MOST_FINDINGS, "findings")
