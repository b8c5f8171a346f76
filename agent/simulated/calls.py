"""What the simulated driver answers to calls about one GPU: rows of a table, each a view of the truth."""

from collections.abc import Callable, Mapping

from agent.simulated.calling import (
    INVALID,
    OK,
    REFUSED,
    TOO_SMALL,
    WRONG_VERSION,
    Argument,
    Look,
    plain,
    put_number,
    put_text,
    target,
)
from agent.simulated.integrals import energy, field_values, power_limit, power_usage, samples, utilization

MEMORY_V2, TEMPERATURE_V1 = 0x2000028, 0x100000C
NO_INSTANCE = 0xFFFFFFFF

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
    known = {0: model.shutdown_celsius, 1: model.slowdown_celsius, 3: model.operating_max_celsius}
    return put_number(known[plain(kind)], out) if plain(kind) in known else REFUSED


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
    return put_number(min(100, max(23, 23 + 2 * (_celsius(look) - 45))), out)


# Memory and processes


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


def _compute_processes(look: Look, count: Argument, buffer: Argument) -> int:
    processes = look.simulation.processes(look.gpu, look.at_us)
    room = target(count).value if buffer is not None else 0
    put_number(len(processes), count)
    if len(processes) > room:
        return TOO_SMALL
    for place, process in enumerate(processes):
        entry = target(buffer)[place]
        entry.pid = process.pid
        entry.usedGpuMemory = process.memory_bytes
        entry.gpuInstanceId = entry.computeInstanceId = NO_INSTANCE
    return OK


def _graphics_processes(_look: Look, count: Argument, _buffer: Argument) -> int:
    return put_number(0, count)


# Identity


def _identity(attribute: str) -> Callable[..., int]:
    def answer(look: Look, buffer: Argument, length: Argument) -> int:
        return put_text(getattr(look.simulation.gpu(look.gpu), attribute), buffer, length)

    return answer


def _index(look: Look, out: Argument) -> int:
    return put_number(look.gpu, out)


def _pci(look: Look, out: Argument) -> int:
    info, bus_id = target(out), look.simulation.pci_bus(look.gpu)
    info.busId = bus_id.encode()
    info.busIdLegacy = bus_id[4:].encode()
    info.domain = 0
    info.bus = int(bus_id[9:11], 16)
    info.device = 0
    info.pciDeviceId = look.simulation.model.pci_device_id
    return OK


def _persistence_mode(_look: Look, out: Argument) -> int:
    return put_number(1, out)


DEVICE_CALLS: Mapping[str, tuple[str, Callable[..., int]]] = {
    "nvmlDeviceGetIndex": ("", _index),
    "nvmlDeviceGetUUID": ("", _identity("uuid")),
    "nvmlDeviceGetName": ("", _identity("model")),
    "nvmlDeviceGetSerial": ("serial", _identity("serial")),
    "nvmlDeviceGetBoardPartNumber": ("board_part", _identity("board_part")),
    "nvmlDeviceGetVbiosVersion": ("vbios", _identity("vbios")),
    "nvmlDeviceGetPciInfo_v3": ("pci", _pci),
    "nvmlDeviceGetPersistenceMode": ("persistence_mode", _persistence_mode),
    "nvmlDeviceGetFieldValues": ("fields", field_values),
    "nvmlDeviceGetTotalEnergyConsumption": ("energy", energy),
    "nvmlDeviceGetPowerUsage": ("power_usage", power_usage),
    "nvmlDeviceGetEnforcedPowerLimit": ("power_limit", power_limit),
    "nvmlDeviceGetSamples": ("samples", samples),
    "nvmlDeviceGetUtilizationRates": ("utilization", utilization),
    "nvmlDeviceGetTemperature": ("temperature", _temperature),
    "nvmlDeviceGetTemperatureV": ("temperature_v", _temperature_v),
    "nvmlDeviceGetTemperatureThreshold": ("threshold", _threshold),
    "nvmlDeviceGetMemoryInfo": ("memory", _memory),
    "nvmlDeviceGetMemoryInfo_v2": ("memory_v2", _memory_v2),
    "nvmlDeviceGetClockInfo": ("clock", _clock),
    "nvmlDeviceGetMaxClockInfo": ("max_clock", _max_clock),
    "nvmlDeviceGetCurrentClocksEventReasons": ("event_reasons", _event_reasons),
    "nvmlDeviceGetComputeRunningProcesses_v3": ("processes", _compute_processes),
    "nvmlDeviceGetGraphicsRunningProcesses_v3": ("processes", _graphics_processes),
    "nvmlDeviceGetNumFans": ("fan", _fans),
    "nvmlDeviceGetFanSpeed_v2": ("fan", _fan_speed),
}
"""Function → the capability it needs, and what it does."""
