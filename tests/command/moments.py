"""Moments of faults that a test chooses as it goes, so that no fault waits for a clock or is missed."""

import math
import time
from pathlib import Path

_FIRST = 9_000_000_000
"""Moments in the text of a fault are seconds from here on; none is ever reached by itself."""

PATCH = f"""
from pathlib import Path
from agent.simulated.faults import NEVER_US, Fault

def _chosen(raw):
    def when_us(fault):
        at_us = raw.__get__(fault)
        if {_FIRST}_000_000 <= at_us < NEVER_US:
            try:
                return int(Path(__file__).with_name(f"moment-{{at_us // 1_000_000 - {_FIRST}}}").read_text())
            except FileNotFoundError:
                pass
        return at_us
    return property(when_us, raw.__set__)

Fault.start_us, Fault.end_us = _chosen(Fault.start_us), _chosen(Fault.end_us)
"""
"""Lets the agent and its probes read the chosen moments from files beside the journal."""


def moment(number: int) -> int:
    """Write a moment into the text of a fault; those with lower numbers come first."""
    return _FIRST + number


def happen(folder: Path, number: int) -> int:
    """Let a moment come; give the whole second, soon, at which it does."""
    at = math.ceil(time.time() + 0.5)
    whole = folder / f"moment-{number}.new"
    whole.write_text(f"{at}000000", encoding="ascii")
    whole.rename(folder / f"moment-{number}")
    return at
