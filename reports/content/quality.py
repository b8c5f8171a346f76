"""What to distrust in a report: the nodes that were seen worst, and sentences about the rest."""

from collections import defaultdict
from collections.abc import Iterator

from agent.tick import State
from reports.compared import label
from reports.content.past import COMPARABLE, coverage, follows, nearly_whole, well_covered
from reports.facts import Facts, Week
from reports.outline import GpuLine, Report
from reports.sections import NodeQuality, Quality
from reports.sums import HELD_BY_SOMEONE, ratio
from reports.window import rfc3339
from reports.wording import hours, percent

MOST_NODES = 10
FULL = 0.98
"""Below this coverage the bounds of what is known begin to matter (planning facts, section 2.1)."""


def quality(report: Report, facts: Facts) -> Quality:
    """Name the nodes with most unknown time, at most ten, and what else to know of the data."""
    return Quality(nodes=_nodes(report)[:MOST_NODES], remarks=tuple(_remarks(report, facts)))


def _nodes(report: Report) -> tuple[NodeQuality, ...]:
    by_node: defaultdict[str, list[GpuLine]] = defaultdict(list)
    for line in report.gpus:
        by_node[line.node].append(line)
    found = []
    for node, gpus in by_node.items():
        owed_ms = sum(line.inventory_ms for line in gpus)
        elapsed_ms = {state: sum(line.sums.elapsed_ms(state) for line in gpus) for state in State}
        if elapsed_ms[State.UNKNOWN]:
            found.append(
                NodeQuality(
                    node=node,
                    inventory_ms=owed_ms,
                    unknown_ms=elapsed_ms[State.UNKNOWN],
                    coverage_ratio=coverage(elapsed_ms, owed_ms),
                )
            )
    return tuple(sorted(found, key=lambda one: (-one.unknown_ms, one.node)))


def _remarks(report: Report, facts: Facts) -> Iterator[str]:
    if not report.identity_ok:
        yield f"in {report.violation_count:,} GPU-hours the states do not sum to the time of the GPU"
    if report.unread:
        yield f"{len(report.unread):,} journals could not be read; their GPUs are in no sum"
    yield from _seen(report)
    yield from _energy(report)
    yield from _past(report, facts)
    yield from _serials(facts)
    if not report.prices.note:
        yield "no price is set, so nothing here has a cost"
    elif report.prices.is_default or any(rate.per_gpu_hour is None for rate in report.prices.rates):
        yield report.prices.note


def _seen(report: Report) -> Iterator[str]:
    seen = report.coverage_ratio
    if seen is not None and seen < FULL:
        low, high = report.effective_ratio
        yield (
            f"coverage is {percent(seen)}: what was not seen may have been busy or not, "
            f"so effective use lies between {percent(low)} and {percent(high)}"
        )
        yield "demand that was not seen is missing from capacity and forecast"
    if not nearly_whole(report):
        covered_ms = report.covered.to_ms - report.covered.from_ms
        whole_ms = report.window.to_ms - report.window.from_ms
        yield (
            f"only {hours(covered_ms)} h of {hours(whole_ms)} h of the window are accounted for, "
            "so it is not compared with other weeks"
        )
    elif not well_covered(seen):
        yield f"below a coverage of {percent(COMPARABLE)} weeks are not compared"
    held = [report.sums.by_state[state] for state in HELD_BY_SOMEONE]
    held_ms = sum(amounts.elapsed_ms for amounts in held)
    busy_seen = ratio(sum(amounts.busy_seen_ms for amounts in held), held_ms)
    if busy_seen is not None and busy_seen < FULL:
        yield f"how busy GPUs were is known for {percent(busy_seen)} of the time in which they were held"


def _energy(report: Report) -> Iterator[str]:
    seen = report.energy_seen_ratio
    if seen is None or seen < FULL:
        yield f"energy was seen for {percent(seen)} of the time; the rest is missing, not 0"


def _past(report: Report, facts: Facts) -> Iterator[str]:
    later = report.window
    for week in facts.weeks:
        if not follows(later, week.window):
            lack = f"{rfc3339(week.window.to_ms)} to {rfc3339(later.from_ms)}"
            yield f"weeks are missing from {lack}: they are in no mean and no trend"
        later = week.window
    poor = sum(map(_poor, facts.weeks))
    if poor:
        yield (
            f"{poor:,} of the {len(facts.weeks):,} weeks before were covered too badly to be compared; "
            "they are left out of means, noise and trends"
        )
    if facts.compared is not None and _poor(facts.compared):
        yield f"{label(facts.compared.window)} was covered too badly to be compared with"


def _poor(week: Week) -> bool:
    owed_ms = sum(group.owed_ms for group in week.groups.values())
    elapsed_ms = {state: amounts.elapsed_ms for state, amounts in week.amounts.items()}
    return not well_covered(coverage(elapsed_ms, owed_ms))


def _serials(facts: Facts) -> Iterator[str]:
    """Remark on boards that come under several UUIDs."""
    uuids: defaultdict[str, set[str]] = defaultdict(set)
    for uuid, identity in facts.identities.items():
        if identity.serial:
            uuids[identity.serial].add(uuid)
    for serial, several in sorted(uuids.items()):
        if len(several) > 1:
            yield f"serial {serial} comes under {len(several)} UUIDs, each with accounts of its own"
