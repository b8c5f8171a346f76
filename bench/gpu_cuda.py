"""A known load on a GPU, through libcuda alone: kernels of our own that run for as long as they are told.

`spin` waits on the GPU's clock, `multiply` does FMA all the while. One block goes to one multiprocessor, so
the number of blocks is the number of multiprocessors at work. Nothing of the GPU is set.
"""

from collections.abc import Callable
from ctypes import CDLL, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p, cast
from ctypes import pointer as pointer_to
from time import monotonic_ns
from typing import Any, NamedTuple

THREADS = 1024
"""Of a block: half of what a multiprocessor holds, so that a block leaves room only for one more."""
_MULTIPROCESSORS, _BLOCKING_SYNC = 16, 1
"""Numbers of CUdevice_attribute and CUevent_flags; waiting must not cost a core."""
SPIN, MULTIPLY = "spin", "multiply"
_FMA_PER_LOOK = 256

_HEAD = """
.version 6.4
.target sm_52
.address_size 64
"""
_SPIN = """
.visible .entry spin(.param .u64 nanoseconds, .param .u64 result)
{
    .reg .pred %again;
    .reg .u64 %length, %began, %now, %passed;
    ld.param.u64 %length, [nanoseconds];
    mov.u64 %began, %globaltimer;
look:
    mov.u64 %now, %globaltimer;
    sub.u64 %passed, %now, %began;
    setp.lt.u64 %again, %passed, %length;
    @%again bra look;
    ret;
}
"""
_MULTIPLY = """
.visible .entry multiply(.param .u64 nanoseconds, .param .u64 result)
{
    .reg .pred %again, %never;
    .reg .u64 %length, %began, %now, %passed, %where;
    .reg .u32 %thread;
    .reg .f32 %sum<4>, %factor;
    ld.param.u64 %length, [nanoseconds];
    ld.param.u64 %where, [result];
    mov.u32 %thread, %tid.x;
    cvt.rn.f32.u32 %sum0, %thread;
    add.f32 %sum1, %sum0, 0f3F800000;
    add.f32 %sum2, %sum0, 0f40000000;
    add.f32 %sum3, %sum0, 0f40400000;
    mov.f32 %factor, 0f3F7FFFFF;
    mov.u64 %began, %globaltimer;
look:
@work@
    mov.u64 %now, %globaltimer;
    sub.u64 %passed, %now, %began;
    setp.lt.u64 %again, %passed, %length;
    @%again bra look;
    add.f32 %sum0, %sum0, %sum1;
    add.f32 %sum2, %sum2, %sum3;
    add.f32 %sum0, %sum0, %sum2;
    setp.eq.f32 %never, %sum0, 0fC2F6E979;
    @%never st.global.f32 [%where], %sum0;
    ret;
}
"""


class CudaError(Exception):
    """libcuda is missing or refused a call; the message is a sentence."""


class Kernel(NamedTuple):
    """When a kernel ran: moments of the monotonic clock around it, and its length by the GPU's own events."""

    began_ns: int
    ended_ns: int
    event_ms: float


def ptx() -> bytes:
    """Write the program of both kernels."""
    work = "\n".join(
        f"    fma.rn.f32 %sum{place % 4}, %sum{place % 4}, %factor, %factor;"
        for place in range(_FMA_PER_LOOK)
    )
    return (_HEAD + _SPIN + _MULTIPLY.replace("@work@", work)).encode() + b"\0"


def load_library() -> Any:  # noqa: ANN401  ctypes knows no more
    """Load libcuda. Raises CudaError."""
    try:
        return CDLL("libcuda.so.1")
    except OSError as error:
        raise CudaError("libcuda.so.1 is missing: the load needs the driver's compute library") from error


class Cuda:
    """The primary context of one GPU, by its PCI bus id, for one thread. All of it raises CudaError."""

    def __init__(self, pci_bus: str, library: Any | None = None) -> None:  # noqa: ANN401
        self._library = library or load_library()
        self._device, self._context = c_int(), c_void_p()
        self._module, self._memory = c_void_p(), c_ulonglong()
        self._call("cuInit", c_uint(0))
        self._call("cuDeviceGetByPCIBusId", byref(self._device), c_char_p(pci_bus.encode()))
        number = c_int()
        self._call("cuDeviceGetAttribute", byref(number), c_int(_MULTIPROCESSORS), self._device)
        self.multiprocessors = number.value
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)
        self._call("cuCtxSetCurrent", self._context)
        self._program = ptx()
        self._call("cuModuleLoadData", byref(self._module), c_char_p(self._program))
        self._functions = {name: self._function(name) for name in (SPIN, MULTIPLY)}
        self._events = self._event(), self._event()

    def _call(self, name: str, *arguments: object) -> None:
        function: Callable[..., int] | None = getattr(self._library, name, None)
        if function is None:
            raise CudaError(f"libcuda has no function {name}")
        code = function(*arguments)
        if code:
            raise CudaError(f"{name} failed with code {code}")

    def _function(self, name: str) -> c_void_p:
        found = c_void_p()
        self._call("cuModuleGetFunction", byref(found), self._module, c_char_p(name.encode()))
        return found

    def _event(self) -> c_void_p:
        made = c_void_p()
        self._call("cuEventCreate", byref(made), c_uint(_BLOCKING_SYNC))
        return made

    def allocate(self, size_bytes: int) -> None:
        """Take so much memory of the GPU, once; `close` gives it back."""
        self._call("cuMemAlloc_v2", byref(self._memory), c_size_t(size_bytes))

    def run(self, name: str, blocks: int, nanoseconds: int) -> Kernel:
        """Run a kernel for so long on so many multiprocessors, and wait for its end."""
        length, result = c_ulonglong(nanoseconds), c_ulonglong(self._memory.value)
        parameters = (c_void_p * 2)(
            cast(pointer_to(length), c_void_p).value, cast(pointer_to(result), c_void_p).value
        )
        grid = [c_uint(number) for number in (blocks, 1, 1, THREADS, 1, 1, 0)]
        began, ended = self._events
        began_ns = monotonic_ns()
        self._call("cuEventRecord", began, None)
        self._call("cuLaunchKernel", self._functions[name], *grid, None, parameters, None)
        self._call("cuEventRecord", ended, None)
        self._call("cuEventSynchronize", ended)
        ended_ns = monotonic_ns()
        milliseconds = c_float()
        self._call("cuEventElapsedTime", byref(milliseconds), began, ended)
        return Kernel(began_ns, ended_ns, milliseconds.value)

    def close(self) -> None:
        """Give back memory and context."""
        if self._memory.value:
            self._call("cuMemFree_v2", self._memory)
        for event in self._events:
            self._call("cuEventDestroy_v2", event)
        self._call("cuModuleUnload", self._module)
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)
