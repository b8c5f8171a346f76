"""The fields that come in one batch: number → what the simulated driver says, each for itself."""

from collections.abc import Callable, Mapping
from functools import partial
from struct import Struct
from typing import NamedTuple

from agent.simulated.calling import INVALID, OK, REFUSED, Argument, Look, plain, raw
from agent.simulated.defects import Defects
from agent.simulated.integrals import (
    below_base_ns,
    energy_mj,
    instant_power_mw,
    mean_power_mw,
    nothing,
    throttle_ns,
)
from agent.simulated.phases import SECOND_US
from agent.simulated.work import PER_MILLE, Work

TYPE_UINT, TYPE_ULONG_LONG, TYPE_INT = 1, 3, 5
ALL_LINKS = 0xFFFFFFFF
SCOPE_GPU, SCOPE_MEMORY = 0, 2

_ASKED = Struct("II")
_ENTRY = Struct("IIqqii")
_VALUES = {TYPE_UINT: Struct("I4x"), TYPE_ULONG_LONG: Struct("Q"), TYPE_INT: Struct("i4x")}


class Field(NamedTuple):
    """How a field is told: the type of its value, the capability it needs besides its own, the value.

    The value is that of a scope: None where the field has no such scope.
    """

    value_type: int
    word: str
    value: Callable[[Look, int], int | None]


def _told(look: Look, number: int, scope: int) -> tuple[int, int] | None:
    """Return type and value of a field, None where the driver does not tell it."""
    field = FIELDS.get(number)
    if field is None or f"field:{number}" in look.refused or (field.word and field.word in look.refused):
        return None
    value = field.value(look, scope)
    return None if value is None else (field.value_type, value)


def field_values(look: Look, count: Argument, values: Argument) -> int:
    """Fill every entry on its own: one that is refused does not hinder the others."""
    if plain(count) < 1:
        return INVALID
    size = _ENTRY.size + 8
    entries = raw(values, size * plain(count))
    for at in range(0, size * plain(count), size):
        number, scope = _ASKED.unpack_from(entries, at)
        told = _told(look, number, scope)
        value_type, value = told or (TYPE_ULONG_LONG, 0)
        code = REFUSED if told is None else OK
        _ENTRY.pack_into(entries, at, number, scope, look.at_us, 0, value_type, code)
        _VALUES[value_type].pack_into(entries, at + _ENTRY.size, value)
    return OK


# Of the whole GPU


def _whole(value_type: int, value: Callable[[Look], int], word: str = "") -> Field:
    return Field(value_type, word, lambda look, scope: None if scope else value(look))


def _limit(look: Look) -> int:
    return look.simulation.model.limit_watts * 1_000


def _margin(threshold: str, look: Look) -> int:
    """Return where a threshold stands on the scale of the margin, which is 0 at the operating maximum."""
    model = look.simulation.model
    return model.operating_max_celsius - int(getattr(model, threshold))


def _memory_celsius(look: Look) -> int:
    return round(look.simulation.memory_temperature_celsius(look.gpu, look.at_us))


def _power(window_us: int, gpu_power_mw: Callable[[Look], int], look: Look, scope: int) -> int | None:
    """Return the power of the GPU, or of its memory over a window: only some models tell that."""
    idle_mw, traffic_mw = look.simulation.model.memory_milliwatts
    if scope == SCOPE_GPU:
        return gpu_power_mw(look)
    if scope != SCOPE_MEMORY or not idle_mw:
        return None
    end_us = look.at_us if window_us > 1 else look.at_us + 1
    before = look.simulation.work(look.gpu, end_us - window_us).dram
    after = look.simulation.work(look.gpu, end_us).dram
    return idle_mw + round(traffic_mw * (after - before) / (PER_MILLE * window_us))


_GAUGES: Mapping[int, Field] = {
    82: _whole(TYPE_UINT, _memory_celsius),
    185: Field(TYPE_UINT, "", partial(_power, SECOND_US, mean_power_mw)),
    186: Field(TYPE_UINT, "", partial(_power, 1, instant_power_mw)),
    187: _whole(TYPE_UINT, lambda look: look.simulation.model.limit_min_watts * 1_000),
    188: _whole(TYPE_UINT, _limit),
    189: _whole(TYPE_UINT, _limit),
    190: _whole(TYPE_UINT, _limit),
    192: _whole(TYPE_UINT, _limit),
    193: _whole(TYPE_INT, partial(_margin, "shutdown_celsius")),
    194: _whole(TYPE_INT, partial(_margin, "slowdown_celsius")),
    195: _whole(TYPE_INT, nothing),
    196: _whole(TYPE_INT, partial(_margin, "operating_max_celsius")),
}


def _throttle(reason: str) -> Field:
    return _whole(TYPE_ULONG_LONG, partial(throttle_ns, reason))


_COUNTERS: Mapping[int, Field] = {
    74: _throttle("power_cap"),
    75: _throttle("sw_thermal"),
    76: _throttle("sync_boost"),
    77: _whole(TYPE_ULONG_LONG, nothing),
    78: _whole(TYPE_ULONG_LONG, nothing),
    79: _throttle("reliability"),
    80: _whole(TYPE_ULONG_LONG, below_base_ns),
    81: _whole(TYPE_ULONG_LONG, below_base_ns),
    83: _whole(TYPE_ULONG_LONG, energy_mj, "energy"),
    191: _whole(TYPE_ULONG_LONG, energy_mj, "energy"),
    269: _throttle("sw_thermal"),
    270: _throttle("hw_thermal"),
    271: _throttle("power_brake"),
}


# Errors


def _of(value: Callable[[Defects], int]) -> Callable[[Look], int]:
    return lambda look: int(value(look.simulation.defects(look.gpu, look.at_us)))


def _errors(value: Callable[[Defects], int]) -> Field:
    return _whole(TYPE_ULONG_LONG, _of(value))


def _flag(value: Callable[[Defects], int]) -> Field:
    return _whole(TYPE_UINT, _of(value))


def _ecc(value: Callable[[Defects], int]) -> Field:
    """Make a field that nothing is told of while ECC is off."""

    def told(look: Look, scope: int) -> int | None:
        defects = look.simulation.defects(look.gpu, look.at_us)
        return None if scope or not defects.ecc_on else value(defects)

    return Field(TYPE_ULONG_LONG, "", told)


_ECC: Mapping[int, Field] = {
    1: _flag(lambda defects: defects.ecc_on),
    2: _flag(lambda defects: defects.ecc_on),
    3: _ecc(lambda defects: defects.ecc_corrected + defects.sram_corrected),
    4: _ecc(lambda defects: defects.ecc_uncorrected + defects.sram_uncorrected),
    5: _ecc(lambda defects: defects.ecc_corrected + defects.sram_corrected + defects.earlier_corrected),
    6: _ecc(lambda defects: defects.ecc_uncorrected + defects.sram_uncorrected + defects.earlier_uncorrected),
    **{number: _ecc(lambda _: 0) for number in range(7, 29)},
    9: _ecc(lambda defects: defects.sram_corrected),
    10: _ecc(lambda defects: defects.sram_uncorrected),
    11: _ecc(lambda defects: defects.ecc_corrected),
    12: _ecc(lambda defects: defects.ecc_uncorrected),
    20: _ecc(lambda defects: defects.sram_corrected),
    21: _ecc(lambda defects: defects.sram_uncorrected),
    22: _ecc(lambda defects: defects.ecc_corrected + defects.earlier_corrected),
    23: _ecc(lambda defects: defects.ecc_uncorrected + defects.earlier_uncorrected),
}
"""Totals, then by place: all but L2 and device memory never have an error."""

_HEALTH: Mapping[int, Field] = {
    29: _errors(lambda defects: defects.retired_single_bit),
    30: _errors(lambda defects: defects.retired_double_bit),
    31: _flag(lambda defects: defects.retirement_pending),
    92: _flag(lambda defects: defects.retirement_pending and not defects.retired_double_bit),
    93: _flag(lambda defects: defects.retirement_pending and defects.retired_double_bit > 0),
    94: _errors(lambda defects: defects.pcie_replays),
    95: _errors(lambda _: 0),
    142: _errors(lambda defects: defects.remapped_corrected),
    143: _errors(lambda defects: defects.remapped_uncorrected),
    144: _flag(lambda defects: defects.remap_pending),
    145: _flag(lambda defects: defects.remap_failed),
    169: _errors(lambda _: 0),
    173: _errors(lambda defects: defects.pcie_correctable),
    **{number: _errors(lambda _: 0) for number in (*range(174, 179), 181, 182)},
    179: _errors(lambda defects: defects.pcie_non_fatal),
    180: _errors(lambda defects: defects.pcie_fatal),
    230: _flag(lambda defects: defects.recovery_action),
}


# NVLink


def _link_kib(total: Callable[[Work], int], look: Look, scope: int) -> int | None:
    """Return what went over a link, or over all: links carry equal shares, which add up to the total."""
    links = look.simulation.model.links
    kib = total(look.simulation.work(look.gpu, look.at_us)) // 1_024
    if scope == ALL_LINKS:
        return kib
    return kib // links + (scope < kib % links) if scope < links else None


def _with_protocol(payload: int) -> int:
    """Add to the bytes of data those of headers and flow control: one flit in seventeen."""
    return payload + payload // 16


def _traffic(total: Callable[[Work], int]) -> Field:
    return Field(TYPE_ULONG_LONG, "nvlink", partial(_link_kib, total))


def _of_link(value_type: int, value: Callable[[Look, int], int]) -> Field:
    def told(look: Look, scope: int) -> int | None:
        return int(value(look, scope)) if scope < look.simulation.model.links else None

    return Field(value_type, "nvlink", told)


def _link_errors(errors: Callable[[Defects], int]) -> Field:
    def told(look: Look, scope: int) -> int:
        defects = look.simulation.defects(look.gpu, look.at_us)
        return errors(defects) if scope == defects.faulty_link else 0

    return _of_link(TYPE_ULONG_LONG, told)


def _all_link_errors(errors: Callable[[Defects], int]) -> Field:
    return _errors(errors)._replace(word="nvlink")


def _is_up(look: Look, link: int) -> int:
    return link not in look.simulation.defects(look.gpu, look.at_us).links_down


_NVLINK: Mapping[int, Field] = {
    38: _all_link_errors(lambda defects: defects.link_crc),
    45: _all_link_errors(lambda defects: defects.link_crc),
    52: _all_link_errors(lambda defects: defects.link_replays),
    59: _all_link_errors(lambda defects: defects.link_recoveries),
    90: _whole(TYPE_UINT, lambda look: look.simulation.model.link_mbps, "nvlink"),
    91: _whole(TYPE_UINT, lambda look: look.simulation.model.links, "nvlink"),
    138: _traffic(lambda work: work.nvlink_tx_bytes),
    139: _traffic(lambda work: work.nvlink_rx_bytes),
    140: _traffic(lambda work: _with_protocol(work.nvlink_tx_bytes)),
    141: _traffic(lambda work: _with_protocol(work.nvlink_rx_bytes)),
    160: _all_link_errors(lambda _: 0),
    161: _link_errors(lambda defects: defects.link_replays),
    162: _link_errors(lambda defects: defects.link_recoveries),
    163: _link_errors(lambda defects: defects.link_crc),
    164: _of_link(TYPE_UINT, lambda look, _: look.simulation.model.link_mbps),
    165: _of_link(TYPE_UINT, _is_up),
    167: _of_link(TYPE_UINT, lambda _look, _link: 0),
}

FIELDS: Mapping[int, Field] = {**_GAUGES, **_COUNTERS, **_ECC, **_HEALTH, **_NVLINK}
"""Number of a field → how it is told."""
