"""`gputally replay`: good recordings become a journal, every bad one is one clear sentence."""

import gzip
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gputally.cli import main
from tests.command.journals import check_identity, rows, seconds
from tests.command.processes import gputally, is_one_sentence

Capture = pytest.CaptureFixture[str]
NOON = 1_767_700_800
"""Tuesday 6 January 2026, 12:00 UTC."""
STEP = 10
ROWS = 500
HEADER = "time,gpu,busy_ratio,memory_used_bytes,power_watts,owner"


def recording(gpus: int = 2, count: int = ROWS) -> list[str]:
    """Make the lines of a recording: a GPU that works for alice, and others that nobody holds."""
    lines = [HEADER]
    for number in range(count):
        at = NOON + number * STEP
        lines += [f"{at},gpu-0,0.5,9e9,400,alice", *(f"{at},gpu-{gpu},0,0,70," for gpu in range(1, gpus))]
    return lines


def written(path: Path, lines: list[str]) -> Path:
    """Write lines to a file."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(capsys: Capture, *arguments: str | Path) -> str:
    """Run a replay that cannot be done; give its one sentence."""
    assert main(["replay", *map(str, arguments)]) in (1, 2)
    out, errors = capsys.readouterr()
    sentences = [line for line in errors.splitlines(keepends=True) if not line.startswith("replay ")]
    assert (out, is_one_sentence("".join(sentences))) == ("", True)
    return "".join(sentences)


def test_a_recording_becomes_a_journal(capsys: Capture, tmp_path: Path) -> None:
    """All of a recording's time is in the journal, and what comes next is said."""
    path, journal = written(tmp_path / "hall2.csv", recording()), tmp_path / "new" / "j.db"

    assert main(["replay", str(path), "--journal", str(journal)]) == 0

    out, errors = capsys.readouterr()
    assert f"{2 * ROWS:,} rows of 2 GPUs over 1.39 h, a row every 10 s; 0 bad lines skipped" in out
    assert f"gputally report --journal {journal} --all" in out
    assert "replay hall2.csv 100%" in errors
    check_identity(journal)
    assert (seconds(journal, "active"), seconds(journal, "free")) == (ROWS * STEP, ROWS * STEP)
    assert rows(journal, "SELECT name FROM node") == [("hall2",)]
    assert rows(journal, "SELECT min(from_ms) FROM place") == [((NOON - STEP) * 1000,)]


def test_a_packed_recording_gives_the_same_journal(tmp_path: Path) -> None:
    """A .gz is read as it is."""
    plain = written(tmp_path / "a.csv", recording())
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        assert main(["replay", str(path), "--journal", f"{path}.db", "--node", "n"]) == 0
    ask = "SELECT hour_ms, gpu_id, state, elapsed_ms, busy_us, energy_mj FROM account_hour ORDER BY 1, 2, 3"

    assert rows(Path(f"{packed}.db"), ask) == rows(Path(f"{plain}.db"), ask)


def test_the_command_replays(tmp_path: Path) -> None:
    """As a process as well a replay ends with 0, and its progress goes to standard error."""
    written(tmp_path / "a.csv", recording())
    done = gputally(tmp_path, "replay", "a.csv", "--journal", "j.db")

    assert done.code == 0
    assert "rows of 2 GPUs" in done.out
    assert "Traceback" not in done.errors


def test_few_bad_lines_are_reported_and_counted(capsys: Capture, tmp_path: Path) -> None:
    """Up to 1 % of bad lines are skipped, each is told by its number and its reason, and all are counted."""
    lines = recording()
    lines[16] = "yesterday,gpu-0,0.5,9e9,400,alice"
    lines[300] = f"{NOON},gpu-0,0.5"
    lines[500] = f"{NOON + 2490},gpu-1,lots,0,70,"
    path, journal = written(tmp_path / "a.csv", lines), tmp_path / "j.db"

    assert main(["replay", str(path), "--journal", str(journal)]) == 0

    out, errors = capsys.readouterr()
    for line, reason in ((17, "yesterday"), (301, "3 cells"), (501, "busy_ratio is 'lots'")):
        assert any(f"line {line} skipped" in one and reason in one for one in errors.splitlines())
    assert errors.count(" skipped: ") == 3
    assert "3 bad lines skipped" in out
    check_identity(journal)


def test_of_more_bad_lines_the_first_five_are_told(capsys: Capture, tmp_path: Path) -> None:
    """Ten bad lines of a thousand are counted, and five of them told."""
    lines = recording()
    for number in range(100, 1000, 90):
        lines[number] = "?"
    path = written(tmp_path / "a.csv", lines)

    assert main(["replay", str(path), "--journal", str(tmp_path / "j.db")]) == 0

    out, errors = capsys.readouterr()
    assert errors.count(" skipped: ") == 5
    assert "10 bad lines skipped" in out


def test_many_bad_lines_are_an_error(capsys: Capture, tmp_path: Path) -> None:
    """More than 1 % of bad lines end the replay with their number and the first of them; nothing is made."""
    lines = recording()
    for number in range(100, 1000, 80):
        lines[number] = "?"
    path, journal = written(tmp_path / "a.csv", lines), tmp_path / "j.db"

    said = refused(capsys, path, "--journal", journal)

    assert "12 of 1000 lines" in said
    assert "more than 1 %" in said
    assert "line 101: " in said
    assert not journal.exists()


def _files(folder: Path) -> dict[str, Path]:
    """Make every kind of file that is no recording."""
    good = ("\n".join(recording()) + "\n").encode()
    packed = gzip.compress(good)
    corrupt = bytearray(packed)
    corrupt[100:200] = bytes(value ^ 0x5A for value in corrupt[100:200])
    (folder / "folder").mkdir()
    contents = {
        "empty": b"",
        "blank": b"\n\n\n",
        "garbage": random.Random(1).randbytes(100_000),  # noqa: S311  reproducible
        "zeros": b"\0" * 10_000,
        "wrong": b"when,which,what\n1,2,3\n",
        "unknown": b"time,gpu,business\n1767700800,0,1\n",
        "twice": b"time,gpu,busy_ratio,busy_ratio\n1767700800,0,1,1\n",
        "header": HEADER.encode() + b"\n",
        "single": b"time,gpu,busy_ratio\n1767700800,0,1\n",
        "long": b"a" * 300_000,
        "longer": b"time,gpu,busy_ratio\n" + b"a" * 300_000,
        "quote": b'time,gpu,busy_ratio\n"' + good,
        "nul": b"time,gpu,busy_ratio\n\0\0\0,0,1\n",
        "truncated.gz": packed[: len(packed) // 2],
        "corrupt.gz": bytes(corrupt),
        "magic.gz": packed[:2],
        "log": b"timestamp, utilization.gpu [%]\n2026/01/06 12:00:00.000, 5 %\n",
        "log2": b"timestamp, index, fan.speed [%]\n2026/01/06 12:00:00.000, 0, 5 %\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in (*contents, "folder", "missing")}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("missing", "No such file"),
        ("folder", "Is a directory"),
        ("empty", "header"),
        ("blank", "header"),
        ("garbage", "header"),
        ("zeros", ""),
        ("wrong", "header"),
        ("unknown", "'business' is not a quantity"),
        ("twice", "'busy_ratio' appears twice"),
        ("header", "no rows"),
        ("single", "--step"),
        ("long", ""),
        ("longer", "more than 1 %"),
        ("quote", ""),
        ("nul", ""),
        ("truncated.gz", "end-of-stream"),
        ("corrupt.gz", "cannot read"),
        ("magic.gz", "cannot read"),
        ("log", "which GPU"),
        ("log2", "no column that we know"),
    ],
)
def test_what_is_no_recording_is_one_sentence(capsys: Capture, tmp_path: Path, name: str, part: str) -> None:
    """A file that is not a sound recording is named with what is wrong, and no journal is made."""
    path, journal = _files(tmp_path)[name], tmp_path / "j.db"

    said = refused(capsys, path, "--journal", journal)

    assert str(path) in said
    assert part in said
    assert not journal.exists()


@pytest.mark.parametrize("step", ["nan", "inf", "1e300", "1e-9"])
def test_an_impossible_step_is_one_sentence(capsys: Capture, tmp_path: Path, step: str) -> None:
    """A distance of rows that is no time is refused by its name."""
    path = written(tmp_path / "a.csv", recording())

    assert "--step" in refused(capsys, path, "--journal", tmp_path / "j.db", "--step", step)


def test_the_same_time_is_not_entered_twice(capsys: Capture, tmp_path: Path) -> None:
    """A second replay into the same journal is refused, and the journal stays as it was."""
    path, journal = written(tmp_path / "a.csv", recording()), tmp_path / "j.db"
    assert main(["replay", str(path), "--journal", str(journal)]) == 0
    before = rows(journal, "SELECT * FROM account ORDER BY 1, 2, 3, 4")
    capsys.readouterr()

    said = refused(capsys, path, "--journal", journal)

    assert "already accounts for time of GPU gpu-0" in said
    assert rows(journal, "SELECT * FROM account ORDER BY 1, 2, 3, 4") == before
    check_identity(journal)


@pytest.mark.parametrize("place", ["file/j.db", "folder", ".", "/proc/gputally/j.db"])
def test_a_journal_that_cannot_be_written_is_one_sentence(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """A journal below a file, one that is a folder, and one where nothing can be made are each named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    path = written(tmp_path / "a.csv", recording())

    assert "journal" in refused(capsys, path, "--journal", place)


def test_a_name_that_is_no_unicode_is_no_traceback(tmp_path: Path) -> None:
    """A journal whose name is not UTF-8, as file systems allow, is made or refused in one sentence."""
    written(tmp_path / "a.csv", recording())
    done = gputally(tmp_path, "replay", "a.csv", "--journal", tmp_path / "\udcff.db")

    assert "Traceback" not in done.errors
    assert done.code in (0, 1, 2)


def test_a_database_of_another_program_is_left_alone(capsys: Capture, tmp_path: Path) -> None:
    """An SQLite file that is no journal is refused and not changed."""
    path, other = written(tmp_path / "a.csv", recording()), tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE mine (x)")
        db.commit()
    before = other.read_bytes()

    assert "no gputally journal" in refused(capsys, path, "--journal", other)
    assert other.read_bytes() == before
