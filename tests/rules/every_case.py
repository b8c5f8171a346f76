"""Of built-in rules on links and use: the fault, what is nearly that and harmless, the way back."""

from collections.abc import Mapping

from agent.tick import State
from tests.rules.cases import DAY, HEALTH, HEAT, HOUR, MINUTE, POWER, Case, beside, counted, of, told
from tests.rules.looks import FREE, IDLE, IDLE_VALUES, SOUND, Look, Values

_SPIN = {
    "busy_ratio": 1.0,
    "sm_active_ratio": 0.12,
    "tensor_active_ratio": 0.0,
    "fp32_active_ratio": 0.0,
    "dram_active_ratio": 0.01,
    "power_watts": 214.0,
}
SPIN = Look(values=_SPIN)
BOARD: Values = {"nvlink_present_links": 12.0, "nvlink_active_links": 0.0}

LINKS = {
    "fabric_not_ready": Case(
        fault=of(fabric_state_code=2.0, fabric_health_code=None),
        harmless={
            "no fabric": [(of(fabric_state_code=0.0, fabric_health_code=None), HOUR)],
            "at boot": [(of(fabric_state_code=2.0, fabric_health_code=None), 2 * MINUTE), (SOUND, HOUR)],
        },
    ),
    "fabric_unhealthy": Case(
        fault=of(fabric_health_code=2.0),
        harmless={
            "a route recovers": [(of(fabric_health_code=2.0), 30.0), (SOUND, HOUR)],
            "of limited capacity": [(of(fabric_health_code=3.0), HOUR)],
        },
    ),
    "fabric_limited": Case(
        fault=of(fabric_health_code=3.0),
        harmless={
            "unhealthy": [(of(fabric_health_code=2.0), HOUR)],
            "not told": [(of(fabric_health_code=None), HOUR)],
        },
    ),
    "nvlink_all_down": Case(
        fault=beside({}, nvlink_active_links=0.0),
        well=beside({}),
        harmless={
            "boards without bridges": [(beside(BOARD, **BOARD), HOUR)],
            "partitioned": [(beside({}, nvlink_active_links=0.0, mig_mode_flag=1.0), HOUR)],
        },
    ),
    "nvlink_down": Case(
        fault=of(nvlink_active_links=17.0),
        harmless={
            "a board without bridge": [(of(**BOARD), HOUR)],
            "while it is trained": [(of(nvlink_active_links=11.0), 2 * MINUTE), (SOUND, HOUR)],
        },
    ),
    "nvlink_recoveries": Case(
        fault=counted("nvlink_recovery_errors", 6),
        harmless={"packets sent again": [(counted("nvlink_replay_errors", 0.2), HOUR)]},
    ),
    "nvlink_replays": Case(
        fault=counted("nvlink_replay_errors", 6),
        between=counted("nvlink_replay_errors", 0.6),
        harmless={"a burst": [(counted("nvlink_replay_errors", 300), 20.0), (SOUND, HOUR)]},
    ),
    "nvlink_crc_errors": Case(
        fault=counted("nvlink_crc_flit_errors", 120),
        between=counted("nvlink_crc_flit_errors", 30),
        harmless={
            "a few": [(counted("nvlink_crc_flit_errors", 20), HOUR)],
            "at training": [(counted("nvlink_crc_flit_errors", 6_000), 20.0), (SOUND, HOUR)],
        },
    ),
    "pcie_lanes_low": Case(
        fault=of(pcie_link_lanes=8.0),
        between=IDLE.also(pcie_link_lanes=8.0),
        harmless={"while idle": [(IDLE.also(pcie_link_lanes=8.0), 20 * MINUTE)]},
    ),
    "pcie_generation_low": Case(
        fault=of(pcie_link_generation=3.0),
        between=IDLE.also(pcie_link_generation=1.0),
        harmless={
            "while idle": [(IDLE.also(pcie_link_generation=1.0), 20 * MINUTE)],
            "as fast as the slot": [(of(pcie_link_generation=4.0, pcie_link_max_generation=4.0), HOUR)],
        },
    ),
    "pcie_replays": Case(
        fault=counted("pcie_replays", 600),
        between=counted("pcie_replays", 45),
        harmless={
            "what the standard allows": [(counted("pcie_replays", 30), 2 * HOUR)],
            "a day that nobody looked at": [(counted("pcie_replays", 40_000), 10.0), (SOUND, HOUR)],
        },
    ),
}

USE = {
    "stalled": Case(
        fault=SPIN,
        between=SPIN.also(busy_ratio=0.96, tensor_active_ratio=0.02, dram_active_ratio=0.08),
        harmless={
            "a warm-up": [(SPIN, 10 * MINUTE), (SOUND, HOUR)],
            "simulation in single precision": [(SPIN.also(fp32_active_ratio=0.4, power_watts=330.0), HOUR)],
            "bound by memory": [(SPIN.also(dram_active_ratio=0.7), HOUR)],
            "whole numbers": [(SPIN.also(power_watts=520.0), HOUR)],
            "a busy that nothing causes": [(SPIN.also(sm_active_ratio=0.0), HOUR)],
            "a board without these metrics": [(SPIN.also(tensor_active_ratio=None), HOUR)],
        },
    ),
    "straggler": Case(
        fault=beside({}, busy_ratio=0.01),
        well=beside({}),
        between=beside({"busy_ratio": 0.33}, busy_ratio=0.09),
        harmless={
            "a checkpoint": [(beside({"busy_ratio": 0.0}, busy_ratio=0.0), 2 * HOUR)],
            "free": [(Look(values=FREE.values, state=State.FREE, workload="", others={}), 2 * HOUR)],
            "a replica without requests": [
                (Look(values={"busy_ratio": 0.01}, workload="serving", others={}), 2 * HOUR)
            ],
            "another's small job": [(beside({}, busy_ratio=0.01, memory_used_bytes=3e9), 2 * HOUR)],
        },
    ),
    "held_without_process": Case(
        fault=Look(values={**IDLE_VALUES, "running_processes": 0.0}, state=State.HELD_IDLE),
        harmless={
            "it idles with a process": [(Look(values=IDLE_VALUES, state=State.HELD_IDLE), HOUR)],
            "it has just begun": [(IDLE.also(running_processes=0.0), 29 * MINUTE), (SOUND, MINUTE)],
            "free": [(FREE, HOUR)],
        },
        also=frozenset({"held_idle_long"}),
    ),
    "memory_held_by_nobody": Case(
        fault=Look(values={**FREE.values, "memory_used_bytes": 20e9, "running_processes": 0.0}),
        between=Look(values={**FREE.values, "memory_used_bytes": 0.8e9, "running_processes": 0.0}),
        harmless={
            "a process that idles": [(IDLE, HOUR)],
            "nothing in use": [(FREE, HOUR)],
            "just ended": [(of(running_processes=0.0), 30.0), (FREE, HOUR)],
            "processes are not told": [(of(running_processes=None), HOUR)],
        },
    ),
    "held_idle": Case(
        fault=Look(values=IDLE_VALUES, state=State.HELD_IDLE),
        harmless={
            "a checkpoint, or data to load": [(IDLE, 29 * MINUTE), (SOUND, MINUTE)],
            "a service of the node": [(Look(values=IDLE_VALUES, state=State.SERVICE), DAY / 4)],
        },
    ),
    "held_idle_long": Case(
        fault=Look(values=IDLE_VALUES, state=State.HELD_IDLE),
        also=frozenset({"held_idle"}),
        harmless={
            "for an hour": [(Look(values=IDLE_VALUES, state=State.HELD_IDLE), HOUR), (SOUND, HOUR)],
            "a session": [
                (Look(values=IDLE_VALUES, state=State.HELD_IDLE, workload="interactive"), 2 * HOUR)
            ],
        },
    ),
    "held_idle_long_interactive": Case(
        fault=Look(values=IDLE_VALUES, state=State.HELD_IDLE, workload="interactive"),
        also=frozenset({"held_idle"}),
        harmless={
            "a service": [(Look(values=IDLE_VALUES, state=State.HELD_IDLE, workload="serving"), 4 * HOUR)],
        },
    ),
    "held_idle_long_serving": Case(
        fault=Look(values=IDLE_VALUES, state=State.HELD_IDLE, workload="serving"),
        also=frozenset({"held_idle"}),
        harmless={
            "some requests a day": [
                (Look(values=IDLE_VALUES, state=State.HELD_IDLE, workload="serving"), 6 * HOUR),
                (SOUND, MINUTE),
            ]
            * 4,
        },
    ),
    "free_long": Case(
        fault=FREE,
        harmless={"a job a day": [(FREE, 20 * HOUR), (SOUND, HOUR), (FREE, 20 * HOUR)]},
    ),
}

OWN = {
    "gpu_count_unexpected": Case(
        fault=told(missing_gpus=1.0),
        harmless={
            "as many as were seen": [(told(missing_gpus=None), HOUR)],
            "while the driver is loaded": [(told(missing_gpus=8.0), 5 * MINUTE), (SOUND, HOUR)],
        },
    ),
    "gputally_lossy": Case(
        fault=Look(grows={"blind_seconds_total": 10.0}),
        between=Look(grows={"blind_seconds_total": 0.8}),
        harmless={
            "the driver is upgraded": [(Look(grows={"blind_seconds_total": 10.0}), 2 * MINUTE), (SOUND, HOUR)]
        },
    ),
    "gputally_nvml_slow": Case(
        fault=Look(grows={"driver_seconds_total": 2.0}),
        between=Look(grows={"driver_seconds_total": 0.8}),
        harmless={
            "as usual": [(Look(grows={"driver_seconds_total": 0.05}), HOUR)],
            "a reset": [(Look(grows={"driver_seconds_total": 9.0}), MINUTE), (SOUND, HOUR)],
        },
    ),
    "gputally_probe_stuck": Case(
        fault=told(stuck_probes=1.0),
        harmless={"it came back": [(told(stuck_probes=1.0), 5 * MINUTE), (SOUND, HOUR)]},
    ),
    "gputally_journal_failing": Case(
        fault=Look(grows={"journal_failures_total": 1.0}),
        harmless={"it failed long ago": [(SOUND, HOUR)]},
    ),
    "gputally_exporter_lagging": Case(
        fault=told(exporter_waiting_seconds=3_600.0),
        between=told(exporter_waiting_seconds=300.0),
        harmless={"an upgrade of the store": [(told(exporter_waiting_seconds=590.0), HOUR)]},
    ),
    "gputally_exporter_losing": Case(
        fault=Look(grows={"exporter_lost_total": 1.0}),
        harmless={"an outage": [(told(exporter_waiting_seconds=500.0), HOUR)]},
    ),
    "gputally_holders_down": Case(
        fault=told(silent_worlds=1.0),
        harmless={"it is upgraded": [(told(silent_worlds=1.0), 10 * MINUTE), (SOUND, HOUR)]},
    ),
}

CASES: Mapping[str, Case] = {**HEALTH, **HEAT, **POWER, **LINKS, **USE, **OWN}
