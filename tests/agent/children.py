"""Children of a prober in tests: what stands in for a probe, and what became of each."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from agent.mission import Mission

LENIENT_SECONDS = 60.0
"""Longer than anything here takes anywhere; only a failure waits so long."""

Command = Callable[[Mission], Sequence[str]]

_PRELUDE = """\
import os, select, signal, sys, time
say = lambda data: os.write(1, data)
def beat():
    from agent.cell import Cell
    global cell
    cell = Cell({cell})
    cell.beat(time.monotonic_ns())
def enter(gpu, function="nvmlDeviceGetFieldValues"):
    from agent.cell import Cell, begin, padded
    global cell
    cell = Cell({cell})
    begin(cell.memory, time.monotonic_ns(), gpu, padded(function))
"""


def stand_in(code: str) -> Command:
    """Give the command of a child that is no probe.

    `say` writes bytes to the parent, `enter` says in the cell that a call on a GPU begins,
    `beat` that it polls.
    """
    return lambda mission: [sys.executable, "-c", _PRELUDE.format(cell=mission.cell) + code]


def lives(pid: int) -> bool:
    """Tell whether a process goes on; one that waits to be reaped does not."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def children() -> set[int]:
    """List the children of this process that go on."""
    return {child.pid for child in psutil.Process().children() if lives(child.pid)}


class Kept:
    """All children since it was made. In the end none may live but those that the test has named."""

    def __init__(self) -> None:
        self.missions: list[Mission] = []
        self._before = children()
        self._may_live: set[int] = set()

    def noting(self, make: Command) -> Command:
        """Give a command that notes what each child was told."""

        def noted(mission: Mission) -> Sequence[str]:
            self.missions.append(mission)
            return make(mission)

        return noted

    def may_live(self, *pids: int) -> None:
        """Name children that are left behind, as they hang."""
        self._may_live.update(pids)

    def new(self) -> set[int]:
        """List the children that live."""
        return children() - self._before

    def end(self) -> None:
        """Kill those that were left behind, each by its id; fail if there are others."""
        left = self.new()
        for pid in left:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                process.kill()
                process.wait(LENIENT_SECONDS)
        assert left <= self._may_live
