"""Who was given GPUs by Slurm: jobs with and without steps here, named by slurmctld, found without it."""

import contextlib
import math
import os
import pwd
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from agent.holders.contract import Answer, Claimant, Question, WorldError
from agent.holders.scontrol import SlurmCommands
from agent.holders.slurm_gres import Device, devices_of, places
from agent.holders.slurm_jobs import known_names
from agent.holders.slurm_local import LocalJob, jobs_in_cgroups, jobs_with_sockets, minors_allowed
from agent.holders.slurm_roll import NUMBER, Known, Roll
from agent.programs import Run, run_command

RETRY_SECONDS = 10.0
"""After a failure nothing is asked for so long."""
MOST_GRES_BYTES = 1 << 20
CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC = Path("/proc")
PREFIX = "slurm:"
SETTINGS = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf")
"""Where slurm.conf lies; the last is where slurmd keeps what it was sent. Commands alone make no cluster."""

_SLUID = re.compile(r"s[0-9A-HJKMNP-TV-Z]{13}")


class SlurmWorld:
    """A world: the jobs that Slurm has on this node.

    `node` is Slurm's name of it, the host's short name where empty; `commands` the folder of scontrol and
    squeue, on PATH where empty; `spool_folder` is SlurmdSpoolDir, asked for once where empty; `gres_file` is
    gres.conf, which tells the order of the GPUs where it names their device files.
    """

    name = "slurm"

    def __init__(
        self,
        *,
        node: str = "",
        commands: str = "",
        cgroup_root: Path = CGROUP_ROOT,
        spool_folder: str = "",
        gres_file: str = "",
        proc: Path = PROC,
        run: Run = run_command,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = _host(proc)
        self._node_name = node or self._host
        self._commands = SlurmCommands(commands, run)
        self._cgroup_root = cgroup_root
        self._spool = spool_folder
        self._spool_asked = bool(spool_folder)
        self._gres_file = gres_file
        self._monotonic = monotonic
        self._roll = Roll(self._commands, self._node_name, monotonic)
        self._failure = ""
        self._silent_until = -math.inf
        self._told_where = bool(commands)

    def available(self) -> bool:
        """Say whether Slurm seems to be here: its commands, and settings of a cluster for them."""
        set_up = self._told_where or "SLURM_CONF" in os.environ or any(map(os.path.exists, SETTINGS))
        return set_up and self._commands.available()

    def close(self) -> None:
        """Do nothing; nothing is kept open."""

    def look(self, question: Question) -> Answer:
        """Tell which jobs have GPUs here. Raises WorldError when Slurm fails and no job is known."""
        now = self._monotonic()
        local = self._local(question.keys)
        if now >= self._silent_until:
            self._failure = ""
            try:
                self._learn(local, question, now)
            except WorldError as error:
                self._failure, self._silent_until = str(error), now + RETRY_SECONDS
        answer = self._answer(local, question)
        if self._failure and not (answer.given or answer.named):
            raise WorldError(self._failure)
        return answer

    def _learn(self, local: Mapping[str, LocalJob], question: Question, now: float) -> None:
        self._roll.learn_node(now)
        if not self._spool_asked:
            self._spool, self._spool_asked = self._commands.spool_folder(), True
        self._place(question)

        def confined(number: str) -> frozenset[str] | None:
            return _confined(local.get(number, LocalJob()), question)

        self._roll.learn_jobs(local, confined, now)

    def _local(self, keys: Iterable[str]) -> dict[str, LocalJob]:
        """Tell the jobs that left traces on this node, by number or SLUID."""
        spool = self._spool.replace("%n", self._node_name).replace("%h", self._host)
        found = {job: LocalJob() for job in jobs_with_sockets(spool, self._node_name)}
        found.update(jobs_in_cgroups(self._cgroup_root, self._node_name))
        for key in keys:
            job = key.removeprefix(PREFIX)
            if job != key and (NUMBER.fullmatch(job) or _SLUID.fullmatch(job)):
                found.setdefault(job, LocalJob())
        return found

    def _place(self, question: Question) -> None:
        """Find the GPUs behind Slurm's indexes; they stay as they were while one of them is lost."""
        has = self._roll.node.has
        devices: tuple[Device, ...] = ()
        if self._gres_file:
            with (
                contextlib.suppress(OSError),
                Path(self._gres_file).open(encoding="utf-8", errors="replace") as file,
            ):
                devices = devices_of(file.read(MOST_GRES_BYTES), self._node_name)
        if devices or has.count == len(question.gpus):
            self._roll.places = places(question.gpus, has.types, devices)

    def _uncertain(self, question: Question) -> str:
        """Say so when it is not known which GPUs Slurm means."""
        count = self._roll.node.has.count
        if not count or not question.gpus or question.slices or self._roll.places:
            return ""
        return (
            f"which of {len(question.gpus)} GPUs Slurm means by its {count} indexes is not certain: name a"
            " gres.conf with their device files in the settings, and let the agent read it"
        )

    def _answer(self, local: Mapping[str, LocalJob], question: Question) -> Answer:
        given: dict[str, list[Claimant]] = {}
        named: dict[str, Claimant] = {}
        here = self._roll.by_number(local)
        for number in sorted(here.keys() | self._roll.known.keys(), key=int):
            known = self._roll.known.get(number)
            if known and known.job:
                claimant = known.job.claimant
                name = here.get(number, number)
                named.update(known_names(known.job, known.sluid if name == number else name))
                held = self._held(known, question)
            elif known or not self._failure:
                continue
            else:  # nobody tells more of it than its folder
                trace = local[here[number]]
                claimant = Claimant(kind="slurm", name=number, user=_user(trace.uid))
                held = sorted(_confined(trace, question) or ())
            for uuid in held:
                given.setdefault(uuid, []).append(claimant)
        return Answer(
            given={uuid: tuple(claimants) for uuid, claimants in given.items()},
            named=named,
            drained=self._roll.node.drained,
            trouble=self._failure or self._uncertain(question) or self._roll.trouble,
        )

    def _held(self, known: Known, question: Question) -> list[str]:
        """Tell the whole GPUs of a job; whose the slices of one are, only processes tell."""
        if not known.holds:
            return []
        if known.uuids is not None:
            found = known.uuids
        else:
            uuids = (self._roll.places.get(index) for index in self._roll.indexes_of(known))
            found = frozenset(uuid for uuid in uuids if uuid)
        whole = {gpu.uuid for gpu in question.gpus} - {one.gpu for one in question.slices}
        return sorted(found & whole)


def _confined(trace: LocalJob, question: Question) -> frozenset[str] | None:
    """Tell the GPUs that a job's device cgroup allows; one that may use all may just not be confined."""
    minors = minors_allowed(trace.devices) if trace.devices else None
    cut = {one.gpu for one in question.slices}
    if minors is None or len(minors) >= len(question.gpus) or cut:
        return None
    found = frozenset(gpu.uuid for gpu in question.gpus if gpu.minor in {str(minor) for minor in minors})
    return found if len(found) == len(minors) else None


def _host(proc: Path) -> str:
    """Give the host's short name."""
    try:
        return (proc / "sys/kernel/hostname").read_text(errors="replace").strip().partition(".")[0]
    except OSError:
        return ""


def _user(uid: str) -> str:
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError, OverflowError):
        return uid
