"""The manifests keep to the schemas of Kubernetes and the Prometheus operator, and agree with one another."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.prometheus_operator.v1 import PodMonitor

from gputally.settings import load
from tests.command.processes import gputally

FOLDER = Path(__file__).parents[2] / "packaging" / "kubernetes"
HOLDERS = FOLDER.parents[1] / "docs" / "holders.md"
PATCH = "with-pod-resources.patch.yaml"
VERSIONS = ("1.28", "1.31", "1.34", "1.37")
Manifest = dict[str, Any]


def manifests() -> Iterator[Manifest]:
    """Give all that is to be applied."""
    for path in sorted(FOLDER.glob("*.yaml")):
        if path.name != PATCH:
            yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def one(kind: str) -> Manifest:
    """Give the one manifest of a kind."""
    (found,) = [manifest for manifest in manifests() if manifest["kind"] == kind]
    return found


def merged(below: Any, above: Any) -> Any:  # noqa: ANN401  whatever YAML holds
    """Merge as Kubernetes merges a patch: containers, volumes and mounts by their names."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below.get(key), value) for key, value in above.items()}
    if isinstance(above, list) and above and isinstance(above[0], dict):
        key = "mountPath" if "mountPath" in above[0] else "name"
        found = {item[key]: item for item in below or ()}
        for item in above:
            found[item[key]] = merged(found.get(item[key]), item)
        return list(found.values())
    return above


def with_pod_resources() -> Manifest:
    """Give the DaemonSet after the patch."""
    patch = yaml.safe_load((FOLDER / PATCH).read_text(encoding="utf-8"))
    found: Manifest = merged(copy.deepcopy(one("DaemonSet")), patch)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_own_schemas(version: str) -> None:
    """Each manifest, and the DaemonSet with its patch: no key that Kubernetes does not know."""
    ours = [manifest for manifest in manifests() if manifest["kind"] != "PodMonitor"]
    assert len(ours) == 6
    for manifest in (*ours, with_pod_resources()):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_refuse_what_is_wrong() -> None:
    """A key that is written wrong, and a value of the wrong kind."""
    wrong = one("DaemonSet")
    wrong["spec"]["template"]["spec"]["hostPid"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostPid"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_the_operators_schema() -> None:
    """The PodMonitor is understood whole, nothing of it is left aside."""
    told = one("PodMonitor")
    understood = PodMonitor.model_validate(told).model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert understood == told


def test_they_agree() -> None:
    """Names, labels, ports and volumes that one names are there in the other."""
    daemon, settings = one("DaemonSet"), one("ConfigMap")
    names = {manifest["metadata"].get("namespace", "gputally") for manifest in manifests()}
    assert names == {one("Namespace")["metadata"]["name"]}
    labels = daemon["spec"]["template"]["metadata"]["labels"]
    assert daemon["spec"]["selector"]["matchLabels"] == labels
    monitor = one("PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"] == labels
    pod = daemon["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == one("ServiceAccount")["metadata"]["name"]
    assert one("ClusterRoleBinding")["roleRef"]["name"] == one("ClusterRole")["metadata"]["name"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} == set(ports)
    assert ports["http"] == 9740
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    (named,) = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
    assert named == settings["metadata"]["name"]
    (cluster,) = [one["replacement"] for one in monitor["podMetricsEndpoints"][0]["relabelings"][1:]]
    assert f'cluster = "{cluster}"' in settings["data"]["gputally.toml"]


@pytest.mark.parametrize("manifest", [one("DaemonSet"), with_pod_resources()], ids=["user", "pod-resources"])
def test_the_agent_has_no_right(manifest: Manifest) -> None:
    """No capability, no root file system to write, and no more of the host than is said."""
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    is_root = manifest != one("DaemonSet")
    assert pod["securityContext"]["runAsNonRoot"] is not is_root
    host = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    sockets = {"/var/lib/kubelet/pod-resources"} if is_root else set()
    assert host == {"/var/lib/gputally", "/var/log/pods"} | sockets
    writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert sorted(writable) == ["state", "tmp"]
    assert {pod.get("hostNetwork"), pod.get("hostIPC")} == {None}
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert f"chown -R {user} " in pod["initContainers"][0]["command"][-1]


def test_what_it_may_ask_is_what_the_docs_say() -> None:
    """The role has the two rules of docs/holders.md."""
    told = HOLDERS.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(told)["rules"] == one("ClusterRole")["rules"]


def test_the_agent_takes_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the ConfigMap and the variables of the container; it starts with its arguments."""
    path = tmp_path / "gputally.toml"
    path.write_text(one("ConfigMap")["data"]["gputally.toml"], encoding="utf-8")
    (container,) = one("DaemonSet")["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert told["GPUTALLY_SETTINGS"] == "/etc/gputally/gputally.toml"
    monkeypatch.setenv("GPUTALLY_NODE_NAME", "node-7")
    settings = load(path, {"GPUTALLY_NODE_NAME": "node-7"})
    assert (settings.node.name, settings.web.listen, settings.holders.api_server) == (
        "node-7",
        "0.0.0.0",  # noqa: S104  within the pod's own network
        "in-cluster",
    )
    words = (
        "--settings",
        path,
        "--simulate",
        "t4x1",
        "--for",
        "0",
        "--port",
        "0",
        "--journal",
        tmp_path / "j.db",
    )
    assert gputally(tmp_path, *container["args"], *words).code == 0
