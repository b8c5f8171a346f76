"""Why GPUs were active for more or less time than in another week: steps that lead from one to the other.

Active time of a group is its GPU time, times the share of it that was seen, times the share of what was seen
that was active. The steps change one of these at a time, in this order, all others as they were:

  inventory  more or less GPU time of all groups together
  mix        the groups' shares of it
  coverage   how much of it was seen
  rate       how active each group was in what was seen of it

A group that was not there before, or of which nothing was seen, counts as if it had been like all GPUs
together; what it does better or worse is its rate. Steps are computed with fractions and rounded as they
add up, so that they lead from one week to the other to the millisecond.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from agent.tick import State
from reports.content.groups import groups
from reports.facts import Facts
from reports.outline import Report
from reports.sections import Group, Step

MOST_GROUPS = 5
"""So many groups are named; the others' rates are one step without a group."""

_Change = tuple[Literal["inventory", "mix", "coverage", "rate"], Group | None, Fraction]
"""A step before it is rounded."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What a group owed, what of it was seen, and what of that was active, in ms."""

    owed: int = 0
    seen: int = 0
    active: int = 0

    def __add__(self, other: "_Part") -> "_Part":
        return _Part(self.owed + other.owed, self.seen + other.seen, self.active + other.active)


def bridge(report: Report, facts: Facts) -> tuple[Step, ...]:
    """Give the steps from the active time of the week compared with to that of this; none without one."""
    if facts.last is None:
        return ()
    this = {line.group: _part(line.inventory_ms, line.elapsed_ms) for line in groups(report, facts)}
    last = {group: _part(told.owed_ms, told.elapsed_ms) for group, told in facts.last.groups.items()}
    return _steps(last, this)


def _part(owed_ms: int, elapsed_ms: Mapping[State, int]) -> _Part:
    return _Part(owed_ms, owed_ms - elapsed_ms.get(State.UNKNOWN, 0), elapsed_ms.get(State.ACTIVE, 0))


def _steps(last: Mapping[Group, _Part], this: Mapping[Group, _Part]) -> tuple[Step, ...]:
    before, after = sum(last.values(), _Part()), sum(this.values(), _Part())
    if not before.owed:
        came = _rounded(before.active, [("inventory", None, Fraction(after.active - before.active))])
        return _framed(before.active, came, after.active)
    level = Fraction(before.active)
    reached = level * after.owed / before.owed
    changes: list[_Change] = [("inventory", None, reached - level)]
    mixed = covered = Fraction(0)
    rates: dict[Group, Fraction] = {}
    for group, now in this.items():
        seen_share, rate = _as_before(last.get(group, _Part()), before)
        mixed += now.owed * seen_share * rate
        covered += now.seen * rate
        rates[group] = now.active - now.seen * rate
    changes += [("mix", None, mixed - reached), ("coverage", None, covered - mixed), *_largest(rates)]
    return _framed(before.active, _rounded(before.active, changes), after.active)


def _as_before(part: _Part, whole: _Part) -> tuple[Fraction, Fraction]:
    """Give the share seen and the share active of a group in the week before, or those of all GPUs."""
    model = part if part.owed else whole
    rated = part if part.seen else whole
    rate = Fraction(rated.active, rated.seen) if rated.seen else Fraction(0)
    return Fraction(model.seen, model.owed), rate


def _largest(rates: Mapping[Group, Fraction]) -> list[_Change]:
    """Name the groups whose rate moved most; the others together have no name."""
    order = sorted((group for group in rates if rates[group]), key=lambda group: (-abs(rates[group]), group))
    named = order if len(order) <= MOST_GROUPS + 1 else order[:MOST_GROUPS]
    steps: list[_Change] = [("rate", group, rates[group]) for group in named]
    if len(named) < len(order):
        steps.append(("rate", None, sum((rates[group] for group in order[len(named) :]), Fraction(0))))
    return steps


def _rounded(start_ms: int, changes: Iterable[_Change]) -> list[Step]:
    """Round what is reached, and not the steps: so they add up."""
    steps, reached, stands_ms = [], Fraction(start_ms), start_ms
    for kind, group, change in changes:
        reached += change
        steps.append(Step(kind=kind, group=group, gpu_ms=round(reached) - stands_ms))
        stands_ms = round(reached)
    return steps


def _framed(last_ms: int, steps: Iterable[Step], this_ms: int) -> tuple[Step, ...]:
    first, end = (
        Step(kind="last", group=None, gpu_ms=last_ms),
        Step(kind="this", group=None, gpu_ms=this_ms),
    )
    return (first, *steps, end)
