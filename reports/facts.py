"""What sections are made from besides the accounts: values that any source can give, each in its own way.

Times are ms since the epoch, durations whole ms, energy mJ; None is what the source does not know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.tick import State
from reports.sections import Group
from reports.sums import Amounts, Identity
from reports.window import Window


class HourSum(NamedTuple):
    """What all GPUs of a group did in one state within an hour."""

    hour_ms: int
    group: Group
    state: State
    amounts: Amounts


FREE_THROUGHOUT_MS = 57 * 60_000
"""A GPU that was free for so much of an hour was free throughout: stores may be an interval late."""


class FreeHour(NamedTuple):
    """On how many nodes exactly so many GPUs of a group were free throughout an hour, at least one."""

    hour_ms: int
    group: Group
    gpus: int
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """What one GPU did in one node over the window, besides its accounts."""

    throttle_ms: Mapping[str, int] = field(default_factory=dict)
    heat_lost_ms: int | None = None
    temperature_max_celsius: float | None = None
    margin_least_celsius: float | None = None
    memory_max_bytes: float | None = None
    power_max_watts: float | None = None
    xids: Mapping[int, int] = field(default_factory=dict)


class Stay(NamedTuple):
    """A GPU in a node, over its whole life and not only the window; to_ms is None while it sits there."""

    uuid: str
    node: str
    position: int
    from_ms: int
    to_ms: int | None


class Life(NamedTuple):
    """All that was ever accounted for of a GPU: up to when, how long it was seen, and how long it worked."""

    until_ms: int
    seen_ms: int
    active_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """What one holder had within its whole life, which overlaps the window; activity is of 0 to 1."""

    kind: str
    name: str
    owner: str
    user: str
    node: str
    start_ms: int
    end_ms: int
    gpus: tuple[str, ...]
    elapsed_ms: Mapping[State, int]
    activity_mean: float | None
    activity_max: float
    memory_max_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupWeek:
    """What one group did in one week; `held_p95` is in GPUs, over its hours."""

    owed_ms: int
    elapsed_ms: Mapping[State, int]
    busy_ms: float
    held_p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """A window before that of the report, as long as it, summed up. `idle_ms` is by owner.

    `throttle_ms` is time with clocks lowered for heat (content/heat.py), `incidents` those that began in it
    (content/reliability.py), None where nobody looked for them.
    """

    window: Window
    gpus: int
    groups: Mapping[Group, GroupWeek]
    amounts: Mapping[State, Amounts]
    idle_ms: Mapping[str, int]
    idle_cost: float | None
    throttle_ms: int | None
    incidents: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of a source beyond the accounts. The latest of `weeks` is first; `memory_bytes` is by model.

    `compared` is the week that was asked to be compared with, if it is not the latest of those before.
    `identities` also name GPUs that left before the window; `latest` is the state of each GPU at its end.
    `missing` says in a sentence why something lacks: by the name of a field of this, or `findings`.
    """

    hours: tuple[HourSum, ...] = ()
    free: tuple[FreeHour, ...] = ()
    gpus: Mapping[tuple[str, str], GpuFacts] = field(default_factory=dict)
    stays: tuple[Stay, ...] = ()
    lives: Mapping[str, Life] = field(default_factory=dict)
    tenures: tuple[Tenure, ...] = ()
    pools: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: Mapping[str, float] = field(default_factory=dict)
    weeks: tuple[Week, ...] = ()
    compared: Week | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    identities: Mapping[str, Identity] = field(default_factory=dict)
    latest: Mapping[str, State] = field(default_factory=dict)

    @property
    def last(self) -> Week | None:
        """The week that this one is compared with; None where there is none."""
        return self.compared or (self.weeks[0] if self.weeks else None)
