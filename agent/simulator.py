"""A driver that is not there: the object that pynvml takes for libnvidia-ml.

Counters, rings and gauges are views of one truth, the simulation, so an agent that integrates well finds
exactly what the simulation says. Answers come as return codes, as from C; a lost GPU fails alone.
"""

import time
from collections.abc import Callable, Mapping
from ctypes import addressof, c_byte, c_void_p, cast
from functools import partial

import pynvml

from agent.simulated.calling import (
    INVALID,
    LOST,
    NOT_FOUND,
    OK,
    REFUSED,
    UNINITIALIZED,
    Argument,
    Look,
    plain,
    put_number,
    put_text,
    target,
)
from agent.simulated.calls import DEVICE_CALLS
from agent.simulated.models import check_words
from agent.simulated.scenario import CUDA_VERSION, DRIVER_VERSION, Simulation, parse_simulation


class Library:
    """Has an attribute for each NVML function that it knows, and raises AttributeError for others.

    `calls` counts the calls. `now_us` gives wall time in microseconds. `refuse` holds capability words
    (see agent.simulated.models) that this driver refuses besides what the model does; an unknown word
    raises ValueError.
    """

    def __init__(
        self, simulation: Simulation, now_us: Callable[[], int], *, refuse: frozenset[str] = frozenset()
    ) -> None:
        self.simulation = simulation
        self.calls = 0
        self._now_us = now_us
        self._refused = simulation.model.refused | check_words(refuse)
        self._opened = 0
        self._gone: set[int] = set()
        self._handles = (c_byte * simulation.count)()
        self._node_calls: Mapping[str, Callable[..., int | bytes]] = {
            "nvmlInit_v2": self._init,
            "nvmlInitWithFlags": self._init,
            "nvmlShutdown": self._shutdown,
            "nvmlErrorString": _error_text,
            "nvmlSystemGetDriverVersion": partial(put_text, DRIVER_VERSION),
            "nvmlSystemGetNVMLVersion": partial(put_text, f"13.{DRIVER_VERSION}"),
            "nvmlSystemGetCudaDriverVersion": partial(put_number, CUDA_VERSION),
            "nvmlSystemGetCudaDriverVersion_v2": partial(put_number, CUDA_VERSION),
            "nvmlDeviceGetCount_v2": partial(put_number, simulation.count),
            "nvmlDeviceGetHandleByIndex_v2": self._handle_by_index,
            "nvmlDeviceGetHandleByUUID": self._handle_by_uuid,
        }

    def __getattr__(self, name: str) -> Callable[..., int | bytes]:
        """Find a function by its name in C; a `partial`, because pynvml sets `restype` on some."""
        absent = name.startswith("__") or f"function:{name}" in self._refused
        if not absent and name in self._node_calls:
            return partial(self._about_node, name)
        if not absent and name in DEVICE_CALLS:
            return partial(self._about_gpu, name)
        raise AttributeError(f"this library has no function {name}")

    def _about_node(self, name: str, *arguments: Argument) -> int | bytes:
        self.calls += 1
        if not self._opened and name not in NEED_NO_INIT:
            return UNINITIALIZED
        return self._node_calls[name](*arguments)

    def _about_gpu(self, name: str, handle: Argument, *arguments: Argument) -> int:
        self.calls += 1
        if not self._opened:
            return UNINITIALIZED
        gpu = (cast(handle, c_void_p).value or 0) - addressof(self._handles)
        if not 0 <= gpu < self.simulation.count:
            return INVALID
        at_us = self._now_us()
        if self._is_gone(gpu, at_us):
            return LOST
        word, answer = DEVICE_CALLS[name]
        if word in self._refused:
            return REFUSED
        return answer(Look(self.simulation, self._refused, gpu, at_us), *arguments)

    def _is_gone(self, gpu: int, at_us: int) -> bool:
        if not self.simulation.lost(gpu, at_us):
            return gpu in self._gone
        if "revival" in self._refused:
            self._gone.add(gpu)
        return True

    def _init(self, *_flags: Argument) -> int:
        if not self._opened:
            self._gone.clear()
        self._opened += 1
        return OK

    def _shutdown(self) -> int:
        self._opened -= 1
        return OK

    def _handle_by_index(self, index: Argument, out: Argument) -> int:
        gpu = plain(index)
        if not 0 <= gpu < self.simulation.count:
            return INVALID
        if self._is_gone(gpu, self._now_us()):
            return LOST
        c_void_p.from_address(addressof(target(out))).value = addressof(self._handles) + gpu
        return OK

    def _handle_by_uuid(self, uuid: Argument, out: Argument) -> int:
        wanted = plain(uuid).decode(errors="replace")
        for gpu in range(self.simulation.count):
            if self.simulation.uuid(gpu) == wanted:
                return self._handle_by_index(gpu, out)
        return NOT_FOUND


NEED_NO_INIT = frozenset({"nvmlInit_v2", "nvmlInitWithFlags", "nvmlErrorString"})


def simulate(text: str) -> Library:
    """Install a library that plays "MODELxN[:SCENARIO]" by the host's clock. Raises SettingsError."""
    library = Library(parse_simulation(text), lambda: time.time_ns() // 1_000)
    install(library)
    return library


def install(library: Library) -> None:
    """Put a library where pynvml keeps the driver's; nothing of an earlier one remains."""
    _put(library)


def uninstall() -> None:
    """Leave pynvml as it was before it loaded anything."""
    _put(None)


def _put(library: Library | None) -> None:
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001  it would go on calling the earlier library
    pynvml._nvmlLib_refcount = 0  # noqa: SLF001


def _error_text(code: Argument) -> bytes:
    return f"simulated NVML error {plain(code)}".encode()
