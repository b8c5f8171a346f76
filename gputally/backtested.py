"""What is told of a backtest, and that as JSON."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from agent.tally import HOUR_MS
from agent.tick import said
from reports.window import rfc3339
from rules.hindsight import Pace, Seat
from rules.outcome import Case, Outcome, RuleOutcome, Side

TOP = 20
"""So many owners, and holders, of a rule are named; the others are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is told: the outcome, and what was asked for. Without a price no money is told."""

    outcome: Outcome
    name: str
    source: str
    pace: Pace
    from_ms: int
    to_ms: int
    looked_back_ms: int
    left_out: int = 0
    price: float = 0.0
    only: str = ""
    with_findings: bool = False

    def wants(self, rule: str) -> bool:
        """Tell whether a rule is asked for."""
        return not self.only or rule == self.only

    def changed(self) -> list[str]:
        """Name the rules whose findings differ from the present ones'."""
        names = self.outcome.names() if self.outcome.present else []
        return [name for name in names if self.wants(name) and self.outcome.has_changed(name)]

    def findings(self) -> list[tuple[bool | None, Case]]:
        """Give each finding, oldest first; see Outcome.findings."""
        return [one for one in self.outcome.findings() if self.wants(one[1].finding.rule)]


def as_json(told: Told) -> str:
    """Give all of it for programs. Times are in ms, money in the currency of the price or null."""
    outcome = told.outcome
    data: dict[str, object] = {
        "source": told.source,
        "from": rfc3339(told.from_ms),
        "to": rfc3339(told.to_ms),
        "from_ms": told.from_ms,
        "to_ms": told.to_ms,
        "looked_back_ms": told.looked_back_ms,
        "interval_ms": told.pace.interval_ms,
        "intervals": outcome.intervals,
        "uneven_intervals": told.pace.uneven,
        "rules_left_out": told.left_out,
        "nodes": outcome.nodes,
        "gpus": outcome.gpus,
        "gpu_hours": outcome.observed_ms / HOUR_MS,
        "price_per_gpu_hour": told.price or None,
        "name": told.name,
        "is_same": outcome.is_same,
        "rules": _side(told, outcome.rules),
        "present": _side(told, outcome.present) if outcome.present else None,
        "difference": [_difference(outcome, name) for name in told.changed()],
    }
    if told.with_findings:
        data["findings"] = [_finding(told, *one) for one in told.findings()]
    return json.dumps(data, indent=2)


def _side(told: Told, side: Side) -> dict[str, object]:
    return {
        "rules": len(side.rules),
        "fired": side.fired,
        "findings": len(side.cases),
        "gpus": side.gpus,
        **_hours(told, side.covered_ms),
        "by_rule": [_rule(told, one) for one in side.rules.values() if told.wants(one.rule.name)],
    }


def _hours(told: Told, open_ms: int) -> dict[str, object]:
    gpu_hours = open_ms / HOUR_MS
    return {"gpu_hours": gpu_hours, "money": told.price * gpu_hours if told.price else None}


def _rule(told: Told, one: RuleOutcome) -> dict[str, object]:
    return {
        "rule": one.rule.name,
        "severity": one.rule.severity,
        "audience": one.rule.audience,
        "findings": one.findings,
        "times": one.times,
        "gpus": one.gpus,
        **_hours(told, one.open_ms),
        "median_ms": one.median_ms,
        "longest_ms": one.longest_ms,
        "still_open": one.still_open,
        "workloads": _by(one.whom, lambda seat: seat.workload),
        "owners": _by(one.whom, lambda seat: seat.owner),
        "holders": _by(one.whom, lambda seat: said(seat.kind, seat.name)),
    }


def _by(whom: Mapping[Seat | None, int], name_of: Callable[[Seat], str]) -> list[dict[str, object]]:
    """Give GPU-hours by a name, null for nobody who is known, the largest first."""
    amounts: Counter[str | None] = Counter()
    for seat, open_ms in whom.items():
        amounts[name_of(seat) if seat else None] += open_ms
    top = amounts.most_common(TOP)
    told: list[dict[str, object]] = [{"name": name, "gpu_hours": ms / HOUR_MS} for name, ms in top]
    rest_ms = amounts.total() - sum(ms for _, ms in top)
    return [*told, {"others": len(amounts) - TOP, "gpu_hours": rest_ms / HOUR_MS}] if rest_ms else told


def _difference(outcome: Outcome, name: str) -> dict[str, object]:
    now, present = outcome.pair(name)
    both_ms = outcome.both_ms.get(name, 0)
    return {
        "rule": name,
        "findings_only_new": now.alone,
        "findings_only_present": present.alone,
        "findings_both": now.findings - now.alone,
        "gpu_hours_only_new": (now.open_ms - both_ms) / HOUR_MS,
        "gpu_hours_only_present": (present.open_ms - both_ms) / HOUR_MS,
        "gpu_hours_both": both_ms / HOUR_MS,
    }


def _finding(told: Told, is_new: bool | None, case: Case) -> dict[str, object]:  # noqa: FBT001  a mark
    by = {True: "new", False: "present", None: "both"}[is_new]
    known = {} if told.outcome.present is None else {"by": by}
    return {**asdict(case.finding), "open_ms": case.open_ms, **_hours(told, case.open_ms), **known}
