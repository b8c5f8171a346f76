"""Looks at the accounts in a store as seldom as will do, and makes courses of them.

GPUs that are there at both edges of a window are asked for at the edges only. The others (they came, left,
moved, were silent, or their accounts began anew) are looked at by the hour: by the minute where accounts
began anew, and by the quarter of a day where they are silent since long before the window.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.errors import StoreError
from agent.tally import DAY_MS, HOUR_MS
from reports.sources.course import Course, Look
from reports.sources.ledger import Account, Ledger, Looks, Quantity, Seat

BACK_MS = 15 * 60_000
"""A value counts for so long; agents tell accounts at least every two minutes."""
AROUND_MS = 24 * HOUR_MS
"""How far before and behind a window a silent GPU is looked for, hour by hour."""
LONG_BEFORE_MS = 35 * DAY_MS
"""How far before it in longer steps."""
STRIDE_MS = 6 * HOUR_MS
MINUTE_MS = 60_000
SOON_MS = MINUTE_MS
"""Where a look comes too late for an edge, there is another so long after it; no window ends later."""
MOST_AT_ONCE = 200
"""GPUs that are looked at by the hour at once."""
MOST = 1e15
"""No account of a GPU has so many seconds or joules."""
_QUANTITIES: tuple[Quantity, ...] = ("seconds", "joules", "busy_seconds")
Courses = dict[Seat, Course]


def courses_of(
    ledger: Ledger,
    edges: Sequence[int],
    known: Iterable[Seat],
    *,
    now_ms: int,
    share: Callable[[float], None] = lambda _: None,
) -> Courses:
    """Give the courses of all GPUs from the first edge to the last. Raises StoreError.

    The edges between are where prices change.
    """
    courses, odd = _at_edges(ledger, edges, known, now_ms)
    for first in range(0, len(odd), MOST_AT_ONCE):
        share(first / len(odd))
        courses |= _by_the_hour(ledger, odd[first : first + MOST_AT_ONCE], edges, now_ms)
    return courses


def _at_edges(
    ledger: Ledger, edges: Sequence[int], known: Iterable[Seat], now_ms: int
) -> tuple[Courses, list[Seat]]:
    """Give the courses of GPUs that are seen at both edges, and those that must be looked at more closely.

    Near edges between there is one look more, shortly after, since the one at the edge may tell of an
    interval before it. Where a window ends just now, nobody can look behind it: it may end a little earlier.
    """
    looks: defaultdict[Seat, list[Look]] = defaultdict(list)
    soon = [at_ms + SOON_MS for at_ms in edges[1:-1]]
    for at_ms in sorted({*edges, *soon}):
        _take(looks, _looks(ledger, [at_ms], None))
    first_ms = edges[0]
    made = {seat: Course(found, first_ms) for seat, found in looks.items()}
    for after_ms in (SOON_MS, BACK_MS):
        late = [seat for seat, found in looks.items() if not _reaches(made[seat], found, edges)]
        if late and edges[-1] + after_ms <= now_ms:
            for at_ms in (first_ms, edges[-1]):
                more = _looks(ledger, [at_ms + after_ms], late if len(late) <= MOST_AT_ONCE else None)
                _take(looks, more)
                made |= {seat: Course(looks[seat], first_ms) for seat in more}
    if edges[-1] + BACK_MS > now_ms:
        edges = (*edges[:-1], edges[-1] - BACK_MS)
    times = Counter(seat.uuid for seat in looks.keys() | set(known))
    courses = {
        seat: made[seat]
        for seat, found in looks.items()
        if _reaches(made[seat], found, edges) and made[seat].is_whole and times[seat.uuid] == 1
    }
    new = {seat: course for seat, course in courses.items() if course.enrolled_ms > edges[0]}
    for seat in _known_before(ledger, new, edges):
        del courses[seat]  # it is not new: its journal is
    return courses, sorted((looks.keys() | set(known)) - courses.keys())


def _known_before(ledger: Ledger, new: Mapping[Seat, Course], edges: Sequence[int]) -> set[Seat]:
    """Name GPUs that had accounts before they were enrolled in a window: before it, or within."""
    if not new:
        return set()
    found = set(new).intersection(ledger.seats(edges[0] - LONG_BEFORE_MS, edges[0]))
    left = sorted(new.keys() - found)
    moments = range(edges[0], edges[-1], STRIDE_MS)
    for first in range(0, len(left), MOST_AT_ONCE):
        told = ledger.looks("seconds", moments, BACK_MS, left[first : first + MOST_AT_ONCE])
        for seat in told.keys() & new.keys():
            times = (at_ms for samples in told[seat].values() for at_ms, value in samples if value)
            if min(times, default=edges[-1]) < new[seat].enrolled_ms - BACK_MS:
                found.add(seat)
    return found


def _take(looks: dict[Seat, list[Look]], more: Mapping[Seat, Sequence[Look]]) -> None:
    for seat, found in more.items():
        looks[seat] = sorted([*looks[seat], *found], key=lambda look: look.end_ms)


def _reaches(course: Course, looks: Sequence[Look], edges: Sequence[int]) -> bool:
    """Tell whether a course reaches from the first edge, or from when the GPU was enrolled, to the last.

    Of its looks there must be one near each edge between.
    """
    if course.begin_ms > max(edges[0], course.enrolled_ms) or course.end_ms < edges[-1]:
        return False
    between = (at_ms for at_ms in edges[1:-1] if at_ms > course.enrolled_ms)
    return all(any(abs(look.end_ms - at_ms) <= BACK_MS for look in looks) for at_ms in between)


def _by_the_hour(ledger: Ledger, seats: Sequence[Seat], edges: Sequence[int], now_ms: int) -> Courses:
    """Look at some GPUs at each hour of a time and at its edges, and in the day before and behind it."""
    first_ms = (edges[0] - AROUND_MS) // HOUR_MS * HOUR_MS
    last_ms = min(edges[-1] + AROUND_MS, now_ms)
    hours = range(first_ms, last_ms + 1, HOUR_MS)
    looks: defaultdict[Seat, list[Look]] = defaultdict(list)
    _take(looks, _looks(ledger, hours, seats))
    for at_ms in sorted({last_ms, edges[0], edges[-1]}.difference(hours)):
        _take(looks, _looks(ledger, [at_ms], seats))
    for at_ms, several in _breaks(looks, first_ms).items():
        _take(looks, _looks(ledger, range(at_ms, at_ms + HOUR_MS + BACK_MS, MINUTE_MS), several))
    courses = {seat: Course(found, first_ms) for seat, found in looks.items()}
    silent = [seat for seat, one in courses.items() if one.begin_ms > edges[0]]
    before_ms = first_ms - LONG_BEFORE_MS
    before = _long_before(ledger, silent, before_ms, first_ms) if silent else {}
    _take(looks, before)
    return courses | {seat: Course(looks[seat], before_ms) for seat in before}


def _breaks(looks: Mapping[Seat, Sequence[Look]], first_ms: int) -> dict[int, list[Seat]]:
    """Tell when accounts were seen last before they began anew, and of whom."""
    found: defaultdict[int, list[Seat]] = defaultdict(list)
    for seat, several in looks.items():
        for at_ms in Course(several, first_ms).breaks:
            found[at_ms].append(seat)
    return found


def _long_before(ledger: Ledger, seats: Sequence[Seat], from_ms: int, to_ms: int) -> dict[Seat, list[Look]]:
    """Find when GPUs that are silent as a time begins were seen last, to the hour."""
    latest = {
        seat: found[-1]
        for seat, found in _looks(ledger, range(from_ms, to_ms, STRIDE_MS), seats, BACK_MS).items()
    }
    by_moment: defaultdict[int, list[Seat]] = defaultdict(list)
    for seat, look in latest.items():
        by_moment[(look.end_ms - from_ms) // STRIDE_MS].append(seat)
    found: dict[Seat, list[Look]] = {seat: [look] for seat, look in latest.items()}
    for place, several in by_moment.items():
        first_ms = from_ms + place * STRIDE_MS
        hours = range(first_ms, first_ms + 2 * STRIDE_MS, HOUR_MS)
        _take(found, _looks(ledger, hours, several))
    return found


def _looks(
    ledger: Ledger, moments: Sequence[int], seats: Sequence[Seat] | None, back_ms: int | None = None
) -> dict[Seat, list[Look]]:
    """Look at all accounts of GPUs at some moments; what is not told at one is left out."""
    if back_ms is None:
        back_ms = BACK_MS if len(moments) == 1 else moments[1] - moments[0] + BACK_MS
    ends = ledger.ends(moments, back_ms)
    told = {one: ledger.looks(one, moments, back_ms, seats) for one in _QUANTITIES}
    chosen = None if seats is None else frozenset(seats)
    found: dict[Seat, list[Look]] = {}
    for seat in told["seconds"]:
        if chosen is not None and seat not in chosen:
            continue
        seconds, joules, busy = (_by_moment(ledger.name, told[one], seat) for one in _QUANTITIES)
        end_of = ends.get(seat.node, {})
        found[seat] = [
            Look(min(at_ms, end_of.get(at_ms, at_ms)), figures, joules.get(at_ms, {}), busy.get(at_ms, {}))
            for at_ms, figures in sorted(seconds.items())
            if any(figures.values())  # they are written as 0 before the GPU is there
        ]
    return {seat: looks for seat, looks in found.items() if looks}


def _by_moment(name: str, looks: Looks, seat: Seat) -> dict[int, dict[Account, float]]:
    found: dict[int, dict[Account, float]] = {}
    for account, samples in looks.get(seat, {}).items():
        for at_ms, value in samples:
            if not 0 <= value <= MOST:
                raise StoreError(f"{name} tells an account of {seat.uuid!r} that nobody can have: {value:g}")
            found.setdefault(at_ms, {})[account] = value
    return found
