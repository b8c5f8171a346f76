"""A world of Slurm over canned commands and a tree of cgroups that the test makes."""

from dataclasses import dataclass
from pathlib import Path

from agent.holders.contract import Answer, Question, SliceOf
from agent.holders.slurm import SlurmWorld
from agent.tick import Gpu
from tests.slurm.canned import CannedSlurm

MINORS = (3, 0, 2, 1)
"""By NVML's index: the two orders differ."""
GPUS = tuple(
    Gpu(uuid=f"GPU-minor{minor}", index=index, model="NVIDIA H100", minor=str(minor))
    for index, minor in enumerate(MINORS)
)


@dataclass
class Stand:
    """A world over canned commands, whose clock the test moves."""

    slurm: CannedSlurm
    root: Path
    seconds: float = 1000.0
    gres_file: str = ""

    def __post_init__(self) -> None:
        self.world = SlurmWorld(
            node=self.slurm.node,
            cgroup_root=self.root,
            gres_file=self.gres_file,
            run=self.slurm,
            monotonic=lambda: self.seconds,
        )

    def look(self, *keys: str, later: float = 0.0, slices: tuple[SliceOf, ...] = ()) -> Answer:
        """Look after some time has passed."""
        self.seconds += later
        self.slurm.asked.clear()
        return self.world.look(Question(gpus=GPUS, slices=slices, keys=frozenset(keys)))


def holders(answer: Answer) -> dict[str, list[str]]:
    """Tell the names of jobs by the last digit of the GPU's minor number."""
    return {uuid[-1]: [one.name for one in claimants] for uuid, claimants in answer.given.items()}


def folder(root: Path, name: str, devices: str = "") -> None:
    """Make the folder of a job."""
    (root / name / "step_0").mkdir(parents=True)
    if devices:
        (root / name / "devices.list").write_text(devices)
