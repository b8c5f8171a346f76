"""Reports and weeks before them, made of hours by state instead of journals."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.facts import GroupWeek, HourSum, Stay, Tenure, Week
from reports.outline import Report
from reports.prices import PriceBook, flat_price
from reports.report import build
from reports.sections import Group
from reports.sources.gathered import Gathered
from reports.sums import AccountSum, Amounts, Identity, SpellRow, Stretch
from reports.window import Span, Window
from tests.reports.small import MONDAY_MS

WEEK_MS = 168 * HOUR_MS
WEEK = Window(from_ms=MONDAY_MS, to_ms=MONDAY_MS + WEEK_MS, label="week 2026-W47")
H200 = Group("", "NVIDIA H200")
H100 = Group("", "NVIDIA H100 80GB HBM3")


class Did(NamedTuple):
    """What a GPU did in the window: hours by state, all with the same busy ratio and power, if any."""

    uuid: str
    hours: Mapping[State, float]
    owner: str = ""
    node: str = "n1"
    model: str = H200.model
    busy: float | None = None
    watts: float | None = None


def amounts(hours: float, busy: float | None = None, watts: float | None = None) -> Amounts:
    """Make the amounts of so many hours."""
    elapsed_ms = round(hours * HOUR_MS)
    return Amounts(
        elapsed_ms=elapsed_ms,
        busy_us=round(elapsed_ms * 1000 * (busy or 0.0)),
        busy_seen_ms=0 if busy is None else elapsed_ms,
        energy_mj=round(elapsed_ms * (watts or 0.0)),
        energy_seen_ms=0 if watts is None else elapsed_ms,
    )


def made(
    *deeds: Did,
    window: Window = WEEK,
    covered: Window | None = None,
    price: float | None = None,
    prices: PriceBook | None = None,
    pools: Mapping[str, str] | None = None,
    findings: Sequence[Finding] = (),
    spells: Sequence[SpellRow] = (),
) -> Report:
    """Build a report; the GPUs of one UUID sit in their nodes one after the other. Prices do not change."""
    part = covered or window
    rows, stretches = [], []
    upto: dict[str, int] = {}
    for did in deeds:
        start_ms = upto.get(did.uuid, part.from_ms)
        upto[did.uuid] = end_ms = start_ms + round(sum(did.hours.values()) * HOUR_MS)
        stretches.append(Stretch(did.uuid, did.node, 0, start_ms, end_ms))
        rows += [
            AccountSum(did.uuid, did.node, state, did.owner, amounts(hours, did.busy, did.watts))
            for state, hours in did.hours.items()
        ]
    gathered = Gathered(
        covered=part,
        span=Span(first_ms=part.from_ms, last_ms=part.to_ms, enrolled_ms=part.from_ms),
        rows=rows,
        stretches=stretches,
        violations=(),
        identities={did.uuid: Identity(did.model, f"S-{did.uuid}") for did in deeds},
        longest_spells={},
        spells=spells,
        findings=findings,
        staying=frozenset(upto),
        unseen=lambda _: {},
    )
    book = flat_price(price) if prices is None else prices
    return build(gathered, window, prices=book, pools=pools, now_ms=part.to_ms)


def before(
    number: int,
    groups: Mapping[Group, Mapping[State, float]],
    *,
    busy: float | None = None,
    idle: Mapping[str, float] | None = None,
    p95: float | None = None,
    cost: float | None = None,
    throttle_ms: int | None = None,
    incidents: int = 0,
) -> Week:
    """Make the week so many weeks before; hours by group and state, idle hours by owner."""
    sums: dict[State, Amounts] = dict.fromkeys(State, Amounts())
    told = {}
    for group, hours in groups.items():
        for state, length in hours.items():
            sums[state] += amounts(length, busy)
        elapsed_ms = {state: round(length * HOUR_MS) for state, length in hours.items()}
        told[group] = GroupWeek(
            owed_ms=sum(elapsed_ms.values()),
            elapsed_ms=elapsed_ms,
            busy_ms=sum(elapsed_ms.values()) * (busy or 0.0),
            held_p95=p95,
        )
    return Week(
        window=Window(from_ms=WEEK.from_ms - number * WEEK_MS, to_ms=WEEK.to_ms - number * WEEK_MS),
        gpus=1,
        groups=told,
        amounts=sums,
        idle_ms={owner: round(length * HOUR_MS) for owner, length in (idle or {}).items()},
        idle_cost=cost,
        throttle_ms=throttle_ms,
        incidents=incidents,
    )


def hour(
    number: int,
    state: State,
    gpus: float,
    *,
    group: Group = H200,
    busy: float | None = None,
    watts: float | None = None,
) -> HourSum:
    """Say what GPUs of a group did in an hour of the window."""
    return HourSum(MONDAY_MS + number * HOUR_MS, group, state, amounts(gpus, busy, watts))


def found(
    rule: str,
    uuid: str,
    opened: float,
    closed: float | None = None,
    *,
    severity: str = "critical",
    node: str = "n1",
) -> Finding:
    """Make a finding; opened and closed are hours of the window."""
    return Finding(
        rule=rule,
        severity=severity,
        node=node,
        uuid=uuid,
        opened_ms=MONDAY_MS + round(opened * HOUR_MS),
        closed_ms=None if closed is None else MONDAY_MS + round(closed * HOUR_MS),
    )


def spell(
    uuid: str,
    owner: str,
    holder: str,
    start: float,
    end: float,
    *,
    beyond: float | None = None,
    kind: str = "slurm",
) -> SpellRow:
    """Make a spell; its edges are hours of the window, and all of it was seen."""
    return SpellRow(
        uuid=uuid,
        kind=kind,
        holder=holder,
        owner=owner,
        user="",
        start_ms=MONDAY_MS + round(start * HOUR_MS),
        end_ms=MONDAY_MS + round(end * HOUR_MS),
        seen_ms=round((end - start) * HOUR_MS),
        beyond_ms=round((end - start - 0.5 if beyond is None else beyond) * HOUR_MS),
        ended=True,
    )


def tenure(
    name: str,
    hours: Mapping[State, float],
    *,
    owner: str = "alice",
    gpus: tuple[str, ...] = ("A",),
    start: float = 0,
    end: float = 100,
    activity: float | None = 0.1,
    memory: float = 1e9,
    node: str = "n1",
) -> Tenure:
    """Make what a Slurm job had; its edges are hours of the window."""
    return Tenure(
        kind="slurm",
        name=name,
        owner=owner,
        user="",
        node=node,
        start_ms=MONDAY_MS + round(start * HOUR_MS),
        end_ms=MONDAY_MS + round(end * HOUR_MS),
        gpus=gpus,
        elapsed_ms={state: round(length * HOUR_MS) for state, length in hours.items()},
        activity_mean=activity,
        activity_max=1.0,
        memory_max_bytes=memory,
    )


def stay(uuid: str, node: str, start: float, end: float | None = None, position: int = 0) -> Stay:
    """Make a stay; its edges are hours of the window."""
    to_ms = None if end is None else MONDAY_MS + round(end * HOUR_MS)
    return Stay(uuid, node, position, MONDAY_MS + round(start * HOUR_MS), to_ms)
