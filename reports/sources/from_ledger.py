"""Gathers a report from the accounts in a store, as gathered.py does from journals.

How its accounts are looked at is in looking.py. A GPU that fell silent while its node went on has
left; one that fell silent with its node is owed to the end, as unknown.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from agent.errors import ReportError
from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.facts import Life
from reports.sources.course import Course
from reports.sources.gathered import Gathered, together
from reports.sources.identity import Violation
from reports.sources.ledger import Account, Known, Ledger, Seat
from reports.sources.looking import AROUND_MS, SOON_MS, Courses, courses_of
from reports.sums import AccountSum, Amounts, Identity, Stretch, parts_of
from reports.window import Span, Window, rfc3339

LEFT_MS = 10 * 60_000
"""A GPU that is silent for so long while its node is not has left."""
_UNSEEN = (State.UNKNOWN, State.DOWN, State.DRAINED)


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
    cuts: tuple[int, ...]


def gather_from(
    ledger: Ledger,
    window: Window,
    *,
    now_ms: int,
    share: Callable[[float], None] = lambda _: None,
    cuts: Sequence[int] = (),
) -> Drawn:
    """Read what a store has of a window, in parts from cut to cut: there prices change.

    Raises ReportError where it has nothing of it, StoreError.
    """
    until_ms = min(window.to_ms, now_ms - SOON_MS)
    if window.from_ms >= until_ms:
        raise ReportError("the window lies in the future: give one that has begun")
    known = ledger.seats(window.from_ms, min(until_ms + AROUND_MS, now_ms))
    first_ms = ledger.first(window.from_ms, until_ms)
    edges = first_ms, *(at_ms for at_ms in cuts if first_ms < at_ms < until_ms), until_ms
    told = courses_of(ledger, edges, known, now_ms=now_ms, share=share)
    begins = [one.begin_ms for one in told.values() if one.stays_within(window.from_ms, until_ms)]
    first_ms = max(window.from_ms, min(begins, default=until_ms))
    last_ms = min(until_ms, max((one.end_ms for one in told.values()), default=first_ms))
    courses = {seat: one for seat, one in told.items() if one.stays_within(first_ms, last_ms)}
    if not courses:
        raise ReportError(_nothing(ledger, window))
    part = replace(window, from_ms=first_ms, to_ms=last_ms)
    source = _Source(ledger.name, known, part, ledger.sliced(first_ms, last_ms), tuple(cuts))
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


def _of_node(source: _Source, node: str, courses: Courses, findings: Sequence[Finding]) -> Gathered:
    """Account for the GPUs of one node."""
    known, window = source.known, source.window
    rows: list[AccountSum] = []
    stretches: list[Stretch] = []
    violations: list[Violation] = []
    staying = []
    end_ms = max(course.end_ms for course in courses.values())
    for seat, course in sorted(courses.items()):
        stays = course.stays_within(window.from_ms, window.to_ms)
        position = known[seat].position if seat in known else 0
        stretches += [Stretch(seat.uuid, node, position, *stay) for stay in stays]
        start_ms, stop_ms = stays[0][0], stays[-1][1]
        seen_ratio = 1 - source.sliced.get(seat.uuid, 0.0)
        entered = []
        for since_ms, part in parts_of(replace(window, from_ms=start_ms, to_ms=stop_ms), source.cuts):
            entered += _rows(seat, course, since_ms, part, seen_ratio)
        rows += entered
        entered_ms = sum(row.amounts.elapsed_ms for row in entered)
        owed_ms = sum(stop - start for start, stop in stays)
        if entered_ms != owed_ms:
            violations.append(Violation(seat.uuid, start_ms, owed_ms, entered_ms))
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
        cuts=source.cuts,
    )


def _rows(seat: Seat, course: Course, since_ms: int, part: Window, seen_ratio: float) -> list[AccountSum]:
    """Make the accounts of a GPU over a part of a window.

    Stores have busy time by owner, not by state: it is entered as active, if the owner was. Energy counts as
    seen if the GPU tells any. `seen_ratio` is for how much of the time it tells how busy it is.
    """
    grown = course.growth(part.from_ms, part.to_ms)
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
        AccountSum(seat.uuid, seat.node, account.state or State.UNKNOWN, account.owner, amounts, since_ms)
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
