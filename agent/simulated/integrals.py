"""What the simulated driver keeps over time: counters, means and rings of samples, in NVML's units.

All are differences of the simulation's exact sums, so they agree with each other.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from agent.simulated.calling import INVALID, NOT_FOUND, OK, REFUSED, Argument, Look, plain, put_number, target
from agent.simulated.phases import FIRST_REASON, REASONS, SECOND_US
from agent.simulated.scenario import MEMORY_BUSY_SHARE

TYPE_UINT, TYPE_ULONG_LONG, TYPE_INT = 1, 3, 5


def _energy_mj(look: Look) -> int:
    return look.simulation.counters(look.gpu, look.at_us).energy_nj // 1_000_000


def _mean_power_mw(look: Look) -> int:
    """Return the mean over a second: nanojoules over microseconds are milliwatts."""
    before = look.simulation.counters(look.gpu, look.at_us - SECOND_US).energy_nj
    return round((look.simulation.counters(look.gpu, look.at_us).energy_nj - before) / SECOND_US)


def _instant_power_mw(look: Look) -> int:
    before = look.simulation.counters(look.gpu, look.at_us).energy_nj
    return look.simulation.counters(look.gpu, look.at_us + 1).energy_nj - before


def power_usage(look: Look, out: Argument) -> int:
    """Answer the mean of a second where the model has one, else what is drawn now."""
    power_mw = _instant_power_mw if "field:185" in look.simulation.model.refused else _mean_power_mw
    return put_number(power_mw(look), out)


def energy(look: Look, out: Argument) -> int:
    """Answer the energy used since the epoch."""
    return put_number(_energy_mj(look), out)


def power_limit(look: Look, out: Argument) -> int:
    """Answer the power limit that is enforced."""
    return put_number(look.simulation.model.limit_watts * 1_000, out)


# Fields


class Field(NamedTuple):
    """How a field is told: the type of its value, the capability it needs besides its own, the value."""

    value_type: int
    word: str
    value: Callable[[Look], int]


def _throttle_ns(reason: str, look: Look) -> int:
    counters = look.simulation.counters(look.gpu, look.at_us)
    return counters[FIRST_REASON + REASONS.index(reason)] * 1_000


def _throttle(reason: str) -> Field:
    return Field(TYPE_ULONG_LONG, "", partial(_throttle_ns, reason))


def _limit(look: Look) -> int:
    return look.simulation.model.limit_watts * 1_000


FIELDS: Mapping[int, Field] = {
    74: _throttle("power_cap"),
    75: _throttle("sw_thermal"),
    76: _throttle("sync_boost"),
    77: Field(TYPE_ULONG_LONG, "", lambda _: 0),
    78: Field(TYPE_ULONG_LONG, "", lambda _: 0),
    79: _throttle("reliability"),
    82: Field(TYPE_UINT, "", lambda look: round(look.simulation.memory_temperature_celsius(*look[2:]))),
    83: Field(TYPE_ULONG_LONG, "energy", _energy_mj),
    185: Field(TYPE_UINT, "", _mean_power_mw),
    186: Field(TYPE_UINT, "", _instant_power_mw),
    187: Field(TYPE_UINT, "", lambda look: look.simulation.model.limit_min_watts * 1_000),
    188: Field(TYPE_UINT, "", _limit),
    189: Field(TYPE_UINT, "", _limit),
    190: Field(TYPE_UINT, "", _limit),
    191: Field(TYPE_ULONG_LONG, "energy", _energy_mj),
    193: Field(TYPE_INT, "", lambda look: _margin(look, look.simulation.model.shutdown_celsius)),
    194: Field(TYPE_INT, "", lambda look: _margin(look, look.simulation.model.slowdown_celsius)),
    269: _throttle("sw_thermal"),
    270: _throttle("hw_thermal"),
    271: _throttle("power_brake"),
}


def _margin(look: Look, threshold_celsius: int) -> int:
    return look.simulation.model.operating_max_celsius - threshold_celsius


def field_values(look: Look, count: Argument, values: Argument) -> int:
    """Fill every entry on its own: one that is refused does not hinder the others."""
    if plain(count) < 1:
        return INVALID
    entries = target(values)
    for number in range(plain(count)):
        entry = entries[number]
        field = FIELDS.get(entry.fieldId)
        entry.timestamp = look.at_us
        entry.latencyUsec = 0
        refusals = look.refused & {f"field:{entry.fieldId}", field.word if field else ""}
        if field is None or refusals or entry.scopeId:
            entry.nvmlReturn = REFUSED
            continue
        entry.nvmlReturn = OK
        entry.valueType = field.value_type
        entry.value.ullVal = 0
        if field.value_type == TYPE_INT:
            entry.value.siVal = field.value(look)
        else:
            entry.value.ullVal = field.value(look)
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


def _nothing(_look: Look, _at_us: int) -> int:
    return 0


RINGS: Mapping[int, Ring] = {
    0: Ring(119, 10, _power_mw),
    1: Ring(72, 6, partial(_busy_percent, 1.0)),
    2: Ring(72, 6, partial(_busy_percent, MEMORY_BUSY_SHARE)),
    3: Ring(72, 6, _nothing),
    4: Ring(72, 6, _nothing),
    8: Ring(72, 6, _nothing),
    9: Ring(72, 6, _nothing),
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
    for place, number in enumerate(fresh[:room]):
        start_us, end_us = ring.moment_us(number - 1), ring.moment_us(number)
        value = ring.total(look, end_us) - ring.total(look, start_us)
        sample = target(buffer)[place]
        sample.timeStamp = end_us
        sample.sampleValue.uiVal = value if ring is RINGS[0] else min(100, value)
    put_number(min(room, len(fresh)), count)
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
