"""Who gets what of a week's report by mail, once, and what becomes of it."""

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from agent.clock import now_ms
from agent.errors import ReportError, SettingsError
from agent.tally import HOUR_MS
from gputally import mail_contents
from gputally.mail import MailError
from gputally.mail_record import DAY_MS, Sent, opened
from gputally.mail_settings import MailSettings
from gputally.report_mail import mail, mail_arguments, week_of
from gputally.report_scheduled import deliver, delivered, is_delivered
from gputally.schedule import week_before
from gputally.settings import ReportSettings, Settings
from reports.forms.long import to_csv
from reports.outline import Report
from tests.command.post_office import (
    GREETING,
    office,
    plain,
    rude,
    says,
)
from tests.command.processes import gputally
from tests.reports.sample import sample_report
from tests.reports.small import ALICE, BOB, MONDAY_MS, Small, gpu

SENT_MS = MONDAY_MS + 7 * DAY_MS + 6 * HOUR_MS
PLANNERS = ("ann@example.org", "bob@example.org")
FIRST = "GPU week 2026-W47"


@pytest.fixture(scope="module")
def report() -> Report:
    """Give the report of a week of two nodes; all times of it are of Berlin."""
    return sample_report(nodes=2)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let files be short: what is in them is for other tests."""
    if "real_files" not in request.fixturenames:
        monkeypatch.setattr(mail_contents, "written", lambda _, form, *__: f"the {form}\n".encode())


@pytest.fixture
def real_files() -> None:
    """Let files be as they are."""


class Desk:
    """Sends reports, and keeps what was said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.complaints: list[str] = []

    def send(self, report: Report, settings: MailSettings, at_ms: int = SENT_MS, **more: bool) -> int:
        """Send a report; give the exit code."""
        self.said, self.complaints = [], []
        return mail(
            report,
            Settings(mail=settings),
            at_ms=at_ms,
            folder=self.folder,
            say=self.said.append,
            complain=self.complaints.append,
            **more,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give a desk with a folder of its own."""
    return Desk(tmp_path / "state")


def test_without_settings_there_is_no_mail(desk: Desk, report: Report) -> None:
    """The defaults are sound, and sending says what is missing."""
    with pytest.raises(SettingsError, match=r"no mail server.*\[mail\]"):
        desk.send(report, MailSettings())


def test_planners_get_the_report_each_in_a_letter_of_their_own(desk: Desk, report: Report) -> None:
    """With the answer in the subject, as text and HTML, and files of both kinds."""
    with office() as post:
        assert desk.send(report, plain(post.port, planners=PLANNERS)) == 0
    assert [(one.to, one.letter["To"]) for one in post.got] == [((to,), to) for to in PLANNERS]
    first = post.got[0].letter
    assert first["From"] == "GPU report <gpu@example.org>"
    assert first["Subject"].startswith(f"{FIRST}: ")
    assert [part.get_content_type() for part in first.walk()] == [
        *(
            "multipart/mixed",
            "multipart/alternative",
            "text/plain",
            "text/html",
            "application/pdf",
            "text/csv",
        )
    ]
    files = {part.get_filename(): part.get_payload(decode=True) for part in first.iter_attachments()}
    assert files == {"gpu-report-2026-W47.pdf": b"the pdf\n", "gpu-report-2026-W47.csv": b"the csv\n"}
    assert desk.said == [f"mailed {to} (planner): {first['Subject']}" for to in PLANNERS]


@pytest.mark.usefixtures("real_files")
def test_the_files_are_the_report_itself(desk: Desk, report: Report) -> None:
    """A PDF and a table arrive byte by byte, and all of it goes over a wire for 7 bits."""
    with office() as post:
        desk.send(report, plain(post.port, planners=("ann@example.org",)))
    pdf, csv = (part.get_payload(decode=True) for part in post.got[0].letter.iter_attachments())
    assert isinstance(pdf, bytes)
    assert pdf.startswith(b"%PDF-")
    assert csv == to_csv(report).encode()
    assert post.got[0].text().startswith("GPU time, week 2026-W47\n")
    assert post.got[0].content.isascii()
    assert max(map(len, post.got[0].content.split(b"\r\n"))) <= 998


def test_files_that_are_too_large_are_left_out_and_it_is_said(
    desk: Desk, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the letter and to who sent it; the smaller file is there."""
    monkeypatch.setattr(
        mail_contents, "written", lambda _, form, *__: b"x" * (9 * 1024**2 if form == "pdf" else 1000)
    )
    with office() as post:
        assert desk.send(report, plain(post.port, planners=("ann@example.org",))) == 0
    (got,) = post.got
    assert [part.get_filename() for part in got.letter.iter_attachments()] == ["gpu-report-2026-W47.csv"]
    sentence = "gpu-report-2026-W47.pdf, since its 9.0 MiB are too much for mail"
    assert f"Not attached: {sentence}." in got.text("plain")
    assert f"Not attached: {sentence}." in got.text("html")
    assert f"not attached: {sentence}" in desk.said


def test_without_what_makes_pdf_the_letter_goes_without_it(
    desk: Desk, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sent it is told what to install, who gets it only that it is missing."""

    def written(_: Report, form: str, *__: object) -> bytes:
        if form == "pdf":
            raise SettingsError("install it with /opt/x/bin/python -m pip")
        return b"text\n"

    monkeypatch.setattr(mail_contents, "written", written)
    with office() as post:
        assert desk.send(report, plain(post.port, planners=("ann@example.org",))) == 0
    assert "not attached: gpu-report-2026-W47.pdf, since install it with /opt/x" in desk.said[0]
    assert b"/opt/x" not in post.got[0].content
    assert post.got[0].text() == (
        "text\n\nNot attached: gpu-report-2026-W47.pdf, since what writes it is not installed.\n"
    )


def idle_hours(report: Report) -> dict[str, float]:
    """Tell by owner what it held idle, in GPU-hours."""
    return {
        line.owner: sum(
            row.amounts.elapsed_ms / HOUR_MS
            for row in report.accounts
            if row.owner == line.owner and row.state.value == "held_idle"
        )
        for line in report.owners
    }


def test_owners_get_mail_who_held_enough_idle(desk: Desk, report: Report) -> None:
    """Those with an address and at least so many GPU-hours, and nobody else; the most idle first."""
    idle = {owner: hours for owner, hours in idle_hours(report).items() if owner != "unattributed" and hours}
    first, second, *rest = sorted(idle, key=lambda owner: -idle[owner])
    assert rest
    with office() as post:
        settings = plain(
            post.port, owners={"*": "{owner}@example.org"}, owner_least_gpu_hours=idle[second] - 0.001
        )
        assert desk.send(report, settings) == 0
    assert post.to == [f"{first}@example.org", f"{second}@example.org"]
    assert post.got[0].letter["Subject"].startswith(f"GPUs held idle by {first}, week 2026-W47: ")


def test_one_that_is_refused_stops_no_other(desk: Desk, report: Report) -> None:
    """The exit code is 1, the sentence has the server's words, and only the refused one is sent next time."""
    settings = {"planners": ("gone@example.org", *PLANNERS)}
    with office() as post:
        post.refuses["gone@example.org"] = "550 no such user"
        assert desk.send(report, plain(post.port, **settings)) == 1
        assert post.to == list(PLANNERS)
        assert desk.complaints == [
            (
                "not mailed to gone@example.org (planner): the mail server "
                f"localhost:{post.port} refused it: 550 no such user"
            )
        ]
        post.refuses.clear()
        assert desk.send(report, plain(post.port, **settings)) == 0
    assert post.to == [*PLANNERS, "gone@example.org"]


def test_nobody_gets_a_week_twice(desk: Desk, report: Report) -> None:
    """Unless told so; another week is another letter."""
    with office() as post:
        settings = plain(post.port, planners=("ann@example.org",))
        for _ in range(2):
            assert desk.send(report, settings) == 0
        assert len(post.got) == 1
        assert desk.said == [
            "no mail to ann@example.org (planner): it was sent already",
            "nobody is to be mailed",
        ]
        assert desk.send(report, settings, again=True) == 0
        assert len(post.got) == 2
        next_week = replace(report, window=replace(report.window, label="week 2026-W48"))
        assert desk.send(next_week, settings) == 0
        assert len(post.got) == 3


def test_a_letter_that_may_have_been_taken_is_not_sent_again(desk: Desk, report: Report) -> None:
    """It says so, with 1; only --mail-again sends it once more."""
    with rude(says(*GREETING, "250 ok", "250 ok", "354 go")) as port:
        settings = plain(port, planners=("ann@example.org",))
        assert desk.send(report, settings) == 1
        assert "ann@example.org (planner) may have got it or not" in desk.complaints[0]
        assert "--mail-again" in desk.complaints[0]
    with office() as post:
        settings = replace(settings, port=post.port)
        assert desk.send(report, settings) == 0
        assert post.got == []
        assert desk.send(report, settings, again=True) == 0
        assert post.to == ["ann@example.org"]


def test_a_server_that_is_away_leaves_everything_to_be_sent(desk: Desk, report: Report) -> None:
    """Nothing is noted as sent."""
    with rude(says()) as port:
        pass
    with pytest.raises(MailError, match="cannot be reached"):
        desk.send(report, plain(port, planners=PLANNERS))
    with office() as post:
        assert desk.send(report, plain(post.port, planners=PLANNERS)) == 0
    assert post.to == list(PLANNERS)


def week(report: Report, number: int) -> Report:
    """Give the same report as that of another week."""
    shift_ms = (number - 47) * 7 * DAY_MS
    window = replace(
        report.window,
        from_ms=report.window.from_ms + shift_ms,
        to_ms=report.window.to_ms + shift_ms,
        label=f"week 2026-W{number}",
    )
    return replace(report, window=window, made_ms=report.made_ms + shift_ms)


def test_an_owner_is_left_alone_for_some_days(desk: Desk, report: Report) -> None:
    """Whatever week it is about; planners are not."""
    with office() as post:
        settings = plain(
            post.port, planners=("ann@example.org",), owners={"robotics": "r@example.org"}, cool_down_days=8.0
        )
        settings = replace(settings, owner_least_gpu_hours=0.0)
        assert "robotics" in idle_hours(report)
        assert desk.send(report, settings) == 0
        assert post.to == ["ann@example.org", "r@example.org"]
        assert desk.send(week(report, 48), settings, SENT_MS + 7 * DAY_MS) == 0
        assert post.to[2:] == ["ann@example.org"]
        assert desk.said[0] == (
            "no mail to r@example.org (for owner robotics): the last one about robotics went out 7.0 days ago"
        )
        assert desk.send(week(report, 48), settings, SENT_MS + 7 * DAY_MS, again=True) == 0
        assert post.to[3:] == ["ann@example.org"]
        assert desk.send(week(report, 49), settings, SENT_MS + 8 * DAY_MS) == 0
        assert post.to[4:] == ["ann@example.org", "r@example.org"]


def test_all_who_answer_for_an_owner_get_it(desk: Desk, report: Report) -> None:
    """Also the second, when only the first was reached at first: the same week is one mail."""
    with office() as post:
        post.refuses["b@example.org"] = "450 later"
        settings = plain(post.port, owners={"robotics": "a@example.org, b@example.org"})
        settings = replace(settings, owner_least_gpu_hours=0.0)
        assert desk.send(report, settings) == 1
        post.refuses.clear()
        assert desk.send(report, settings, SENT_MS + HOUR_MS) == 0
    assert post.to == ["a@example.org", "b@example.org"]


def test_accounts_that_do_not_add_up_accuse_nobody(desk: Desk, report: Report) -> None:
    """Planners are told in the subject, owners get nothing."""
    broken = replace(report, violation_count=1)
    with office() as post:
        settings = plain(post.port, planners=("ann@example.org",), owners={"*": "all@example.org"})
        assert desk.send(broken, replace(settings, owner_least_gpu_hours=0.0)) == 0
    assert post.to == ["ann@example.org"]
    assert "accounts do not add up" in post.got[0].letter["Subject"]
    assert "the accounts of this week do not add up" in desk.said[0]


def test_a_dry_run_says_all_and_does_nothing(desk: Desk, report: Report) -> None:
    """No connection, no file; it says whom nobody named an address for as well."""
    settings = plain(1, planners=("ann@example.org",), owners={"robotics": "r@example.org"})
    settings = replace(settings, owner_least_gpu_hours=0.0)

    assert desk.send(report, settings, dry_run=True) == 0
    assert not desk.folder.exists()
    assert desk.said[0].startswith(f"would mail ann@example.org (planner): {FIRST}")
    assert desk.said[0].endswith(", gpu-report-2026-W47.pdf, gpu-report-2026-W47.csv]")
    assert desk.said[1].startswith(
        "would mail r@example.org (for owner robotics): GPUs held idle by robotics"
    )
    others = [owner for owner, hours in idle_hours(report).items() if hours and owner != "robotics"]
    told = desk.said[2].removeprefix("no address in [mail] owners for: ").split(", ")
    assert sorted(told) == sorted(others)
    assert len(desk.said) == 3


@pytest.mark.parametrize(
    ("label", "made_ms", "said"),
    [
        ("last 24h", SENT_MS, "only reports of a week are mailed"),
        ("all", SENT_MS, "only reports of a week are mailed"),
        ("", SENT_MS, "only reports of a week are mailed"),
        ("week 2026-W47", MONDAY_MS, "week 2026-W47 is not over"),
    ],
)
def test_only_whole_weeks_are_mailed(label: str, made_ms: int, said: str, desk: Desk, report: Report) -> None:
    """Anything else is refused before anything is sent."""
    other = replace(report, window=replace(report.window, label=label), made_ms=made_ms)
    with pytest.raises(ReportError, match=said):
        week_of(other)
    with pytest.raises(ReportError, match=said):
        desk.send(other, plain(1, planners=PLANNERS))


# The record


def sent(**more: object) -> Sent:
    """Make a letter that was sent."""
    told: dict[str, object] = {"kind": "owner", "owner": "a", "address": "a@b.org", "week": "2026-W47"}
    return Sent(**{**told, "at_ms": SENT_MS, **more})  # type: ignore[arg-type]


def test_what_was_sent_is_remembered(tmp_path: Path) -> None:
    """Over processes, by kind, owner, address in any case, and week."""
    with opened(tmp_path) as record:
        record.note(sent())
    with opened(tmp_path) as record:
        assert record.has(sent(at_ms=1, address="A@B.org"))
        for other in ({"kind": "planner"}, {"owner": "b"}, {"address": "c@b.org"}, {"week": "2026-W48"}):
            assert not record.has(sent(**other))
        assert record.last_ms("a", "2026-W48") == SENT_MS
        assert record.last_ms("a", "2026-W47") is None
        assert record.last_ms("b", "2026-W48") is None


def test_what_is_taken_back_leaves_what_was_before(tmp_path: Path) -> None:
    """A second letter that is refused does not make the first one unsent."""
    with opened(tmp_path) as record:
        record.note(sent(at_ms=5))
        record.note(sent(at_ms=9))
        record.take_back(sent(at_ms=9))
        assert record.last_ms("a", "2026-W48") == 5
        record.note(sent(owner="b"))
        record.take_back(sent(owner="b"))
        assert not record.has(sent(owner="b"))


def test_old_letters_are_forgotten(tmp_path: Path) -> None:
    """After more than a year, as another is noted."""
    with opened(tmp_path) as record:
        record.note(sent(at_ms=SENT_MS - 401 * DAY_MS))
        record.note(sent(owner="b", at_ms=SENT_MS - 399 * DAY_MS))
        record.note(sent(owner="c"))
    letters = json.loads((tmp_path / "mail.json").read_bytes())["letters"]
    assert [one["owner"] for one in letters] == ["b", "c"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"version": 2, "letters": []}',
        b'{"version": 1, "letters": [{}]}',
        b'{"version": 1, "letters": [{"kind":1,"owner":"","address":"","week":"","at_ms":1}]}',
        b"[" * 99_999,
        b"\xff",
    ],
)
def test_a_record_that_cannot_be_understood_stops_mail(content: bytes, tmp_path: Path) -> None:
    """Else everything might be sent a second time; the sentence says what to do."""
    (tmp_path / "mail.json").write_bytes(content)
    with (
        pytest.raises(ReportError, match="move it away, and letters may be sent a second time"),
        opened(tmp_path),
    ):
        pass


def test_only_one_process_sends(tmp_path: Path) -> None:
    """Another one that comes meanwhile is sent away."""
    with (tmp_path / "mail.lock").open("w") as held:
        flock(held, LOCK_EX)
        with pytest.raises(ReportError, match="another gputally sends mail"), opened(tmp_path):
            pass
    with opened(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_sends_nothing(desk: Desk, report: Report) -> None:
    """Nobody could remember it."""
    desk.folder.write_text("a file")
    with office() as post, pytest.raises(ReportError, match="cannot write"):
        desk.send(report, plain(post.port, planners=PLANNERS))
    assert post.got == []


# What is scheduled


def scheduled(
    report: Report, folder: Path, mail_settings: MailSettings, **more: object
) -> tuple[int, list[str]]:
    """Deliver a report; give the exit code and what was complained of."""
    wanted = ReportSettings(schedule="Mon 06:00", schedule_folder=str(folder), **more)  # type: ignore[arg-type]
    complaints: list[str] = []
    settings = Settings(report=wanted, mail=mail_settings)
    code = deliver(report, settings, at_ms=SENT_MS, say=lambda _: None, complain=complaints.append)
    return code, complaints


def test_files_are_written_and_mail_is_sent(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a folder that is made where it is missing, in all forms that are wanted."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    with office() as post:
        folder, forms = tmp_path / "a" / "b", ("json", "csv", "text")
        settings = plain(post.port, planners=("ann@example.org",))
        assert scheduled(report, folder, settings, schedule_formats=forms, schedule_mail="on") == (0, [])
    assert sorted(path.name for path in folder.iterdir()) == [
        f"gpu-report-2026-W47.{suffix}" for suffix in ("csv", "json", "txt")
    ]
    told = json.loads((folder / "gpu-report-2026-W47.json").read_bytes())
    assert told["window"]["timezone"] == "Europe/Berlin"
    assert post.to == ["ann@example.org"]
    assert (tmp_path / "state" / "mail.json").exists()


def test_what_fails_stops_nothing_else(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A form that cannot be written and a server that is away are told, with 1; the other form is there."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    (tmp_path / "gpu-report-2026-W47.txt").mkdir()
    with rude(says()) as port:
        pass
    code, complaints = scheduled(
        report, tmp_path, plain(port, planners=PLANNERS), schedule_formats=("text", "csv"), schedule_mail="on"
    )

    assert code == 1
    assert [complaint.partition(":")[0] for complaint in complaints] == [
        "not written",
        "the mail server localhost",
    ]
    assert (tmp_path / "gpu-report-2026-W47.csv").exists()


# The options


def options(*given: str) -> argparse.Namespace:
    """Read options as the command does."""
    parser = argparse.ArgumentParser()
    mail_arguments(parser)
    return parser.parse_args(given)


def test_only_what_was_asked_for_is_delivered() -> None:
    """Without an option nothing is, whatever the settings have."""
    settings = Settings(
        mail=plain(1), report=ReportSettings(schedule="Mon 06:00", schedule_folder="/x", schedule_mail="on")
    )

    assert not is_delivered(options(), settings)
    assert not is_delivered(options("--mail-again"), settings)
    for given in ("--mail", "--mail-dry-run", "--scheduled"):
        assert is_delivered(options(given), settings)


@pytest.mark.parametrize(
    ("given", "report_settings", "said"),
    [
        ("--mail", ReportSettings(), "no mail server"),
        ("--mail-dry-run", ReportSettings(), "no mail server"),
        ("--scheduled", ReportSettings(), "wants nothing"),
        ("--scheduled", ReportSettings(schedule_mail="on"), "no mail server"),
    ],
)
def test_what_the_settings_lack_is_told_before_the_report_is_made(
    given: str, report_settings: ReportSettings, said: str
) -> None:
    """Since that may take long."""
    with pytest.raises(SettingsError, match=said):
        is_delivered(options(given), Settings(report=report_settings))


def test_options_that_contradict_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run sends nothing, so it is no --mail."""
    with pytest.raises(SystemExit):
        options("--mail", "--mail-dry-run")
    assert "not allowed with" in capsys.readouterr().err


def test_the_options_reach_the_server(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, then not, then again; what was refused is complained of on standard error."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    with office() as post:
        post.refuses["bob@example.org"] = "550 no"
        settings = Settings(mail=plain(post.port, planners=PLANNERS))
        codes = [
            delivered(options(*given), report, settings, at_ms=SENT_MS)
            for given in (("--mail-dry-run",), ("--mail",), ("--mail",), ("--mail", "--mail-again"))
        ]
    out, errors = capsys.readouterr()

    assert codes == [0, 1, 1, 1]
    assert post.to == ["ann@example.org", "ann@example.org"]
    assert out.count("would mail") == 2
    assert errors.splitlines()[0].startswith("gputally: not mailed to bob@example.org (planner): ")


# The command

SETTINGS = """
[journal]
path = "kept/journal.db"

[mail]
host = "localhost"
port = {port}
security = "none"
sender = "GPU report <gpu@example.org>"
planners = ["plan@example.org"]
owners = {{ "*" = "{{owner}}@example.org" }}
"""
"""The journal's folder has the record of what was sent."""


def test_the_command_mails_a_week_once(tmp_path: Path) -> None:
    """A dry run sends nothing; planners get the report with both files, an owner its lines; then nobody."""
    week = week_before(now_ms(), UTC)
    monday = datetime.strptime(f"{week}-1", "%G-W%V-%u").replace(tzinfo=UTC)
    small = Small(tmp_path / "j.db", round(monday.timestamp() * 1000))
    small.pass_by(7 * DAY_MS, {gpu(0): (ALICE, {"busy_ratio": 0.0}), gpu(1): (BOB, {"busy_ratio": 0.5})})
    small.save()
    with office() as post:
        (tmp_path / "s.toml").write_text(SETTINGS.format(port=post.port))
        options = ("report", "--settings", "s.toml", "--journal", "j.db")
        dry = gputally(tmp_path, *options, "--mail-dry-run")
        assert (dry.code, dry.errors, dry.out.count("would mail "), post.got) == (0, "", 2, [])
        assert not (tmp_path / "kept").exists()
        first = gputally(tmp_path, *options, "--mail")
        assert (first.code, first.errors) == (0, "")
        assert post.to == ["plan@example.org", "alice@example.org"]
        again = gputally(tmp_path, *options, "--mail")
        assert (again.code, again.errors, len(post.got)) == (0, "", 2)
    assert again.out.splitlines() == [
        "no mail to plan@example.org (planner): it was sent already",
        "no mail to alice@example.org (for owner alice): it was sent already",
        "nobody is to be mailed",
    ]
    whole, part = (one.letter for one in post.got)
    subjects = (
        f"GPU week {week}: 50 % of 336 GPU-hours worked, 168 held idle",
        f"GPUs held idle by alice, week {week}: 168 GPU-hours",
    )
    assert first.out.splitlines() == [
        f"mailed plan@example.org (planner): {whole['Subject']}",
        f"mailed alice@example.org (for owner alice): {part['Subject']}",
    ]
    assert [letter["Subject"].partition(" (")[0] for letter in (whole, part)] == list(subjects)
    assert not list(part.iter_attachments())
    assert b"bob" not in post.got[1].content
    names = [one.get_filename() for one in whole.iter_attachments()]
    pdf, csv = (one.get_payload(decode=True) for one in whole.iter_attachments())
    assert names == [f"gpu-report-{week}.pdf", f"gpu-report-{week}.csv"]
    assert isinstance(pdf, bytes)
    assert pdf.startswith(b"%PDF-")
    assert csv == gputally(tmp_path, *options, "--format", "csv").out.encode()
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["mail.json", "mail.lock"]
