"""What the simulated driver keeps over time: counters, means and rings of samples, in NVML's units.

All are differences of the simulation's exact sums, so they agree with each other.
"""

from collections.abc import Callable, Mapping
from functools import partial
from struct import Struct
from typing import NamedTuple

from agent.simulated.calling import (
    INVALID,
    NOT_FOUND,
    OK,
    REFUSED,
    Argument,
    Look,
    plain,
    put_number,
    raw,
    target,
)
from agent.simulated.phases import FIRST_REASON, REASONS, SECOND_US
from agent.simulated.portrait import MEMORY_BUSY_SHARE, below_base_us

TYPE_UINT = 1


def energy_mj(look: Look) -> int:
    """Return the energy used since the epoch."""
    return look.simulation.counters(look.gpu, look.at_us).energy_nj // 1_000_000


def mean_power_mw(look: Look) -> int:
    """Return the mean over a second: nanojoules over microseconds are milliwatts."""
    before = look.simulation.counters(look.gpu, look.at_us - SECOND_US).energy_nj
    return round((look.simulation.counters(look.gpu, look.at_us).energy_nj - before) / SECOND_US)


def instant_power_mw(look: Look) -> int:
    """Return the power drawn now."""
    before = look.simulation.counters(look.gpu, look.at_us).energy_nj
    return look.simulation.counters(look.gpu, look.at_us + 1).energy_nj - before


def power_usage(look: Look, out: Argument) -> int:
    """Answer the mean of a second where the model has one, else what is drawn now."""
    power_mw = instant_power_mw if "field:185" in look.simulation.model.refused else mean_power_mw
    return put_number(power_mw(look), out)


def energy(look: Look, out: Argument) -> int:
    """Answer the energy used since the epoch."""
    return put_number(energy_mj(look), out)


def power_limit(look: Look, out: Argument) -> int:
    """Answer the power limit that is enforced."""
    return put_number(look.simulation.model.limit_watts * 1_000, out)


# Time with clocks lowered


def throttle_ns(reason: str, look: Look) -> int:
    """Return the time since the epoch with clocks lowered for one of `REASONS`."""
    counters = look.simulation.counters(look.gpu, look.at_us)
    return counters[FIRST_REASON + REASONS.index(reason)] * 1_000


def below_base_ns(look: Look) -> int:
    """Return the time since the epoch with clocks below the base clock."""
    return below_base_us(look.simulation.counters(look.gpu, look.at_us)) * 1_000


def nothing(_look: Look) -> int:
    """Return the count of what never happens."""
    return 0


POLICIES: Mapping[int, Callable[[Look], int]] = {
    0: partial(throttle_ns, "power_cap"),
    1: partial(throttle_ns, "sw_thermal"),
    2: partial(throttle_ns, "sync_boost"),
    3: nothing,
    4: nothing,
    5: partial(throttle_ns, "reliability"),
    10: below_base_ns,
    11: below_base_ns,
}
"""Number of a policy → the nanoseconds in which it lowered the clocks. Application clocks are never set."""


def violation(look: Look, policy: Argument, out: Argument) -> int:
    """Answer for how long a policy lowered the clocks, and at what time that was so."""
    number = plain(policy)
    if number not in POLICIES:
        return INVALID
    if f"violation:{number}" in look.refused:
        return REFUSED
    answer = target(out)
    answer.referenceTime = look.at_us
    answer.violationTime = POLICIES[number](look)
    return OK


# Rings of samples


class Ring(NamedTuple):
    """A ring whose sample k covers the time from moment k-1 to moment k of a fixed grid.

    `total` gives a sum that grows by the value of a sample over its time. Sums are rounded and then
    subtracted, so that what is lost in one whole number is found in the next.
    """

    capacity: int
    per_second: int
    total: Callable[[Look, int], int]

    def moment_us(self, number: int) -> int:
        """Return when a sample ends."""
        return number * SECOND_US // self.per_second


def _busy_percent(share: float, look: Look, at_us: int) -> int:
    """Sum per cents of a sixth of a second."""
    return round(look.simulation.counters(look.gpu, at_us).busy_us * share * 6 / 10_000)


def _power_mw(look: Look, at_us: int) -> int:
    """Sum milliwatts of a tenth of a second."""
    return round(look.simulation.counters(look.gpu, at_us).energy_nj / 100_000)


def _no_use(_look: Look, _at_us: int) -> int:
    return 0


_SAMPLE = Struct("QI4x")

RINGS: Mapping[int, Ring] = {
    0: Ring(119, 10, _power_mw),
    1: Ring(72, 6, partial(_busy_percent, 1.0)),
    2: Ring(72, 6, partial(_busy_percent, MEMORY_BUSY_SHARE)),
    3: Ring(72, 6, _no_use),
    4: Ring(72, 6, _no_use),
    8: Ring(72, 6, _no_use),
    9: Ring(72, 6, _no_use),
}


def samples(look: Look, kind: Argument, seen_us: Argument, *outs: Argument) -> int:
    """Answer the samples after `seen_us`, oldest first; the capacity of the ring where no buffer is given."""
    value_type, count, buffer = outs
    ring = RINGS.get(plain(kind))
    if ring is None or f"samples:{plain(kind)}" in look.refused:
        return REFUSED
    put_number(TYPE_UINT, value_type)
    if buffer is None:
        return put_number(ring.capacity, count)
    room = target(count).value
    if not room:
        return INVALID
    newest = (look.at_us * ring.per_second + ring.per_second - 1) // SECOND_US
    oldest = max(newest - ring.capacity, plain(seen_us) * ring.per_second // SECOND_US - 1)
    fresh = [
        number
        for number in range(oldest + 1, newest + 1)
        if plain(seen_us) < ring.moment_us(number) <= look.at_us and _was_there(look, ring, number)
    ]
    told = fresh[:room]
    entries = raw(buffer, _SAMPLE.size * len(told))
    for place, number in enumerate(told):
        start_us, end_us = ring.moment_us(number - 1), ring.moment_us(number)
        value = ring.total(look, end_us) - ring.total(look, start_us)
        _SAMPLE.pack_into(
            entries, place * _SAMPLE.size, end_us, value if ring is RINGS[0] else min(100, value)
        )
    put_number(len(told), count)
    return OK if fresh else NOT_FOUND


def _was_there(look: Look, ring: Ring, number: int) -> bool:
    """Tell whether the GPU was on the bus all the time of a sample."""
    edges_us = ring.moment_us(number - 1), ring.moment_us(number)
    return not any(look.simulation.lost(look.gpu, at_us) for at_us in edges_us)


def utilization(look: Look, out: Argument) -> int:
    """Answer the mean of the last second."""
    busy = look.simulation.busy_seconds(look.gpu, look.at_us - SECOND_US, look.at_us)
    target(out).gpu = round(busy * 100)
    target(out).memory = round(busy * MEMORY_BUSY_SHARE * 100)
    return OK
