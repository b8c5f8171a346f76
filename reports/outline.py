"""What a report says, as values.

Times are ms since the epoch, durations whole ms; costs are in the currency of the prices, None without one; a
ratio is None where there is nothing to divide by.
"""

from dataclasses import dataclass
from typing import NamedTuple

from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.money import Prices
from reports.sections import Sections
from reports.sources.identity import Violation
from reports.sums import AccountSum, Amounts, SpellRow, StateSums
from reports.window import Span, Window


class Bounds(NamedTuple):
    """Between these the truth lies."""

    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """How many GPUs there were in the window, and for how long all together."""

    gpus: int
    gpu_ms: int
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateLine:
    """What all GPUs did in one state; the share is of the inventory."""

    state: State
    amounts: Amounts
    share_ratio: float | None
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerLine:
    """What one owner held; GPUs held by nobody known are the owner `unattributed`."""

    owner: str
    sums: StateSums
    cost: float | None
    idle_cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLine:
    """One GPU in one node: one that was moved has a line for each node. `index` is where it sat last."""

    uuid: str
    node: str
    index: int | None
    model: str
    serial: str
    inventory_ms: int
    sums: StateSums
    coverage_ratio: float | None
    longest_spell_ms: int | None
    cost: float | None

    @property
    def wasted_ms(self) -> int:
        """Time held idle, down or unknown."""
        return self.sums.elapsed_ms(State.HELD_IDLE, State.DOWN, State.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpellLine:
    """A spell, and where its GPU sat for most of the window."""

    spell: SpellRow
    node: str
    index: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Something to do, or to find out, and the GPU time and money that hang on it."""

    kind: str
    text: str
    gpu_ms: int
    cost: float | None

    @property
    def gpu_hours(self) -> float:
        """The GPU time of the window that it is about, in hours."""
        return self.gpu_ms / HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Which telling of a window this is; `changes` say what differs from the one before, of `before_ms`."""

    number: int
    before_ms: int | None = None
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The account of a window. `covered` is the part of the window that the journal accounts for.

    `violations` are the first ones, `violation_count` counts all of them. `unread` says which journals could
    not be read, and why: their GPUs are missing from all sums. `remarks` must be said of all of it, such as
    that it is an estimate.
    """

    window: Window
    covered: Window
    span: Span
    made_ms: int
    prices: Prices
    inventory: Inventory
    sums: StateSums
    states: tuple[StateLine, ...]
    coverage_ratio: float | None
    effective_ratio: Bounds
    energy_seen_ratio: float | None
    violations: tuple[Violation, ...]
    violation_count: int
    accounts: tuple[AccountSum, ...]
    owners: tuple[OwnerLine, ...]
    gpus: tuple[GpuLine, ...]
    spells: tuple[SpellLine, ...]
    findings: tuple[Finding, ...]
    decisions: tuple[Decision, ...]
    unread: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    revision: Revision | None = None
    sections: Sections | None = None

    @property
    def price_per_gpu_hour(self) -> float | None:
        """The one price that all GPUs always have; None where there is no such."""
        return self.prices.flat

    @property
    def priced(self) -> bool:
        """Whether anything has a cost."""
        return self.inventory.cost is not None

    @property
    def identity_ok(self) -> bool:
        """Whether the states of every GPU sum to its time in every hour."""
        return self.violation_count == 0

    @property
    def busy_ratio_mean(self) -> float | None:
        """Mean busy share over the time for which it was seen: a ratio of sums."""
        return self.sums.total.busy_ratio_mean
