"""What slurmctld told of the jobs on this node: asked for once, kept, and asked for again when it may be old.

In one look there is at most one question for the node, one for all jobs that are new, and one for each of
them, at most twenty. An answer that there is nothing is kept as well. Whatever was learned holds while
slurmctld is silent.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from agent.holders.contract import WorldError
from agent.holders.scontrol import SlurmCommands
from agent.holders.slurm_jobs import Job, Node, detail_of, node_of, number_of

NODE_SECONDS = 20.0
"""How often slurmctld is asked for the node."""
LIST_SECONDS = 45.0
"""How often the node's jobs are listed while some of them have no step here."""
KEEP_SECONDS = 600.0
"""How long an answer about a job holds, also that there is none."""
AGAIN_SECONDS = 60.0
"""When a job is asked for again whose text was not as it was listed: its name was just changed."""
LOOK_SECONDS = 10.0
"""No further job is asked for after so much time in one look."""
MOST_NEW = 20
SHORT_LISTS = 2
"""So many lists in a row that lack jobs are no coincidence."""
NUMBER = re.compile(r"[0-9]{1,20}")
NEVER = -math.inf

Confined = Callable[[str], frozenset[str] | None]
"""Tells by a job's number the GPUs that its device cgroup lets it use; None where that is not told."""


@dataclass(slots=True)
class Known:
    """What was learned of a job: `job` is None when Slurm knows none of that number.

    Its GPUs are `uuids` where its device cgroup told them, else those behind `indexes`.
    """

    job: Job | None
    asked_seconds: float
    indexes: frozenset[int] = frozenset()
    uuids: frozenset[str] | None = None
    sluid: str = ""
    detailed_seconds: float = NEVER

    @property
    def holds(self) -> bool:
        """Say whether it is a job that has its GPUs now."""
        return self.job is not None and self.job.holds


class Roll:
    """The jobs that are known on a node, and the node. `places` are the GPUs behind Slurm's indexes."""

    def __init__(self, commands: SlurmCommands, node_name: str, monotonic: Callable[[], float]) -> None:
        self.node = Node()
        self.known: dict[str, Known] = {}
        self.places: Mapping[int, str] = {}
        self._commands = commands
        self._node_name = node_name
        self._monotonic = monotonic
        self._node_seconds = NEVER
        self._numbers: dict[str, tuple[str, float]] = {}
        self._listed: frozenset[str] = frozenset()
        self._listed_used = self.node.used
        self._listed_seconds = NEVER
        self._short = 0

    @property
    def trouble(self) -> str:
        """Say whether jobs are hidden from the agent."""
        if self._short < SHORT_LISTS:
            return ""
        return (
            f"Slurm says that {self._used} GPUs are given here but tells of jobs with {len(self._held)}:"
            " let the agent's user see all jobs (PrivateData in slurm.conf)"
        )

    def learn_node(self, now: float) -> None:
        """Ask for the node if that was long ago. Raises WorldError."""
        if now - self._node_seconds < NODE_SECONDS:
            return
        node = node_of(self._commands.node(self._node_name), self._node_name)
        if node is None:
            raise WorldError(
                f"scontrol told nothing of node {self._node_name!r}: set its NodeName in the settings"
            )
        self.node, self._node_seconds = node, now

    def learn_jobs(self, traces: Iterable[str], confined: Confined, now: float) -> None:
        """Ask for jobs with traces here, by number or SLUID, and for those without. Raises WorldError."""
        traces = tuple(traces)
        self._learn_sluids(traces, now)
        here = self.by_number(traces).keys()
        new = [number for number in here if self._is_old(number, now)][:MOST_NEW]
        listing = self._is_list_due(here, now)
        if listing:
            self._list(new, now)
        elif new:
            jobs = self._commands.numbered(new)
            for number in new:
                self._take(number, jobs.get(number), now)
        wanted = here | self._listed
        self.known = {number: known for number, known in self.known.items() if number in wanted}
        self._learn_gpus(confined, now)
        if listing:
            self._short = self._short + 1 if self._used > len(self._held) else 0

    def by_number(self, traces: Iterable[str]) -> dict[str, str]:
        """Put numbers in the place of SLUIDs as far as they are known, and keep what they stand for."""
        told = [(known.sluid, number) for number, known in self.known.items() if known.sluid]
        claims = Counter(sluid for sluid, _ in told)
        sole = {sluid: number for sluid, number in told if claims[sluid] == 1}
        found = {}
        for job in traces:
            number = job if NUMBER.fullmatch(job) else self._numbers.get(job, ("", 0))[0] or sole.get(job, "")
            if number:
                found[number] = job
        return found

    def indexes_of(self, known: Known) -> frozenset[int]:
        """Tell Slurm's indexes of a job's GPUs; a node asked later knows which are given still."""
        used = self.node.used
        if self._node_seconds <= known.detailed_seconds:
            return known.indexes
        if used.indexes is not None:
            return known.indexes & used.indexes
        return known.indexes if used.count or used.shared else frozenset()

    def _learn_sluids(self, traces: Iterable[str], now: float) -> None:
        named = [job for job in traces if not NUMBER.fullmatch(job)]
        self._numbers = {job: self._numbers[job] for job in named if job in self._numbers}
        old = [job for job in named if now - self._numbers.get(job, ("", NEVER))[1] >= KEEP_SECONDS]
        for sluid in self._in_time(old, now):
            self._numbers[sluid] = (number_of(self._commands.job(sluid)), now)

    def _list(self, new: Iterable[str], now: float) -> None:
        """Take the list of the node's jobs; what is not in it has no GPUs here."""
        jobs = self._commands.on_node(self._node_name)
        self._listed = frozenset(number for number, job in jobs.items() if job.holds)
        self._listed_used, self._listed_seconds = self.node.used, now
        for number in {*new, *self.known, *self._listed}:
            self._take(number, jobs.get(number), now)

    def _take(self, number: str, job: Job | None, now: float) -> None:
        """Keep what was told of a job; one that was started again may have other GPUs."""
        before = self.known.get(number)
        if before is None or before.job is None:
            self.known[number] = Known(job, now)
        elif job is None:
            before.job, before.asked_seconds = replace(before.job, state=""), now
        elif (job.user, job.started) != (before.job.user, before.job.started):
            self.known[number] = Known(job, now)
        else:
            before.job, before.asked_seconds = job, now

    def _learn_gpus(self, confined: Confined, now: float) -> None:
        """Find out the GPUs of jobs that are new."""
        asked = []
        for number, known in self.known.items():
            if not known.holds or now - known.detailed_seconds < KEEP_SECONDS:
                continue
            known.uuids = confined(number)
            if known.uuids is None:
                asked.append(number)
            else:
                known.detailed_seconds = now
        for number in self._in_time(asked, now):
            self._learn_indexes(self.known[number], now)

    def _learn_indexes(self, known: Known, now: float) -> None:
        if known.job is None:
            return
        detail = detail_of(
            self._commands.job(known.job.array or known.job.number), known.job, self._node_name
        )
        if detail:
            known.indexes, known.sluid, known.detailed_seconds = detail.indexes, detail.sluid, now
        else:
            known.detailed_seconds = now - KEEP_SECONDS + AGAIN_SECONDS
            known.asked_seconds = NEVER

    def _in_time(self, asked: Iterable[str], since: float) -> Iterator[str]:
        """Give so many as may be asked for in one look."""
        for _, one in zip(range(MOST_NEW), asked, strict=False):
            if self._monotonic() - since > LOOK_SECONDS:
                return
            yield one

    def _is_old(self, number: str, now: float) -> bool:
        known = self.known.get(number)
        return known is None or now - known.asked_seconds >= KEEP_SECONDS

    def _is_list_due(self, here: Iterable[str], now: float) -> bool:
        """Say whether jobs without steps here may have come or gone."""
        used, steps = self.node.used, set(here)
        unseen = any(number not in steps and self._has_gpus(number) for number in self._listed)
        if used.indexes is None:
            unsure = used.shared or used.count != len(self._held)
        else:
            unsure = self._named(used.indexes) != self._held
        if not (unseen or unsure):
            return False
        return used != self._listed_used or now - self._listed_seconds >= LIST_SECONDS

    def _has_gpus(self, number: str) -> bool:
        known = self.known.get(number)
        return known is not None and bool(known.indexes or known.uuids)

    @property
    def _used(self) -> int:
        used = self.node.used
        return used.count if used.indexes is None else len(used.indexes)

    @property
    def _held(self) -> set[str]:
        """Tell apart the GPUs that known jobs have."""
        held: set[str] = set()
        for known in self.known.values():
            if known.holds and known.uuids is not None:
                held |= known.uuids
            elif known.holds:
                held |= self._named(known.indexes)
        return held

    def _named(self, indexes: Iterable[int]) -> set[str]:
        return {self.places.get(index, str(index)) for index in indexes}
