"""Weeks before that of a report: which time they are, and what is kept of each."""

from agent.tick import State
from reports.content.capacity import capacity
from reports.content.groups import group_of, groups
from reports.content.heat import thermal_ms
from reports.content.reliability import incidents_of
from reports.facts import Facts, GroupWeek, Week
from reports.outline import Report
from reports.sections import Group

WEEKS_BEFORE = 12
"""So many are looked back on; a trend wants six, a mean four."""


def week_of(report: Report, facts: Facts) -> Week:
    """Sum up a report of an earlier window; `facts` are of that window."""
    busy_us: dict[Group, int] = {}
    for line in report.gpus:
        group = group_of(facts, line)
        busy_us[group] = busy_us.get(group, 0) + line.sums.total.busy_us
    held = {line.group: line.held_p95 for line in capacity(report, facts)}
    idle = next(line for line in report.states if line.state is State.HELD_IDLE)
    began = [one for one in incidents_of(report.findings) if one.began_in(report.window)]
    return Week(
        window=report.window,
        gpus=report.inventory.gpus,
        groups={
            line.group: GroupWeek(
                owed_ms=line.inventory_ms,
                elapsed_ms=line.elapsed_ms,
                busy_ms=busy_us.get(line.group, 0) / 1000,
                held_p95=held.get(line.group),
            )
            for line in groups(report, facts)
        },
        amounts=report.sums.by_state,
        idle_ms={
            line.owner: idle_ms
            for line in report.owners
            if (idle_ms := line.sums.elapsed_ms(State.HELD_IDLE))
        },
        idle_cost=idle.cost,
        throttle_ms=thermal_ms(facts),
        incidents=None if "findings" in facts.missing else len(began),
    )
