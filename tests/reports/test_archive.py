"""Kept reports: told again to the letter, and in what a later one differs."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import ReportError
from agent.tally import HOUR_MS
from agent.tick import State
from reports.archive import Archive, differences
from reports.forms.data import to_json
from reports.forms.text import to_text
from reports.frozen import frozen, thawed
from reports.outline import Report, Revision
from tests.reports.made import Did, made
from tests.reports.sample import sample_report
from tests.reports.sample_sections import sample_sections

ACTIVE = {State.ACTIVE: 100.0, State.UNKNOWN: 68.0}
MORE = {State.ACTIVE: 103.0, State.UNKNOWN: 65.0}


def monday(made_ms: int = 1000, did: dict[State, float] | None = None) -> Report:
    """Make a report of one GPU's week."""
    return replace(made(Did("GPU-1", did or ACTIVE, owner="vision")), made_ms=made_ms)


def test_a_report_comes_back_as_it_was() -> None:
    """All of it, sections too, through JSON."""
    report = sample_report(nodes=6)
    report = replace(report, sections=sample_sections(report), remarks=("an estimate",))
    told = json.loads(json.dumps(frozen(report), allow_nan=False))
    assert thawed(told, Report) == report


def test_the_forms_of_a_kept_report_are_the_same(tmp_path: Path) -> None:
    """What was said at a moment is said again to the letter."""
    archive = Archive(tmp_path)
    kept = archive.keep(monday())
    again = archive.as_of(kept.window, 5000)
    assert to_json(again) == to_json(kept)
    assert to_text(again) == to_text(kept)


def test_the_same_again_is_no_revision(tmp_path: Path) -> None:
    """A report that is made twice is one; the first moment counts."""
    archive = Archive(tmp_path)
    assert archive.keep(monday(1000)).revision == Revision(number=1)
    assert archive.keep(monday(2000)).revision == Revision(number=1)
    assert [one.name for one in tmp_path.rglob("*.gz")] == ["0001.json.gz"]


def test_late_data_make_a_revision_that_says_what_changed(tmp_path: Path) -> None:
    """Three hours that were unknown turn out to have been active."""
    archive = Archive(tmp_path)
    archive.keep(monday(1000))
    late = archive.keep(monday(2000, MORE))
    assert late.revision == Revision(
        number=2, before_ms=1000, changes=("active: +3.0 GPU-hours", "unknown: -3.0 GPU-hours")
    )
    assert archive.keep(monday(3000, MORE)).revision == late.revision
    assert archive.keep(monday(4000)).revision == Revision(
        number=3, before_ms=2000, changes=("active: -3.0 GPU-hours", "unknown: +3.0 GPU-hours")
    )


def test_each_moment_has_what_was_said_then(tmp_path: Path) -> None:
    """The latest that had been made."""
    archive = Archive(tmp_path)
    first, second = archive.keep(monday(1000)), archive.keep(monday(2000, MORE))
    assert archive.as_of(first.window, 1000) == first
    assert archive.as_of(first.window, 1999) == first
    assert archive.as_of(first.window, 2000) == second
    with pytest.raises(ReportError, match=r"holds no report of 2026-11-16T00:00:00Z to .* by 1970-01-01"):
        archive.as_of(first.window, 999)


def test_windows_are_kept_apart(tmp_path: Path) -> None:
    """Another week has revisions of its own."""
    archive = Archive(tmp_path)
    archive.keep(monday())
    window = replace(monday().window, to_ms=monday().window.to_ms + HOUR_MS)
    assert archive.keep(replace(monday(), window=window)).revision == Revision(number=1)


def test_long_differences_are_cut() -> None:
    """Eight are named, the rest is counted."""
    deeds = [Did(f"GPU-{number}", {State.HELD_IDLE: 10.0}, owner=f"team-{number:02}") for number in range(12)]
    changes = differences(made(*deeds[:1]), made(*deeds))
    assert changes[0] == "GPUs in the inventory: 1 before, 12 now"
    assert changes[1] == "held_idle: +110.0 GPU-hours"
    assert changes[2] == "held idle by team-01: +10.0 GPU-hours"
    assert len(changes) == 9
    assert changes[-1] == "and 5 more"


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip",
        gzip.compress(b"{", mtime=0),
        gzip.compress(b"[]", mtime=0),
        gzip.compress(b'{"format": 1, "report": {"window": 3}}', mtime=0),
        gzip.compress(b'{"format": 1, "report": {}}', mtime=0),
        gzip.compress(b'{"format": 1}', mtime=0),
        gzip.compress(b'{"format": 1, "report": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", mtime=0),
    ],
)
def test_a_kept_report_that_is_broken_is_named(tmp_path: Path, content: bytes) -> None:
    """One sentence with the file."""
    archive = Archive(tmp_path)
    kept = archive.keep(monday())
    (path,) = tmp_path.rglob("*.gz")
    path.write_bytes(content)
    with pytest.raises(ReportError, match=r"cannot read the kept report .*0001\.json\.gz"):
        archive.as_of(kept.window, 5000)


def test_one_of_another_version_is_not_read(tmp_path: Path) -> None:
    """It says what to do."""
    archive = Archive(tmp_path)
    kept = archive.keep(monday())
    (path,) = tmp_path.rglob("*.gz")
    path.write_bytes(gzip.compress(b'{"format": 99}', mtime=0))
    with pytest.raises(ReportError, match="by another version of gputally: make the report anew"):
        archive.as_of(kept.window, 5000)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot keep the report in"):
        Archive(tmp_path / "file").keep(monday())
