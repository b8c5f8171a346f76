"""Looks at the accounts of a GPU in a node, in segments within which they only grow, second by second.

Three things break that clock. A journal was lost: all accounts begin anew, and what lies between is unknown.
A GPU left the node and returned: nobody owes the time between. An owner was silent for so long that its
account left the page, and comes back with all that it ever had: it is entered in the looks before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.tally import DAY_MS, HOUR_MS
from reports.sources.ledger import Account

SHRUNK = 0.5
"""An account that is less than before by more than that, in its unit, begins anew."""
STALE_MS = 2 * HOUR_MS
"""No look is late by so much: what the accounts lack then is time that was not entered."""
SILENT_MS = 30 * DAY_MS
"""An owner's account that grew so lately is told, unless its journal was lost."""
TOO_MUCH_MS = 15 * 60_000
"""Accounts that grow by so much more than time passed have been away."""
Figures = Mapping[Account, float]


class Look(NamedTuple):
    """Accounts as they stood: seconds, joules, busy seconds. `end_ms` is up to when, at the latest."""

    end_ms: int
    seconds: Figures
    joules: Figures
    busy: Figures


@dataclass(slots=True)
class Segment:
    """Looks between which nothing broke the clock. `zero_ms` is when all accounts would have been 0.

    `returned` is how they stood when the GPU returned to the node, where the segment begins with that;
    `grown` is when accounts grew last.
    """

    looks: list[Look] = field(default_factory=list)
    zero_ms: float = 0.0
    returned: Look | None = None
    grown: dict[Account, int] = field(default_factory=dict)

    def clock_ms(self, look: Look) -> int:
        """Tell up to when the GPU was accounted for at a look."""
        return round(self.zero_ms + _sum_ms(look.seconds))


def segments_of(looks: Iterable[Look]) -> Sequence[Segment]:
    """Cut looks, in order of time, where the clock broke; a look that tells nothing new is left out."""
    now = Segment()
    found = [now]
    stale: dict[Account, float] = {}
    gone: Segment | None = None
    for look in looks:
        if now.looks and _began_anew(now, look):
            gone, stale, now = now, {}, Segment()
            found.append(now)
        if gone and look.end_ms - gone.looks[-1].end_ms <= STALE_MS:
            own = now.looks[-1].seconds if now.looks else {}
            stale |= {one: value for one, value in _stale(look, gone).items() if one not in own}
        fresh = _without(look, stale)
        if now.looks:
            before = now.looks[-1]
            fresh = _with_silent(before, fresh)
            if fresh.seconds == before.seconds:
                continue
            before = _amended(now, fresh)
            if fresh.end_ms - _sum_ms(fresh.seconds) > now.zero_ms + STALE_MS:
                now = Segment(returned=before, grown=now.grown)
                found.append(now)
            for one, value in fresh.seconds.items():
                if value > before.seconds.get(one, 0.0):
                    now.grown[one] = fresh.end_ms
        _append(now, fresh)
    return found


def _append(segment: Segment, look: Look) -> None:
    zero_ms = look.end_ms - _sum_ms(look.seconds)
    is_first = not segment.looks
    segment.zero_ms = zero_ms if is_first else min(segment.zero_ms, zero_ms)
    segment.looks.append(look)


def _sum_ms(figures: Figures) -> float:
    return sum(figures.values()) * 1000


def _began_anew(segment: Segment, look: Look) -> bool:
    before = segment.looks[-1].seconds
    if any(look.seconds.get(account, value) < value - SHRUNK for account, value in before.items()):
        return True
    return any(
        account not in look.seconds and look.end_ms - at_ms < SILENT_MS
        for account, at_ms in segment.grown.items()
    )


def _stale(look: Look, gone: Segment) -> dict[Account, float]:
    """Tell what a store goes on telling of owners in a journal that was lost, at a look soon after that.

    It has not grown, or is more than the new journal can have. Where all accounts are older, a copy of the
    journal was put back, and none is stale.
    """
    last = gone.looks[-1]
    most = (look.end_ms - gone.clock_ms(last) + TOO_MUCH_MS) / 1000
    if sum(value for one, value in look.seconds.items() if not one.owner) > most:
        return {}
    return {
        one: value
        for one, value in look.seconds.items()
        if one.owner and (value > most or 0 < value == last.seconds.get(one))
    }


def _without(look: Look, stale: Mapping[Account, float]) -> Look:
    """Leave out what is stale, as long as it stands as it stood."""
    if not stale:
        return look
    kept = {one: value for one, value in look.seconds.items() if stale.get(one) != value}
    owners = {one.owner for one in kept}
    return Look(
        look.end_ms,
        kept,
        {one: value for one, value in look.joules.items() if one in kept},
        {one: value for one, value in look.busy.items() if one.owner in owners},
    )


def _with_silent(before: Look, look: Look) -> Look:
    """Add accounts that left the page, since their owners are silent: they stand as they stood."""
    return Look(
        look.end_ms,
        {**before.seconds, **look.seconds},
        {**before.joules, **look.joules},
        {**before.busy, **look.busy},
    )


def _amended(segment: Segment, look: Look) -> Look:
    """Enter accounts that came back in all looks before, as they stood then; give the last of these."""
    before = segment.looks[-1]
    passed_ms = look.end_ms - segment.clock_ms(before)
    too_much = (_sum_ms(look.seconds) - _sum_ms(before.seconds) - passed_ms) / 1000
    if too_much * 1000 <= TOO_MUCH_MS:
        return before
    new = {one: value for one, value in look.seconds.items() if one not in before.seconds}
    old: dict[Account, float] = {}
    for one, value in sorted(new.items(), key=lambda pair: -pair[1]):
        old[one] = min(value, too_much)
        too_much -= old[one]
    old = {one: value for one, value in old.items() if value}
    joules = {one: look.joules[one] * old[one] / new[one] for one in old if one in look.joules}
    busy = {}
    for one, value in look.busy.items():
        shares = [old.get(each, 0.0) / new[each] for each in new if each.owner == one.owner and new[each]]
        if shares and one not in before.busy:
            busy[one] = value * max(shares)
    segment.looks[:] = [
        Look(one.end_ms, {**old, **one.seconds}, {**joules, **one.joules}, {**busy, **one.busy})
        for one in segment.looks
    ]
    segment.zero_ms -= sum(old.values()) * 1000
    return segment.looks[-1]
