"""The messages of the kubelet's pod-resources API, version 1, made by the public protobuf library.

Nothing here is shared with the product, which takes messages apart by itself.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "v1.PodResourcesLister"

# Each field as name, number and type; a type in brackets repeats, and one that is listed here is a message.
_LAYOUT: dict[str, list[tuple[str, int, str]]] = {
    "ListPodResourcesRequest": [],
    "ListPodResourcesResponse": [("pod_resources", 1, "[PodResources]")],
    "AllocatableResourcesRequest": [],
    "AllocatableResourcesResponse": [
        ("devices", 1, "[ContainerDevices]"),
        ("cpu_ids", 2, "[int64]"),
        ("memory", 3, "[ContainerMemory]"),
    ],
    "PodResources": [
        ("name", 1, "string"),
        ("namespace", 2, "string"),
        ("containers", 3, "[ContainerResources]"),
    ],
    "ContainerResources": [
        ("name", 1, "string"),
        ("devices", 2, "[ContainerDevices]"),
        ("cpu_ids", 3, "[int64]"),
        ("memory", 4, "[ContainerMemory]"),
        ("dynamic_resources", 5, "[DynamicResource]"),
    ],
    "ContainerDevices": [
        ("resource_name", 1, "string"),
        ("device_ids", 2, "[string]"),
        ("topology", 3, "TopologyInfo"),
    ],
    "ContainerMemory": [("memory_type", 1, "string"), ("size", 2, "uint64"), ("topology", 3, "TopologyInfo")],
    "TopologyInfo": [("nodes", 1, "[NUMANode]")],
    "NUMANode": [("ID", 1, "int64")],
    "DynamicResource": [
        ("claim_name", 2, "string"),
        ("claim_namespace", 3, "string"),
        ("claim_resources", 4, "[ClaimResource]"),
    ],
    "ClaimResource": [
        ("cdi_devices", 1, "[CDIDevice]"),
        ("driver_name", 2, "string"),
        ("pool_name", 3, "string"),
        ("device_name", 4, "string"),
    ],
    "CDIDevice": [("name", 1, "string")],
}

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Field.TYPE_STRING, "int64": _Field.TYPE_INT64, "uint64": _Field.TYPE_UINT64}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="stand_in.proto", package="v1", syntax="proto3")
    for name, fields in _LAYOUT.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            bare = kind.strip("[]")
            label = _Field.LABEL_REPEATED if kind != bare else _Field.LABEL_OPTIONAL
            if bare in _SCALARS:
                message.field.add(name=field, number=number, label=label, type=_SCALARS[bare])
            else:
                message.field.add(
                    name=field, number=number, label=label, type=_Field.TYPE_MESSAGE, type_name=f".v1.{bare}"
                )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in _LAYOUT
    }


CLASSES = _classes()


def pod(name: str, *containers: Any, namespace: str = "research") -> Any:  # noqa: ANN401  made at run time
    """Make a pod with containers."""
    return CLASSES["PodResources"](name=name, namespace=namespace, containers=containers)


def container(name: str, *devices: Any, claims: Any = (), cpus: Any = ()) -> Any:  # noqa: ANN401
    """Make a container with devices of plugins, and of claims."""
    return CLASSES["ContainerResources"](name=name, devices=devices, dynamic_resources=claims, cpu_ids=cpus)


def devices(*ids: str, resource: str = "nvidia.com/gpu") -> Any:  # noqa: ANN401
    """Make devices of a plugin; they sit on NUMA node 1."""
    topology = CLASSES["TopologyInfo"](nodes=[CLASSES["NUMANode"](ID=1)])
    return CLASSES["ContainerDevices"](resource_name=resource, device_ids=ids, topology=topology)


def claim(device: str, *cdi: str, driver: str = "gpu.nvidia.com") -> Any:  # noqa: ANN401
    """Make a device of a claim of DRA, with the names that CDI has for it."""
    resource = CLASSES["ClaimResource"](
        driver_name=driver,
        pool_name="node-1",
        device_name=device,
        cdi_devices=[CLASSES["CDIDevice"](name=name) for name in cdi],
    )
    return CLASSES["DynamicResource"](
        claim_name="one", claim_namespace="research", claim_resources=[resource]
    )


def listing(*pods: Any) -> Any:  # noqa: ANN401
    """Make the answer to List."""
    return CLASSES["ListPodResourcesResponse"](pod_resources=pods)


def offering(*offered: Any) -> Any:  # noqa: ANN401
    """Make the answer to GetAllocatableResources."""
    return CLASSES["AllocatableResourcesResponse"](devices=offered, cpu_ids=range(64))
