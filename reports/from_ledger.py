"""Gathers a report from the accounts in a store, as reports/gathered.py does from journals.

GPUs that are there at both edges of the window are asked for at the edges only. The others (they came, left,
moved, were silent, or their accounts began anew) are looked at by the hour. A GPU that fell silent while its
node went on has left; one that fell silent with its node is owed to the end, as unknown.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from agent.errors import ReportError
from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.course import Course, Look
from reports.facts import Life
from reports.gathered import Gathered, together
from reports.identity import Violation
from reports.ledger import Account, Known, Ledger, Looks, Quantity, Seat
from reports.sums import AccountSum, Amounts, Identity, Stretch
from reports.window import Span, Window, rfc3339

BACK_MS = 15 * 60_000
"""A value counts for so long; agents tell accounts at least every two minutes."""
AROUND_MS = 24 * HOUR_MS
"""How far before and behind a window a silent GPU is looked for."""
AFTER_MS = (60_000, BACK_MS)
"""Where a look comes too late for an edge, so long after it there is another."""
LEFT_MS = 10 * 60_000
"""A GPU that is silent for so long while its node is not has left."""
MOST_AT_ONCE = 200
"""GPUs that are looked at by the hour at once."""
_UNSEEN = (State.UNKNOWN, State.DOWN, State.DRAINED)
_QUANTITIES: tuple[Quantity, ...] = ("seconds", "joules", "busy_seconds")
Courses = dict[Seat, Course]


class Drawn(NamedTuple):
    """What a store has of a window: accounts, of whom they are, and the lives of GPUs as far as told."""

    gathered: Gathered
    known: Mapping[Seat, Known]
    lives: Mapping[str, Life]


class _Source(NamedTuple):
    """What the accounts of a node are made from."""

    name: str
    known: Mapping[Seat, Known]
    window: Window
    sliced: Mapping[str, float]


def gather_from(
    ledger: Ledger, window: Window, *, now_ms: int, share: Callable[[float], None] = lambda _: None
) -> Drawn:
    """Read what a store has of a window. Raises ReportError where it has nothing of it, StoreError."""
    until_ms = min(window.to_ms, now_ms - AFTER_MS[0])
    if window.from_ms >= until_ms:
        raise ReportError("the window lies in the future: give one that has begun")
    known = ledger.seats(window.from_ms, until_ms)
    edges = ledger.first(window.from_ms, until_ms), until_ms
    courses, odd = _at_edges(ledger, edges, known, now_ms)
    for first in range(0, len(odd), MOST_AT_ONCE):
        share(first / len(odd))
        courses |= _by_the_hour(ledger, odd[first : first + MOST_AT_ONCE], edges, now_ms)
    courses = {
        seat: one for seat, one in courses.items() if one.begin_ms < until_ms and one.end_ms > window.from_ms
    }
    if not courses:
        raise ReportError(_nothing(ledger, window))
    first_ms = max(window.from_ms, min(one.begin_ms for one in courses.values()))
    last_ms = min(until_ms, max(one.end_ms for one in courses.values()))
    part = replace(window, from_ms=first_ms, to_ms=last_ms)
    source = _Source(ledger.name, known, part, ledger.sliced(first_ms, last_ms))
    findings: defaultdict[str, list[Finding]] = defaultdict(list)
    for one in ledger.findings(part):
        findings[one.node].append(one)
    by_node: defaultdict[str, Courses] = defaultdict(dict)
    for seat, course in courses.items():
        by_node[seat.node][seat] = course
    nodes = [_of_node(source, node, by_node[node], findings.get(node, ())) for node in sorted(by_node)]
    return Drawn(together(nodes, 0), known, _lives(courses))


def _lives(courses: Courses) -> dict[str, Life]:
    """Add up the lives of each GPU in all nodes where it was in the window."""
    found: dict[str, Life] = {}
    for seat, course in courses.items():
        before = found.get(seat.uuid, Life(0, 0, 0))
        seconds = dict.fromkeys(State, 0.0)
        for account, value in course.latest.items():
            seconds[account.state or State.UNKNOWN] += value
        seen = sum(value for state, value in seconds.items() if state not in (State.UNKNOWN, State.DOWN))
        found[seat.uuid] = Life(
            max(before.until_ms, course.end_ms),
            before.seen_ms + round(seen * 1000),
            before.active_ms + round(seconds[State.ACTIVE] * 1000),
        )
    return found


def _nothing(ledger: Ledger, window: Window) -> str:
    return (
        f"{ledger.name} holds no accounts (gpu_tally_seconds_total) of {rfc3339(window.from_ms)} to "
        f"{rfc3339(window.to_ms)}: is it the store that agents write to? For fleets without agents of "
        "gputally there is --schema"
    )


def _at_edges(
    ledger: Ledger, edges: tuple[int, int], known: Iterable[Seat], now_ms: int
) -> tuple[Courses, list[Seat]]:
    """Give the courses of GPUs that are seen at both edges, and those that must be looked at more closely."""
    looks: defaultdict[Seat, list[Look]] = defaultdict(list)
    for at_ms in edges:
        _take(looks, _looks(ledger, [at_ms], None))
    for after_ms in AFTER_MS:
        late = [seat for seat, found in looks.items() if not _reaches(found, edges)]
        if late and edges[-1] + after_ms <= now_ms:
            for at_ms in edges:
                _take(looks, _looks(ledger, [at_ms + after_ms], late if len(late) <= MOST_AT_ONCE else None))
    times = Counter(seat.uuid for seat in looks.keys() | set(known))
    courses: Courses = {}
    for seat, found in looks.items():
        course = Course(found, edges[0])
        if _reaches(found, edges) and course.is_whole and times[seat.uuid] == 1:
            courses[seat] = course
    return courses, sorted((looks.keys() | set(known)) - courses.keys())


def _take(looks: dict[Seat, list[Look]], more: Mapping[Seat, Sequence[Look]]) -> None:
    for seat, found in more.items():
        looks[seat] = sorted([*looks[seat], *found], key=lambda look: look.end_ms)


def _reaches(looks: Sequence[Look], edges: tuple[int, int]) -> bool:
    """Tell whether looks reach from the first edge, or from when the GPU was enrolled, to the last."""
    course = Course(looks, edges[0])
    return course.begin_ms <= max(edges[0], course.enrolled_ms) and course.end_ms >= edges[-1]


def _by_the_hour(ledger: Ledger, seats: Sequence[Seat], edges: tuple[int, int], now_ms: int) -> Courses:
    """Look at some GPUs at each hour of a time, and of the day before and behind it."""
    first_ms = (edges[0] - AROUND_MS) // HOUR_MS * HOUR_MS
    last_ms = min(edges[-1] + AROUND_MS, now_ms)
    hours = range(first_ms, last_ms + 1, HOUR_MS)
    looks: defaultdict[Seat, list[Look]] = defaultdict(list)
    _take(looks, _looks(ledger, hours, seats))
    if last_ms != hours[-1]:
        _take(looks, _looks(ledger, [last_ms], seats))
    return {seat: Course(found, first_ms) for seat, found in looks.items()}


def _looks(ledger: Ledger, moments: Sequence[int], seats: Sequence[Seat] | None) -> dict[Seat, list[Look]]:
    """Look at all accounts of GPUs at some moments; what is not told at one is left out."""
    back_ms = BACK_MS if len(moments) == 1 else moments[1] - moments[0] + BACK_MS
    ends = ledger.ends(moments, back_ms)
    told = {one: ledger.looks(one, moments, back_ms, seats) for one in _QUANTITIES}
    chosen = None if seats is None else frozenset(seats)
    found: dict[Seat, list[Look]] = {}
    for seat in told["seconds"]:
        if chosen is not None and seat not in chosen:
            continue
        seconds, joules, busy = (_by_moment(told[one], seat) for one in _QUANTITIES)
        end_of = ends.get(seat.node, {})
        found[seat] = [
            Look(min(at_ms, end_of.get(at_ms, at_ms)), figures, joules.get(at_ms, {}), busy.get(at_ms, {}))
            for at_ms, figures in sorted(seconds.items())
            if any(figures.values())  # they are written as 0 before the GPU is there
        ]
    return {seat: looks for seat, looks in found.items() if looks}


def _by_moment(looks: Looks, seat: Seat) -> dict[int, dict[Account, float]]:
    found: dict[int, dict[Account, float]] = {}
    for account, samples in looks.get(seat, {}).items():
        for at_ms, value in samples:
            found.setdefault(at_ms, {})[account] = value
    return found


def _of_node(source: _Source, node: str, courses: Courses, findings: Sequence[Finding]) -> Gathered:
    """Account for the GPUs of one node."""
    known, window = source.known, source.window
    rows: list[AccountSum] = []
    stretches: list[Stretch] = []
    violations: list[Violation] = []
    staying = []
    end_ms = max(course.end_ms for course in courses.values())
    for seat, course in sorted(courses.items()):
        start_ms, stop_ms = max(window.from_ms, course.enrolled_ms), min(window.to_ms, course.end_ms)
        position = known[seat].position if seat in known else 0
        stretches.append(Stretch(seat.uuid, node, position, start_ms, stop_ms))
        entered = _rows(seat, course, start_ms, stop_ms, 1 - source.sliced.get(seat.uuid, 0.0))
        rows += entered
        entered_ms = sum(row.amounts.elapsed_ms for row in entered)
        if entered_ms != stop_ms - start_ms:
            violations.append(Violation(seat.uuid, start_ms, stop_ms - start_ms, entered_ms))
        if course.end_ms > end_ms - LEFT_MS:
            staying.append(seat.uuid)
    return Gathered(
        covered=replace(
            window, from_ms=min(one.start_ms for one in stretches), to_ms=min(window.to_ms, end_ms)
        ),
        span=Span(first_ms=window.from_ms, last_ms=window.to_ms, enrolled_ms=window.from_ms),
        rows=rows,
        stretches=stretches,
        violations=violations,
        identities={
            seat.uuid: Identity(known[seat].model, known[seat].serial) if seat in known else Identity("", "")
            for seat in courses
        },
        longest_spells={},
        spells=(),
        findings=findings,
        staying=frozenset(staying),
        unseen=lambda uuid: _unseen(courses[Seat(uuid, node)], window),
        name=f"{source.name} (node {node})",
    )


def _rows(seat: Seat, course: Course, from_ms: int, to_ms: int, seen_ratio: float) -> list[AccountSum]:
    """Make the accounts of a GPU over a time.

    Stores have busy time by owner, not by state: it is entered as active, if the owner was. Energy counts as
    seen if the GPU tells any. `seen_ratio` is for how much of the time it tells how busy it is.
    """
    grown = course.growth(from_ms, to_ms)
    by_account: dict[Account, Amounts] = {}
    sees_energy = any(grown.energy_mj.values())
    for account, elapsed_ms in grown.elapsed_ms.items():
        seen_ms = 0 if account.state in _UNSEEN else elapsed_ms
        by_account[account] = Amounts(
            elapsed_ms=elapsed_ms,
            busy_seen_ms=round(seen_ms * seen_ratio),
            energy_mj=grown.energy_mj.get(account, 0),
            energy_seen_ms=seen_ms if sees_energy else 0,
        )
    for owner, busy_us in grown.busy_us.items():
        of_owner = [account for account in by_account if account.owner == owner]
        if busy_us and of_owner:
            largest = max(of_owner, key=lambda one: (one.state is State.ACTIVE, by_account[one].busy_seen_ms))
            by_account[largest] = replace(by_account[largest], busy_us=busy_us)
    return [
        AccountSum(seat.uuid, seat.node, account.state or State.UNKNOWN, account.owner, amounts)
        for account, amounts in sorted(
            by_account.items(), key=lambda pair: (str(pair[0].state), pair[0].owner)
        )
    ]


def _unseen(course: Course, window: Window) -> dict[int, dict[State, int]]:
    """Tell by hour how long a GPU was not seen, by state."""
    found: dict[int, dict[State, int]] = {}
    start_ms, stop_ms = max(window.from_ms, course.enrolled_ms), min(window.to_ms, course.end_ms)
    edges = [start_ms, *range((start_ms // HOUR_MS + 1) * HOUR_MS, stop_ms, HOUR_MS), stop_ms]
    for first_ms, last_ms in pairwise(edges):
        hour = found.setdefault(first_ms // HOUR_MS * HOUR_MS, {})
        for account, elapsed_ms in course.growth(first_ms, last_ms).elapsed_ms.items():
            if account.state in _UNSEEN:
                hour[account.state] = hour.get(account.state, 0) + elapsed_ms
    return found
