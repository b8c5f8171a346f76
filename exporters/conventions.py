"""What OpenTelemetry calls our figures: a table of its conventions for hardware, and units for the rest.

A figure that the conventions know goes under their name only, so that nothing counts twice; all others keep
their own. The table of docs/exporters.md is `table()`.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Literal, NamedTuple

from exporters.catalogue import FAMILIES

Instrument = Literal["gauge", "counter", "updowncounter"]
Labels = tuple[tuple[str, str], ...]


class Convention(NamedTuple):
    """How one of our metrics is told: name, unit (UCUM), instrument, attributes besides our labels.

    Words in braces are our labels; a series without one of them keeps its own name. `contrary` says that what
    is told is one less the figure.
    """

    own: str
    name: str
    unit: str
    instrument: Instrument
    attributes: Labels
    contrary: bool = False

    def attributes_of(self, labels: Mapping[str, str]) -> Labels | None:
        """Fill the attributes in; None where a label is missing."""
        try:
            return tuple([(name, text.format_map(labels)) for name, text in self.attributes])
        except KeyError:
            return None


_GPU: Labels = (
    ("hw.id", "{uuid}"),
    ("hw.type", "gpu"),
    ("hw.name", "GPU {gpu}"),
    ("hw.vendor", "NVIDIA"),
    ("hw.model", "{model}"),
)
_FAN: Labels = (
    ("hw.id", "{uuid}/fan {fan}"),
    ("hw.type", "fan"),
    ("hw.name", "GPU {gpu} fan {fan}"),
    ("hw.parent", "{uuid}"),
)


def _on_gpu(
    own: str, name: str, unit: str, instrument: Instrument, *more: tuple[str, str], contrary: bool = False
) -> Convention:
    return Convention(f"gpu_{own}", name, unit, instrument, (*_GPU, *more), contrary)


def _sensor(own: str, place: str, limit: str = "") -> Convention:
    attributes: Labels = (
        ("hw.id", f"{{uuid}}/{place}"),
        ("hw.type", "temperature"),
        ("hw.name", f"GPU {{gpu}} {place}"),
        ("hw.parent", "{uuid}"),
        ("hw.sensor_location", place),
    )
    if limit:
        attributes = (*attributes, ("hw.limit_type", limit))
    name = "hw.temperature.limit" if limit else "hw.temperature"
    return Convention(f"gpu_{own}", name, "Cel", "gauge", attributes)


CONVENTIONS = (
    _on_gpu("busy_ratio", "hw.gpu.utilization", "1", "gauge", ("hw.gpu.task", "general")),
    _on_gpu("encoder_ratio", "hw.gpu.utilization", "1", "gauge", ("hw.gpu.task", "encoder")),
    _on_gpu("decoder_ratio", "hw.gpu.utilization", "1", "gauge", ("hw.gpu.task", "decoder")),
    _on_gpu("memory_used_bytes", "hw.gpu.memory.usage", "By", "updowncounter"),
    _on_gpu("memory_total_bytes", "hw.gpu.memory.limit", "By", "updowncounter"),
    _on_gpu("pcie_tx_bytes_total", "hw.gpu.io", "By", "counter", ("network.io.direction", "transmit")),
    _on_gpu("pcie_rx_bytes_total", "hw.gpu.io", "By", "counter", ("network.io.direction", "receive")),
    _on_gpu("energy_joules_total", "hw.energy", "J", "counter"),
    _on_gpu("power_watts", "hw.power", "W", "gauge"),
    _on_gpu("ecc_volatile_errors_total", "hw.errors", "{error}", "counter", ("error.type", "{kind}")),
    _on_gpu("up", "hw.status", "1", "updowncounter", ("hw.state", "ok")),
    _on_gpu("up", "hw.status", "1", "updowncounter", ("hw.state", "failed"), contrary=True),
    _sensor("temperature_celsius", "core"),
    _sensor("memory_temperature_celsius", "memory"),
    _sensor("temperature_operating_max_celsius", "core", "high.degraded"),
    _sensor("temperature_slowdown_celsius", "core", "throttled"),
    _sensor("temperature_shutdown_celsius", "core", "high.critical"),
    _sensor("memory_temperature_limit_celsius", "memory", "throttled"),
    Convention("gpu_fan_speed_ratio", "hw.fan.speed_ratio", "1", "gauge", _FAN),
)
"""What the conventions have a name for, as far as sums over a name stay true: bytes over NVLink, ECC errors
of the board's whole life and a slice's memory are not put beside what is here, but keep their own names."""

BY_OWN_NAME: Mapping[str, tuple[Convention, ...]] = {
    own: tuple(several) for own, several in groupby(CONVENTIONS, key=attrgetter("own"))
}
_UNITS = {
    "ratio": "1",
    "bytes": "By",
    "watts": "W",
    "celsius": "Cel",
    "hertz": "Hz",
    "seconds": "s",
    "joules": "J",
}


def own_convention(own: str) -> Convention:
    """Tell what a metric is under its own name."""
    family = FAMILIES.get(own)
    counts = family.kind == "counter" if family else own.endswith("_total")
    return Convention(own, own, unit_of(own), "counter" if counts else "gauge", ())


def unit_of(own: str) -> str:
    """Give the unit by the last word of a name; of what has none, what is counted, in braces.

    Receivers that write units into names leave ours as they are then: they add no unit that is there
    already, and none in braces.
    """
    word = own.removesuffix("_total").rpartition("_")[2]
    return _UNITS.get(word, f"{{{word.removesuffix('s')}}}" if word.isidentifier() else "1")


def table() -> Iterator[str]:
    """Give the rows of the table in docs/exporters.md."""
    yield "| `/metrics` | OTLP | unit | kind | besides |"
    yield "|---|---|---|---|---|"
    for one in CONVENTIONS:
        own = f"1 - `{one.own}`" if one.contrary else f"`{one.own}`"
        besides = ", ".join(f"`{name}={_plain(text)}`" for name, text in one.attributes if _tells(name))
        yield f"| {own} | `{one.name}` | `{one.unit}` | {one.instrument} | {besides} |"


def _tells(name: str) -> bool:
    """Tell whether an attribute is more than the identity that all of its component have."""
    return name not in ("hw.type", "hw.name", "hw.parent", "hw.vendor", "hw.model", "hw.id")


def _plain(text: str) -> str:
    return re.sub(r"\{(\w+)\}", r"\1", text)
