"""What a holder had within a window, of what is known of its whole life."""

from reports.facts import Tenure
from reports.sums import SpellRow
from reports.window import Window


def part_in(tenure: Tenure, window: Window) -> float:
    """Tell what part of a tenure lies in a window; its amounts are taken as spread evenly over it."""
    overlap_ms = min(tenure.end_ms, window.to_ms) - max(tenure.start_ms, window.from_ms)
    length_ms = tenure.end_ms - tenure.start_ms
    return max(0, overlap_ms) / length_ms if length_ms > 0 else 0.0


def spells_of(tenure: Tenure, spells: tuple[SpellRow, ...]) -> list[SpellRow]:
    """Give the spells of a holder on its GPUs, during its tenure."""
    return [
        one
        for one in spells
        if (one.kind, one.holder) == (tenure.kind, tenure.name)
        and one.uuid in tenure.gpus
        and one.start_ms < tenure.end_ms
        and one.end_ms > tenure.start_ms
    ]
