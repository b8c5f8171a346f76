"""Time comes in through a clock: the host's own, and one for tests that passes only when somebody waits."""

import time

import pytest

from agent.cadence import SamplerSettings
from agent.clock import Clock, SystemClock, VirtualClock
from agent.errors import SettingsError

NOON_MS = 1_767_700_800_000


def test_virtual_time_passes_only_when_somebody_waits() -> None:
    """Both clocks go on by what was waited for, and by nothing else."""
    clock = VirtualClock(NOON_MS)
    assert (clock.wall_ms(), clock.monotonic_ns()) == (NOON_MS, 0)
    assert clock.wait(1.5)
    assert (clock.wall_ms(), clock.monotonic_ns()) == (NOON_MS + 1_500, 1_500_000_000)


def test_waiting_for_the_past_takes_no_time() -> None:
    """A negative wait is none."""
    clock = VirtualClock(NOON_MS)
    clock.wait(-3)
    assert (clock.wall_ms(), clock.monotonic_ns()) == (NOON_MS, 0)


@pytest.mark.parametrize("seconds", [3_600, -3_600, 0.001])
def test_a_step_moves_the_wall_clock_alone(seconds: float) -> None:
    """As when an operator sets the time: the monotonic clock does not notice."""
    clock = VirtualClock(NOON_MS)
    clock.wait(10)
    clock.step(seconds)
    assert clock.wall_ms() == NOON_MS + 10_000 + round(seconds * 1000)
    assert clock.monotonic_ns() == 10_000_000_000


def test_a_thousand_short_waits_lose_nothing() -> None:
    """A third of a millisecond three thousand times is a second, to the microsecond."""
    clock = VirtualClock(NOON_MS)
    for _ in range(3_000):
        clock.wait(1 / 3_000)
    assert clock.monotonic_ns() == pytest.approx(1e9, abs=1_000)
    assert clock.wall_ms() == pytest.approx(NOON_MS + 1_000, abs=1)


def test_the_system_clock_is_the_hosts() -> None:
    """Wall and monotonic time lie between two looks at the host's own."""
    clock = SystemClock(lambda _: True)
    wall_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
    assert wall_ns // 1_000_000 <= clock.wall_ms() <= time.time_ns() // 1_000_000
    assert monotonic_ns <= clock.monotonic_ns() <= time.monotonic_ns()


@pytest.mark.parametrize("goes_on", [True, False])
def test_the_system_clock_waits_by_the_function_given(goes_on: bool) -> None:  # noqa: FBT001
    """It passes on for how long, never less than nothing, and whether to go on."""
    asked: list[float] = []

    def idle(seconds: float) -> bool:
        asked.append(seconds)
        return goes_on

    clock: Clock = SystemClock(idle)
    assert [clock.wait(2.5), clock.wait(-1)] == [goes_on, goes_on]
    assert asked == [2.5, 0.0]


@pytest.mark.parametrize(
    ("interval_seconds", "poll_seconds", "named"),
    [
        (0.5, 0.2, "interval_seconds"),
        (3_601, 1, "interval_seconds"),
        (float("nan"), 1, "interval_seconds"),
        (10, 0.05, "poll_seconds"),
        (10, 6, "poll_seconds"),
        (2, 3, "poll_seconds"),
        (10, float("nan"), "poll_seconds"),
    ],
)
def test_a_cadence_that_cannot_be_meant_is_refused(
    interval_seconds: float, poll_seconds: float, named: str
) -> None:
    """Too often, too rarely, or polls longer than the interval: the setting is named."""
    with pytest.raises(SettingsError, match=named):
        SamplerSettings(interval_seconds=interval_seconds, poll_seconds=poll_seconds)
