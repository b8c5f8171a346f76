"""What a GPU may have several of: MIG slices, and parts such as links, fans and places of memory.

A quantity of a slice is a field of `SliceQuantities`, of a part a row of `PARTS`. Names follow the rules of
agent/quantities.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from agent.quantities import Amount, Metric, Origin, check_name, gauge, listed


class PartMetric(NamedTuple):
    """A quantity that a GPU has several of; `labels` name which one."""

    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...]
    origin: Origin = "driver"


@dataclass(frozen=True, kw_only=True)
class SliceQuantities:
    """What may be known of one MIG slice; a GPU's own quantities are never repeated here."""

    memory_used_bytes: Annotated[Amount, gauge("Slice's memory in use, at the end of the interval")] = None
    memory_total_bytes: Annotated[Amount, gauge("Slice's memory")] = None
    graphics_active_ratio: Annotated[Amount, gauge("Share of the interval in which a context was active")] = (
        None
    )
    sm_active_ratio: Annotated[Amount, gauge("Mean share of the slice's SMs with a warp resident")] = None
    sm_occupancy_ratio: Annotated[Amount, gauge("Resident warps as a share of the most that could be")] = None
    tensor_active_ratio: Annotated[
        Amount, gauge("Mean share of cycles in which a tensor pipe was active")
    ] = None
    fp64_active_ratio: Annotated[Amount, gauge("Mean share of cycles in which the FP64 pipe was active")] = (
        None
    )
    fp32_active_ratio: Annotated[Amount, gauge("Mean share of cycles in which the FP32 pipe was active")] = (
        None
    )
    fp16_active_ratio: Annotated[Amount, gauge("Mean share of cycles in which the FP16 pipe was active")] = (
        None
    )
    integer_active_ratio: Annotated[
        Amount, gauge("Mean share of cycles in which the INT pipe was active")
    ] = None
    dram_active_ratio: Annotated[Amount, gauge("Slice's memory traffic as a share of its peak bandwidth")] = (
        None
    )


PARTS: Mapping[str, PartMetric] = {
    "ecc_location_errors_total": PartMetric(
        "counter", "ECC errors by place of memory, and over which life", ("kind", "lifetime", "location")
    ),
    "remapper_banks": PartMetric(
        "gauge", "Banks of memory by how many spare rows they have left", ("spare",)
    ),
    "pcie_errors_total": PartMetric("counter", "Errors of the PCIe link", ("kind",)),
    "nvlink_up_flag": PartMetric("gauge", "Whether an NVLink is up", ("link",)),
    "nvlink_link_errors_total": PartMetric("counter", "Errors of one NVLink", ("link", "kind")),
    "nvlink_bit_error_ratio": PartMetric(
        "gauge", "Bit errors per bit of one NVLink, before and after correction", ("link", "kind")
    ),
    "fabric_fault_flag": PartMetric("gauge", "Whether the NVLink fabric has a fault of a kind", ("fault",)),
    "fan_speed_ratio": PartMetric("gauge", "Speed of a fan as a share of its highest", ("fan",)),
}
"""What a GPU has several of, by name. Read slowly, and kept when it changes."""

SLICE_QUANTITIES: Mapping[str, Metric] = listed(SliceQuantities)
"""Field name of `SliceQuantities` → what it is."""

for _name, _part in PARTS.items():
    check_name(_name, _part.kind)
