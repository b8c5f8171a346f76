"""`gputally report`: which week is compared with, what sources lack, and how wrong words are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

import gputally.report
import gputally.report_made
from agent.tally import HOUR_MS
from gputally.cli import main
from gputally.journals import opened
from gputally.report_made import NO_FINDINGS
from gputally.sources import JournalSource
from reports.content.assemble import sections
from reports.report import build
from reports.window import Window
from tests.reports.small import ALICE, BOB, MONDAY_MS, Small, gpu

Capture = pytest.CaptureFixture[str]
WEEK_MS = 168 * HOUR_MS
ACTIVE_HOURS = {"2026-W43": 42, "2026-W44": 84, "2026-W45": 126, "2026-W46": 84, "2026-W47": 126}


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write five weeks of one GPU, which alice used for some hours of each."""
    small = Small(tmp_path_factory.mktemp("weeks") / "journal.db", MONDAY_MS - 4 * WEEK_MS)
    for active in ACTIVE_HOURS.values():
        small.pass_by(active * HOUR_MS, {gpu(0): (ALICE, {"busy_ratio": 0.5})})
        small.pass_by((168 - active) * HOUR_MS, {gpu(0): (None, {"busy_ratio": 0.0})})
    small.save()
    return small.path


def told(journal: Path, capsys: Capture, *options: str) -> Any:  # noqa: ANN401  JSON
    """Make the report of week 47 as JSON."""
    words = ["report", "--journal", str(journal), "--week", "2026-W47", "--format", "json", *options]
    assert main(words) == 0
    return json.loads(capsys.readouterr().out)


def refused(journal: Path, capsys: Capture, *options: str) -> tuple[int, str]:
    """Ask for a report that there is not; give the exit code and what was said."""
    code = main(["report", "--journal", str(journal), "--week", "2026-W47", *options])
    said = capsys.readouterr()
    assert said.out == ""
    return code, said.err


def seconds(hours: float) -> float:
    """Give hours as the report prints them."""
    return hours * 3600.0


def test_the_week_before_is_compared_with(journal: Path, capsys: Capture) -> None:
    """126 hours now, 84 then; the mean of four is of 84, 126, 84 and 42."""
    data = told(journal, capsys)
    assert data["compared_with"]["label"] == "week 2026-W46"
    assert [data["bridge"][end]["gpu_seconds"] for end in (0, -1)] == [seconds(84), seconds(126)]
    score = {one["name"]: one for one in data["scorecard"]}["occupancy"]
    assert (score["value"], score["compared"], score["mean_of_4"]) == (0.75, 0.5, 0.5)
    assert not {"scorecard", "bridge"} & data["absent"].keys()


def test_another_week_can_be_named(journal: Path, capsys: Capture) -> None:
    """Means stay those of the weeks before."""
    data = told(journal, capsys, "--compare", "2026-W43")
    assert data["compared_with"] == {
        "from": "2026-10-19T00:00:00Z",
        "to": "2026-10-26T00:00:00Z",
        "timezone": "UTC",
        "seconds": 604_800.0,
        "label": "week 2026-W43",
    }
    assert data["bridge"][0]["gpu_seconds"] == seconds(42)
    score = {one["name"]: one for one in data["scorecard"]}["occupancy"]
    assert (score["compared"], score["mean_of_4"]) == (0.25, 0.5)
    assert score["noise"] == pytest.approx(3 * 42 / 168)


def test_it_is_read_where_the_weeks_before_are_not(journal: Path, capsys: Capture) -> None:
    """One week before has no mean but itself; the one that is named is read besides."""
    data = told(journal, capsys, "--compare", "2026-W44", "--weeks", "1")
    score = {one["name"]: one for one in data["scorecard"]}["occupancy"]
    assert (score["compared"], score["mean_of_4"]) == (0.5, 0.5)
    data = told(journal, capsys, "--compare", "2026-W43", "--weeks", "0")
    score = {one["name"]: one for one in data["scorecard"]}["occupancy"]
    assert (score["compared"], score["mean_of_4"], score["noise"]) == (0.25, None, None)
    assert data["absent"]["forecast"] == "no weeks before were asked for"
    assert not {"scorecard", "bridge"} & data["absent"].keys()


def test_nothing_can_be_compared_with(journal: Path, capsys: Capture) -> None:
    """And every section that would says so."""
    data = told(journal, capsys, "--compare", "none")
    assert (data["compared_with"], data["bridge"]) == (None, [])
    assert {one["compared"] for one in data["scorecard"]} == {one["mean_of_4"] for one in data["scorecard"]}
    assert data["absent"]["scorecard"] == data["absent"]["bridge"] == "no comparison was asked for"


def test_the_text_names_the_week(journal: Path, capsys: Capture) -> None:
    """Wherever the last would be."""
    words = ["report", "--journal", str(journal), "--week", "2026-W47", "--compare", "2026-W43"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "\nScorecard, this week against week 2026-W43; " in text
    assert "\nActive GPU-hours, from week 2026-W43 to this week\n" in text
    assert "last week" not in text
    assert main([*words, "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert "| figure | this week | week 2026-W43 |" in text
    assert "last week" not in text


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (["--compare", "2026-W47"], 1, "is the week of the report"),
        (["--compare", "2026-W48"], 1, "--compare names an earlier week"),
        (["--compare", "2026-W40"], 1, "there is nothing of week 2026-W40 to compare with"),
        (["--compare", "47"], 1, "'47' is not an ISO week: write it as 2026-W47"),
        (["--compare", "none", "--weeks", "3"], 2, "leave out one of it and --weeks"),
    ],
)
def test_wrong_weeks_are_refused(
    journal: Path, capsys: Capture, options: list[str], code: int, why: str
) -> None:
    """In one sentence."""
    got, said = refused(journal, capsys, *options)
    assert (got, said.count("\n")) == (code, 1)
    assert why in said


MONDAY_AFTER_MS = MONDAY_MS + WEEK_MS
FIRST_MS, SECOND_MS = MONDAY_AFTER_MS + 6 * HOUR_MS, MONDAY_AFTER_MS + 30 * HOUR_MS


def is_now(monkeypatch: pytest.MonkeyPatch, at_ms: int) -> None:
    """Set the clock of the command."""
    for module in (gputally.report, gputally.report_made):
        monkeypatch.setattr(module, "now_ms", lambda: at_ms)


@pytest.fixture
def week_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be the Monday after."""
    is_now(monkeypatch, FIRST_MS)


def late_week(folder: Path, half: int) -> None:
    """Let the journal of a node come: with half of the week, and later with the other half."""
    late = Small(folder / "n2.db", MONDAY_MS + half * WEEK_MS // 2)
    late.pass_by(WEEK_MS // 2, {gpu(1): (BOB, {"busy_ratio": 0.5})}, node="n2")
    late.save()


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "json", "html"])
def test_late_data_makes_a_revision_and_the_first_can_be_told_again(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """On Monday the journal of a node is there to Thursday noon, on Tuesday all of it: both are kept."""
    fleet = tmp_path / "fleet"
    fleet.mkdir()

    def said(at_ms: int, *more: str) -> str:
        is_now(monkeypatch, at_ms)
        words = ["report", "--journal", str(fleet), "--week", "2026-W47", "--format", form]
        assert main([*words, "--archive", str(tmp_path / "kept"), *more]) == 0
        return capsys.readouterr().out

    whole = Small(fleet / "n1.db", MONDAY_MS)
    whole.pass_by(WEEK_MS, {gpu(0): (ALICE, {"busy_ratio": 0.0})}, node="n1")
    whole.save()
    late_week(fleet, 0)
    first = said(FIRST_MS)
    late_week(fleet, 1)
    second = said(SECOND_MS)

    assert said(SECOND_MS, "--as-of", "2026-11-23T06:00:00Z") == first
    assert said(SECOND_MS, "--as-of", "2026-11-24T05:59:59Z") == first
    assert said(SECOND_MS, "--as-of", "2026-11-24T06:00:00Z") == second != first
    if form == "json":
        assert json.loads(first)["revision"] == {"number": 1, "before": None, "changes": []}
        assert json.loads(second)["revision"] == {
            "number": 2,
            "before": "2026-11-23T06:00:00Z",
            "changes": ["active: +84.0 GPU-hours", "unknown: -84.0 GPU-hours"],
        }
    if form == "text":
        assert "revision" not in first
        assert (
            "revision   2, since late data changed the one before of 2026-11-23T06:00:00Z: active" in second
        )


@pytest.mark.usefixtures("week_is_over")
def test_what_says_the_same_is_no_revision(journal: Path, capsys: Capture, tmp_path: Path) -> None:
    """However often it is made; what was never said cannot be said again."""
    archive = ("--archive", str(tmp_path))
    assert [told(journal, capsys, *archive)["revision"]["number"] for _ in range(2)] == [1, 1]
    assert len(list(tmp_path.rglob("*.json.gz"))) == 1
    code, why = refused(journal, capsys, *archive, "--as-of", "2026-11-23T00:00:00Z")
    assert code == 1
    assert "holds no report of 2026-11-16T00:00:00Z to 2026-11-23T00:00:00Z that was made by" in why
    code, why = refused(journal, capsys, "--as-of", "2026-11-23")
    assert (code, "name it with --archive" in why) == (2, True)


@pytest.mark.usefixtures("week_is_over")
def test_the_settings_keep_reports_of_weeks_alone(journal: Path, capsys: Capture, tmp_path: Path) -> None:
    """Of a week that is over; a look at some days, or at who would get mail, leaves nothing."""
    settings, kept = tmp_path / "s.toml", tmp_path / "kept"
    settings.write_text(f'[report]\narchive_folder = "{kept}"\n[mail]\nhost = "x"\nsender = "a@b.org"\n')
    words = ["report", "--journal", str(journal), "--settings", str(settings)]
    for options in (["--last", "24h"], ["--week", "2026-W47", "--mail-dry-run"]):
        assert main([*words, *options]) == 0
        assert not kept.exists()
    assert main([*words, "--week", "2026-W47"]) == 0
    assert len(list(kept.rglob("*.json.gz"))) == 1
    capsys.readouterr()


@pytest.mark.usefixtures("week_is_over")
def test_who_may_not_keep_a_report_may_see_it(journal: Path, capsys: Capture, tmp_path: Path) -> None:
    """Where only the settings want it kept; who asks for it with --archive, or the schedule, is refused."""
    settings = tmp_path / "s.toml"
    settings.write_text(f'[report]\narchive_folder = "{tmp_path}/file"\nschedule_folder = "{tmp_path}/out"\n')
    (tmp_path / "file").touch()
    assert told(journal, capsys, "--settings", str(settings))["revision"] is None
    words = ["report", "--journal", str(journal), "--settings", str(settings), "--week", "2026-W47"]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert said.startswith("gputally: the report is not kept: cannot keep the report in ")
    assert said.count("\n") == 1
    for options in (["--archive", f"{tmp_path}/file"], ["--scheduled"]):
        code, why = refused(journal, capsys, "--settings", str(settings), *options)
        assert (code, why.startswith("gputally: cannot keep the report in ")) == (1, True)


def test_a_source_without_findings_says_so(journal: Path) -> None:
    """What another exporter told is a journal in which no rule of ours ever judged."""
    window = Window(from_ms=MONDAY_MS, to_ms=MONDAY_MS + WEEK_MS)
    with opened([journal]) as journals:
        source = JournalSource(journals, "pool", {"findings": NO_FINDINGS})
        gathered, facts = source.read(window, lambda _: None, ())
    report = build(gathered, window, now_ms=window.to_ms)
    found = sections(report, facts)
    assert found.absent["findings"] == found.absent["reliability"] == NO_FINDINGS
    assert found.reliability is None
    assert {one.name: one.value for one in found.scores}["incidents"] is None
