"""Which GPUs the node has, who each of them is, and which do not answer."""

from collections.abc import Mapping
from ctypes import byref
from itertools import islice
from typing import Any

from agent.device import Device
from agent.errors import NvmlUnavailable
from agent.nvml import (
    GONE,
    NO_GPU_FOUND,
    NO_PERMISSION,
    NO_PERMISSION_CODE,
    Caller,
    GpuGone,
    Nvml,
    Pci,
    Platform,
    versioned,
)
from agent.tick import Condition, Gpu

_ARCHITECTURES = {2: "Kepler", 3: "Maxwell", 4: "Pascal", 5: "Volta", 6: "Turing", 7: "Ampere", 8: "Ada"} | {
    9: "Hopper",
    10: "Blackwell",
}
"""Names of nvmlDeviceArchitecture_t."""
MOST_GPUS = 256
"""More than any node has: what a driver counts is not believed beyond."""


def identify(caller: Caller, versions: Mapping[str, str]) -> Gpu:
    """Ask a GPU that has told its UUID who it is and where it sits. Raises GpuGone."""
    pci, platform = Pci(), versioned(Platform)
    has_pci = caller.ask("pci_bus", "nvmlDeviceGetPciInfo_v3", byref(pci))
    placed = caller.ask("platform", "nvmlDeviceGetPlatformInfo", byref(platform))
    architecture = caller.number("architecture", "nvmlDeviceGetArchitecture")
    return Gpu(
        uuid=caller.uuid,
        index=caller.index,
        model=caller.text("name", "nvmlDeviceGetName"),
        serial=caller.text("serial", "nvmlDeviceGetSerial"),
        board_part=caller.text("board_part", "nvmlDeviceGetBoardPartNumber"),
        vbios=caller.text("vbios", "nvmlDeviceGetVbiosVersion"),
        inforom=caller.text("inforom", "nvmlDeviceGetInforomImageVersion"),
        architecture=_ARCHITECTURES.get(architecture or 0, ""),
        pci_bus=_text(caller, "pci_bus", _bytes(pci, "busId")) if has_pci else "",
        minor=_told(caller.number("minor", "nvmlDeviceGetMinorNumber")),
        module=_told(caller.number("module", "nvmlDeviceGetModuleId")),
        chassis=_text(caller, "platform", _bytes(platform, "chassisSerialNumber")) if placed else "",
        slot=str(_bytes(platform, "slotNumber")[0]) if placed else "",
        tray=str(_bytes(platform, "trayIndex")[0]) if placed else "",
        **versions,
    )


def _bytes(struct: Any, name: str) -> bytes:  # noqa: ANN401  pynvml has no types
    """Read a field as it lies in a struct: nvidia-ml-py would decode it, and raise for what is no text."""
    place = getattr(type(struct), name)
    return bytes(struct)[place.offset : place.offset + place.size]


def _text(caller: Caller, what: str, field: bytes) -> str:
    """Read a text that ends with a NUL; empty, and counted, if it is none."""
    try:
        return field.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        caller.nvml.failed(caller.uuid, what, "garbled")
        return ""


def _told(number: int | None) -> str:
    return "" if number is None else str(number)


def _versions(nvml: Nvml) -> Mapping[str, str]:
    """Ask for the versions. A driver that does not tell them may be used; one that is gone fails next."""
    try:
        return nvml.versions()
    except NvmlUnavailable:
        nvml.failed("", "driver_version", "failed")
        return {"driver": "", "cuda": ""}


def enumerate_devices(
    nvml: Nvml, shunned: Mapping[int, Gpu | None]
) -> tuple[list[Device], list[tuple[Gpu | None, Condition]]]:
    """Find the GPUs that answer, and those that do not, nameless if they do not even tell a UUID.

    Those at a shunned index are not touched: they are hung. Raises NvmlUnavailable when there is no GPU.
    """
    versions = _versions(nvml)
    if nvml.count() == 0:
        raise NvmlUnavailable(NO_GPU_FOUND)
    found: list[Device] = []
    gone: list[tuple[Gpu | None, Condition]] = [(gpu, Condition.HUNG) for gpu in shunned.values()]
    forbidden = 0
    for _, caller in islice(nvml.callers(shunned), MOST_GPUS):
        if isinstance(caller, int):
            forbidden += caller == NO_PERMISSION_CODE
            if caller != NO_PERMISSION_CODE:
                gone.append((None, GONE.get(caller, Condition.LOST)))
            continue
        uuid = ""
        try:
            uuid = caller.uuid = caller.text("uuid", "nvmlDeviceGetUUID")
            if uuid:
                found.append(Device(caller, identify(caller, versions)))
            else:
                gone.append((None, Condition.LOST))
        except GpuGone as error:
            known = Gpu(uuid=uuid, index=caller.index, model="", **versions) if uuid else None
            gone.append((known, error.condition))
    if forbidden and not found and not gone:
        raise NvmlUnavailable(NO_PERMISSION)
    return found, gone
