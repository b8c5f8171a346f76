"""What a store is asked for a report: how the accounts of a fleet stood at moments, and of whom they are.

Accounts are counters that only grow, kept by each node: `gpu_tally_seconds_total` and its like. A report
needs where they stood at the edges of its window; what lies between is not asked for. How PromQL and InfluxQL
ask is in reports/sources/prom_ledger.py and reports/sources/influx_ledger.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from agent.tally import DAY_MS
from agent.tick import Finding, State
from reports.facts import FreeHour, HourSum
from reports.window import Window

Quantity = Literal["seconds", "joules", "busy_seconds"]
BEFORE_MS = 2 * DAY_MS
"""A store that has something of the time so long before a window was there as it began, if silent."""


class Seat(NamedTuple):
    """A GPU in a node."""

    uuid: str
    node: str


class Account(NamedTuple):
    """Of whom an account is, and of which state; busy time has no state."""

    state: State | None
    owner: str


class Known(NamedTuple):
    """What a store knows of a GPU in a node besides its accounts."""

    position: int
    model: str
    serial: str
    pool: str


Looks = dict[Seat, dict[Account, list[tuple[int, float]]]]
"""Accounts as they stood: moments in ms with values, oldest first; a moment without a value is left out."""


class Ledger(Protocol):
    """A store that holds the accounts of a fleet. All methods raise StoreError."""

    name: str

    def seats(self, from_ms: int, to_ms: int) -> Mapping[Seat, Known]:
        """Name the GPUs that may have been there in a time; some may not."""

    def first(self, from_ms: int, to_ms: int) -> int:
        """Tell since when the store has anything of a time, to within an hour; `from_ms` where it has all."""

    def looks(
        self,
        quantity: Quantity,
        moments: Sequence[int],
        back_ms: int,
        seats: Sequence[Seat] | None = None,
    ) -> Looks:
        """Look at accounts at moments that follow by equal steps: the last value within `back_ms` of each."""

    def ends(self, moments: Sequence[int], back_ms: int) -> Mapping[str, Mapping[int, int]]:
        """Tell up to when each node had accounted at each moment, in ms, where the store tells it."""

    def hours(self, window: Window) -> Iterator[HourSum]:
        """Tell what each group did by the hour, as well as the store can without looking at single GPUs."""

    def free(self, window: Window) -> Iterator[FreeHour]:
        """Count nodes by how many of their GPUs were free throughout an hour."""

    def sliced(self, from_ms: int, to_ms: int) -> Mapping[str, float]:
        """Tell for what share of a time GPUs were cut into slices, and did not tell how busy they are."""

    def throttled(self, window: Window) -> Mapping[Seat, Mapping[str, int]]:
        """Tell for how many ms clocks were lowered in a window, by reason, where they were."""

    def xids(self, window: Window) -> Mapping[Seat, Mapping[int, int]]:
        """Tell how often XIDs came in a window, by number."""

    def findings(self, window: Window) -> list[Finding]:
        """Tell what was found in a window."""
