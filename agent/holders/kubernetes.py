"""Which pods hold GPUs: the kubelet says who was given what, the API server, where told, who they are.

A pod is one claimant with all of its containers that hold something, whichever device it is about. Without
the API server, the folders of the pods' logs tell which pod a process in a cgroup belongs to: the kubelet
does not say UIDs.
"""

import os
import re
import socket as sockets
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from agent.holders.api_client import Client
from agent.holders.api_server import ApiServer, Cluster, Pod, PodName
from agent.holders.contract import Answer, Claimant, Question
from agent.holders.kube_devices import Places
from agent.holders.kubelet import LONGEST_NAME, SOCKET, Grant, Kubelet

POD_LOGS = Path("/var/log/pods")
KEY = "pod:"
MOST_FOLDERS = 10_000

_FOLDER = re.compile(r"([a-z0-9.-]{1,253})_([a-z0-9.-]{1,253})_([0-9a-f-]{1,64})")


class _Held(NamedTuple):
    pod: PodName
    container: str
    uuid: str


class KubernetesWorld:
    """A world: the pods of this node. Raises ValueError for an `api_server` that will not do.

    `offered` are the GPUs and slices that device plugins let the kubelet give out, None where it is silent.
    """

    name = "kubernetes"

    def __init__(
        self,
        *,
        socket: Path = SOCKET,
        api_server: str = "",
        token_file: str = "",
        ca_file: str = "",
        node: str = "",
        timeout_seconds: float = 5.0,
        pod_logs: Path = POD_LOGS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.offered: frozenset[str] | None = None
        self._kubelet = Kubelet(socket=socket, timeout_seconds=timeout_seconds, monotonic=monotonic)
        self._pod_logs = pod_logs
        self._api: ApiServer | None = None
        if api_server:
            client = Client(
                api_server=api_server, token_file=token_file, ca_file=ca_file, timeout_seconds=timeout_seconds
            )
            self._api = ApiServer(client, node or own_node(), monotonic=monotonic)

    def available(self) -> bool:
        """Say whether a kubelet seems to be here."""
        return self._kubelet.available()

    def look(self, question: Question) -> Answer:
        """Ask the kubelet, and at times the API server; each has the timeout. Raises WorldError."""
        places = Places(question)
        told = self._kubelet.ask()
        if told.offers is None:
            self.offered = None
        else:
            self.offered = frozenset(filter(None, (places.uuid(device) for device in told.offers)))
        found, strange = _resolved(told.grants, places)
        holding = frozenset(held.pod for held in found)
        cluster = self._api.about(holding) if self._api else Cluster()
        claimants = _claimants(found, cluster)
        return Answer(
            given=_given(found, claimants),
            named=self._named(question.keys, cluster, claimants),
            drained=cluster.drained,
            trouble="; ".join(filter(None, (cluster.trouble, _about(strange)))),
        )

    def close(self) -> None:
        """Do nothing: no connection outlives a look."""

    def _named(
        self, keys: frozenset[str], cluster: Cluster, claimants: Mapping[PodName, Claimant]
    ) -> Mapping[str, Claimant]:
        """Name the pods whose UIDs processes were found under, as far as they are known."""
        wanted = {key.removeprefix(KEY).replace("_", "-"): key for key in keys if key.startswith(KEY)}
        called = {uid: pod.called for pod in cluster.pods.values() for uid in pod.uids if uid in wanted}
        if len(called) < len(wanted):
            called = {**self._by_folder(wanted.keys()), **called}
        return {
            wanted[uid]: claimants.get(name) or _claimant(name, (), cluster.pods.get(name))
            for uid, name in called.items()
        }

    def _by_folder(self, wanted: AbstractSet[str]) -> Mapping[str, PodName]:
        """Give pods by UID from the folders that the kubelet makes for their logs: namespace_name_UID."""
        found: dict[str, PodName] = {}
        try:
            with os.scandir(self._pod_logs) as folders:
                for folder in islice(folders, MOST_FOLDERS):
                    match = _FOLDER.fullmatch(folder.name)
                    if match and match[3] in wanted:
                        found[match[3]] = PodName(match[1], match[2])
        except (OSError, ValueError):
            return found
        return found


def own_node() -> str:
    """Give this node's name as Kubernetes has it by default: NODE_NAME, else the name of the host."""
    return os.environ.get("NODE_NAME", "") or sockets.gethostname().strip().lower()


def _resolved(grants: Iterable[Grant], places: Places) -> tuple[list[_Held], list[str]]:
    """Give what is held by UUID, and the ids of devices that ought to be known here and are not."""
    found: list[_Held] = []
    strange: list[str] = []
    for grant in grants:
        uuid = places.uuid(grant.device)
        if uuid:
            found.append(_Held(PodName(grant.namespace, grant.pod), grant.container, uuid))
        elif places.concerns(grant.device):
            strange.append(grant.device.id)
    return found, strange


def _claimants(found: Iterable[_Held], cluster: Cluster) -> Mapping[PodName, Claimant]:
    """Make a claimant of every pod, but of those that ended: older kubelets still list them."""
    containers: dict[PodName, dict[str, None]] = {}
    for held in found:
        containers.setdefault(held.pod, {})[held.container] = None
    pods = {called: cluster.pods.get(called) for called in containers}
    return {
        called: _claimant(called, containers[called], pod)
        for called, pod in pods.items()
        if pod is None or not pod.ended
    }


def _claimant(called: PodName, containers: Iterable[str], pod: Pod | None) -> Claimant:
    return Claimant(
        kind="pod",
        name=f"{called.namespace}/{called.name}",
        namespace=called.namespace,
        container="+".join(containers)[:LONGEST_NAME],
        labels=pod.labels if pod else {},
    )


def _given(
    found: Iterable[_Held], claimants: Mapping[PodName, Claimant]
) -> Mapping[str, tuple[Claimant, ...]]:
    holders: dict[str, dict[PodName, None]] = {}
    for held in found:
        if held.pod in claimants:
            holders.setdefault(held.uuid, {})[held.pod] = None
    return {uuid: tuple(claimants[called] for called in pods) for uuid, pods in holders.items()}


def _about(strange: list[str]) -> str:
    if not strange:
        return ""
    count = (
        f"{len(strange)} devices that pods were given are"
        if len(strange) > 1
        else "a device that a pod was given is"
    )
    return f"{count} no GPU or slice known here, such as {strange[0]!r}: its holder is not named"
