"""What is gathered of one GPU in an interval: polled gauges, and counters that are checked."""

from collections import defaultdict
from collections.abc import Mapping
from math import inf

from agent.quantities import QUANTITIES, Amount

JOULES_PER_SECOND = 20_000.0
BYTES_PER_SECOND = 20e12
SECONDS_PER_SECOND = 1.05
_FASTEST = {
    "_joules_total": JOULES_PER_SECOND,
    "_bytes_total": BYTES_PER_SECOND,
    "_seconds_total": SECONDS_PER_SECOND,
}
"""By how much a counter can grow in a second; others may grow as they like."""
SLACK_SECONDS = 1.0
_FASTEST_OF = {
    name: next((fastest for end, fastest in _FASTEST.items() if name.endswith(end)), inf)
    for name, metric in QUANTITIES.items()
    if metric.kind == "counter"
}


class Polls:
    """The gauges polled in one interval."""

    def __init__(self) -> None:
        self._values: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: Amount) -> None:
        """Keep one value; None is no value."""
        if value is not None:
            self._values[name].append(value)

    def add_all(self, gauges: Mapping[str, Amount]) -> None:
        """Keep one value of each."""
        values = self._values
        for name, value in gauges.items():
            if value is not None:
                values[name].append(value)

    def mean(self, name: str) -> Amount:
        """Give the mean of the values, None where there are none."""
        values = self._values.get(name)
        return sum(values) / len(values) if values else None

    def largest(self, name: str) -> Amount:
        """Give the largest value, None where there are none."""
        return max(self._values.get(name, ()), default=None)

    def least(self, name: str) -> Amount:
        """Give the least value, None where there are none."""
        return min(self._values.get(name, ()), default=None)

    def last(self, name: str) -> Amount:
        """Give the latest value, None where there are none."""
        values = self._values.get(name)
        return values[-1] if values else None


class Counters:
    """The counters of one GPU; `values` are those that were believed when they were last read.

    One that goes back, or grows faster than it can, is not believed at first. If the next value goes on from
    there, the driver did begin to count anew, and it is.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self._last: dict[str, tuple[float, int]] = {}
        self._doubted: dict[str, tuple[float, int]] = {}

    def take(self, read: Mapping[str, float], at_ns: int) -> list[str]:
        """Take what was read at a monotonic moment; name what is not believed."""
        self.values = values = dict(read)
        last = self._last
        for name, value in read.items():
            before = last.get(name)
            if before and before[0] == value and not self._doubted:  # as most of them nearly always are
                last[name] = value, at_ns
            elif not self._believe(name, value, at_ns):
                del values[name]
        return [name for name in read if name not in values] if len(values) < len(read) else []

    def _believe(self, name: str, value: float, at_ns: int) -> bool:
        if name not in _FASTEST_OF:
            return True
        befores = [one for one in (self._last.get(name), self._doubted.pop(name, None)) if one]
        if befores and not any(_follows(name, value - old, at_ns - since_ns) for old, since_ns in befores):
            self._doubted[name] = value, at_ns
            return False
        self._last[name] = value, at_ns
        return True


def _follows(name: str, growth: float, length_ns: int) -> bool:
    return 0 <= growth <= _FASTEST_OF[name] * (length_ns / 1e9 + SLACK_SECONDS)
