"""A report of a fleet whose every name is hostile, with all of its sections."""

from dataclasses import replace

from agent.tick import State
from reports.content.assemble import sections
from reports.facts import Facts, GpuFacts
from reports.outline import Report
from reports.prices import ALWAYS_MS, Carbon, Price, PriceBook
from reports.sections import Group
from reports.sums import Identity
from tests.reports.made import Did, before, found, hour, made, spell, stay, tenure

HELD = {State.ACTIVE: 100.0, State.HELD_IDLE: 58.0, State.UNKNOWN: 10.0}


def hostile(evil: str) -> Report:
    """Name everything so: GPU, node, pool, model, owner, holder, serial, source of carbon, what is absent."""
    uuid, node, owner = f"A{evil}", f"n{evil}", f"al{evil}"
    group = Group(f"pool{evil}", f"NVIDIA H200{evil}")
    carbon = Carbon(grams_per_kwh=400.0, source=evil, from_ms=ALWAYS_MS)
    book = PriceBook(prices=(Price(per_gpu_hour=2.0),), pue_ratio=1.3, carbon=(carbon,))
    report = made(
        Did(uuid, HELD, owner=owner, node=node, model=group.model, busy=0.1, watts=300.0),
        prices=book,
        pools={node: group.pool},
        findings=[found("row_remap_failed", uuid, 1, node=node)],
        spells=[spell(uuid, owner, evil, 0, 58)],
    )
    facts = Facts(
        hours=(
            *(
                hour(number, State.ACTIVE, 1.0 + number, group=group, busy=0.1, watts=9e5)
                for number in range(168)
            ),
            hour(3, State.FREE, 1.0, group=group),
        ),
        gpus={(uuid, node): GpuFacts(throttle_ms={"sw_thermal": 10**7}, xids={79: 1}, heat_lost_ms=5)},
        stays=(stay(uuid, evil, -90, -10), stay(uuid, node, 0)),
        tenures=(
            tenure(evil, HELD, owner=owner, gpus=(uuid,), end=168, activity=0.05, memory=1e9, node=node),
        ),
        pools={node: group.pool},
        memory_bytes={group.model: 1.5e11},
        weeks=tuple(
            before(number, {group: {State.ACTIVE: 168.0}}, p95=100.0 - number) for number in range(1, 8)
        ),
        identities={uuid: Identity(group.model, evil), "B": Identity(group.model, evil)},
    )
    told = replace(sections(report, facts), absent={"queue": evil})
    return replace(report, sections=told, unread=(evil,), remarks=(evil,))
