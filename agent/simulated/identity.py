"""Who a simulated GPU is, and where it sits: what never changes."""

from collections.abc import Callable, Mapping

from agent.simulated.calling import OK, WRONG_VERSION, Argument, Look, put_number, put_text, target

PLATFORM_V2 = 0x200002C
CHASSIS = "1821324190017"
"""Serial number of the chassis that all GPUs of the node sit in, where the platform tells it."""
TRAY = 1


def _text(attribute: str) -> Callable[..., int]:
    def answer(look: Look, buffer: Argument, length: Argument) -> int:
        return put_text(getattr(look.simulation.gpu(look.gpu), attribute), buffer, length)

    return answer


def _index(look: Look, out: Argument) -> int:
    return put_number(look.gpu, out)


def _module(look: Look, out: Argument) -> int:
    return put_number(look.gpu + 1, out)


def _inforom(look: Look, buffer: Argument, length: Argument) -> int:
    return put_text(look.simulation.model.inforom, buffer, length)


def _architecture(look: Look, out: Argument) -> int:
    return put_number(look.simulation.model.architecture, out)


def _compute_capability(look: Look, major: Argument, minor: Argument) -> int:
    capability = look.simulation.model.compute_capability
    put_number(capability[0], major)
    return put_number(capability[1], minor)


def _pci(look: Look, out: Argument) -> int:
    info, bus_id = target(out), look.simulation.pci_bus(look.gpu)
    info.busId = bus_id.encode()
    info.busIdLegacy = bus_id[4:].encode()
    info.domain = 0
    info.bus = int(bus_id[9:11], 16)
    info.device = 0
    info.pciDeviceId = look.simulation.model.pci_device_id
    return OK


def _platform(look: Look, out: Argument) -> int:
    place = target(out)
    if place.version != PLATFORM_V2:
        return WRONG_VERSION
    place.chassisSerialNumber = CHASSIS.encode()
    place.slotNumber = bytes([look.gpu // 4 + 1])
    place.trayIndex = bytes([TRAY])
    place.hostId = bytes([1])
    place.peerType = bytes([1])
    place.moduleId = bytes([look.gpu + 1])
    return OK


def _event_types(look: Look, out: Argument) -> int:
    return put_number(look.simulation.model.event_types, out)


IDENTITY_CALLS: Mapping[str, tuple[str, Callable[..., int]]] = {
    "nvmlDeviceGetIndex": ("", _index),
    "nvmlDeviceGetUUID": ("", _text("uuid")),
    "nvmlDeviceGetName": ("", _text("model")),
    "nvmlDeviceGetSerial": ("serial", _text("serial")),
    "nvmlDeviceGetBoardPartNumber": ("board_part", _text("board_part")),
    "nvmlDeviceGetVbiosVersion": ("vbios", _text("vbios")),
    "nvmlDeviceGetInforomImageVersion": ("inforom", _inforom),
    "nvmlDeviceGetPciInfo_v3": ("pci", _pci),
    "nvmlDeviceGetMinorNumber": ("minor", _index),
    "nvmlDeviceGetModuleId": ("module", _module),
    "nvmlDeviceGetPlatformInfo": ("platform", _platform),
    "nvmlDeviceGetArchitecture": ("architecture", _architecture),
    "nvmlDeviceGetCudaComputeCapability": ("compute_capability", _compute_capability),
    "nvmlDeviceGetSupportedEventTypes": ("event_types", _event_types),
}
"""Rows of `agent.simulated.calls.DEVICE_CALLS`."""
