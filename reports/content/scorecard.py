"""The scorecard: a few figures of this week beside those of another, and whether they are better or worse.

Every figure is a part over a whole. Ratios are shown as such; hours, money, energy and counts are shown as
they are but compared per GPU-hour, so that neither a longer week nor more GPUs look like a change.

Noise is what a figure moves from one week to the next without any reason: three times the median of the
absolute differences of consecutive weeks before this one. A change is itself such a difference, so like is
compared with like; the median lets one odd week count for little; and of changes that come by chance, if
they are normal, 96 % are smaller than three times their median.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import median

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.heat import MILLIJOULES_PER_KWH, thermal_ms
from reports.content.past import coverage, follows, nearly_whole, well_covered
from reports.content.reliability import incidents_of
from reports.facts import Facts, Week
from reports.outline import Report
from reports.sections import Score, Unit, Verdict
from reports.sums import Amounts, StateSums, ratio
from reports.window import Window

MEAN_WEEKS = 4
NOISE_WEEKS = 4
NOISE_TIMES = 3
LEAST_RATIO = 0.005
LEAST_SHARE = 0.02
"""However quiet a figure is, less than half a point of a ratio or 2 % of an amount is no change."""
PLAIN_RATIO = 0.02
PLAIN_SHARE = 0.10
"""What counts as the same where the noise is not known: two points of a ratio, 10 % of an amount."""
CHANCE_TIMES = 2
"""Counts differ by chance: by less than so many standard deviations it is no change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The sums of one week, of this report or of one before."""

    window: Window
    owed_ms: int
    sums: StateSums
    idle_cost: float | None
    throttle_ms: int | None
    incidents: int | None
    whole: bool = True

    @property
    def coverage_ratio(self) -> float | None:
        """What share of the time that GPUs were not down was seen."""
        elapsed_ms = {state: self.sums.elapsed_ms(state) for state in (State.UNKNOWN, State.DOWN)}
        return coverage(elapsed_ms, self.owed_ms)

    @property
    def comparable(self) -> bool:
        """Whether enough of it was seen."""
        return self.whole and well_covered(self.coverage_ratio)

    def hours(self, *states: State) -> float:
        """GPU-hours in these states together."""
        return self.sums.elapsed_ms(*states) / HOUR_MS

    @property
    def owed_hours(self) -> float:
        """GPU-hours of the inventory."""
        return self.owed_ms / HOUR_MS


@dataclass(frozen=True, slots=True)
class _Line:
    """A figure: what it is, whether more of it is better (1) or worse (-1), its part and its whole."""

    name: str
    meaning: str
    unit: Unit
    better: int
    part: Callable[[Measured], float | None]
    whole: Callable[[Measured], float] = lambda week: week.owed_hours

    def rate(self, week: Measured) -> float | None:
        part = self.part(week)
        return None if part is None else ratio(part, self.whole(week))

    def value(self, week: Measured) -> float | None:
        return self.rate(week) if self.unit == "ratio" else self.part(week)


_HELD = (State.ACTIVE, State.HELD_GAP, State.HELD_IDLE)
_LINES = (
    _Line(
        "availability",
        "time in which GPUs were neither down nor drained, of the inventory",
        "ratio",
        1,
        lambda week: week.owed_hours - week.hours(State.DOWN, State.DRAINED),
    ),
    _Line(
        "coverage",
        "time that was seen, of the time in which GPUs were not down",
        "ratio",
        1,
        lambda week: week.owed_hours - week.hours(State.DOWN, State.UNKNOWN),
        lambda week: week.owed_hours - week.hours(State.DOWN),
    ),
    _Line(
        "occupancy",
        "time in which GPUs were held, of the time in which they could be",
        "ratio",
        1,
        lambda week: week.hours(*_HELD),
        lambda week: week.hours(*_HELD, State.FREE),
    ),
    _Line(
        "activity",
        "active time, of the time in which GPUs were held",
        "ratio",
        1,
        lambda week: week.hours(State.ACTIVE),
        lambda week: week.hours(*_HELD),
    ),
    _Line(
        "intensity",
        "busy time, of the active time for which it was seen",
        "ratio",
        1,
        lambda week: _busy_hours(week.sums.by_state[State.ACTIVE]),
        lambda week: week.sums.by_state[State.ACTIVE].busy_seen_ms / HOUR_MS,
    ),
    _Line(
        "effective",
        "busy time, of the inventory; what was not seen counts as not busy",
        "ratio",
        1,
        lambda week: _busy_hours(week.sums.total),
    ),
    _Line(
        "idle_share",
        "time held idle, of the inventory",
        "ratio",
        -1,
        lambda week: week.hours(State.HELD_IDLE),
    ),
    _Line("idle_cost", "cost of the time held idle", "money", -1, lambda week: week.idle_cost),
    _Line(
        "energy",
        "energy that was seen; compared per GPU-hour for which it was",
        "kwh",
        -1,
        lambda week: _kwh(week.sums.total),
        lambda week: week.sums.total.energy_seen_ms / HOUR_MS,
    ),
    _Line(
        "throttled",
        "GPU-hours with clocks lowered for heat",
        "gpu_hours",
        -1,
        lambda week: None if week.throttle_ms is None else week.throttle_ms / HOUR_MS,
    ),
    _Line("incidents", "failures of GPUs", "count", -1, lambda week: week.incidents),
)


def _busy_hours(amounts: Amounts) -> float:
    return amounts.busy_us / 1000 / HOUR_MS


def _kwh(amounts: Amounts) -> float | None:
    return amounts.energy_mj / MILLIJOULES_PER_KWH if amounts.energy_seen_ms else None


def scores(report: Report, facts: Facts) -> tuple[Score, ...]:
    """Give the lines of the scorecard, in the order of the ladder that leads to effective use."""
    this, past = _of_report(report, facts), [_of_week(week) for week in facts.weeks]
    last = None if facts.last is None else _of_week(facts.last)
    return tuple(_score(line, this, last, past) for line in _LINES)


def _of_report(report: Report, facts: Facts) -> Measured:
    idle = next(line for line in report.states if line.state is State.HELD_IDLE)
    began = [one for one in incidents_of(report.findings) if one.began_in(report.covered)]
    return Measured(
        window=report.window,
        owed_ms=report.inventory.gpu_ms,
        sums=report.sums,
        idle_cost=idle.cost,
        throttle_ms=thermal_ms(facts),
        incidents=None if "findings" in facts.missing else len(began),
        whole=nearly_whole(report),
    )


def _of_week(week: Week) -> Measured:
    return Measured(
        window=week.window,
        owed_ms=sum(group.owed_ms for group in week.groups.values()),
        sums=StateSums({state: week.amounts.get(state, Amounts()) for state in State}),
        idle_cost=week.idle_cost,
        throttle_ms=week.throttle_ms,
        incidents=week.incidents,
    )


def _score(line: _Line, this: Measured, last: Measured | None, past: Sequence[Measured]) -> Score:
    """Compare with one week, by the noise of all before; how well a week was seen may always be compared."""
    about_coverage = line.name == "coverage"
    fit = [week for week in past if about_coverage or week.comparable]
    noise = _noise(line, fit)
    sure = about_coverage or (this.comparable and last is not None and last.comparable)
    scale = 1.0 if line.unit == "ratio" else line.whole(this)
    return Score(
        name=line.name,
        meaning=line.meaning,
        unit=line.unit,
        value=line.value(this),
        last=None if last is None else line.value(last),
        mean4=_mean(line, [week for week in past[:MEAN_WEEKS] if week in fit]),
        noise=None if noise is None else noise * scale,
        verdict=_verdict(line, this, last, noise) if sure and last is not None else "unknown",
    )


def _mean(line: _Line, weeks: Iterable[Measured]) -> float | None:
    """Give the mean week: a ratio of sums, or the sum over the number of weeks for which it is known."""
    known = [(part, line.whole(week)) for week in weeks if (part := line.part(week)) is not None]
    total = sum(part for part, _ in known)
    return ratio(total, sum(whole for _, whole in known) if line.unit == "ratio" else len(known))


def _noise(line: _Line, weeks: Sequence[Measured]) -> float | None:
    """Give the noise of the rate; None with fewer than four weeks that follow one another."""
    changes = []
    for later, earlier in pairwise(weeks):
        now, before = line.rate(later), line.rate(earlier)
        if now is not None and before is not None and follows(later.window, earlier.window):
            changes.append(abs(now - before))
    return NOISE_TIMES * median(changes) if len(changes) >= NOISE_WEEKS - 1 else None


def _verdict(line: _Line, this: Measured, last: Measured, noise: float | None) -> Verdict:
    now, before = line.rate(this), line.rate(last)
    if now is None or before is None:
        return "unknown"
    change = now - before
    if abs(change) <= _allowed(line, this, last, before, noise):
        return "same"
    return "better" if change * line.better > 0 else "worse"


def _allowed(line: _Line, this: Measured, last: Measured, before: float, noise: float | None) -> float:
    """Give the largest change of the rate that is none."""
    if line.unit == "ratio":
        return PLAIN_RATIO if noise is None else max(noise, LEAST_RATIO)
    share = abs(before) * (PLAIN_SHARE if noise is None else LEAST_SHARE)
    chance = 0.0
    if line.unit == "count":
        counts = ((line.part(week) or 0.0) / line.whole(week) ** 2 for week in (this, last))
        chance = CHANCE_TIMES * sqrt(sum(counts))
    return max(share, noise or 0.0, chance)
