"""What a rule is: conditions that must hold for a while on a GPU, whom that concerns, and what to do then.

A condition compares one quantity, tick by tick, with a number, with another quantity of the same GPU, or with
the median of its peers (GPUs of the same model on the node); or it compares how much a counter grew over a
while. A rule opens when each of its conditions held at every tick of `for_seconds` that is known, and enough
of these ticks are. It closes when one of them was known not to hold throughout `clear_seconds`, with `until`
in place of the limit. What is not known neither opens nor closes anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from agent.quantities import QUANTITIES
from agent.tick import State

Audience = Literal["sre", "planner", "owner"]
AUDIENCES: tuple[Audience, ...] = ("sre", "planner", "owner")
SEVERITIES = ("critical", "warning", "info")
"""Gravest first."""
LONGEST_SECONDS = 7 * 86_400.0
PEERS = "peers"
"""Instead of a quantity's name: the median of the peers."""
STATE, UP, XIDS = "state", "up", "xid_errors_total"
KNOWN = (*QUANTITIES, STATE, UP, XIDS)
"""What a condition may be about: a quantity, the state, whether the GPU answers, how many XIDs there were."""


class Comparison(StrEnum):
    """How a value is compared with the limit."""

    AT_MOST = "at_most"
    AT_LEAST = "at_least"
    BELOW = "below"
    ABOVE = "above"


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
        if self.quantity not in KNOWN:
            raise RuleError("quantity", f"there is no quantity {self.quantity!r}{_like(self.quantity)}")
        if self.of and self.of != PEERS and self.of not in QUANTITIES:
            raise RuleError(self.comparison, f"no quantity {self.of!r}{_like(self.of)}, nor {PEERS!r}")
        if (self.quantity == STATE) != bool(self.is_state):
            raise RuleError("is", "a condition on the state, and only one, says which: is = 'held_idle'")
        if self.is_state and self.is_state not in set(State):
            raise RuleError("is", f"there is no state {self.is_state!r}: choose among {', '.join(State)}")
        if (self.quantity == XIDS) != bool(self.xids):
            raise RuleError("xids", "a condition on XIDs, and only one, lists their numbers: xids = [48, 79]")
        counts = self.quantity == XIDS or self.quantity.endswith("_total")
        if counts != bool(self.over_seconds):
            raise RuleError("over", "a counter, and only a counter, is judged by its growth: over = '10m'")
        if self.of and (self.over_seconds or self.quantity not in QUANTITIES):
            raise RuleError(self.comparison, "only a gauge is compared with another quantity")
        if not 0 <= self.over_seconds <= LONGEST_SECONDS:
            raise RuleError("over", "must lie between 0 and 7d")
        edge = self.plus if self.of else self.number
        if self.until is not None and (self.until < edge if self.is_falling else self.until > edge):
            raise RuleError(
                "until", "must lie beyond the limit, on the side on which the condition does not hold"
            )

    @property
    def is_falling(self) -> bool:
        """Whether it holds for small values."""
        return self.comparison in (Comparison.AT_MOST, Comparison.BELOW)

    def holds(self, value: float, limit: float) -> bool:
        """Compare."""
        if self.comparison is Comparison.AT_MOST:
            return value <= limit
        if self.comparison is Comparison.AT_LEAST:
            return value >= limit
        return value < limit if self.comparison is Comparison.BELOW else value > limit


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
    """One rule; see the module's text. `inhibited_by` are rules whose findings on a GPU keep this one quiet.

    `coverage_ratio` of the ticks of `for_seconds` must be known. `workloads` are the classes of holders that
    it applies to; empty for all, and for a GPU that nobody holds.
    """

    name: str
    summary: str
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
        if not self.summary or not self.runbook.action:
            raise RuleError(
                "summary", "a rule says what it is about (summary) and what to do (runbook.action)"
            )
        if self.severity not in SEVERITIES:
            raise RuleError("severity", f"must be one of {', '.join(SEVERITIES)}")
        if self.audience not in AUDIENCES:
            raise RuleError("audience", f"must be one of {', '.join(AUDIENCES)}")
        for key, seconds in (("for", self.for_seconds), ("clear_for", self.clear_seconds)):
            if not 0 <= seconds <= LONGEST_SECONDS:
                raise RuleError(key, "must lie between 0 and 7d")
        if not 0 < self.coverage_ratio <= 1:
            raise RuleError("coverage", "must lie above 0 and not above 1")


def _like(name: str) -> str:
    """Give names that somebody may have meant."""
    from difflib import get_close_matches  # noqa: PLC0415  only for an error

    near = get_close_matches(name, KNOWN, n=3, cutoff=0.4)
    return f": do you mean {' or '.join(near)}?" if near else "; `gputally metrics` lists them"
