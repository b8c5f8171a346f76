"""GPUs that stand in for one another, and where the hours of each such group went."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from agent.tick import State
from reports.facts import Facts
from reports.money import cost_of
from reports.outline import GpuLine, Report
from reports.sections import Group, GroupLine
from reports.sums import Amounts, owner_of


def group_of(facts: Facts, line: GpuLine) -> Group:
    """Tell the group of a GPU: the pool of its node, and its model."""
    return Group(facts.pools.get(line.node, ""), line.model)


def groups(report: Report, facts: Facts) -> tuple[GroupLine, ...]:
    """Account for the window by group, the one with most GPU time first."""
    members: defaultdict[Group, list[GpuLine]] = defaultdict(list)
    for line in report.gpus:
        members[group_of(facts, line)].append(line)
    lines = [_line(report, group, gpus) for group, gpus in members.items()]
    return tuple(sorted(lines, key=lambda line: (-line.inventory_ms, line.group)))


def _line(report: Report, group: Group, gpus: list[GpuLine]) -> GroupLine:
    inventory_ms = sum(line.inventory_ms for line in gpus)
    whole = sum((line.sums.total for line in gpus), Amounts())
    return GroupLine(
        group=group,
        gpus=len({line.uuid for line in gpus if line.inventory_ms}),
        inventory_ms=inventory_ms,
        elapsed_ms={state: sum(line.sums.elapsed_ms(state) for line in gpus) for state in State},
        busy_ratio_mean=whole.busy_ratio_mean,
        cost=cost_of(report, inventory_ms, group),
    )


def idle_of_owners(report: Report, facts: Facts) -> dict[str, Mapping[Group, int]]:
    """Tell how long each owner held GPUs of each group idle, in ms."""
    seats = {(line.uuid, line.node): group_of(facts, line) for line in report.gpus}
    found: defaultdict[str, Counter[Group]] = defaultdict(Counter)
    for row in report.accounts:
        owner = owner_of(row)
        if owner is not None and row.state is State.HELD_IDLE:
            found[owner][seats[row.uuid, row.node]] += row.amounts.elapsed_ms
    return dict(found)
