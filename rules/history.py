"""What a condition was on one GPU over the last while: a bit for each interval, true, false, or not known.

The intervals of a window are those that end in (now - window, now], as a range of PromQL has them. A window
of an hour is a number of 360 bits: to move on by an interval is a shift, to ask is a mask.
"""

from array import array

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
    """What is kept of a condition on a GPU: bits of when it held and when it was known not to.

    `stays` and `leaves` are the same by the limit for closing; they count while the rule's finding is open.
    """

    __slots__ = ("growth", "leaves", "no", "stays", "yes")

    def __init__(self, grown_slots: int) -> None:
        self.yes = self.no = self.stays = self.leaves = 0
        self.growth = Growth(grown_slots) if grown_slots else None
