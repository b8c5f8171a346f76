"""`gputally status`: what the journal says of now, for people and for programs."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.journal import JournalSettings
from agent.simulated.scenario import parse_simulation
from agent.tick import State
from gputally.batch import bulk_books
from gputally.cli import main
from gputally.demo import back_fill
from gputally.settings import NodeSettings, Settings
from tests.command.journals import owed
from tests.command.processes import is_one_sentence

Capture = pytest.CaptureFixture[str]
HOUR_MS = 3_600_000
WORKING = ("active", "held_gap")
"""Training pauses at times, and the latest interval may be short."""
SETTINGS = replace(Settings(), node=NodeSettings(name="hall2-n017"), journal=JournalSettings(sync="normal"))


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write three hours of training and serving, up to now."""
    path = tmp_path_factory.mktemp("status") / "j.db"
    back_fill(parse_simulation("h200x2:mixed"), SETTINGS, path, 3 * HOUR_MS)
    yield path
    path.unlink()


def status(capsys: Capture, path: Path, *more: str) -> str:
    """Run `gputally status` and give what it prints."""
    assert main(["status", "--journal", str(path), *more]) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    return out


def refused(capsys: Capture, path: Path, *more: str) -> str:
    """Run a status that cannot be told; give its one sentence."""
    assert main(["status", "--journal", str(path), *more]) == 1
    out, errors = capsys.readouterr()
    assert (out, is_one_sentence(errors)) == ("", True)
    return errors


def test_it_shows_every_gpu(capsys: Capture, journal: Path) -> None:
    """Each GPU of the node has a line with its state, its figures and who holds it."""
    out = status(capsys, journal)

    assert "hall2-n017: 2 GPUs" in out
    first, second = (line for line in out.splitlines() if line.endswith("NVIDIA H200"))
    assert first.split()[0] == "0"
    assert first.split()[1] in WORKING
    assert "alice" in first
    assert "python train.py" in first
    assert "svc-chat" in second
    assert all(unit in first for unit in (" %", " GiB", " W", " °C"))
    assert "last 24 h: active " in out
    assert "NOT LIVE" not in out


def test_as_json_it_is_for_programs(capsys: Capture, journal: Path) -> None:
    """The same as JSON parses, with numbers in base units and times in milliseconds."""
    body = json.loads(status(capsys, journal, "--json"))

    assert [gpu["index"] for gpu in body["gpus"]] == [0, 1]
    first = body["gpus"][0]
    assert (first["condition"], first["owners"]) == ("ok", ["alice"])
    assert first["state"] in WORKING
    assert 0 <= first["busy_ratio"] <= 1
    assert first["memory_total_bytes"] == 143_771 * 2**20
    assert body["end_ms"] == first["end_ms"]
    assert set(body["day"]) <= set(State)
    assert sum(body["day"].values()) == sum(owed(journal).values())


def test_a_journal_that_is_not_written_any_more_says_so(capsys: Capture, tmp_path: Path) -> None:
    """Status of a journal that ended years ago says that it is not live."""
    path = tmp_path / "old.csv"
    path.write_text("time,gpu,busy_ratio\n1500000000,a,0.5\n1500000010,a,0.5\n", encoding="utf-8")
    assert main(["replay", str(path), "--journal", str(tmp_path / "j.db")]) == 0
    capsys.readouterr()

    out = status(capsys, tmp_path / "j.db")

    assert "NOT LIVE" in out
    assert "2017-07-14 02:40:10 UTC" in out


def test_hostile_names_do_not_reach_the_terminal(capsys: Capture, tmp_path: Path) -> None:
    """Control characters in the names of holders are shown as question marks."""
    path = tmp_path / "odd.csv"
    row = "1500000000,a,0.5,\x1b[31mred\x07,evil\u202ename\n"
    path.write_text(
        f"time,gpu,busy_ratio,owner,model\n{row}{row.replace('000,a', '010,a')}", encoding="utf-8"
    )
    assert main(["replay", str(path), "--journal", str(tmp_path / "j.db")]) == 0
    capsys.readouterr()

    out = status(capsys, tmp_path / "j.db")

    assert "?[31mred?" in out
    assert "evil?name" in out
    assert all(one.isprintable() or one == "\n" for one in out)


def test_no_journal_says_how_to_begin(capsys: Capture, tmp_path: Path) -> None:
    """Without a journal the answer names the path, how to begin and the option; nothing is made."""
    said = refused(capsys, tmp_path / "state" / "j.db")

    assert f"no journal at {tmp_path}/state/j.db" in said
    assert "gputally run" in said
    assert "--journal" in said
    assert list(tmp_path.glob("state")) == []


def test_without_options_the_journal_is_that_of_run(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Status looks where run writes: the user's state folder, or what a variable names."""
    assert main(["status"]) == 1
    assert f"{tmp_path}/state/gputally/journal.db" in capsys.readouterr().err
    monkeypatch.setenv("GPUTALLY_JOURNAL_PATH", "/nowhere/j.db")
    assert main(["status"]) == 1
    assert "no journal at /nowhere/j.db" in capsys.readouterr().err


def test_an_empty_journal_says_so(capsys: Capture, tmp_path: Path) -> None:
    """A journal in which no GPU was entered yet is told apart from none."""
    path = tmp_path / "j.db"
    with bulk_books(path, SETTINGS):
        pass

    assert "no GPU yet" in refused(capsys, path)
    assert "no GPU yet" in refused(capsys, path, "--json")


@pytest.mark.parametrize(
    "content", [b"", b"just a note to myself\n" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_journal_is_left_alone(capsys: Capture, tmp_path: Path, content: bytes) -> None:
    """An empty file, a text and a broken database are refused by name, and stay as they are."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)

    said = refused(capsys, path)

    assert str(path) in said
    assert "journal" in said
    assert path.read_bytes() == content
    assert sorted(one.name for one in tmp_path.iterdir()) == ["none.toml", "notes.txt"]


def test_a_folder_is_no_journal(capsys: Capture, tmp_path: Path) -> None:
    """A folder in place of the journal is refused by name."""
    assert str(tmp_path) in refused(capsys, tmp_path)


def test_a_database_of_another_program_is_no_journal(capsys: Capture, tmp_path: Path) -> None:
    """An SQLite file with other tables is told apart from a broken one."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE mine (x)")
        db.commit()

    assert "no gputally journal" in refused(capsys, path)


def test_it_changes_nothing(capsys: Capture, journal: Path) -> None:
    """Reading a journal leaves the file as it was."""
    before = journal.read_bytes()
    status(capsys, journal)

    assert journal.read_bytes() == before
