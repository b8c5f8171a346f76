"""The forms of a report: which there are, how a file's name tells one, and how each is written."""

from collections.abc import Callable, Mapping
from pathlib import Path

from agent.errors import SettingsError
from gputally.output import needs_pyarrow
from reports.forms.data import to_json
from reports.forms.links import Linker, Links
from reports.forms.long import to_csv
from reports.forms.markdown import to_markdown
from reports.forms.text import to_text
from reports.outline import Report

SUFFIXES: Mapping[str, str] = {
    "text": ".txt",
    "html": ".html",
    "pdf": ".pdf",
    "markdown": ".md",
    "csv": ".csv",
    "parquet": ".parquet",
    "json": ".json",
}
"""Every form, and how the name of a file of it ends."""
BINARY = frozenset({"pdf", "parquet"})


def form_of(asked: str | None, out: Path | None) -> str:
    """Tell which form is meant: the one that was asked for, else by the file's name, else text."""
    by_suffix = {suffix: form for form, suffix in SUFFIXES.items()} | {
        ".htm": "html",
        ".markdown": "markdown",
    }
    found = asked or (by_suffix.get(out.suffix.lower(), "text") if out else "text")
    if found in BINARY and out is None:
        raise SettingsError(f"--format {found} is no text: name a file with --out")
    return found


def written(report: Report, form: str, columns: int, grafana_url: str = "") -> bytes:
    """Write a report. Raises SettingsError where what a form needs is not installed, ReportError."""
    forms: Mapping[str, Callable[[], str | bytes]] = {
        "text": lambda: to_text(report, columns),
        "html": lambda: page(report, grafana_url),
        "pdf": lambda: _pdf(report, grafana_url),
        "markdown": lambda: to_markdown(report),
        "csv": lambda: to_csv(report),
        "parquet": lambda: _parquet(report),
        "json": lambda: to_json(report),
    }
    content = forms[form]()
    return content.encode() if isinstance(content, str) else content


def page(report: Report, grafana_url: str = "") -> str:
    """Write the page. Raises SettingsError where what it needs is not installed."""
    try:
        from reports.forms.html import to_html  # noqa: PLC0415  charts take long to load
    except ImportError as error:
        raise needs_extra(error) from error
    return to_html(report, report.sections, links=_links(report, grafana_url))


def needs_extra(error: ImportError) -> SettingsError:
    """Say what to install for pages, PDF and mail."""
    return SettingsError(
        f"this form needs {error.name or 'more'}, which is not installed: pip install 'gputally[report]'"
    )


def _links(report: Report, grafana_url: str) -> Linker | None:
    window = report.window
    return Links(grafana_url, window.from_ms, window.to_ms) if grafana_url else None


def _pdf(report: Report, grafana_url: str) -> bytes:
    try:
        from reports.forms.pdf import to_pdf  # noqa: PLC0415
    except ImportError as error:
        raise needs_extra(error) from error
    return to_pdf(page(report, grafana_url))


def _parquet(report: Report) -> bytes:
    try:
        from reports.forms.parquet import to_parquet  # noqa: PLC0415
    except ImportError as error:
        raise needs_pyarrow(error) from error
    return to_parquet(report)
