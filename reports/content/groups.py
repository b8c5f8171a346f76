"""GPUs that stand in for one another, and where the hours of each such group went."""

from collections import defaultdict

from agent.tick import State
from reports.facts import Facts
from reports.outline import GpuLine, Report
from reports.sections import Group, GroupLine
from reports.sums import Amounts


def group_of(facts: Facts, line: GpuLine) -> Group:
    """Tell the group of a GPU: the pool of its node, and its model."""
    return Group(facts.pools.get(line.node, ""), line.model)


def groups(report: Report, facts: Facts) -> tuple[GroupLine, ...]:
    """Account for the window by group, the one with most GPU time first."""
    members: defaultdict[Group, list[GpuLine]] = defaultdict(list)
    for line in report.gpus:
        members[group_of(facts, line)].append(line)
    lines = [_line(group, gpus) for group, gpus in members.items()]
    return tuple(sorted(lines, key=lambda line: (-line.inventory_ms, line.group)))


def _line(group: Group, gpus: list[GpuLine]) -> GroupLine:
    costs = [line.cost for line in gpus if line.cost is not None]
    inventory_ms = sum(line.inventory_ms for line in gpus)
    whole = sum((line.sums.total for line in gpus), Amounts())
    return GroupLine(
        group=group,
        gpus=len({line.uuid for line in gpus if line.inventory_ms}),
        inventory_ms=inventory_ms,
        elapsed_ms={state: sum(line.sums.elapsed_ms(state) for line in gpus) for state in State},
        busy_ratio_mean=whole.busy_ratio_mean,
        cost=sum(costs) if costs else None,
    )
