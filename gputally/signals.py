"""Signals as a running agent takes them: an end, and new settings."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Asked:
    """What signals asked for; `reader` becomes readable with each, so that waiting for it ends."""

    reader: int
    writer: int
    end: bool = False
    reload: bool = False

    def to_end(self, *_: object) -> None:
        """Ask for the end."""
        self.end = True
        self._wake()

    def to_reload(self, *_: object) -> None:
        """Ask for settings to be read again."""
        self.reload = True
        self._wake()

    def takes_reload(self) -> bool:
        """Tell whether settings shall be read again, once for all that asked so far."""
        if not self.reload:
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 4096)
        self.reload = False
        return True

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self.writer, b".")


@contextlib.contextmanager
def signals() -> Iterator[Asked]:
    """Take SIGTERM and SIGINT as an end, and SIGHUP as new settings.

    At a terminal SIGHUP says that this is gone, and is an end as well.
    """
    asked = Asked(*os.pipe())
    os.set_blocking(asked.reader, False)
    os.set_blocking(asked.writer, False)
    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    taken = {
        signal.SIGTERM: asked.to_end,
        signal.SIGINT: asked.to_end,
        signal.SIGHUP: asked.to_end if at_terminal else asked.to_reload,
    }
    before = {number: signal.signal(number, handler) for number, handler in taken.items()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(asked.reader)
        os.close(asked.writer)
