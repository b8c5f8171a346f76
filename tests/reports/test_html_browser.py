"""The page in a real browser: it draws, sorts and filters, and no name is obeyed."""

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from reports.forms.html import _asset, to_html
from tests.reports.sample import sample_report
from tests.reports.sample_sections import sample_sections
from tests.reports.test_html import hostile_page, two, week_of

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium on the PATH")

TABLE = """<!doctype html><meta charset="utf-8"><title>t</title><div data-filter><table class="sortable">
<thead><tr><th class="name">owner</th><th class="amount">idle</th></tr></thead><tbody>
<tr><td>b10</td><td data-value="909.7">909.7</td></tr>
<tr><td>b9</td><td>-</td></tr>
<tr><td>a</td><td data-value="1299.6">1,299.6</td></tr>
<tr><td>c</td><td data-value="0">0.0</td></tr>
</tbody></table></div><p id="told"></p><script>%s</script><script>
const told = [], rows = () => Array.from(document.querySelectorAll("tbody tr"));
const order = () => rows().filter((row) => !row.hidden).map((row) => row.cells[0].textContent).join(" ");
const heads = document.querySelectorAll("th");
const states = () => Array.from(heads, (one) => one.getAttribute("aria-sort")).join(" ");
const press = (at) => { document.querySelectorAll("th button")[at].click(); told.push(order(), states()); };
told.push(states()); press(1); press(1); press(0);
const input = document.querySelector("input");
input.value = "B"; input.dispatchEvent(new Event("input"));
told.push(order(), document.querySelector("[role=status]").textContent);
document.getElementById("told").textContent = told.join("|");
</script>"""


def run(page: Path, profile: Path, *options: str) -> tuple[str, str]:
    """Open a page, and give what it became and what the browser said of it."""
    assert BROWSER is not None
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--no-first-run", "--disable-background-networking", "--enable-logging=stderr", *options]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, timeout=90, check=True)
    return done.stdout.decode(), done.stderr.decode()


def dumped(text: str, folder: Path) -> tuple[str, list[str]]:
    """Open a text as a page; give its elements afterwards, and what the console said."""
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    page, said = run(path, folder / "profile", "--dump-dom")
    return page, [line for line in said.splitlines() if "CONSOLE" in line]


def title(page: str) -> str:
    """Give the title of a page."""
    found = re.search(r"<title>(.*?)</title>", page)
    return unescape(found[1]) if found else ""


def test_hostile_names_run_nothing(tmp_path: Path) -> None:
    """The title that they would change is ours, the console is silent, and our own script did its work."""
    page, said = dumped(hostile_page(), tmp_path)
    assert title(page) == "GPU time, week 2026-W47"
    assert said == []
    assert 'aria-sort="none"' in page


def test_the_policy_refuses_whatever_would_get_in(tmp_path: Path) -> None:
    """If escaping ever failed, a script, a handler and a picture would still do nothing but be told of."""
    bad = (
        "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
        "<img src='http://127.0.0.1:9/x.png'></main>"
    )
    page, said = dumped(to_html(week_of(two()), None).replace("</main>", bad), tmp_path)
    assert title(page) == "GPU time, week 2026-W47"
    assert len([line for line in said if "Content Security Policy" in line]) >= 3


def test_the_whole_page_opens_without_a_complaint(tmp_path: Path) -> None:
    """All drawings are there, long tables have a box to filter them, heads have buttons."""
    report = sample_report()
    page, said = dumped(to_html(report, sample_sections(report)), tmp_path)
    assert said == []
    assert page.count("<svg") == 8
    assert page.count('type="search"') == page.count("data-filter=") >= 3
    assert page.count("<button") == page.count('aria-sort="none"') > 50


def test_tables_are_sorted_by_value_and_filtered(tmp_path: Path) -> None:
    """Amounts begin with the most, names with the first; unknown stays last; numbers in names count."""
    page, said = dumped(TABLE % _asset("page.js"), tmp_path)
    assert said == []
    found = re.search(r'<p id="told">(.*?)</p>', page)
    assert found
    assert found[1].split("|") == [
        "none none",
        "a b10 c b9",
        "none descending",
        "c b10 a b9",
        "none ascending",
        "a b9 b10 c",
        "ascending none",
        "b9 b10",
        "2 of 4 rows",
    ]


@pytest.mark.parametrize("wide", [390, 1280])
def test_only_boxes_scroll_sideways(tmp_path: Path, wide: int) -> None:
    """Whatever the names, the page is no wider than a phone's screen."""
    inner = tmp_path / "inner.html"
    probe = "<script>parent.postMessage(document.documentElement.scrollWidth,'*')</script></body>"
    for name, text in (("plain", to_html(sample_report(2), None)), ("hostile", hostile_page())):
        loose = re.sub(r"<meta http-equiv=[^>]*>", "", text)
        inner.write_text(loose.replace("</body>", probe), encoding="utf-8")
        frame = (
            f"<!doctype html><title>waits</title><iframe src='inner.html' width={wide} height=800 "
            "style='border:0'></iframe><script>onmessage=(e)=>{document.title=e.data}</script>"
        )
        outer, _ = dumped(frame, tmp_path)
        assert int(title(outer)) <= wide, name


def test_the_page_prints(tmp_path: Path) -> None:
    """On more than one sheet of A4, whose edges are those of the format in points."""
    path = tmp_path / "page.html"
    report = sample_report(4)
    path.write_text(to_html(report, sample_sections(report)), encoding="utf-8")
    printed = tmp_path / "page.pdf"
    run(path, tmp_path / "profile", f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    content = printed.read_bytes()
    assert content.startswith(b"%PDF-")
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
    assert len(boxes) > 3
    assert {(round(float(width)), round(float(height))) for width, height in boxes} == {(595, 842)}
