"""What a group of GPUs has, and what was held of it by the hour: can it take more, could some go back.

Only hours that lie wholly in the accounted time count, and of a group those in which it had GPUs: the pieces
of hours at the edges are left out. Held is whatever nobody else could have had: active, paused, idle, and
burn-in. Time that was not seen is not held, but it is not called spare either: what could go back is what
would have been left had all such time been held.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from agent.tally import HOUR_MS
from agent.tick import State
from reports.facts import Facts
from reports.outline import Report
from reports.sections import CapacityLine, Group
from reports.sums import HELD_BY_SOMEONE
from reports.window import Window

_OUT = (State.DOWN, State.DRAINED)


@dataclass(slots=True)
class _Hour:
    """An hour of a group, in GPU-ms."""

    owed: int = 0
    out: int = 0
    held: int = 0
    unknown: int = 0


def capacity(report: Report, facts: Facts) -> tuple[CapacityLine, ...]:
    """Give a line for each group, by pool and model; none without a whole hour."""
    by_group = _hours(facts, report.covered)
    return tuple(_line(group, by_group[group]) for group in sorted(by_group))


def whole_hour(hour_ms: int, window: Window) -> bool:
    """Tell whether an hour lies wholly in a window."""
    return window.from_ms <= hour_ms and hour_ms + HOUR_MS <= window.to_ms


def percentile(values: Sequence[int], permille: int) -> int:
    """Give the smallest of the values that at least so many thousandths of them do not exceed."""
    rank = -(-permille * len(values) // 1000)
    return sorted(values)[max(rank, 1) - 1]


def _hours(facts: Facts, window: Window) -> dict[Group, dict[int, _Hour]]:
    found: defaultdict[Group, dict[int, _Hour]] = defaultdict(dict)
    for row in facts.hours:
        if not row.amounts.elapsed_ms or not whole_hour(row.hour_ms, window):
            continue
        hour = found[row.group].setdefault(row.hour_ms, _Hour())
        elapsed_ms = row.amounts.elapsed_ms
        hour.owed += elapsed_ms
        if row.state in HELD_BY_SOMEONE:
            hour.held += elapsed_ms
        elif row.state in _OUT:
            hour.out += elapsed_ms
        elif row.state is State.UNKNOWN:
            hour.unknown += elapsed_ms
    return found


def _line(group: Group, hours: dict[int, _Hour]) -> CapacityLine:
    held = [hour.held for hour in hours.values()]
    whole_ms = len(hours) * HOUR_MS
    owed_ms = sum(hour.owed for hour in hours.values())
    usable_ms = owed_ms - sum(hour.out for hour in hours.values())
    peak = max(held)
    p95 = percentile(held, 950)
    wanted = percentile([hour.held + hour.unknown for hour in hours.values()], 995)
    return CapacityLine(
        group=group,
        gpus=owed_ms / whole_ms,
        usable=usable_ms / whole_ms,
        held_mean=sum(held) / whole_ms,
        held_p95=p95 / HOUR_MS,
        held_p99=percentile(held, 990) / HOUR_MS,
        peak=peak / HOUR_MS,
        peak_ms=min(hour_ms for hour_ms, hour in hours.items() if hour.held == peak),
        headroom=usable_ms / whole_ms - p95 / HOUR_MS,
        returnable=max(0, (usable_ms - wanted * len(hours)) // whole_ms),
    )
