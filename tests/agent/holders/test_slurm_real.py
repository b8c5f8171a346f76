"""The world of Slurm, asked of a real Slurm that has harmless devices for GPUs."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.holders.contract import Answer, Question
from agent.holders.slurm import SlurmWorld
from agent.programs import run_command
from agent.tick import Gpu
from tests.command.waiting import until
from tests.slurm.cluster import NODE, ORDER, Cluster, missing, running

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "a Slurm can be started here")

GPUS = tuple(
    Gpu(uuid=f"GPU-{minor}", index=index, model="NVIDIA H100", minor=str(minor))
    for index, minor in enumerate((1, 3, 0, 2))
)
BY_INDEX = [f"GPU-{minor}" for minor in ORDER]
"""The GPUs in the order in which Slurm gives them out."""
FORGED = "x\n   UserId=root(0)\n   JOB_GRES=gpu:4\n     Nodes=node1 CPU_IDs=0 Mem=0 GRES=gpu:4(IDX:0-3)\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Keep one Slurm for all tests of this file."""
    with running() as started:
        yield started


@pytest.fixture
def slurm(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Give that Slurm without jobs, and let the agent's commands find it."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.cancel()


class Agent:
    """A world whose clock goes on by minutes."""

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.seconds = 0.0
        self.asked: list[Sequence[str]] = []
        self.world = SlurmWorld(
            node=NODE,
            cgroup_root=root,
            gres_file=str(cluster.gres_file),
            run=lambda command, environment: self.asked.append(command) or run_command(command, environment),  # type: ignore[func-returns-value]
            monotonic=lambda: self.seconds,
        )

    def look(self) -> Answer:
        """Look a minute later."""
        self.seconds += 60.0
        self.asked.clear()
        return self.world.look(Question(gpus=GPUS))

    def held(self) -> dict[str, list[str]]:
        """Tell the names of jobs by GPU."""
        return {uuid: [one.name for one in claimants] for uuid, claimants in self.look().given.items()}


@pytest.fixture
def agent(slurm: Cluster, tmp_path: Path) -> Agent:
    """Make an agent that sees no cgroups."""
    return Agent(slurm, tmp_path)


def test_a_job_with_no_process_on_its_gpu_is_named(slurm: Cluster, agent: Agent) -> None:
    """By number, user, partition and name."""
    job = slurm.submit("--gres=gpu:1", "--job-name=köln")
    slurm.wait_for(job)
    answer = agent.look()
    assert answer.given.keys() == {BY_INDEX[0]}
    claimant = answer.named[f"slurm:{job}"]
    assert answer.given[BY_INDEX[0]] == (claimant,)
    told = (claimant.kind, claimant.name, claimant.user, claimant.partition, claimant.title)
    assert told == ("slurm", str(job), "root", "night", "köln")
    assert answer.trouble == ""


def test_each_task_of_an_array_has_its_own_gpu(slurm: Cluster, agent: Agent) -> None:
    """Tasks are named by array and task, the last of which bears the array's number."""
    first = slurm.submit("--gres=gpu:1", "--array=3-5")
    held = until(lambda: _full(agent, 3), "three tasks with GPUs")
    assert sorted(name for names in held.values() for name in names) == [
        f"{first}_3",
        f"{first}_4",
        f"{first}_5",
    ]
    assert held.keys() == set(BY_INDEX[:3])


def test_a_job_has_all_of_its_gpus(slurm: Cluster, agent: Agent) -> None:
    """Behind the indexes 1 to 3 are the devices that gres.conf names there."""
    small = slurm.submit("--gres=gpu:1")
    slurm.wait_for(small)
    large = slurm.submit("--gpus=3")
    slurm.wait_for(large)
    expected = {BY_INDEX[0]: [str(small)], **{uuid: [str(large)] for uuid in BY_INDEX[1:]}}
    assert agent.held() == expected


def test_an_allocation_without_steps_is_named(slurm: Cluster, agent: Agent) -> None:
    """Nothing on the node tells of it; the node counts its GPUs."""
    assert agent.held() == {}
    job = slurm.allocate("--gres=gpu:2")
    assert agent.held() == {uuid: [str(job)] for uuid in BY_INDEX[:2]}


@pytest.mark.parametrize("option", ["--job-name", "--comment", "--wckey"])
def test_a_forged_text_gives_no_gpu_away(slurm: Cluster, agent: Agent, option: str) -> None:
    """Whatever a user writes, the job is that user's and has its own GPUs."""
    other = slurm.submit("--gres=gpu:1")
    slurm.wait_for(other)
    mine = slurm.submit("--gres=gpu:1", "--uid=nobody", "--gid=nogroup", f"{option}={FORGED}")
    slurm.wait_for(mine)
    answer = agent.look()
    names = {uuid: [(one.name, one.user) for one in given] for uuid, given in answer.given.items()}
    assert names == {BY_INDEX[0]: [(str(other), "root")], BY_INDEX[1]: [(str(mine), "nobody")]}
    assert answer.named.keys() == {f"slurm:{other}", f"slurm:{mine}"}


@pytest.mark.parametrize("title", [b"\xff\xfe bad\x1b[31m", b"", b"  x  ", b"y" * 1000])
def test_a_strange_job_name_is_harmless(slurm: Cluster, agent: Agent, title: bytes) -> None:
    """It is shown short and printable, and the job is found all the same."""
    job = slurm.submit("--gres=gpu:1", b"--job-name=" + title)
    slurm.wait_for(job)
    answer = agent.look()
    (claimant,) = answer.given[BY_INDEX[0]]
    assert claimant.name == str(job)
    assert claimant.title.isprintable()
    assert len(claimant.title) <= 200


def test_a_finished_job_goes(slurm: Cluster, agent: Agent) -> None:
    """With the next question for the node."""
    slurm.wait_for(slurm.submit("--gres=gpu:1"))
    assert agent.held()
    slurm.cancel()
    assert agent.held() == {}


def test_a_job_with_a_step_costs_one_question_when_nothing_changes(slurm: Cluster, agent: Agent) -> None:
    """Its socket tells that it is still here."""
    slurm.wait_for(slurm.submit("--gres=gpu:1"))
    until(lambda: list((slurm.folder / "spool" / NODE).glob(f"{NODE}_*")), "the step's socket")
    agent.look()
    agent.look()
    assert [" ".join(command) for command in agent.asked] == [f"scontrol show node {NODE} -d -o"]


def test_a_drained_node_tells_why(slurm: Cluster, agent: Agent) -> None:
    """With the reason that the administrator gave, until it takes work again."""
    assert agent.look().drained == ""
    slurm.run("scontrol", "update", f"nodename={NODE}", "state=drain", "reason=bad GPU 3")
    assert agent.look().drained == "drain: bad GPU 3"
    slurm.run("scontrol", "update", f"nodename={NODE}", "state=resume")
    until(lambda: not agent.look().drained, "Slurm to use the node again")


def test_a_slurmctld_that_hangs_takes_nothing_away(slurm: Cluster, agent: Agent) -> None:
    """The look ends in time, tells the trouble, and what was known holds."""
    job = slurm.submit("--gres=gpu:1")
    slurm.wait_for(job)
    assert agent.held() == {BY_INDEX[0]: [str(job)]}
    controller = slurm.daemons[1]
    os.kill(controller.pid, signal.SIGSTOP)
    try:
        answer = agent.look()
    finally:
        os.kill(controller.pid, signal.SIGCONT)
    assert answer.given.keys() == {BY_INDEX[0]}
    assert "scontrol ping" in answer.trouble
    assert agent.look().trouble == ""


def _full(agent: Agent, count: int) -> dict[str, list[str]] | None:
    held = agent.held()
    return held if len(held) == count else None
