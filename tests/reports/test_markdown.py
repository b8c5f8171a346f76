"""The report as Markdown: tables that render, with the figures of the text, and names that obey nobody."""

from pathlib import Path

from markdown_it import MarkdownIt

from agent.tally import HOUR_MS
from agent.tick import Holder
from reports.forms.markdown import to_markdown
from reports.forms.markdown_sections import escaped
from reports.wording import hours
from tests.reports.small import Small, day, gpu, report_of

HOSTILE = (
    "<script>alert(1)</script>",
    "![x](http://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "a | b | c",
    "`rm -rf`",
    "**bold** _it_ ~~gone~~",
    "http://evil.example www.evil.example",
    "# heading\n## another",
    "\\",
    "&lt;b&gt;",
)


def rendered(text: str) -> str:
    """Render as a wiki does that lets HTML through, with tables, strikethrough and links of addresses."""
    found: str = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    return found


def test_every_section_is_there_and_tables_are_tables(tmp_path: Path) -> None:
    """As many cells in every row as titles, and the hours of the report."""
    report = report_of(day(tmp_path / "j.db"), price=2.0)
    text = to_markdown(report)
    for title in ("# GPU time", "## What to do", "## Hours by state", "## States"):
        assert f"\n{title}" in f"\n{text}"
    page = rendered(text)
    assert page.count("<table>") == 4
    for line in report.states:
        assert f"<td>{line.state.value}</td>" in page
        assert hours(line.amounts.elapsed_ms) in page
    assert "PASS" in page


def test_no_name_is_obeyed(tmp_path: Path) -> None:
    """No picture, link, heading, script or cell comes of a name, and all of it is shown."""
    small = Small(tmp_path / "j.db")
    small.pass_by(
        2 * HOUR_MS,
        {
            gpu(at): (
                Holder(kind="slurm", name=name, owner=name),
                {"busy_ratio": 0.0, "memory_used_bytes": 9e9},
            )
            for at, name in enumerate(HOSTILE)
        },
        node="<img src=x>|n",
    )
    small.save()
    text = to_markdown(report_of(small.path))
    page = rendered(text)
    for mark in ("<script", "<img", "<a ", "<strong>bold", "<em>it", "<s>gone", "<code>rm", "<b>"):
        assert mark not in page
    assert page.count("<h1>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<td>a | b | c</td>" in page
    assert "://" not in text.replace("\\://", "")
    rows = [line for line in page.splitlines() if "<td>" in line]
    assert rows


def test_plain_names_stay_readable() -> None:
    """What no reader of Markdown obeys is left alone."""
    assert escaped("GPU-1c88cc6a-3442 on hall2-n017: 4 (of 8)") == "GPU-1c88cc6a-3442 on hall2-n017: 4 (of 8)"
