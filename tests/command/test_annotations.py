"""Marks in Grafana, made by real processes: of what an agent finds, and of reports that were made."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.tally import HOUR_MS
from agent.tick import State
from gputally.annotations import annotate, annotation
from gputally.report_scheduled import deliver
from gputally.settings import ReportSettings, Settings
from reports.money import Prices
from reports.outline import Report, Revision
from reports.sums import Amounts, StateSums
from reports.window import Window
from tests.command.moments import PATCH, happen, moment
from tests.command.processes import Done, gputally, is_one_sentence, running
from tests.command.waiting import until
from tests.reports.sample import sample_report
from tests.reports.small import ALICE, MONDAY_MS, Small, gpu
from tests.stores.annotating import TOKEN, Annotating, annotating

SETTINGS = """
[node]
name = "hall2-n017"
[rules]
file = "{rules}"
[[exporters.to]]
name = "marks"
kind = "grafana"
url = "{url}"
token_file = "{token}"
spread_seconds = 0
"""
RULES = """
[gpu_down]
for = "1s"
clear_for = "1s"
"""
REPORT = """
[report]
price_per_gpu_hour = 2.5
archive_folder = "kept"
grafana_url = "{url}"
grafana_token_file = "{token}"
"""
MADE_MS = MONDAY_MS + 168 * HOUR_MS + 6 * HOUR_MS


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """Write the token that the stand-in takes."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    return file


# What an agent finds


def test_an_agent_marks_a_gpu_that_is_lost_and_comes_back(tmp_path: Path, token: Path) -> None:
    """A point while it is away, then a range: of it alone, and once, though the agent is killed in between.

    The first answer is lost besides.
    """
    rules, settings = tmp_path / "rules.toml", tmp_path / "settings.toml"
    rules.write_text(RULES)
    simulated = f"h200x4:training!lost=3@{moment(0)}..{moment(1)}"
    more = ("--interval", "1", "--port", "0", "--settings", settings, "--journal", tmp_path / "j.db")

    with annotating() as grafana:
        settings.write_text(SETTINGS.format(rules=rules, url=grafana.url, token=token))
        grafana.loses = 1
        with running(tmp_path, "--simulate", simulated, *more, patch=PATCH) as agent:
            agent.shows_gpus(4)
            begin = happen(tmp_path, 0)
            until(lambda: _of(grafana, "gpu_down"), "the mark")
            agent.kill()
        with running(tmp_path, "--simulate", simulated, *more, patch=PATCH) as agent:
            until(lambda: agent.value("gputally_ticks_total"), "the next agent")
            end = happen(tmp_path, 1)
            until(lambda: _of(grafana, "gpu_down")[0]["timeEnd"] > end * 1000, "the end of the mark")
            assert agent.end() == 0
        tried = gputally(tmp_path, "exporters", "--json", "--settings", settings, "--journal", more[-1])
        assert TOKEN not in agent.said + tried.out

    (one,) = _of(grafana, "gpu_down")
    assert one["tags"][:5] == ["gputally", "gpu_down", "critical", "node:hall2-n017", "gpu:3"]
    assert one["tags"][5].startswith("GPU-")
    assert one["text"].startswith("hall2-n017, GPU 3: the GPU does not answer")
    assert begin * 1000 <= one["time"] < end * 1000
    (told,) = json.loads(tried.out)
    assert (told["waiting_ticks"], told["failure"], told["refused_rows"]) == (0, "", 0)


def _of(grafana: Annotating, rule: str) -> list[dict[str, Any]]:
    return [mark for mark in grafana.told() if mark["tags"][1] == rule]


def test_doctor_tries_a_grafana_and_leaves_no_mark(tmp_path: Path, token: Path) -> None:
    """A token that may only look is bad."""
    settings = tmp_path / "settings.toml"
    with annotating() as grafana:
        settings.write_text(SETTINGS.format(rules="", url=grafana.url, token=token))
        found = {}
        for role in ("Editor", "Viewer"):
            grafana.role = role
            done = gputally(tmp_path, "doctor", "--json", "--simulate", "h200x1", "--settings", settings)
            (found[role],) = [one for one in json.loads(done.out) if one["what"] == "exporter marks"]
    assert found["Editor"]["good"] is True
    assert found["Viewer"]["good"] is False
    assert "; the token must be of a service account with the role Editor" in found["Viewer"]["text"]
    assert grafana.marks == {}


# The text of a report's mark


@pytest.fixture(scope="module")
def report() -> Report:
    """Give the report of a week of two nodes, made six hours after it."""
    return replace(sample_report(nodes=2), revision=Revision(number=1))


def read(report: Report, file: Path | None = None, source: str = "s") -> Any:  # noqa: ANN401  JSON
    """Read the mark of a report."""
    return json.loads(annotation(report, source, file))


def test_the_mark_of_a_report_says_what_it_says(report: Report) -> None:
    """At the time it was made; the figures are its own."""
    one = read(report, Path("/srv/reports/gpu-report-2026-W47.html"))
    idle = next(line for line in report.states if line.state is State.HELD_IDLE)
    busy = report.busy_ratio_mean
    assert busy is not None
    assert (one["time"], one["timeEnd"]) == (report.made_ms, report.made_ms)
    assert one["tags"][:-1] == ["gputally", "report", "week:2026-W47", "revision:1"]
    assert one["text"] == (
        f"GPU report of week 2026-W47: {busy * 100:.1f} % busy, {idle.amounts.elapsed_ms / HOUR_MS:,.1f} "
        f"GPU-hours held idle (cost {idle.cost:,.2f}); /srv/reports/gpu-report-2026-W47.html"
    )


def test_what_is_not_known_is_not_told_as_zero(report: Report) -> None:
    """Nor money where there is none; what must be said of a report is said."""
    unknown = replace(
        report,
        sums=StateSums(by_state=dict.fromkeys(State, Amounts())),
        states=(),
        revision=None,
        violation_count=3,
        remarks=("an estimate from snapshots", "<b>of 2 nodes</b>"),
        window=Window(from_ms=MONDAY_MS, to_ms=MONDAY_MS + HOUR_MS, timezone="UTC", label="last 1h"),
    )
    one = read(unknown)
    assert one["tags"][:-1] == ["gputally", "report"]
    assert one["text"] == (
        "GPU report of 2026-11-16T00:00:00Z to 2026-11-16T01:00:00Z: the accounts do not add up; "
        "busy share unknown, 0.0 GPU-hours held idle; an estimate from snapshots; "
        "&lt;b&gt;of 2 nodes&lt;/b&gt;"
    )


def test_default_prices_are_marked_so(report: Report) -> None:
    """As wherever money is shown; a later revision has its number."""
    late = replace(report, revision=Revision(number=2), prices=Prices(currency="EUR", is_default=True))
    assert ", default prices)" in read(late)["text"]
    assert read(late)["text"].startswith("GPU report of week 2026-W47, revision 2: ")
    assert "held idle (EUR " in read(late)["text"]


def test_keys_are_of_the_window_its_revision_and_its_source(report: Report) -> None:
    """When it was made and where it lies make no other."""
    same = (report, replace(report, made_ms=report.made_ms + 1))
    assert len({read(one)["tags"][-1] for one in same} | {read(report, Path("x"))["tags"][-1]}) == 1
    window = report.window
    others = [
        read(report),
        read(report, source="t"),
        read(replace(report, revision=None)),
        read(replace(report, revision=Revision(number=2))),
        read(replace(report, window=replace(window, to_ms=window.to_ms + 1))),
        read(replace(report, window=replace(window, timezone="UTC"))),
    ]
    assert len({one["tags"][-1] for one in others}) == len(others)


# How often


def reporting(grafana: Annotating, token: Path, folder: Path | None = None) -> Settings:
    """Give settings that mark reports, and write them."""
    return Settings(
        report=ReportSettings(
            grafana_url=grafana.url,
            grafana_token_file=str(token),
            schedule_folder=str(folder or ""),
            schedule_formats=("csv", "json"),
        )
    )


def marks(report: Report, settings: Settings) -> tuple[list[str], list[str]]:
    """Mark a report; give what was said and what was complained of."""
    said: list[str] = []
    complaints: list[str] = []
    annotate(report, settings, "s", None, say=said.append, complain=complaints.append)
    return said, complaints


def test_each_revision_is_marked_once(report: Report, token: Path) -> None:
    """Where it was made first; where none are kept, the latest making is marked."""
    with annotating() as grafana:
        settings = reporting(grafana, token)
        for late in range(3):
            made_ms = report.made_ms + late * HOUR_MS
            assert marks(replace(report, made_ms=made_ms), settings)[1] == []
        assert [mark["time"] for mark in grafana.told()] == [report.made_ms]
        second = replace(report, made_ms=report.made_ms + HOUR_MS, revision=Revision(number=2))
        marks(second, settings)
        marks(second, settings)
        assert [mark["tags"][3] for mark in grafana.told()] == ["revision:1", "revision:2"]
        for late in range(3):
            marks(replace(report, made_ms=report.made_ms + late, revision=None), settings)
        assert [mark["time"] - report.made_ms for mark in grafana.told()] == [0, HOUR_MS, 2]


@pytest.mark.parametrize(
    ("role", "url", "wanted"),
    [
        ("Viewer", "", "HTTP 403: You'll need additional permissions"),
        ("Editor", "/no", "HTTP 404: Not found; the address must be what stands before /api/annotations"),
        ("Editor", "?orgId=1", "[report] grafana_url must be an address such as https://grafana.example.org"),
    ],
)
def test_what_fails_is_told_in_a_line(  # noqa: PLR0917  named by pytest
    report: Report, token: Path, tmp_path: Path, role: str, url: str, wanted: str
) -> None:
    """And the report is there all the same, with 0."""
    with annotating() as grafana:
        grafana.role = role
        settings = reporting(grafana, token, tmp_path / "out")
        wanted_report = replace(settings.report, grafana_url=grafana.url + url)
        complaints: list[str] = []
        code = deliver(
            report,
            replace(settings, report=wanted_report),
            at_ms=MADE_MS,
            say=lambda _: None,
            complain=complaints.append,
        )
    assert code == 0
    (said,) = complaints
    assert said.startswith("the report is not marked in ")
    assert wanted in said
    assert said.isprintable()
    assert TOKEN not in said
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_token_that_cannot_be_read_is_told(report: Report, tmp_path: Path) -> None:
    """By the name of its file."""
    with annotating() as grafana:
        said, complaints = marks(report, reporting(grafana, tmp_path / "none"))
    assert said == []
    assert str(tmp_path / "none") in complaints[0]
    assert grafana.asked == []


def test_a_delivery_is_marked_once_however_often_it_is_tried(
    report: Report, token: Path, tmp_path: Path
) -> None:
    """With the first of its files; and not before one is written."""
    with annotating() as grafana:
        folder = tmp_path / "out"
        folder.write_text("in the way")
        settings = reporting(grafana, token, folder)
        codes = [deliver(report, settings, at_ms=MADE_MS, say=lambda _: None, complain=lambda _: None)]
        assert grafana.asked == []
        folder.unlink()
        for _ in range(2):
            codes += [deliver(report, settings, at_ms=MADE_MS, say=lambda _: None)]
    assert codes == [1, 0, 0]
    (mark,) = grafana.told()
    assert mark["text"].endswith(f"; {folder}/gpu-report-2026-W47.csv")


def test_without_a_token_nothing_is_marked(report: Report, tmp_path: Path) -> None:
    """An address alone is for links."""
    with annotating() as grafana:
        settings = reporting(grafana, Path(), tmp_path / "out")
        settings = replace(settings, report=replace(settings.report, grafana_token_file=""))
        assert deliver(report, settings, at_ms=MADE_MS, say=lambda _: None) == 0
    assert grafana.asked == []


# The command


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Write the week of one GPU that alice held for 84 hours, busy for 42 of them."""
    small = Small(tmp_path / "j.db")
    for _ in range(42):
        small.pass_by(HOUR_MS, {gpu(0): (ALICE, {"busy_ratio": 1.0})})
    for hours, holder in ((42, ALICE), (84, None)):
        small.pass_by(hours * HOUR_MS, {gpu(0): (holder, {"busy_ratio": 0.0})})
    small.save()
    return small.path


def command(folder: Path, journal: Path, *more: str | Path) -> Done:
    """Make the report of the week."""
    where = ("--journal", journal, "--settings", folder / "settings.toml")
    return gputally(folder, "report", "--week", "2026-W47", *where, *more)


def test_a_report_by_hand_is_marked_if_asked_for(tmp_path: Path, journal: Path, token: Path) -> None:
    """Held idle is what is beyond half an hour of patience: 41.5 hours at 2.50. Once, and not unasked."""
    with annotating() as grafana:
        (tmp_path / "settings.toml").write_text(REPORT.format(url=grafana.url, token=token))
        assert command(tmp_path, journal).code == 0
        assert grafana.asked == []
        first = command(tmp_path, journal, "--annotate", "--out", "week.json")
        second = command(tmp_path, journal, "--annotate")
    assert (first.code, first.out, second.code) == (0, "", 0), (first, second)
    assert first.errors == second.errors == f"gputally: the report is marked in {grafana.url}\n"
    assert second.out.startswith("GPU")
    made_ms = _made_ms(tmp_path / "week.json")
    (mark,) = grafana.told()
    assert abs(mark["time"] - made_ms) < 1000
    assert mark["tags"][:4] == ["gputally", "report", "week:2026-W47", "revision:1"]
    assert mark["text"] == (
        "GPU report of week 2026-W47: 25.0 % busy, 41.5 GPU-hours held idle (cost 103.75); week.json"
    )


def test_a_scheduled_report_is_marked_once(tmp_path: Path, journal: Path, token: Path) -> None:
    """Also when --annotate asks besides, when it is made up for, and when somebody makes it by hand."""
    with annotating() as grafana:
        text = REPORT.format(url=grafana.url, token=token)
        (tmp_path / "settings.toml").write_text(f'{text}schedule_folder = "out"\n')
        for options in (["--scheduled", "--annotate"], ["--scheduled"]):
            done = command(tmp_path, journal, *options)
            assert (done.code, done.errors) == (0, "")
            assert done.out.splitlines() == [
                "wrote out/gpu-report-2026-W47.html",
                "wrote out/gpu-report-2026-W47.json",
                f"the report is marked in {grafana.url}",
            ]
        assert command(tmp_path, journal, "--annotate", "--out", "week.json").code == 0
    (mark,) = grafana.told()
    assert mark["text"].endswith("; out/gpu-report-2026-W47.html")
    assert len([line for line in grafana.asked if line.startswith("POST")]) == 1


def _made_ms(path: Path) -> int:
    return round(datetime.fromisoformat(json.loads(path.read_bytes())["generated"]).timestamp() * 1000)


def test_a_grafana_that_is_away_takes_no_report_from_anybody(
    tmp_path: Path, journal: Path, token: Path
) -> None:
    """It is a warning of one line."""
    (tmp_path / "settings.toml").write_text(REPORT.format(url="http://127.0.0.1:9", token=token))
    done = command(tmp_path, journal, "--annotate", "--out", "week.json")
    assert done.code == 0
    assert is_one_sentence(done.errors)
    assert done.errors.startswith("gputally: the report is not marked in http://127.0.0.1:9: ")
    assert "Connection refused" in done.errors
    assert (tmp_path / "week.json").exists()


@pytest.mark.parametrize(
    ("text", "more", "wanted"),
    [
        ("", [], "--annotate needs a Grafana: set grafana_url and grafana_token_file in [report]"),
        (
            '[report]\ngrafana_token_file = "t"\n',
            [],
            "[report] grafana_token_file needs grafana_url: the Grafana that it is for",
        ),
        (
            '[report]\ngrafana_url = "grafana"\ngrafana_token_file = "t"\n',
            [],
            "[report] grafana_url must be an address such as https://grafana.example.org",
        ),
        (
            '[report]\ngrafana_url = "http://[x"\ngrafana_token_file = "t"\n',
            [],
            "[report] grafana_url must be an address such as https://grafana.example.org",
        ),
        ("", ["--mail-dry-run"], "--mail-dry-run sends nothing: leave out --annotate"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_report_is_made(
    tmp_path: Path, text: str, more: Sequence[str], wanted: str
) -> None:
    """In a sentence, with 2; the journal is not even looked for."""
    (tmp_path / "settings.toml").write_text(text)
    done = command(tmp_path, tmp_path / "none", "--annotate", *more)
    assert (done.code, done.out) == (2, "")
    assert is_one_sentence(done.errors)
    assert wanted in done.errors
