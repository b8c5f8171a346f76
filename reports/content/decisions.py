"""What a planner should do after reading a report: at most five things, each with the hours that hang on it.

Every sentence is made from the sums of the report and nothing else; where nothing stands out there is none.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from agent.states import UNATTRIBUTED
from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.outlook import urgent, worthwhile
from reports.outline import Decision, GpuLine, OwnerLine, Report
from reports.sums import owner_of
from reports.wording import hours, percent

MOST = 5
MOST_OF_A_KIND = 2
LEAST_MS = HOUR_MS
"""Less GPU time than an hour is nobody's decision."""
IDLE_LEAST = 0.01
UNKNOWN_LEAST = 0.02
"""Below a coverage of 98 % the bounds of what is known begin to matter (planning facts, section 2.1)."""
FREE_LEAST = 0.25
DRAINED_LEAST = 0.05
BUSY_LOW = 0.25
BUSY_LEAST = 0.02
"""Owners with at least 2 % of the hours and at most 25 % busy are asked in the wild (planning facts, 1.2)."""
WEEK_MS = 168 * HOUR_MS


def decide(report: Report) -> tuple[Decision, ...]:
    """Give what stands out: wrong accounts first, then what is urgent by its sections, then by GPU time."""
    sections = report.sections
    first = [*_identity(report), *(urgent(report, sections) if sections else ())]
    found = [
        *(worthwhile(report, sections) if sections else ()),
        *_idle(report),
        *_unknown(report),
        *_down(report),
        *_free(report),
        *_drained(report),
        *_barely_busy(report),
    ]
    found.sort(key=lambda decision: (-decision.gpu_ms, decision.kind, decision.text))
    if any(one.kind == "return" for one in found):  # it says of free GPUs what to do with them
        found = [one for one in found if one.kind != "free"]
    return (*first, *found)[:MOST]


def _decision(kind: str, gpu_ms: int, cost: float | None, text: str) -> Decision:
    return Decision(kind=kind, text=text, gpu_ms=gpu_ms, cost=cost)


def _cost_of(report: Report, state: State) -> float | None:
    return next((line.cost for line in report.states if line.state is state), None)


def _stands_out(report: Report, gpu_ms: int, least_ratio: float) -> bool:
    return gpu_ms >= LEAST_MS and gpu_ms >= least_ratio * report.inventory.gpu_ms


def _amount(report: Report, gpu_ms: int) -> str:
    """Say GPU time, as a weekly rate where the report covers a week or more."""
    length_ms = report.covered.to_ms - report.covered.from_ms
    if length_ms < WEEK_MS - HOUR_MS:
        return f"{hours(gpu_ms)} GPU-hours"
    if length_ms <= WEEK_MS + HOUR_MS:
        return f"{hours(gpu_ms)} GPU-hours per week"
    return f"{hours(round(gpu_ms * WEEK_MS / length_ms))} GPU-hours per week ({hours(gpu_ms)} in all)"


def _share(report: Report, gpu_ms: int) -> str:
    whole_ms = report.inventory.gpu_ms
    return f"{percent(gpu_ms / whole_ms if whole_ms else None)} of the inventory"


def _identity(report: Report) -> Iterator[Decision]:
    if report.identity_ok:
        return
    wrong_ms = sum(abs(row.owed_ms - row.entered_ms) for row in report.violations)
    text = (
        f"do not rely on this report before it is known why the states do not sum to the time of a GPU "
        f"in {report.violation_count:,} GPU-hours of the accounts"
    )
    yield _decision("identity", wrong_ms, None, text)


def _idle(report: Report) -> Iterator[Decision]:
    lines = (line for line in report.owners if _stands_out(report, _idle_ms(line), IDLE_LEAST))
    for line in islice(lines, MOST_OF_A_KIND):
        idle_ms = _idle_ms(line)
        amount, share = _amount(report, idle_ms), _share(report, idle_ms)
        if line.owner == UNATTRIBUTED:
            text = f"find out who holds {amount} idle without a name ({share}), and reclaim them"
        else:
            text = f"reclaim {amount} held idle by {line.owner} ({share})"
        yield _decision("reclaim", idle_ms, line.idle_cost, text)


def _idle_ms(line: OwnerLine) -> int:
    return line.sums.elapsed_ms(State.HELD_IDLE)


def _unknown(report: Report) -> Iterator[Decision]:
    unknown_ms = report.sums.elapsed_ms(State.UNKNOWN)
    if report.coverage_ratio is None or 1 - report.coverage_ratio < UNKNOWN_LEAST or unknown_ms < LEAST_MS:
        return
    by_node: dict[str, int] = {}
    for line in report.gpus:
        by_node[line.node] = by_node.get(line.node, 0) + line.sums.elapsed_ms(State.UNKNOWN)
    worst = max(by_node, key=lambda node: (by_node[node], node))
    text = f"find out why {percent(unknown_ms / report.inventory.gpu_ms)} of the time is unknown"
    if len(by_node) > 1:
        text += f", most of it on node {worst}"
    yield _decision("unknown", unknown_ms, _cost_of(report, State.UNKNOWN), text)


def _down(report: Report) -> Iterator[Decision]:
    """Name one or two GPUs each; more than that are one sentence with the worst of them."""
    lines = [(line.sums.elapsed_ms(State.DOWN), line) for line in report.gpus]
    lines = [(down_ms, line) for down_ms, line in lines if down_ms >= LEAST_MS]
    lines.sort(key=lambda pair: (-pair[0], pair[1].node, pair[1].uuid))
    if len(lines) > MOST_OF_A_KIND:
        worst_ms, worst = lines[0]
        text = (
            f"repair or replace {len(lines):,} GPUs that were down, "
            f"above all {worst.uuid} on node {worst.node} ({hours(worst_ms)} h)"
        )
        down_ms = sum(ms for ms, _ in lines)
        yield _decision("down", down_ms, _cost_of_down(report, [line for _, line in lines]), text)
        return
    for down_ms, line in lines:
        text = f"{line.uuid} on node {line.node} was down {hours(down_ms)} h: see why, repair or replace it"
        yield _decision("down", down_ms, _cost_of_down(report, [line]), text)


def _cost_of_down(report: Report, lines: Iterable[GpuLine]) -> float | None:
    seats = {(line.uuid, line.node) for line in lines}
    return report.prices.of_rows(
        row for row in report.accounts if row.state is State.DOWN and (row.uuid, row.node) in seats
    )


def _free(report: Report) -> Iterator[Decision]:
    free_ms = report.sums.elapsed_ms(State.FREE)
    if _stands_out(report, free_ms, FREE_LEAST):
        gpus = free_ms / (report.covered.to_ms - report.covered.from_ms)
        text = (
            f"find work for {_amount(report, free_ms)} that nobody held ({_share(report, free_ms)}, "
            f"as if {gpus:,.1f} GPUs stood free), or buy fewer"
        )
        yield _decision("free", free_ms, _cost_of(report, State.FREE), text)


def _drained(report: Report) -> Iterator[Decision]:
    drained_ms = report.sums.elapsed_ms(State.DRAINED)
    if _stands_out(report, drained_ms, DRAINED_LEAST):
        text = f"return drained GPUs to work: {_amount(report, drained_ms)} ({_share(report, drained_ms)})"
        yield _decision("drained", drained_ms, _cost_of(report, State.DRAINED), text)


def _barely_busy(report: Report) -> Iterator[Decision]:
    """Name who worked at a low busy share in active time; the hours are those that were not busy."""
    lines = []
    for line in report.owners:
        active = line.sums.by_state[State.ACTIVE]
        busy = active.busy_ratio_mean
        if busy is not None and busy <= BUSY_LOW and _stands_out(report, active.elapsed_ms, BUSY_LEAST):
            lines.append((active.busy_seen_ms - active.busy_us // 1000, busy, line.owner))
    for slack_ms, busy, owner in sorted(lines, reverse=True)[:MOST_OF_A_KIND]:
        text = f"see why the active GPUs of {owner} were busy only {percent(busy)} of the time"
        rows = (row for row in report.accounts if row.state is State.ACTIVE and owner_of(row) == owner)
        cost = report.prices.of_rows(rows, lambda row: row.amounts.busy_seen_ms - row.amounts.busy_us / 1000)
        yield _decision("barely_busy", slack_ms, cost, text)
