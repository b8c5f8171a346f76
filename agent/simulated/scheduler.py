"""The scheduler of a simulated node: which job was given which GPU, whether it runs anything or not."""

from collections.abc import Callable, Iterable, Mapping

from agent.holders.cgroups import Place
from agent.holders.contract import Answer, Claimant, Question
from agent.holders.processes import Seen, short_command
from agent.simulated.scenario import Simulation


class Scheduler:
    """Answers as Slurm's lookout does, at once; `now_ms` is the time of the simulation."""

    name = "slurm"

    def __init__(self, simulation: Simulation, now_ms: Callable[[], int]) -> None:
        self._simulation = simulation
        self._now_ms = now_ms

    def put(self, question: Question) -> None:
        """Take a question; the answer is the same for all."""

    def settle(self, seconds: float) -> None:
        """Be ready."""

    def answer(self) -> Answer:
        """Tell what was given at this moment."""
        at_us = self._now_ms() * 1000
        given: dict[str, tuple[Claimant, ...]] = {}
        for index in range(self._simulation.count):
            job = self._simulation.given(index, at_us)
            if job is not None:
                given[self._simulation.uuid(index)] = (Claimant(kind="slurm", **job._asdict()),)
        return Answer(given=given, named={f"slurm:{job.name}": job for (job,) in given.values()})

    def close(self) -> None:
        """End nothing."""


class Crowd:
    """The processes of a simulated node, as the host would show them."""

    def __init__(self, simulation: Simulation) -> None:
        jobs = simulation.jobs()
        self._seen = {
            pid: Seen(user, short_command(command.split()), Place(job=jobs.get(pid, "")), 0)
            for pid, (user, command) in simulation.people().items()
        }

    def resolve(self, pids: Iterable[int]) -> Mapping[int, Seen | None]:
        """Tell of pids; None for one that is not of the simulation."""
        return {pid: self._seen.get(pid) for pid in pids}

    def close(self) -> None:
        """End nothing."""
