"""One probe process, as its parent holds it: pipes, the cell, and an end without force.

A process that hangs in the driver can't be killed, and trying to has frozen GPUs. So a child is asked to end
by closing its input and by SIGTERM, and if it does not, it is left alone.
"""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from agent.cell import NO_GPU, Cell, InCall
from agent.errors import FrameError
from agent.frames import LENGTH_BYTES, MAX_BYTES, Frame, decode
from agent.mission import Mission

MOST_WORDS_BYTES = 4096


def command(mission: Mission) -> list[str]:
    """Give the command that starts a probe: our own interpreter and module."""
    return [sys.executable, "-m", "agent.probe", mission.encode()]


class Child:
    """A probe that was started. Raises OSError when there is no process to be had."""

    def __init__(
        self, mission: Callable[[int], Mission], make: Callable[[Mission], Sequence[str]] = command
    ) -> None:
        self._cell = Cell()
        self.started = time.monotonic()
        self._buffer = bytearray()
        self._suspected: tuple[InCall, float] | None = None
        # A pipe or our own standard error would be held open by a probe that is stuck, for ever.
        self._errors = os.memfd_create("gputally-probe-errors")
        fcntl.fcntl(self._errors, fcntl.F_SETFL, os.O_APPEND)
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                list(make(mission(self._cell.descriptor))),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
                pass_fds=(self._cell.descriptor,),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        except OSError:
            self._cell.close()
            os.close(self._errors)
            raise
        self.out = self._process.stdout.fileno() if self._process.stdout else -1
        os.set_blocking(self.out, False)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def read(self) -> bool:
        """Take what waits in the pipe, without waiting for more; False when the child closed it."""
        try:
            data = os.read(self.out, 1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._buffer += data
        return bool(data)

    def frame(self) -> Frame | None:
        """Give the next whole frame that was read. Raises FrameError for what is none."""
        if len(self._buffer) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:LENGTH_BYTES])
        if length > MAX_BYTES:
            raise FrameError(f"it announced a frame of {length} bytes")
        if len(self._buffer) < LENGTH_BYTES + length:
            return None
        body = bytes(self._buffer[LENGTH_BYTES : LENGTH_BYTES + length])
        del self._buffer[: LENGTH_BYTES + length]
        return decode(body)

    def order(self, text: str) -> None:
        """Tell the probe to do something."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.write(f"{text}\n".encode())
                self._process.stdin.flush()

    def beat_seconds(self) -> float:
        """Tell when the probe polled last, by the monotonic clock; 0 for never."""
        return self._cell.beat_ns() / 1e9

    def in_call(self) -> InCall | None:
        """Tell the driver call that is in progress."""
        return self._cell.read()

    def hangs(self, limit_seconds: float, sure_seconds: float) -> InCall | None:
        """Tell the call on a GPU that lasts longer than it may.

        It must still be the same one a little later: when the whole machine stood still, nobody hangs.
        """
        call, now = self._cell.read(), time.monotonic()
        if call is None or call.gpu == NO_GPU or now - call.since_ns / 1e9 < limit_seconds:
            self._suspected = None
        elif self._suspected is None or self._suspected[0] != call:
            self._suspected = call, now
        elif now - self._suspected[1] >= sure_seconds:
            return call
        return None

    def judge_in(self, limit_seconds: float, sure_seconds: float) -> float:
        """Give the seconds until `hangs` may have a new answer."""
        if self._suspected:
            return sure_seconds
        call = self._cell.read()
        if call is None or call.gpu == NO_GPU:
            return limit_seconds
        return max(0.01, limit_seconds - (time.monotonic() - call.since_ns / 1e9))

    def dismiss(self) -> None:
        """Close the input, so that the probe ends by itself."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def end(self, patience_seconds: float) -> int | None:
        """Ask the probe to end, in two ways; give its exit code, or None when it goes on all the same."""
        self.dismiss()
        if self._process.stdout:
            with contextlib.suppress(OSError):
                self._process.stdout.close()
        for ask in (None, self._process.terminate):
            if ask:
                ask()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(patience_seconds)
        return None

    def last_words(self) -> str:
        """Give the last line that the probe, or the driver in it, wrote to standard error."""
        with contextlib.suppress(OSError):
            size = os.fstat(self._errors).st_size
            lines = os.pread(self._errors, MOST_WORDS_BYTES, max(0, size - MOST_WORDS_BYTES)).splitlines()
            words = [line for line in lines if line.strip()]
            return words[-1].decode("utf-8", "replace").strip() if words else ""
        return ""

    def forget(self) -> None:
        """Leave a probe that hangs to itself for good, as the parent's own end comes."""
        self._process.returncode = self._process.returncode or 0  # else subprocess warns that it still runs

    def ended(self) -> bool:
        """Tell whether the process is gone, and reap it."""
        if self._process.poll() is None:
            return False
        with contextlib.suppress(OSError, ValueError):
            self._cell.close()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1
        return True
