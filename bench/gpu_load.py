"""Plays a known load on one GPU, in a process of its own, and tells when each kernel ran.

`python -m bench.gpu_load PCI_BUS SECONDS` writes a line of JSON when a phase begins and one when it ended.
Moments are those of the monotonic clock, which all processes of a machine share.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from agent.clock import Clock, SystemClock
from bench.gpu_cuda import MULTIPLY, SPIN, Cuda, CudaError, Kernel

HELD_BYTES = 1 << 30
WARM_SECONDS = 0.05


class Phase(NamedTuple):
    """For as long as a phase lasts: a kernel of `on_seconds`, begun every `every_seconds`.

    `share` is that of the multiprocessors which get a block. Without a kernel nothing runs.
    """

    name: str
    kernel: str = ""
    share: float = 1.0
    on_seconds: float = 0.2
    every_seconds: float = 0.2


IDLE = Phase("idle")
STEADY = Phase("steady", SPIN)
PHASES = (
    IDLE,
    STEADY,
    Phase("half of the SMs", SPIN, share=0.5),
    Phase("multiply", MULTIPLY),
    Phase("bursts", MULTIPLY, on_seconds=0.05, every_seconds=0.25),
)


class Played(NamedTuple):
    """A phase as it was: its bounds on the monotonic clock, the share of multiprocessors, its kernels."""

    name: str
    began_ns: int
    ended_ns: int
    share: float
    kernels: tuple[Kernel, ...]


class Runner(Protocol):
    """What runs kernels: `bench.gpu_cuda.Cuda`."""

    multiprocessors: int

    def run(self, name: str, blocks: int, nanoseconds: int) -> Kernel:
        """Run a kernel to its end."""


def play(runner: Runner, phase: Phase, seconds: float, clock: Clock) -> Played:
    """Play a phase for so long."""
    began_ns = clock.monotonic_ns()
    until_ns = began_ns + round(seconds * 1e9)
    blocks = max(1, round(phase.share * runner.multiprocessors))
    kernels: list[Kernel] = []
    if not phase.kernel:
        clock.wait(seconds)
        return Played(phase.name, began_ns, clock.monotonic_ns(), 0.0, ())
    next_ns = began_ns
    while next_ns + phase.on_seconds * 1e9 <= until_ns:
        clock.wait((next_ns - clock.monotonic_ns()) / 1e9)
        kernels.append(runner.run(phase.kernel, blocks, round(phase.on_seconds * 1e9)))
        next_ns = max(next_ns + round(phase.every_seconds * 1e9), clock.monotonic_ns())
    share = blocks / runner.multiprocessors
    return Played(phase.name, began_ns, clock.monotonic_ns(), share, tuple(kernels))


def lines(
    runner: Runner, phases: Sequence[Phase], seconds: float, clock: Clock
) -> Iterator[dict[str, object]]:
    """Play all phases; tell of each its beginning, then the whole of it."""
    for phase in phases:
        yield {"begins": phase.name, "at_ns": clock.monotonic_ns()}
        yield play(runner, phase, seconds, clock)._asdict()


def begun(text: str) -> dict[str, int]:
    """Read which phases began, and when on the monotonic clock."""
    told = map(json.loads, _whole(text))
    return {one["begins"]: one["at_ns"] for one in told if "begins" in one}


def played(text: str) -> list[Played]:
    """Read the phases that ended."""
    told = [one for one in map(json.loads, _whole(text)) if "kernels" in one]
    return [Played(**{**one, "kernels": tuple(Kernel(*kernel) for kernel in one["kernels"])}) for one in told]


def _whole(text: str) -> list[str]:
    """Give the lines that are written to their end."""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _idle(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def main(arguments: Sequence[str], make: Callable[[str], Cuda] = Cuda) -> int:
    """Play all phases on a GPU by its PCI bus."""
    pci_bus, seconds = arguments
    try:
        cuda = make(pci_bus)
        cuda.allocate(HELD_BYTES)
        for kernel in (SPIN, MULTIPLY):
            cuda.run(kernel, cuda.multiprocessors, round(WARM_SECONDS * 1e9))
        for line in lines(cuda, PHASES, float(seconds), SystemClock(_idle)):
            print(json.dumps(line), flush=True)
        cuda.close()
    except CudaError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
