"""What the simulated driver answers to calls about one GPU: rows of a table, each a view of the truth."""

from collections.abc import Callable, Mapping

from agent.simulated.calling import (
    INVALID,
    OK,
    REFUSED,
    WRONG_VERSION,
    Argument,
    Look,
    plain,
    put_number,
    target,
)
from agent.simulated.fields import field_values
from agent.simulated.health import HEALTH_CALLS
from agent.simulated.identity import IDENTITY_CALLS
from agent.simulated.integrals import energy, power_limit, power_usage, samples, utilization, violation
from agent.simulated.models import KEPT_BAR1_BYTES
from agent.simulated.parts import fan_ratio
from agent.simulated.portrait import performance_state
from agent.simulated.processes import PROCESS_CALLS

MEMORY_V2, TEMPERATURE_V1, MARGIN_V1 = 0x2000028, 0x100000C, 0x1000008

IDLE_BIT = 0x1
REASON_BITS = {
    "power_cap": 0x4,
    "sync_boost": 0x10,
    "sw_thermal": 0x20,
    "hw_thermal": 0x48,
    "power_brake": 0x88,
    "reliability": 0x400,
}


# Heat and clocks


def _celsius(look: Look) -> int:
    return round(look.simulation.temperature_celsius(look.gpu, look.at_us))


def _temperature(look: Look, sensor: Argument, out: Argument) -> int:
    return INVALID if plain(sensor) else put_number(_celsius(look), out)


def _temperature_v(look: Look, out: Argument) -> int:
    asked = target(out)
    if asked.version != TEMPERATURE_V1:
        return WRONG_VERSION
    if asked.sensorType:
        return INVALID
    asked.temperature = _celsius(look)
    return OK


def _threshold(look: Look, kind: Argument, out: Argument) -> int:
    model = look.simulation.model
    known = {
        0: model.shutdown_celsius,
        1: model.slowdown_celsius,
        2: model.memory_max_celsius,
        3: model.operating_max_celsius,
    }
    celsius = known.get(plain(kind), 0)
    return put_number(celsius, out) if celsius else REFUSED


def _margin(look: Look, out: Argument) -> int:
    """Answer how far the core is from where clocks are lowered; below 0 beyond it."""
    asked = target(out)
    if asked.version != MARGIN_V1:
        return WRONG_VERSION
    asked.marginTemperature = look.simulation.model.operating_max_celsius - _celsius(look)
    return OK


def _clock(look: Look, kind: Argument, out: Argument) -> int:
    memory_mhz = look.simulation.model.memory_clock_mhz
    core_mhz = round(look.simulation.clock_hertz(look.gpu, look.at_us) / 1e6)
    return _by_kind(kind, core_mhz, memory_mhz, out)


def _max_clock(look: Look, kind: Argument, out: Argument) -> int:
    model = look.simulation.model
    return _by_kind(kind, model.sm_clock_max_mhz, model.memory_clock_mhz, out)


def _by_kind(kind: Argument, core_mhz: int, memory_mhz: int, out: Argument) -> int:
    clocks = {0: core_mhz, 1: core_mhz, 2: memory_mhz, 3: core_mhz}
    return put_number(clocks[plain(kind)], out) if plain(kind) in clocks else INVALID


def _performance_state(look: Look, out: Argument) -> int:
    return put_number(performance_state(look.simulation.phase(look.gpu, look.at_us)), out)


def _event_reasons(look: Look, out: Argument) -> int:
    bits = 0
    for reason in look.simulation.throttles_at(look.gpu, look.at_us):
        bits |= REASON_BITS[reason]
    idle = not bits and not look.simulation.busy_at(look.gpu, look.at_us)
    return put_number(IDLE_BIT if idle else bits, out)


def _fans(_look: Look, out: Argument) -> int:
    return put_number(1, out)


def _fan_speed(look: Look, fan: Argument, out: Argument) -> int:
    if plain(fan):
        return INVALID
    stopped = look.simulation.defects(look.gpu, look.at_us).fan_stopped
    return put_number(0 if stopped else round(100 * fan_ratio(_celsius(look))), out)


# Memory


def _memory(look: Look, out: Argument) -> int:
    """Answer as the old call does, which counts as used what the driver keeps."""
    model, memory = look.simulation.model, target(out)
    memory.total = model.memory_total_bytes
    memory.used = look.simulation.memory_used_bytes(look.gpu, look.at_us) + model.memory_reserved_bytes
    memory.free = memory.total - memory.used
    return OK


def _memory_v2(look: Look, out: Argument) -> int:
    model, memory = look.simulation.model, target(out)
    if memory.version != MEMORY_V2:
        return WRONG_VERSION
    memory.total = model.memory_total_bytes
    memory.reserved = model.memory_reserved_bytes
    memory.used = look.simulation.memory_used_bytes(look.gpu, look.at_us)
    memory.free = memory.total - memory.reserved - memory.used
    return OK


def _bar1(look: Look, out: Argument) -> int:
    memory = target(out)
    memory.bar1Total = look.simulation.model.bar1_bytes
    memory.bar1Used = KEPT_BAR1_BYTES
    memory.bar1Free = memory.bar1Total - memory.bar1Used
    return OK


DEVICE_CALLS: Mapping[str, tuple[str, Callable[..., int]]] = {
    **IDENTITY_CALLS,
    **HEALTH_CALLS,
    **PROCESS_CALLS,
    "nvmlDeviceGetFieldValues": ("fields", field_values),
    "nvmlDeviceGetTotalEnergyConsumption": ("energy", energy),
    "nvmlDeviceGetPowerUsage": ("power_usage", power_usage),
    "nvmlDeviceGetEnforcedPowerLimit": ("power_limit", power_limit),
    "nvmlDeviceGetSamples": ("samples", samples),
    "nvmlDeviceGetUtilizationRates": ("utilization", utilization),
    "nvmlDeviceGetTemperature": ("temperature", _temperature),
    "nvmlDeviceGetTemperatureV": ("temperature_v", _temperature_v),
    "nvmlDeviceGetTemperatureThreshold": ("threshold", _threshold),
    "nvmlDeviceGetMarginTemperature": ("margin", _margin),
    "nvmlDeviceGetMemoryInfo": ("memory", _memory),
    "nvmlDeviceGetMemoryInfo_v2": ("memory_v2", _memory_v2),
    "nvmlDeviceGetBAR1MemoryInfo": ("bar1", _bar1),
    "nvmlDeviceGetClockInfo": ("clock", _clock),
    "nvmlDeviceGetMaxClockInfo": ("max_clock", _max_clock),
    "nvmlDeviceGetCurrentClocksEventReasons": ("event_reasons", _event_reasons),
    "nvmlDeviceGetPerformanceState": ("performance_state", _performance_state),
    "nvmlDeviceGetViolationStatus": ("violation", violation),
    "nvmlDeviceGetNumFans": ("fan", _fans),
    "nvmlDeviceGetFanSpeed_v2": ("fan", _fan_speed),
}
"""Function → the capability it needs, and what it does."""
