"""What is judged from one reading alone."""

import pytest

from agent.tick import Reading, Tick, reading_of
from rules.modes import PERSISTENCE_OFF, judge

START_MS, END_MS = 1_767_657_590_000, 1_767_657_600_000


def tick(*readings: Reading) -> Tick:
    """Give a tick of these readings."""
    return Tick(node="hall2-n017", start_ms=START_MS, end_ms=END_MS, readings=readings)


@pytest.mark.parametrize(("flag", "found"), [(0.0, 1), (1.0, 0), (None, 0)])
def test_persistence_mode_off_is_a_finding(flag: float | None, found: int) -> None:
    """Off is a finding; on is none, and neither is a device that does not say."""
    reading = reading_of("GPU-1", START_MS, END_MS, {"persistence_mode_flag": flag})
    assert len(list(judge(tick(reading)))) == found


def test_a_finding_says_where_and_what_to_do() -> None:
    """It names the GPU, begins with the interval's end, and ends with an action."""
    off = reading_of("GPU-2", START_MS, END_MS, {"persistence_mode_flag": 0.0})
    on = reading_of("GPU-1", START_MS, END_MS, {"persistence_mode_flag": 1.0})
    (finding,) = judge(tick(on, off))
    assert (finding.rule, finding.uuid, finding.opened_ms) == (PERSISTENCE_OFF, "GPU-2", END_MS)
    assert finding.node == "hall2-n017"
    assert "nvidia-persistenced" in finding.action
