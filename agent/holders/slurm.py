"""Who was given GPUs by Slurm: jobs with and without steps here, named by slurmctld, found also without it.

Folders and sockets on the node tell which jobs have steps here. slurmctld is asked for the node now and then,
for jobs that are new, and for the list of the node's jobs when more GPUs are given out than the known jobs
have. All answers are kept, also those that there is nothing; when slurmctld is silent they still hold.
"""

import contextlib
import math
import pwd
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.holders.contract import Answer, Claimant, Question, WorldError
from agent.holders.scontrol import Run, SlurmCommands, run_command
from agent.holders.slurm_gres import devices_of, places
from agent.holders.slurm_jobs import Detail, Job, Node, detail_of, known_names, node_of, number_of
from agent.holders.slurm_local import LocalJob, jobs_in_cgroups, jobs_with_sockets, minors_allowed

NODE_SECONDS = 20.0
"""How often slurmctld is asked for the node."""
LIST_SECONDS = 45.0
"""How often the node's jobs are listed while some of them have no step here."""
KEEP_SECONDS = 600.0
"""How long an answer about a job holds, also that there is none."""
AGAIN_SECONDS = 60.0
"""When a job is asked for again whose text was not as it was listed, as its name just changed."""
RETRY_SECONDS = 10.0
"""After a failure nothing is asked for so long."""
LOOK_SECONDS = 10.0
"""No further job is asked for after so much time in one look."""
MOST_NEW = 20
MOST_GRES_BYTES = 1 << 20
SHORT_LISTS = 2
PREFIX = "slurm:"

_NUMBER = re.compile(r"[0-9]{1,20}")
_SLUID = re.compile(r"s[0-9A-HJKMNP-TV-Z]{13}")


@dataclass(slots=True)
class Known:
    """What was learned of a job: `job` is None when Slurm knows none of that number."""

    job: Job | None
    asked_seconds: float
    detail: Detail = field(default_factory=lambda: Detail(frozenset()))
    minors: frozenset[int] | None = None
    detailed_seconds: float = -math.inf


class SlurmWorld:
    """A world: the jobs that Slurm has on this node.

    `node` is Slurm's name of it, the host's short name where empty; `commands` the folder of scontrol and
    squeue; `spool_folder` is SlurmdSpoolDir; `gres_file` is gres.conf, for GPUs that Slurm does not find itself.
    """

    name = "slurm"

    def __init__(
        self,
        *,
        node: str = "",
        commands: str = "",
        cgroup_root: Path = Path("/sys/fs/cgroup"),
        spool_folder: str = "",
        gres_file: str = "",
        run: Run = run_command,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = socket.gethostname().partition(".")[0]
        self._node_name = node or self._host
        self._commands = SlurmCommands(commands, run)
        self._cgroup_root = cgroup_root
        self._spool = spool_folder
        self._spool_asked = bool(spool_folder)
        self._gres_file = gres_file
        self._monotonic = monotonic
        self._node = Node()
        self._node_seconds = -math.inf
        self._known: dict[str, Known] = {}
        self._numbers: dict[str, tuple[str, float]] = {}
        self._listed: frozenset[str] = frozenset()
        self._listed_used = self._node.used
        self._listed_seconds = -math.inf
        self._short = 0
        self._places: Mapping[int, str] = {}
        self._trouble = ""
        self._silent_until = -math.inf

    def available(self) -> bool:
        """Say whether Slurm seems to be here."""
        return self._commands.available()

    def close(self) -> None:
        """Nothing is kept open."""

    def look(self, question: Question) -> Answer:
        """Tell which jobs have GPUs here. Raises WorldError when nothing at all is known."""
        now = self._monotonic()
        local = self._local(question.keys)
        if now >= self._silent_until:
            self._trouble = ""
            try:
                self._learn(local, question, now)
            except WorldError as error:
                self._trouble, self._silent_until = str(error), now + RETRY_SECONDS
        answer = self._answer(local, question)
        if self._trouble and not (answer.given or answer.named):
            raise WorldError(self._trouble)
        return answer

    # What is here.

    def _local(self, keys: Iterable[str]) -> dict[str, LocalJob]:
        """Tell the jobs that left traces on this node, by number or SLUID."""
        spool = self._spool.replace("%n", self._node_name).replace("%h", self._host)
        found = {job: LocalJob() for job in jobs_with_sockets(spool, self._node_name)}
        found.update(jobs_in_cgroups(self._cgroup_root, self._node_name))
        for key in keys:
            job = key.removeprefix(PREFIX)
            if job != key and (_NUMBER.fullmatch(job) or _SLUID.fullmatch(job)):
                found.setdefault(job, LocalJob())
        return found

    def _by_number(self, local: Mapping[str, LocalJob]) -> dict[str, LocalJob]:
        """Put numbers in the place of SLUIDs, as far as they are known."""
        told = [(known.detail.sluid, number) for number, known in self._known.items() if known.detail.sluid]
        once = {sluid: number for sluid, number in told if sum(one == sluid for one, _ in told) == 1}
        found: dict[str, LocalJob] = {}
        for job, trace in local.items():
            number = (
                job if _NUMBER.fullmatch(job) else self._numbers.get(job, ("", 0.0))[0] or once.get(job, "")
            )
            if number:
                found[number] = trace
        return found

    # What slurmctld tells.

    def _learn(self, local: Mapping[str, LocalJob], question: Question, now: float) -> None:
        """Ask for what is new or old. Raises WorldError."""
        if now - self._node_seconds >= NODE_SECONDS:
            node = node_of(self._commands.node(self._node_name), self._node_name)
            if node is None:
                raise WorldError(
                    f"scontrol told nothing of node {self._node_name!r}: set its NodeName in the settings"
                )
            self._node, self._node_seconds = node, now
        if not self._spool_asked:
            self._spool, self._spool_asked = self._commands.spool_folder(), True
        self._place(question)
        self._learn_sluids(local, now)
        here = self._by_number(local)
        listed = self._learn_jobs(here, now)
        self._learn_details(here, now)
        if listed:
            held = self._count_held(here)
            self._short = self._short + 1 if self._count_used() > held else 0
            if self._short >= SHORT_LISTS:
                self._trouble = (
                    f"Slurm has given out {self._count_used()} GPUs here but tells of jobs with {held}: let the agent's user"
                    " see all jobs (PrivateData in slurm.conf)"
                )

    def _place(self, question: Question) -> None:
        """Find the GPUs behind Slurm's indexes; they stay when one of them is lost."""
        has, devices = self._node.has, ()
        if self._gres_file:
            with (
                contextlib.suppress(OSError),
                Path(self._gres_file).open(encoding="utf-8", errors="replace") as file,
            ):
                devices = devices_of(file.read(MOST_GRES_BYTES), self._node_name)
        if devices or has.count == len(question.gpus):
            self._places = places(question.gpus, has.types, devices)
        if has.count and question.gpus and not question.slices and not self._places:
            self._trouble = (
                f"which of {len(question.gpus)} GPUs Slurm means by its {has.count} indexes is not certain: name a gres.conf"
                " that the agent may read in the settings"
            )

    def _learn_sluids(self, local: Mapping[str, LocalJob], now: float) -> None:
        self._numbers = {sluid: told for sluid, told in self._numbers.items() if sluid in local}
        new = [
            job
            for job in local
            if not _NUMBER.fullmatch(job) and now - self._numbers.get(job, ("", -math.inf))[1] >= KEEP_SECONDS
        ]
        for sluid in self._in_time(new, now):
            self._numbers[sluid] = (number_of(self._commands.job(sluid)), now)

    def _learn_jobs(self, here: Mapping[str, LocalJob], now: float) -> bool:
        """Ask once for all jobs that are new; True if the node's jobs were listed for that."""
        new = [
            number
            for number in here
            if number not in self._known or now - self._known[number].asked_seconds >= KEEP_SECONDS
        ][:MOST_NEW]
        listing = self._is_list_due(here, now)
        if listing:
            jobs = self._commands.on_node(self._node_name)
            self._listed = frozenset(number for number, job in jobs.items() if job.holds)
            self._listed_used, self._listed_seconds = self._node.used, now
        elif new:
            jobs = self._commands.numbered(new)
        else:
            jobs = {}
        gone = self._known.keys() - jobs.keys() if listing else ()
        for number in {*new, *gone, *(self._listed if listing else ())}:
            self._take(number, jobs.get(number), now)
        wanted = here.keys() | self._listed
        self._known = {number: known for number, known in self._known.items() if number in wanted}
        return listing

    def _take(self, number: str, job: Job | None, now: float) -> None:
        """Keep what was told of a job; a number that is given to another job begins anew."""
        before = self._known.get(number)
        if before is None or before.job is None or job is None or job.user != before.job.user:
            self._known[number] = Known(job, now)
        else:
            before.job, before.asked_seconds = job, now

    def _learn_details(self, here: Mapping[str, LocalJob], now: float) -> None:
        """Find out which GPUs the jobs have that are new."""
        asked = []
        for number, known in self._known.items():
            if known.job and known.job.holds and now - known.detailed_seconds >= KEEP_SECONDS:
                trace = here.get(number, LocalJob())
                known.minors = self._minors(trace)
                if known.minors is None:
                    asked.append(number)
                else:
                    known.detailed_seconds = now
        for number in self._in_time(asked, now):
            known = self._known[number]
            if known.job:
                text = self._commands.job(known.job.array or number)
                detail = detail_of(text, known.job, self._node_name)
                known.detail = detail or Detail(frozenset())
                known.detailed_seconds = now if detail else now - KEEP_SECONDS + AGAIN_SECONDS
                if detail is None:
                    known.asked_seconds = -math.inf

    def _in_time(self, asked: Iterable[str], since: float) -> Iterator[str]:
        """Give so many as may be asked for in one look."""
        for _, one in zip(range(MOST_NEW), asked, strict=False):
            if self._monotonic() - since > LOOK_SECONDS:
                return
            yield one

    def _minors(self, trace: LocalJob) -> frozenset[int] | None:
        """Tell the GPUs by device files; a job that may open all of them may just not be confined."""
        minors = minors_allowed(trace.devices) if trace.devices else None
        return minors if minors is not None and len(minors) < max(1, self._node.has.count) else None

    # What follows.

    def _is_list_due(self, here: Mapping[str, LocalJob], now: float) -> bool:
        """Say whether jobs without steps here may have come or gone."""
        used = self._node.used
        unseen = any(number not in here and self._has_gpus(number) for number in self._listed)
        unsure = self._count_used() != self._count_held(here) or (used.shared and used.indexes is None)
        if not (unseen or unsure):
            return False
        return used != self._listed_used or now - self._listed_seconds >= LIST_SECONDS

    def _has_gpus(self, number: str) -> bool:
        known = self._known.get(number)
        return known is not None and bool(known.detail.indexes or known.minors)

    def _count_used(self) -> int:
        used = self._node.used
        return used.count if used.indexes is None else len(used.indexes)

    def _count_held(self, here: Mapping[str, LocalJob]) -> int:
        by_place = {uuid: index for index, uuid in self._places.items()}
        del here
        held: set[object] = set()
        for known in self._known.values():
            if known.job and known.job.holds:
                held.update(known.detail.indexes if known.minors is None else ())
                held.update(("minor", minor) for minor in known.minors or ())
        del by_place
        return len(held)

    def _answer(self, local: Mapping[str, LocalJob], question: Question) -> Answer:
        here = self._by_number(local)
        sluids = {told[0]: sluid for sluid, told in self._numbers.items()}
        given: dict[str, list[Claimant]] = {}
        named: dict[str, Claimant] = {}
        for number in sorted(here.keys() | self._known.keys(), key=int):
            known = self._known.get(number)
            if known and known.job:
                claimant = known.job.claimant
                named.update(known_names(known.job, sluids.get(number, known.detail.sluid)))
                held = self._held(known, question)
            elif self._trouble and not known and here[number].devices:
                claimant = Claimant(kind="slurm", name=number, user=_user(here[number].uid))
                held = _by_minor(self._minors(here[number]) or (), question)
            else:
                continue
            for uuid in held:
                given.setdefault(uuid, []).append(claimant)
        return Answer(
            given={uuid: tuple(claimants) for uuid, claimants in given.items()},
            named=named,
            drained=self._node.drained,
            trouble=self._trouble,
        )

    def _held(self, known: Known, question: Question) -> list[str]:
        """Tell the GPUs of a job; a node that was asked later than the job knows whether it still has them."""
        if not known.job or not known.job.holds:
            return []
        if known.minors is not None:
            return _by_minor(known.minors, question)
        indexes, used = known.detail.indexes, self._node.used
        if self._node_seconds > known.detailed_seconds:
            if used.indexes is not None:
                indexes &= used.indexes
            elif not used.count and not used.shared:
                indexes = frozenset()
        cut = {one.gpu for one in question.slices}
        present = {gpu.uuid for gpu in question.gpus} - cut
        return [self._places[index] for index in sorted(indexes) if self._places.get(index) in present]


def _by_minor(minors: Iterable[int], question: Question) -> list[str]:
    cut = {one.gpu for one in question.slices}
    wanted = {str(minor) for minor in minors}
    return [gpu.uuid for gpu in question.gpus if gpu.minor in wanted and gpu.uuid not in cut]


def _user(uid: str) -> str:
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError, OverflowError):
        return uid
