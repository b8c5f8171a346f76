"""The probe: the child process that alone loads NVML. It is disposable.

It writes frames to standard output and waits on standard input: when its parent closes that, or dies, the
probe ends. Whatever the driver prints goes to standard error.
"""

import os
import select
import sys

from agent.cadence import SamplerSettings
from agent.clock import SystemClock
from agent.errors import NvmlUnavailable
from agent.frames import Absent, Alive, Frame, encode
from agent.nvml import Nvml
from agent.sampler import Sampler

ABSENT_EXIT = 3


def _idle(seconds: float) -> bool:
    """Wait; False as soon as the parent closed its end."""
    readable, _, _ = select.select([0], [], [], seconds)
    return not (readable and not os.read(0, 1))


def _send(out: int, frame: Frame) -> None:
    data = encode(frame)
    while data:
        data = data[os.write(out, data) :]


def main(arguments: list[str]) -> int:
    """Run a probe: node, interval seconds, poll seconds and, if any, what to simulate."""
    node, interval, poll, simulation = arguments
    out = os.dup(1)
    os.dup2(2, 1)
    clock = SystemClock(_idle)
    if simulation:
        from agent.simulator import simulate  # noqa: PLC0415  a real node never loads it

        simulate(simulation)
    settings = SamplerSettings(interval_seconds=float(interval), poll_seconds=float(poll))
    nvml = Nvml()
    try:
        for tick in Sampler(nvml, clock, settings, node).ticks():
            _send(out, tick or Alive())
    except NvmlUnavailable as error:
        _send(out, Absent(str(error)))
        return ABSENT_EXIT
    except BrokenPipeError:
        return 0
    nvml.close()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(0)
