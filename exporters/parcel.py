"""A batch on its way to a store: in parts, where it is too large or a part of it is refused.

Parts go in the order of their ticks, and a tick is settled when its last part is. What was settled stays so
when the store goes away in the middle: a bad row in a batch is found also by way of a line that often breaks.
"""

from exporters.past import TickRow
from exporters.rows import Row
from exporters.settle import Outcome

MOST_HALVINGS = 200
"""So often is one batch cut to find its bad rows; what is in parts then is refused by the part."""

Batch = list[tuple[TickRow, list[Row]]]


class Parcel:
    """A batch, and what is left of it. `is_live` says that it is of the newest ticks.

    `refused` counts what was refused of ticks that are not settled as a whole, `refusal` says why.
    """

    def __init__(self, batch: Batch, *, is_live: bool) -> None:
        self.is_live = is_live
        self.refused = 0
        self.refusal = ""
        self._left = [batch]  # the next one is last
        self._halvings = MOST_HALVINGS

    @property
    def part(self) -> Batch:
        """What is to be sent next; empty when all is settled."""
        return self._left[-1] if self._left else []

    @property
    def rows(self) -> list[Row]:
        """The rows of that."""
        return [row for _, several in self.part for row in several]

    def halve(self) -> bool:
        """Cut the next part in two, between ticks, or between the rows of one; False for a single row."""
        part = self.part
        if len(part) > 1:
            middle = len(part) // 2
            self._left[-1:] = [part[middle:], part[:middle]]
            return True
        ((tick, rows),) = part
        middle = len(rows) // 2
        if middle:
            self._left[-1:] = [[(tick, rows[middle:])], [(tick, rows[:middle])]]
        return middle > 0

    def search(self, outcome: Outcome) -> bool:
        """Cut the next part, which was refused, to find what is bad in it; False when that makes no sense.

        Rows of one tick are of one time: where the time is what is bad, all of them are.
        """
        if self._halvings <= 0 or (outcome.of_time and len(self.part) <= 1):
            return False
        self._halvings -= 1
        return self.halve()

    def settle(self) -> tuple[int, TickRow | None]:
        """Put the next part away; give how many ticks are whole by that, and the last of them."""
        part = self._left.pop()
        rest = self.part
        whole = [tick for tick, _ in part if not rest or tick.id != rest[0][0].id]
        return len(whole), whole[-1] if whole else None
