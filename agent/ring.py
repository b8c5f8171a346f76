"""From a driver's ring of samples to an exact mean over an interval.

A sample at t is the mean over the time since the sample before it. So the ring is a step function, and the
part of it that lies in [start, end) is summed; steps at the edges are cut in proportion. Where samples were
lost, nothing is assumed: that time is not covered.
"""

from itertools import pairwise

USUAL_PERIOD_US = 1_000_000 / 6
HOLE = 1.5
"""A distance of more than this many periods between samples means that some were lost."""
CLOCK_TOLERANCE_US = 60_000_000
"""Timestamps further than this from the wall clock count on another clock."""
SINCE_EPOCH_US = 10**15
"""Timestamps below this, in 2001, cannot count from the epoch."""


class Ring:
    """The samples of one kind of one GPU that an interval still needs; times in µs.

    `unit` is what one of the driver's whole numbers is worth, `most` the largest that is believed; without
    them values are whole per cents and come out as ratios.
    """

    def __init__(self, unit: float = 0.01, most: int = 100) -> None:
        self._unit = unit
        self._most = most
        self.last_us = 0
        self._steps: list[tuple[float, float, float]] = []
        self._period_us = USUAL_PERIOD_US
        self._offset_us: int | None = None

    def feed(self, samples: list[tuple[int, int]], now_us: int) -> int:
        """Take samples (time, whole number); give how many were not believed."""
        refused = 0
        if samples:
            self._tell_clock(now_us - samples[-1][0], since_epoch=samples[-1][0] > SINCE_EPOCH_US)
        times = [at_us for at_us, _ in samples]
        if len(times) > 3:  # noqa: PLR2004  fewer do not make a median
            steps = sorted(later - sooner for sooner, later in pairwise(sorted(times)))
            self._period_us = steps[len(steps) // 2] or USUAL_PERIOD_US  # the module for medians takes 1 MB
        for at_us, number in sorted(samples):
            if at_us <= self.last_us:
                continue
            wall_us = at_us + (self._offset_us or 0)
            if wall_us > now_us + 1_000_000:
                refused += 1
                continue
            if not 0 <= number <= self._most:
                refused += 1
                self.last_us = at_us
                continue
            since_us = at_us - self.last_us
            length_us = since_us if self.last_us and since_us <= HOLE * self._period_us else self._period_us
            self._steps.append((wall_us - length_us, wall_us, number * self._unit))
            self.last_us = at_us
        return refused

    def _tell_clock(self, behind_us: int, *, since_epoch: bool) -> None:
        """Find on which clock samples are dated: most on the wall clock, some on one since boot.

        A newest sample from long ago may also mean that the ring stood still. So a date since the epoch is
        held to be of another clock only when samples that are new are old again.
        """
        if behind_us < -CLOCK_TOLERANCE_US:
            return  # no clock runs ahead of time
        if abs(behind_us) < CLOCK_TOLERANCE_US:
            self._offset_us = 0
        elif self._offset_us is None:
            self._offset_us = 0 if since_epoch else behind_us
        elif self._offset_us == 0:
            self._offset_us = behind_us

    def sum(self, start_us: float, end_us: float) -> tuple[float, float]:
        """Give the integral over [start, end) and the time covered, both in µs."""
        integral = covered = 0.0
        for begin_us, until_us, value in self._steps:
            length_us = min(until_us, end_us) - max(begin_us, start_us)
            if length_us > 0:
                integral += value * length_us
                covered += length_us
        return integral, covered

    def largest(self, start_us: float, end_us: float) -> float | None:
        """Give the largest sample of [start, end); None where there is none."""
        inside = [value for begin, until, value in self._steps if until > start_us and begin < end_us]
        return max(inside, default=None)

    def forget(self, before_us: float) -> None:
        """Drop what lies wholly before a moment."""
        self._steps = [step for step in self._steps if step[1] > before_us]
