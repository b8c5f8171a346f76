"""Whose a process is: read from /proc, remembered, and never waited for twice."""

import getpass
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.holders.cgroups import Place
from agent.holders.processes import (
    CHECK_SECONDS,
    LONGEST_COMMAND,
    MOST_THREADS,
    STUCK_SECONDS,
    People,
    Seen,
    _command,
    seen_of,
)
from tests.command.waiting import until

STAT = "7 ({}) S 1 7 7 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 1 0 {} 1000000 200 18446744073709551615 1 1 0\n"
STATUS = "Name:\t{}\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t7\nUid:\t{}\t0\t0\t0\nGid:\t0\t0\t0\t0\n"
NOBODY_HAS = 4_000_000_123
SOON_SECONDS = 20.0
"""Far less than the waits that these tests forbid, far more than a slow machine needs."""


def process_in(
    proc: Path,
    pid: int = 7,
    *,
    name: str = "python",
    line: bytes = b"",
    cgroup: str = "0::/\n",
    started: int = 5,
    uid: int = NOBODY_HAS,
) -> None:
    """Write the files of a process."""
    folder = proc / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stat").write_text(STAT.format(name, started))
    (folder / "status").write_text(STATUS.format(name.replace("\n", "\\n"), uid))
    (folder / "cmdline").write_bytes(line)
    (folder / "cgroup").write_text(cgroup)


def test_a_process_is_seen_with_all_that_tells_whose_it_is(tmp_path: Path) -> None:
    """A user without a name is told by number."""
    process_in(
        tmp_path, line=b"/usr/bin/python3\0/home/ada/train.py\0--lr\0", cgroup="0::/a.slice/b.service\n"
    )
    place = Place(unit="b.service", slice="a.slice")
    assert seen_of(7, tmp_path) == Seen(str(NOBODY_HAS), "python3 train.py", place, 5)


def test_a_real_process_is_seen() -> None:
    """A child of this test, by its real files."""
    with Popen(["/bin/cat", "-"], stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(b"up\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"up\n"  # before, it may still look like this test's process
        seen = seen_of(child.pid)
        child.stdin.close()
    assert seen is not None
    assert (seen.user, seen.command) == (getpass.getuser(), "cat")
    assert seen.started > 0
    assert seen_of(child.pid) is None


@pytest.mark.parametrize("pid", [0, -1, 2**31 - 1, 2**70])
def test_who_is_not_there_is_not_seen(pid: int) -> None:
    """Neither are numbers that no process can have."""
    assert seen_of(pid) is None


@pytest.mark.parametrize("file", ["stat", "status"])
def test_a_hidden_process_is_not_seen(tmp_path: Path, file: str) -> None:
    """Files that may not be read, are missing or make no sense."""
    process_in(tmp_path)
    (tmp_path / "7" / file).write_bytes(b"\xff(\n")
    assert seen_of(7, tmp_path) is None
    (tmp_path / "7" / file).unlink()
    assert seen_of(7, tmp_path) is None


def test_without_cgroups_or_command_line_the_rest_is_told(tmp_path: Path) -> None:
    """A kernel may lack the one, and deny the other."""
    process_in(tmp_path, name="trainer")
    (tmp_path / "7" / "cgroup").unlink()
    (tmp_path / "7" / "cmdline").unlink()
    assert seen_of(7, tmp_path) == Seen(str(NOBODY_HAS), "trainer", Place(), 5)


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("kworker/0:1-events", b"", "kworker/0:1-events"),
        ("a) S 1 (b", b"", "a) S 1 (b"),
        ("x\ny\x1b[2J", b"", "x?y?[2J"),
        ("python", b"\0\0\0", "python"),
        ("python", b"\0\0train\0", "python"),
        ("python", b"  \0", "python"),
        ("python", b"python\0-m\0serving.chat\0--token\0s3cr3t\0", "python -m serving.chat"),
        ("python", b"python train.py --token s3cr3t\0", "python train.py"),
        ("python", b"python -c s3cr3t\0\0\0\0\0\0", "python"),
        ("ray::Worker", b"ray::TrainWorker.next" + b"\0" * 300, "ray::TrainWorker.next"),
        ("python", b"python\0tr\xff\xfe\nain.py\0", "python tr?ain.py"),
        ("python", b"python\0\xe2\x80\xaegnp.py\0", "python ?gnp.py"),
        ("python", b"\x1b]0;x\x07\0y\0", "?]0;x? y"),
        ("python", b"x" * 2**20, "x" * LONGEST_COMMAND),
        ("python", b"python\0" + b"y" * 2**20, ("python " + "y" * 60)[:LONGEST_COMMAND]),
    ],
)
def test_a_command_is_short_and_harmless(tmp_path: Path, name: str, line: bytes, told: str) -> None:
    """Whatever a process calls itself; without a command line its name counts."""
    process_in(tmp_path, name=name, line=line)
    seen = seen_of(7, tmp_path)
    assert seen is not None
    assert seen.command == told


@given(line=st.binary(max_size=200), name=st.binary(max_size=16))
def test_no_command_line_gets_through_as_it_is(line: bytes, name: bytes) -> None:
    """Bytes of any kind become short, printable ASCII."""
    told = _command(line, name)
    assert len(told) <= LONGEST_COMMAND
    assert told.isascii()
    assert told == "" or told.isprintable()


def test_looking_leaves_no_file_open(tmp_path: Path) -> None:
    """Neither for a process that is there nor for one that is half there."""
    process_in(tmp_path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        seen_of(7, tmp_path)
    (tmp_path / "7" / "status").unlink()
    for _ in range(20):
        seen_of(7, tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


class Host:
    """A host whose answers the test sets and holds back; `asked` are the pids in the order of questions."""

    def __init__(self) -> None:
        self.people: dict[int, Seen | None] = {}
        self.held: dict[int, threading.Event] = {}
        self.reached = threading.Event()
        self.asked: list[int] = []
        self.now = 1000.0

    def ask(self, pid: int) -> Seen | None:
        """Answer, as soon as the test allows."""
        self.asked.append(pid)
        event = self.held.get(pid)
        if event:
            self.reached.set()
            assert event.wait(60)
        return self.people.get(pid)

    def hold(self, *pids: int) -> None:
        """Answer nothing about these before they are let go."""
        self.held |= {pid: threading.Event() for pid in pids}

    def clock(self) -> float:
        """Tell the time that the test sets."""
        return self.now


@pytest.fixture
def host() -> Iterator[Host]:
    """Give a host with two users."""
    host = Host()
    host.people = {pid: Seen("ada", f"job {pid}", Place(), pid) for pid in range(100)}
    yield host
    for event in host.held.values():
        event.set()


@pytest.fixture
def people(host: Host) -> Iterator[People]:
    """Give who asks it."""
    people = People(host.ask, host.clock)
    yield people
    for event in host.held.values():
        event.set()
    people.close()


def took(action: Callable[[], object]) -> float:
    """Give how long something took."""
    before = time.monotonic()
    action()
    return time.monotonic() - before


def test_all_are_told_at_the_first_call(host: Host, people: People) -> None:
    """Also that somebody is gone."""
    assert people.resolve([1, 2, 200], SOON_SECONDS) == {1: host.people[1], 2: host.people[2], 200: None}


def test_no_thread_runs_before_it_is_needed(host: Host, people: People) -> None:
    """An empty list starts nothing."""
    before = set(threading.enumerate())
    assert people.resolve([]) == {}
    assert set(threading.enumerate()) <= before
    assert host.asked == []


def test_a_pid_is_asked_about_once_in_a_while(host: Host, people: People) -> None:
    """Whether it is there or not; afterwards again."""
    for _ in range(5):
        people.resolve([1, 200], SOON_SECONDS)
    assert host.asked == [1, 200]
    host.now += CHECK_SECONDS
    people.resolve([1, 200])
    until(lambda: host.asked == [1, 200, 1, 200], "the second round")


def test_a_reused_pid_is_told_apart(host: Host, people: People) -> None:
    """At the latest after half a minute, by whom it belongs to now."""
    people.resolve([1], SOON_SECONDS)
    host.people[1] = Seen("bob", "serve", Place(), 99)
    assert people.resolve([1])[1] == Seen("ada", "job 1", Place(), 1)
    host.now += CHECK_SECONDS
    until(lambda: people.resolve([1])[1] == host.people[1], "the new owner")


def test_whoever_came_back_is_told(host: Host, people: People) -> None:
    """A pid that was hidden is asked about again."""
    assert people.resolve([200], SOON_SECONDS) == {200: None}
    host.people[200] = Seen("bob", "serve", Place(), 99)
    host.now += CHECK_SECONDS
    until(lambda: people.resolve([200])[200] == host.people[200], "who came back")


def test_a_process_that_ended_while_listed_stays_who_it_was(host: Host, people: People) -> None:
    """Its memory is still on the GPU."""
    before = people.resolve([1], SOON_SECONDS)
    host.people[1] = None
    host.now += CHECK_SECONDS
    people.resolve([1])
    until(lambda: len(host.asked) == 2, "the second question")
    until(lambda: 2 in people.resolve([1, 2]), "an answer after that question")
    assert host.asked == [1, 1, 2]
    assert people.resolve([1]) == before


def test_a_pid_that_left_is_forgotten(host: Host, people: People) -> None:
    """The next process of that number is somebody else."""
    people.resolve([1, 2], SOON_SECONDS)
    people.resolve([2], SOON_SECONDS)
    host.people[1] = Seen("bob", "serve", Place(), 99)
    assert people.resolve([1, 2], SOON_SECONDS)[1] == host.people[1]
    assert host.asked == [1, 2, 1]


def test_a_question_that_blocks_is_waited_for_once(host: Host, people: People) -> None:
    """Then never again; what is known is told, and all is well as soon as it answers."""
    people.resolve([1], SOON_SECONDS)
    host.hold(2)
    assert people.resolve([1, 2, 3], 0.01) == {1: host.people[1]}
    assert host.reached.wait(60)
    assert took(lambda: people.resolve([1, 2, 3, 4], 3600.0)) < SOON_SECONDS
    assert took(lambda: people.resolve([1, 2, 3, 4], 3600.0)) < SOON_SECONDS
    assert people.resolve([1, 2, 3, 4], 3600.0) == {1: host.people[1]}
    host.held.pop(2).set()
    until(lambda: len(people.resolve([1, 2, 3, 4])) == 4, "all answers")
    until(lambda: people.resolve([5]) == {5: host.people[5]}, "another one")


def test_a_blocked_check_keeps_what_is_known(host: Host, people: People) -> None:
    """Nobody waits for it, neither for itself nor with somebody new."""
    people.resolve([1], SOON_SECONDS)
    host.hold(1)
    host.now += CHECK_SECONDS
    assert people.resolve([1], 3600.0) == {1: host.people[1]}
    assert host.reached.wait(60)
    assert took(lambda: people.resolve([1, 2], 3600.0)) < SOON_SECONDS


def test_a_wait_is_bounded(host: Host, people: People) -> None:
    """In all, however many questions are open."""
    host.hold(*range(50))
    lasted = took(lambda: people.resolve(range(50), 0.2))
    assert 0.2 <= lasted < SOON_SECONDS


def test_a_thread_that_is_stuck_is_left_alone(host: Host, people: People) -> None:
    """After some seconds another one goes on with the others; the answer still counts when it comes."""
    host.hold(1)
    people.resolve([1, 2], 0.01)
    assert host.reached.wait(60)
    host.now += STUCK_SECONDS + 1
    assert people.resolve([1, 2], SOON_SECONDS) == {2: host.people[2]}
    assert people.resolve([1, 2, 3], SOON_SECONDS) == {2: host.people[2], 3: host.people[3]}
    host.held.pop(1).set()
    until(lambda: people.resolve([1, 2]).get(1), "the late answer")
    assert host.asked == [1, 2, 3]


def test_threads_are_few(host: Host, people: People) -> None:
    """However many questions block, no more than so many are open."""
    host.hold(*range(20))
    before = set(threading.enumerate())

    def go_on() -> bool:
        people.resolve(range(20), 0.01)
        host.now += STUCK_SECONDS + 1
        return len(host.asked) == MOST_THREADS

    until(go_on, "as many questions as threads")
    assert all(go_on() for _ in range(5))
    assert len(set(threading.enumerate()) - before) == MOST_THREADS
    for event in host.held.values():
        event.set()
    until(lambda: len(people.resolve(range(20))) == 20, "all answers")
    until(lambda: len(set(threading.enumerate()) - before) == 1, "the end of those that were left alone")


def test_a_late_answer_about_one_who_left_is_dropped(host: Host, people: People) -> None:
    """Its number may be somebody else's by then."""
    host.hold(1)
    people.resolve([1], 0.01)
    assert host.reached.wait(60)
    people.resolve([2], 0.01)
    late = host.held.pop(1)
    people.resolve([1, 2], 0.01)
    late.set()
    until(lambda: len(people.resolve([1, 2])) == 2, "both")
    assert host.asked.count(1) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_question_that_fails_ends_nothing(host: Host) -> None:
    """The pid counts as hidden, and the others are asked about by a new thread."""

    def ask(pid: int) -> Seen | None:
        if pid == 1:
            raise ZeroDivisionError
        return host.people[pid]

    people = People(ask, host.clock)
    people.resolve([1, 2], 0.01)
    until(lambda: people.resolve([1, 2]) == {1: None, 2: host.people[2]}, "the other one")
    people.close()


def test_a_host_without_threads_costs_no_wait(
    host: Host, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is told then, at once; later it is."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert took(lambda: people.resolve([1], 3600.0)) < SOON_SECONDS
    assert people.resolve([1], SOON_SECONDS) == {1: host.people[1]}


def test_closing_ends_the_thread(host: Host) -> None:
    """Twice does no harm, and a stuck one holds nobody up."""
    people = People(host.ask, host.clock)
    people.resolve([1], SOON_SECONDS)
    thread = people._thread
    people.close()
    people.close()
    assert thread
    until(lambda: not thread.is_alive(), "the end of the thread")
    assert people.resolve([1, 2], 3600.0) == {1: Seen("ada", "job 1", Place(), 1)}
    stuck = People(host.ask, host.clock)
    host.hold(3)
    stuck.resolve([3], 0.01)
    assert took(stuck.close) < SOON_SECONDS


def test_real_processes_are_resolved() -> None:
    """By the host's own files, this test's process and one that is gone."""
    people = People()
    with Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    told = people.resolve([os.getpid(), child.pid], SOON_SECONDS)
    people.close()
    assert told[child.pid] is None
    me = told[os.getpid()]
    assert me is not None
    assert me.user == getpass.getuser()
