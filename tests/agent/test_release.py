"""Letting go of the driver: a request and an answer, each a file beside the journal."""

import json
import os
from pathlib import Path

import pytest

from agent.errors import JournalError
from agent.release import LONGEST_MS, Release, ask, files_of, moment_in, take_back
from agent.tick import Tick
from tests.agent.histories import MIDNIGHT

LAST = Tick(node="hall2-n017", start_ms=MIDNIGHT, end_ms=MIDNIGHT + 400)


class Prober:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def finish(self) -> list[Tick]:
        """Give the last tick."""
        self.asked.append("finish")
        return [LAST]

    def rest(self) -> None:
        """Note it."""
        self.asked.append("rest")

    def resume(self) -> None:
        """Note it."""
        self.asked.append("resume")


class Side:
    """The agent's side, with what it asked of the prober and what it told."""

    def __init__(self, journal: Path) -> None:
        self.prober = Prober()
        self.told: list[str] = []
        self.release = Release(journal, self.prober, lambda kind, _: self.told.append(kind))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Name a journal."""
    return tmp_path / "journal.db"


def test_nothing_happens_unless_it_is_asked_for(journal: Path) -> None:
    """Without a request the prober is left alone and no file appears."""
    side = Side(journal)
    assert side.release.look(MIDNIGHT) == []
    assert (side.prober.asked, side.told, list(journal.parent.iterdir())) == ([], [], [])


def test_a_request_is_answered_once_the_probe_has_ended(journal: Path) -> None:
    """The probe is heard out and ended, then the moment is confirmed; the files end with the release."""
    side, until_ms = Side(journal), MIDNIGHT + 60_000
    ask(journal, until_ms)
    assert side.release.look(MIDNIGHT) == [LAST]
    assert side.prober.asked == ["finish", "rest"]
    assert (side.release.until_ms, moment_in(files_of(journal).answered)) == (until_ms, until_ms)

    assert side.release.look(until_ms - 1) == []
    assert side.release.look(until_ms) == []
    assert side.prober.asked == ["finish", "rest", "resume"]
    assert (side.release.until_ms, list(journal.parent.iterdir())) == (0, [])
    assert side.told == ["released", "taken_up"]


def test_a_request_that_is_taken_back_ends_it(journal: Path) -> None:
    """Without its request a release is over at the next look."""
    side = Side(journal)
    ask(journal, MIDNIGHT + 60_000)
    side.release.look(MIDNIGHT)
    assert take_back(journal)
    side.release.look(MIDNIGHT + 1_000)
    assert side.prober.asked[-1] == "resume"
    assert not files_of(journal).answered.exists()
    assert not take_back(journal)


def test_another_moment_is_answered_without_a_stop(journal: Path) -> None:
    """A release may be prolonged or cut short while it lasts; the probe is not started for that."""
    side = Side(journal)
    for length_ms in (60_000, 90_000, 30_000):
        ask(journal, MIDNIGHT + length_ms)
        side.release.look(MIDNIGHT)
        assert moment_in(files_of(journal).answered) == MIDNIGHT + length_ms
    assert side.prober.asked == ["finish", "rest"]


def test_an_answer_of_an_agent_that_was_killed_counts_no_more(journal: Path) -> None:
    """A new agent has let go of nothing yet; the request still holds, until its moment."""
    until_ms = MIDNIGHT + 60_000
    ask(journal, until_ms)
    Side(journal).release.look(MIDNIGHT)
    side = Side(journal)
    assert not files_of(journal).answered.exists()
    side.release.look(MIDNIGHT + 1_000)
    assert moment_in(files_of(journal).answered) == until_ms
    late = Side(journal)
    late.release.look(until_ms + 1)
    assert (late.prober.asked, late.release.until_ms) == ([], 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '{"until_ms": true}',
        '{"until_ms": "9999999999999"}',
        '{"until_ms": 1e300}',
        '{"until_ms": NaN}',
        '{"until": 5}',
        "[" * 100_000,
        '{"until_ms": -5}',
        "\xe9",
    ],
    ids=lambda text: text[:12],
)
def test_a_file_that_says_nothing_sound_is_no_request(journal: Path, text: str) -> None:
    """Whatever lies there, the GPUs are watched."""
    files_of(journal).asked.write_text(text, encoding="latin-1")
    side = Side(journal)
    side.release.look(MIDNIGHT)
    assert (side.prober.asked, side.release.until_ms) == ([], 0)


def test_no_release_lasts_for_ever(journal: Path) -> None:
    """A moment beyond a day is not believed, neither at first nor after the clock was set back."""
    side = Side(journal)
    ask(journal, MIDNIGHT + LONGEST_MS + 1)
    side.release.look(MIDNIGHT)
    assert side.prober.asked == []
    ask(journal, MIDNIGHT + LONGEST_MS)
    side.release.look(MIDNIGHT)
    assert side.prober.asked == ["finish", "rest"]
    side.release.look(MIDNIGHT - 60_000)
    assert side.prober.asked == ["finish", "rest", "resume"]


def test_a_folder_in_place_of_the_files_ends_nothing(journal: Path) -> None:
    """What cannot be read, written or removed is no reason to stop watching."""
    for path in files_of(journal):
        path.mkdir()
    side = Side(journal)
    assert side.release.look(MIDNIGHT) == []
    files_of(journal).asked.rmdir()
    ask(journal, MIDNIGHT + 60_000)
    side.release.look(MIDNIGHT)
    side.release.look(MIDNIGHT + 60_000)
    assert side.prober.asked == ["finish", "rest", "resume"]


def test_a_request_appears_as_a_whole(journal: Path) -> None:
    """It is written beside and renamed, and nothing else stays in the folder."""
    ask(journal, MIDNIGHT)
    ask(journal, MIDNIGHT + 1)
    assert list(journal.parent.iterdir()) == [files_of(journal).asked]
    assert json.loads(files_of(journal).asked.read_text(encoding="ascii")) == {"until_ms": MIDNIGHT + 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_who_may_not_write_there_is_told(journal: Path) -> None:
    """A folder that cannot be written is one clear error."""
    journal.parent.chmod(0o500)
    with pytest.raises(JournalError, match="cannot ask the agent"):
        ask(journal, MIDNIGHT)
    journal.parent.chmod(0o700)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A wrong path is one clear error."""
    with pytest.raises(JournalError, match="cannot ask the agent"):
        ask(tmp_path / "nowhere" / "journal.db", MIDNIGHT)
