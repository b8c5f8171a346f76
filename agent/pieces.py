"""What a GPU may have several of: MIG slices, and parts such as links, fans and places of memory.

A quantity of a slice is a field of `SliceQuantities`, of a part a row of `PARTS`. Names follow the rules of
agent/quantities.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from agent.quantities import Activity, Amount, Metric, Origin, check_name, gauge, listed


class PartMetric(NamedTuple):
    """A quantity that a GPU has several of; `labels` name which one."""

    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...]
    origin: Origin = "driver"


@dataclass(frozen=True, kw_only=True)
class SliceQuantities(Activity):
    """What may be known of one MIG slice; a GPU's own quantities are never repeated here."""

    memory_used_bytes: Annotated[Amount, gauge("Slice's memory in use, at the end of the interval")] = None
    memory_total_bytes: Annotated[Amount, gauge("Slice's memory")] = None


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
