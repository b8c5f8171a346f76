"""What a condition was on one GPU over the last while: in which intervals it held, and when it last did not.

The intervals of a window are those that end in (now - window, now], as a range of PromQL has them. A window
of an hour is a number of 360 bits: to move on by an interval is a shift, to ask is a mask.
"""

from array import array

NEVER = -(1 << 30)
"""Longer ago than any window."""
_NOTHING = bytes(8)


class Growth:
    """How much a counter grew in a window of so many intervals, by the differences of what was read in it."""

    __slots__ = ("_grown", "_last", "_slot", "_slots")

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._slot = 0
        self._last: float | None = None
        self._grown: array[float] | None = None  # by interval; only while there is some

    def add(self, slot: int, value: float | None) -> float | None:
        """Take the value of an interval, by its number; give the growth, None where none was ever read."""
        last, grown = self._last, self._grown
        if grown is not None:
            for gone in range(max(self._slot, slot - self._slots) + 1, slot + 1):
                grown[gone % self._slots] = 0.0
        self._slot = slot
        if value is not None:
            if last is not None and value > last:
                if grown is None:
                    grown = self._grown = array("d", _NOTHING * self._slots)
                grown[slot % self._slots] += value - last
            self._last = value
        if grown is None:
            return None if self._last is None else 0.0
        total = sum(grown)
        if not total:
            self._grown = None
        return total


class Track:
    """What is kept of a condition on a GPU; intervals go by their numbers.

    `yes` has a bit for each interval of the window in which it held, but none from before it last failed: as
    long as that is in the window nothing opens, and later these are out of it as well. `no_slot` is when it
    failed last; `stay_slot`, which counts while the rule's finding is open, is when it last held by the limit
    for closing.
    """

    __slots__ = ("growth", "no_slot", "stay_slot", "yes")

    def __init__(self, grown_slots: int) -> None:
        self.yes = 0
        self.no_slot = self.stay_slot = NEVER
        self.growth = Growth(grown_slots) if grown_slots else None
