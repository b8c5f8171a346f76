"""A view made by hand: one GPU that tells all, one that tells little, one that is lost."""

from collections.abc import Mapping
from dataclasses import replace

from agent.accounts import Account, Key
from agent.pieces import PARTS, SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.tick import (
    Condition,
    Finding,
    Gpu,
    Holder,
    Part,
    Process,
    Reading,
    State,
    Tick,
    reading_of,
    slice_of,
)
from agent.view import Health, Standing, View
from agent.xids import XidCount

NODE = "hall2-n017"
START_MS = 1_767_657_590_000
END_MS = 1_767_657_600_000
"""Tuesday 6 January 2026, 00:00 UTC."""
MIB, GIB = 2**20, 2**30

FULL = Gpu(
    uuid="GPU-5c1b0e4a-7d11-4c5e-9a55-0f6a2b7c0001",
    index=0,
    model="NVIDIA H200",
    serial="1651324000017",
    board_part="699-2G530-0200-000",
    vbios="96.00.74.00.1A",
    driver="570.86.15",
    cuda="12.8",
    pci_bus="00000000:19:00.0",
    inforom="G520.0280.00.04",
    architecture="Hopper",
    minor="0",
    module="3",
    chassis="1822923000011",
    slot="4",
    tray="1",
)
SPARSE = Gpu(
    uuid="GPU-5c1b0e4a-7d11-4c5e-9a55-0f6a2b7c0002",
    index=1,
    model="NVIDIA GeForce RTX 3060",
    driver="570.86.15",
)
LOST = replace(
    FULL,
    uuid="GPU-5c1b0e4a-7d11-4c5e-9a55-0f6a2b7c0003",
    index=2,
    serial="1651324000019",
    pci_bus="00000000:4C:00.0",
)
GPUS = {gpu.uuid: gpu for gpu in (FULL, SPARSE, LOST)}

ALICE = Holder(kind="process", name="python train.py", owner="alice", user="alice")
BOB = Holder(kind="process", name="python -m ipykernel_launcher", owner="bob", user="bob")

VALUES = {
    "busy_ratio": 0.875,
    "memory_busy_ratio": 0.35,
    "sm_active_ratio": 0.71,
    "encoder_ratio": 0.0,
    "decoder_ratio": 0.02,
    "jpeg_ratio": 0.0,
    "ofa_ratio": 0.0,
    "memory_used_bytes": 121_500.5 * MIB,
    "memory_used_max_bytes": 122_000.0 * MIB,
    "memory_reserved_bytes": 628.0 * MIB,
    "memory_total_bytes": 143_771.0 * MIB,
    "power_watts": 612.25,
    "power_limit_watts": 700.0,
    "energy_joules_total": 9_123_456.789,
    "temperature_celsius": 61.5,
    "temperature_max_celsius": 63.0,
    "temperature_slowdown_celsius": 87.0,
    "temperature_shutdown_celsius": 92.0,
    "memory_temperature_celsius": 70.0,
    "memory_temperature_max_celsius": 72.0,
    "sm_clock_hertz": 1.755e9,
    "sm_clock_max_hertz": 1.98e9,
    "memory_clock_hertz": 3.201e9,
    "throttle_power_cap_seconds_total": 4211.5,
    "throttle_sync_boost_seconds_total": 0.0,
    "throttle_sw_thermal_seconds_total": 12.25,
    "throttle_hw_thermal_seconds_total": 0.5,
    "throttle_power_brake_seconds_total": 0.0,
    "throttle_reliability_seconds_total": 3.0,
}
"""What an H200 at work tells of ten seconds."""

VALUES |= {
    name: round(0.25 + number / 1000, 3) if name.endswith("_ratio") else float(number)
    for number, name in enumerate(QUANTITIES)
    if name not in VALUES
}
"""And all the rest, each with a number of its own."""

SLICES = tuple(
    slice_of(
        f"MIG-5c1b0e4a-7d11-4c5e-9a55-0f6a2b7c010{place}",
        profile,
        weight,
        dict.fromkeys(SLICE_QUANTITIES, 0.5 + place / 10),
    )
    for place, (profile, weight) in enumerate((("3g.71gb", 3 / 7), ("1g.18gb", 1 / 7)))
)
PARTS_OF_FULL = tuple(
    Part(name, tuple(f"{label}{number}" for label in part.labels), float(number))
    for name, part in PARTS.items()
    for number in (0, 1)
)
XIDS = {
    (FULL.uuid, 31): XidCount(
        count=3, first_ms=START_MS - 90_000, last_ms=START_MS - 30_000, count_this_boot=2, boot_id="b"
    ),
    (FULL.uuid, 79): XidCount(
        count=1, first_ms=START_MS + 4_000, last_ms=START_MS + 4_000, count_this_boot=1, boot_id="b"
    ),
}
FINDING = Finding(
    rule="persistence_mode_off", severity="warning", node=NODE, uuid=FULL.uuid, opened_ms=START_MS
)
OWN_FINDING = replace(FINDING, rule="gputally_lossy", uuid="")

LITTLE = {"busy_ratio": 0.0, "memory_used_bytes": 0.0, "temperature_celsius": 31.0}
"""What a consumer card tells that nobody uses."""

ACCOUNTS: Mapping[tuple[str, State, str], Account] = {
    (FULL.uuid, State.FREE, ""): Account(elapsed_ms=3_600_000, energy_mj=270_000_000),
    (FULL.uuid, State.ACTIVE, "alice"): Account(
        elapsed_ms=7_205_250, busy_us=6_304_593_750, energy_mj=4_411_414_313
    ),
    (FULL.uuid, State.HELD_GAP, "alice"): Account(
        elapsed_ms=600_000, busy_us=1_500_000, energy_mj=72_000_000
    ),
    (FULL.uuid, State.ACTIVE, "bob"): Account(elapsed_ms=5_000, busy_us=4_375_000, energy_mj=3_061_250),
    (SPARSE.uuid, State.FREE, ""): Account(elapsed_ms=11_410_250),
    (LOST.uuid, State.DOWN, ""): Account(elapsed_ms=10_000),
}


def _readings() -> tuple[Reading, ...]:
    at_work = (
        Process(pid=20_011, memory_used_bytes=90 * GIB),
        Process(pid=20_028, memory_used_bytes=28 * GIB),
    )
    return (
        reading_of(
            FULL.uuid, START_MS, END_MS, VALUES, processes=at_work, parts=PARTS_OF_FULL, slices=SLICES
        ),
        reading_of(SPARSE.uuid, START_MS, END_MS, LITTLE),
        reading_of(LOST.uuid, START_MS, END_MS, {}, condition=Condition.LOST),
    )


def view() -> View:
    """Make the view that the golden pages show."""
    readings = _readings()
    return View(
        tick=Tick(node=NODE, start_ms=START_MS, end_ms=END_MS, readings=readings, gpus=tuple(GPUS.values())),
        interval_seconds=10.0,
        gpus=GPUS,
        readings={reading.uuid: reading for reading in readings},
        states={FULL.uuid: State.ACTIVE, SPARSE.uuid: State.FREE, LOST.uuid: State.DOWN},
        holders={FULL.uuid: ((ALICE, ""), (BOB, "MIG-0a9f"))},
        accounts=[(Key(uuid, NODE, state, owner), total) for (uuid, state, owner), total in ACCOUNTS.items()],
        parts={FULL.uuid: PARTS_OF_FULL},
        xids=XIDS,
        slice_states={SLICES[0].uuid: State.ACTIVE},
        findings=(FINDING, OWN_FINDING),
        expected_gpus=3,
        report_ms=START_MS - 3_600_000,
        events={(LOST.uuid, "gpu_condition"): 3, ("", "probe_absent"): 1},
        exporters=(
            Standing(name="fleet", waiting_ticks=2, delivered_ticks=8640, refused_rows=1, dropped_ticks=3),
            Standing(name="mimir", waiting_ticks=360, failure="HTTP 503"),
        ),
        health=Health(
            ticks=1141,
            blind_ticks=2,
            late_seconds=0.012,
            driver_calls=250_123,
            driver_seconds=31.5,
            tick_cpu_seconds=0.004,
            probe_restarts=1,
            refused={("power_watts", "unsupported"): 7, ("busy_ratio", "failed"): 1},
            journal_bytes=2_134_016,
            journal_ticks_dropped=0,
            journal_pending=0,
            journal_failures=0,
            worlds={"slurm": "", "kubernetes": "the kubelet does not answer"},
            holders_dropped=3,
            owners_folded=1,
        ),
    )


def renamed(name: str) -> View:
    """Make the view of a node where everything that has a name is called so."""
    seen = view()
    holder = Holder(
        kind=name,
        name=name,
        owner=name,
        user=name,
        account=name,
        partition=name,
        qos=name,
        namespace=name,
        container=name,
        title=name,
        cost_centre=name,
    )
    return replace(
        seen,
        tick=replace(seen.tick, node=name),
        gpus={uuid: replace(gpu, model=name) for uuid, gpu in GPUS.items()},
        holders={FULL.uuid: ((holder, name),)},
        accounts=[(Key(FULL.uuid, name, State.ACTIVE, name), Account(elapsed_ms=1_000))],
        health=replace(seen.health, absent=name),
    )
