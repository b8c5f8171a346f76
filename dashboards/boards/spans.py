"""A time and what a fleet did in it, as the weekly report has it: sums of GPU-hours, and their ratios.

Ratios are always of sums, never means of means. Time that GPUs owe and nobody told of is unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.tick import State
from dashboards.outline import Config
from dashboards.recorded import BUSY_HOURS, ENERGY_HOURS, OWED, STATE_HOURS

HELD = (State.ACTIVE, State.HELD_GAP, State.HELD_IDLE)
TAKEN = (*HELD, State.SERVICE)
"""Whatever nobody else could have had."""
OUT = (State.DOWN, State.DRAINED)
CHOSEN = "$__range"
"""The time that is chosen at the top."""


@dataclass(frozen=True, slots=True)
class Span:
    """The time chosen at the top, or one before it; `by` are labels by which its figures are told apart.

    All figures are PromQL; a state that no GPU was in has 0 hours; without any GPU there are no figures.
    """

    config: Config
    by: tuple[str, ...] = ()
    length: str = CHOSEN
    ago: str = ""

    def summed(self, expr: str) -> str:
        """Sum up by what the figures are told apart."""
        return f"sum by ({', '.join(self.by)}) ({expr})" if self.by else f"sum({expr})"

    @property
    def owed(self) -> str:
        """GPU-hours of the inventory: of GPUs that told of themselves within a day."""
        told = OWED.over("sum_over_time", self.length, self.config, self.config.of_group, self.ago)
        return self.summed(told)

    def _or_none(self, expr: str) -> str:
        return f"({expr} or 0 * {self.owed})"

    def hours(self, *states: State) -> str:
        """GPU-hours in these states."""
        chosen = f'{self.config.of_group}, state=~"{"|".join(states)}"'
        return self._or_none(self.summed(STATE_HOURS.hours(self.length, self.config, chosen, self.ago)))

    @property
    def seen(self) -> str:
        """GPU-hours of which it is known what the GPU did."""
        return self.hours(*(state for state in State if state is not State.UNKNOWN))

    @property
    def unknown(self) -> str:
        """GPU-hours of which it is not known, for nobody looked or nobody told."""
        return f"clamp_min({self.owed} - {self.seen}, 0)"

    @property
    def busy(self) -> str:
        """Busy GPU-hours."""
        told = BUSY_HOURS.hours(self.length, self.config, self.config.of_group, self.ago)
        return self._or_none(self.summed(told))

    @property
    def watt_hours(self) -> str:
        """Energy of the GPUs in Wh, as far as it was seen."""
        return self.summed(ENERGY_HOURS.hours(self.length, self.config, self.config.of_group, self.ago))

    @property
    def effective(self) -> str:
        """Busy time over the inventory: what was not seen counts as not busy."""
        return self.ratio(self.busy, self.owed)

    def share(self, *states: State) -> str:
        """Give the share of the inventory in these states."""
        return self.ratio(self.hours(*states), self.owed)

    def ratio(self, part: str, whole: str) -> str:
        """Divide; nothing where there is no whole."""
        return f"{part} / ({whole} > 0)"

    @property
    def coverage(self) -> str:
        """The share that was seen of the time in which GPUs were not down."""
        seen = self.hours(*(state for state in State if state not in (State.UNKNOWN, State.DOWN)))
        return self.ratio(seen, f"({self.owed} - {self.hours(State.DOWN)})")

    @property
    def ladder(self) -> Mapping[str, str]:
        """The ratios whose product is about the effective utilisation, and this itself, by their names."""
        return {
            "1 available": f"1 - {self.share(*OUT)}",
            "2 coverage": self.coverage,
            "3 occupancy": self.ratio(self.hours(*HELD), self.hours(*HELD, State.FREE)),
            "4 activity": self.ratio(self.hours(State.ACTIVE), self.hours(*HELD)),
            "5 intensity": self.ratio(self.busy, self.hours(State.ACTIVE)),
            "6 effective": self.effective,
            "7 effective at most": self.ratio(f"({self.busy} + {self.unknown})", self.owed),
        }
