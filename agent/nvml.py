"""NVML through nvidia-ml-py: the only module, with the simulator, that speaks it.

NVML's units end here: watts, joules, hertz, ratios and bytes come out. A refusal that lasts (not supported,
no such symbol, no permission) is remembered and costs no further call; None is what the caller gets. A GPU
that is gone raises GpuGone; a driver that is gone raises NvmlUnavailable with what to do.
"""

import struct
import sys
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import pynvml

from agent.errors import NvmlUnavailable
from agent.tick import Condition, Gpu, Process

_LASTING = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "unsupported",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "unsupported",
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "unsupported",
    pynvml.NVML_ERROR_NO_PERMISSION: "no_permission",
}
_GONE = {
    pynvml.NVML_ERROR_GPU_IS_LOST: Condition.LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: Condition.RESET_REQUIRED,
}
_ABSENT = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "the NVIDIA driver's library libnvidia-ml.so.1 is not installed: install the driver, "
        "or try `gputally run --simulate h200x8`"
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "the NVIDIA kernel driver is not loaded: load it (modprobe nvidia) and look at dmesg if that fails"
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "no permission to use the NVIDIA driver: let this user read and write /dev/nvidiactl and /dev/nvidia*"
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the driver's library and the loaded kernel module are of different versions: "
        "reload the module or reboot"
    ),
    pynvml.NVML_ERROR_GPU_NOT_FOUND: (
        "the driver is loaded but finds no GPU: see whether `lspci -d 10de:` lists one"
    ),
}
_NOTHING_NEW = (pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_NO_DATA)

FIELD_MEMORY_TEMPERATURE = 82
FIELD_ENERGY = 83
FIELD_POWER_LIMIT = 190
THROTTLE_FIELDS = {
    "power_cap": 74,
    "sync_boost": 76,
    "reliability": 79,
    "sw_thermal": 269,
    "hw_thermal": 270,
    "power_brake": 271,
}
FIELD_THERMAL = 75
"""All thermal reasons together: what drivers before 575 have instead of 269 and 270."""
_FIELDS = (
    FIELD_ENERGY,
    FIELD_MEMORY_TEMPERATURE,
    FIELD_POWER_LIMIT,
    FIELD_THERMAL,
    *THROTTLE_FIELDS.values(),
)
_FIELD = struct.Struct("IIqqiiQ")
"""nvmlFieldValue_t: id, scope, timestamp, latency, type, return code, value. Read as a whole, since each
attribute of a pynvml struct costs as much as all seven numbers here."""
_SAMPLE = struct.Struct("QI4x")
"""nvmlSample_t: timestamp and a value that is an unsigned int in all rings we read."""
_AS = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "d",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "I",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "L",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "Q",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "q",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "i",
}
NOT_AVAILABLE = 2**64 - 1
"""What NVML puts where a process's memory is not known."""


class GpuGone(Exception):  # noqa: N818  a condition of the device
    """The GPU does not answer any more; `condition` says how."""

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition.value)
        self.condition = condition


class Nvml:
    """The driver. One instance lives in the probe; `open` may be called again after `close`."""

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0
        self.failures: dict[tuple[str, str, str], int] = {}

    def open(self) -> None:
        """Initialise NVML. Raises NvmlUnavailable with what is missing and what to do."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise unavailable(error) from error

    def close(self) -> None:
        """Let go of the driver as often as it was taken."""
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return

    def devices(self) -> tuple[list["Device"], list[tuple[Gpu | None, Condition]]]:
        """Enumerate: the GPUs that answer, and those that do not, nameless if they do not even tell a UUID.

        Raises NvmlUnavailable when there is no GPU at all.
        """
        try:
            count = pynvml.nvmlDeviceGetCount()
            system = _system()
        except pynvml.NVMLError as error:
            raise unavailable(error) from error
        if count == 0:
            raise NvmlUnavailable(_ABSENT[pynvml.NVML_ERROR_GPU_NOT_FOUND])
        found: list[Device] = []
        gone: list[tuple[Gpu | None, Condition]] = []
        forbidden = 0
        for index in range(count):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid = str(pynvml.nvmlDeviceGetUUID(handle))
            except pynvml.NVMLError as error:
                if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
                    forbidden += 1
                else:
                    gone.append((None, _GONE.get(error.value, Condition.LOST)))
                continue
            except UnicodeDecodeError:
                gone.append((None, Condition.LOST))
                continue
            try:
                found.append(Device(self, handle, uuid, index, system))
            except GpuGone as error:
                gone.append((Gpu(uuid=uuid, index=index, model=""), error.condition))
        if forbidden == count:
            raise NvmlUnavailable(_ABSENT[pynvml.NVML_ERROR_NO_PERMISSION])
        return found, gone

    def failed(self, uuid: str, quantity: str, reason: str) -> None:
        """Count a value that could not be had or was not believed."""
        key = (uuid, quantity, reason)
        self.failures[key] = self.failures.get(key, 0) + 1


def _system() -> dict[str, str]:
    try:
        version = pynvml.nvmlSystemGetCudaDriverVersion()
        cuda = f"{version // 1000}.{version % 1000 // 10}"
    except pynvml.NVMLError:
        cuda = ""
    return {"driver": str(pynvml.nvmlSystemGetDriverVersion()), "cuda": cuda}


def unavailable(error: Any) -> NvmlUnavailable:  # noqa: ANN401  pynvml has no types
    """Say an error of the whole driver in words."""
    text = _ABSENT.get(error.value, f"NVML cannot be used ({error}): see dmesg for messages of NVRM")
    return NvmlUnavailable(text)


class Device:
    """One GPU, by an NVML handle."""

    def __init__(
        self,
        nvml: Nvml,
        handle: Any,  # noqa: ANN401  a pointer of pynvml's
        uuid: str,
        index: int,
        system: dict[str, str],
    ) -> None:
        """Identify the GPU. Raises GpuGone."""
        self._nvml = nvml
        self._handle = handle
        self._refused: set[str] = set()
        self._fields: list[int] = list(_FIELDS)
        self.uuid = uuid
        self.gpu = Gpu(
            uuid=self.uuid,
            index=index,
            model=self._text("name", pynvml.nvmlDeviceGetName),
            serial=self._text("serial", pynvml.nvmlDeviceGetSerial),
            board_part=self._text("board_part", pynvml.nvmlDeviceGetBoardPartNumber),
            vbios=self._text("vbios", pynvml.nvmlDeviceGetVbiosVersion),
            pci_bus=self._text("pci_bus", lambda handle: pynvml.nvmlDeviceGetPciInfo(handle).busId),
            **system,
        )
        self.limits = {
            "temperature_slowdown_celsius": self._threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
            "temperature_shutdown_celsius": self._threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
            "sm_clock_max_hertz": self._clock(
                "sm_clock_max", pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_SM
            ),
        }

    def _ask(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        """Call NVML; None when it refuses. Raises GpuGone, NvmlUnavailable."""
        if what in self._refused:
            return None
        began_ns = time.perf_counter_ns()
        try:
            return function(self._handle, *arguments)
        except pynvml.NVMLError as error:
            code = error.value
            if code in _GONE:
                raise GpuGone(_GONE[code]) from error
            if code == pynvml.NVML_ERROR_UNINITIALIZED:
                raise unavailable(error) from error
            if code in _LASTING:
                self._refused.add(what)
                self._nvml.failed(self.uuid, what, _LASTING[code])
            elif code not in _NOTHING_NEW:
                self._nvml.failed(self.uuid, what, "failed")
            return None
        except UnicodeDecodeError:
            self._nvml.failed(self.uuid, what, "garbled")
            return None
        finally:
            self._nvml.calls += 1
            self._nvml.seconds += (time.perf_counter_ns() - began_ns) / 1e9

    def _text(self, what: str, function: Callable[..., Any]) -> str:
        answer = self._ask(what, function)
        if isinstance(answer, bytes):
            answer = answer.decode(errors="replace")
        return "" if answer is None else str(answer)

    def _threshold(self, which: int) -> float | None:
        answer = self._ask(f"threshold_{which}", pynvml.nvmlDeviceGetTemperatureThreshold, which)
        return float(answer) if answer else None

    def _clock(self, what: str, function: Callable[..., Any], which: int) -> float | None:
        answer = self._ask(what, function, which)
        return None if answer is None else answer * 1e6

    def fields(self) -> dict[int, float]:
        """Read all counters and gauges that come in one batch, by field number, as NVML gives them."""
        if not self._fields:
            return {}
        answer = self._ask("fields", pynvml.nvmlDeviceGetFieldValues, self._fields)
        values: dict[int, float] = {}
        if answer is None:
            return values
        for field, _, _, _, kind, code, value in _FIELD.iter_unpack(answer):
            if code == pynvml.NVML_SUCCESS and kind in _AS:
                values[field] = struct.unpack_from(_AS[kind], value.to_bytes(8, sys.byteorder))[0]
            elif code in _GONE:
                raise GpuGone(_GONE[code])
            elif code in _LASTING:
                self._fields.remove(field)
                self._nvml.failed(self.uuid, f"field_{field}", _LASTING[code])
        return values

    def counts_energy(self) -> bool:
        """Tell whether the device has an energy counter, as far as is known."""
        return FIELD_ENERGY in self._fields

    def power_watts(self) -> float | None:
        """Read power now, or the mean of the last second: the driver decides by product."""
        answer = self._ask("power", pynvml.nvmlDeviceGetPowerUsage)
        return None if answer is None else answer / 1000

    def power_limit_watts(self) -> float | None:
        """Power limit in force."""
        answer = self._ask("power_limit", pynvml.nvmlDeviceGetEnforcedPowerLimit)
        return None if answer is None else answer / 1000

    def temperature_celsius(self) -> float | None:
        """Core temperature now."""
        answer = self._ask("temperature_v", pynvml.nvmlDeviceGetTemperatureV, pynvml.NVML_TEMPERATURE_GPU)
        if answer is None and "temperature_v" in self._refused:
            answer = self._ask("temperature", pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU)
        return None if answer is None else float(answer)

    def memory_bytes(self) -> tuple[float, float | None, float] | None:
        """Memory now: used, reserved, total. Where reserved is None, used contains it."""
        answer = self._ask("memory_v2", pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlMemory_v2)
        if answer is not None:
            return float(answer.used), float(answer.reserved), float(answer.total)
        answer = self._ask("memory", pynvml.nvmlDeviceGetMemoryInfo) if "memory_v2" in self._refused else None
        return None if answer is None else (float(answer.used), None, float(answer.total))

    def sm_clock_hertz(self) -> float | None:
        """Clock of the multiprocessors now."""
        return self._clock("sm_clock", pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM)

    def memory_clock_hertz(self) -> float | None:
        """Clock of the memory now."""
        return self._clock("memory_clock", pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM)

    def has_samples(self, kind: int) -> bool:
        """Tell whether the driver keeps a ring of this kind, as far as is known."""
        return f"samples_{kind}" not in self._refused

    def samples(self, kind: int, after_us: int) -> list[tuple[int, int]]:
        """Fetch what a driver's ring gained after a moment: (time in µs, whole per cents), oldest first."""
        answer = self._ask(f"samples_{kind}", pynvml.nvmlDeviceGetSamples, kind, after_us)
        if answer is None or not answer[1]:
            return []
        array = answer[1][0]._b_base_  # the ctypes array that all samples lie in
        return list(islice(_SAMPLE.iter_unpack(array), len(answer[1])))

    def utilization_ratio(self) -> float | None:
        """Read the driver's own short-window busy share: a snapshot, for where there is no ring."""
        answer = self._ask("utilization", pynvml.nvmlDeviceGetUtilizationRates)
        return None if answer is None else answer.gpu / 100

    def processes(self) -> tuple[Process, ...] | None:
        """List the processes that have a compute context now."""
        answer = self._ask("processes", pynvml.nvmlDeviceGetComputeRunningProcesses)
        if answer is None:
            return None
        return tuple(Process(pid=one.pid, memory_used_bytes=_memory_of(one)) for one in answer)


def _memory_of(process: Any) -> int | None:  # noqa: ANN401
    used = process.usedGpuMemory
    return None if used is None or used == NOT_AVAILABLE else int(used)
