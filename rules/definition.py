"""What a rule is: conditions that must hold for a while on a GPU, whom that concerns, and what to do then.

A condition compares one quantity, tick by tick, with a number, with another quantity of the same GPU, or with
the median of its peers (GPUs of the same model on the node, or of these the ones of the same job); or it
compares how much a counter grew over a while. A rule opens when each of its conditions holds, held at every
tick of `for_seconds` that is known, and enough of these ticks are. It closes when one of them does not hold
and never did in `clear_seconds`, as far as is known, with `until` in place of the limit. What is not known
neither opens nor closes anything.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from agent.quantities import QUANTITIES
from agent.scene import NODE_FIGURES
from agent.tick import FAULTS as GPU_FAULTS
from agent.tick import State, Workload

Audience = Literal["sre", "planner", "owner"]
Subject = Literal["gpu", "node"]
"""What a rule is about: each GPU, or the node and the agent itself."""
AUDIENCES: tuple[Audience, ...] = ("sre", "planner", "owner")
SEVERITIES = ("critical", "warning", "info")
"""Gravest first."""
LONGEST_SECONDS = 7 * 86_400.0
LONGEST_NAME = 64
PEERS, JOB = "peers", "job"
"""Instead of a quantity's name: the median of the peers, or of those of them that the same holder has."""
STATE, UP, XIDS = "state", "up", "xid_errors_total"
FAULTS = tuple(one.value for one in GPU_FAULTS)
"""Why a GPU does not answer: 1 where that is so, else 0."""
SUBJECTS: tuple[Subject, ...] = ("gpu", "node")
KNOWN = (*QUANTITIES, STATE, UP, XIDS, *FAULTS)
"""What a condition may be about: a quantity, the state, whether the GPU answers, why not, how many XIDs."""
_STATES = tuple(state for state in State if state is not State.UNKNOWN)
_GAUGES = tuple(name for name, metric in QUANTITIES.items() if metric.kind == "gauge")
_LARGEST_XID = 9_999


class Comparison(StrEnum):
    """How a value is compared with the limit."""

    AT_MOST = "at_most"
    AT_LEAST = "at_least"
    BELOW = "below"
    ABOVE = "above"


_COMPARE: Mapping[Comparison, Callable[[float, float], bool]] = {
    Comparison.AT_MOST: operator.le,
    Comparison.AT_LEAST: operator.ge,
    Comparison.BELOW: operator.lt,
    Comparison.ABOVE: operator.gt,
}


class RuleError(ValueError):
    """A rule that cannot be meant; `key` says where, below the rule."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison. The limit is `number`, or `times` another quantity `of` the GPU or its peers, `plus`.

    With `over_seconds` it is about how much a counter grew in that time. `is_state` names the state that a
    condition on the state wants; `xids` are the numbers that count. `until` stands in place of `number` (of
    `plus`, where there is another quantity) when it is asked whether an open finding may close.
    """

    quantity: str
    comparison: Comparison = Comparison.AT_LEAST
    number: float = 1.0
    of: str = ""
    times: float = 1.0
    plus: float = 0.0
    until: float | None = None
    over_seconds: float = 0.0
    is_state: str = ""
    xids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises RuleError."""
        if self.quantity not in KNOWN and self.quantity not in NODE_FIGURES:
            near = _like(self.quantity, (*KNOWN, *NODE_FIGURES))
            raise RuleError("quantity", f"there is no quantity {self.quantity!r}{near}")
        if self.quantity == STATE:
            self._check_state()
        elif self.is_state:
            raise RuleError("is", "only a condition on the state says which: quantity = 'state'")
        self._check_counted()
        self._check_limit()

    def _check_state(self) -> None:
        choices = f"choose among {', '.join(_STATES)}"
        if not self.is_state:
            raise RuleError("is", f"a condition on the state says which: {choices}")
        if self.is_state not in _STATES:
            why = (
                "what is not known neither opens nor closes"
                if self.is_state in set(State)
                else "there is none"
            )
            raise RuleError("is", f"no state {self.is_state!r}: {why}; {choices}")
        if self.until is not None:
            raise RuleError("until", "a state has no second limit")

    def _check_counted(self) -> None:
        if (self.quantity == XIDS) != bool(self.xids):
            raise RuleError("xids", "a condition on XIDs, and only one, lists their numbers: xids = [48, 79]")
        if not all(0 <= number <= _LARGEST_XID for number in self.xids):
            raise RuleError("xids", f"numbers of XIDs lie between 0 and {_LARGEST_XID}")
        counts = self.quantity == XIDS or self.quantity.endswith("_total")
        if counts != bool(self.over_seconds):
            raise RuleError("over", "a counter, and only a counter, is judged by its growth: over = '10m'")
        if not 0 <= self.over_seconds <= LONGEST_SECONDS:
            raise RuleError("over", "must lie between 0 and 7d")

    def _check_limit(self) -> None:
        if self.of and self.of not in (PEERS, JOB, *_GAUGES):
            near = _like(self.of, _GAUGES)
            raise RuleError(
                self.comparison, f"a limit is a number, {PEERS!r}, {JOB!r} or a gauge, not {self.of!r}{near}"
            )
        if self.of and self.quantity not in _GAUGES:
            raise RuleError(self.comparison, "only a gauge is compared with another quantity")
        if not self.of and (self.times, self.plus) != (1.0, 0.0):
            key = "plus" if self.plus else "times"
            raise RuleError(
                key, f"belongs to a limit that is {PEERS!r}, {JOB!r} or another quantity, not a number"
            )
        edge = self.plus if self.of else self.number
        if self.until is not None and (self.until < edge if self.is_falling else self.until > edge):
            side = "below" if self.is_falling else "above"
            raise RuleError("until", f"closes before it opens: {self.until:g} must not lie {side} {edge:g}")

    @property
    def is_falling(self) -> bool:
        """Whether it holds for small values."""
        return self.comparison in (Comparison.AT_MOST, Comparison.BELOW)

    @property
    def compare(self) -> Callable[[float, float], bool]:
        """What compares a value with the limit."""
        return _COMPARE[self.comparison]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runbook:
    """What somebody who is woken needs to know."""

    meaning: str = ""
    cost: str = ""
    confirm_query: str = ""
    confirm_command: str = ""
    action: str = ""
    false_positives: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; see the module's text.

    `inhibited_by` are rules whose findings on a GPU keep this one quiet, as do those that keep these quiet.
    `coverage_ratio` of the ticks of `for_seconds` must be known. `workloads` are the classes of holders that
    it applies to; empty for all, and for a GPU that nobody holds.
    """

    name: str
    summary: str
    about: Subject = "gpu"
    severity: str = "warning"
    audience: Audience = "sre"
    when: Mapping[str, Condition] = field(default_factory=dict)
    for_seconds: float = 0.0
    clear_seconds: float = 0.0
    coverage_ratio: float = 0.8
    workloads: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()
    enabled: bool = True
    runbook: Runbook = field(default_factory=Runbook)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises RuleError."""
        if not self.when:
            raise RuleError("when", "a rule needs at least one condition: when.NAME.quantity = ...")
        if not self.summary:
            raise RuleError("summary", "a rule says what it is about")
        if not self.runbook.action:
            raise RuleError("runbook.action", "a rule says what to do")
        choices = {"about": SUBJECTS, "severity": SEVERITIES, "audience": AUDIENCES}
        for key, several in choices.items():
            if getattr(self, key) not in several:
                raise RuleError(key, f"must be one of {', '.join(several)}")
        self._check_subject()
        for key, seconds in (("for", self.for_seconds), ("clear_for", self.clear_seconds)):
            if not 0 <= seconds <= LONGEST_SECONDS:
                raise RuleError(key, "must lie between 0 and 7d")
        if not 0 < self.coverage_ratio <= 1:
            raise RuleError("coverage", "must lie above 0 and not above 1")
        if not set(self.workloads) <= set(Workload):
            raise RuleError("workloads", f"must be some of {', '.join(Workload)}")

    def _check_subject(self) -> None:
        for name, condition in self.when.items():
            key, quantity = f"when.{name}.quantity", condition.quantity
            if quantity in NODE_FIGURES and self.about == "gpu":
                raise RuleError(key, f"{quantity} is of the node: say about = 'node'")
            if quantity not in NODE_FIGURES and self.about == "node":
                choices = ", ".join(NODE_FIGURES)
                raise RuleError(key, f"a rule about the node is about one of {choices}")


def ancestors(rules: Mapping[str, Rule]) -> dict[str, tuple[str, ...]]:
    """Give for each rule all that keep it quiet, parents of parents too; parents come before children.

    Rules that are not there are left out. Raises RuleError where rules keep each other quiet.
    """
    found: dict[str, tuple[str, ...]] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in path:
            ring = " < ".join([*path[path.index(name) :], name])
            raise RuleError("inhibited_by", f"rules keep each other quiet: {ring}")
        if name in found:
            return
        path.append(name)
        parents = [one for one in rules[name].inhibited_by if one in rules]
        for parent in parents:
            visit(parent)
        path.pop()
        every = (one for parent in parents for one in (*found[parent], parent))
        found[name] = tuple(dict.fromkeys(every))

    for name in rules:
        visit(name)
    return found


def _like(name: str, choices: Sequence[str]) -> str:
    """Give names that somebody may have meant."""
    from difflib import get_close_matches  # noqa: PLC0415  only for an error

    near = get_close_matches(name[:LONGEST_NAME], choices, n=3, cutoff=0.4)
    return f": do you mean {' or '.join(near)}?" if near else "; `gputally metrics` lists them"
