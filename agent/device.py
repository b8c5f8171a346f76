"""One GPU: who it is, and what is asked of it while an interval runs.

NVML's units end here: watts, joules, hertz, ratios and bytes come out; None where the device would not say.
Every method raises GpuGone when the device no longer answers, NvmlUnavailable when the driver does not.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from ctypes import byref, c_uint, c_ulonglong
from typing import NamedTuple

from agent.batch import ALL_LINKS, Batch, Field
from agent.nvml import (
    NO_SUCH_FUNCTION,
    Caller,
    Margin,
    Memory,
    OldMemory,
    ProcessInfo,
    ProcessSample,
    Sample,
    Temperature,
    Utilization,
    versioned,
)
from agent.quantities import Amount
from agent.sanity import BOUNDS, PETABYTE, believed
from agent.tick import Gpu, Kind, Process

POLLED: Mapping[str, tuple[Field, ...]] = {
    "power_max_watts": (Field(186, 1e-3),),
    "power_watts": (Field(185, 1e-3), Field(186, 1e-3)),
    "memory_power_watts": (Field(185, 1e-3, 2), Field(186, 1e-3, 2)),
    "module_power_watts": (Field(185, 1e-3, 1), Field(186, 1e-3, 1)),
    "memory_temperature_celsius": (Field(82),),
}
"""Gauges that come in one call at every poll."""

COUNTED: Mapping[str, tuple[Field, ...]] = {
    "energy_joules_total": (Field(83, 1e-3),),
    "power_limit_watts": (Field(190, 1e-3),),
    "throttle_power_cap_seconds_total": (Field(74, 1e-9),),
    "throttle_sync_boost_seconds_total": (Field(76, 1e-9),),
    "throttle_board_limit_seconds_total": (Field(77, 1e-9),),
    "throttle_low_utilization_seconds_total": (Field(78, 1e-9),),
    "throttle_reliability_seconds_total": (Field(79, 1e-9),),
    "throttle_sw_thermal_seconds_total": (Field(269, 1e-9), Field(75, 1e-9)),
    "throttle_hw_thermal_seconds_total": (Field(270, 1e-9),),
    "throttle_power_brake_seconds_total": (Field(271, 1e-9),),
    "below_application_clock_seconds_total": (Field(80, 1e-9),),
    "below_base_clock_seconds_total": (Field(81, 1e-9),),
    "ecc_corrected_volatile_total": (Field(3),),
    "ecc_uncorrected_volatile_total": (Field(4),),
    "ecc_corrected_aggregate_total": (Field(5),),
    "ecc_uncorrected_aggregate_total": (Field(6),),
    "retired_pages_single_bit_total": (Field(29),),
    "retired_pages_double_bit_total": (Field(30),),
    "remapped_rows_corrected_total": (Field(142),),
    "remapped_rows_uncorrected_total": (Field(143),),
    "row_remap_pending_flag": (Field(144),),
    "row_remap_failure_flag": (Field(145),),
    "pcie_replays_total": (Field(94),),
    "nvlink_tx_bytes_total": (Field(138, 1024, ALL_LINKS), Field(202, 1, ALL_LINKS)),
    "nvlink_rx_bytes_total": (Field(139, 1024, ALL_LINKS), Field(204, 1, ALL_LINKS)),
    "nvlink_crc_flit_errors_total": (Field(38),),
    "nvlink_crc_data_errors_total": (Field(45),),
    "nvlink_replay_errors_total": (Field(52),),
    "nvlink_recovery_errors_total": (Field(59), Field(215, 1, ALL_LINKS)),
    "nvlink_ecc_errors_total": (Field(160),),
    "recovery_action_code": (Field(230),),
}
"""Counters, and what may change in an interval: in one call at its end. 75 is all thermal reasons together,
what drivers before 575 have instead of 269 and 270; 202, 204 and 215 are what Blackwell has."""

RING_ENTRIES = 256
"""More than any ring holds, so that one call fetches it all."""
_RINGS = [f"samples_{kind}" for kind in range(10)]
"""What each ring is called among refusals, by its number of nvmlSamplingType_t."""
_SAMPLE = struct.Struct("QI4x")
"""nvmlSample_t: timestamp and a value that is an unsigned int in all rings we read."""
_MEMORY = struct.Struct("I4xQQQQ")
"""nvmlMemory_v2_t: version, total, reserved, free, used."""
_TEMPERATURE = struct.Struct("IIi")
"""nvmlTemperature_v1_t: version, sensor, degrees."""
_MARGIN = struct.Struct("Ii")
"""nvmlMarginTemperature_v1_t: version, degrees."""
_PROCESS = struct.Struct("I4xQII")
"""nvmlProcessInfo_t: pid, memory, GPU instance, compute instance."""
_PROCESS_SAMPLE = struct.Struct("I4xQIIII")
"""nvmlProcessUtilizationSample_t: pid, timestamp, share of SM, memory, encoder, decoder in per cent."""
TOO_SMALL = 7
MOST_PROCESSES = 10_000
"""No GPU has more: a driver that says so is not given the memory for it."""
NOT_AVAILABLE = 2**64 - 1
"""What NVML puts where a process's memory is not known."""
NO_INSTANCE = 0xFFFFFFFF
_LISTS: Mapping[Kind, str] = {
    "compute": "nvmlDeviceGetComputeRunningProcesses",
    "graphics": "nvmlDeviceGetGraphicsRunningProcesses",
    "mps": "nvmlDeviceGetMPSComputeRunningProcesses",
}


class OnGpu(NamedTuple):
    """A process as the driver lists it, with the number of the GPU instance it runs on, if any."""

    process: Process
    instance: int | None


class Device:
    """One GPU, by an NVML handle."""

    def __init__(self, caller: Caller, gpu: Gpu) -> None:
        self.caller = caller
        self.gpu = gpu
        self.uuid = gpu.uuid
        self.polled = Batch("polled", caller, POLLED)
        self.counted = Batch("counted", caller, COUNTED)
        self._list_version = "_v2" if scrambles_v3(gpu.driver) else "_v3"
        self._memory = versioned(Memory)
        self._ask_memory = caller.prepare("memory_v2", "nvmlDeviceGetMemoryInfo_v2", byref(self._memory))
        self._temperature = versioned(Temperature)
        self._temperature.sensorType = 0
        self._ask_temperature = caller.prepare(
            "temperature_v", "nvmlDeviceGetTemperatureV", byref(self._temperature)
        )
        self._margin = versioned(Margin)
        self._ask_margin = caller.prepare(
            "temperature_margin", "nvmlDeviceGetMarginTemperature", byref(self._margin)
        )
        self._megahertz, self._ask_clock = c_uint(), dict[str, Callable[[], bool]]()
        self._samples = (Sample * RING_ENTRIES)()
        self._sample_bytes = memoryview(self._samples).cast("B")
        self._after_us, self._count = c_ulonglong(), c_uint()
        self._ask_ring = dict[int, Callable[[], bool]]()
        self._processes = (ProcessInfo * 64)()
        self._process_samples = (ProcessSample * 128)()
        self._process_sample_bytes = memoryview(self._process_samples).cast("B")
        self._ask_process_samples = caller.prepare(
            "process_samples",
            "nvmlDeviceGetProcessUtilization",
            self._process_samples,
            byref(self._count),
            self._after_us,
        )

    def amount(self, name: str, value: float) -> Amount:
        """Give a value if it can be one of this quantity; count it if not."""
        least, most = BOUNDS[name]
        if least <= value <= most:
            return float(value)
        self.caller.nvml.failed(self.uuid, name, "impossible")
        return None

    def counts_energy(self) -> bool:
        """Tell whether the device has an energy counter, as far as is known."""
        return self.counted.tells("energy_joules_total")

    def power_watts(self) -> Amount:
        """Read power now, or the mean of the last second: the driver decides by product."""
        milliwatts = self.caller.number("power_watts_now", "nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else self.amount("power_watts", milliwatts / 1000)

    def power_limit_watts(self) -> Amount:
        """Power limit in force."""
        milliwatts = self.caller.number("power_limit_now", "nvmlDeviceGetEnforcedPowerLimit")
        return None if milliwatts is None else self.amount("power_limit_watts", milliwatts / 1000)

    def temperature_celsius(self) -> Amount:
        """Core temperature now."""
        caller = self.caller
        if self._ask_temperature():
            return self.amount("temperature_celsius", _TEMPERATURE.unpack_from(self._temperature)[2])
        if "temperature_v" not in caller.refused:
            return None
        celsius = caller.number("temperature_celsius", "nvmlDeviceGetTemperature", c_uint(0))
        return None if celsius is None else self.amount("temperature_celsius", celsius)

    def temperature_margin_celsius(self) -> Amount:
        """How far the core is from where clocks are lowered, by the driver of newer products."""
        if not self._ask_margin():
            return None
        return self.amount("temperature_margin_celsius", _MARGIN.unpack_from(self._margin)[1])

    def memory_bytes(self) -> dict[str, Amount]:
        """Memory now, by quantity. Where the driver's own is not told, the used contains it."""
        reserved: int | None
        if self._ask_memory():
            _, total, reserved, free, used = _MEMORY.unpack_from(self._memory)
        elif "memory_v2" in self.caller.refused:
            answer = OldMemory()
            if not self.caller.ask("memory_used_bytes", "nvmlDeviceGetMemoryInfo", byref(answer)):
                return {}
            total, reserved, free, used = answer.total, None, answer.free, answer.used
        else:
            return {}
        if reserved is not None and max(total, reserved, free, used) <= PETABYTE:
            return {
                "memory_used_bytes": float(used),
                "memory_free_bytes": float(free),
                "memory_total_bytes": float(total),
                "memory_reserved_bytes": float(reserved),
            }
        return {
            "memory_used_bytes": self.amount("memory_used_bytes", used),
            "memory_free_bytes": self.amount("memory_free_bytes", free),
            "memory_total_bytes": self.amount("memory_total_bytes", total),
            "memory_reserved_bytes": None
            if reserved is None
            else self.amount("memory_reserved_bytes", reserved),
        }

    def clock_hertz(self, name: str, which: int, function: str = "nvmlDeviceGetClockInfo") -> Amount:
        """Read a clock now: 1 the multiprocessors, 2 the memory; or by another function, the highest."""
        ask = self._ask_clock.get(name)
        if ask is None:
            ask = self.caller.prepare(name, function, c_uint(which), byref(self._megahertz))
            self._ask_clock[name] = ask
        return self.amount(name, self._megahertz.value * 1e6) if ask() else None

    def has_samples(self, kind: int) -> bool:
        """Tell whether the driver keeps a ring of this kind, as far as is known."""
        return _RINGS[kind] not in self.caller.refused

    def samples(self, kind: int, after_us: int) -> list[tuple[int, int]]:
        """Fetch what a driver's ring gained after a moment: (time in µs, whole number), oldest first."""
        ask = self._ask_ring.get(kind)
        if ask is None:
            ask = self._ask_ring[kind] = self.caller.prepare(
                _RINGS[kind],
                "nvmlDeviceGetSamples",
                c_uint(kind),
                self._after_us,
                byref(c_uint()),
                byref(self._count),
                self._samples,
            )
        self._after_us.value, self._count.value = after_us, RING_ENTRIES
        if not ask():
            return []
        return list(_SAMPLE.iter_unpack(self._sample_bytes[: self._count.value * _SAMPLE.size]))

    def utilization_ratio(self) -> Amount:
        """Read the driver's own short-window busy share: a snapshot, for where there is no ring."""
        answer = Utilization()
        if not self.caller.ask("utilization", "nvmlDeviceGetUtilizationRates", byref(answer)):
            return None
        return self.amount("busy_ratio", answer.gpu / 100)

    def processes(self, kind: Kind = "compute") -> list[OnGpu] | None:
        """List the processes that have a context of a kind now; None where the driver does not say."""
        function = _LISTS[kind] + self._list_version
        count = c_uint(len(self._processes))
        code = self._listed(kind, function, count)
        if code == TOO_SMALL and count.value <= MOST_PROCESSES:
            self._processes = (ProcessInfo * (count.value + 64))()
            count = c_uint(len(self._processes))
            code = self._listed(kind, function, count)
        if code == NO_SUCH_FUNCTION and self._list_version == "_v3":
            self._list_version = "_v2"  # of the same layout, before driver 510
            return self.processes(kind)
        if code >= 0:
            self.caller.sort(f"processes_{kind}", code)
        if code:
            return None
        rows = _PROCESS.iter_unpack(memoryview(self._processes).cast("B")[: count.value * _PROCESS.size])
        return [self._on_gpu(kind, *row) for row in rows]

    def _listed(self, kind: Kind, function: str, count: c_uint) -> int:
        caller = self.caller
        if f"processes_{kind}" in caller.refused:
            return -1
        return caller.nvml.call(caller.index, function, caller.handle, byref(count), self._processes)

    def _on_gpu(self, kind: Kind, pid: int, used: int, instance: int, _: int) -> OnGpu:
        known = used != NOT_AVAILABLE and believed("memory_used_bytes", used)
        if not known and used != NOT_AVAILABLE:
            self.caller.nvml.failed(self.uuid, "process_memory", "impossible")
        process = Process(pid=pid, kind=kind, memory_used_bytes=used if known else None)
        return OnGpu(process, None if instance == NO_INSTANCE else instance)

    def process_samples(self, after_us: int) -> Iterator[tuple[int, int, float]]:
        """Fetch each process's mean share of the multiprocessors since a moment: (time in µs, pid, share)."""
        self._after_us.value, self._count.value = after_us, len(self._process_samples)
        if not self._ask_process_samples():
            return
        size = min(self._count.value, len(self._process_samples)) * _PROCESS_SAMPLE.size
        for pid, at_us, percent, *_ in _PROCESS_SAMPLE.iter_unpack(self._process_sample_bytes[:size]):
            if percent > 100:  # noqa: PLR2004  what no share can be
                self.caller.nvml.failed(self.uuid, "process_sm_ratio", "impossible")
            elif at_us > after_us:
                yield at_us, pid, percent / 100


def scrambles_v3(driver: str) -> bool:
    """Tell whether a driver fills the third list of processes with a struct of its own: 535.43 to 535.98."""
    branch, release = [*driver.split("."), "", ""][:2]
    return branch == "535" and release.isdecimal() and int(release) < FIRST_SOUND_535


FIRST_SOUND_535 = 104
