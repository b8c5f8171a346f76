"""What a world of holders is asked, and what it answers.

A world is one place that knows who was given GPUs: Slurm, Kubernetes, a container runtime. It is asked on
a thread of its own (agent/holders/lookout.py), may take its time, and may raise WorldError; ticks never wait
for it. What it names are claimants; who answers for them is decided in one place, by the settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent.tick import Gpu


class WorldError(Exception):
    """A world cannot be asked; the sentence says why and what to do."""


class SliceOf(NamedTuple):
    """A MIG slice, the UUID of its GPU, its profile."""

    uuid: str
    gpu: str
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The GPUs of the node, their slices, and the keys that processes on them were found under.

    Keys are those of agent/holders/cgroups.py: `slurm:4711`, `pod:UID`, `container:ID`.
    """

    gpus: tuple[Gpu, ...] = ()
    slices: tuple[SliceOf, ...] = ()
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who holds something, in the words of its own world; what does not exist there is empty.

    `kind` is slurm, pod, container, unit or process. `name` tells it from all others of its kind on this
    node: a job's number (with _task for an array), namespace/pod, a container's name or short id, a unit, a
    command. `title` is a name that its user chose and may be anything.
    """

    kind: str
    name: str
    user: str = ""
    account: str = ""
    partition: str = ""
    qos: str = ""
    namespace: str = ""
    container: str = ""
    title: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a world knows now.

    `given` lists, by UUID of a GPU or slice, who was given it, whether anything runs there or not. `named`
    tells by key who a process found under that key belongs to. `drained` says why the scheduler puts no more
    work on this node; empty when it does. `trouble` says what could not be learned; the rest holds.
    """

    given: Mapping[str, tuple[Claimant, ...]] = field(default_factory=dict)
    named: Mapping[str, Claimant] = field(default_factory=dict)
    drained: str = ""
    trouble: str = ""


class World(Protocol):
    """One place that knows holders."""

    name: str
    """A short word for metrics and settings: slurm, kubernetes, containers."""

    def look(self, question: Question) -> Answer:
        """Ask it; may block for some seconds. Raises WorldError."""

    def close(self) -> None:
        """Let go of connections."""
