"""A whole agent beside a real Slurm: jobs get their name on GPUs, whether they run anything or not.

The driver is simulated and its GPUs are free; Slurm gives out harmless devices of the same minor numbers.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command.processes import Agent, gputally
from tests.command.waiting import until
from tests.slurm.cluster import NODE, Cluster, missing, running

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "a Slurm can be started here")

REAL_WORLDS = """
import gputally.run
from agent.holders.worlds import holders_of
gputally.run.holders_in = lambda simulation, settings, at_ms=None: holders_of(
    settings.holders, gputally.run._workload(settings)
)
"""
NAMED_SECONDS = 60.0
SETTINGS = f"""
[holders]
slurm_node = "{NODE}"
slurm_gres_file = "{{gres}}"
kubernetes = "off"
containers = "off"
[[holders.map]]
kind = "slurm"
user = "root"
owner = "operations"
cost_centre = "4711"
"""


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Keep a Slurm running, and let the agent's commands find it."""
    with running() as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        yield cluster


@pytest.fixture
def agent(slurm: Cluster, tmp_path: Path) -> Iterator[Agent]:
    """Run an agent over four simulated GPUs that nobody uses."""
    settings = tmp_path / "settings.toml"
    settings.write_text(SETTINGS.format(gres=slurm.gres_file))
    arguments = ("--simulate", "h200x4:free", "--interval", "2", "--port", "0", "--settings", settings)
    with Agent(tmp_path, *arguments, "--journal", tmp_path / "journal.db", patch=REAL_WORLDS) as started:
        until(lambda: started.samples("gpu_up"), "the first interval")
        yield started


def held(agent: Agent) -> dict[str, str]:
    """Tell the holder of each GPU by its index."""
    found = (dict(labels) for _, labels in agent.samples("gpu_holder_info"))
    return {labels["gpu"]: labels["holder"] for labels in found}


def states(agent: Agent) -> dict[str, str]:
    """Tell the state of each GPU by its index."""
    found = {labels: value for (_, labels), value in agent.samples("gpu_state").items()}
    return {dict(labels)["gpu"]: dict(labels)["state"] for labels, value in found.items() if value}


def test_a_job_that_runs_nothing_is_named_within_a_minute(
    slurm: Cluster, agent: Agent, tmp_path: Path
) -> None:
    """It holds its GPUs from then on, leaves its figures when it ends, and a drained node is told."""
    job = slurm.submit("--gres=gpu:2", "--job-name=idle one")
    slurm.wait_for(job)
    began = time.monotonic()
    until(lambda: list(held(agent).values()) == [str(job)] * 2, "both GPUs of the job to be named")
    assert time.monotonic() - began < NAMED_SECONDS
    mine = held(agent)
    until(lambda: all(states(agent)[index] == "held_gap" for index in mine), "the GPUs to be held")
    assert [state for index, state in states(agent).items() if index not in mine] == ["free", "free"]
    ((_, labels),) = [
        series for series in agent.samples("gpu_holder_info") if ("gpu", min(mine)) in series[1]
    ]
    told = dict(labels)
    assert (told["owner"], told["user"], told["partition"]) == ("operations", "root", "night")
    assert told["cost_centre"] == "4711"

    slurm.run("scontrol", "update", f"nodename={NODE}", "state=drain", "reason=new fans")
    until(lambda: sorted(states(agent).values()) == ["drained"] * 2 + ["held_gap"] * 2, "the drain")
    slurm.run("scontrol", "update", f"nodename={NODE}", "state=resume")

    slurm.run("scancel", str(job))
    until(lambda: not held(agent), "the job to let go")
    journal = ("--journal", str(tmp_path / "journal.db"))
    said = gputally(tmp_path, "job", str(job), "--json", *journal)
    (had,) = json.loads(said.out)
    assert (had["ended"], had["title"], len(had["gpus"])) == (True, "idle one", 2)
    assert set(had["state_hours"]) == {"held_gap"}
    listed = gputally(tmp_path, "holders", *journal)
    assert (listed.code, listed.out) == (0, "nobody holds a GPU of this node\n")
