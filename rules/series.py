"""How quantities, numbers, durations and comparisons are written in PromQL."""

from dataclasses import dataclass

from agent.quantities import QUANTITIES
from rules.definition import FAULTS, UP, XIDS, Comparison

SIGNS = {
    Comparison.AT_MOST: "<=",
    Comparison.AT_LEAST: ">=",
    Comparison.BELOW: "<",
    Comparison.ABOVE: ">",
}
OPPOSITE = {"<=": ">", ">=": "<", "<": ">=", ">": "<="}
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))


def span(milliseconds: int) -> str:
    """Write a duration: `9m55s`."""
    text = ""
    for unit_ms, unit in _UNITS:
        times, milliseconds = divmod(milliseconds, unit_ms)
        text += f"{times}{unit}" if times else ""
    return text


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
