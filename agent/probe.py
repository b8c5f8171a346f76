"""The probe: the child process that alone loads NVML. It is disposable.

It writes frames to standard output and reads orders, one per line, from standard input: `admit INDEX` takes
in a GPU that was hung. When its parent closes that, or dies, the probe ends. Whatever the driver prints goes
to standard error.
"""

import os
import select
import sys
from collections import deque
from collections.abc import Sequence

from agent.cell import Cell
from agent.clock import SystemClock
from agent.errors import NvmlUnavailable
from agent.frames import Absent, Alive, Frame, encode
from agent.mission import mission_of
from agent.nvml import Nvml
from agent.sampler import Sampler

ABSENT_EXIT = 3


class _Orders:
    """Reads orders from standard input while the sampler waits."""

    def __init__(self) -> None:
        self.waiting: deque[str] = deque()
        self._rest = b""

    def idle(self, seconds: float) -> bool:
        """Wait; False as soon as the parent closed its end."""
        readable, _, _ = select.select([0], [], [], seconds)
        if not readable:
            return True
        data = os.read(0, 4096)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.waiting.extend(line.decode("ascii", "replace") for line in lines)
        return bool(data)


def _send(out: int, frame: Frame) -> None:
    data = encode(frame)
    while data:
        data = data[os.write(out, data) :]


def main(arguments: Sequence[str]) -> int:
    """Run a probe on the mission that is its only argument."""
    mission = mission_of(arguments[0])
    out = os.dup(1)
    os.dup2(2, 1)
    orders = _Orders()
    clock = SystemClock(orders.idle)
    if mission.simulation:
        from agent.simulator import simulate  # noqa: PLC0415  a real node never loads it

        simulate(mission.simulation)
    cell = Cell(mission.cell)
    nvml, heard = Nvml(cell), False
    sampler = Sampler(nvml, clock, mission.settings, mission.node, mission.shunned)
    try:
        for tick in sampler.ticks():
            cell.beat(clock.monotonic_ns())
            if tick is not None or not heard:  # later signs of life are in the cell, and wake nobody
                _send(out, tick or Alive())
                heard = True
            while orders.waiting:
                _obey(orders.waiting.popleft(), sampler)
    except NvmlUnavailable as error:
        _send(out, Absent(str(error)))
        return ABSENT_EXIT
    except BrokenPipeError:
        return 0
    sampler.close()
    return 0


def _obey(order: str, sampler: Sampler) -> None:
    verb, _, what = order.partition(" ")
    if verb == "admit" and what.isdecimal():
        sampler.admit(int(what))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(0)
