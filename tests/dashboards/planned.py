"""Five weeks of four GPUs by a plan that is written down, so that every figure of a planner is known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from agent.tally import HOUR_MS
from agent.tick import State
from exporters.rows import GPU, Row
from tests.dashboards.filled import END_MS, MINUTE_MS, Filled

HOURS = (5 * 7 + 2) * 24
BEGIN_MS = END_MS - HOURS * HOUR_MS
STEP_MS = 10 * MINUTE_MS
OFTEN_HOURS = 3
SILENT_HOURS = 30
"""So long before the end one GPU was heard of last."""
OWED_HOURS = 24
"""And so long after that it still owes its time."""
BUSY = 0.9
"""Of active time."""
HELD_WATTS, FREE_WATTS = 300.0, 60.0


class Account(NamedTuple):
    """A state and who held the GPU; nobody known is empty."""

    state: State
    owner: str = ""


@dataclass(frozen=True)
class Planned:
    """A GPU: the share of each account of an hour, at first and how much more each hour; the rest is free."""

    uuid: str
    pool: str
    model: str
    shares: Mapping[Account, tuple[float, float]]
    throttled: Mapping[str, float] = field(default_factory=dict)
    until: int = HOURS

    def of_hour(self, hour: int) -> Mapping[Account, float]:
        """Give the share of each account; none once it is silent."""
        if hour >= self.until:
            return {}
        told = {
            account: first + more * hour
            for account, (first, more) in self.shares.items()
            if account != LATE or hour >= HOURS - LATE_HOURS
        }
        return {**told, Account(State.FREE): 1 - sum(told.values())}

    def of_owed(self, hour: int) -> float:
        """Tell whether it owes that hour."""
        return float(hour < self.until + OWED_HOURS)


ANN, BOB = "ann", "bob"
LATE, LATE_HOURS = Account(State.HELD_IDLE, "zoe"), 6
"""An account that is there since some hours before the end only, on a GPU that was there before."""
PLAN: Sequence[Planned] = (
    Planned(
        "GPU-1",
        "train",
        "H200",
        {Account(State.ACTIVE, ANN): (0.1, 0.0005), Account(State.HELD_IDLE, ANN): (0.2, 0.0)},
        {"power_cap": 0.02, "low_utilization": 0.3},
    ),
    Planned(
        "GPU-2",
        "train",
        "H200",
        {
            Account(State.ACTIVE, BOB): (0.3, 0.0),
            Account(State.HELD_GAP, BOB): (0.05, 0.0),
            Account(State.HELD_IDLE, BOB): (0.0, 0.0003),
            LATE: (0.05, 0.0),
            Account(State.SERVICE): (0.02, 0.0),
        },
        {"sw_thermal": 0.01},
    ),
    Planned(
        "GPU-3",
        "train",
        "H200",
        {
            Account(State.ACTIVE, ANN): (0.5, 0.0),
            Account(State.DRAINED): (0.1, 0.0),
            Account(State.DOWN): (0.1, 0.0),
        },
        until=HOURS - SILENT_HOURS,
    ),
    Planned(
        "GPU-4",
        "serve",
        "T4",
        {
            Account(State.ACTIVE): (0.4, 0.0),
            Account(State.HELD_IDLE): (0.1, 0.0),
            Account(State.UNKNOWN): (0.2, 0.0),
        },
    ),
)


def planned() -> Filled:
    """Give what the nodes of these GPUs would have pushed."""
    return Filled([row for number, gpu in enumerate(PLAN) for row in _rows(number, gpu)], END_MS)


def _rows(number: int, gpu: Planned) -> Iterator[Row]:
    who = (
        ("node", f"n{number}"),
        ("gpu", "0"),
        ("uuid", gpu.uuid),
        ("model", gpu.model),
        ("cluster", "c1"),
        ("pool", gpu.pool),
    )
    seconds: dict[Account, float] = {}
    labels_of = {
        account: (*who, ("owner", account.owner)) if account.owner else who for account in gpu.shares
    }
    for at_ms, next_ms in pairwise(_moments(gpu.until)):
        shares = gpu.of_hour(min((at_ms - BEGIN_MS) // HOUR_MS, gpu.until - 1))
        for account in shares:
            told = seconds.setdefault(account, 0.0)
            labels = labels_of.get(account, who)
            of_state = (*labels, ("state", account.state))
            watts = HELD_WATTS if account.owner else FREE_WATTS
            yield Row(
                GPU, of_state, (("tally_seconds_total", told), ("tally_joules_total", told * watts)), at_ms
            )
            if account.state is State.ACTIVE:
                yield Row(GPU, labels, (("tally_busy_seconds_total", told * BUSY),), at_ms)
            if account.state is State.HELD_IDLE and at_ms >= END_MS - 10 * MINUTE_MS:
                yield Row(GPU, (*who, ("state", account.state)), (("state", 1.0),), at_ms)
        for reason, share in gpu.throttled.items():
            told = share * (at_ms - BEGIN_MS) / 1000
            yield Row(GPU, (*who, ("reason", reason)), (("throttle_seconds_total", told),), at_ms)
        for there_ms in {at_ms, (at_ms + next_ms) // 2}:
            yield Row(GPU, who, (("info", 1.0), ("up", 1.0)), there_ms)
        for account, share in shares.items():
            seconds[account] += share * (next_ms - at_ms) / 1000


def _moments(until: int) -> list[int]:
    """Give when a GPU tells: each ten minutes, in the last hours each minute; one more for the end."""
    end_ms = BEGIN_MS + until * HOUR_MS
    often_ms = min(end_ms, END_MS - OFTEN_HOURS * HOUR_MS)
    found = [*range(BEGIN_MS, often_ms, STEP_MS), *range(often_ms, end_ms, MINUTE_MS), end_ms]
    return [*found, end_ms + 1]
