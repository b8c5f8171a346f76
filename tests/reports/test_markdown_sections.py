"""The sections as Markdown: the figures of the text as tables that render, and names that obey nobody."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agent.tick import State
from reports.content.assemble import sections
from reports.facts import Facts
from reports.forms.markdown import to_markdown
from reports.forms.markdown_sections import MarkdownPage, escaped_line, table
from reports.outline import Report
from reports.sections import Quality, Sections, SizeLine
from reports.wording import Column
from tests.reports.hostile import hostile
from tests.reports.made import H200, Did, before, hour, made, stay
from tests.reports.sample import sample_report
from tests.reports.sample_sections import sample_sections

HOSTILE = (
    "<script>alert(1)</script>",
    "![x](http://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "a | b | c",
    "`rm -rf` ``` x",
    "**bold** _it_ ~~gone~~",
    "http://evil.example www.evil.example",
    "# heading\n## another\n---\n===",
    "\\",
    "&lt;b&gt;",
    "- one",
    "1. one",
    "+ one",
    "    code",
)


def rendered(text: str) -> str:
    """Render as a wiki does that lets HTML through, with tables, strikethrough and links of addresses."""
    found: str = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    return found


def titles(text: str) -> list[str]:
    """Give the headings of chapters up to what explains them."""
    return [line[3:].split(",")[0].split(";")[0] for line in text.splitlines() if line.startswith("## ")]


def test_chapters_are_in_the_order_of_the_page() -> None:
    """The scorecard comes right after what to do."""
    report = sample_report(2)
    text = to_markdown(replace(report, sections=sample_sections(report)))
    assert titles(text) == [
        "What to do",
        "Scorecard",
        "Hours by state",
        "Hours by group",
        "GPU-hours by day",
        "Active GPU-hours",
        "GPUs held by the hour",
        "Free GPUs",
        "Idle hours by owner",
        "Longest idle spells",
        "Hours by owner",
        "Hours by GPU",
        "Who could do with less",
        "The week by hours",
        "GPUs slowed down by heat or power brake",
        "Energy",
        "Failures",
        "Register of GPUs",
        "When groups will be full: at 85 % of what is usable",
        "Findings",
        "What to distrust",
        "Not in this report",
        "States",
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_obeyed(name: str) -> None:
    """However it is named: the same blocks and the same marks as with a harmless name."""
    page, plain = rendered(to_markdown(hostile(name))), rendered(to_markdown(hostile("x")))
    for mark in ("<h1", "<h2", "<table", "<tr", "<td", "<ul", "<ol", "<li", "<pre", "<code", "<a", "<img"):
        assert page.count(mark) == plain.count(mark), mark
    for mark in ("<em", "<s>", "<hr", "<script", "<b>", "<blockquote"):
        assert mark not in page
    assert page.count("<strong") == plain.count("<strong")


@given(st.text(max_size=12))
def test_a_line_begins_with_text(text: str) -> None:
    """Whatever it is, an item of a list has one paragraph and nothing else."""
    page = rendered(f"- {escaped_line('x' + text)}\n- {escaped_line(text)}x")
    assert page.count("<li>") == 2
    for mark in ("<h", "<pre", "<ol", "<ul>\n<li>\n<ul", "<blockquote", "<table", "<em", "<code"):
        assert mark not in page


@given(st.lists(st.text(max_size=8), min_size=2, max_size=2))
def test_a_row_has_as_many_cells_as_titles(texts: list[str]) -> None:
    """Pipes and line breaks in names make no cells and no rows."""
    columns = [Column("a", "name"), Column("b", "text"), Column("c")]
    page = rendered("\n".join(table(columns, [[*texts, "1.0"]])))
    assert (page.count("<tr>"), page.count("<td"), page.count("<th")) == (2, 3, 3 + 1)  # <thead> is a <th


def test_what_is_left_out_is_said() -> None:
    """25 GPUs in the register, 12 holders that could do with less."""
    stays = tuple(stay(f"G{number:02}", "n1", 0, position=number) for number in range(25))
    line = SizeLine(
        owner="a",
        holder="job 1",
        model="M",
        gpu_ms=1,
        activity_mean=0.1,
        memory_max_bytes=1.0,
        advice="less",
        saving_ms=1,
        cost=None,
    )
    report = made(Did("A", {State.FREE: 168.0}))
    told = replace(sections(report, Facts(stays=stays)), sizes=(line,) * 12)
    text = to_markdown(replace(report, sections=told))
    assert "5 more GPUs are not shown; `--format json` has all of them." in text
    assert "2 more holders are not shown; `--format json` has all of them." in text
    assert rendered(text).count("<td>n1 #") == 20


def test_the_week_is_drawn_as_it_is() -> None:
    """In a block that keeps its blanks."""
    report = made(Did("A", {State.FREE: 168.0}))
    told = sections(report, Facts(hours=(hour(24, State.ACTIVE, 1.0, busy=0.55), hour(25, State.FREE, 1.0))))
    lines = to_markdown(replace(report, sections=told)).splitlines()
    start, end = lines.index("```text"), lines.index("```")
    assert (lines[start - 1], lines[end + 1]) == ("", "")
    assert "Tue  5 0" + " -" * 22 in lines[start:end]


def test_blocks_do_not_run_into_one_another() -> None:
    """A sentence behind a table is no row of it, a table behind a list is one."""
    weeks = (before(1, {H200: {State.ACTIVE: 168.0}}),)
    report: Report = made(Did("A", {State.ACTIVE: 84.0}, owner="a"), Did("A", {State.UNKNOWN: 84.0}))
    page = rendered(to_markdown(replace(report, sections=sections(report, Facts(weeks=weeks)))))
    assert "<p>last week is 2026-11-09 00:00 to 2026-11-16 00:00</p>" in page
    trust = page[page.index("What to distrust") :]
    assert trust.index("</ul>") < trust.index("<table>")


def test_remarks_and_what_is_missing_are_in_the_head() -> None:
    """Nobody takes an estimate for more than that."""
    report = replace(
        made(Did("A", {State.FREE: 1.0}), price=2.0), remarks=("an estimate",), unread=("n2: gone",)
    )
    text = to_markdown(report)
    head = text[: text.index("\n## ")]
    assert "- **remark**: an estimate\n" in head
    assert "- **missing**: 1 journal could not be read, see below\n" in head
    assert "2.00 at 2.0 per GPU-hour" in head
    assert "- not in this report: n2: gone" in text


def test_a_second_line_belongs_to_the_first() -> None:
    """It is a list below an item."""
    page = MarkdownPage(Sections(quality=Quality()), made(Did("A", {State.FREE: 1.0})))
    html = rendered("\n".join([page.item("one", "- "), page.item("two", "  "), page.item("three", "- ")]))
    assert "".join(html.split()) == "<ul><li>one<ul><li>two</li></ul></li><li>three</li></ul>"
