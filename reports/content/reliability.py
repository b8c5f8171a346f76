"""How often GPUs failed, for how long, and which of them should go back to who sold them.

An incident is a stretch in which at least one finding says that a GPU failed: what a failure makes several
rules find is one incident, and so is what comes again within ten minutes. Mean time between failures is the
time that GPUs were seen and up over the incidents that began in the window; mean time to repair is the mean
length of those that ended in it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.facts import Facts
from reports.outline import GpuLine, Report
from reports.sections import Reliability, SickLine
from reports.window import Window

REPLACE = frozenset({"row_remap_failed", "sram_threshold_exceeded"})
"""Rules that say what the maker replaces a board for."""
FAILURES = REPLACE | {
    "gpu_hung",
    "gpu_missing",
    "gpu_down",
    "recovery_drain_and_reset_asked",
    "recovery_reset_asked",
    "xid_critical",
    "ecc_uncorrected",
}
"""Rules that say that a GPU failed."""
TOGETHER_MS = 600_000
_NOT_UP = (State.DOWN, State.DRAINED, State.UNKNOWN)


class Incident(NamedTuple):
    """A failure of one GPU; `closed_ms` is None while it goes on."""

    uuid: str
    node: str
    opened_ms: int
    closed_ms: int | None
    rules: tuple[str, ...]

    def began_in(self, window: Window) -> bool:
        """Tell whether it began in a window."""
        return window.from_ms <= self.opened_ms < window.to_ms

    def ended_in(self, window: Window) -> bool:
        """Tell whether it ended in a window."""
        return self.closed_ms is not None and window.from_ms < self.closed_ms <= window.to_ms


def incidents_of(findings: Iterable[Finding]) -> tuple[Incident, ...]:
    """Put findings of failures together to incidents, oldest first; those about nodes are left out."""
    by_gpu: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.rule in FAILURES and finding.uuid:
            by_gpu[finding.uuid].append(finding)
    found = [incident for told in by_gpu.values() for incident in _put_together(told)]
    return tuple(sorted(found, key=lambda one: (one.opened_ms, one.uuid)))


def _put_together(findings: Iterable[Finding]) -> list[Incident]:
    found: list[Incident] = []
    for one in sorted(findings, key=lambda finding: (finding.opened_ms, finding.rule)):
        last = found[-1] if found else None
        if last and (last.closed_ms is None or one.opened_ms <= last.closed_ms + TOGETHER_MS):
            open_still = last.closed_ms is None or one.closed_ms is None
            closed_ms = None if open_still else max(last.closed_ms or 0, one.closed_ms or 0)
            rules = last.rules if one.rule in last.rules else (*last.rules, one.rule)
            found[-1] = last._replace(node=one.node, closed_ms=closed_ms, rules=rules)
        else:
            found.append(Incident(one.uuid, one.node, one.opened_ms, one.closed_ms, (one.rule,)))
    return found


def reliability(report: Report, facts: Facts) -> Reliability:
    """Sum up the failures of a window; the GPUs that failed, those to be replaced first."""
    window = report.covered
    incidents = incidents_of(report.findings)
    began = sum(one.began_in(window) for one in incidents)
    repairs = [
        one.closed_ms - one.opened_ms
        for one in incidents
        if one.closed_ms is not None and one.ended_in(window)
    ]
    up_ms = report.inventory.gpu_ms - report.sums.elapsed_ms(*_NOT_UP)
    xids = _xids(facts)
    return Reliability(
        incidents=began,
        down_ms=report.sums.elapsed_ms(State.DOWN),
        between_failures_hours=up_ms / HOUR_MS / began if began else None,
        to_repair_hours=sum(repairs) / HOUR_MS / len(repairs) if repairs else None,
        xids=_in_order(sum(xids.values(), Counter())),
        lines=_lines(report, incidents, xids),
    )


def _xids(facts: Facts) -> dict[str, Counter[int]]:
    """Count XIDs by GPU, in whatever node."""
    found: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for (uuid, _), told in facts.gpus.items():
        found[uuid].update(told.xids)
    return found


def _in_order(xids: Mapping[int, int]) -> dict[int, int]:
    return {number: xids[number] for number in sorted(xids) if xids[number]}


def _lines(
    report: Report, incidents: Iterable[Incident], xids: Mapping[str, Counter[int]]
) -> tuple[SickLine, ...]:
    sick: defaultdict[str, list[Incident]] = defaultdict(list)
    for one in incidents:
        sick[one.uuid].append(one)
    seats: defaultdict[str, list[GpuLine]] = defaultdict(list)
    for line in report.gpus:
        seats[line.uuid].append(line)
    lines = [
        _line(report.covered, sick[uuid], seats[uuid], xids.get(uuid, Counter())) for uuid in sorted(sick)
    ]
    return tuple(
        sorted(lines, key=lambda line: (not line.replace, -line.down_ms, -line.incidents, line.uuid))
    )


def _line(window: Window, sick: list[Incident], seats: list[GpuLine], xids: Counter[int]) -> SickLine:
    rules = tuple(dict.fromkeys(rule for one in sick for rule in one.rules))
    return SickLine(
        uuid=sick[-1].uuid,
        serial=seats[0].serial if seats else "",
        node=sick[-1].node,
        model=seats[0].model if seats else "",
        down_ms=sum(line.sums.elapsed_ms(State.DOWN) for line in seats),
        incidents=sum(one.began_in(window) for one in sick),
        rules=rules,
        xids=_in_order(xids),
        replace=not REPLACE.isdisjoint(rules),
    )
