"""What the kubelet says of the devices that it gave to pods: its pod-resources API, version 1.

Pods without devices are not told. Texts are as the kubelet sent them, but short and printable.
"""

import errno
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.holders.contract import WorldError
from agent.holders.protobuf import Decoder, Fields, last, pieces
from agent.holders.wire import Connection, Status, WireError, tidy

SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
OFFERS_SECONDS = 60.0
NO_OFFERS_SECONDS = 3600.0
LONGEST_NAME = 253
LONGEST_LABEL = 63

_LIST = "/v1.PodResourcesLister/List"
_OFFERS = "/v1.PodResourcesLister/GetAllocatableResources"

# Numbers of fields, by message.
_PODS, _OFFERED = 1, 1
_POD_NAME, _POD_NAMESPACE, _POD_CONTAINERS = 1, 2, 3
_CONTAINER_NAME, _CONTAINER_DEVICES, _CONTAINER_CLAIMS = 1, 2, 5
_DEVICES_RESOURCE, _DEVICES_IDS = 1, 2
_CLAIM_RESOURCES = 4
_RESOURCE_CDI, _RESOURCE_DRIVER, _RESOURCE_DEVICE = 1, 2, 4
_CDI_NAME = 1


class Device(NamedTuple):
    """A device of a device plugin's resource, or of a driver of DRA: then with CDI's names for it."""

    resource: str
    id: str
    dynamic: bool = False
    cdi: tuple[str, ...] = ()


class Grant(NamedTuple):
    """A device that a container was given."""

    namespace: str
    pod: str
    container: str
    device: Device


class Told(NamedTuple):
    """What the kubelet told: what it gave, and what it has to give, which not every kubelet tells."""

    grants: tuple[Grant, ...]
    offers: tuple[Device, ...] | None


class Kubelet:
    """Asks the kubelet. Every question is a connection of its own, so that a restart needs no care."""

    def __init__(
        self,
        *,
        socket: Path = SOCKET,
        timeout_seconds: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = socket
        self._timeout_seconds = timeout_seconds
        self._monotonic = monotonic
        self._offers: tuple[Device, ...] | None = None
        self._offers_due = monotonic()

    def available(self) -> bool:
        """Say whether a kubelet seems to be here; one whose socket may not be seen is."""
        try:
            return stat.S_ISSOCK(self._socket.stat().st_mode)
        except PermissionError:
            return True
        except (OSError, ValueError):
            return False

    def ask(self) -> Told:
        """Ask what was given to whom; at times also what there is to give. Raises WorldError."""
        try:
            with Connection(self._socket, time.monotonic() + self._timeout_seconds) as connection:
                grants = tuple(_grants(connection.call(_LIST)))
                if self._monotonic() >= self._offers_due:
                    self._ask_offers(connection)
        except WireError as error:
            raise WorldError(self._why(error)) from None
        except OSError as error:
            raise WorldError(self._why_closed(error)) from None
        return Told(grants, self._offers)

    def _ask_offers(self, connection: Connection) -> None:
        """Ask what there is to give; a kubelet that cannot tell is not asked again for long."""
        pause_seconds = OFFERS_SECONDS
        try:
            decoder = Decoder()
            offered = pieces(decoder.fields(connection.call(_OFFERS)), _OFFERED)
            self._offers = tuple(device for one in offered for device in _plugged(decoder, one))
        except WireError as error:
            if error.code in {Status.UNIMPLEMENTED, Status.UNKNOWN}:
                self._offers = None
                pause_seconds = NO_OFFERS_SECONDS
        self._offers_due = self._monotonic() + pause_seconds

    def _why(self, error: WireError) -> str:
        match error.code:
            case Status.DEADLINE_EXCEEDED:
                return (
                    f"the kubelet did not answer on {self._socket} within {self._timeout_seconds:g} s: "
                    "see whether it is overloaded (journalctl -u kubelet)"
                )
            case Status.UNIMPLEMENTED:
                return f"the kubelet on {self._socket} has no pod-resources API v1: Kubernetes 1.20 has it"
            case Status.RESOURCE_EXHAUSTED:
                return f"the kubelet on {self._socket} refuses, too much is asked of it or of us: {error}"
            case code:
                return f"the kubelet on {self._socket} gave no usable answer (status {code}): {error}"

    def _why_closed(self, error: OSError) -> str:
        match error.errno:
            case errno.ENOENT | errno.ENOTDIR:
                return (
                    f"there is no {self._socket}: start the kubelet, and in a container mount "
                    "that folder of the host"
                )
            case errno.EACCES | errno.EPERM:
                return (
                    f"{self._socket} may not be opened: run the agent as root, or let its group into "
                    "the folder and the socket; in a container mount that folder of the host"
                )
            case errno.EAGAIN:
                return (
                    f"the kubelet takes no more connections on {self._socket}: see whether it is overloaded"
                )
            case errno.ECONNREFUSED:
                return f"nobody listens on {self._socket}: the kubelet is not running, or is starting"
            case _:
                return f"{self._socket} cannot be opened ({error.strerror or error})"


def _grants(message: bytes) -> Iterator[Grant]:
    decoder = Decoder()
    for pod in pieces(decoder.fields(message), _PODS):
        fields = decoder.fields(pod)
        for container in pieces(fields, _POD_CONTAINERS):
            held = decoder.fields(container)
            if _CONTAINER_DEVICES not in held and _CONTAINER_CLAIMS not in held:
                continue
            namespace = _name(last(fields, _POD_NAMESPACE), LONGEST_LABEL)
            name = _name(last(fields, _POD_NAME))
            label = _name(last(held, _CONTAINER_NAME), LONGEST_LABEL)
            for device in _held(decoder, held):
                yield Grant(namespace, name, label, device)


def _held(decoder: Decoder, container: Fields) -> Iterator[Device]:
    for piece in pieces(container, _CONTAINER_DEVICES):
        yield from _plugged(decoder, piece)
    for piece in pieces(container, _CONTAINER_CLAIMS):
        for claimed in pieces(decoder.fields(piece), _CLAIM_RESOURCES):
            yield _claimed(decoder, claimed)


def _plugged(decoder: Decoder, message: bytes) -> Iterator[Device]:
    """Give the devices of one resource of a device plugin."""
    fields = decoder.fields(message)
    resource = _name(last(fields, _DEVICES_RESOURCE))
    for one in pieces(fields, _DEVICES_IDS):
        yield Device(resource, _name(one))


def _claimed(decoder: Decoder, message: bytes) -> Device:
    """Give a device of a driver of DRA."""
    fields = decoder.fields(message)
    told = (last(decoder.fields(one), _CDI_NAME) for one in pieces(fields, _RESOURCE_CDI))
    driver, device = (_name(last(fields, number)) for number in (_RESOURCE_DRIVER, _RESOURCE_DEVICE))
    return Device(driver, device, dynamic=True, cdi=tuple(_name(name) for name in told))


def _name(text: bytes, longest: int = LONGEST_NAME) -> str:
    return tidy(text[:longest].decode("utf-8", "replace"), longest)
