"""`gputally findings`: what it tells of findings, and what people say of them: ack and silence."""

import json
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent import remarks
from agent.clock import now_ms
from agent.journal_file import connect
from agent.remarks import LONGEST_REASON
from agent.tick import Finding
from gputally.cli import main
from tests.agent.histories import INTERVAL_MS, NODE, books_at, steady_tick
from tests.command.found import GPUS, finding, journal
from tests.command.journals import check_identity, rows
from tests.command.processes import MIXED, gputally, is_one_sentence, running
from tests.command.waiting import until

Capture = pytest.CaptureFixture[str]
ACTIONS = ("explain", "ack", "unack", "silence", "silences", "unsilence")
SILENCES = "SELECT rule, uuid, until_ms - from_ms, author, reason FROM silence ORDER BY id"
WHY = ("--reason", "a fan is ordered", "--author", "ada")
HOUR = ("--for", "1h", *WHY)
ANYTHING = """
[anything]
summary = "the GPU answers"
severity = "warning"
when.up.quantity = "up"
when.up.at_least = 1
for = "1s"
runbook.action = "nothing"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a journal in which one finding of each severity is open."""
    return journal(tmp_path, [finding("critical", 0), finding("warning", 1), finding("info", None)])


def asked(path: Path, *arguments: str) -> int:
    """Run the command; a wrong use of it ends with 2."""
    try:
        return main(["findings", *arguments, "--journal", str(path)])
    except SystemExit as end:
        return int(end.code or 0)


def told(path: Path, capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    """Give what programs get, of which one is as good as the other."""
    capsys.readouterr()
    asked(path, *arguments, "--json")
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def rules_of(found: list[dict[str, Any]]) -> list[str]:
    """Give the rules of findings, in their order."""
    return [one["rule"] for one in found]


# What is told of a finding


def test_a_finding_tells_what_it_cost_and_whom(tmp_path: Path, capsys: Capture) -> None:
    """How long, how many GPU-hours and how much money, who held the GPU, and with its number its runbook."""
    (tmp_path / "none.toml").write_text("[report]\nprice_per_gpu_hour = 3.0\n")
    end_ms = now_ms()
    hot = Finding(
        rule="thermal_margin_low",
        severity="warning",
        node=NODE,
        uuid=GPUS[0].uuid,
        opened_ms=end_ms - 7_200_000,
        summary="hot",
        action="cool it",
        times=1,
    )
    path = journal(tmp_path, [hot], end_ms=end_ms)
    assert asked(path) == 1
    said = capsys.readouterr().out
    assert "2.00 GPU-hours, 6.00 at 3 an hour" in said
    assert "    held by job 4711 of vision\n" in said
    assert asked(path, "explain", "1") == 1
    assert "meaning:" in capsys.readouterr().out
    (one,) = told(path, capsys)
    assert (one["id"], one["gpu"], round(one["gpu_hours"], 2), round(one["money"])) == (1, 0, 2.0, 6)
    assert (one["silenced"], one["acknowledged"]) == (None, None)


def test_an_action_takes_options_before_and_behind_its_name(path: Path, capsys: Capture) -> None:
    """What stands before is not forgotten."""
    for arguments in (["--json", "explain", "2"], ["explain", "2", "--json"]):
        assert asked(path, *arguments) == 1
        (one,) = json.loads(capsys.readouterr().out)
        assert one["rule"] == "of_warning"
    assert main(["findings", "--journal", str(path), "explain", "3"]) == 1


def test_what_closed_is_told_with_since_only(path: Path, capsys: Capture) -> None:
    """And not with --open."""
    end_ms = now_ms() + INTERVAL_MS
    with books_at(path, now_ms=end_ms) as books:
        open_now = [finding("critical", 0), finding("info", None)]
        books.post(steady_tick(end_ms - INTERVAL_MS), {}, judge=lambda _: open_now)
        books.commit(end_ms)
    day = f"{time.gmtime().tm_year - 1}-01-01"
    assert rules_of(told(path, capsys)) == ["of_critical", "of_info"]
    assert rules_of(told(path, capsys, "--since", day)) == ["of_critical", "of_warning", "of_info"]
    assert rules_of(told(path, capsys, "--since", day, "--open")) == ["of_critical", "of_info"]


def test_nothing_is_said_in_words(tmp_path: Path, capsys: Capture) -> None:
    """A journal without findings is fine."""
    path = journal(tmp_path)
    assert asked(path) == 0
    assert asked(path, "--since", "2026-01-01") == 0
    assert asked(path, "silences") == 0
    assert asked(path, "silences", "--all") == 0
    assert capsys.readouterr().out.splitlines() == [
        "nothing is open",
        "nothing was open",
        "nothing is silenced",
        "nothing was silenced",
    ]
    assert told(path, capsys) == told(path, capsys, "silences") == []


@pytest.mark.parametrize("action", ["", *ACTIONS])
def test_every_action_has_help(action: str, capsys: Capture, tmp_path: Path) -> None:
    """It is complete, and names the action."""
    assert asked(tmp_path, *filter(None, [action]), "--help") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: gputally findings {action}".rstrip())
    assert all(name in said for name in ACTIONS if not action)


# Silences


def test_what_is_silenced_comes_last_and_does_not_count(path: Path, capsys: Capture) -> None:
    """The lines and the JSON say until when, by whom and why; the exit code is about the rest."""
    assert asked(path, "silence", "--gpu", "0", *HOUR) == 0
    assert "it is about 1 of the findings that are open" in capsys.readouterr().out
    found = told(path, capsys)
    assert rules_of(found) == ["of_warning", "of_info", "of_critical"]
    assert found[0]["silenced"] is None
    quiet = found[2]["silenced"]
    assert 0 < quiet.pop("until_ms") - now_ms() <= 3_600_000
    assert quiet == {"silence": 1, "author": "ada", "reason": "a fan is ordered"}
    assert asked(path) == 1
    assert " by ada: a fan is ordered (silence 1)" in capsys.readouterr().out
    assert asked(path, "explain", "1") == 0
    assert asked(path, "silence", "--all-findings", *HOUR) == 0
    assert asked(path) == 0


def test_a_silence_of_a_rule_and_a_gpu_needs_both(path: Path, capsys: Capture) -> None:
    """What only one of them is about stays loud."""
    assert asked(path, "silence", "--rule", "of_critical", "--gpu", GPUS[1].uuid, *HOUR) == 0
    assert all(one["silenced"] is None for one in told(path, capsys))
    assert asked(path, "silence", "--rule", "of_critical", "--gpu", GPUS[0].uuid, *HOUR) == 0
    assert [one["id"] for one in told(path, capsys) if one["silenced"]] == [1]


def test_silences_are_listed_and_ended(path: Path, capsys: Capture) -> None:
    """One that is over is listed with --all, and ending it once more is refused."""
    assert asked(path, "silence", "--gpu", "0", *HOUR) == 0
    capsys.readouterr()
    assert asked(path, "silence", "--rule", "gpu_down", *HOUR, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["number"], made["rule"], made["uuid"]) == (2, "gpu_down", "")
    assert asked(path, "silences") == 0
    said = capsys.readouterr().out
    assert f"GPU 0 {GPUS[0].uuid}" in said
    assert "59 min" in said or "1 h 00 min" in said
    assert asked(path, "unsilence", "1") == 0
    assert [one["number"] for one in told(path, capsys, "silences")] == [2]
    assert [one["holds"] for one in told(path, capsys, "silences", "--all")] == [False, True]
    assert asked(path, "silences", "--all") == 0
    assert "  over  " in capsys.readouterr().out
    assert asked(path, "unsilence", "1") == 2
    assert is_one_sentence(capsys.readouterr().err)
    assert rules_of(told(path, capsys))[0] == "of_critical"


def test_a_gpu_that_is_gone_can_be_silenced_by_its_uuid(path: Path) -> None:
    """As can a rule that is gone, if it found something."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO gpu (uuid) VALUES ('GPU-gone')")
    assert asked(path, "silence", "--gpu", "GPU-gone", "--rule", "of_info", *HOUR) == 0
    assert rows(path, SILENCES) == [("of_info", "GPU-gone", 3_600_000, "ada", "a fan is ordered")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--rule or --gpu or both, or --all-findings"),
        (("--all-findings", "--gpu", "0"), "--rule or --gpu or both, or --all-findings"),
        (("--gpu", "7"), "no GPU '7': choose among 0, 1, or give the UUID"),
        (("--gpu", "GPU-\x1b[2J"), "no GPU 'GPU-?[2J'"),
        (("--rule", "thermal_margin"), "do you mean thermal_margin_low"),
        (("--gpu", "\udcff"), "no GPU '?': choose among 0, 1"),
        (("--rule", "\udcff" * 99), "`gputally rules list` names them"),
        (("--gpu", "0", "--for", "2 hours"), "'2 hours' is no duration"),
        (("--gpu", "0", "--for", "31d"), "between 1s and 30d"),
        (("--gpu", "0", "--for", "0s"), "between 1s and 30d"),
        (("--gpu", "0", "--reason", " \n"), "--reason must say why"),
        (("--gpu", "0", "--reason", "x" * (1 << 20)), "--reason has 1,048,576 characters: say it in 500"),
        (("--gpu", "0", "--author", "x" * (1 << 20)), "--author has 1,048,576 characters: say it in 100"),
    ],
)
def test_a_silence_that_cannot_be_meant_is_refused(
    path: Path, capsys: Capture, arguments: tuple[str, ...], said: str
) -> None:
    """In one sentence with the choices; nothing is written."""
    assert asked(path, "silence", *HOUR, *arguments) == 2
    errors = capsys.readouterr().err
    assert is_one_sentence(errors)
    assert said in errors
    assert rows(path, SILENCES) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("explane", "1"),
        ("explain",),
        ("explain", "-1"),
        ("explain", "1" * 99),
        ("ack", "x", *WHY),
        ("ack", *WHY),
        ("ack", "1"),
        ("silence", "--gpu", "0", *WHY),
        ("silence", "--gpu", "0", "--for", "1h"),
        ("unsilence", "\x1b"),
    ],
)
def test_wrong_use_ends_with_2_and_nothing_written(
    path: Path, capsys: Capture, arguments: tuple[str, ...]
) -> None:
    """The usage and the error say what is missing."""
    assert asked(path, *arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("usage: gputally findings")
    assert "\x1b" not in errors
    assert rows(path, "SELECT * FROM silence") == rows(path, "SELECT * FROM acknowledgement") == []


# Acknowledgements


def test_findings_are_acknowledged_and_not_any_more(path: Path, capsys: Capture) -> None:
    """Several at a time; they still count, as they are still open."""
    assert asked(path, "ack", "1", "3", "1", *WHY) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ada knows of finding 1: of_critical",
        "ada knows of finding 3: of_info",
    ]
    found = {one["id"]: one["acknowledged"] for one in told(path, capsys)}
    assert abs(found[1].pop("at_ms") - now_ms()) < 3_600_000
    assert found[1] == {"author": "ada", "reason": "a fan is ordered"}
    assert found[2] is None
    assert asked(path) == 1
    assert "acknowledged by ada on " in capsys.readouterr().out
    assert asked(path, "ack", "1", "--reason", "ordered again", "--author", "grace") == 0
    assert told(path, capsys)[0]["acknowledged"]["reason"] == "ordered again"
    assert asked(path, "unack", "1") == 0
    assert told(path, capsys)[0]["acknowledged"] is None
    assert asked(path, "unack", "1") == 2
    assert is_one_sentence(capsys.readouterr().err)


def test_all_or_none_are_acknowledged(path: Path, capsys: Capture) -> None:
    """A number that there is none of is refused."""
    assert asked(path, "ack", "1", "77", *WHY) == 2
    errors = capsys.readouterr().err
    assert is_one_sentence(errors)
    assert "no finding 77" in errors
    assert rows(path, "SELECT * FROM acknowledgement") == []


def _judged(findings: list[Finding], _: object) -> list[Finding]:
    return findings


def test_an_acknowledgement_outlives_flapping(path: Path, capsys: Capture) -> None:
    """What opens again soon is the same finding; another finding of the rule is not acknowledged."""
    assert asked(path, "ack", "1", *WHY) == 0
    start_ms = now_ms() + INTERVAL_MS
    with books_at(path, now_ms=start_ms) as books:
        found_then: list[list[Finding]] = [[], [finding("critical", 0)], [finding("critical", 1)]]
        for number, findings in enumerate(found_then):
            books.post(steady_tick(start_ms + number * INTERVAL_MS), {}, judge=partial(_judged, findings))
        books.commit(start_ms + 3 * INTERVAL_MS)
    found = {one["id"]: one for one in told(path, capsys, "--since", "2020-01-01")}
    assert found[1]["times"] == 2
    assert found[1]["acknowledged"]["author"] == "ada"
    assert found[4]["rule"] == "of_critical"
    assert found[4]["acknowledged"] is None


# Who says it


def test_the_author_is_the_user_unless_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind sudo as well; a name that does not print is made to."""
    bare = ("silence", "--gpu", "0", "--for", "1h", "--reason", "x")
    monkeypatch.setenv("SUDO_USER", "gr\x1bace")
    assert asked(path, *bare) == 0
    assert asked(path, *bare, "--author", " ada\nlovelace ") == 0
    monkeypatch.delenv("SUDO_USER")
    assert asked(path, *bare) == 0
    authors = [row[3] for row in rows(path, SILENCES)]
    assert authors[:2] == ["gr?ace", "ada lovelace"]
    assert authors[2]


def test_hostile_words_stay_in_their_line(path: Path, capsys: Capture) -> None:
    """What somebody typed is one line of what prints, and so is what somebody else wrote into the file."""
    assert (
        asked(path, "silence", "--gpu", "0", "--for", "1h", "--reason", "one\ntwo\x1b[2J\u202e\udcfftail")
        == 0
    )
    assert rows(path, SILENCES)[0][4] == "one two?[2J??tail"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE silence SET author = ?, reason = ?", ("\x1b]0;x\x07", "y\n" * (1 << 20)))
        db.execute("INSERT INTO acknowledgement VALUES (1, 0, ?, ?)", ("\r", "\x1b" * (1 << 20)))
    capsys.readouterr()
    for arguments in ((), ("explain", "1"), ("silences",), ("--json",), ("silences", "--json")):
        asked(path, *arguments)
        said = capsys.readouterr().out
        assert len(said) < 5_000
        assert said.replace("\n", "").isprintable()
    assert len(told(path, capsys)[-1]["silenced"]["reason"]) == LONGEST_REASON


# Beside the agent


def test_a_journal_that_may_only_be_read_says_who_may_write(
    path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence with the user; what is read is not disturbed."""

    def for_reading(path: Path, *, writable: bool = False) -> sqlite3.Connection:
        del writable  # SQLite opens a file that this user may only read for reading
        return connect(path)

    monkeypatch.setattr(remarks, "connect", for_reading)
    for arguments in (
        ("silence", "--gpu", "0", *HOUR),
        ("ack", "1", *WHY),
        ("unack", "1"),
        ("unsilence", "1"),
    ):
        assert asked(path, *arguments) == 1
        errors = capsys.readouterr().err
        assert is_one_sentence(errors)
        assert f"do it as {path.owner()}, the user whom the agent runs as" in errors
    assert asked(path) == 1


def test_no_journal_is_made_by_what_is_said(tmp_path: Path, capsys: Capture) -> None:
    """A wrong name is an error."""
    for arguments in (
        ("silence", "--gpu", "0", *HOUR),
        ("ack", "1", *WHY),
        ("unack", "1"),
        ("unsilence", "1"),
    ):
        assert asked(tmp_path / "wrong.db", *arguments) == 1
        assert "there is no journal at" in capsys.readouterr().err
    assert list(tmp_path.glob("wrong*")) == []


def test_an_agent_loses_no_tick_to_what_is_said_meanwhile(tmp_path: Path) -> None:
    """Silences and acknowledgements are written beside it; its metric tells of the finding all the same."""
    (tmp_path / "rules.toml").write_text(ANYTHING)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[rules]\nfile = "{tmp_path / "rules.toml"}"\n')
    where = ("--journal", str(tmp_path / "j.db"), "--settings", str(settings))
    with running(tmp_path, *MIXED, *where) as agent:

        def opened() -> list[tuple[Any, ...]]:
            return rows(tmp_path / "j.db", "SELECT id FROM finding WHERE rule = 'anything'")

        agent.shows_gpus()
        (number, *_), *_ = until(opened, "a finding")
        done = gputally(tmp_path, "findings", "silence", "--rule", "anything", *HOUR, *where)
        assert (done.code, done.errors) == (0, "")
        for _ in range(20):
            assert main(["findings", "ack", str(number), *WHY, *where]) == 0
            assert main(["findings", "silence", "--gpu", "0", *HOUR, *where]) == 0
        found = json.loads(gputally(tmp_path, "findings", "--json", *where).out)
        assert all(one["silenced"] for one in found if one["rule"] == "anything")
        assert agent.samples("gpu_finding")
        assert agent.value("gputally_journal_failures_total") == 0
        newest = len(rows(tmp_path / "j.db", "SELECT id FROM tick"))
        until(lambda: len(rows(tmp_path / "j.db", "SELECT id FROM tick")) > newest, "one more tick")
        assert agent.end() == 0
    check_identity(tmp_path / "j.db")
    assert rows(tmp_path / "j.db", "SELECT count(*) FROM silence") == [(21,)]
