"""Makes the hours of a store, which are nearly right, agree with the accounts, which are exact.

Each state of each group is brought to what the accounts say of it over the window. What is then missing in an
hour from the time of its GPUs is unknown: a node that vanished says nothing of its hours.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.tally import HOUR_MS
from agent.tick import State
from reports.facts import HourSum
from reports.gathered import Gathered
from reports.sections import Group
from reports.sums import Amounts


def settled(told: Iterable[HourSum], gathered: Gathered, pools: Mapping[str, str]) -> tuple[HourSum, ...]:
    """Give hours whose states sum to the time of the GPUs of each group, to within a rounding of ms."""
    seconds: defaultdict[tuple[Group, State], dict[int, int]] = defaultdict(dict)
    busy: defaultdict[Group, Counter[int]] = defaultdict(Counter)
    for hour_ms, group, state, amounts in told:
        if amounts.elapsed_ms:
            seconds[group, state][hour_ms] = amounts.elapsed_ms
        busy[group][hour_ms] += amounts.busy_us
    exact = _exact(gathered, pools)
    owed = _owed(gathered, pools)
    found: dict[tuple[int, Group, State], Amounts] = {}
    left = Counter(owed)
    for (group, state), hours in sorted(seconds.items()):
        if state is State.UNKNOWN:
            continue
        factor = exact[group, state].elapsed_ms / sum(hours.values())
        for hour_ms, elapsed_ms in hours.items():
            part_ms = min(round(elapsed_ms * factor), left[hour_ms, group])
            left[hour_ms, group] -= part_ms
            if part_ms:
                found[hour_ms, group, state] = Amounts(elapsed_ms=part_ms)
    for (hour_ms, group), missing_ms in left.items():
        if missing_ms:
            found[hour_ms, group, State.UNKNOWN] = Amounts(elapsed_ms=missing_ms)
    _add_busy(found, busy, exact)
    return tuple(
        HourSum(*key, amounts) for key, amounts in sorted(found.items(), key=lambda pair: str(pair[0]))
    )


def _exact(gathered: Gathered, pools: Mapping[str, str]) -> defaultdict[tuple[Group, State], Amounts]:
    found: defaultdict[tuple[Group, State], Amounts] = defaultdict(Amounts)
    for row in gathered.rows:
        group = Group(pools.get(row.node, ""), gathered.identities[row.uuid].model)
        found[group, row.state] += row.amounts
    return found


def _owed(gathered: Gathered, pools: Mapping[str, str]) -> dict[tuple[int, Group], int]:
    """Tell how much time GPUs of each group were there in each hour."""
    found: Counter[tuple[int, Group]] = Counter()
    times: Counter[tuple[Group, int, int]] = Counter()
    for one in gathered.stretches:
        group = Group(pools.get(one.node, ""), gathered.identities[one.uuid].model)
        times[group, one.start_ms, one.end_ms] += 1
    for (group, start_ms, end_ms), count in times.items():
        for hour_ms in range(start_ms // HOUR_MS * HOUR_MS, end_ms, HOUR_MS):
            part_ms = min(end_ms, hour_ms + HOUR_MS) - max(start_ms, hour_ms)
            found[hour_ms, group] += count * part_ms
    return found


def _add_busy(
    found: dict[tuple[int, Group, State], Amounts],
    busy: Mapping[Group, Mapping[int, int]],
    exact: Mapping[tuple[Group, State], Amounts],
) -> None:
    """Enter busy time as active: it is that of the accounts, in the shape that the store told."""
    for group, hours in busy.items():
        whole = sum((exact[group, state] for state in State if (group, state) in exact), Amounts())
        told = sum(hours.values())
        seen = whole.busy_seen_ms / max(1, whole.elapsed_ms)
        for hour_ms, micros in hours.items():
            key = hour_ms, group, State.ACTIVE
            if told and key in found:
                found[key] = replace(found[key], busy_us=round(micros * whole.busy_us / told))
        for key in [key for key in found if key[1] == group and key[2] is not State.UNKNOWN]:
            found[key] = replace(found[key], busy_seen_ms=round(found[key].elapsed_ms * seen))
