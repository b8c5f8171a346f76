"""The page for fleets that come from dcgm-exporter: its quantities, under its names, units and labels.

It is plain text whatever the scraper asks for: OpenMetrics would end the names of counters in `_total`, and
dashboards would find nothing. What was not read is absent. docs/switching.md tells the differences.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from agent.tick import Gpu, Holder, Reading, Slice
from agent.view import Seat, View

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NAMINGS = ("classic", "4.6", "4.7")
"""What dcgm-exporter writes by default up to 4.8; its fields as DCGM 4.6 calls them, and as DCGM 4.7 does."""

_Samples = Iterator[tuple[Mapping[str, str], float]]


class Unit(NamedTuple):
    """What our value is multiplied with for DCGM up to 4.6, and both units; from 4.7 on DCGM has our units.

    `rate` makes a gauge of the growth per second of our counters since the view before.
    """

    scale: float = 1.0
    before: str = ""
    base: str = ""
    kind: str = "gauge"
    rate: bool = False


class Field(NamedTuple):
    """A metric: our quantities, added up; its names without DCGM_FI_; its unit; what it is.

    It has no quantity where it is made of something else, and no name where a naming lacks it.
    """

    quantities: tuple[str, ...]
    classic: str
    v46: str
    v47: str
    unit: Unit
    help: str

    def name(self, naming: str) -> str:
        """Give the metric's whole name in a naming, or nothing."""
        name = (self.classic, self.v46, self.v47)[NAMINGS.index(naming)]
        return f"DCGM_FI_{name}" if name else ""

    def scale(self, naming: str) -> float:
        """Give what our value is multiplied with in a naming."""
        return 1.0 if naming == "4.7" else self.unit.scale

    def text(self, naming: str) -> str:
        """Say what the metric is, with its unit in a naming."""
        unit = self.unit.base if naming == "4.7" else self.unit.before
        return f"{self.help} ({unit})." if unit else f"{self.help}."


_MHZ = Unit(1e-6, "MHz", "Hz")
_CELSIUS = Unit(before="C", base="C")
_WATTS = Unit(before="W", base="W")
_ENERGY = Unit(1e3, "mJ", "J", "counter")
_PERCENT = Unit(100.0, "%", "ratio")
_RATIO = Unit(before="ratio", base="ratio")
_MIB = Unit(2.0**-20, "MiB", "bytes")
_COUNT, _NUMBER = Unit(kind="counter"), Unit()
_RATE = Unit(before="bytes per second", base="bytes per second", rate=True)
_NVLINK = Unit(1 / 1_024_000, "MB/s, as DCGM counts them: KiB/s over 1000", "bytes per second", rate=True)

XID, FREE, USED, TOTAL = "DEV_XID_ERRORS", "memory_free_bytes", "memory_used_bytes", "memory_total_bytes"

FIELDS = (
    Field(("sm_clock_hertz",), "DEV_SM_CLOCK", "DEV_SM_CLOCK", "DEV_SM_CLOCK_HERTZ", _MHZ, "SM clock"),
    Field(
        ("memory_clock_hertz",), "DEV_MEM_CLOCK", "DEV_MEM_CLOCK", "DEV_MEMORY_CLOCK_HERTZ", _MHZ, "Memory clock"
    ),
    Field(
        ("memory_temperature_celsius",),
        *("DEV_MEMORY_TEMP", "DEV_MEMORY_TEMP_CELSIUS", "DEV_MEMORY_TEMP_CELSIUS"),
        *(_CELSIUS, "Temperature of the device memory"),
    ),
    Field(
        ("temperature_celsius",),
        *("DEV_GPU_TEMP", "DEV_GPU_TEMP_CELSIUS", "DEV_GPU_TEMP_CELSIUS"),
        *(_CELSIUS, "Temperature of the core"),
    ),
    Field(
        ("power_watts",),
        *("DEV_POWER_USAGE", "DEV_BOARD_POWER_WATTS", "DEV_BOARD_POWER_WATTS"),
        *(_WATTS, "Electric power"),
    ),
)
