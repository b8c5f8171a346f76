"""The parent's side of the probe: starts it, reads its frames with a deadline, and replaces it.

Whatever happens to the driver happens to the probe; the parent only ever sees frames, silence or an end. A
probe that hangs in the kernel is asked to end, left alone if it cannot, and never waited for.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from agent.cadence import SETTLE_SECONDS, SamplerSettings
from agent.errors import FrameError
from agent.frames import LENGTH_BYTES, MAX_BYTES, Absent, Frame, decode
from agent.tick import Tick

FIRST_FRAME_SECONDS = 30.0
"""Without persistence mode the driver takes seconds to wake each GPU."""
SILENCE_SECONDS = 8.0
"""A stuck GSP firmware answers after 6 s; a probe silent for longer than this beyond a poll is hung."""
PATIENCE_SECONDS = 2.0
"""How long a probe may take to end once its input is closed."""
BACK_OFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Ended:
    """There is no probe now: why, and in how many seconds the next one starts."""

    reason: str
    retry_seconds: float


class Prober:
    """Keeps a probe running; `wake` is a descriptor that becomes readable when waiting shall stop."""

    def __init__(
        self, settings: SamplerSettings, node: str, simulation: str = "", wake: int | None = None
    ) -> None:
        self._settings = settings
        self._arguments = [
            sys.executable,
            "-m",
            "agent.probe",
            node,
            str(settings.interval_seconds),
            str(settings.poll_seconds),
            simulation,
        ]
        self._wake = wake
        self._child: subprocess.Popen[bytes] | None = None
        self._out = -1
        self._buffer = bytearray()
        self._failures = 0
        self._start_at = 0.0
        self._deadline = 0.0
        self._absent = ""
        self._abandoned: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int | None:
        """The probe's process id while there is one."""
        return self._child.pid if self._child else None

    def next(self, timeout_seconds: float) -> Frame | Ended | None:
        """Give the next frame, the end of a probe, or None when the time is over or `wake` was touched."""
        until = time.monotonic() + timeout_seconds
        while True:
            now = time.monotonic()
            if self._child is None:
                if now >= self._start_at:
                    failed = self._start()
                    if failed:
                        return failed
                elif not self._wait(None, min(until, self._start_at) - now) or now >= until:
                    return None
                continue
            # What waits in the pipe is read before the probe is judged: the parent may be the late one.
            came = self._frame() or self._read() or self._frame()
            if came is not None:
                return came
            if now >= self._deadline:
                return self._end(f"no sign of life for {SILENCE_SECONDS:.0f} s: a driver call hangs")
            if now >= until or not self._wait(self._out, min(until, self._deadline) - now):
                return None

    def finish(self) -> list[Tick]:
        """Let the probe end, and give what it still says: above all the interval in progress."""
        ticks: list[Tick] = []
        until = time.monotonic() + PATIENCE_SECONDS
        if self._child and self._child.stdin:
            with contextlib.suppress(OSError):
                self._child.stdin.close()
        while self._child and (left := until - time.monotonic()) > 0:
            frame = self._frame()
            if frame is None:
                self._wait(self._out, left, wakes=False)
                frame = self._read()
            if isinstance(frame, Tick):
                ticks.append(frame)
        return ticks

    def _wait(self, source: int | None, seconds: float, *, wakes: bool = True) -> bool:
        """Wait for the probe or for time; False when woken."""
        with selectors.DefaultSelector() as selector:
            if source is not None:
                selector.register(source, selectors.EVENT_READ)
            if wakes and self._wake is not None:
                selector.register(self._wake, selectors.EVENT_READ)
            events = selector.select(max(0.0, seconds))
        return all(key.fd != self._wake for key, _ in events)

    def _start(self) -> Ended | None:
        self._buffer.clear()
        self._absent = ""
        try:
            self._child = subprocess.Popen(  # noqa: S603  our own interpreter and module
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        except OSError as error:
            return self._end(f"it cannot be started: {error.strerror}")
        if self._child.stdout is not None:
            self._out = self._child.stdout.fileno()
            os.set_blocking(self._out, False)
        self._deadline = time.monotonic() + FIRST_FRAME_SECONDS
        return None

    def _read(self) -> Ended | None:
        """Take what waits in the pipe, without waiting for more."""
        try:
            data = os.read(self._out, 1 << 16)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._end(f"its pipe failed: {error.strerror}")
        if not data:
            code = self._stop()
            return self._end(self._absent or f"it ended with exit code {code}")
        self._buffer += data
        return None

    def _frame(self) -> Frame | Ended | None:
        if len(self._buffer) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:LENGTH_BYTES])
        if length > MAX_BYTES:
            return self._end(f"it announced a frame of {length} bytes")
        if len(self._buffer) < LENGTH_BYTES + length:
            return None
        body = bytes(self._buffer[LENGTH_BYTES : LENGTH_BYTES + length])
        del self._buffer[: LENGTH_BYTES + length]
        try:
            frame = decode(body)
        except FrameError as error:
            return self._end(str(error))
        self._deadline = time.monotonic() + self._settings.poll_seconds + SETTLE_SECONDS + SILENCE_SECONDS
        if isinstance(frame, Absent):
            self._absent = frame.sentence
        else:
            self._failures = 0
        return frame

    def _end(self, reason: str) -> Ended:
        self._stop()
        pause = BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS) - 1)]
        self._failures += 1
        self._start_at = time.monotonic() + pause
        return Ended(reason, pause)

    def _stop(self) -> int | None:
        """Close the probe's input, then ask, then kill; one that hangs in the kernel is left behind."""
        child, self._child = self._child, None
        if child is None:
            return None
        for pipe in (child.stdin, child.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                child.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(PATIENCE_SECONDS)
        self._abandoned = [one for one in self._abandoned if one.poll() is None] + [child]
        return None

    def close(self) -> None:
        """End the probe for good."""
        self._stop()
