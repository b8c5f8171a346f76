"""What was committed stays through any kill of the process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from agent.books import Books
from agent.journal import Journal, JournalSettings
from agent.journal_file import connect
from agent.states import StateSettings
from agent.tick import State
from tests.agent.histories import Published, check_hours, check_sums, dice, grew, published, single
from tests.agent.restless_writer import GPUS, INTERVAL_MS, NODE, START_MS

KILLS = 50
LONGEST_SECONDS = 0.3


class Report(NamedTuple):
    """What the writer said of its last commit: its end, and the totals of all accounts."""

    end_ms: int
    elapsed_ms: int
    energy_mj: int


def start(path: Path, gap_ms: int = 0) -> subprocess.Popen[bytes]:
    """Start a writer on a journal; its standard output is a pipe."""
    command = [sys.executable, "-m", "tests.agent.restless_writer", str(path), str(gap_ms)]
    here = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(here)}
    return subprocess.Popen(command, cwd=here, env=environment, stdout=subprocess.PIPE)


def write_and_kill(path: Path, seconds: float = 0.0, gap_ms: int = 0) -> Report:
    """Let a writer write for a while after its first commit, kill it, and give its last word."""
    with start(path, gap_ms) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            lines.append(writer.stdout.readline())
        writer.kill()
        lines += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL
    whole = [line for line in lines if line.endswith(b"\n")]
    return Report(*map(int, whole[-1].split()))


def wait(done: Callable[[], bool], seconds: float) -> None:
    """Wait until something is done, at most so long; far shorter waits than a sleep can do."""
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:
        os.sched_yield()


def totals(path: Path) -> Report:
    """Give what the file says, in the terms of a report."""
    return Report(
        single(path, "SELECT max(end_ms) FROM tick"),
        single(path, "SELECT sum(elapsed_ms) FROM account"),
        single(path, "SELECT sum(energy_mj) FROM account"),
    )


def assert_sound(path: Path) -> None:
    """Assert that SQLite finds no fault in the file."""
    with closing(connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def page_of(path: Path, at_ms: int) -> Published:
    """Give the page that an agent which opens the journal now would show."""
    with closing(Journal(path, JournalSettings(), START_MS)) as journal:
        assert journal.moved_aside is None
        return published(Books(journal, StateSettings()), at_ms)


def assert_kept(path: Path, report: Report) -> Report:
    """Assert that all that was reported is there, and at most one interval more; give what is there."""
    found = totals(path)
    assert found.end_ms in (report.end_ms, report.end_ms + INTERVAL_MS)
    assert found.elapsed_ms == report.elapsed_ms + (found.end_ms - report.end_ms) * len(GPUS)
    assert found.energy_mj >= report.energy_mj
    assert (found.end_ms == report.end_ms) == (found.energy_mj == report.energy_mj)
    return found


def test_fifty_kills_lose_nothing_that_was_committed(tmp_path: Path) -> None:
    """After each of fifty kills all reported commits are there, the states sum to time, the file is sound."""
    path, chance = tmp_path / "journal.db", dice(20260106)
    last, dead_ms, page = Report(START_MS, 0, 0), 0, Published()
    for kill in range(KILLS):
        gap_ms = 0 if kill % 2 == 0 else chance.randrange(1, 900_000)
        report = write_and_kill(path, chance.uniform(0, LONGEST_SECONDS), gap_ms)
        before, page = page, page_of(path, report.end_ms + 1)
        assert all(grew(old, page.get(key)) for key, old in before.items())
        found = assert_kept(path, report)
        dead_ms += gap_ms
        assert last.end_ms < found.end_ms
        assert last.elapsed_ms < found.elapsed_ms
        assert last.energy_mj < found.energy_mj
        assert_sound(path)
        check_hours(path, {gpu.uuid: (START_MS, found.end_ms) for gpu in GPUS})
        last = found
    check_sums(path)
    unknown_ms = single(path, "SELECT sum(elapsed_ms) FROM account WHERE state = ?", State.UNKNOWN.value)
    assert unknown_ms == dead_ms * len(GPUS)
    assert single(path, "SELECT count(*) FROM node WHERE name = ?", NODE) == 1


def test_a_kill_before_the_first_commit_leaves_a_journal(tmp_path: Path) -> None:
    """Whenever a new file is torn from its writer, the next one opens it and goes on."""
    chance = dice(7)
    for number in range(10):
        path = tmp_path / f"{number}.db"
        with start(path) as writer:
            wait(path.exists, 5)
            wait(lambda: False, chance.uniform(0, 0.02))
            writer.kill()
        page_of(path, START_MS)
        assert_sound(path)
        assert_kept(path, write_and_kill(path))


def test_a_killed_writer_does_not_keep_the_next_one_out(tmp_path: Path) -> None:
    """The lock of a dead writer is no lock."""
    path = tmp_path / "journal.db"
    write_and_kill(path)
    with closing(Journal(path, JournalSettings(), START_MS)) as journal:
        assert journal.memory().timelines.keys() == {gpu.uuid for gpu in GPUS}
