"""The PDF: whole, readable by others, the same each time, and nothing is fetched for it."""

import base64
import re
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which

import pytest

from agent.errors import SettingsError
from reports.forms import pdf as module
from reports.forms.html import to_html
from reports.forms.pdf import to_pdf
from tests.reports.sample import sample_report

WeasyPrint = pytest.importorskip("weasyprint", exc_type=ImportError)
HOSTILE = "<script>alert(1)</script><h1>mine</h1>\x1b]0;x\x07\n\u202eevil & 'so' \"on\""
SECRET = "the-secret-of-the-machine"  # noqa: S105  a mark to look for


def page(body: str, head: str = "") -> str:
    """Make a page."""
    return f"<!doctype html><html lang=en><head><title>A title</title>{head}</head><body>{body}</body></html>"


def poppler(name: str, made: bytes, folder: Path, *options: str) -> str:
    """Let a program of poppler's read a PDF; give what it says."""
    program = which(name)
    if program is None:
        pytest.skip(f"not installed: {name} (poppler-utils)")
    path = folder / "made.pdf"
    path.write_bytes(made)
    to = ("-",) if name == "pdftotext" else ()
    done = subprocess.run([program, *options, path, *to], capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    return done.stdout.decode()


def inside(made: bytes) -> bytes:
    """Give a PDF with its streams unpacked: most objects stand in one."""
    streams = re.findall(rb"/FlateDecode.*?stream\r?\n(.*?)\r?\nendstream", made, re.DOTALL)
    assert streams
    return made + b"\n".join(zlib.decompressobj().decompress(one) for one in streams)


@pytest.fixture(scope="module")
def whole() -> bytes:
    """Give the PDF of a small report."""
    return to_pdf(to_html(sample_report(nodes=2), None))


def test_a_report_has_pages_a_title_and_a_generator(whole: bytes, tmp_path: Path) -> None:
    """It begins as a PDF does, and says what it is."""
    assert whole.startswith(b"%PDF-1.")
    assert whole.rstrip().endswith(b"%%EOF")
    told = poppler("pdfinfo", whole, tmp_path)
    assert re.search(r"^Title: +GPU time, week 2026-W47$", told, re.MULTILINE)
    assert re.search(r"^Creator: +gputally$", told, re.MULTILINE)
    assert re.search(r"^Tagged: +yes$", told, re.MULTILINE)
    pages = re.search(r"^Pages: +(\d+)$", told, re.MULTILINE)
    assert pages is not None
    assert int(pages[1]) >= 2


def test_its_text_can_be_taken_out(whole: bytes, tmp_path: Path) -> None:
    """What the page says can be searched and copied: 16 GPUs owed a week are 2 688 GPU-hours."""
    text = poppler("pdftotext", whole, tmp_path, "-layout")

    assert "GPU time, week 2026-W47" in text
    assert "2,688.0 GPU-h" in text
    assert "robotics" in text


def test_it_keeps_no_date_so_that_it_is_the_same_each_time() -> None:
    """The same page gives the same bytes in another process whose hashes differ."""
    html = page("<h1>One</h1><p>text <b>bold</b></p><svg width=10 height=10><rect width=5 height=5 /></svg>")
    code = "import sys; from reports.forms.pdf import to_pdf; sys.stdout.buffer.write(to_pdf(sys.argv[1]))"
    others = [
        subprocess.run(
            [sys.executable, "-c", code, html],
            cwd=Path(__file__).parents[2],
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            timeout=60,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert others[0] == others[1] == to_pdf(html)
    assert b"/Producer" in inside(others[0])
    assert b"Date" not in inside(others[0])


def test_headings_are_bookmarks() -> None:
    """Each heading has an entry in the outline, those of a lower order below their own."""
    document = WeasyPrint.HTML(string=page("<h1>One</h1><h2>Two</h2><h1>Three</h1>")).render()
    titles = [(mark[0], [below[0] for below in mark[2]]) for mark in document.make_bookmark_tree()]

    assert titles == [("One", ["Two"]), ("Three", [])]
    assert b"/Outlines" in inside(to_pdf(page("<h1>One</h1>")))
    assert b"/Outlines" not in inside(to_pdf(page("<p>One</p>")))


def test_hostile_names_are_text(tmp_path: Path) -> None:
    """An owner's name with markup and control characters is shown, and does nothing."""
    made = to_pdf(to_html(sample_report(nodes=2, owners=(HOSTILE,)), None))

    text = "".join(poppler("pdftotext", made, tmp_path).split())
    assert "<script>alert(1)</script><h1>mine</h1>\\x1b]0;x" in text
    assert not re.search(r"[\x00-\x08\x0e-\x1f\x7f\u202e]", text.replace("\x0c", ""))
    assert not re.search(rb"/(JavaScript|JS|Launch|SubmitForm)\b", inside(made))


@contextmanager
def counting() -> Iterator[tuple[str, list[str]]]:
    """Serve anything on loopback, and keep what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hungry(at: str) -> str:
    """Make a page that wants something from an address in every way that there is."""
    inner = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{at}/nested" width="9" height="9"/></svg>'
    data = base64.b64encode(inner.encode()).decode()
    head = (
        f'<base href="{at}/"><link rel=stylesheet href="{at}/sheet.css">'
        f'<link rel=attachment href="{at}/file"><link rel=icon href="{at}/icon">'
        f'<style>@import "{at}/import.css";'
        f'@font-face{{font-family:f;src:url("{at}/font")}} body{{font-family:f;background:url("{at}/back")}}'
        f'li{{list-style-image:url("{at}/list")}} p::before{{content:url("{at}/content")}}</style>'
    )
    body = (
        f'<p>text<img src="{at}/img"><img src="/relative" srcset="{at}/set 2x"><ul><li>x</ul>'
        f'<object data="{at}/object"></object><embed src="{at}/embed"><iframe src="{at}/frame"></iframe>'
        f'<svg><image href="{at}/image" width=9 height=9 /><use href="{at}/use#x" /></svg>'
        f'<img src="data:image/svg+xml;base64,{data}"><video poster="{at}/poster"></video>'
        f'<a rel=attachment href="{at}/attached">x</a>'
    )
    return page(body, head)


def test_nothing_is_fetched_from_elsewhere() -> None:
    """A page that asks for pictures, style sheets, fonts and files of a server gets none of them."""
    with counting() as (address, asked):
        made = to_pdf(hungry(address))

    assert made.startswith(b"%PDF-")
    assert asked == []


@pytest.mark.parametrize("where", ["file://{}", "{}"])
def test_no_file_of_the_machine_gets_in(where: str, tmp_path: Path) -> None:
    """Neither with an address nor with a path is a file read."""
    for name in ("attached", "file", "sheet.css", "import.css"):
        (tmp_path / name).write_text(f'p::after{{content:"{SECRET}"}}')
    made = to_pdf(hungry(where.format(tmp_path)))

    assert b"EmbeddedFile" not in inside(made)
    assert SECRET not in poppler("pdftotext", made, tmp_path)


def test_a_picture_within_the_page_is_shown() -> None:
    """What stands in the page itself as data is taken."""
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

    assert b"/Image" in to_pdf(page(f'<img src="data:image/png;base64,{dot}" width=9>'))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("No module named 'weasyprint'"), "-m pip install 'weasyprint>=68'"),
        (OSError("cannot load library 'libpango-1.0-0': gone\nand more"), "apt install libpango-1.0-0 "),
    ],
)
def test_what_is_missing_is_said_with_what_to_install(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One sentence, and nothing of the library's own advice around it."""
    monkeypatch.delitem(sys.modules, "weasyprint")
    monkeypatch.setattr("builtins.__import__", _failing("weasyprint", error))

    with pytest.raises(SettingsError) as refusal:
        module.to_pdf(page("x"))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def _failing(name: str, error: Exception) -> Callable[..., object]:
    real = __import__

    def imports(wanted: str, *rest: object) -> object:
        if wanted == name:
            print("-----\nsome advice")  # noqa: T201  as the library does
            raise error
        return real(wanted, *rest)  # type: ignore[arg-type]

    return imports
