"""What faults do to calls on GPUs, and to opening the library.

A GPU that hangs keeps the calling thread until the fault is over, as the kernel would: no signal reaches it.
"""

import os
import signal
from collections.abc import Callable
from threading import Event

from agent.simulated.calling import LOST, OK
from agent.simulated.faults import NODE, Faults

DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, RESET_REQUIRED, LIBRARY_MISMATCH = 9, 12, 16, 18

STEP_SECONDS = 0.05
"""How long a blocked call waits before it looks again whether it is free."""

_GONE = {"lost": LOST, "removed": LOST, "reset_required": RESET_REQUIRED}
_SHUT = {"nolibrary": LIBRARY_NOT_FOUND, "mismatch": LIBRARY_MISMATCH, "unloaded": DRIVER_NOT_LOADED}

Wait = Callable[[float], object]
"""Waits so many seconds. Tests let virtual time pass instead."""


def pause(seconds: float) -> None:
    """Wait in real time."""
    Event().wait(seconds)


class Failing:
    """Faults as calls meet them. `stuck` counts the calls that hang now."""

    def __init__(self, faults: Faults, now_us: Callable[[], int], wait: Wait) -> None:
        self.stuck = 0
        self._faults = faults
        self._now_us = now_us
        self._wait = wait

    def opening(self) -> int:
        """Return the code of an attempt to initialise the library."""
        at_us = self._now_us()
        return next((code for kind, code in _SHUT.items() if self._faults.now(kind, NODE, at_us)), OK)

    def unloaded(self, opened_us: int) -> bool:
        """Tell whether the driver went away since the library was initialised."""
        return self._faults.since("unloaded", NODE, opened_us, self._now_us())

    def strike(self, gpu: int) -> None:
        """Let a call on a GPU hang, be slow, or be the end of the process."""
        at_us = self._now_us()
        if self._faults.now("hang", gpu, at_us):
            self._hang(gpu)
        slow = self._faults.now("slowcalls", gpu, at_us)
        if slow:
            self._wait(slow.numbers[0] / 1_000)
        if self._faults.now("crash", gpu, at_us):
            os.kill(os.getpid(), signal.SIGSEGV)

    def gone(self, gpu: int, opened_us: int) -> int:
        """Return the code with which a GPU no longer answers handles of a library opened then."""
        at_us = self._now_us()
        for kind, code in _GONE.items():
            if self._faults.since(kind, gpu, opened_us, at_us):
                return code
        return OK

    def present(self, count: int) -> tuple[int, ...]:
        """Return the places of the GPUs that are plugged in, by index."""
        at_us = self._now_us()
        return tuple(gpu for gpu in range(count) if not self._faults.now("removed", gpu, at_us))

    def forbidden(self, gpu: int) -> bool:
        """Tell whether the GPU may not be opened."""
        return self._faults.now("forbidden", gpu, self._now_us()) is not None

    def pause(self, seconds: float) -> None:
        """Wait on behalf of a call. While another hangs no signal may end the process by this thread."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() if self.stuck else ())
        try:
            self._wait(seconds)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _hang(self, gpu: int) -> None:
        self.stuck += 1
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while self._faults.now("hang", gpu, self._now_us()):
                self._wait(STEP_SECONDS)
        finally:
            self.stuck -= 1
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
