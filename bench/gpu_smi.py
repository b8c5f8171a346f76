"""What nvidia-smi tells of each GPU, by our names and in our units: `nvidia-smi -q -x`, understood.

Tags are those of its public schema; a quantity may stand in several places, by version. What it does not tell
("N/A" and its like, or no such section) is left out, never 0.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from xml.etree import ElementTree as ET

Key = tuple[str, tuple[str, ...]]
"""A quantity of agent.quantities.PARTS, and its labels."""

_MIB = float(1 << 20)
_UNITS = {"MiB": _MIB, "GiB": 1024 * _MIB, "KiB": 1024.0, "MHz": 1e6, "%": 0.01} | {
    "us": 1e-6,
    "ms": 1e-3,
    "ns": 1e-9,
    "mJ": 1e-3,
    "mW": 1e-3,
}
"""Units that are not base units; all others count as they are written."""
_NUMBER = re.compile(r"^(-?\d+(?:\.\d+)?)\s*([A-Za-z%]*)")

TEXTS: Mapping[str, tuple[str, ...]] = {
    "model": ("product_name",),
    "serial": ("serial",),
    "board_part": ("board_part_number",),
    "vbios": ("vbios_version",),
    "inforom": ("inforom_version/img_version",),
    "pci_bus": ("pci/pci_bus_id",),
    "minor": ("minor_number",),
    "module": ("platformInfo/module_id", "module_id"),
    "chassis": ("platformInfo/chassis_serial_number",),
    "slot": ("platformInfo/slot_number",),
    "tray": ("platformInfo/tray_index",),
}
"""Field of agent.tick.Gpu → where it stands, best first."""

_POWER = ("gpu_power_readings", "power_readings")
_REASONS = "clocks_event_reasons_counters/clocks_event_reasons_counters_"


def _power(tag: str) -> tuple[str, ...]:
    return tuple(f"{section}/{tag}" for section in _POWER)


NUMBERS: Mapping[str, tuple[str, ...]] = {
    "memory_total_bytes": ("fb_memory_usage/total",),
    "memory_reserved_bytes": ("fb_memory_usage/reserved",),
    "memory_used_bytes": ("fb_memory_usage/used",),
    "memory_free_bytes": ("fb_memory_usage/free",),
    "bar1_total_bytes": ("bar1_memory_usage/total",),
    "bar1_used_bytes": ("bar1_memory_usage/used",),
    "power_watts": (*_power("average_power_draw"), *_power("power_draw")),
    "memory_power_watts": ("gpu_memory_power_readings/average_power_draw",),
    "module_power_watts": ("module_power_readings/average_power_draw",),
    "power_limit_watts": (*_power("current_power_limit"), *_power("enforced_power_limit")),
    "power_limit_default_watts": _power("default_power_limit"),
    "power_limit_min_watts": _power("min_power_limit"),
    "power_limit_max_watts": _power("max_power_limit"),
    "temperature_celsius": ("temperature/gpu_temp",),
    "temperature_margin_celsius": ("temperature/gpu_temp_tlimit",),
    "temperature_margin_shutdown_celsius": ("temperature/gpu_temp_max_tlimit_threshold",),
    "temperature_margin_slowdown_celsius": ("temperature/gpu_temp_slow_tlimit_threshold",),
    "temperature_margin_operating_celsius": ("temperature/gpu_temp_max_gpu_tlimit_threshold",),
    "temperature_margin_memory_celsius": ("temperature/gpu_temp_max_mem_tlimit_threshold",),
    "temperature_shutdown_celsius": ("temperature/gpu_temp_max_threshold",),
    "temperature_slowdown_celsius": ("temperature/gpu_temp_slow_threshold",),
    "temperature_operating_max_celsius": ("temperature/gpu_temp_max_gpu_threshold",),
    "memory_temperature_limit_celsius": ("temperature/gpu_temp_max_mem_threshold",),
    "memory_temperature_celsius": ("temperature/memory_temp",),
    "sm_clock_hertz": ("clocks/sm_clock",),
    "memory_clock_hertz": ("clocks/mem_clock",),
    "sm_clock_max_hertz": ("max_clocks/sm_clock",),
    "memory_clock_max_hertz": ("max_clocks/mem_clock",),
    "performance_state_code": ("performance_state",),
    "throttle_power_cap_seconds_total": (f"{_REASONS}sw_power_cap",),
    "throttle_sync_boost_seconds_total": (f"{_REASONS}sync_boost",),
    "throttle_sw_thermal_seconds_total": (f"{_REASONS}sw_therm_slowdown",),
    "throttle_hw_thermal_seconds_total": (f"{_REASONS}hw_therm_slowdown",),
    "throttle_power_brake_seconds_total": (f"{_REASONS}hw_power_brake",),
    "retired_pages_single_bit_total": ("retired_pages/multiple_single_bit_retirement/retired_count",),
    "retired_pages_double_bit_total": ("retired_pages/double_bit_retirement/retired_count",),
    "remapped_rows_corrected_total": ("remapped_rows/remapped_row_corr",),
    "remapped_rows_uncorrected_total": ("remapped_rows/remapped_row_unc",),
    "pcie_replays_total": ("pci/replay_counter",),
    "pcie_link_generation": ("pci/pci_gpu_link_info/pcie_gen/current_link_gen",),
    "pcie_link_max_generation": ("pci/pci_gpu_link_info/pcie_gen/max_link_gen",),
    "pcie_link_lanes": ("pci/pci_gpu_link_info/link_widths/current_link_width",),
    "pcie_link_max_lanes": ("pci/pci_gpu_link_info/link_widths/max_link_width",),
}
"""Quantity → where its number stands, best first."""

_ON = {"enabled": 1.0, "disabled": 0.0, "yes": 1.0, "no": 0.0}
WORDS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "persistence_mode_flag": ("persistence_mode", _ON),
    "ecc_mode_flag": ("ecc_mode/current_ecc", _ON),
    "mig_mode_flag": ("mig_mode/current_mig", _ON),
    "retired_pages_pending_flag": ("retired_pages/pending_retirement", _ON),
    "row_remap_pending_flag": ("remapped_rows/remapped_row_pending", _ON),
    "row_remap_failure_flag": ("remapped_rows/remapped_row_failure", _ON),
    "sram_threshold_exceeded_flag": ("ecc_errors/aggregate/sram_threshold_exceeded", _ON),
    "compute_mode_code": (
        "compute_mode",
        {"default": 0.0, "exclusive_thread": 1.0, "prohibited": 2.0, "exclusive_process": 3.0},
    ),
    "fabric_state_code": (
        "fabric/state",
        {"not supported": 0.0, "not started": 1.0, "in progress": 2.0, "completed": 3.0},
    ),
    "fabric_health_code": (
        "fabric/health/summary",
        {"healthy": 1.0, "unhealthy": 2.0, "limited capacity": 3.0},
    ),
    "recovery_action_code": (
        "gpu_recovery_action",
        {"none": 0.0, "reset": 1.0, "gpu reset": 1.0, "reboot": 2.0, "node reboot": 2.0, "drain p2p": 3.0}
        | {"drain and reset": 4.0},
    ),
}
"""Quantity → where its word stands, and what each word is worth."""

_LIVES = ("volatile", "aggregate")
_ERRORS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("corrected", "sram"): ("sram_correctable",),
    ("uncorrected", "sram"): (
        "sram_uncorrectable_parity",
        "sram_uncorrectable_secded",
        "sram_uncorrectable",
    ),
    ("corrected", "device"): ("dram_correctable",),
    ("uncorrected", "device"): ("dram_uncorrectable",),
}
"""(kind, location) → the tags whose sum it is."""
_OLD_ERRORS = {"corrected": "single_bit/total", "uncorrected": "double_bit/total"}
_SPARES = ("max", "high", "partial", "low", "none")
_SPARE = "remapped_rows/row_remapper_histogram/row_remapper_histogram_"


class SmiError(Exception):
    """nvidia-smi did not answer with what it should; the message is a sentence."""


class Power(NamedTuple):
    """What nvidia-smi's log says of power: at a wall moment, the driver's mean, and right then."""

    at_ms: float
    average_watts: float | None
    instant_watts: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What nvidia-smi tells of one GPU. `processes` are pid → bytes, None where these are not told."""

    texts: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[Key, float] = field(default_factory=dict)
    processes: Mapping[int, float | None] = field(default_factory=dict)


def number_of(text: str | None) -> float | None:
    """Read a number with its unit as an amount in the base unit: "613 MiB", "-8 C", "16x", "P0", "0 us"."""
    told = (text or "").strip()
    found = _NUMBER.match(told.removeprefix("P"))
    return None if found is None else float(found[1]) * _UNITS.get(found[2], 1.0)


def _said(text: str | None) -> str:
    """Give a text; empty for what stands where there is none."""
    told = (text or "").strip()
    return "" if told.strip("[]").casefold() in {"n/a", "not supported", "unknown error"} else told


def _first(gpu: ET.Element, places: tuple[str, ...]) -> float | None:
    return next((one for one in map(number_of, map(gpu.findtext, places)) if one is not None), None)


def _sum(section: ET.Element | None, tags: tuple[str, ...]) -> float | None:
    known = [] if section is None else [number_of(section.findtext(tag)) for tag in tags]
    told = [one for one in known if one is not None]
    return sum(told) if told else None


def _errors(gpu: ET.Element) -> tuple[dict[str, float], dict[Key, float]]:
    """Read ECC errors: in total, and by place."""
    totals: dict[str, float] = {}
    places: dict[Key, float] = {}
    for life in _LIVES:
        section = gpu.find(f"ecc_errors/{life}")
        for kind, old in _OLD_ERRORS.items():
            name = f"ecc_{kind}_{life}_total"
            total = _sum(section, (old,))
            if total is not None:
                totals[name] = total
            for (of_kind, location), tags in _ERRORS.items():
                count = _sum(section, tags) if of_kind == kind else None
                if count is not None:
                    places["ecc_location_errors_total", (kind, life, location)] = count
                    totals[name] = totals.get(name, 0.0) + count
    return totals, places


def _gpu(gpu: ET.Element, versions: Mapping[str, str]) -> Told:
    values = {name: _first(gpu, places) for name, places in NUMBERS.items()}
    for name, (place, worth) in WORDS.items():
        values[name] = worth.get((gpu.findtext(place) or "").strip().casefold())
    for element in gpu.iter():
        if "energy" in element.tag and number_of(element.text) is not None:
            values["energy_joules_total"] = number_of(element.text)
    totals, parts = _errors(gpu)
    shown: dict[Key, float | None] = {
        ("remapper_banks", (spare,)): number_of(gpu.findtext(_SPARE + spare)) for spare in _SPARES
    }
    shown["fan_speed_ratio", ("0",)] = number_of(gpu.findtext("fan_speed"))
    texts = {name: next(filter(None, map(_said, map(gpu.findtext, at))), "") for name, at in TEXTS.items()}
    processes = {
        int(pid): number_of(one.findtext("used_memory"))
        for one in gpu.iterfind("processes/process_info")
        if (pid := one.findtext("pid", "").strip()).isdecimal()
    }
    return Told(
        texts={**texts, **versions},
        values={**{name: one for name, one in values.items() if one is not None}, **totals},
        parts={**parts, **{key: one for key, one in shown.items() if one is not None}},
        processes=processes,
    )


def parse(text: str) -> dict[str, Told]:
    """Understand the output of `nvidia-smi -q -x`: UUID → what is told. Raises SmiError."""
    try:
        log = ET.fromstring(text)  # noqa: S314  the driver's own program wrote it
    except ET.ParseError as error:
        first = text.strip().partition("\n")[0][:200]
        raise SmiError(f"nvidia-smi -q -x gave no XML: {first or 'nothing'}") from error
    versions = {"driver": _said(log.findtext("driver_version")), "cuda": _said(log.findtext("cuda_version"))}
    return {gpu.findtext("uuid", "").strip(): _gpu(gpu, versions) for gpu in log.iterfind("gpu")}


def parse_power(text: str) -> list[Power]:
    """Understand nvidia-smi's log of time, average power and power now; unfinished lines are left out."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(Power._fields):
            continue
        try:
            at = datetime.strptime(cells[0], "%Y/%m/%d %H:%M:%S.%f").astimezone()
        except ValueError:
            continue
        found.append(Power(at.timestamp() * 1000, number_of(cells[1]), number_of(cells[2])))
    return found
