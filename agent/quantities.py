"""The single list of quantities: what is known of a GPU. Its slices and parts are in agent/pieces.py.

A quantity is a field of `Quantities`, annotated with its kind and help. Exposition, the journal's columns,
the replay format and docs/metrics.md derive from this list. A name ends in a base unit, or this module does
not import. `None` means that the device would not say: it is never 0 and never a sentinel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Literal, NamedTuple, get_type_hints

Amount = float | None
"""A quantity in its base unit; None where the device would not say."""

GAUGE_UNITS = ("_ratio", "_bytes", "_watts", "_celsius", "_hertz", "_seconds")
COUNTER_UNITS = ("_joules_total", "_seconds_total", "_bytes_total", "_total")
NUMBER_UNITS = ("_flag", "_code", "_generation", "_lanes", "_links", "_banks", "_processes")
"""Endings of gauges without a unit: yes (1) or no (0), a number that stands for something, how many."""

Origin = Literal["driver", "device", "probe"]
"""Where a counter is kept: by the driver until it is loaded anew, on the board for ever, or by the probe."""


class Metric(NamedTuple):
    """What is said of a quantity once. With `family` and `labels`, several fields make one metric."""

    kind: Literal["gauge", "counter"]
    help: str
    family: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    origin: Origin = "driver"


def gauge(text: str, family: str = "", **labels: str) -> Metric:
    """Say what a gauge is; the metric's help and, where it is one of a family, its labels."""
    return Metric("gauge", text, family, tuple(labels.items()))


def _counter(text: str, family: str = "", origin: Origin = "driver", **labels: str) -> Metric:
    return Metric("counter", text, family, tuple(labels.items()), origin)


def _throttle(reason: str, text: str) -> Metric:
    return _counter(text, "throttle_seconds_total", reason=reason)


def _pipe(pipe: str, text: str) -> Metric:
    return gauge(text, "tensor_pipe_active_ratio", pipe=pipe)


def _tlimit(limit: str) -> Metric:
    text = "Margin at which a limit is reached, on the scale of the margin"
    return gauge(text, "temperature_margin_limit_celsius", limit=limit)


def _ecc(counter: str, kind: str) -> Metric:
    aggregate = counter == "aggregate"
    text = "ECC errors over the life of the board" if aggregate else "ECC errors that the driver counted"
    return _counter(
        text, f"ecc_{counter}_errors_total", origin="device" if aggregate else "driver", kind=kind
    )


def _nvlink(kind: str) -> Metric:
    return _counter("NVLink errors of all links together", "nvlink_errors_total", kind=kind)


@dataclass(frozen=True, kw_only=True)
class Busy:
    """What NVML calls utilization: time in which anything was at work, however little."""

    busy_ratio: Annotated[Amount, gauge("Share of the interval in which any kernel was resident")] = None
    memory_busy_ratio: Annotated[
        Amount, gauge("Share of the interval in which device memory was read or written")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What a whole GPU and a MIG slice may both tell, as exact means: from GPM, on Hopper and newer."""

    graphics_active_ratio: Annotated[
        Amount, gauge("Share of the interval in which any context was active")
    ] = None
    sm_active_ratio: Annotated[
        Amount, gauge("Mean share of streaming multiprocessors with at least one warp resident")
    ] = None
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
    dram_active_ratio: Annotated[Amount, gauge("Device memory traffic as a share of the peak bandwidth")] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class Quantities(Activity, Busy):
    """All that may be known of one GPU. Without slots, so that what is not known takes neither time nor room.

    What reads a GPU must have a line for each: agent/watch.py does not import otherwise.
    """

    # Activity
    tensor_dfma_active_ratio: Annotated[Amount, _pipe("dfma", "Cycles of one kind of tensor pipe")] = None
    tensor_hmma_active_ratio: Annotated[Amount, _pipe("hmma", "half precision")] = None
    tensor_dmma_active_ratio: Annotated[Amount, _pipe("dmma", "double precision")] = None
    tensor_imma_active_ratio: Annotated[Amount, _pipe("imma", "integers")] = None
    encoder_ratio: Annotated[Amount, gauge("Share of the interval in which a video encoder worked")] = None
    decoder_ratio: Annotated[Amount, gauge("Share of the interval in which a video decoder worked")] = None
    jpeg_ratio: Annotated[Amount, gauge("Share of the interval in which a JPEG engine worked")] = None
    ofa_ratio: Annotated[
        Amount, gauge("Share of the interval in which the optical flow accelerator worked")
    ] = None
    pcie_tx_bytes_total: Annotated[Amount, _counter("Bytes sent over PCIe", origin="probe")] = None
    pcie_rx_bytes_total: Annotated[Amount, _counter("Bytes received over PCIe", origin="probe")] = None
    nvlink_tx_bytes_total: Annotated[Amount, _counter("Bytes sent over all NVLinks")] = None
    nvlink_rx_bytes_total: Annotated[Amount, _counter("Bytes received over all NVLinks")] = None

    # Memory
    memory_used_bytes: Annotated[Amount, gauge("Device memory in use without the driver's own, mean")] = None
    memory_used_max_bytes: Annotated[
        Amount, gauge("Device memory in use without the driver's own, largest of the polls")
    ] = None
    memory_free_bytes: Annotated[Amount, gauge("Device memory that may be allocated, mean")] = None
    memory_reserved_bytes: Annotated[Amount, gauge("Device memory that driver and firmware keep")] = None
    memory_total_bytes: Annotated[Amount, gauge("Device memory installed")] = None
    bar1_used_bytes: Annotated[Amount, gauge("Address space of BAR1 in use")] = None
    bar1_total_bytes: Annotated[Amount, gauge("Address space of BAR1")] = None

    # Use
    running_processes: Annotated[
        Amount, gauge("Processes that had a context on the GPU in the interval, displays too")
    ] = None

    # Power
    power_watts: Annotated[Amount, gauge("Electric power, mean over the interval")] = None
    power_max_watts: Annotated[Amount, gauge("Electric power, largest that the driver sampled")] = None
    memory_power_watts: Annotated[Amount, gauge("Electric power of the device memory, mean of the polls")] = (
        None
    )
    module_power_watts: Annotated[
        Amount, gauge("Electric power of the module that carries GPU and processor, mean of the polls")
    ] = None
    power_limit_watts: Annotated[Amount, gauge("Power limit that the driver enforces")] = None
    power_limit_default_watts: Annotated[Amount, gauge("Power limit of the board as delivered")] = None
    power_limit_min_watts: Annotated[Amount, gauge("Least power limit that can be set")] = None
    power_limit_max_watts: Annotated[Amount, gauge("Largest power limit that can be set")] = None
    energy_joules_total: Annotated[Amount, _counter("Energy used, as the driver counts it")] = None

    # Heat
    temperature_celsius: Annotated[Amount, gauge("Core temperature, mean of the polls")] = None
    temperature_max_celsius: Annotated[Amount, gauge("Core temperature, largest of the polls")] = None
    temperature_margin_celsius: Annotated[
        Amount,
        gauge("Kelvins left until clocks are lowered for heat, least of the polls"),
    ] = None
    temperature_operating_max_celsius: Annotated[
        Amount, gauge("Core temperature at which the driver begins to lower clocks")
    ] = None
    temperature_slowdown_celsius: Annotated[
        Amount, gauge("Core temperature at which hardware slows the clocks down")
    ] = None
    temperature_shutdown_celsius: Annotated[
        Amount, gauge("Core temperature at which the device switches itself off")
    ] = None
    temperature_margin_operating_celsius: Annotated[Amount, _tlimit("operating_max")] = None
    temperature_margin_slowdown_celsius: Annotated[Amount, _tlimit("slowdown")] = None
    temperature_margin_shutdown_celsius: Annotated[Amount, _tlimit("shutdown")] = None
    temperature_margin_memory_celsius: Annotated[Amount, _tlimit("memory_max")] = None
    memory_temperature_celsius: Annotated[Amount, gauge("Device memory temperature, mean of the polls")] = (
        None
    )
    memory_temperature_max_celsius: Annotated[
        Amount, gauge("Device memory temperature, largest of the polls")
    ] = None
    memory_temperature_limit_celsius: Annotated[
        Amount, gauge("Device memory temperature at which its clock is lowered")
    ] = None

    fan_speed_least_ratio: Annotated[
        Amount, gauge("Speed of the slowest fan as a share of its highest, as the driver asks for it")
    ] = None
    fan_speed_most_ratio: Annotated[
        Amount, gauge("Speed of the fastest fan as a share of its highest, as the driver asks for it")
    ] = None

    # Clocks
    sm_clock_hertz: Annotated[Amount, gauge("Clock of the streaming multiprocessors, mean of the polls")] = (
        None
    )
    sm_clock_min_hertz: Annotated[Amount, gauge("Clock of the multiprocessors, least of the polls")] = None
    sm_clock_max_hertz: Annotated[Amount, gauge("Highest clock the streaming multiprocessors can run at")] = (
        None
    )
    memory_clock_hertz: Annotated[Amount, gauge("Clock of the device memory, as last seen")] = None
    memory_clock_max_hertz: Annotated[Amount, gauge("Highest clock the device memory can run at")] = None
    performance_state_code: Annotated[
        Amount, gauge("P-state as last seen: 0 is the fastest, 15 the slowest")
    ] = None
    throttle_power_cap_seconds_total: Annotated[
        Amount, _throttle("power_cap", "Time with clocks lowered, by reason; reasons overlap")
    ] = None
    throttle_sync_boost_seconds_total: Annotated[
        Amount, _throttle("sync_boost", "clocks held down with a group of GPUs")
    ] = None
    throttle_board_limit_seconds_total: Annotated[
        Amount, _throttle("board_limit", "a limit of the board holds clocks down")
    ] = None
    throttle_low_utilization_seconds_total: Annotated[
        Amount, _throttle("low_utilization", "too little work to raise the clocks")
    ] = None
    throttle_reliability_seconds_total: Annotated[
        Amount, _throttle("reliability", "the voltage limit holds clocks down")
    ] = None
    throttle_sw_thermal_seconds_total: Annotated[
        Amount, _throttle("sw_thermal", "the driver lowers clocks for heat")
    ] = None
    throttle_hw_thermal_seconds_total: Annotated[
        Amount, _throttle("hw_thermal", "the hardware lowers clocks for heat")
    ] = None
    throttle_power_brake_seconds_total: Annotated[
        Amount, _throttle("power_brake", "an outside signal asks for less power")
    ] = None
    below_application_clock_seconds_total: Annotated[
        Amount, _counter("Time with clocks below the application clocks, for whatever reason")
    ] = None
    below_base_clock_seconds_total: Annotated[
        Amount, _counter("Time with clocks below the base clock, for whatever reason")
    ] = None

    # Errors and health
    ecc_corrected_volatile_total: Annotated[Amount, _ecc("volatile", "corrected")] = None
    ecc_uncorrected_volatile_total: Annotated[Amount, _ecc("volatile", "uncorrected")] = None
    ecc_corrected_aggregate_total: Annotated[Amount, _ecc("aggregate", "corrected")] = None
    ecc_uncorrected_aggregate_total: Annotated[Amount, _ecc("aggregate", "uncorrected")] = None
    retired_pages_single_bit_total: Annotated[
        Amount,
        _counter("Pages of memory retired", "retired_pages_total", origin="device", cause="single_bit"),
    ] = None
    retired_pages_double_bit_total: Annotated[
        Amount,
        _counter("after a double bit error", "retired_pages_total", origin="device", cause="double_bit"),
    ] = None
    retired_pages_pending_flag: Annotated[Amount, gauge("Whether a page waits for a reset to be retired")] = (
        None
    )
    remapped_rows_corrected_total: Annotated[
        Amount,
        _counter("Rows of memory remapped", "remapped_rows_total", origin="device", cause="corrected"),
    ] = None
    remapped_rows_uncorrected_total: Annotated[
        Amount,
        _counter("after an uncorrected error", "remapped_rows_total", origin="device", cause="uncorrected"),
    ] = None
    row_remap_pending_flag: Annotated[Amount, gauge("Whether a row waits for a reset to be remapped")] = None
    row_remap_failure_flag: Annotated[Amount, gauge("Whether a row could not be remapped")] = None
    sram_threshold_exceeded_flag: Annotated[
        Amount, gauge("Whether uncorrected SRAM errors passed the number at which a board is replaced")
    ] = None
    pcie_replays_total: Annotated[Amount, _counter("PCIe packets that had to be sent again")] = None
    pcie_link_generation: Annotated[Amount, gauge("PCIe generation in use; it drops while idle")] = None
    pcie_link_max_generation: Annotated[Amount, gauge("PCIe generation that GPU and slot can do")] = None
    pcie_link_lanes: Annotated[Amount, gauge("PCIe lanes in use")] = None
    pcie_link_max_lanes: Annotated[Amount, gauge("PCIe lanes that GPU and slot can do")] = None
    nvlink_active_links: Annotated[Amount, gauge("NVLinks that are up")] = None
    nvlink_present_links: Annotated[Amount, gauge("NVLinks that the device has")] = None
    nvlink_crc_flit_errors_total: Annotated[Amount, _nvlink("crc_flit")] = None
    nvlink_crc_data_errors_total: Annotated[Amount, _nvlink("crc_data")] = None
    nvlink_replay_errors_total: Annotated[Amount, _nvlink("replay")] = None
    nvlink_recovery_errors_total: Annotated[Amount, _nvlink("recovery")] = None
    nvlink_ecc_errors_total: Annotated[Amount, _nvlink("ecc")] = None
    fabric_state_code: Annotated[
        Amount, gauge("NVLink fabric: 0 none, 1 not started, 2 in progress, 3 completed")
    ] = None
    fabric_health_code: Annotated[
        Amount, gauge("NVLink fabric's health: 1 healthy, 2 unhealthy, 3 of limited capacity")
    ] = None
    recovery_action_code: Annotated[
        Amount,
        gauge(
            "What the driver asks for: 0 nothing, 1 GPU reset, 2 node reboot, 3 drain P2P, 4 drain and reset,"
            " 5 IMEX domain reset, 6 bus reset, 7 system reboot"
        ),
    ] = None

    # Modes
    persistence_mode_flag: Annotated[Amount, gauge("Whether the driver stays loaded without clients")] = None
    ecc_mode_flag: Annotated[Amount, gauge("Whether ECC is on")] = None
    mig_mode_flag: Annotated[Amount, gauge("Whether the GPU is partitioned by MIG")] = None
    compute_mode_code: Annotated[
        Amount, gauge("Who may compute: 0 all, 2 nobody, 3 one process at a time")
    ] = None


def check_name(name: str, kind: str) -> None:
    """Raise TypeError unless a quantity's name ends in a unit that fits its kind."""
    units = COUNTER_UNITS if kind == "counter" else (*GAUGE_UNITS, *NUMBER_UNITS)
    if not name.endswith(units):
        raise TypeError(f"{kind} {name!r} does not end in a base unit: one of {' '.join(units)}")


def listed(kind: type) -> dict[str, Metric]:
    """Give the quantities among the fields of a dataclass, in order. Raises TypeError for a wrong name."""
    found: dict[str, Metric] = {}
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        for mark in getattr(hints[field.name], "__metadata__", ()):
            check_name(field.name, mark.kind)
            found[field.name] = mark
    return found


QUANTITIES: Mapping[str, Metric] = listed(Quantities)
"""Field name of `Quantities` → what it is; in the order of declaration."""
