"""Makes hours that are nearly right agree with the accounts, which are exact.

Those of a store are made by its own functions; those of several journals hold GPUs twice that were carried
from one to another, and nothing of nodes that vanished. Each state of each group is brought to what the
accounts say of it over the window. What is then missing in an hour from the time of its GPUs is unknown.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.tally import HOUR_MS
from agent.tick import State
from reports.facts import HourSum
from reports.sections import Group
from reports.sources.gathered import Gathered
from reports.sums import Amounts

_Hours = dict[tuple[int, Group, State], Amounts]


def settled(told: Iterable[HourSum], gathered: Gathered, pools: Mapping[str, str]) -> tuple[HourSum, ...]:
    """Give hours whose states sum to the time of the GPUs of each group, in the shape of `told`."""
    shape: _Hours = defaultdict(Amounts)
    for hour_ms, group, state, amounts in told:
        shape[hour_ms, group, state] += amounts
    exact = _exact(gathered, pools)
    left = _owed(gathered, pools)
    lengths: Counter[tuple[Group, State]] = Counter()
    for (_, group, state), amounts in shape.items():
        lengths[group, state] += amounts.elapsed_ms
    found: _Hours = {}
    for (hour_ms, group, state), amounts in sorted(shape.items()):
        if state is State.UNKNOWN or not lengths[group, state]:
            continue
        whole_ms = exact[group, state].elapsed_ms
        part_ms = round(amounts.elapsed_ms * whole_ms / lengths[group, state])
        part_ms = min(part_ms, left[hour_ms, group])
        left[hour_ms, group] -= part_ms
        if part_ms:
            found[hour_ms, group, state] = replace(amounts, elapsed_ms=part_ms)
    for (hour_ms, group), missing_ms in left.items():
        if missing_ms:
            found[hour_ms, group, State.UNKNOWN] = Amounts(elapsed_ms=missing_ms)
    return tuple(HourSum(*key, amounts) for key, amounts in sorted(_with_the_rest(found, exact).items()))


def _exact(gathered: Gathered, pools: Mapping[str, str]) -> defaultdict[tuple[Group, State], Amounts]:
    found: defaultdict[tuple[Group, State], Amounts] = defaultdict(Amounts)
    for row in gathered.rows:
        group = Group(pools.get(row.node, ""), gathered.identities[row.uuid].model)
        found[group, row.state] += row.amounts
    return found


def _owed(gathered: Gathered, pools: Mapping[str, str]) -> Counter[tuple[int, Group]]:
    """Tell how much time GPUs of each group were there in each hour."""
    times: Counter[tuple[Group, int, int]] = Counter()
    for one in gathered.stretches:
        group = Group(pools.get(one.node, ""), gathered.identities[one.uuid].model)
        times[group, one.start_ms, one.end_ms] += 1
    found: Counter[tuple[int, Group]] = Counter()
    for (group, start_ms, end_ms), count in times.items():
        for hour_ms in range(start_ms // HOUR_MS * HOUR_MS, end_ms, HOUR_MS):
            part_ms = min(end_ms, hour_ms + HOUR_MS) - max(start_ms, hour_ms)
            found[hour_ms, group] += count * part_ms
    return found


def _with_the_rest(found: _Hours, exact: Mapping[tuple[Group, State], Amounts]) -> _Hours:
    """Bring busy time and energy of each group to what the accounts say, and the time that they were seen."""
    told: defaultdict[Group, Amounts] = defaultdict(Amounts)
    whole: defaultdict[Group, Amounts] = defaultdict(Amounts)
    for (_, group, state), amounts in found.items():
        if state is not State.UNKNOWN:
            told[group] += amounts
    for (group, _), amounts in exact.items():
        whole[group] += amounts
    result = dict(found)
    for key, amounts in found.items():
        group, state = key[1], key[2]
        if state is not State.UNKNOWN:
            of_state = exact[group, state]
            seen = amounts.elapsed_ms / of_state.elapsed_ms
            result[key] = Amounts(
                elapsed_ms=amounts.elapsed_ms,
                busy_us=_part(amounts.busy_us, whole[group].busy_us, told[group].busy_us),
                busy_seen_ms=min(amounts.elapsed_ms, round(of_state.busy_seen_ms * seen)),
                energy_mj=_part(amounts.energy_mj, whole[group].energy_mj, told[group].energy_mj),
                energy_seen_ms=min(amounts.elapsed_ms, round(of_state.energy_seen_ms * seen)),
            )
    return result


def _part(part: int, whole: int, told: int) -> int:
    return round(part * whole / told) if told else 0
