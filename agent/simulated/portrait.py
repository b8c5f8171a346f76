"""What a perfect agent would have read of a simulated GPU: every quantity that its model tells, exactly."""

from collections.abc import Mapping

from agent.quantities import Amount
from agent.simulated.defects import SOUND, Defects
from agent.simulated.models import KEPT_BAR1_BYTES, Model
from agent.simulated.parts import fan_ratio, parts_of
from agent.simulated.phases import SECOND_US, Counters, Phase
from agent.simulated.turns import History
from agent.simulated.work import PER_MILLE, Work
from agent.tick import Part, Process, Reading, reading_of

MEMORY_BUSY_SHARE = 0.4
"""Share of busy time in which device memory is read or written."""

HEAT_SLOWDOWN = 0.28
"""Share of the busy clock that is lost while heat lowers it."""

PARTS_MS = 60_000
"""How often parts are read."""

SHARES: Mapping[str, str] = {
    "graphics_active_ratio": "graphics",
    "sm_active_ratio": "sm",
    "sm_occupancy_ratio": "occupancy",
    "integer_active_ratio": "integer",
    "tensor_active_ratio": "tensor",
    "tensor_dfma_active_ratio": "tensor_dfma",
    "tensor_hmma_active_ratio": "tensor_hmma",
    "tensor_dmma_active_ratio": "tensor_dmma",
    "tensor_imma_active_ratio": "tensor_imma",
    "dram_active_ratio": "dram",
    "fp64_active_ratio": "fp64",
    "fp32_active_ratio": "fp32",
    "fp16_active_ratio": "fp16",
}
_SHARES = [(name, Work._fields.index(what)) for name, what in SHARES.items()]

THROTTLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "throttle_power_cap_seconds_total": ("power_cap_us", ("field:74", "violation:0")),
    "throttle_sync_boost_seconds_total": ("sync_boost_us", ("field:76", "violation:2")),
    "throttle_reliability_seconds_total": ("reliability_us", ("field:79", "violation:5")),
    "throttle_sw_thermal_seconds_total": ("sw_thermal_us", ("field:269", "field:75", "violation:1")),
    "throttle_hw_thermal_seconds_total": ("hw_thermal_us", ("field:270",)),
    "throttle_power_brake_seconds_total": ("power_brake_us", ("field:271",)),
}
"""Quantity → counter, and the ways to tell it: any one of them will do."""
_RINGS = ("busy_ratio", "memory_busy_ratio", "encoder_ratio", "decoder_ratio", "jpeg_ratio", "ofa_ratio")


def clock_hertz(model: Model, phase: Phase, hot_ratio: float) -> float:
    """Return the clock of the multiprocessors in a phase, by the share of time that heat lowers it."""
    if not phase.busy.on_us:
        return model.sm_clock_idle_mhz * 1e6
    left = 1 - HEAT_SLOWDOWN * hot_ratio if phase.clock_percent is None else phase.clock_percent / 100
    return model.sm_clock_busy_mhz * 1e6 * left


def memory_celsius(model: Model, core_celsius: float) -> float:
    """Return the temperature of the memory beside a core of that temperature."""
    return core_celsius + 2 + 0.2 * (core_celsius - model.idle_celsius)


def below_base_us(counters: Counters) -> int:
    """Return the time with clocks below the base clock: the longest slowdown contains the others."""
    return max(counters.sw_thermal_us, counters.hw_thermal_us, counters.power_brake_us)


def performance_state(phase: Phase) -> int:
    """Return the P-state: the fastest with work at hand, a slow one without."""
    return 0 if phase.busy.on_us else 8


def pcie_generation(model: Model, phase: Phase, defects: Defects) -> int:
    """Return the generation in use, which some models lower while there is no work."""
    if defects.pcie_generation is not None:
        return defects.pcie_generation
    return model.pcie_generation if phase.busy.on_us else model.pcie_idle_generation


class Portrait:
    """One GPU as it is read: its model, its history, and what is wrong with it."""

    def __init__(self, model: Model, uuid: str, history: History) -> None:
        self._model = model
        self._uuid = uuid
        self._history = history
        self._fixed = _fixed(model)
        self._sound = self._fixed | _health(model, SOUND)
        self._sound_parts = parts_of(model, SOUND)
        self._throttles = [
            (name, Counters._fields.index(counter))
            for name, (counter, words) in THROTTLES.items()
            if not model.refused.issuperset(words)
        ]

    def reading(
        self,
        start_ms: int,
        end_ms: int,
        phases: list[Phase],
        defects: Defects,
        *,
        heats: list[float],
        partitioned: bool,
    ) -> Reading:
        """Return the reading of [start, end), through which the GPU went from phase to phase.

        `heats` are temperatures of the core: at the start, on the way, at the end.
        """
        start_us, end_us = start_ms * 1_000, end_ms * 1_000
        history, length_us = self._history, end_us - start_us
        first, last = history.counters(start_us), history.counters(end_us)
        busy_ratio = (last.busy_us - first.busy_us) / length_us
        values: dict[str, Amount] = {
            **(self._sound if defects is SOUND else self._fixed | _health(self._model, defects)),
            "busy_ratio": busy_ratio,
            "memory_busy_ratio": busy_ratio * MEMORY_BUSY_SHARE,
            **self._load(first, last, phases, length_us),
            **self._heat(heats, defects.memory_kelvin),
            **self._fans(defects, heats[-1]),
            **self._traffic(start_us, end_us),
            "pcie_link_generation": pcie_generation(self._model, phases[-1], defects),
        }
        if partitioned:
            values |= dict.fromkeys(_RINGS) | {"mig_mode_flag": 1}
        listed = () if defects.memory_leaked else phases[-1].listed
        values["running_processes"] = float(len(listed))
        return reading_of(
            self._uuid,
            start_ms,
            end_ms,
            values,
            processes=_sharing(listed, 0.0 if partitioned else busy_ratio),
            parts=self._parts(start_ms, end_ms, defects, heats[-1]),
        )

    def _load(
        self, first: Counters, last: Counters, phases: list[Phase], length_us: int
    ) -> dict[str, Amount]:
        """Tell power, memory and clocks."""
        model, told = self._model, self._told
        used_bytes = (last.memory_byte_us - first.memory_byte_us) / length_us
        hot_ratio = (last.sw_thermal_us - first.sw_thermal_us) / length_us
        worked = last.busy_us > first.busy_us
        peak = max(phase.idle_milliwatts + (worked and phase.active_milliwatts) for phase in phases)
        values: dict[str, Amount] = {
            "memory_used_bytes": used_bytes,
            "memory_used_max_bytes": max(phase.memory_bytes for phase in phases),
            "memory_free_bytes": model.memory_total_bytes - model.memory_reserved_bytes - used_bytes,
            "power_watts": (last.energy_nj - first.energy_nj) / length_us / 1e3,
            "power_max_watts": peak / 1e3,
            "energy_joules_total": told("energy", last.energy_nj / 1e9),
            "sm_clock_hertz": clock_hertz(model, phases[-1], hot_ratio),
            "sm_clock_min_hertz": min(clock_hertz(model, phase, float(hot_ratio > 0)) for phase in phases),
            "performance_state_code": performance_state(phases[-1]),
        }
        for name, place in self._throttles:
            values[name] = last[place] / SECOND_US
        if not model.refused.issuperset(("field:81", "violation:11")):
            below = below_base_us(last) / SECOND_US
            values["below_base_clock_seconds_total"] = below
            values["below_application_clock_seconds_total"] = below
        return values

    def _heat(self, heats: list[float], memory_kelvin: float) -> dict[str, Amount]:
        model, told = self._model, self._told
        heat, heat_max = sum(heats) / len(heats), max(heats)
        return {
            "temperature_celsius": heat,
            "temperature_max_celsius": heat_max,
            "temperature_margin_celsius": model.operating_max_celsius - heat_max,
            "memory_temperature_celsius": told("field:82", memory_celsius(model, heat) + memory_kelvin),
            "memory_temperature_max_celsius": told(
                "field:82", memory_celsius(model, heat_max) + memory_kelvin
            ),
        }

    def _fans(self, defects: Defects, core_celsius: float) -> dict[str, Amount]:
        if "fan" in self._model.refused:
            return {}
        return dict.fromkeys(("fan_speed_least_ratio", "fan_speed_most_ratio"), _fan(defects, core_celsius))

    def _traffic(self, start_us: int, end_us: int) -> dict[str, Amount]:
        """Tell what the units inside did, and what went over the links."""
        model, values = self._model, dict[str, Amount]()
        has_gpm, has_links = "gpm" not in model.refused, "nvlink" not in model.refused
        if not has_gpm and not has_links:
            return values
        before, after = self._history.work(start_us), self._history.work(end_us)
        if has_links:
            values["nvlink_tx_bytes_total"] = after.nvlink_tx_bytes
            values["nvlink_rx_bytes_total"] = after.nvlink_rx_bytes
        if has_gpm:
            whole = PER_MILLE * (end_us - start_us)
            for name, place in _SHARES:
                values[name] = (after[place] - before[place]) / whole
            values["pcie_tx_bytes_total"] = after.pcie_tx_bytes
            values["pcie_rx_bytes_total"] = after.pcie_rx_bytes
            idle_mw, traffic_mw = model.memory_milliwatts
            if idle_mw:
                dram_ratio = (after.dram - before.dram) / whole
                values["memory_power_watts"] = (idle_mw + traffic_mw * dram_ratio) / 1e3
        return values

    def _told(self, word: str, value: float) -> Amount:
        return None if word in self._model.refused else value

    def _parts(
        self, start_ms: int, end_ms: int, defects: Defects, core_celsius: float
    ) -> tuple[Part, ...] | None:
        if start_ms // PARTS_MS == end_ms // PARTS_MS:
            return None
        parts = self._sound_parts if defects is SOUND else parts_of(self._model, defects)
        if "fan" in self._model.refused:
            return parts
        return (*parts, Part("fan_speed_ratio", ("0",), _fan(defects, core_celsius)))


def _fan(defects: Defects, core_celsius: float) -> float:
    return 0.0 if defects.fan_stopped else fan_ratio(core_celsius)


def _sharing(listed: tuple[Process, ...], busy_ratio: float) -> tuple[Process, ...]:
    """Let the processes of a GPU share its busy time evenly."""
    if not busy_ratio or not listed:
        return listed
    share = busy_ratio / len(listed)
    return tuple(
        Process(pid=one.pid, memory_used_bytes=one.memory_used_bytes, sm_ratio=share) for one in listed
    )


def _fixed(model: Model) -> dict[str, Amount]:
    """Tell what never changes, and what never happens."""
    words: Mapping[str, tuple[float, tuple[str, ...]]] = {
        "encoder_ratio": (0.0, ("samples:3",)),
        "decoder_ratio": (0.0, ("samples:4",)),
        "jpeg_ratio": (0.0, ("samples:8",)),
        "ofa_ratio": (0.0, ("samples:9",)),
        "memory_reserved_bytes": (model.memory_reserved_bytes, ("memory_v2",)),
        "memory_total_bytes": (model.memory_total_bytes, ("memory_v2",)),
        "bar1_used_bytes": (KEPT_BAR1_BYTES, ("bar1",)),
        "bar1_total_bytes": (model.bar1_bytes, ("bar1",)),
        "power_limit_watts": (model.limit_watts, ("field:190",)),
        "power_limit_default_watts": (model.limit_watts, ("field:189",)),
        "power_limit_min_watts": (model.limit_min_watts, ("field:187",)),
        "power_limit_max_watts": (model.limit_watts, ("field:188",)),
        "temperature_operating_max_celsius": (model.operating_max_celsius, ("threshold",)),
        "temperature_slowdown_celsius": (model.slowdown_celsius, ("threshold",)),
        "temperature_shutdown_celsius": (model.shutdown_celsius, ("threshold",)),
        "temperature_margin_operating_celsius": (0, ("field:196",)),
        "temperature_margin_slowdown_celsius": (
            model.operating_max_celsius - model.slowdown_celsius,
            ("field:194",),
        ),
        "temperature_margin_shutdown_celsius": (
            model.operating_max_celsius - model.shutdown_celsius,
            ("field:193",),
        ),
        "temperature_margin_memory_celsius": (0, ("field:195",)),
        "sm_clock_max_hertz": (model.sm_clock_max_mhz * 1e6, ("max_clock",)),
        "memory_clock_hertz": (model.memory_clock_mhz * 1e6, ("clock",)),
        "memory_clock_max_hertz": (model.memory_clock_mhz * 1e6, ("max_clock",)),
        "throttle_board_limit_seconds_total": (0.0, ("field:77", "violation:3")),
        "throttle_low_utilization_seconds_total": (0.0, ("field:78", "violation:4")),
        "pcie_link_max_generation": (model.pcie_generation, ("pcie_link",)),
        "pcie_link_max_lanes": (model.pcie_lanes, ("pcie_link",)),
        "nvlink_present_links": (model.links, ("nvlink",)),
        "mig_mode_flag": (0, ("mig",)),
    }
    fixed: dict[str, Amount] = {
        name: value for name, (value, ways) in words.items() if not model.refused.issuperset(ways)
    }
    if model.memory_max_celsius:
        fixed["memory_temperature_limit_celsius"] = model.memory_max_celsius
    return fixed


def _health(model: Model, defects: Defects) -> dict[str, Amount]:
    """Tell errors and modes."""
    ecc = {
        "ecc_corrected_volatile_total": (defects.ecc_corrected + defects.sram_corrected, "field:3"),
        "ecc_uncorrected_volatile_total": (defects.ecc_uncorrected + defects.sram_uncorrected, "field:4"),
        "ecc_corrected_aggregate_total": (
            defects.ecc_corrected + defects.sram_corrected + defects.earlier_corrected,
            "field:5",
        ),
        "ecc_uncorrected_aggregate_total": (
            defects.ecc_uncorrected + defects.sram_uncorrected + defects.earlier_uncorrected,
            "field:6",
        ),
    }
    words: dict[str, tuple[float, str]] = {
        **(ecc if defects.ecc_on else {}),
        "retired_pages_single_bit_total": (defects.retired_single_bit, "field:29"),
        "retired_pages_double_bit_total": (defects.retired_double_bit, "field:30"),
        "retired_pages_pending_flag": (defects.retirement_pending, "retirement"),
        "remapped_rows_corrected_total": (defects.remapped_corrected, "field:142"),
        "remapped_rows_uncorrected_total": (defects.remapped_uncorrected, "field:143"),
        "row_remap_pending_flag": (defects.remap_pending, "field:144"),
        "row_remap_failure_flag": (defects.remap_failed, "field:145"),
        "sram_threshold_exceeded_flag": (defects.sram_threshold, "sram"),
        "pcie_replays_total": (defects.pcie_replays, "field:94"),
        "pcie_link_lanes": (defects.pcie_lanes or model.pcie_lanes, "pcie_link"),
        "nvlink_active_links": (len(set(range(model.links)) - defects.links_down), "nvlink"),
        "nvlink_crc_flit_errors_total": (defects.link_crc, "nvlink"),
        "nvlink_crc_data_errors_total": (defects.link_crc, "nvlink"),
        "nvlink_replay_errors_total": (defects.link_replays, "nvlink"),
        "nvlink_recovery_errors_total": (defects.link_recoveries, "nvlink"),
        "nvlink_ecc_errors_total": (0, "nvlink"),
        "fabric_state_code": (defects.fabric_state, "fabric"),
        "fabric_health_code": (defects.fabric_health, "fabric"),
        "recovery_action_code": (defects.recovery_action, "field:230"),
        "persistence_mode_flag": (defects.persistence_on, "persistence_mode"),
        "ecc_mode_flag": (defects.ecc_on, "ecc_mode"),
        "compute_mode_code": (defects.compute_mode, "compute_mode"),
    }
    return {name: float(value) for name, (value, word) in words.items() if word not in model.refused}
