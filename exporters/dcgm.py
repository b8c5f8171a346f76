"""The page for fleets that come from dcgm-exporter: its quantities, under its names, units and labels.

It is plain text whatever the scraper asks for: OpenMetrics would end the names of counters in `_total`, and
dashboards would find nothing. What was not read is absent. docs/switching.md tells the differences.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from agent.quantities import QUANTITIES
from agent.tally import Seat
from agent.tick import Gpu, Holder, Reading, Slice
from agent.view import View

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLASSIC, BASE_UNITS = "classic", "4.7"
NAMINGS = (CLASSIC, "4.6", BASE_UNITS)
"""What dcgm-exporter writes by default up to 4.8; its fields as DCGM 4.6 calls them, and as DCGM 4.7 does."""

LABELS = frozenset(
    {
        *("gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "hostname"),
        *("DCGM_FI_DRIVER_VERSION", "DCGM_FI_SYSTEM_DRIVER_VERSION", "GPU_I_PROFILE", "GPU_I_ID"),
        *("hpc_job", "container", "namespace", "pod"),
    }
)
"""What labels of the settings must not be named: where one of ours is absent, they would be taken for it."""

_NONE: Mapping[str, str] = MappingProxyType({})
_Samples = Iterator[tuple[Mapping[str, str], float]]


class Unit(NamedTuple):
    """What our value is multiplied with for DCGM up to 4.6, and both units; from 4.7 on DCGM has our units.

    `rate` makes a gauge of the growth per second of our counters since the view before.
    """

    scale: float
    before: str
    base: str
    kind: str = "gauge"
    rate: bool = False


UNITS: Mapping[str, Unit] = {
    "mhz": Unit(1e-6, "MHz", "Hz"),
    "celsius": Unit(1.0, "C", "C"),
    "watts": Unit(1.0, "W", "W"),
    "energy": Unit(1e3, "mJ", "J", "counter"),
    "percent": Unit(100.0, "%", "ratio"),
    "ratio": Unit(1.0, "ratio", "ratio"),
    "mib": Unit(2.0**-20, "MiB", "bytes"),
    "count": Unit(1.0, "", "", "counter"),
    "number": Unit(1.0, "", ""),
    "rate": Unit(1.0, "bytes per second", "bytes per second", rate=True),
    "mb_rate": Unit(1 / 1_024_000, "MB/s as DCGM counts: KiB/s over 1000", "bytes per second", rate=True),
}

_TABLE = """
sm_clock_hertz                   mhz      SM_CLOCK                     =                             SM_CLOCK_HERTZ
memory_clock_hertz               mhz      MEM_CLOCK                    =                             MEMORY_CLOCK_HERTZ
memory_temperature_celsius       celsius  MEMORY_TEMP                  MEMORY_TEMP_CELSIUS           =
temperature_celsius              celsius  GPU_TEMP                     GPU_TEMP_CELSIUS              =
power_watts                      watts    POWER_USAGE                  BOARD_POWER_WATTS             =
energy_joules_total              energy   TOTAL_ENERGY_CONSUMPTION     =                             GPU_ENERGY_JOULES_TOTAL
pcie_replays_total               count    PCIE_REPLAY_COUNTER          PCIE_REPLAY_TOTAL             =
busy_ratio                       percent  GPU_UTIL                     GPU_UTIL_RATIO                =
memory_busy_ratio                percent  MEM_COPY_UTIL                =                             MEMORY_UTIL_RATIO
encoder_ratio                    percent  ENC_UTIL                     =                             ENC_UTIL_RATIO
decoder_ratio                    percent  DEC_UTIL                     =                             DEC_UTIL_RATIO
xid                              number   XID_ERRORS                   XID_ERROR                     =
memory_total_bytes               mib      -                            -                             FB_CAPACITY_BYTES
memory_free_bytes                mib      FB_FREE                      =                             FB_FREE_BYTES
memory_used_bytes                mib      FB_USED                      =                             FB_USED_BYTES
memory_reserved_bytes            mib      FB_RESERVED                  =                             FB_RESERVED_BYTES
remapped_rows_uncorrected_total  count    UNCORRECTABLE_REMAPPED_ROWS  ROW_REMAP_UNCORRECTABLE_TOTAL =
remapped_rows_corrected_total    count    CORRECTABLE_REMAPPED_ROWS    ROW_REMAP_CORRECTABLE_TOTAL   =
row_remap_failure_flag           number   ROW_REMAP_FAILURE            ROW_REMAP_FAILED              =
nvlink_bytes_total               mb_rate  NVLINK_BANDWIDTH_TOTAL       NVLINK_THROUGHPUT_TOTAL       NVLINK_THROUGHPUT_BYTES_PER_SECOND
graphics_active_ratio            ratio    PROF_GR_ENGINE_ACTIVE        PROF_GR_ENGINE_UTIL_RATIO     =
tensor_active_ratio              ratio    PROF_PIPE_TENSOR_ACTIVE      PROF_TENSOR_UTIL_RATIO        =
dram_active_ratio                ratio    PROF_DRAM_ACTIVE             PROF_DRAM_UTIL_RATIO          =
pcie_tx_bytes_total              rate     PROF_PCIE_TX_BYTES           =                             =
pcie_rx_bytes_total              rate     PROF_PCIE_RX_BYTES           =                             =
"""  # noqa: E501  a table
"""Quantity, unit, and the name in each naming, in dcgm-exporter's order; `=` is the same as before it."""

XID, NVLINK = "xid", "nvlink_bytes_total"
_MADE_OF = {NVLINK: ("nvlink_tx_bytes_total", "nvlink_rx_bytes_total")}
_HELP = {
    XID: "Number of the latest XID since the host booted",
    NVLINK: "Traffic of all NVLinks, both ways",
    "remapped_rows_uncorrected_total": "Rows of memory remapped after uncorrectable errors",
    "remapped_rows_corrected_total": "Rows of memory remapped after correctable errors",
    "pcie_tx_bytes_total": "Traffic sent over PCIe",
    "pcie_rx_bytes_total": "Traffic received over PCIe",
}
_OF_SLICES = frozenset(
    {
        *("memory_total_bytes", "memory_free_bytes", "memory_used_bytes"),
        *("graphics_active_ratio", "tensor_active_ratio", "dram_active_ratio"),
    }
)
"""What a partitioned GPU shows by slice and not as a whole, so that a sum counts nothing twice."""


class Field(NamedTuple):
    """A metric: the quantity it is made of, its unit, its whole name in each naming (empty: it has none)."""

    quantity: str
    unit: Unit
    names: Mapping[str, str]

    def scale(self, naming: str) -> float:
        """Give what our value is multiplied with in a naming."""
        return 1.0 if naming == BASE_UNITS else self.unit.scale

    def text(self, naming: str) -> str:
        """Say what the metric is, with its unit in a naming."""
        said = _HELP.get(self.quantity) or QUANTITIES[self.quantity].help
        unit = self.unit.base if naming == BASE_UNITS else self.unit.before
        return f"{said} ({unit})" if unit else said


def _field(line: str) -> Field:
    quantity, unit, *names = line.split()
    for place, name in enumerate(names):
        if name == "=":
            names[place] = names[place - 1]
        else:
            prefix = "DCGM_FI_" if name.startswith("PROF_") else "DCGM_FI_DEV_"
            names[place] = "" if name == "-" else f"{prefix}{name}"
    return Field(quantity, UNITS[unit], dict(zip(NAMINGS, names, strict=True)))


FIELDS = tuple(map(_field, _TABLE.strip().splitlines()))
"""What dcgm-exporter exports by default and we read."""


def page(view: View | None, before: View | None, labels: Mapping[str, str], naming: str) -> bytes:
    """Render a view; `before` is the one before it, which rates need, `labels` are those of the settings."""
    text = generate_latest(_Page(view, before, labels, naming))
    for field in FIELDS:
        if field.unit.kind == "counter":  # told as gauges until here: the encoder would rename counters
            name = field.names[naming].encode()
            text = text.replace(b"# TYPE %b gauge\n" % name, b"# TYPE %b counter\n" % name, 1)
    return text


class _Page(Collector):
    def __init__(
        self, view: View | None, before: View | None, labels: Mapping[str, str], naming: str
    ) -> None:
        self._view, self._before = view, before
        self._static, self._naming = labels, naming

    def collect(self) -> Iterator[Metric]:
        view = self._view
        if view is None:
            return
        gpus = sorted(view.gpus.values(), key=lambda gpu: gpu.index)
        whole = {gpu.uuid: {**self._static, **_of_gpu(view, gpu, self._naming)} for gpu in gpus}
        for field in FIELDS:
            if not field.names[self._naming]:
                continue
            family = Metric(field.names[self._naming], field.text(self._naming), "gauge")
            for gpu in gpus:
                for labels, value in self._samples(view, field, gpu.uuid):
                    scaled = value * field.scale(self._naming)
                    family.add_sample(family.name, {**whole[gpu.uuid], **labels}, scaled)
            if family.samples:
                yield family

    def _samples(self, view: View, field: Field, uuid: str) -> _Samples:
        reading, seats = view.readings.get(uuid), view.holders.get(uuid, ())
        if reading is None:
            return
        if reading.slices and field.quantity in _OF_SLICES:
            for piece in reading.slices:
                value = _of_slice(piece, field.quantity)
                if value is not None:
                    seen = {"GPU_I_PROFILE": piece.profile, "GPU_I_ID": piece.uuid}
                    yield {**seen, **_holder(seats, piece.uuid)}, value
            return
        if field.quantity == XID:
            value = _latest_xid(view, uuid)
        elif field.unit.rate:
            early = self._before.readings.get(uuid) if self._before else None
            value = _rate(early, reading, _MADE_OF.get(field.quantity, (field.quantity,)))
        else:
            value = getattr(reading, field.quantity)
        if value is not None:
            yield _holder(seats, ""), value


def _of_gpu(view: View, gpu: Gpu, naming: str) -> Mapping[str, str]:
    labels = {
        "gpu": str(gpu.index),
        "UUID": gpu.uuid,
        "pci_bus_id": gpu.pci_bus,
        "device": f"nvidia{gpu.index}",
        "modelName": gpu.model,
        "Hostname" if naming == CLASSIC else "hostname": view.tick.node,
        "DCGM_FI_SYSTEM_DRIVER_VERSION" if naming == BASE_UNITS else "DCGM_FI_DRIVER_VERSION": gpu.driver,
    }
    return {name: value for name, value in labels.items() if value}


def _holder(seats: tuple[Seat, ...], piece: str) -> Mapping[str, str]:
    """Name whoever alone holds a GPU or a slice; several are named on our own page only."""
    holders: set[Holder] = {holder for holder, seat in seats if seat == piece}
    if len(holders) != 1 or (not piece and any(seat for _, seat in seats)):
        return _NONE
    (one,) = holders
    if one.kind == "slurm":
        return {"hpc_job": one.name}
    if one.kind != "pod":
        return _NONE
    labels = {"container": one.container, "namespace": one.namespace, "pod": one.name.rpartition("/")[2]}
    return {name: value for name, value in labels.items() if value}


def _of_slice(piece: Slice, quantity: str) -> float | None:
    if quantity != "memory_free_bytes":
        value: float | None = getattr(piece, quantity)
        return value
    if piece.memory_total_bytes is None or piece.memory_used_bytes is None:
        return None
    return max(0.0, piece.memory_total_bytes - piece.memory_used_bytes)


def _latest_xid(view: View, uuid: str) -> float | None:
    seen = [
        (count.last_ms, number)
        for (of, number), count in view.xids.items()
        if of == uuid and count.count_this_boot
    ]
    return float(max(seen)[1]) if seen else None


def _rate(early: Reading | None, late: Reading, quantities: tuple[str, ...]) -> float | None:
    if early is None or late.end_ms <= early.end_ms:
        return None
    grown = 0.0
    for name in quantities:
        first, last = getattr(early, name), getattr(late, name)
        if first is None or last is None or last < first:
            return None
        grown += last - first
    return grown * 1000 / (late.end_ms - early.end_ms)
