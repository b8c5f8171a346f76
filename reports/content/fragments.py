"""How free GPUs lay: free GPUs on many nodes, a few on each, are of no use to a job that wants a whole node.

Only GPUs that were free throughout an hour count, of hours that lie wholly in the accounted time: a job could
have begun with the hour. Sizes are those that schedulers are asked for, up to a whole node.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.capacity import percentile, whole_hour
from reports.facts import Facts
from reports.outline import Report
from reports.sections import Fit, FragmentLine, Group

SIZES = (1, 2, 4, 8)


def fragments(report: Report, facts: Facts) -> tuple[FragmentLine, ...]:
    """Give a line for each group of which GPUs were free, by pool and model; none without a whole hour."""
    window = report.covered
    hours: defaultdict[Group, dict[int, Counter[int]]] = defaultdict(dict)
    free_ms: Counter[Group] = Counter()
    for row in facts.hours:
        if row.amounts.elapsed_ms and whole_hour(row.hour_ms, window):
            hours[row.group].setdefault(row.hour_ms, Counter())
            if row.state is State.FREE:
                free_ms[row.group] += row.amounts.elapsed_ms
    for one in facts.free:
        if one.hour_ms in hours.get(one.group, {}):
            hours[one.group][one.hour_ms][one.gpus] += one.nodes
    sizes = _node_gpus(report, facts.pools)
    return tuple(
        _line(group, sizes.get(group, 1), hours[group], free_ms[group])
        for group in sorted(hours)
        if free_ms[group]
    )


def _node_gpus(report: Report, pools: Mapping[str, str]) -> dict[Group, int]:
    """Tell how many GPUs of a group the largest node has; one that was replaced counts once."""
    times: Counter[tuple[Group, str]] = Counter()
    for gpu in report.gpus:
        times[Group(pools.get(gpu.node, ""), gpu.model), gpu.node] += gpu.inventory_ms
    found: dict[Group, int] = {}
    length_ms = report.covered.to_ms - report.covered.from_ms
    for (group, _), owed_ms in times.items():
        found[group] = max(found.get(group, 1), round(owed_ms / length_ms))
    return found


def _line(group: Group, node_gpus: int, hours: Mapping[int, Counter[int]], free_ms: int) -> FragmentLine:
    largest = [max(nodes, default=0) for nodes in hours.values()]
    whole = sum(gpus * nodes for hour in hours.values() for gpus, nodes in hour.items())
    sizes = sorted({size for size in SIZES if size < node_gpus} | {node_gpus})
    return FragmentLine(
        group=group,
        node_gpus=node_gpus,
        free_mean=whole / len(hours),
        pieces_ms=max(0, free_ms - whole * HOUR_MS),
        largest_p50=percentile(largest, 500),
        largest_p5=percentile(largest, 50),
        fits=tuple(_fit(size, hours) for size in sizes),
    )


def _fit(size: int, hours: Mapping[int, Counter[int]]) -> Fit:
    jobs = [sum(gpus // size * nodes for gpus, nodes in hour.items()) for hour in hours.values()]
    stranded = sum(gpus % size * nodes for hour in hours.values() for gpus, nodes in hour.items())
    return Fit(
        gpus=size,
        jobs_mean=sum(jobs) / len(hours),
        hours_ratio=sum(1 for count in jobs if count) / len(hours),
        stranded_ms=stranded * HOUR_MS,
    )
