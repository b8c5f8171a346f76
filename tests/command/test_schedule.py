"""The scheduled report: when it is due, whatever clocks do, and a process that is started then, once."""

import argparse
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import now_ms
from agent.errors import SettingsError
from agent.tally import DAY_MS
from gputally.mail_settings import MailSettings
from gputally.report_forms import SUFFIXES
from gputally.run import _report_options
from gputally.schedule import DAYS, FORMS, Schedule, check, due_after, due_upto, parse, week_before
from gputally.scheduled import RETRY_MS, Memory, Scheduled, report_command
from gputally.settings import ReportSettings, Settings, load
from tests.command.processes import MIXED, running
from tests.command.waiting import DEADLINE_SECONDS, until
from tests.reports.small import ALICE, Small, gpu

HOUR_MS = 3_600_000
WEEK_MS = 168 * HOUR_MS
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
MONDAY_SIX = Schedule(0, 6, 0)


def ms(text: str) -> int:
    """Give the ms of an RFC 3339 time."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


DUE_MS = ms("2026-11-23T05:00:00Z")
"""A Monday, 06:00 in Berlin."""


# When it is due


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Mon 06:00", MONDAY_SIX),
        ("Sun 23:59", Schedule(6, 23, 59)),
        ("Wed 00:00", Schedule(2, 0, 0)),
        ("", None),
    ],
)
def test_a_schedule_is_a_day_and_a_time(text: str, found: Schedule | None) -> None:
    """It is written as people say it; empty is none."""
    assert parse(text) == found


@pytest.mark.parametrize(
    "text", ["Mon", "06:00", "mon 06:00", "Mon 6:00", "Mon 24:00", "Mon 06:60", "Abc 06:00", "x"]
)
def test_what_is_no_schedule_says_how_to_write_one(text: str) -> None:
    """One sentence with an example and all days."""
    with pytest.raises(SettingsError, match="such as Mon 06:00; days are Mon, Tue"):
        parse(text)


def test_the_forms_of_the_settings_are_those_that_are_written() -> None:
    """The two lists say the same."""
    assert set(FORMS) == set(SUFFIXES)


@pytest.mark.parametrize(
    ("folder", "forms", "mail", "said"),
    [
        ("", ("html",), "off", "needs schedule_folder"),
        ("/x", ("html", "docx"), "off", "has no 'docx'; it knows text, html, pdf"),
        ("/x", ("html",), "yes", "schedule_mail must be off or on"),
    ],
)
def test_a_schedule_that_nobody_would_see_is_refused(
    folder: str, forms: tuple[str, ...], mail: str, said: str
) -> None:
    """It needs somewhere to go, in forms that there are."""
    with pytest.raises(SettingsError, match=said):
        check("Mon 06:00", folder, forms, mail)


def test_without_a_schedule_nothing_is_needed() -> None:
    """The defaults are sound."""
    check("", "", ("html", "json"), "off")


@pytest.mark.parametrize(
    ("now", "upto", "after"),
    [
        ("2026-11-23T04:59:59Z", "2026-11-16T05:00:00Z", "2026-11-23T05:00:00Z"),
        ("2026-11-23T05:00:00Z", "2026-11-23T05:00:00Z", "2026-11-30T05:00:00Z"),
        ("2026-11-25T12:00:00Z", "2026-11-23T05:00:00Z", "2026-11-30T05:00:00Z"),
        ("2026-03-29T12:00:00Z", "2026-03-23T05:00:00Z", "2026-03-30T04:00:00Z"),  # summer begins in between
        ("2026-10-25T12:00:00Z", "2026-10-19T04:00:00Z", "2026-10-26T05:00:00Z"),  # and ends
        ("2026-12-31T00:00:00Z", "2026-12-28T05:00:00Z", "2027-01-04T05:00:00Z"),
    ],
)
def test_monday_six_in_berlin(now: str, upto: str, after: str) -> None:
    """It is six o'clock there in winter and in summer."""
    assert due_upto(MONDAY_SIX, BERLIN, ms(now)) == ms(upto)
    assert due_after(MONDAY_SIX, BERLIN, ms(now)) == ms(after)


def test_a_time_that_a_day_does_not_have_comes_later() -> None:
    """On 2026-03-29 there is no 02:30 in Berlin: it is 03:30 then, an hour and a half past one."""
    assert due_after(Schedule(6, 2, 30), BERLIN, ms("2026-03-28T00:00:00Z")) == ms("2026-03-29T01:30:00Z")


def test_of_a_time_that_a_day_has_twice_the_first_counts() -> None:
    """On 2026-10-25 it is 02:30 in Berlin at 00:30 and at 01:30 UTC."""
    first = ms("2026-10-25T00:30:00Z")

    assert due_after(Schedule(6, 2, 30), BERLIN, ms("2026-10-24T00:00:00Z")) == first
    assert due_after(Schedule(6, 2, 30), BERLIN, first) == ms("2026-11-01T01:30:00Z")


SCHEDULES = st.builds(Schedule, st.integers(0, 6), st.integers(0, 23), st.integers(0, 59))
MOMENTS = st.integers(ms("2005-01-01T00:00:00Z"), ms("2037-01-01T00:00:00Z"))


@given(SCHEDULES, st.sampled_from(ZONES), MOMENTS)
def test_a_moment_lies_between_two_that_are_due(schedule: Schedule, zone: str, moment_ms: int) -> None:
    """The latest is not later, the next is later, and nothing is due in between."""
    where = ZoneInfo(zone)
    before, after = due_upto(schedule, where, moment_ms), due_after(schedule, where, moment_ms)

    assert before <= moment_ms < after
    assert due_after(schedule, where, before) == after
    assert due_upto(schedule, where, after) == after
    assert due_upto(schedule, where, after - 1) == before
    assert abs(after - before - WEEK_MS) <= 25 * HOUR_MS


@given(SCHEDULES, st.sampled_from(ZONES), MOMENTS)
def test_each_week_has_one(schedule: Schedule, zone: str, moment_ms: int) -> None:
    """Following from one to the next, the reported weeks follow one another without a gap or a double.

    Also in Apia, which skipped a Friday in 2011.
    """
    where = ZoneInfo(zone)
    due = [due_after(schedule, where, moment_ms)]
    for _ in range(60):
        due.append(due_after(schedule, where, due[-1]))
    mondays = [
        datetime.strptime(f"{week_before(one, where)}-1", "%G-W%V-%u").replace(tzinfo=UTC) for one in due
    ]

    assert {later - earlier for earlier, later in pairwise(mondays)} == {timedelta(days=7)}


@given(SCHEDULES, st.sampled_from(ZONES), MOMENTS)
def test_the_clock_shows_what_was_asked_for(schedule: Schedule, zone: str, moment_ms: int) -> None:
    """In the zone it is that day and time, but where clocks were set forward over it."""
    where = ZoneInfo(zone)
    due_ms = due_after(schedule, where, moment_ms)
    local = datetime.fromtimestamp(due_ms / 1000, where)
    shown = Schedule(local.weekday(), local.hour, local.minute)

    hours_before = datetime.fromtimestamp(due_ms / 1000 - 86_400, where)
    was_set_forward = (local.utcoffset() or timedelta()) > (hours_before.utcoffset() or timedelta())
    assert shown == schedule or was_set_forward


@pytest.mark.parametrize(
    ("moment", "week"),
    [
        ("2026-11-22T23:00:00Z", "2026-W47"),  # Monday 00:00 in Berlin
        ("2026-11-22T22:59:59Z", "2026-W46"),
        ("2026-11-29T12:00:00Z", "2026-W47"),
        ("2027-01-04T05:00:00Z", "2026-W53"),
        ("2026-01-01T05:00:00Z", "2025-W52"),
    ],
)
def test_the_week_before_is_the_last_whole_one(moment: str, week: str) -> None:
    """By ISO's weeks, in the zone."""
    assert week_before(ms(moment), BERLIN) == week


def test_days_are_named_in_their_order() -> None:
    """As Python counts them."""
    assert [f"{datetime(2026, 11, 16 + day, tzinfo=UTC):%a}" for day in range(7)] == list(DAYS)


def test_the_settings_of_the_manual_are_sound(tmp_path: Path) -> None:
    """docs/operating.md shows a whole example of a scheduled report with mail: it is understood as it is."""
    text = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall("```toml\n(.*?)```", text, re.DOTALL) if "[report]" in block)
    (tmp_path / "s.toml").write_text(example, encoding="utf-8")
    settings = load(tmp_path / "s.toml", {})

    assert parse(settings.report.schedule) == MONDAY_SIX
    assert settings.report.schedule_mail == "on"
    assert settings.mail.addresses_of("vision") == ("ann@example.org", "bob@example.org")
    assert settings.mail.addresses_of("team-nlp") == ("team-nlp@example.org",)
    assert settings.mail.addresses_of("guests") == settings.mail.addresses_of("others") == ()


# The process


class Bench:
    """A schedule under test: its clock is set by hand, its children are short programs."""

    def __init__(self, folder: Path, program: str = "") -> None:
        self.at_ms = DUE_MS - HOUR_MS
        self.seconds = 0.0
        self.path = folder / "state" / "report-schedule.json"
        self.weeks: list[str] = []
        self.program = program
        self.made: list[Scheduled] = []

    def command(self, week: str) -> Sequence[str]:
        """Give the program, and keep for which week."""
        self.weeks.append(week)
        return [sys.executable, "-c", self.program, week]

    def agent(self) -> Scheduled:
        """Start the agent, as it were."""
        settings = Settings(
            report=ReportSettings(schedule="Mon 06:00", schedule_folder="/x", timezone="Europe/Berlin")
        )
        one = Scheduled(settings, self.path, self.command, lambda: self.at_ms, lambda: self.seconds)
        self.made.append(one)
        return one

    def finish(self, agent: Scheduled) -> None:
        """Wait for the child, and let the agent see its end."""
        assert agent._child is not None
        agent._child.wait(DEADLINE_SECONDS)
        assert agent.step() == 0.0
        assert agent._child is None

    def memory(self) -> Memory:
        """Read what is remembered."""
        return Memory(**json.loads(self.path.read_bytes()))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Give a bench whose programs end well, and end them all."""
    one = Bench(tmp_path)
    yield one
    for agent in one.made:
        if agent._child:
            with suppress(OSError):
                agent._child.kill()
            agent._child.wait(DEADLINE_SECONDS)


def test_nothing_is_made_before_its_time(bench: Bench) -> None:
    """At the first start what was due before is nobody's concern; then it waits a minute at most, or less."""
    agent = bench.agent()

    assert agent.step() == 60.0
    bench.at_ms = DUE_MS - 7_000
    assert agent.step() == 7.0
    assert bench.weeks == []
    assert agent.succeeded_ms is None


def test_it_is_made_once_when_it_is_due(bench: Bench) -> None:
    """The week that ended is reported; that it was, and when, is known."""
    agent = bench.agent()
    bench.at_ms = DUE_MS
    agent.step()
    bench.at_ms += 42_000
    bench.finish(agent)

    assert bench.weeks == ["2026-W47"]
    assert agent.succeeded_ms == DUE_MS + 42_000
    assert agent.step() == 60.0
    assert bench.weeks == ["2026-W47"]


def test_the_next_week_is_another_one(bench: Bench) -> None:
    """A week later it is made again."""
    agent = bench.agent()
    for at_ms in (DUE_MS, DUE_MS + WEEK_MS):
        bench.at_ms = at_ms
        agent.step()
        bench.finish(agent)

    assert bench.weeks == ["2026-W47", "2026-W48"]


def test_what_was_missed_is_made_up_for_once(bench: Bench) -> None:
    """An agent that was off for three weeks makes the latest report, and none before it."""
    bench.agent()
    bench.at_ms = DUE_MS + 2 * WEEK_MS + 3 * HOUR_MS
    agent = bench.agent()
    agent.step()
    bench.finish(agent)
    agent.step()

    assert bench.weeks == ["2026-W49"]


def test_a_restart_makes_none_again(bench: Bench) -> None:
    """What was made before the restart is remembered, and when."""
    agent = bench.agent()
    bench.at_ms = DUE_MS
    agent.step()
    bench.finish(agent)
    agent = bench.agent()
    agent.step()

    assert bench.weeks == ["2026-W47"]
    assert agent.succeeded_ms == DUE_MS


def test_one_that_fails_is_tried_three_times(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """With ten minutes in between, over restarts as well; then it is left until the next week."""
    caplog.set_level(logging.ERROR)
    bench.agent()
    bench.program, bench.at_ms = "raise SystemExit(1)", DUE_MS
    for attempt in (1, 2, 3):
        agent = bench.agent()
        assert agent.step() == 1.0
        bench.finish(agent)
        assert len(bench.weeks) == attempt
        assert agent.step() == 60.0
        assert len(bench.weeks) == attempt
        bench.at_ms += RETRY_MS
    agent.step()

    assert bench.weeks == ["2026-W47"] * 3
    assert agent.succeeded_ms is None
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "it ended with 1; it is tried again in 10 min",
        "it ended with 1; it is tried again in 10 min",
        "it ended with 1; it is left at that",
    ]
    bench.program, bench.at_ms = "", DUE_MS + WEEK_MS
    agent.step()
    bench.finish(agent)
    assert bench.weeks[3:] == ["2026-W48"]
    assert bench.memory().succeeded_ms == DUE_MS + WEEK_MS


def test_a_second_attempt_that_works_is_the_last(bench: Bench) -> None:
    """Success settles it."""
    agent = bench.agent()
    bench.program, bench.at_ms = "raise SystemExit(1)", DUE_MS
    agent.step()
    bench.finish(agent)
    bench.program, bench.at_ms = "", DUE_MS + RETRY_MS
    agent.step()
    bench.finish(agent)
    bench.at_ms += RETRY_MS
    agent.step()

    assert len(bench.weeks) == 2
    assert agent.succeeded_ms == DUE_MS + RETRY_MS


def test_a_program_that_is_not_there_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as an attempt, and nothing is left running."""
    agent = bench.agent()
    monkeypatch.setattr(bench, "command", lambda _: ["/nowhere/python"])
    agent._command = bench.command
    bench.at_ms = DUE_MS
    agent.step()

    assert agent._child is None
    assert bench.memory().attempts == 1


def test_one_that_does_not_end_is_ended(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """After two hours of the clock that nobody sets."""
    agent = bench.agent()
    bench.program, bench.at_ms = "import signal; signal.pause()", DUE_MS
    agent.step()
    child = agent._child
    assert child is not None
    bench.at_ms += 5 * HOUR_MS  # the wall clock alone ends nothing
    assert agent.step() == 1.0
    bench.seconds = 7201
    agent.step()

    assert child.returncode == -15
    assert "it took longer than 2 h" in caplog.text


def test_the_end_of_the_agent_ends_the_child_and_costs_no_attempt(bench: Bench) -> None:
    """The next start makes it at once."""
    agent = bench.agent()
    bench.program, bench.at_ms = "import signal; signal.pause()", DUE_MS
    agent.step()
    child = agent._child
    agent.stop()

    assert child is not None
    assert child.returncode == -15
    assert bench.memory().attempts == 0
    bench.program = ""
    agent = bench.agent()
    agent.step()
    bench.finish(agent)
    assert bench.weeks == ["2026-W47"] * 2
    assert agent.succeeded_ms == DUE_MS


def test_a_child_yields_to_all_others(bench: Bench) -> None:
    """Its priority is the least, for processors and disks, and it goes first when memory runs out."""
    agent = bench.agent()
    bench.program, bench.at_ms = "import signal; signal.pause()", DUE_MS
    agent.step()
    assert agent._child is not None
    child = psutil.Process(agent._child.pid)

    assert child.nice() == 19
    assert child.ionice() == (psutil.IOPRIO_CLASS_BE, 7)
    assert Path(f"/proc/{child.pid}/oom_score_adj").read_text(encoding="ascii").strip() == "500"
    agent.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"settled_ms": "x"}',
        b'{"settled_ms": null}',
        b'{"settled_ms": 1, "more": 2}',
        b'{"settled_ms": 1, "succeeded_ms": "x"}',
        b"[" * 50_000,
        b"\xff",
    ],
)
def test_a_memory_that_cannot_be_read_begins_anew(bench: Bench, content: bytes) -> None:
    """It starts no report of the past, and the next one is made."""
    bench.path.parent.mkdir()
    bench.path.write_bytes(content)
    agent = bench.agent()
    agent.step()
    assert bench.weeks == []
    bench.at_ms = DUE_MS
    agent.step()
    bench.finish(agent)

    assert bench.weeks == ["2026-W47"]


def test_a_clock_that_was_ahead_does_not_stop_reports(bench: Bench) -> None:
    """What was settled years from now counts for nothing."""
    bench.at_ms = DUE_MS + 500 * WEEK_MS
    bench.agent()
    bench.at_ms = DUE_MS - HOUR_MS
    agent = bench.agent()
    bench.at_ms = DUE_MS
    agent.step()
    bench.finish(agent)

    assert bench.weeks == ["2026-W47"]


def test_a_folder_that_cannot_be_written_stops_no_report(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and the report is made all the same."""
    bench.path.parent.parent.joinpath("state").write_text("a file")
    agent = bench.agent()
    bench.at_ms = DUE_MS
    agent.step()
    bench.finish(agent)

    assert agent.succeeded_ms == DUE_MS
    assert "cannot write" in caplog.text


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (ReportSettings(schedule="Mon 06:00", schedule_folder="/x", timezone="Mars/Olympus"), "timezone"),
        (ReportSettings(schedule="Mon 06:00", schedule_mail="on"), "needs a mail server"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused_at_the_start(
    tmp_path: Path, report: ReportSettings, said: str
) -> None:
    """Before anything is due."""
    with pytest.raises(SettingsError, match=said):
        Scheduled(Settings(report=report), tmp_path / "m.json", lambda _: [])


def test_mail_alone_is_enough(tmp_path: Path) -> None:
    """A schedule without a folder is sound where there is a mail server."""
    mail = MailSettings(host="localhost", security="none", sender="a@example.org")
    settings = Settings(report=ReportSettings(schedule="Mon 06:00", schedule_mail="on"), mail=mail)

    assert Scheduled(settings, tmp_path / "m.json", lambda _: []).succeeded_ms is None


def test_the_command_is_our_own() -> None:
    """It names the week, and the options that the agent was given."""
    assert report_command(["--journal=/x/j.db"])("2026-W47") == [
        *(sys.executable, "-m", "gputally", "report", "--scheduled", "--week", "2026-W47"),
        "--journal=/x/j.db",
    ]


PATCH = """
import sys
from gputally import scheduled
program = "import sys, pathlib; pathlib.Path('told').write_text(' '.join(sys.argv[1:]))"
scheduled.report_command = lambda options: lambda week: [sys.executable, "-c", program, week, *options]
"""


def test_a_running_node_makes_it_and_says_so_on_its_page(tmp_path: Path) -> None:
    """What was due while it was off is made at the start; its figure appears, and ticks go on meanwhile."""
    settings = tmp_path / "s.toml"
    settings.write_text('[report]\nschedule = "Mon 06:00"\nschedule_folder = "out"\n')
    (tmp_path / "report-schedule.json").write_text('{"settled_ms": 0}')
    options = ("--settings", settings, "--journal", tmp_path / "j.db")
    with running(tmp_path, *MIXED, *options, patch=PATCH) as agent:
        agent.shows_gpus()
        name = "gputally_report_last_success_timestamp_seconds"
        made = until(lambda: agent.value(name), "the report")
        assert agent.end() == 0
    now = datetime.now(UTC).timestamp()
    week = week_before(round(now * 1000) - 6 * HOUR_MS, UTC)

    assert now - 60 < made <= now
    assert (tmp_path / "told").read_text(encoding="utf-8") == (
        f"{week} --settings={settings} --journal={tmp_path / 'j.db'}"
    )
    assert f"the report of week {week} is there" in agent.said


def test_a_running_node_makes_the_report_itself(tmp_path: Path) -> None:
    """By a real process, of what the journal has of the week; files are whole, and the week is settled."""
    began_ms, folder, memory = now_ms(), tmp_path / "out", tmp_path / "report-schedule.json"
    past = Small(tmp_path / "j.db", began_ms - 22 * DAY_MS)
    past.pass_by(22 * DAY_MS, {gpu(0): (ALICE, {"busy_ratio": 0.5})})
    past.save()
    (tmp_path / "s.toml").write_text('[report]\nschedule = "Mon 06:00"\nschedule_folder = "out"\n')
    memory.write_text('{"settled_ms": 0}')
    with running(tmp_path, *MIXED, "--settings", "s.toml", "--journal", "j.db") as agent:
        agent.shows_gpus()
        name = "gputally_report_last_success_timestamp_seconds"
        made = until(lambda: agent.value(name), "the report", seconds=180)
        assert agent.end() == 0
    due_ms = due_upto(MONDAY_SIX, UTC, began_ms)
    week = week_before(due_ms, UTC)
    monday = datetime.strptime(f"{week}-1", "%G-W%V-%u").replace(tzinfo=UTC)
    page = (folder / f"gpu-report-{week}.html").read_text(encoding="utf-8")
    told = json.loads((folder / f"gpu-report-{week}.json").read_bytes())

    assert began_ms / 1000 <= made <= now_ms() / 1000
    assert json.loads(memory.read_bytes())["settled_ms"] == due_ms
    assert len(list(folder.iterdir())) == 2
    assert page.rstrip().endswith("</html>")
    assert week in page
    assert told["window"]["from"] == f"{monday:%Y-%m-%dT%H:%M:%SZ}"
    assert (told["identity_ok"], told["inventory"]["gpu_seconds"]) == (True, 604_800.0)
    assert told["states"]["active"]["gpu_seconds"] == 604_800.0


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (ReportSettings(), ["--settings=/x/s.toml", "--journal=/x/j.db"]),
        (ReportSettings(source="http://victoria:8428"), ["--settings=/x/s.toml"]),
    ],
)
def test_a_report_from_a_store_is_not_made_of_the_journal(report: ReportSettings, told: list[str]) -> None:
    """The journal that a node was started with is where it writes; a store of the settings goes before it."""
    options = argparse.Namespace(settings=Path("/x/s.toml"), journal=Path("/x/j.db"))

    assert _report_options(options, Settings(report=report)) == told


def test_a_node_without_a_schedule_has_no_such_figure(tmp_path: Path) -> None:
    """Nothing is made, remembered or said."""
    with running(tmp_path, *MIXED, "--journal", "j.db") as agent:
        agent.shows_gpus()
        assert not agent.samples("gputally_report")
        assert agent.end() == 0
    assert not list(tmp_path.glob("report-schedule*"))


def test_the_thread_ends_when_it_is_told(bench: Bench) -> None:
    """It looks, waits, and is gone."""
    agent = bench.agent()
    bench.at_ms = DUE_MS
    agent.start()
    until(lambda: bench.weeks, "a look")
    agent.stop()

    assert agent._thread is not None
    assert not agent._thread.is_alive()
