"""`gputally release` as a user meets it: what is understood, what is answered, and how it ends in vain."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.clock import now_ms
from agent.errors import SettingsError
from agent.journal import Journal, JournalSettings
from agent.release import LONGEST_MS, Release, files_of, moment_in
from agent.tick import Tick
from gputally import release
from gputally.cli import main
from gputally.release import duration_ms
from tests.command.processes import is_one_sentence
from tests.command.waiting import until

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Make a journal that nobody writes now."""
    path = tmp_path / "j.db"
    Journal(path, JournalSettings(sync="normal"), now_ms()).close()
    return path


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for an answer no longer than a moment."""
    monkeypatch.setattr(release, "ANSWER_SECONDS", 0.3)


class Prober:
    """Lets go of nothing."""

    def finish(self) -> list[Tick]:
        """Have nothing to say."""
        return []

    def rest(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""


@contextmanager
def answering(journal: Path) -> Iterator[Release]:
    """Let an agent look for requests, as a thread."""
    side, over = Release(journal, Prober(), lambda *_: None), threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            side.look(now_ms())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield side
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("text", "length_ms"),
    [
        *[("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("30", 30_000), ("1.5h", 5_400_000)],
        *[("24h", LONGEST_MS), ("1440m", LONGEST_MS), ("0.001", 1)],
    ],
)
def test_durations_are_understood(text: str, length_ms: int) -> None:
    """Seconds, minutes and hours, up to a day; a bare number is seconds."""
    assert duration_ms(text) == length_ms


@pytest.mark.parametrize(
    "text",
    [
        *["", "0", "0s", "-5m", "5 m", "m", "5d", "1e3", "24.1h", "99999999999"],
        *["15m30s", "\u0665m", "nan", "1_0"],
    ],
)
def test_what_is_no_duration_is_refused(text: str, capsys: Capture, journal: Path) -> None:
    """It ends with 2 and one sentence that shows how to write one; nothing is asked."""
    with pytest.raises(SettingsError, match="write 90s, 15m or 2h"):
        duration_ms(text)
    assert main(["release", f"--for={text}", "--journal", str(journal)]) == 2
    assert is_one_sentence(capsys.readouterr().err)
    assert not files_of(journal).asked.exists()


@pytest.mark.parametrize("arguments", [[], ["--for", "5m", "--end"]])
def test_one_of_the_two_must_be_chosen(arguments: list[str], capsys: Capture) -> None:
    """Without, or with both, it ends with 2."""
    with pytest.raises(SystemExit) as ended:
        main(["release", *arguments])
    assert ended.value.code == 2
    assert "--end" in capsys.readouterr().err


def test_it_prints_until_when_and_how_to_end_it(capsys: Capture, journal: Path) -> None:
    """One line names the moment in UTC, says what may be done now, and what then."""
    with answering(journal):
        assert main(["release", "--for", "15m", "--journal", str(journal)]) == 0
        told, errors = capsys.readouterr()
        moment = time.gmtime(moment_in(files_of(journal).answered) / 1000)
        until_then = time.strftime("%H:%M:%S", moment)
        what_then = "upgrade the driver or reset GPUs now, then: gputally release --end"
        assert (told, errors) == (f"released until {until_then} UTC: {what_then}\n", "")
        assert main(["release", "--end", "--journal", str(journal)]) == 0
        assert capsys.readouterr().out == "the GPUs were taken up again\n"
        assert main(["release", "--end", "--journal", str(journal)]) == 0
        assert capsys.readouterr().out == "nothing was released\n"


def test_programs_get_json(capsys: Capture, journal: Path) -> None:
    """The moment in milliseconds and as a time, or that nothing is released."""
    with answering(journal) as side:
        assert main(["release", "--for", "1h", "--json", "--journal", str(journal)]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told == {"released": True, "until": told["until"], "until_ms": side.until_ms}
        assert told["until"].endswith("+00:00")
        assert main(["release", "--end", "--json", "--journal", str(journal)]) == 0
        assert json.loads(capsys.readouterr().out) == {"released": False, "until": None, "until_ms": None}


@pytest.mark.usefixtures("hasty")
def test_without_an_agent_the_request_is_withdrawn(capsys: Capture, journal: Path) -> None:
    """It ends with 1, says where to look, and no agent that starts later will find the request."""
    assert main(["release", "--for", "15m", "--journal", str(journal)]) == 1
    told, errors = capsys.readouterr()
    assert (told, is_one_sentence(errors)) == ("", True)
    assert "`gputally run` is running" in errors
    assert str(journal) in errors
    assert not files_of(journal).asked.exists()


@pytest.mark.usefixtures("hasty")
def test_the_answer_to_another_request_is_no_answer(capsys: Capture, journal: Path) -> None:
    """What an agent that was killed left behind is not taken for the answer."""
    files_of(journal).answered.write_text(json.dumps({"until_ms": now_ms() + 3_600_000}), encoding="ascii")
    assert main(["release", "--for", "15m", "--journal", str(journal)]) == 1
    assert main(["release", "--end", "--journal", str(journal)]) == 1
    assert capsys.readouterr().err.count("no agent answered") == 2


def test_an_interrupt_withdraws_the_request(journal: Path) -> None:
    """Whoever stops waiting has released nothing."""
    asked = files_of(journal).asked
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it

    def interrupt() -> None:
        until(asked.exists, "the request")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        assert main(["release", "--for", "15m", "--journal", str(journal)]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert not asked.exists()


@pytest.mark.parametrize("path", ["none.db", "nowhere/j.db"])
def test_a_journal_that_is_not_there_is_told_at_once(tmp_path: Path, capsys: Capture, path: str) -> None:
    """A wrong path is one sentence, and leaves no file."""
    assert main(["release", "--for", "15m", "--journal", str(tmp_path / path)]) == 1
    assert is_one_sentence(capsys.readouterr().err)
    assert list(tmp_path.glob("*release*")) == []
