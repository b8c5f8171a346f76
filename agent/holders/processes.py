"""Who holds each GPU, by the processes on it: user and command of each pid, asked once and remembered."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import psutil

from agent.states import UNATTRIBUTED, at_work
from agent.tick import Hold, Holder, Process, Reading, Workload

LONGEST_COMMAND = 60
_HOSTILE = re.compile(r"[^\x20-\x7e]+")


class Person(NamedTuple):
    """Whose process it is and what it runs; the command is short and holds printable ASCII only."""

    user: str
    command: str


Ask = Callable[[int], Person | None]


def person_of(pid: int) -> Person | None:
    """Ask the host about a process; None when it is gone or hidden."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Person(process.username(), short_command(process.cmdline() or [process.name()]))
    except (psutil.Error, OSError, KeyError):
        return None


def short_command(words: Sequence[str]) -> str:
    """Shorten a command line to the program and its first argument, or its module, if that is no option.

    Longer ones hold secrets and change with every run.
    """
    told = [word.rsplit("/", 1)[-1] for word in words[:3]]
    kept = 3 if told[1:2] == ["-m"] else 1 if "".join(told[1:2]).startswith("-") else 2
    return _HOSTILE.sub("?", " ".join(told[:kept]))[:LONGEST_COMMAND]


class ProcessHolders:
    """Names the holders of GPUs from the processes that the driver lists.

    A user's processes of the same command are one holder. A pid that left the list is forgotten, so that a
    later process of the same number is asked about anew.
    """

    def __init__(self, workload: Workload, ask: Ask = person_of) -> None:
        self._workload = workload
        self._ask = ask
        self._known: dict[int, Holder] = {}

    def holds(self, readings: Iterable[Reading]) -> Mapping[str, tuple[Hold, ...]]:
        """Give the holds by UUID of every GPU that has processes."""
        found = {reading.uuid: self._on(work) for reading in readings if (work := at_work(reading))}
        listed = {one.pid for reading in readings for one in at_work(reading)}
        self._known = {pid: holder for pid, holder in self._known.items() if pid in listed}
        return found

    def _on(self, processes: Iterable[Process]) -> tuple[Hold, ...]:
        return tuple(Hold(holder) for holder in dict.fromkeys(self._holder(one.pid) for one in processes))

    def _holder(self, pid: int) -> Holder:
        if pid not in self._known:
            person = self._ask(pid)
            name = person.command if person else "process that is gone or hidden"
            user = _HOSTILE.sub("?", person.user) if person else ""
            self._known[pid] = Holder(
                kind="process", name=name, owner=user or UNATTRIBUTED, user=user, workload=self._workload
            )
        return self._known[pid]
