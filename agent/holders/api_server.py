"""What Kubernetes' API server says of this node and its pods, asked once a minute.

It is asked sooner for a pod that is new on a GPU. What it said holds for a while where it does not answer.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple
from urllib.parse import quote

from agent.holders.api_client import ApiError, Client, Session
from agent.holders.kubelet import LONGEST_LABEL, LONGEST_NAME
from agent.holders.wire import tidy

REFRESH_SECONDS = 60.0
EARLY_SECONDS = 15.0
HOLDS_SECONDS = 900.0
PODS_A_PAGE = 500
MOST_PAGES = 20
MOST_BYTES = 16 * 1024 * 1024
MOST_LABELS = 64

DRAINING_TAINTS = frozenset(
    {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/out-of-service",
        "node.kubernetes.io/disk-pressure",
        "node.kubernetes.io/pid-pressure",
        "node.kubernetes.io/network-unavailable",
        "node.cloudprovider.kubernetes.io/uninitialized",
        "node.cloudprovider.kubernetes.io/shutdown",
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
    }
)
"""Taints by which Kubernetes itself keeps work away. Others may be meant for pods that want no GPU."""

_EFFECTS = frozenset({"NoSchedule", "NoExecute"})
_ENDED = frozenset({"Succeeded", "Failed"})
_STATIC_UID = "kubernetes.io/config.hash"
_LONGEST_KEY = LONGEST_NAME + 1 + LONGEST_LABEL
_LONGEST_TOKEN = 16_384
_NODE_RIGHT = "get nodes"


# Out of the server's memory: all nodes ask, and the database behind it would go through all of the pods.
_CACHED: Mapping[str, str] = {"resourceVersion": "0"}


class PodName(NamedTuple):
    """What a pod is called."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What the API server says of a pod; `uids` are those that its cgroups may be named by."""

    called: PodName
    uids: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What is known from the API server; `trouble` says what is not, and what to do."""

    pods: Mapping[PodName, Pod] = field(default_factory=dict)
    drained: str = ""
    trouble: str = ""


class ApiServer:
    """Asks about one node, and remembers."""

    def __init__(self, client: Client, node: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._node = node
        self._monotonic = monotonic
        self._asked_at: float | None = None
        self._sought: frozenset[PodName] = frozenset()
        self._pods: tuple[float, Mapping[PodName, Pod]] = (0.0, {})
        self._drained: tuple[float, str] = (0.0, "")
        self._trouble = ""

    def about(self, holding: frozenset[PodName]) -> Cluster:
        """Say what is known; `holding` are the pods that hold GPUs now."""
        now = self._monotonic()
        new = holding - self._pods[1].keys() - self._sought
        pause_seconds = EARLY_SECONDS if new else REFRESH_SECONDS
        if self._asked_at is None or now - self._asked_at >= pause_seconds:
            self._trouble = "; ".join(self._ask(now))
            self._asked_at = now
            self._sought = holding
        (pods_at, pods), (drained_at, drained) = self._pods, self._drained
        return Cluster(
            pods=pods if now - pods_at < HOLDS_SECONDS else {},
            drained=drained if now - drained_at < HOLDS_SECONDS else "",
            trouble=self._trouble,
        )

    def _ask(self, now: float) -> list[str]:
        """Ask for node and pods, and give the troubles; one that is not answered spares the other."""
        troubles = []
        try:
            session = self._client.session(MOST_BYTES)
        except ApiError as error:
            return [f"the API server {error}"]
        try:
            node = session.get(f"/api/v1/nodes/{quote(self._node, safe='')}", _CACHED)
            self._drained = now, drained_of(node)
        except ApiError as error:
            troubles.append(self._why(error, _NODE_RIGHT))
            if not error.status:
                return troubles
        try:
            self._pods = now, self._list(session)
        except ApiError as error:
            troubles.append(self._why(error, "list pods"))
        return troubles

    def _list(self, session: Session) -> Mapping[PodName, Pod]:
        query = {"fieldSelector": f"spec.nodeName={self._node}", "limit": str(PODS_A_PAGE)}
        more = _CACHED
        found: dict[PodName, Pod] = {}
        for _ in range(MOST_PAGES):
            pods, token = page_of(session.get("/api/v1/pods", {**query, **more}, slim))
            found.update((pod.called, pod) for pod in pods)
            if not token:
                return found
            more = {"continue": token}
        raise ApiError(f"gave more than {MOST_PAGES} pages of pods")

    def _why(self, error: ApiError, right: str) -> str:
        match error.status:
            case 401:
                why = "refuses the token (401): see token_file, and whether it is of this cluster"
            case 403:
                why = f"forbids to {right} (403): the agent's account needs a ClusterRole that allows it"
            case 404 if right == _NODE_RIGHT:
                why = f"knows no node {self._node!r} (404): set node to its name in Kubernetes"
            case _:
                why = f"{error}, asked to {right}"
        return f"the API server {why}"


def drained_of(node: object) -> str:
    """Say why the scheduler puts no more work on a node. Raises ApiError for what is no node."""
    spec = node.get("spec") if isinstance(node, dict) else None
    if not isinstance(spec, dict):
        raise ApiError("did not answer with a node")
    taints = spec.get("taints")
    keys = {taint.get("key") for taint in (taints if isinstance(taints, list) else ()) if _repels(taint)}
    cordoned = ["cordoned"] if spec.get("unschedulable") is True else []
    return ", ".join([*cordoned, *(f"tainted {key}" for key in sorted(DRAINING_TAINTS & keys))])


def page_of(answer: object) -> tuple[list[Pod], str]:
    """Give the pods of a page read through `slim`, and by what token it goes on. Raises ApiError."""
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list) or not isinstance(answer, dict):
        raise ApiError("did not answer with a list of pods")
    meta = answer.get("metadata")
    token = meta.get("continue") if isinstance(meta, dict) else ""
    if token and not (isinstance(token, str) and len(token) <= _LONGEST_TOKEN):
        raise ApiError("did not say how its list of pods goes on")
    return [pod for pod in items if isinstance(pod, Pod)], token or ""


def slim(found: dict[str, object]) -> object:
    """Make a pod of what is one as soon as it is read, so that no list of them is ever there in full."""
    meta = found.get("metadata")
    if not isinstance(meta, dict) or "items" in found:
        return found
    namespace, name = meta.get("namespace"), meta.get("name")
    if not isinstance(namespace, str) or not isinstance(name, str):
        return None
    status = found.get("status")
    uids = (meta.get("uid"), _mapping(meta.get("annotations")).get(_STATIC_UID))
    return Pod(
        called=PodName(tidy(namespace, LONGEST_LABEL), tidy(name, LONGEST_NAME)),
        uids=tuple(uid for uid in uids if isinstance(uid, str)),
        labels=_labels(_mapping(meta.get("labels"))),
        ended=isinstance(status, dict) and str(status.get("phase")) in _ENDED,
    )


def _repels(taint: object) -> bool:
    if not isinstance(taint, dict) or not isinstance(taint.get("key"), str):
        return False
    return str(taint.get("effect")) in _EFFECTS


def _labels(found: Mapping[str, object]) -> Mapping[str, str]:
    texts = ((key, value) for key, value in found.items() if isinstance(value, str))
    return {tidy(key, _LONGEST_KEY): tidy(value, LONGEST_LABEL) for key, value in islice(texts, MOST_LABELS)}


def _mapping(found: object) -> Mapping[str, object]:
    return found if isinstance(found, dict) else {}
