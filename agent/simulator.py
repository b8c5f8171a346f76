"""A driver that is not there: the object that pynvml takes for libnvidia-ml.

Counters, rings and gauges are views of one truth, the simulation, so an agent that integrates well finds
exactly what the simulation says. Answers come as return codes, as from C; a lost GPU fails alone. What goes
wrong and when is written in agent/simulated/faults.py.
"""

import time
from collections.abc import Callable, Mapping
from ctypes import addressof, c_byte
from functools import partial

import pynvml

from agent.simulated.calling import (
    INVALID,
    LOST,
    NO_PERMISSION,
    NOT_FOUND,
    OK,
    REFUSED,
    UNINITIALIZED,
    Argument,
    Look,
    address,
    plain,
    put_number,
    put_text,
)
from agent.simulated.calls import DEVICE_CALLS
from agent.simulated.events import EventSets, happenings
from agent.simulated.failing import Failing, Wait, pause
from agent.simulated.faults import NO_FAULTS, Faults, parse_faults, resolve, split
from agent.simulated.garbage import Garbage
from agent.simulated.gpm import Samples, gpm_calls, gpm_device_calls
from agent.simulated.handles import put_handle
from agent.simulated.mig import PROCESS_LISTS, SLICE_FUNCTIONS, MigDevices
from agent.simulated.models import check_words
from agent.simulated.partitions import Partitions
from agent.simulated.scenario import CUDA_VERSION, DRIVER_VERSION, Simulation, parse_simulation
from agent.simulated.seen import Views


class Library:
    """Has an attribute for each NVML function that it knows, and raises AttributeError for others.

    `calls` counts the calls. `now_us` gives wall time in microseconds. `refuse` holds capability words
    (see agent.simulated.models) that this driver refuses besides what the model does; an unknown word
    raises ValueError. `faults` come and go with wall time, `wait` lets it pass where a call blocks;
    `partitions` knows the truth about MIG. Raises SettingsError for a layout that the model cannot have.
    """

    def __init__(
        self,
        simulation: Simulation,
        now_us: Callable[[], int],
        *,
        refuse: frozenset[str] = frozenset(),
        faults: Faults = NO_FAULTS,
        wait: Wait = pause,
    ) -> None:
        self.simulation = simulation
        self.faults = faults
        self.partitions = Partitions(simulation, faults)
        self.calls = 0
        self._now_us = now_us
        self._refused = simulation.model.refused | check_words(refuse)
        self._opened = 0
        self._opened_us = 0
        self._gone: set[int] = set()
        self._present = tuple(range(simulation.count))
        self._handles = (c_byte * simulation.count)()
        self._failing = Failing(faults, now_us, wait)
        self._views = Views(simulation, faults)
        self._garbage = Garbage()
        self._samples = Samples(simulation, self._refused, self.partitions.slice_means)
        self._mig = MigDevices(self.partitions, self._samples, simulation.count, self._address)
        self._events = EventSets(
            partial(happenings, faults, self.partitions), self._address, now_us, self._failing.pause
        )
        self._node_calls: Mapping[str, Callable[..., int | bytes]] = {
            "nvmlInit_v2": self._init,
            "nvmlInitWithFlags": self._init,
            "nvmlShutdown": self._shutdown,
            "nvmlErrorString": _error_text,
            "nvmlSystemGetDriverVersion": partial(put_text, DRIVER_VERSION),
            "nvmlSystemGetNVMLVersion": partial(put_text, f"13.{DRIVER_VERSION}"),
            "nvmlSystemGetCudaDriverVersion": partial(put_number, CUDA_VERSION),
            "nvmlSystemGetCudaDriverVersion_v2": partial(put_number, CUDA_VERSION),
            "nvmlDeviceGetCount_v2": self._count,
            "nvmlDeviceGetHandleByIndex_v2": self._handle_by_index,
            "nvmlDeviceGetHandleByUUID": self._handle_by_uuid,
            "nvmlDeviceGetHandleByPciBusId_v2": self._handle_by_pci_bus,
            "nvmlEventSetCreate": self._events.create,
            "nvmlEventSetFree": self._events.free,
            "nvmlEventSetWait_v2": self._events.wait,
            **gpm_calls(self._samples),
        }
        self._gpu_calls: Mapping[str, tuple[str, Callable[..., int]]] = {
            **DEVICE_CALLS,
            **gpm_device_calls(self._samples),
            **self._mig.rows(),
            "nvmlDeviceGetIndex": ("", self._index),
            "nvmlDeviceRegisterEvents": ("events", self._events.register),
        }

    def __getattr__(self, name: str) -> Callable[..., int | bytes]:
        """Find a function by its name in C; a `partial`, because pynvml sets `restype` on some."""
        absent = name.startswith("__") or f"function:{name}" in self._refused
        if not absent and name in self._node_calls:
            return partial(self._about_node, name)
        if not absent and (name in self._gpu_calls or name in SLICE_FUNCTIONS):
            return partial(self._about_gpu, name)
        raise AttributeError(f"this library has no function {name}")

    def _about_node(self, name: str, *arguments: Argument) -> int | bytes:
        self.calls += 1
        if name not in NEED_NO_INIT and not self._is_open():
            return UNINITIALIZED
        return REFUSED if NODE_WORDS.get(name) in self._refused else self._node_calls[name](*arguments)

    def _about_gpu(self, name: str, handle: Argument, *arguments: Argument) -> int:
        self.calls += 1
        if not self._is_open():
            return UNINITIALIZED
        place = self._mig.find(address(handle))
        gpu = address(handle) - addressof(self._handles) if place is None else place.gpu
        if not 0 <= gpu < self.simulation.count:
            return INVALID
        code = self._reach(gpu)
        if code:
            return code
        look = self._look(gpu)
        word, answer = self._gpu_calls.get(name, ("", None))
        if word in look.refused or self._mig.takes(look, name):
            return REFUSED
        if place is not None:
            return self._mig.answer(name, look, place, *arguments)
        return REFUSED if answer is None else self._told(name, look, answer(look, *arguments), *arguments)

    def _reach(self, gpu: int) -> int:
        """Let a call get to a GPU, or say with which code it fails. It may take its time."""
        self._failing.strike(gpu)
        code = self._failing.gone(gpu, self._opened_us)
        return code or (LOST if self._is_gone(gpu, self._now_us()) else OK)

    def _look(self, gpu: int) -> Look:
        at_us = self._now_us()
        refused = self._refused | self._mig.lost_words(gpu, at_us)
        return Look(self._views.at(gpu, at_us), refused, gpu, at_us)

    def _told(self, name: str, look: Look, code: int, *arguments: Argument) -> int:
        """Complete an answer by what is not of the GPU alone."""
        if code == OK and name in PROCESS_LISTS:
            self._mig.place_processes(look, *arguments)
        if code == OK and self.faults.now("garbage", look.gpu, look.at_us):
            self._garbage.spoil(name, look, *arguments)
        return code

    def _is_gone(self, gpu: int, at_us: int) -> bool:
        if not self.simulation.lost(gpu, at_us):
            return gpu in self._gone
        if "revival" in self._refused:
            self._gone.add(gpu)
        return True

    def _is_open(self) -> bool:
        if self._opened and self._failing.unloaded(self._opened_us):
            self._close()
        return self._opened > 0

    def _init(self, *_flags: Argument) -> int:
        code = self._failing.opening()
        if code == OK and not self._is_open():
            self._gone.clear()
            self._opened_us = self._now_us()
            self._present = self._failing.present(self.simulation.count)
        self._opened += code == OK
        return code

    def _shutdown(self) -> int:
        if self._opened > 1:
            self._opened -= 1
        else:
            self._close()
        return OK

    def _close(self) -> None:
        self._opened = 0
        self._samples.clear()
        self._events.clear()

    def _address(self, gpu: int) -> int:
        return addressof(self._handles) + gpu

    def _count(self, out: Argument) -> int:
        return put_number(len(self._present), out)

    def _index(self, look: Look, out: Argument) -> int:
        return put_number(self._present.index(look.gpu), out)

    def _handle_by_index(self, index: Argument, out: Argument) -> int:
        if not 0 <= plain(index) < len(self._present):
            return INVALID
        return self._handle(self._present[plain(index)], out)

    def _handle(self, gpu: int, out: Argument) -> int:
        code = self._reach(gpu)
        if code == OK and self._failing.forbidden(gpu):
            code = NO_PERMISSION
        return code or put_handle(self._address(gpu), out)

    def _handle_by_uuid(self, uuid: Argument, out: Argument) -> int:
        wanted = plain(uuid).decode(errors="replace")
        for gpu in self._present:
            if self.simulation.uuid(gpu) == wanted:
                return self._handle(gpu, out)
            if self._mig.handle_by_uuid(self._look(gpu), wanted, out) == OK:
                return self._reach(gpu)
        return NOT_FOUND

    def _handle_by_pci_bus(self, pci_bus: Argument, out: Argument) -> int:
        wanted = _pci_place(plain(pci_bus).decode(errors="replace"))
        for gpu in self._present:
            if _pci_place(self.simulation.pci_bus(gpu)) == wanted:
                return self._handle(gpu, out)
        return NOT_FOUND


NEED_NO_INIT = frozenset({"nvmlInit_v2", "nvmlInitWithFlags", "nvmlErrorString"})
NODE_WORDS = {"nvmlEventSetCreate": "events", "nvmlGpmSampleAlloc": "gpm"}
"""Function that needs no GPU → the capability it needs."""


def parse(text: str) -> tuple[Simulation, Faults]:
    """Understand "MODELxN[:SCENARIO][!FAULT]...", begun now. Raises SettingsError."""
    kind, faults = split(resolve(text, time.time_ns() / 1e9))
    simulation = parse_simulation(kind)
    parsed = parse_faults(faults, simulation.count)
    Partitions(simulation, parsed)  # raises where a layout does not fit
    return simulation, parsed


def simulate(text: str) -> Library:
    """Install a library that plays a simulation and its faults by the host's clock. Raises SettingsError."""
    simulation, faults = parse(text)
    library = Library(simulation, lambda: time.time_ns() // 1_000, faults=faults)
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


def _pci_place(pci_bus: str) -> str:
    """Write a PCI bus id in one way, however long its domain is."""
    domain, _, rest = pci_bus.lower().partition(":")
    return f"{domain.lstrip('0') or '0'}:{rest}"


def _error_text(code: Argument) -> bytes:
    return f"simulated NVML error {plain(code)}".encode()
