"""NVML through nvidia-ml-py: the only module, with the simulator, that speaks it.

Here calls are made, timed, and named in the cell while they last; their codes are sorted. A refusal that
lasts (not supported, no such symbol, no permission) is remembered and costs no further call. A GPU that is
gone raises GpuGone; a driver that is gone raises NvmlUnavailable with what to do.
"""

from collections.abc import Callable, Container, Iterator
from ctypes import byref, c_uint, create_string_buffer
from time import monotonic_ns
from typing import Any

import pynvml

from agent.cell import CALL, HEAD, NO_CALL, NO_GPU, NUMBERS, SIZE, Cell, begin, end, padded
from agent.errors import NvmlUnavailable
from agent.tick import Condition

NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
NO_PERMISSION_CODE = pynvml.NVML_ERROR_NO_PERMISSION
NO_SUCH_FUNCTION = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
INVALID_ARGUMENT = pynvml.NVML_ERROR_INVALID_ARGUMENT
TIMEOUT = pynvml.NVML_ERROR_TIMEOUT
LASTING = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "unsupported",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "unsupported",
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "unsupported",
    pynvml.NVML_ERROR_NO_PERMISSION: "no_permission",
}
"""Codes that stay until the driver is opened anew, and the reason that is told for each."""
GONE = {
    pynvml.NVML_ERROR_GPU_IS_LOST: Condition.LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: Condition.RESET_REQUIRED,
}
NOTHING_NEW = (pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_NO_DATA)
UNKNOWN_IN_A_ROW = 3
"""So many answers of "unknown error" in a row mean that the GPU is lost: often the first sign of it."""
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
NO_GPU_FOUND = _ABSENT[pynvml.NVML_ERROR_GPU_NOT_FOUND]
NO_PERMISSION = _ABSENT[pynvml.NVML_ERROR_NO_PERMISSION]

# What the driver fills: the structs and arrays of nvidia-ml-py, for those who may not import it.
Memory = pynvml.c_nvmlMemory_v2_t
OldMemory = pynvml.c_nvmlMemory_t
Bar1 = pynvml.c_nvmlBAR1Memory_t
Utilization = pynvml.c_nvmlUtilization_t
Temperature = pynvml.c_nvmlTemperature_v1_t
Margin = pynvml.c_nvmlMarginTemperature_v1_t
Pci = pynvml.nvmlPciInfo_t
FieldValue = pynvml.c_nvmlFieldValue_t
Sample = pynvml.c_nvmlSample_t
ProcessInfo = pynvml.c_nvmlProcessInfo_v3_t
ProcessSample = pynvml.c_nvmlProcessUtilizationSample_t
Platform = pynvml.c_nvmlPlatformInfo_v2_t
Fabric = pynvml.c_nvmlGpuFabricInfo_v3_t
OldFabric = pynvml.c_nvmlGpuFabricInfo_v2_t
Sram = pynvml.c_nvmlEccSramErrorStatus_v1_t
RemapperBanks = pynvml.c_nvmlRowRemapperHistogramValues
Violation = pynvml.c_nvmlViolationTime_t
SliceAttributes = pynvml.c_nvmlDeviceAttributes
DeviceHandle = pynvml.c_nvmlDevice_t
GpmSupport = pynvml.c_nvmlGpmSupport_t
GpmSample = pynvml.c_nvmlGpmSample_t
GpmMetrics = pynvml.c_nvmlGpmMetricsGet_t
EventSet = pynvml.c_nvmlEventSet_t
EventData = pynvml.c_nvmlEventData_t
VERSIONS = {
    Memory: pynvml.nvmlMemory_v2,
    Temperature: pynvml.nvmlTemperature_v1,
    Margin: pynvml.nvmlMarginTemperature_v1,
    Platform: pynvml.nvmlPlatformInfo_v2,
    Fabric: pynvml.nvmlGpuFabricInfo_v3,
    OldFabric: pynvml.nvmlGpuFabricInfo_v2,
    Sram: pynvml.nvmlEccSramErrorStatus_v1,
    GpmSupport: pynvml.NVML_GPM_SUPPORT_VERSION,
    GpmMetrics: pynvml.NVML_GPM_METRICS_GET_VERSION,
}
TEXT_BYTES = 96
"""Room for every text that NVML gives: a UUID of a slice is the longest."""


class GpuGone(Exception):  # noqa: N818  a condition of the device
    """The GPU does not answer any more; `condition` says how."""

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition.value)
        self.condition = condition


def versioned(kind: Any) -> Any:  # noqa: ANN401  pynvml has no types
    """Make a struct that carries its version, as newer functions want it."""
    made = kind()
    made.version = VERSIONS[kind]
    return made


class Nvml:
    """The driver. One instance lives in the probe; `open` may be called again after `close`."""

    def __init__(self, cell: Cell | None = None) -> None:
        self.calls = 0
        self._busy_ns = 0
        self.failures: dict[tuple[str, str, str], int] = {}
        self._shared = bytearray(SIZE) if cell is None else cell.memory
        self._functions: dict[str, tuple[Callable[..., int] | None, bytes]] = {}

    def spent(self) -> tuple[int, float]:
        """Give the calls since the last time, and the seconds spent in them."""
        told = self.calls, self._busy_ns / 1e9
        self.calls = self._busy_ns = 0
        return told

    def open(self) -> None:
        """Initialise NVML. Raises NvmlUnavailable with what is missing and what to do."""
        self._functions.clear()
        self._begin(NO_GPU, padded("nvmlInit"))
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise unavailable(error.value) from error
        finally:
            self._end()

    def close(self) -> None:
        """Let go of the driver."""
        self._begin(NO_GPU, padded("nvmlShutdown"))
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return
        finally:
            self._end()

    def _begin(self, index: int, name: bytes) -> None:
        self._began_ns = monotonic_ns()
        begin(self._shared, self._began_ns, index, name)

    def _end(self) -> None:
        self.calls += 1
        self._busy_ns += monotonic_ns() - self._began_ns
        end(self._shared)

    def _find(self, name: str) -> tuple[Callable[..., int] | None, bytes]:
        try:
            function = pynvml._nvmlGetFunctionPointer(name)  # noqa: SLF001  its wrappers make two calls of one
        except pynvml.NVMLError:
            function = None
        return function, padded(name)

    def call(self, index: int, name: str, *arguments: Any) -> int:  # noqa: ANN401  as ctypes takes them
        """Call a function of the library; give its code. One that the library lacks is FUNCTION_NOT_FOUND."""
        return self.prepare(index, name, *arguments)()

    def prepare(self, index: int, name: str, *arguments: Any) -> Callable[[], int]:  # noqa: ANN401
        """Prepare a call that is made again and again, until the driver is closed; see `call`."""
        found = self._functions.get(name)
        if found is None:
            found = self._functions[name] = self._find(name)
        function, padded_name = found
        if function is None:
            return _lacking
        shared, now_ns, pack = self._shared, monotonic_ns, HEAD.pack

        def make() -> int:
            # Dozens of times a second: `begin` and `end`, without their own cost.
            began_ns = now_ns()
            shared[CALL] = pack(began_ns, index) + padded_name
            try:
                return function(*arguments)
            finally:
                shared[NUMBERS] = NO_CALL
                self.calls += 1
                self._busy_ns += now_ns() - began_ns

        return make

    def count(self) -> int:
        """Count the GPUs. Raises NvmlUnavailable."""
        number = c_uint()
        code = self.call(NO_GPU, "nvmlDeviceGetCount_v2", byref(number))
        if code:
            raise unavailable(code)
        return number.value

    def versions(self) -> dict[str, str]:
        """Tell the versions of driver and CUDA. Raises NvmlUnavailable."""
        text = create_string_buffer(TEXT_BYTES)
        code = self.call(NO_GPU, "nvmlSystemGetDriverVersion", text, c_uint(TEXT_BYTES))
        if code:
            raise unavailable(code)
        number = c_uint()
        known = not self.call(NO_GPU, "nvmlSystemGetCudaDriverVersion", byref(number))
        cuda = f"{number.value // 1000}.{number.value % 1000 // 10}" if known else ""
        return {"driver": text.value.decode(errors="replace"), "cuda": cuda}

    def callers(self, shunned: Container[int] = ()) -> Iterator[tuple[int, "Caller | int"]]:
        """Give a caller per GPU by index, or the code with which its handle was refused."""
        for index in range(self.count()):
            if index in shunned:
                continue
            handle = DeviceHandle()
            code = self.call(index, "nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(handle))
            yield index, code or Caller(self, handle, index)

    def failed(self, uuid: str, quantity: str, reason: str) -> None:
        """Count a value that could not be had or was not believed."""
        key = (uuid, quantity, reason)
        self.failures[key] = self.failures.get(key, 0) + 1


class Caller:
    """Asks about one handle, and remembers what it will not be told. `uuid` names it in refusals."""

    def __init__(self, nvml: Nvml, handle: Any, index: int) -> None:  # noqa: ANN401  a pointer of pynvml's
        self.nvml = nvml
        self.handle = handle
        self.index = index
        self.uuid = ""
        self.refused: dict[str, str] = {}
        self._numbers: dict[str, tuple[c_uint, Callable[[], bool]]] = {}
        self._unknown = 0

    def ask(self, what: str, function: str, *arguments: Any) -> bool:  # noqa: ANN401
        """Call a function on the handle; True when it answered. Raises GpuGone, NvmlUnavailable."""
        return self.prepare(what, function, *arguments)()

    def prepare(self, what: str, function: str, *arguments: Any) -> Callable[[], bool]:  # noqa: ANN401
        """Prepare a question that is put again and again; see `ask`."""
        refused, make = self.refused, self.nvml.prepare(self.index, function, self.handle, *arguments)

        def put() -> bool:
            if what in refused:
                return False
            code = make()
            if code:
                self.sort(what, code)
                return False
            self._unknown = 0
            return True

        return put

    def sort(self, what: str, code: int) -> None:
        """Remember or count a refusal by its code; 0 is none. Raises GpuGone, NvmlUnavailable."""
        if not code:
            self._unknown = 0
            return
        if code in GONE:
            raise GpuGone(GONE[code])
        if code == pynvml.NVML_ERROR_UNINITIALIZED:
            raise unavailable(code)
        if code in LASTING:
            self.refuse(what, LASTING[code])
        elif code not in NOTHING_NEW:
            self.nvml.failed(self.uuid, what, "failed")
        self._unknown = self._unknown + 1 if code == pynvml.NVML_ERROR_UNKNOWN else 0
        if self._unknown >= UNKNOWN_IN_A_ROW:
            raise GpuGone(Condition.LOST)

    def refuse(self, what: str, reason: str) -> None:
        """Remember that something is not to be had, and count it once."""
        if what not in self.refused:
            self.refused[what] = reason
            self.nvml.failed(self.uuid, what, reason)

    def text(self, what: str, function: str, *before: Any) -> str:  # noqa: ANN401
        """Ask for a text; empty when there is none. What is no UTF-8 counts as garbled."""
        buffer = create_string_buffer(TEXT_BYTES)
        if not self.ask(what, function, *before, buffer, c_uint(TEXT_BYTES)):
            return ""
        try:
            return buffer.value.decode()
        except UnicodeDecodeError:
            self.nvml.failed(self.uuid, what, "garbled")
            return ""

    def number(self, what: str, function: str, *before: Any) -> int | None:  # noqa: ANN401
        """Ask for one whole number; None when there is none."""
        if before:
            number = c_uint()
            return number.value if self.ask(what, function, *before, byref(number)) else None
        known = self._numbers.get(what)
        if known is None:
            number = c_uint()
            known = self._numbers[what] = number, self.prepare(what, function, byref(number))
        return known[0].value if known[1]() else None


def _lacking() -> int:
    return int(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)


def unavailable(code: int) -> NvmlUnavailable:
    """Say a code of the whole driver in words."""
    return NvmlUnavailable(
        _ABSENT.get(code, f"NVML cannot be used ({pynvml.NVMLError(code)}): see dmesg for messages of NVRM")
    )
