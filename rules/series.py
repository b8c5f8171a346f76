"""How quantities, numbers, durations, comparisons and what is recorded of rules are written in PromQL."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.quantities import QUANTITIES
from rules.definition import FAULTS, UP, XIDS, Comparison, Condition, Rule

OPEN, GROWTH, CONDITION = "gputally:open", "gputally:growth", "gputally:condition"
"""How the names of recorded series begin."""
SIGNS = {
    Comparison.AT_MOST: "<=",
    Comparison.AT_LEAST: ">=",
    Comparison.BELOW: "<",
    Comparison.ABOVE: ">",
}
OPPOSITE = {"<=": ">", ">=": "<", "<": ">=", ">": "<="}


def figure(value: float) -> str:
    """Write a number without losing any of it."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


@dataclass(frozen=True, slots=True)
class Metric:
    """The series that a condition is about; `labels` are those that tell it from others of its name."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()

    def selector(self, *more: str) -> str:
        """Select it."""
        inside = ", ".join((*(f'{key}="{value}"' for key, value in self.labels), *more))
        return f"{self.name}{{{inside}}}" if inside else self.name

    def over(self, function: str, window: str) -> str:
        """Ask for something over a window, with no labels but those of the GPU."""
        asked = f"{function}({self.selector()}{window})"
        names = ", ".join(key for key, _ in self.labels)
        return f"sum without ({names}) ({asked})" if names else asked


def metric_of(quantity: str) -> Metric:
    """Tell how a quantity is named on a page."""
    if quantity in (UP, XIDS):
        return Metric(f"gpu_{quantity}")
    if quantity in FAULTS:
        return Metric("gpu_condition", (("condition", quantity),))
    told = QUANTITIES[quantity]
    return Metric(f"gpu_{told.family or quantity}", told.labels)


def state_metric(state: str) -> Metric:
    """Select one of the states."""
    return Metric("gpu_state", (("state", state),))


def has_level(rule: Rule, condition: Condition) -> bool:
    """Tell whether it must be recorded if a condition holds, as no one number would tell."""
    return bool(rule.workloads or condition.of)


def recorded_name(rule: Rule, key: str) -> str:
    """Name the series of a condition; keys that differ in odd characters only are told apart by place."""
    keys: Sequence[str] = list(rule.when)
    plain = re.sub(r"\W", "_", key, flags=re.ASCII)
    alike = [one for one in keys if re.sub(r"\W", "_", one, flags=re.ASCII) == plain]
    return f"{CONDITION}:{rule.name}:{plain}{'' if len(alike) == 1 else keys.index(key)}"


def is_recorded(rule: Rule, condition: Condition) -> bool:
    """Tell whether it is asked of a series that is recorded, and not of what nodes say."""
    return bool(has_level(rule, condition) or condition.over_seconds)


def limit_of(rule: Rule, condition: Condition) -> tuple[str, str, str]:
    """Give sign and limit of a condition's series while it holds, and what gives its worst value."""
    if has_level(rule, condition):
        return "==", "2", "min_over_time"
    worst = "max_over_time" if condition.is_falling else "min_over_time"
    return SIGNS[condition.comparison], figure(condition.number), worst


def edge_of(rule: Rule, condition: Condition) -> tuple[str, str, str]:
    """Give sign and limit of a condition's series while it fails by `until`, and its best value."""
    if has_level(rule, condition):
        return "==", "0", "max_over_time"
    best = "min_over_time" if condition.is_falling else "max_over_time"
    edge = condition.number if condition.until is None else condition.until
    return OPPOSITE[SIGNS[condition.comparison]], figure(edge), best


def added(number: float) -> str:
    """Write that a number is added."""
    if number == 0:
        return ""
    return f" + {figure(number)}" if number > 0 else f" - {figure(-number)}"
