"""Who holds a GPU, from the processes on it: asked once, named shortly, never trusted."""

import getpass
import os
import sys
from subprocess import PIPE, Popen

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.holders.processes import LONGEST_COMMAND, Person, ProcessHolders, person_of, short_command
from agent.states import UNATTRIBUTED
from agent.tick import Hold, Holder, Process, Reading, Workload, reading_of

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Host:
    """A host whose processes the test starts and ends; `asked` are the pids in the order of questions."""

    def __init__(self, **people: tuple[str, str]) -> None:
        self.people = {int(pid.removeprefix("pid")): Person(*person) for pid, person in people.items()}
        self.asked: list[int] = []

    def __call__(self, pid: int) -> Person | None:
        """Tell who runs a process."""
        self.asked.append(pid)
        return self.people.get(pid)


def on(uuid: str, *pids: int) -> Reading:
    """Make a reading of a GPU with these processes."""
    processes = tuple(Process(pid=pid, memory_used_bytes=2**30) for pid in pids)
    return reading_of(uuid, 0, 10_000, {"busy_ratio": 0.5}, processes=processes)


def names(holds: tuple[Hold, ...]) -> list[tuple[str, str]]:
    """Give name and owner of the holders."""
    return [(hold.holder.name, hold.holder.owner) for hold in holds]


def test_a_process_is_a_holder() -> None:
    """Its user answers for it, and its workload is the one that was set."""
    host = Host(pid7=("ada", "python train.py"))
    holds = ProcessHolders(Workload.SERVING, host).holds([on("GPU-1", 7)])
    expected = Holder(
        kind="process", name="python train.py", owner="ada", user="ada", workload=Workload.SERVING
    )
    assert holds == {"GPU-1": (Hold(expected),)}


def test_a_gpu_without_processes_has_no_holder() -> None:
    """Neither an empty list nor an unknown one makes a hold."""
    unknown = reading_of("GPU-2", 0, 10_000, {})
    assert ProcessHolders(Workload.BATCH, Host()).holds([on("GPU-1"), unknown]) == {}


def test_a_pid_is_asked_about_once_while_it_is_listed() -> None:
    """Two GPUs and five intervals cost one question."""
    host = Host(pid7=("ada", "python train.py"))
    holders = ProcessHolders(Workload.BATCH, host)
    for _ in range(5):
        holders.holds([on("GPU-1", 7), on("GPU-2", 7)])
    assert host.asked == [7]


def test_a_pid_that_left_is_asked_about_anew() -> None:
    """The next process of that number is someone else."""
    host = Host(pid7=("ada", "python train.py"))
    holders = ProcessHolders(Workload.BATCH, host)
    holders.holds([on("GPU-1", 7)])
    holders.holds([on("GPU-1")])
    host.people[7] = Person("bob", "python serve.py")
    assert names(holders.holds([on("GPU-1", 7)])["GPU-1"]) == [("python serve.py", "bob")]
    assert host.asked == [7, 7]


def test_a_process_that_is_gone_is_unattributed() -> None:
    """A GPU held by a pid that nobody knows is held all the same, by nobody that can be named."""
    holds = ProcessHolders(Workload.BATCH, Host()).holds([on("GPU-1", 7)])
    assert names(holds["GPU-1"]) == [("process that is gone or hidden", UNATTRIBUTED)]
    assert holds["GPU-1"][0].holder.user == ""


def test_the_same_command_of_the_same_user_is_one_holder() -> None:
    """Eight workers of a job hold a GPU once; another user's same command holds it too."""
    host = Host(
        **{f"pid{pid}": ("ada", "python train.py") for pid in range(1, 9)}, pid9=("bob", "python train.py")
    )
    holds = ProcessHolders(Workload.BATCH, host).holds([on("GPU-1", *range(1, 10))])
    assert names(holds["GPU-1"]) == [("python train.py", "ada"), ("python train.py", "bob")]


def test_each_gpu_has_its_own_holders() -> None:
    """A process on one GPU does not hold its neighbour."""
    host = Host(pid7=("ada", "python train.py"), pid8=("bob", "serve"))
    holds = ProcessHolders(Workload.BATCH, host).holds([on("GPU-1", 7), on("GPU-2", 8)])
    assert names(holds["GPU-1"]) == [("python train.py", "ada")]
    assert names(holds["GPU-2"]) == [("serve", "bob")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["/usr/bin/python3.11", "/home/ada/train.py", "--lr", "3e-4"], "python3.11 train.py"),
        (["python", "-m", "serving.chat", "--token", "s3cr3t"], "python -m serving.chat"),
        (["python", "-c", "import torch; torch.zeros(1)"], "python"),
        (["python", "-u", "train.py"], "python"),
        (["vllm", "serve", "meta/llama"], "vllm serve"),
        (["/opt/app/server"], "server"),
        (["trainer", "--api-key=s3cr3t"], "trainer"),
        ([], ""),
        ([""], ""),
        (["bash\n\x1b[31m", "run\tit"], "bash?[31m run?it"),
        (["Zugführer", "Größe"], "Zugf?hrer Gr??e".replace("??", "?")),
        (["x" * 200, "y"], "x" * LONGEST_COMMAND),
    ],
)
def test_a_command_is_told_shortly(words: list[str], told: str) -> None:
    """Program and first argument, or module: no options, no secrets, printable ASCII, and not too long."""
    assert short_command(words) == told


@patient
@given(st.lists(st.text(), max_size=6))
def test_no_command_line_gets_through_as_it_is(words: list[str]) -> None:
    """Whatever a process calls itself, its name is short, printable ASCII."""
    told = short_command(words)
    assert len(told) <= LONGEST_COMMAND
    assert told.isascii()
    assert told.isprintable()


def test_a_process_of_this_host_is_known() -> None:
    """A child of this test is told with its user and what it runs."""
    does = "print('up', flush=True); input()"
    with Popen([sys.executable, "-m", "timeit", "-n1", "-r1", does], stdin=PIPE, stdout=PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"  # before, it may still look like this test's process
        person = person_of(child.pid)
        child.communicate(b"\n")
    assert person is not None
    assert person.command == f"{os.path.basename(os.path.realpath(sys.executable))} -m timeit" or (  # noqa: PTH119
        person.command.startswith("python") and person.command.endswith("-m timeit")
    )
    assert person.user == getpass.getuser()


def test_a_process_that_ended_is_nobody() -> None:
    """A pid of the past gives None, and so does one that cannot be."""
    with Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert person_of(child.pid) is None
    assert person_of(2**31 - 1) is None


def test_a_display_server_holds_no_gpu() -> None:
    """A process that only draws sits on every GPU of a host with a screen; MPS clients are at work."""
    draws = Process(pid=100, kind="graphics", memory_used_bytes=4 * 2**20)
    client = Process(pid=200, kind="mps")
    ask = Host(pid200=("alice", "python train.py"))
    reading = reading_of("GPU-1", 0, 10_000, {"busy_ratio": 0.0}, processes=(draws,))
    assert ProcessHolders(Workload.BATCH, ask).holds([reading]) == {}
    shared = reading_of("GPU-1", 0, 10_000, {"busy_ratio": 0.0}, processes=(draws, client))
    (holds,) = ProcessHolders(Workload.BATCH, ask).holds([shared]).values()
    assert [hold.holder.owner for hold in holds] == ["alice"]
