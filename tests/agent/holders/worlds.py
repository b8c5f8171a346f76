"""Stand-ins of what knows holders: a world with canned answers, a host with canned processes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.holders.cgroups import Place
from agent.holders.claims import Holders
from agent.holders.contract import Answer, Claimant, Question
from agent.holders.owners import OwnerRule, Owners
from agent.holders.processes import Seen
from agent.tick import Gpu, Process, Reading, Slice, Workload, reading_of, slice_of

GPU = Gpu(uuid="GPU-1", index=0, model="NVIDIA H200", minor="0")
OTHER = Gpu(uuid="GPU-2", index=1, model="NVIDIA H200", minor="1")
GPUS = {gpu.uuid: gpu for gpu in (GPU, OTHER)}
JOB = Claimant(kind="slurm", name="4711", user="ada", account="vision", partition="gpu", qos="normal")
ARRAY = Claimant(kind="slurm", name="4712_3", user="grace", account="speech")
POD = Claimant(kind="pod", name="lab/notebook-0", namespace="lab", labels={"team": "vision"})
POD_2 = Claimant(kind="pod", name="web/chat-7f", namespace="web", labels={"team": "search"})


def seen(user: str, command: str = "python train.py", **place: str) -> Seen:
    """Describe a process of the host."""
    return Seen(user, command, Place(**place), 0)


@dataclass
class Host:
    """Knows processes by pid; None for one that is hidden."""

    known: dict[int, Seen | None] = field(default_factory=dict)

    def resolve(self, pids: Iterable[int]) -> Mapping[int, Seen | None]:
        """Tell of those that are known."""
        return {pid: self.known[pid] for pid in pids if pid in self.known}

    def close(self) -> None:
        """End nothing."""


@dataclass
class Canned:
    """Answers the same to any question, and keeps the questions."""

    told: Answer = field(default_factory=Answer)
    name: str = "slurm"
    questions: list[Question] = field(default_factory=list)
    closed: bool = False

    def put(self, question: Question) -> None:
        """Keep a question."""
        self.questions.append(question)

    def settle(self, seconds: float) -> None:
        """Be ready."""

    def answer(self) -> Answer:
        """Give the answer."""
        return self.told

    def close(self) -> None:
        """Note the end."""
        self.closed = True


def holders(
    *answers: Answer, host: Mapping[int, Seen | None] | None = None, rules: tuple[OwnerRule, ...] = ()
) -> Holders:
    """Put worlds with these answers and a host together."""
    worlds = [Canned(answer, f"world-{number}") for number, answer in enumerate(answers)]
    return Holders(Host(dict(host or {})), worlds, Owners(rules, Workload.BATCH, 100))


def process(
    pid: int, share: float | None = None, piece: str = "", memory_bytes: int | None = None
) -> Process:
    """Describe a process on a GPU."""
    return Process(pid=pid, sm_ratio=share, slice=piece, memory_used_bytes=memory_bytes)


def read(*processes: Process, slices: tuple[Slice, ...] | None = None, gpu: Gpu = GPU) -> Reading:
    """Make a reading of a GPU with these processes."""
    return reading_of(gpu.uuid, 0, 10_000, {"busy_ratio": 0.5}, processes=processes, slices=slices)


def piece(uuid: str, weight: float = 3 / 7, **values: float) -> Slice:
    """Make a slice."""
    return slice_of(uuid, "3g.71gb", weight, values)
