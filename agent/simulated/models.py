"""Models of GPU that the simulator can stand in for, and what each of them will not say.

A capability word names something that a driver may refuse. The same words say what a model refuses by nature
and what a test makes a `agent.simulator.Library` refuse besides:

- `energy` (fields 83 and 191, and the call), `field:N` (one field), `samples` (every ring), `samples:N` (one)
- `fields`, `utilization`, `power_usage`, `power_limit`, `memory`, `memory_v2`, `temperature`,
  `temperature_v`, `threshold`, `clock`, `max_clock`, `event_reasons`, `processes`, `serial`, `board_part`,
  `vbios`, `pci`, `persistence_mode`, `fan`: calls that answer NOT_SUPPORTED
- `function:NAME`: the library has no such symbol
- `revival`: a GPU once seen lost stays lost until the library is initialised anew
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CAPABILITIES = frozenset(
    (
        "energy",
        "samples",
        "fields",
        "utilization",
        "power_usage",
        "power_limit",
        "memory",
        "memory_v2",
        "temperature",
        "temperature_v",
        "threshold",
        "clock",
        "max_clock",
        "event_reasons",
        "processes",
        "serial",
        "board_part",
        "vbios",
        "pci",
        "persistence_mode",
        "fan",
        "revival",
    )
)
"""All words that stand alone; `field:N`, `samples:N` and `function:NAME` come besides."""

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What all GPUs of a kind have in common. `refused` holds capability words."""

    name: str
    board_part: str
    vbios: str
    pci_device_id: int
    memory_total_bytes: int
    memory_reserved_bytes: int
    idle_watts: int
    peak_watts: int
    limit_watts: int
    limit_min_watts: int
    sm_clock_idle_mhz: int
    sm_clock_busy_mhz: int
    sm_clock_max_mhz: int
    memory_clock_mhz: int
    idle_celsius: int
    full_celsius: int
    operating_max_celsius: int
    slowdown_celsius: int
    shutdown_celsius: int
    refused: frozenset[str]


def check_words(words: Iterable[str]) -> frozenset[str]:
    """Return the words as a set; raise ValueError for one that is not a capability."""
    known = frozenset(words)
    for word in known - CAPABILITIES:
        kind, _, what = word.partition(":")
        if not (kind in ("field", "samples") and what.isdecimal()) and not (kind == "function" and what):
            raise ValueError(f"{word!r} is not a capability word")
    return known


def _fields(*numbers: int) -> frozenset[str]:
    return frozenset(f"field:{number}" for number in numbers)


_THERMAL_AND_BRAKE = (269, 270, 271)
_MARGINS = (193, 194)

MODELS: Mapping[str, Model] = {
    "h200": Model(
        name="NVIDIA H200",
        board_part="692-2G520-0280-501",
        vbios="96.00.BC.00.02",
        pci_device_id=0x233510DE,
        memory_total_bytes=143_771 * MIB,
        memory_reserved_bytes=613 * MIB,
        idle_watts=77,
        peak_watts=692,
        limit_watts=700,
        limit_min_watts=200,
        sm_clock_idle_mhz=345,
        sm_clock_busy_mhz=1_785,
        sm_clock_max_mhz=1_980,
        memory_clock_mhz=3_201,
        idle_celsius=29,
        full_celsius=64,
        operating_max_celsius=87,
        slowdown_celsius=89,
        shutdown_celsius=95,
        refused=frozenset({"fan"}),
    ),
    "h100": Model(
        name="NVIDIA H100 80GB HBM3",
        board_part="692-2G520-0200-000",
        vbios="96.00.89.00.01",
        pci_device_id=0x233010DE,
        memory_total_bytes=81_559 * MIB,
        memory_reserved_bytes=551 * MIB,
        idle_watts=71,
        peak_watts=690,
        limit_watts=700,
        limit_min_watts=200,
        sm_clock_idle_mhz=345,
        sm_clock_busy_mhz=1_755,
        sm_clock_max_mhz=1_980,
        memory_clock_mhz=2_619,
        idle_celsius=30,
        full_celsius=66,
        operating_max_celsius=87,
        slowdown_celsius=89,
        shutdown_celsius=95,
        refused=frozenset({"fan"}),
    ),
    "a100": Model(
        name="NVIDIA A100-SXM4-80GB",
        board_part="692-2G506-0212-002",
        vbios="92.00.9E.00.01",
        pci_device_id=0x20B210DE,
        memory_total_bytes=81_920 * MIB,
        memory_reserved_bytes=626 * MIB,
        idle_watts=58,
        peak_watts=392,
        limit_watts=400,
        limit_min_watts=100,
        sm_clock_idle_mhz=210,
        sm_clock_busy_mhz=1_320,
        sm_clock_max_mhz=1_410,
        memory_clock_mhz=1_593,
        idle_celsius=31,
        full_celsius=63,
        operating_max_celsius=85,
        slowdown_celsius=89,
        shutdown_celsius=92,
        refused=frozenset({"fan"}) | _fields(185, *_MARGINS, *_THERMAL_AND_BRAKE),
    ),
    "t4": Model(
        name="Tesla T4",
        board_part="900-2G183-0000-001",
        vbios="90.04.96.00.9F",
        pci_device_id=0x1EB810DE,
        memory_total_bytes=15_360 * MIB,
        memory_reserved_bytes=424 * MIB,
        idle_watts=10,
        peak_watts=69,
        limit_watts=70,
        limit_min_watts=60,
        sm_clock_idle_mhz=300,
        sm_clock_busy_mhz=1_365,
        sm_clock_max_mhz=1_590,
        memory_clock_mhz=5_001,
        idle_celsius=36,
        full_celsius=74,
        operating_max_celsius=85,
        slowdown_celsius=93,
        shutdown_celsius=96,
        refused=frozenset({"fan", "samples:8"}) | _fields(82, 185, *_MARGINS, *_THERMAL_AND_BRAKE),
    ),
    "geforce": Model(
        name="NVIDIA GeForce GTX 1080 Ti",
        board_part="",
        vbios="86.02.39.00.22",
        pci_device_id=0x1B0610DE,
        memory_total_bytes=11_264 * MIB,
        memory_reserved_bytes=92 * MIB,
        idle_watts=12,
        peak_watts=246,
        limit_watts=250,
        limit_min_watts=125,
        sm_clock_idle_mhz=139,
        sm_clock_busy_mhz=1_733,
        sm_clock_max_mhz=1_911,
        memory_clock_mhz=5_505,
        idle_celsius=33,
        full_celsius=79,
        operating_max_celsius=84,
        slowdown_celsius=93,
        shutdown_celsius=96,
        refused=frozenset({"energy", "serial", "board_part", "samples:8", "samples:9"})
        | _fields(*range(74, 80), 82, 185, *_MARGINS, *_THERMAL_AND_BRAKE),
    ),
}
"""Word in a simulation's text → model. An H-class part answers the old thresholds as well as the margins."""
