"""What can be wrong with a simulated GPU at a moment: all that calls about its health are answered from."""

from collections.abc import Mapping
from dataclasses import dataclass

FABRIC_FAULTS: Mapping[str, int] = {
    "degraded_bandwidth": 0,
    "route_recovery": 2,
    "route_unhealthy": 4,
    "access_timeout_recovery": 6,
}
"""Name of a fault of the NVLink fabric → where its two bits stand in the mask that the driver gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defects:
    """Errors counted so far, and modes that are not as they should be. The defaults are a sound GPU.

    Counts are since the driver was loaded, those of `earlier` before that; what a model does not count it
    does not tell either. `None` stands for what the model has; kelvins are above what the work makes.
    """

    ecc_corrected: int = 0
    ecc_uncorrected: int = 0
    sram_corrected: int = 0
    sram_uncorrected: int = 0
    earlier_corrected: int = 0
    earlier_uncorrected: int = 0
    sram_threshold: bool = False
    retired_single_bit: int = 0
    retired_double_bit: int = 0
    retirement_pending: bool = False
    remapped_corrected: int = 0
    remapped_uncorrected: int = 0
    remap_pending: bool = False
    remap_failed: bool = False
    pcie_replays: int = 0
    pcie_correctable: int = 0
    pcie_non_fatal: int = 0
    pcie_fatal: int = 0
    pcie_lanes: int | None = None
    pcie_generation: int | None = None
    links_down: frozenset[int] = frozenset()
    faulty_link: int = 0
    link_crc: int = 0
    link_replays: int = 0
    link_recoveries: int = 0
    persistence_on: bool = True
    ecc_on: bool = True
    compute_mode: int = 0
    fabric_state: int = 3
    fabric_health: int = 1
    fabric_faults: frozenset[str] = frozenset()
    recovery_action: int = 0
    core_kelvin: float = 0.0
    memory_kelvin: float = 0.0
    fan_stopped: bool = False
    memory_leaked: bool = False

    def __post_init__(self) -> None:
        """Refuse a fault that the fabric does not know."""
        if self.fabric_faults - FABRIC_FAULTS.keys():
            raise ValueError(f"the faults of the fabric are {', '.join(FABRIC_FAULTS)}")

    @property
    def remapped_rows(self) -> int:
        """All rows that were remapped."""
        return self.remapped_corrected + self.remapped_uncorrected


SOUND = Defects()
"""Nothing is wrong."""
