"""Pods are the claimants of the devices that the kubelet gave them, with or without processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.holders.contract import Answer, Claimant, Question, SliceOf, World, WorldError
from agent.holders.kubernetes import KubernetesWorld, own_node
from agent.tick import Gpu
from tests.kubelet import api as cluster
from tests.kubelet.messages import claim, container, devices, offering, pod
from tests.kubelet.rude import rude, silent
from tests.kubelet.stand_in import Kubelet

ONE, TWO = "GPU-551720f0-caf0-22b7-f525-2a51a6ab478d", "GPU-661720f0-caf0-22b7-f525-2a51a6ab478d"
MIG = "MIG-771720f0-caf0-22b7-f525-2a51a6ab478d"
UID = "0a1b2c3d-0000-4000-8000-000000000001"

GPUS = (Gpu(uuid=ONE, index=0, model="H", minor="0"), Gpu(uuid=TWO, index=1, model="H", minor="1"))
QUESTION = Question(gpus=GPUS, slices=(SliceOf(MIG, TWO, "1g.10gb"),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a name for the socket."""
    return tmp_path / "kubelet.sock"


@pytest.fixture
def kubelet(path: Path) -> Iterator[Kubelet]:
    """Give a running kubelet."""
    kubelet = Kubelet()
    with kubelet.on(path):
        yield kubelet


@pytest.fixture
def api() -> Iterator[cluster.Api]:
    """Give a running API server."""
    with cluster.Api().running() as api:
        yield api


def world(path: Path, api: cluster.Api | None = None) -> KubernetesWorld:
    """Make a world, of patience on a slow machine."""
    return KubernetesWorld(
        socket=path,
        api_server=api.url if api else "",
        node=cluster.NODE,
        timeout_seconds=30,
        pod_logs=path.parent / "pods",
    )


def look(path: Path, api: cluster.Api | None = None, question: Question = QUESTION) -> Answer:
    """Look once."""
    return world(path, api).look(question)


def names(answer: Answer) -> dict[str, list[str]]:
    """Give who was given what, by name."""
    return {uuid: [one.name for one in claimants] for uuid, claimants in answer.given.items()}


def test_it_is_a_world(path: Path) -> None:
    """The contract of all worlds."""
    one: World = world(path)

    assert one.name == "kubernetes"
    one.close()


def test_whole_gpus_are_the_pods(path: Path, kubelet: Kubelet) -> None:
    """A pod that runs nothing on them holds them."""
    kubelet.pods = (pod("train-0", container("main", devices(ONE, TWO))), pod("web", container("main")))

    answer = look(path)

    train = Claimant(kind="pod", name="research/train-0", namespace="research", container="main")
    assert answer == Answer(given={ONE: (train,), TWO: (train,)})


def test_slices_are_the_pods(path: Path, kubelet: Kubelet) -> None:
    """By the slice's own UUID."""
    kubelet.pods = (pod("small", container("main", devices(MIG, resource="nvidia.com/mig-1g.10gb"))),)

    assert names(look(path)) == {MIG: ["research/small"]}


def test_replicas_are_several_pods_on_a_gpu(path: Path, kubelet: Kubelet) -> None:
    """Each of them once, however many replicas it has."""
    kubelet.pods = (
        pod("a", container("main", devices(f"{ONE}::0", f"{ONE}::3", resource="nvidia.com/gpu.shared"))),
        pod("b", container("main", devices(f"{ONE}::1", resource="nvidia.com/gpu.shared"))),
    )

    assert names(look(path)) == {ONE: ["research/a", "research/b"]}


def test_claims_of_dra_are_the_pods(path: Path, kubelet: Kubelet) -> None:
    """By minor number, or by the UUID where CDI's name has one; several pods may share a claim."""
    kubelet.pods = (
        pod("a", container("main", claims=[claim("gpu-1")])),
        pod("b", container("main", claims=[claim("gpu-0", f"k8s.gpu.nvidia.com/device={TWO}")])),
    )

    assert names(look(path)) == {TWO: ["research/a", "research/b"]}


def test_a_pod_is_one_claimant_with_all_its_containers(path: Path, kubelet: Kubelet) -> None:
    """Whichever of them a device was given to."""
    kubelet.pods = (
        pod(
            "a", container("one", devices(ONE)), container("no"), container("two", devices(f"{ONE}::1", TWO))
        ),
        pod("many", *(container(f"container-{n:03}", devices(TWO)) for n in range(100))),
    )

    given = look(path).given

    assert [one.container for one in given[ONE]] == ["one+two"]
    assert given[TWO][0] is given[ONE][0]
    assert len(given[TWO][1].container) == 253


def test_a_node_without_gpus_is_answered(path: Path, kubelet: Kubelet) -> None:
    """Nothing to know is no trouble."""
    kubelet.pods = (pod("web", container("main", cpus=[1])),)

    assert look(path, question=Question()) == Answer()


def test_devices_that_are_not_known_here_are_counted(path: Path, kubelet: Kubelet) -> None:
    """One is named; cards of other kinds are nobody's trouble."""
    kubelet.pods = (
        pod(
            "a",
            container(
                "main", devices("GPU-0-7", "GPU-0-8"), devices("0000:1b:00.0", resource="nvidia.com/nic")
            ),
        ),
        pod("b", container("main", devices(ONE))),
    )

    answer = look(path)

    assert names(answer) == {ONE: ["research/b"]}
    assert answer.trouble.startswith("2 devices that pods were given")
    assert "'GPU-0-7'" in answer.trouble


def test_what_the_kubelet_may_give_out_is_known(path: Path, kubelet: Kubelet) -> None:
    """By UUID, replicas once; None where it does not tell."""
    asker = world(path)
    asker.look(QUESTION)
    before = asker.offered
    kubelet.offers = offering(
        devices(f"{ONE}::0", f"{ONE}::1"), devices(MIG, resource="nvidia.com/mig-1g.10gb")
    )
    asker = world(path)
    asker.look(QUESTION)
    assert before is None
    assert asker.offered == frozenset({ONE, MIG})


def test_labels_come_from_the_api_server(path: Path, kubelet: Kubelet, api: cluster.Api) -> None:
    """Owner and class are decided by them."""
    kubelet.pods = (pod("train-0", container("main", devices(ONE))),)
    api.pods = [cluster.pod("train-0", UID, labels={"team": "vision"})]
    api.node["spec"] = {"unschedulable": True}

    answer = look(path, api)

    assert answer.given[ONE][0].labels == {"team": "vision"}
    assert answer.drained == "cordoned"


def test_processes_are_named_by_the_uid_of_their_pod(path: Path, kubelet: Kubelet, api: cluster.Api) -> None:
    """Pods that were given nothing may run on GPUs as well; a static pod's cgroup has another UID."""
    kubelet.pods = (pod("train-0", container("main", devices(ONE))),)
    api.pods = [
        cluster.pod("train-0", UID),
        cluster.pod(
            "exporter", "0e", namespace="monitoring", annotations={"kubernetes.io/config.hash": "cafe"}
        ),
        cluster.pod("unseen", "0f"),
    ]
    keys = frozenset({f"pod:{UID.replace('-', '_')}", "pod:cafe", "pod:gone", "slurm:7"})

    answer = look(path, api, Question(gpus=GPUS, keys=keys))

    assert {key: one.name for key, one in answer.named.items()} == {
        f"pod:{UID.replace('-', '_')}": "research/train-0",
        "pod:cafe": "monitoring/exporter",
    }
    assert answer.named[f"pod:{UID.replace('-', '_')}"] is answer.given[ONE][0]


def test_without_the_api_server_the_folders_of_logs_name_pods(path: Path, kubelet: Kubelet) -> None:
    """The kubelet makes one for every pod: namespace, name, UID."""
    kubelet.pods = (pod("train-0", container("main", devices(ONE))),)
    for folder in (
        f"research_train-0_{UID}",
        "kube-system_proxy_cafe",
        "research_other_0f",
        "x_y",
        "a_b\n_0d",
        "_",
    ):
        (path.parent / "pods" / folder).mkdir(parents=True)
    keys = frozenset({f"pod:{UID}", "pod:cafe", "pod:0d", "pod:gone", "container:cafe"})

    answer = look(path, question=Question(gpus=GPUS, keys=keys))

    assert {key: one.name for key, one in answer.named.items()} == {
        f"pod:{UID}": "research/train-0",
        "pod:cafe": "kube-system/proxy",
    }
    assert answer.named[f"pod:{UID}"] is answer.given[ONE][0]


def test_without_api_server_and_logs_nobody_is_named(path: Path, kubelet: Kubelet) -> None:
    """The kubelet says no UIDs; what it gave is known all the same."""
    kubelet.pods = (pod("train-0", container("main", devices(ONE))),)

    answer = look(path, question=Question(gpus=GPUS, keys=frozenset({f"pod:{UID}"})))

    assert (names(answer), answer.named) == ({ONE: ["research/train-0"]}, {})


def test_pods_that_ended_hold_nothing(path: Path, kubelet: Kubelet, api: cluster.Api) -> None:
    """Older kubelets list them until they are deleted, when others have their GPUs already."""
    kubelet.pods = (
        pod("done", container("main", devices(ONE))),
        pod("next", container("main", devices(ONE))),
    )
    api.pods = [cluster.pod("done", "1", phase="Succeeded"), cluster.pod("next", "2")]

    assert names(look(path, api)) == {ONE: ["research/next"]}


def test_trouble_with_the_api_server_loses_nothing_of_the_kubelet(
    path: Path, kubelet: Kubelet, api: cluster.Api
) -> None:
    """It is told beside the answer."""
    kubelet.pods = (pod("train-0", container("main", devices(ONE))),)
    api.statuses = {"pods": 403, "nodes": 403}

    answer = look(path, api)

    assert names(answer) == {ONE: ["research/train-0"]}
    assert "403" in answer.trouble


def test_a_silent_kubelet_raises_a_world_error(path: Path) -> None:
    """The lookout makes of it what it must."""
    with rude(path, silent), pytest.raises(WorldError):
        KubernetesWorld(socket=path, timeout_seconds=0.2).look(QUESTION)


def test_a_bad_setting_is_refused_at_once(path: Path) -> None:
    """Not when it is first used."""
    with pytest.raises(ValueError, match="api_server"):
        KubernetesWorld(socket=path, api_server="http://10.0.0.1")


def test_the_node_has_the_name_that_kubernetes_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the host in small letters, unless the environment tells."""
    monkeypatch.delenv("NODE_NAME", raising=False)
    assert own_node() == own_node().lower().strip() != ""
    monkeypatch.setenv("NODE_NAME", "Node-7")
    assert own_node() == "Node-7"
