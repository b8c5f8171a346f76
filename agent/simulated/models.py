"""Models of GPU that the simulator can stand in for, and what each of them will not say.

A capability word names something that a driver may refuse. The same words say what a model refuses by nature
and what a test makes a `agent.simulator.Library` refuse besides:

- `energy` (fields 83 and 191, and the call), `field:N` (one field), `nvlink` (every field about links)
- `samples` (every ring), `samples:N` (one), `violation` (every policy), `violation:N` (one)
- `gpm` (all of it), and for every call that may answer NOT_SUPPORTED a word: see `CAPABILITIES`
- `function:NAME`: the library has no such symbol
- `revival`: a GPU once seen lost stays lost until the library is initialised anew
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CAPABILITIES = frozenset(
    (
        "energy",
        "samples",
        "violation",
        "fields",
        "nvlink",
        "gpm",
        "utilization",
        "power_usage",
        "power_limit",
        "memory",
        "memory_v2",
        "bar1",
        "temperature",
        "temperature_v",
        "threshold",
        "margin",
        "clock",
        "max_clock",
        "performance_state",
        "event_reasons",
        "processes",
        "process_utilization",
        "serial",
        "board_part",
        "vbios",
        "inforom",
        "pci",
        "minor",
        "module",
        "platform",
        "architecture",
        "compute_capability",
        "persistence_mode",
        "compute_mode",
        "ecc_mode",
        "remapped_rows",
        "row_histogram",
        "retirement",
        "ecc_counter",
        "sram",
        "fabric",
        "pcie_link",
        "fan",
        "event_types",
        "events",
        "mig",
        "revival",
    )
)
"""All words that stand alone; `field:N`, `samples:N`, `violation:N` and `function:NAME` besides."""

MIB = 1 << 20
DOUBLE_BIT_ERROR, XID, MIG_CHANGE, GPU_UNAVAILABLE, RECOVERY_ACTION = 0x2, 0x8, 0x100, 0x4000, 0x8000
KEPT_BAR1_BYTES = 4 * MIB
"""How much of BAR1 the driver itself uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What all GPUs of a kind have in common. `refused` holds capability words.

    `memory_milliwatts` is what the memory draws without traffic, and what its full bandwidth adds;
    `spare_banks` are banks of memory with spare rows; `links` are NVLinks of so many megabytes a second.
    """

    name: str
    board_part: str
    vbios: str
    inforom: str
    architecture: int
    compute_capability: tuple[int, int]
    pci_device_id: int
    pcie_generation: int
    pcie_idle_generation: int
    pcie_lanes: int = 16
    memory_total_bytes: int
    memory_reserved_bytes: int
    bar1_bytes: int
    spare_banks: int = 0
    links: int = 0
    link_mbps: int = 0
    idle_watts: int
    peak_watts: int
    limit_watts: int
    limit_min_watts: int
    memory_milliwatts: tuple[int, int] = (0, 0)
    sm_clock_idle_mhz: int
    sm_clock_busy_mhz: int
    sm_clock_max_mhz: int
    memory_clock_mhz: int
    idle_celsius: int
    full_celsius: int
    operating_max_celsius: int
    slowdown_celsius: int
    shutdown_celsius: int
    memory_max_celsius: int = 0
    event_types: int = XID | DOUBLE_BIT_ERROR
    refused: frozenset[str]


def check_words(words: Iterable[str]) -> frozenset[str]:
    """Return the words as a set; raise ValueError for one that is not a capability."""
    known = frozenset(words)
    for word in known - CAPABILITIES:
        kind, _, what = word.partition(":")
        if not (kind in ("field", "samples", "violation") and what.isdecimal()) and not (
            kind == "function" and what
        ):
            raise ValueError(f"{word!r} is not a capability word")
    return known


def _fields(*numbers: int) -> frozenset[str]:
    return frozenset(f"field:{number}" for number in numbers)


_HOPPER_EVENTS = DOUBLE_BIT_ERROR | XID | MIG_CHANGE | GPU_UNAVAILABLE | RECOVERY_ACTION

_THERMAL_AND_BRAKE = (269, 270, 271)
_MARGINS = (193, 194, 195, 196)
_RETIRED_PAGES = (29, 30, 31, 92, 93)
_REMAPPED_ROWS = (142, 143, 144, 145)
_PCIE_ERRORS = (169, *range(173, 183))
_ECC = tuple(range(1, 29))
_L2 = (9, 10, 20, 21)
_SMALL_MEMORIES = (7, 8, *range(13, 20), *range(24, 29))
"""ECC errors of L1, registers, texture and CBU: newer parts do not tell them."""

_NOT_HOPPER = frozenset({"gpm", "margin", "sram", "fabric"}) | _fields(230, *_MARGINS, *_THERMAL_AND_BRAKE)
_OF_HOPPER = frozenset({"fan", "platform", "retirement"}) | _fields(*_RETIRED_PAGES, *_L2, *_SMALL_MEMORIES)
_NO_HBM = frozenset({"nvlink", "mig", "module", "row_histogram", "remapped_rows"}) | _fields(
    82, *_REMAPPED_ROWS
)

MODELS: Mapping[str, Model] = {
    "h200": Model(
        name="NVIDIA H200",
        board_part="692-2G520-0280-501",
        vbios="96.00.BC.00.02",
        inforom="G520.0280.00.04",
        architecture=9,
        compute_capability=(9, 0),
        pci_device_id=0x233510DE,
        pcie_generation=5,
        pcie_idle_generation=5,
        memory_total_bytes=143_771 * MIB,
        memory_reserved_bytes=613 * MIB,
        bar1_bytes=262_144 * MIB,
        spare_banks=3_072,
        links=18,
        link_mbps=26_562,
        idle_watts=77,
        peak_watts=692,
        limit_watts=700,
        limit_min_watts=200,
        memory_milliwatts=(46_000, 52_000),
        sm_clock_idle_mhz=345,
        sm_clock_busy_mhz=1_785,
        sm_clock_max_mhz=1_980,
        memory_clock_mhz=3_201,
        idle_celsius=29,
        full_celsius=64,
        operating_max_celsius=87,
        slowdown_celsius=89,
        shutdown_celsius=95,
        memory_max_celsius=105,
        event_types=_HOPPER_EVENTS,
        refused=_OF_HOPPER,
    ),
    "h100": Model(
        name="NVIDIA H100 80GB HBM3",
        board_part="692-2G520-0200-000",
        vbios="96.00.89.00.01",
        inforom="G520.0200.00.05",
        architecture=9,
        compute_capability=(9, 0),
        pci_device_id=0x233010DE,
        pcie_generation=5,
        pcie_idle_generation=5,
        memory_total_bytes=81_559 * MIB,
        memory_reserved_bytes=551 * MIB,
        bar1_bytes=131_072 * MIB,
        spare_banks=2_560,
        links=18,
        link_mbps=26_562,
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
        memory_max_celsius=105,
        event_types=_HOPPER_EVENTS,
        refused=_OF_HOPPER,
    ),
    "a100": Model(
        name="NVIDIA A100-SXM4-80GB",
        board_part="692-2G506-0212-002",
        vbios="92.00.9E.00.01",
        inforom="G506.0212.00.02",
        architecture=7,
        compute_capability=(8, 0),
        pci_device_id=0x20B210DE,
        pcie_generation=4,
        pcie_idle_generation=4,
        memory_total_bytes=81_920 * MIB,
        memory_reserved_bytes=626 * MIB,
        bar1_bytes=131_072 * MIB,
        spare_banks=640,
        links=12,
        link_mbps=25_781,
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
        memory_max_celsius=105,
        refused=_NOT_HOPPER
        | frozenset({"fan", "platform", "retirement"})
        | _fields(185, *_RETIRED_PAGES, *_SMALL_MEMORIES),
    ),
    "t4": Model(
        name="Tesla T4",
        board_part="900-2G183-0000-001",
        vbios="90.04.96.00.9F",
        inforom="G183.0200.00.02",
        architecture=6,
        compute_capability=(7, 5),
        pci_device_id=0x1EB810DE,
        pcie_generation=3,
        pcie_idle_generation=1,
        memory_total_bytes=15_360 * MIB,
        memory_reserved_bytes=424 * MIB,
        bar1_bytes=256 * MIB,
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
        refused=_NOT_HOPPER
        | _NO_HBM
        | frozenset({"fan", "samples:8", "platform"})
        | _fields(185, *_PCIE_ERRORS),
    ),
    "geforce": Model(
        name="NVIDIA GeForce GTX 1080 Ti",
        board_part="",
        vbios="86.02.39.00.22",
        inforom="G001.0000.02.04",
        architecture=4,
        compute_capability=(6, 1),
        pci_device_id=0x1B0610DE,
        pcie_generation=3,
        pcie_idle_generation=1,
        memory_total_bytes=11_264 * MIB,
        memory_reserved_bytes=92 * MIB,
        bar1_bytes=256 * MIB,
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
        refused=_NOT_HOPPER
        | _NO_HBM
        | frozenset({"energy", "serial", "board_part", "samples:8", "samples:9", "platform"})
        | frozenset({"ecc_mode", "ecc_counter", "retirement"})
        | frozenset(f"violation:{policy}" for policy in (2, 3, 4, 5, 10, 11))
        | _fields(*range(74, 82), 185, *_ECC, *_RETIRED_PAGES, *_PCIE_ERRORS),
    ),
}
"""Word in a simulation's text → model. An H-class part answers the old thresholds as well as the margins."""
