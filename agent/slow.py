"""What changes rarely of a whole GPU: limits when it is met, modes and links once a minute.

Field numbers, codes and units are those of nvml.h.
"""

from collections.abc import Callable, Mapping
from ctypes import byref, c_int, c_uint, c_ulonglong
from math import nan

from agent.batch import Batch, Field
from agent.device import Device
from agent.nvml import Bar1, Fabric, OldFabric, Sram, Violation, versioned
from agent.quantities import Amount
from agent.sanity import SENTINEL

FIXED: Mapping[str, tuple[Field, ...]] = {
    "power_limit_default_watts": (Field(189, 1e-3),),
    "power_limit_min_watts": (Field(187, 1e-3),),
    "power_limit_max_watts": (Field(188, 1e-3),),
    "temperature_margin_shutdown_celsius": (Field(193),),
    "temperature_margin_slowdown_celsius": (Field(194),),
    "temperature_margin_memory_celsius": (Field(195),),
    "temperature_margin_operating_celsius": (Field(196),),
    "nvlink_present_links": (Field(91),),
}
THRESHOLDS = {
    "temperature_shutdown_celsius": 0,
    "temperature_slowdown_celsius": 1,
    "memory_temperature_limit_celsius": 2,
    "temperature_operating_max_celsius": 3,
}
"""Numbers of nvmlTemperatureThresholds_t."""
HIGHEST_CLOCKS = {"sm_clock_max_hertz": 1, "memory_clock_max_hertz": 2}
NUMBERS: Mapping[str, str] = {
    "pcie_link_generation": "nvmlDeviceGetCurrPcieLinkGeneration",
    "pcie_link_max_generation": "nvmlDeviceGetMaxPcieLinkGeneration",
    "pcie_link_lanes": "nvmlDeviceGetCurrPcieLinkWidth",
    "pcie_link_max_lanes": "nvmlDeviceGetMaxPcieLinkWidth",
    "persistence_mode_flag": "nvmlDeviceGetPersistenceMode",
    "compute_mode_code": "nvmlDeviceGetComputeMode",
    "retired_pages_pending_flag": "nvmlDeviceGetRetiredPagesPendingStatus",
}
"""Whole numbers that one call tells."""
VIOLATIONS = {
    "throttle_power_cap_seconds_total": 0,
    "throttle_sw_thermal_seconds_total": 1,
    "throttle_sync_boost_seconds_total": 2,
    "throttle_board_limit_seconds_total": 3,
    "throttle_low_utilization_seconds_total": 4,
    "throttle_reliability_seconds_total": 5,
    "below_application_clock_seconds_total": 10,
    "below_base_clock_seconds_total": 11,
}
"""Numbers of nvmlPerfPolicyType_t: the same counters, for drivers that refuse the fields."""
SLOWEST_STATE = 15
"""Of nvmlPstates_t; 32 is unknown."""
FABRIC_QUANTITIES = ("fabric_state_code", "fabric_health_code")
OURS = frozenset(
    {
        *FIXED,
        *THRESHOLDS,
        *HIGHEST_CLOCKS,
        *NUMBERS,
        *FABRIC_QUANTITIES,
        "ecc_mode_flag",
        "performance_state_code",
        "memory_clock_hertz",
        "sram_threshold_exceeded_flag",
        "bar1_used_bytes",
        "bar1_total_bytes",
    }
)
"""The quantities that this module tells."""


def limits(device: Device) -> dict[str, Amount]:
    """Read what is fixed, once. Raises GpuGone."""
    found: dict[str, Amount] = {**Batch("fixed", device.caller, FIXED).read()}
    for name, which in THRESHOLDS.items():
        celsius = device.caller.number(name, "nvmlDeviceGetTemperatureThreshold", c_uint(which))
        if celsius:
            found[name] = device.amount(name, celsius)
    for name, which in HIGHEST_CLOCKS.items():
        found[name] = device.clock_hertz(name, which, "nvmlDeviceGetMaxClockInfo")
    return found


def modes(device: Device) -> dict[str, Amount]:
    """Read modes, links and flags; call it once a minute. Raises GpuGone."""
    caller = device.caller
    found: dict[str, Amount] = {}
    for name, function in NUMBERS.items():
        number = caller.number(name, function)
        if number is not None:
            found[name] = device.amount(name, number)
    state = caller.number("performance_state_code", "nvmlDeviceGetPerformanceState")
    if state is not None and state <= SLOWEST_STATE:
        found["performance_state_code"] = float(state)
    found["memory_clock_hertz"] = device.clock_hertz("memory_clock_hertz", 2)
    now, pending = c_uint(), c_uint()
    if caller.ask("ecc_mode_flag", "nvmlDeviceGetEccMode", byref(now), byref(pending)):
        found["ecc_mode_flag"] = float(now.value == 1)
    sram = versioned(Sram)
    if caller.ask("sram_threshold_exceeded_flag", "nvmlDeviceGetSramEccErrorStatus", byref(sram)):
        found["sram_threshold_exceeded_flag"] = float(sram.bThresholdExceeded != 0)
    bar1 = Bar1()
    if caller.ask("bar1_used_bytes", "nvmlDeviceGetBAR1MemoryInfo", byref(bar1)):
        sizes = {"bar1_used_bytes": bar1.bar1Used, "bar1_total_bytes": bar1.bar1Total}
        found |= {name: device.amount(name, size) for name, size in sizes.items()}
    return found


def fabric(device: Device) -> tuple[dict[str, Amount], int]:
    """Read the state of the NVLink fabric and its mask of faults, 0 where there is none. Raises GpuGone."""
    caller = device.caller
    newer, older = versioned(Fabric), versioned(OldFabric)
    if caller.ask("fabric_health_code", "nvmlDeviceGetGpuFabricInfoV", byref(newer)):
        codes: dict[str, Amount] = {
            "fabric_state_code": float(newer.state & 0xFF),
            "fabric_health_code": float(newer.healthSummary) or None,
        }
        return codes, int(newer.healthMask)
    if "fabric_health_code" in caller.refused and caller.ask(
        "fabric_state_code", "nvmlDeviceGetGpuFabricInfoV", byref(older)
    ):
        return {"fabric_state_code": float(older.state & 0xFF)}, int(older.healthMask)
    return {}, 0


def margin_celsius(device: Device, celsius: Amount, fixed: Mapping[str, Amount]) -> Amount:
    """Tell how far the core is from where clocks are lowered: by the driver, else by its thresholds."""
    told = device.temperature_margin_celsius()
    if told is not None or celsius is None:
        return told
    if "temperature_margin" not in device.caller.refused:
        return None
    known = [fixed.get("temperature_operating_max_celsius"), fixed.get("temperature_slowdown_celsius")]
    return min((one - celsius for one in known if one is not None), default=None)


def violations(device: Device, missing: Callable[[str], bool]) -> dict[str, float]:
    """Read the times with lowered clocks that no field tells, by the older call. Raises GpuGone."""
    found: dict[str, float] = {}
    for name, policy in VIOLATIONS.items():
        if not missing(name):
            continue
        answer, what = Violation(), f"{name}:violation"
        if device.caller.ask(what, "nvmlDeviceGetViolationStatus", c_int(policy), byref(answer)):
            nanoseconds = c_ulonglong(answer.violationTime).value
            seconds = device.amount(name, nanoseconds / 1e9 if nanoseconds < SENTINEL else nan)
            if seconds is not None:
                found[name] = seconds
    return found
