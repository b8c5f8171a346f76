"""Reads what Slurm's commands print about jobs and nodes.

Job names and comments are their users' choice and may be anything, also a copy of what Slurm prints. Whose a
job is, is taken from between marks that nobody can guess; and from the text of a job, only what follows
its exact name is read, up to the first list of its nodes. A text that is not as expected tells nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.holders.contract import Claimant
from agent.holders.names import printable
from agent.holders.slurm_gres import Gres, gres_of, includes

FIELDS = "AFKuaPqTSwj"
"""What squeue is asked for: job, array, task, user, account, partition, QOS, state, start, WCKey, name."""
LONGEST_NAME = 200
LONGEST_REASON = 100
NONE = ("(null)", "N/A", "")
HOLDING = frozenset(
    ("CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING", "COMPLETING")
)
"""States in which a job has its GPUs."""
STOPPED = frozenset(
    (
        *("BLOCKED", "DOWN", "DRAIN", "DRAINED", "DRAINING", "ERROR", "FAIL", "FAILING", "FUTURE", "INVAL"),
        *("INVALID_REG", "MAINT", "NOT_RESPONDING", "POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN"),
        *("REBOOT_ISSUED", "UNKNOWN"),
    )
)
"""States of a node, base or flag, in which it gets no work; RESERVED is not among them."""
SUFFIXES = {"*": "NOT_RESPONDING", "$": "MAINT"}
"""What a character behind a state says; the others tell of power or plans."""

_HEAD = r"JobId=%s((?: (?!JobName=)[A-Za-z]+=\S*)*) JobName="
_NODES = re.compile(r"^   JOB_GRES=.*\n((?:     Nodes=.*(?:\n|$))+)", re.MULTILINE)
_NODE_LINE = re.compile(r"     Nodes=(\S+) CPU_IDs=\S* Mem=\d+ GRES=(\S*)\s*")
_SLUID = re.compile(r"(?:^ *| )SLUID=(s[0-9A-Z]{13})(?= |$)", re.MULTILINE)
_STATE = re.compile(r" State=(\S+)")
_REASON = re.compile(r" Reason=(.*?)(?:\s+\[([^\s\[\]]*)@\d{4}-\d\d-\d\dT[^\]]*\]|\n|$)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as Slurm lists it; `title` and `wckey` are as its user chose them, byte by byte."""

    number: str
    array: str = ""
    user: str = ""
    account: str = ""
    partition: str = ""
    qos: str = ""
    state: str = ""
    started: str = ""
    wckey: str = ""
    title: str = ""

    @property
    def holds(self) -> bool:
        """Say whether it is in a state in which it has its GPUs."""
        return self.state in HOLDING

    @property
    def claimant(self) -> Claimant:
        """Give the job as a claimant, with nothing in it that could do harm."""
        return Claimant(
            kind="slurm",
            name=self.array or self.number,
            user=self.user,
            account=self.account,
            partition=self.partition,
            qos=self.qos,
            title=printable(self.title, LONGEST_NAME),
        )


class Detail(NamedTuple):
    """What the text of a job tells: the GPUs on this node by Slurm's indexes, and its SLUID."""

    indexes: frozenset[int]
    sluid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as Slurm shows it. `has` and `used` are its GPUs; `drained` says why it gets no work."""

    has: Gres = field(default_factory=Gres)
    used: Gres = field(default_factory=Gres)
    drained: str = ""


def jobs_of(text: str, mark: str) -> dict[str, Job]:
    """Read what squeue printed with `mark` around and between all fields, by the jobs' numbers."""
    found = {}
    parts = text.split(mark)
    width = (
        len(FIELDS) + 1
    )  # the end of a line stands between the last mark of a job and the next one's first
    for start in range(1, len(parts) - len(FIELDS), width):
        number, array, task, *names, wckey, title = parts[start : start + len(FIELDS)]
        if not (number.isascii() and number.isdigit()):
            continue
        user, account, partition, qos, state, started = (
            printable("" if name in NONE else name, LONGEST_NAME) for name in names
        )
        found[number] = Job(
            number=number,
            array=f"{array}_{task}" if task.isascii() and task.isdigit() and array.isdigit() else "",
            user=user,
            account=account,
            partition=partition,
            qos=qos,
            state=state,
            started=started,
            wckey=wckey,
            title=title,
        )
    return found


def detail_of(text: str, job: Job, node: str) -> Detail | None:
    """Read the text of a job; None when it is not, word for word, of the job as it was listed."""
    head = re.match(_HEAD % job.number, text)
    if not head:
        return None
    rest = _without(text[head.end() :], job.title)
    if rest is None or not re.match(r"(?: [A-Za-z]+=\S*)*\n   UserId=", rest):
        return None
    before, key, after = rest.partition(" WCKey=")
    if key and "\n   JOB_GRES=" not in before:
        kept = _without(after, job.wckey)
        if kept is None:
            return None
        rest = before + kept
    block = _NODES.search(rest)
    sluid = _SLUID.search(head[1] + "\n" + (rest[: block.start()] if block else ""))
    indexes: frozenset[int] = frozenset()
    for line in block[1].split("\n") if block else ():
        told = _NODE_LINE.fullmatch(line)
        if told and includes(told[1], node):
            indexes |= gres_of(told[2]).indexes or frozenset()
    return Detail(indexes, sluid[1] if sluid else "")


def _without(text: str, chosen: str) -> str | None:
    """Take what a user chose from the front of a text; None when something else stands there."""
    if not chosen.strip() and text.startswith("(null)"):
        chosen = "(null)"
    return text[len(chosen) :] if text.startswith(chosen) else None


def number_of(text: str) -> str:
    """Give the number of the job that a text is about; empty when it is about none."""
    found = re.match(r"JobId=(\d{1,20}) ", text)
    return found[1] if found else ""


def node_of(text: str, name: str) -> Node | None:
    """Read the text of a node; None when it is about another one."""
    if not text.startswith(f"NodeName={name} "):
        return None
    line = f" {text}"
    told = {key: re.search(rf" {key}=(\S*)", line) for key in ("Gres", "GresUsed")}
    has, used = (gres_of(found[1]) if found else Gres() for found in told.values())
    state = _STATE.search(line)
    return Node(has=has, used=used, drained=_drained(state[1] if state else "", line))


def _drained(state: str, line: str) -> str:
    words = []
    for word in state.upper().split("+"):
        base = word.rstrip("*~#!%$@^-")
        words += [base, *(SUFFIXES[mark] for mark in word[len(base) :] if mark in SUFFIXES)]
    stopped = [word.lower() for word in words if word in STOPPED]
    if not stopped:
        return ""
    found = _REASON.search(line)
    reason = printable(" ".join(found[1].split()), LONGEST_REASON) if found else ""
    return f"{stopped[0]}: {reason}"[:LONGEST_REASON] if reason and reason not in NONE else stopped[0]


def known_names(job: Job, sluid: str = "") -> Mapping[str, Claimant]:
    """Give the keys that a job's processes may be found under."""
    names = (job.number, job.array, sluid)
    return {f"slurm:{name}": job.claimant for name in names if name}
