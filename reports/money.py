"""What GPU time costs: the one place where time becomes money."""

from collections.abc import Mapping

from agent.tally import HOUR_MS
from reports.outline import Report
from reports.sections import Group


def cost_of(report: Report, gpu_ms: float, group: Group | None) -> float | None:  # noqa: ARG001  one price for all
    """Give the cost of GPU time of a group, in the currency of the price; None without a price."""
    price = report.price_per_gpu_hour
    return None if price is None else gpu_ms / HOUR_MS * price


def cost_of_all(report: Report, gpu_ms: Mapping[Group, int]) -> float | None:
    """Give the cost of GPU time of several groups; None if that of one is not known."""
    costs = [cost_of(report, ms, group) for group, ms in gpu_ms.items()]
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs) or (not costs and cost_of(report, 0, None) is None):
        return None
    return sum(known, 0.0)
