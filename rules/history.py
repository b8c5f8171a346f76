"""What a condition was on one GPU over the last while: a bit for each interval, true, false, or not known.

The intervals of a window are those that end in (now - window, now], as a range of PromQL has them. A window
of an hour is a number of 360 bits: to move on by an interval is a shift, to ask is a mask.
"""

from collections import deque


class Bits:
    """The last intervals of one condition; `slots` is how many of them are kept."""

    __slots__ = ("_mask", "no", "yes")

    def __init__(self, slots: int) -> None:
        self._mask = (1 << slots) - 1
        self.yes = 0
        self.no = 0

    def add(self, steps: int, holds: bool | None) -> None:  # noqa: FBT001  of three values
        """Move on by so many intervals; of the last of them it is known whether it held."""
        self.yes = self.yes << steps & self._mask
        self.no = self.no << steps & self._mask
        if holds is None:
            return
        if holds:
            self.yes |= 1
        else:
            self.no |= 1


class Growth:
    """How much a counter grew in a window, by the differences of what was read in it."""

    __slots__ = ("_at", "_grown", "_last", "_slots", "_sum")

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._at = 0
        self._last: float | None = None
        self._grown: deque[tuple[int, float]] = deque()
        self._sum = 0.0

    def add(self, steps: int, value: float | None) -> float | None:
        """Move on by so many intervals and take a value; give the growth, None where none was ever read."""
        self._at += steps
        while self._grown and self._grown[0][0] <= self._at - self._slots:
            self._sum -= self._grown.popleft()[1]
        if not self._grown:
            self._sum = 0.0  # no rounding is carried on
        if value is not None:
            if self._last is not None and value > self._last:
                self._grown.append((self._at, value - self._last))
                self._sum += value - self._last
            self._last = value
        return None if self._last is None else self._sum
