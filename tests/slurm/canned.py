"""What Slurm's commands print, without a Slurm: in the words of 22.05 and of 25.05."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.holders.contract import WorldError
from agent.programs import Done

NODE_TEXT = (
    "NodeName={node} Arch=x86_64 CoresPerSocket=64 CPUAlloc=2 CPUEfctv=256 CPUTot=256 CPULoad=0.37"
    " AvailableFeatures=(null) ActiveFeatures=(null) Gres={gres} GresDrain=N/A GresUsed={used}"
    " NodeAddr={node} NodeHostName={node} Version=22.05.8 OS=Linux 6.1.0 #1 SMP @0  RealMemory=1"
    " Sockets=2 Boards=1 State={state} ThreadsPerCore=2 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A"
    " Partitions=night  BootTime=2026-11-23T01:42:45 CfgTRES=cpu=256,mem=1M AllocTRES=cpu=2{reason}\n"
)
HEAD = """\
JobId={number}{array} JobName={title}
   UserId={user}(1001) GroupId={user}(1001) MCS_label=N/A
   Priority=4294901759 Nice=0 Account={account} QOS={qos}{wckey}
   JobState={state} Reason=None Dependency=(null)
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0
   SubmitTime=2026-11-23T08:07:50 EligibleTime=2026-11-23T08:07:50
   Partition={partition} AllocNode:Sid=login:17609
   ReqNodeList=(null) ExcNodeList=(null)
   NodeList={nodes}
   NumNodes=1 NumCPUs=1 NumTasks=1 CPUs/Task=1 ReqB:S:C:T=0:0:*:*
"""
TAIL = """\
   Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=*
   JOB_GRES=gpu:9
{lines}   MinCPUsNode=1 MinMemoryNode=0 MinTmpDiskNode=0
   Features=(null) DelayBoot=00:00:00
   Command=/home/someone/run
   Comment={comment}
   StdOut=/dev/null
"""
TRES = {"22.05": "   TRES=cpu=1,node=1\n", "25.05": "   ReqTRES=cpu=1,node=1\n   AllocTRES=cpu=1,node=1\n"}


@dataclass
class CannedJob:
    """A job as Slurm would tell of it; `gres` by hostlist of nodes."""

    number: int
    gres: Mapping[str, str]
    user: str = "ada"
    account: str = "physics"
    partition: str = "night"
    qos: str = "normal"
    state: str = "RUNNING"
    title: str = "train"
    comment: str = ""
    wckey: str = ""
    array: tuple[int, int] | None = None
    started: str = "2026-11-23T08:07:52"
    sluid: str = ""

    def line(self, wanted: str) -> str:
        """Print it as squeue does."""
        array, task = self.array or (self.number, "N/A")
        fields = {"A": self.number, "F": array, "K": task, "u": self.user, "a": self.account, "j": self.title}
        fields |= {"P": self.partition, "q": self.qos, "T": self.state, "S": self.started, "w": self.wckey}
        return re.sub("%([A-Za-z])", lambda found: str(fields[found[1]]), wanted) + "\n"

    def text(self, version: str) -> str:
        """Print it as scontrol does."""
        array = f" ArrayJobId={self.array[0]} ArrayTaskId={self.array[1]}" if self.array else ""
        values = {**vars(self), "array": array, "nodes": ",".join(self.gres)}
        values["wckey"] = f" WCKey={self.wckey}" if self.wckey else ""
        lines = (f"     Nodes={hosts} CPU_IDs=0-1 Mem=0 GRES={gres}\n" for hosts, gres in self.gres.items())
        return HEAD.format(**values) + TRES[version] + TAIL.format(lines="".join(lines), comment=self.comment)


@dataclass
class CannedSlurm:
    """Stands in for the commands; `asked` keeps what was run."""

    jobs: list[CannedJob] = field(default_factory=list)
    node: str = "n1"
    gres: str = "gpu:4"
    used: str = "gpu:0"
    state: str = "IDLE"
    reason: str = ""
    version: str = "22.05"
    silent: bool = False
    asked: list[str] = field(default_factory=list)

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> Done:
        """Run a command."""
        self.asked.append(" ".join(command))
        if self.silent:
            raise WorldError("scontrol did not answer within 5 s: see `scontrol ping`")
        if command[0] == "squeue":
            return self._list(command, environment["SQUEUE_FORMAT"])
        if "config" in command:
            return Done(0, "SlurmdSpoolDir          = /nonexistent/%n\n")
        if "node" in command:
            reason = f" Reason={self.reason}" if self.reason else ""
            values = {"node": self.node, "gres": self.gres, "used": self.used, "state": self.state}
            return Done(0, NODE_TEXT.format(**values, reason=reason))
        named = command[-1]
        for job in self.jobs:
            names = {str(job.number), job.sluid, "_".join(map(str, job.array or ()))}
            if named in names - {""}:
                return Done(0, job.text(self.version))
        return Done(1, "", "slurm_load_jobs error: Invalid job id specified\n")

    def _list(self, command: Sequence[str], wanted: str) -> Done:
        numbers = command[-1].split(",") if "-j" in command else None
        listed = [job for job in self.jobs if numbers is None or str(job.number) in numbers]
        if numbers and len(numbers) == 1 and not listed:
            return Done(1, "", "slurm_load_jobs error: Invalid job id specified\n")
        return Done(0, "".join(job.line(wanted) for job in listed))
