"""Progress of long work on standard error: a bar on a terminal, a line per fifth elsewhere."""

import sys
import time
from typing import TextIO

WIDTH = 30


class Progress:
    """Shows how much of `total` is done, after a time of quiet; `unit` names what is counted."""

    def __init__(
        self, what: str, total: int, unit: str, out: TextIO | None = None, *, quiet_seconds: float = 0.0
    ) -> None:
        self._what = what
        self._total = max(1, total)
        self._unit = unit
        self._out = out or sys.stderr
        self._began = time.monotonic()
        self._shown = -1
        self._quiet_seconds = quiet_seconds

    def __call__(self, done: float) -> None:
        """Show that so much is done."""
        if self._shown < 0 and time.monotonic() - self._began < self._quiet_seconds:
            return
        share = min(1.0, done / self._total)
        terminal = self._out.isatty()
        step = int(share * 100) if terminal else int(share * 5)
        if step == self._shown:
            return
        self._shown = step
        bar = "█" * int(share * WIDTH) + "░" * (WIDTH - int(share * WIDTH))
        seconds = time.monotonic() - self._began
        figures = f"{min(int(done), self._total):,} of {self._total:,} {self._unit}, {seconds:.1f} s"
        if terminal:
            self._out.write(f"\r{self._what} {bar} {share:4.0%}  {figures} ")
            if done >= self._total:
                self._out.write("\n")
        else:
            self._out.write(f"{self._what} {share:4.0%}  {figures}\n")
        self._out.flush()
