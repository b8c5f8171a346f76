"""What a backtest found: single findings, sums by rule, and how two sets of rules differ."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

from agent.tick import Finding
from rules.definition import Rule
from rules.hindsight import Seat


@dataclass(slots=True)
class Case:
    """A finding, how long it was open in the time that was asked for, and whether both sets have it.

    Both have it when it was open by both at some moment, by the same rule on the same GPU.
    """

    finding: Finding
    open_ms: int = 0
    is_in_both: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """What one rule found. `whom` is how long it was open on those who held GPUs; None stands for unknown.

    `times` counts each opening of findings that flapped.
    """

    rule: Rule
    findings: int
    times: int
    gpus: int
    open_ms: int
    median_ms: int
    longest_ms: int
    still_open: int
    alone: int
    whom: Mapping[Seat | None, int]

    @classmethod
    def of(cls, rule: Rule, cases: Sequence[Case], whom: Counter[Seat | None]) -> Self:
        """Sum up the findings of a rule."""
        lengths = [case.open_ms for case in cases]
        return cls(
            rule=rule,
            findings=len(cases),
            times=sum(case.finding.times for case in cases),
            gpus=len({case.finding.uuid for case in cases}),
            open_ms=sum(lengths),
            median_ms=round(median(lengths)) if lengths else 0,
            longest_ms=max(lengths, default=0),
            still_open=sum(case.finding.closed_ms is None for case in cases),
            alone=sum(not case.is_in_both for case in cases),
            whom={seat: spent_ms for seat, spent_ms in whom.most_common() if spent_ms},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What a set of rules found. `covered_ms` is the GPU time in which any was open, counted once."""

    rules: Mapping[str, RuleOutcome]
    cases: tuple[Case, ...]
    covered_ms: int

    @property
    def fired(self) -> int:
        """How many rules found something."""
        return sum(bool(one.findings) for one in self.rules.values())

    @property
    def gpus(self) -> int:
        """On how many GPUs."""
        return len({case.finding.uuid for case in self.cases})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What rules found, and the present rules, where they are others.

    `both_ms` is, by rule, the GPU time in which its findings were open by both; `observed_ms` all GPU time.
    """

    intervals: int
    nodes: int
    gpus: int
    observed_ms: int
    rules: Side
    present: Side | None
    both_ms: Mapping[str, int]
    is_same: bool

    def names(self) -> list[str]:
        """Name all rules that judged, those of the new set first."""
        return list(dict.fromkeys((*self.rules.rules, *(self.present.rules if self.present else ()))))

    def pair(self, name: str) -> tuple[RuleOutcome, RuleOutcome]:
        """Give what a rule found, and what it finds at present: nothing where it does not judge."""
        before = self.present.rules.get(name) if self.present else None
        now = self.rules.rules.get(name)
        rule = (now or before or next(iter(self.rules.rules.values()))).rule
        nothing = RuleOutcome.of(rule, (), Counter())
        return now or nothing, before or nothing

    def has_changed(self, name: str) -> bool:
        """Tell whether a rule found something else, or for another time, than it does at present."""
        now, before = self.pair(name)
        lengths = {now.open_ms, before.open_ms, self.both_ms.get(name, 0)}
        return bool(now.alone or before.alone or len(lengths) > 1 or now.times != before.times)

    def findings(self) -> list[tuple[bool | None, Case]]:
        """Give each finding, oldest first: True where it is new, False where only the present rules have it.

        None stands for both, or for findings that are compared with nothing. Of one that both have, the new
        rules' is given.
        """
        compares = self.present is not None
        found: list[tuple[bool | None, Case]] = [
            (True if compares and not case.is_in_both else None, case) for case in self.rules.cases
        ]
        found += [
            (False, case) for case in (self.present.cases if self.present else ()) if not case.is_in_both
        ]
        return sorted(found, key=_age)


def _age(one: tuple[bool | None, Case]) -> tuple[int, str, str]:
    finding = one[1].finding
    return finding.opened_ms, finding.rule, finding.uuid
