"""What other exporters call things: their metrics as ours, and which labels tell GPU, node, model, holder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.holders.contract import Claimant
from agent.quantities import QUANTITIES
from exporters.dcgm import BASE_UNITS, FIELDS, NAMINGS

MIB = 2.0**20
XID, HOLDER = "xid", "holder"
"""Metrics that are no quantity: one tells the number of the latest XID, the labels of the other a holder."""
_OWN = re.compile(r"(dcgm|gpu|nvidia|nvitop)[-_.a-z0-9]*exporter", re.IGNORECASE)
"""Names of exporters themselves: where a GPU is free, a store may put theirs where that of the holder was."""


class Metric(NamedTuple):
    """What a metric is here: a quantity of ours, XID or HOLDER; its values times `factor` are in base units.

    With `base_label`, series that have that label are in base units already. `of_slices`: where a GPU is
    partitioned, each MIG instance has its own.
    """

    quantity: str
    factor: float = 1.0
    base_label: str = ""
    of_slices: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The names of one exporter. `anchors` are groups of metrics, one of which every GPU has.

    `totals` are expressions of the device memory in bytes, with RANGE in place of the time to look back; the
    labels of `info` tell more of a GPU. The first label of several that is there counts.
    """

    name: str
    exporter: str
    metrics: Mapping[str, Metric]
    anchors: tuple[tuple[str, ...], ...]
    uuid: str
    nodes: tuple[str, ...]
    models: tuple[str, ...]
    index: str
    totals: tuple[str, ...] = ()
    info: str = ""
    uuid_prefix: str = ""
    slice_id: str = ""
    slice_profile: str = ""
    unable: tuple[str, ...] = field(default=())

    def uuid_of(self, labels: Mapping[str, str]) -> str:
        """Give the UUID of a GPU as the driver writes it; empty for what is no GPU."""
        told = labels.get(self.uuid, "")
        if not told or told.startswith("MIG-"):
            return ""
        return told if told.startswith("GPU-") else f"{self.uuid_prefix}{told}"

    def told_as(self, uuid: str) -> str:
        """Give a UUID as the labels of this exporter have it."""
        return uuid.removeprefix(self.uuid_prefix) if self.uuid_prefix else uuid

    def node_of(self, labels: Mapping[str, str]) -> str:
        """Name the node of a series: a host, or else where it was scraped, without the port."""
        for name in self.nodes:
            told = labels.get(name, "")
            if told and not _OWN.search(told):
                return _without_port(told) if name == "instance" else told
        return _without_port(labels.get("instance", ""))

    def slice_of(self, labels: Mapping[str, str]) -> tuple[str, str]:
        """Give number and profile of a MIG instance; empty for a whole GPU."""
        told = labels.get(self.slice_id, "") if self.slice_id else ""
        return (told, labels.get(self.slice_profile, "")) if told else ("", "")


def _without_port(instance: str) -> str:
    host, colon, port = instance.rpartition(":")
    return host.strip("[]") if colon and port.isdigit() and host else instance


def claimant_of(labels: Mapping[str, str], *, exported: bool) -> Claimant | None:
    """Tell who holds what a series is of: a pod, a Slurm job, or the user of a process.

    With `exported`, the store keeps holders in labels that begin with `exported_`, and has the exporter's own
    pod where they were; without, what is plainly an exporter's own is left out all the same.
    """
    prefix = "exported_" if exported else ""
    pod = labels.get(f"{prefix}pod") or labels.get("pod_name", "")
    container = labels.get(f"{prefix}container") or labels.get("container_name", "")
    namespace = labels.get(f"{prefix}namespace") or labels.get("pod_namespace", "")
    if pod and not _OWN.search(pod) and not _OWN.search(container):
        return Claimant(
            kind="pod",
            name=f"{namespace}/{pod}" if namespace else pod,
            namespace=namespace,
            container=container,
        )
    if labels.get("hpc_job"):
        return Claimant(kind="slurm", name=labels["hpc_job"])
    if labels.get("username"):
        return Claimant(kind="process", name=labels["username"], user=labels["username"])
    return None


def _of_dcgm() -> dict[str, Metric]:
    """Give DCGM's names of what we use, in all its namings; some kept a name and changed the unit."""
    chosen = (
        *("busy_ratio", "encoder_ratio", "decoder_ratio", "memory_used_bytes", "power_watts"),
        *("energy_joules_total", "temperature_celsius", "graphics_active_ratio"),
    )
    of_slices = {"memory_used_bytes", "graphics_active_ratio"}
    found: dict[str, Metric] = {}
    for one in FIELDS:
        if one.quantity == XID:
            found |= dict.fromkeys(one.names.values(), Metric(XID))
        if one.quantity not in chosen:
            continue
        for naming in NAMINGS:
            name, factor = one.names[naming], 1 / one.scale(naming)
            metric = Metric(one.quantity, factor, of_slices=one.quantity in of_slices)
            before = found.setdefault(name, metric)
            if naming == BASE_UNITS and before.factor != factor:
                found[name] = before._replace(base_label="DCGM_FI_SYSTEM_DRIVER_VERSION")
    active = Metric("sm_active_ratio", of_slices=True)
    return {**found, **dict.fromkeys(("DCGM_FI_PROF_SM_ACTIVE", "DCGM_FI_PROF_SM_UTIL_RATIO"), active)}


_USED_AND_FREE = 'last_over_time({used}{{GPU_I_ID=""}}[RANGE]) + last_over_time({free}{{GPU_I_ID=""}}[RANGE])'
DCGM = Schema(
    name="dcgm",
    exporter="dcgm-exporter",
    metrics=_of_dcgm(),
    anchors=(
        ("DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_GPU_TEMP_CELSIUS"),
        ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_UTIL_RATIO"),
        ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_USED_BYTES"),
    ),
    uuid="UUID",
    nodes=("Hostname", "hostname", "node", "kubernetes_node", "instance"),
    models=("modelName",),
    index="gpu",
    totals=(
        f"({_USED_AND_FREE.format(used='DCGM_FI_DEV_FB_USED', free='DCGM_FI_DEV_FB_FREE')}) * {MIB:.0f}",
        _USED_AND_FREE.format(used="DCGM_FI_DEV_FB_USED_BYTES", free="DCGM_FI_DEV_FB_FREE_BYTES"),
    ),
    slice_id="GPU_I_ID",
    slice_profile="GPU_I_PROFILE",
)
NVITOP = Schema(
    name="nvitop",
    exporter="nvitop-exporter",
    metrics={
        "gpu_utilization_Percentage": Metric("busy_ratio", 0.01),
        "gpu_encoder_utilization_Percentage": Metric("encoder_ratio", 0.01),
        "gpu_decoder_utilization_Percentage": Metric("decoder_ratio", 0.01),
        "gpu_memory_used_MiB": Metric("memory_used_bytes", MIB),
        "gpu_power_usage_W": Metric("power_watts"),
        "gpu_temperature_C": Metric("temperature_celsius"),
        "process_gpu_memory_MiB": Metric(HOLDER),
    },
    anchors=(("gpu_temperature_C",), ("gpu_utilization_Percentage",)),
    uuid="uuid",
    nodes=("hostname", "node", "instance"),
    models=("devicename",),
    index="index",
    totals=(f"last_over_time(gpu_memory_total_MiB[RANGE]) * {MIB:.0f}",),
    unable=("energy counters", "XIDs"),
)
NVIDIA_GPU_EXPORTER = Schema(
    name="nvidia_gpu_exporter",
    exporter="nvidia_gpu_exporter",
    metrics={
        "nvidia_smi_utilization_gpu_ratio": Metric("busy_ratio"),
        "nvidia_smi_utilization_encoder_ratio": Metric("encoder_ratio"),
        "nvidia_smi_utilization_decoder_ratio": Metric("decoder_ratio"),
        "nvidia_smi_memory_used_bytes": Metric("memory_used_bytes"),
        "nvidia_smi_power_draw_watts": Metric("power_watts"),
        "nvidia_smi_energy_joules_total": Metric("energy_joules_total"),
        "nvidia_smi_temperature_gpu": Metric("temperature_celsius"),
    },
    anchors=(("nvidia_smi_temperature_gpu",), ("nvidia_smi_utilization_gpu_ratio",)),
    uuid="uuid",
    nodes=("hostname", "node", "kubernetes_node", "instance"),
    models=("name",),
    index="index",
    totals=("last_over_time(nvidia_smi_memory_total_bytes[RANGE])",),
    info="nvidia_smi_gpu_info",
    uuid_prefix="GPU-",
    unable=("holders", "XIDs"),
)
SCHEMAS: Mapping[str, Schema] = {one.name: one for one in (DCGM, NVITOP, NVIDIA_GPU_EXPORTER)}
"""What fleets are read that do not run our agent, by the name that users give."""

for _schema in SCHEMAS.values():
    assert {one.quantity for one in _schema.metrics.values()} - {XID, HOLDER} <= QUANTITIES.keys()  # noqa: S101
