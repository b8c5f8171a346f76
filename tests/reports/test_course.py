"""The course of accounts: what is told of a time is all of it, once, and as true as the looks allow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.tick import State
from reports.sources.course import Course, Growth, Look
from reports.sources.ledger import Account
from reports.sources.segments import SHRUNK, TOO_MUCH_MS

ENROLLED_MS = 1_794_787_200_123
"""Some moment of no whole second."""
LATEST_MS = 60_000
DAY_MS = 86_400_000
FREE = Account(State.FREE, "")
UNKNOWN = Account(State.UNKNOWN, "")
WORK = Account(State.ACTIVE, "vision")
IDLE = Account(State.HELD_IDLE, "vision")
OTHER = Account(State.ACTIVE, 'nlp"\n')
BUSY = Account(None, "vision")
ACCOUNTS = (FREE, UNKNOWN, WORK, IDLE, OTHER)
Elapsed = Counter[Account]


class Lived(NamedTuple):
    """A true history: accounts, each with how many seconds, one after the other since `since_ms`."""

    since_ms: int
    pieces: Sequence[tuple[Account, int]]

    @property
    def end_ms(self) -> int:
        """When it ends."""
        return self.since_ms + sum(seconds for _, seconds in self.pieces) * 1000

    def upto(self, at_ms: int) -> Elapsed:
        """Tell the ms in each account up to a moment."""
        found: Elapsed = Counter()
        start_ms = self.since_ms
        for account, seconds in self.pieces:
            found[account] += max(0, min(seconds * 1000, at_ms - start_ms))
            start_ms += seconds * 1000
        return +found

    def between(self, from_ms: int, to_ms: int) -> Elapsed:
        """Tell the ms in each account in a time."""
        found = self.upto(to_ms)
        found.subtract(self.upto(from_ms))
        return +found


def seconds_of(elapsed: Mapping[Account, int]) -> dict[Account, float]:
    """Write ms as stores have them; accounts that nobody owns are there from the beginning."""
    return {FREE: 0.0, UNKNOWN: 0.0} | {account: ms / 1000 for account, ms in elapsed.items()}


def look(lived: Lived, at_ms: int, late_ms: int = 0, *, told: bool = False) -> Look:
    """Look at a moment at accounts that are late; if it is told, up to when they are."""
    return Look(at_ms - late_ms if told else at_ms, seconds_of(lived.upto(at_ms - late_ms)), {}, {})


def differences(one: Mapping[Account, int], other: Mapping[Account, int]) -> int:
    """Tell by how much two accounts of the same time differ: what is in the wrong place, in ms."""
    both = one.keys() | other.keys()
    return max((abs(one.get(account, 0) - other.get(account, 0)) for account in both), default=0)


def whole(growth: Growth) -> int:
    """Sum up, after a look at the signs."""
    assert all(part > 0 for part in growth.elapsed_ms.values()), growth
    assert all(part >= 0 for part in (*growth.energy_mj.values(), *growth.busy_us.values())), growth
    return sum(growth.elapsed_ms.values())


PIECES = st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.integers(1, 5_000)), min_size=1, max_size=12)


@st.composite
def histories(draw: st.DrawFn) -> Lived:
    """Draw a history of up to 16 hours."""
    return Lived(ENROLLED_MS, draw(PIECES))


@st.composite
def moments(draw: st.DrawFn, from_ms: int, to_ms: int, least: int = 2) -> list[int]:
    """Draw some moments of a time, in order."""
    times = st.integers(from_ms, to_ms)
    return sorted(draw(st.lists(times, min_size=least, max_size=12, unique=True)))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lived=histories())
def test_any_window_is_told_whole_and_what_is_looked_at_is_told_exactly(
    data: st.DataObject, lived: Lived
) -> None:
    """Looks that say up to when they tell: the sum is the time to the ms, and the truth at their edges."""
    times = data.draw(moments(lived.since_ms + 1, lived.end_ms))
    course = Course([look(lived, at_ms) for at_ms in times], lived.since_ms - DAY_MS)
    assert (course.enrolled_ms, course.begin_ms, course.end_ms) == (lived.since_ms, lived.since_ms, times[-1])
    assert course.is_whole
    assert course.stays == ((lived.since_ms, times[-1]),)
    edges = [lived.since_ms, *times]
    one, other = sorted(data.draw(st.lists(st.sampled_from(edges), min_size=2, max_size=2)))
    assert course.growth(one, other).elapsed_ms == lived.between(one, other)
    start_ms, end_ms = sorted(data.draw(st.tuples(*[st.integers(lived.since_ms - 9_000, times[-1])] * 2)))
    grown = course.growth(start_ms, end_ms)
    assert whole(grown) == max(0, end_ms - max(start_ms, lived.since_ms))
    brackets = [last - first for first, last in pairwise(edges) if first < end_ms and last > start_ms]
    assert differences(grown.elapsed_ms, lived.between(start_ms, end_ms)) <= sum(brackets[:1] + brackets[-1:])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lived=histories())
def test_parts_of_a_time_add_up_to_it(data: st.DataObject, lived: Lived) -> None:
    """Account by account, wherever it is cut; so hours, weeks and changes of prices agree."""
    times = data.draw(moments(lived.since_ms + 1, lived.end_ms))
    looks = [
        Look(
            one.end_ms,
            one.seconds,
            {WORK: one.seconds.get(WORK, 0) * 611.3},
            {BUSY: one.seconds.get(WORK, 0)},
        )
        for one in (look(lived, at_ms) for at_ms in times)
    ]
    course = Course(looks, lived.since_ms)
    cuts = data.draw(moments(lived.since_ms, times[-1], least=3))
    parts = [course.growth(one, other) for one, other in pairwise(cuts)]
    of_all = course.growth(cuts[0], cuts[-1])
    for name in ("elapsed_ms", "energy_mj", "busy_us"):
        sums: Counter[object] = Counter()
        for part in parts:
            whole(part)
            sums.update(getattr(part, name))
        assert +sums == +Counter(getattr(of_all, name)), name


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lived=histories())
def test_late_looks_cost_no_more_than_they_are_late(data: st.DataObject, lived: Lived) -> None:
    """Some are up to a minute late and do not say so: the identity holds all the same."""
    times = data.draw(moments(lived.since_ms + LATEST_MS + 1, lived.end_ms + LATEST_MS))
    clocks, lates = [lived.since_ms], []
    for at_ms in times:
        late_ms = data.draw(st.sampled_from([0, 0, 1, 999, 30_000, LATEST_MS]))
        clocks.append(max(clocks[-1], min(at_ms - late_ms, lived.end_ms)))  # none is older than one before
        lates.append(at_ms - clocks[-1])
    course = Course(
        [look(lived, at_ms, late_ms) for at_ms, late_ms in zip(times, lates, strict=True)],
        lived.since_ms - DAY_MS,
    )
    least_ms = min(lates)
    assert course.enrolled_ms == lived.since_ms + least_ms
    assert course.is_whole
    start_ms, end_ms = sorted(data.draw(st.tuples(*[st.integers(lived.since_ms, times[-1])] * 2)))
    grown = course.growth(start_ms, end_ms)
    assert whole(grown) == max(0, min(end_ms, course.end_ms) - max(start_ms, course.enrolled_ms))
    end_ms = min(end_ms, course.end_ms)
    if start_ms < end_ms:
        longest = max(last - first for first, last in pairwise(clocks))
        true = lived.between(start_ms, min(end_ms, lived.end_ms))
        assert differences(grown.elapsed_ms, true) <= 2 * longest + 2 * least_ms


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lived=histories(), tick_s=st.sampled_from([1, 15, 60, 300]))
def test_new_accounts_are_one_tick_late(data: st.DataObject, lived: Lived, tick_s: int) -> None:
    """They are written as 0 first: what grew in that tick is told with the next; nothing is lost or twice."""
    tick_ms = tick_s * 1000
    last = (lived.end_ms - lived.since_ms) // tick_ms
    if last < 2:
        return
    births: dict[Account, int] = {FREE: -1, UNKNOWN: -1}
    start_ms = lived.since_ms
    for account, seconds in lived.pieces:
        births.setdefault(account, (start_ms - lived.since_ms) // tick_ms)
        start_ms += seconds * 1000
    ticks = sorted(data.draw(st.sets(st.integers(1, last), min_size=2, max_size=10)))
    looks = []
    for tick in ticks:
        shown = {
            account: 0 if births[account] == tick - 1 else ms
            for account, ms in lived.upto(lived.since_ms + tick * tick_ms).items()
        }
        if any(shown.values()):
            looks.append(Look(lived.since_ms + tick * tick_ms, seconds_of(shown), {}, {}))
    if len(looks) < 2:
        return
    course = Course(looks, lived.since_ms - DAY_MS)
    assert lived.since_ms <= course.enrolled_ms <= lived.since_ms + tick_ms
    first_ms, last_ms = looks[0].end_ms, looks[-1].end_ms
    grown = course.growth(first_ms, last_ms)
    assert whole(grown) == min(last_ms, course.end_ms) - first_ms
    assert differences(grown.elapsed_ms, lived.between(first_ms, last_ms)) <= 2 * tick_ms


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lived=histories(), more=PIECES, gap_s=st.integers(0, 90_000))
def test_a_lost_journal_leaves_a_time_that_nobody_knows(
    data: st.DataObject, lived: Lived, more: Sequence[tuple[Account, int]], gap_s: int
) -> None:
    """All accounts begin anew; from the last look before to the new enrolment all is unknown, and no more."""
    anew = Lived(lived.end_ms + gap_s * 1000, more)
    before = data.draw(moments(lived.since_ms + 1, lived.end_ms, least=1))
    after = data.draw(moments(anew.since_ms + 1, anew.end_ms, least=1))
    then, now = (seconds_of(one) for one in (lived.upto(before[-1]), anew.upto(after[0])))
    if not any(now[account] < value - SHRUNK for account, value in then.items() if account in now):
        return  # so little was lost that nobody can see it
    shown = [seconds_of(anew.upto(at_ms)) for at_ms in after]
    if any(
        value and value == one.get(account)
        for account, value in then.items()
        if account.owner
        for one in shown
    ):
        return  # to the ms what the owner had before: taken for what the store still tells
    looks = [look(lived, at_ms) for at_ms in before] + [look(anew, at_ms) for at_ms in after]
    course = Course(looks, lived.since_ms)
    assert not course.is_whole
    assert whole(course.growth(lived.since_ms, after[-1])) == after[-1] - lived.since_ms
    assert course.growth(lived.since_ms, before[-1]).elapsed_ms == lived.upto(before[-1])
    assert course.growth(before[-1], anew.since_ms).elapsed_ms == (
        {UNKNOWN: anew.since_ms - before[-1]} if anew.since_ms > before[-1] else {}
    )
    assert course.growth(anew.since_ms, after[-1]).elapsed_ms == anew.upto(after[-1])


def test_stores_that_still_tell_of_a_lost_journal_confuse_nobody() -> None:
    """Old accounts are seen for an hour more, as they last stood; one is opened in the new one much later."""
    old = Lived(0, [(WORK, 36_000), (FREE, 3_600), (WORK, 3_000)])
    new = Lived(43_000_000, [(FREE, 7_200), (WORK, 1_800), (FREE, 600)])

    def at(moment_ms: int) -> Look:
        told = {**seconds_of(old.upto(old.end_ms)), **seconds_of(new.upto(moment_ms))}
        return Look(moment_ms, told, {WORK: 5.0}, {BUSY: told[WORK]})

    looks = [
        look(old, 3_600_000),
        look(old, 40_000_000),
        look(new, new.since_ms + 300_000),  # it looked back less far
        at(new.since_ms + 600_000),  # nobody worked yet in the new journal: the old account is still told
        at(new.since_ms + 3_600_000),
        look(new, new.since_ms + 7_200_000),
        look(new, new.since_ms + 8_000_000),
        look(new, new.end_ms),
    ]
    course = Course(looks, 0)
    assert course.growth(0, new.end_ms).elapsed_ms == old.upto(40_000_000) + new.upto(new.end_ms) + Counter(
        {UNKNOWN: 3_000_000}
    )
    assert course.end_ms == new.end_ms


def test_a_copy_of_a_journal_that_is_put_back_goes_on() -> None:
    """Accounts stand as they stood days ago and grow from there; what lies between is unknown."""
    lived = Lived(0, [(FREE, 90_000), (WORK, 200_000), (FREE, 300_000)])
    back_ms = 450_000_000
    looks = [look(lived, at_ms) for at_ms in (300_000_000, 400_000_000)]
    looks += [
        Look(back_ms + at_ms, seconds_of(lived.upto(310_000_000 + at_ms)), {}, {})
        for at_ms in (0, 3_600_000, 7_200_000)
    ]
    course = Course(looks, 0)
    end_ms = back_ms + 7_200_000
    assert course.growth(400_000_000, end_ms).elapsed_ms == {UNKNOWN: 50_000_000, FREE: 7_200_000}
    assert course.growth(0, 400_000_000).elapsed_ms == lived.upto(400_000_000)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lived=histories(), silent_days=st.integers(35, 60), more=PIECES)
def test_owners_that_are_silent_for_long_leave_the_page_and_come_back(
    data: st.DataObject, lived: Lived, silent_days: int, more: Sequence[tuple[Account, int]]
) -> None:
    """Their accounts are no longer told, then told again with all that they ever had: it is not new."""
    second = Lived(lived.since_ms, [*lived.pieces, (FREE, silent_days * 86_400), *more])
    away_ms = lived.end_ms, lived.end_ms + silent_days * DAY_MS
    owned = {account for account, _ in lived.pieces if account.owner}
    late = data.draw(moments(away_ms[0] + 1, away_ms[1], least=1))
    after = data.draw(moments(away_ms[1] + 1, second.end_ms, least=1))

    def told(at_ms: int) -> Look:
        shown = second.upto(at_ms)
        grew = second.between(away_ms[1], at_ms)
        return Look(
            at_ms, seconds_of({key: ms for key, ms in shown.items() if key not in owned or grew[key]}), {}, {}
        )

    before = data.draw(st.lists(st.just(look(second, away_ms[0])), max_size=1))
    course = Course([*before, *(told(at_ms) for at_ms in (*late, *after))], 0)
    first_ms = before[0].end_ms if before else late[0]
    grown = course.growth(first_ms, after[-1])
    assert whole(grown) == after[-1] - first_ms
    assert course.end_ms == after[-1]
    true = second.between(first_ms, after[-1])
    new = {account for account in second.between(away_ms[1], after[-1]) if account.owner}
    slack_ms = 0 if before else TOO_MUCH_MS  # what is so little cannot be told from looks that are late
    if not before and len(new) > 1:  # of several it is not known which came back, and with how much
        slack_ms += after[-1] - away_ms[1]
    assert differences(grown.elapsed_ms, true) <= slack_ms


def test_what_comes_back_brings_its_energy_and_its_busy_time() -> None:
    """Both are counted only as far as its time is new, at its mean."""
    long_ago = 100_000_000_000
    free = (long_ago + 3_600_000) / 1000
    looks = [
        Look(long_ago, {FREE: long_ago / 1000}, {FREE: 7e6}, {}),
        Look(
            long_ago + 7_200_000,
            {FREE: free, WORK: 36_000.0 + 3_600.0},
            {FREE: 7.1e6, WORK: 39_600 * 500.0},
            {BUSY: 39_600 * 0.5},
        ),
    ]
    grown = Course(looks, 0).growth(long_ago, long_ago + 7_200_000)
    assert grown.elapsed_ms == {FREE: 3_600_000, WORK: 3_600_000}
    assert grown.energy_mj == {FREE: 100_000_000, WORK: 1_800_000_000}
    assert grown.busy_us == {"vision": 1_800_000_000}


def test_nobody_is_busy_for_longer_than_he_holds() -> None:
    """A busy account that jumps, as when parts of it left the page for a while, is cut."""
    looks = [
        Look(1_000_000, {WORK: 1_000.0}, {}, {BUSY: 10.0}),
        Look(2_000_000, {WORK: 1_500.0, FREE: 500.0}, {}, {BUSY: 90_010.0}),
    ]
    assert Course(looks, 0).growth(1_000_000, 2_000_000).busy_us == {"vision": 500_000_000}


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lived=histories(), more=PIECES, away_h=st.integers(3, 2_000))
def test_a_gpu_that_left_and_returned_owes_nothing_for_the_time_between(
    data: st.DataObject, lived: Lived, more: Sequence[tuple[Account, int]], away_h: int
) -> None:
    """Its accounts stand still meanwhile, told or not, and go on with its return."""
    back_ms = lived.end_ms + away_h * 3_600_000
    both = Lived(lived.since_ms, [*lived.pieces, *more])

    def clock(at_ms: int) -> int:
        return min(at_ms, lived.end_ms) + max(0, at_ms - back_ms)

    before = sorted({*data.draw(moments(lived.since_ms + 1, lived.end_ms, least=1)), lived.end_ms})
    during = data.draw(st.lists(st.integers(lived.end_ms + 1, back_ms), max_size=3, unique=True))
    after = data.draw(moments(back_ms + 1, back_ms + both.end_ms - lived.end_ms, least=1))
    looks = [Look(at_ms, seconds_of(both.upto(clock(at_ms))), {}, {}) for at_ms in (*before, *during, *after)]
    course = Course(sorted(looks), lived.since_ms)
    assert course.stays == ((lived.since_ms, lived.end_ms), (back_ms, after[-1]))
    assert course.growth(lived.since_ms, after[-1]).elapsed_ms == both.upto(clock(after[-1]))
    assert course.growth(lived.end_ms, back_ms).elapsed_ms == {}
    one, other = sorted(data.draw(st.tuples(*[st.integers(lived.since_ms, after[-1])] * 2)))
    assert whole(course.growth(one, other)) == clock(other) - clock(one)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lived=histories())
def test_before_the_first_look_all_is_unknown(data: st.DataObject, lived: Lived) -> None:
    """The accounts say since when the GPU is there, not what it did before somebody looked."""
    times = data.draw(moments(lived.since_ms + 1, lived.end_ms, least=1))
    from_ms = data.draw(st.integers(lived.since_ms + 1, lived.end_ms + 1))
    course = Course([look(lived, at_ms) for at_ms in times], from_ms)
    assert (course.enrolled_ms, course.begin_ms) == (lived.since_ms, times[0])
    start_ms = data.draw(st.integers(lived.since_ms - 5_000, times[0]))
    expected = lived.between(times[0], times[-1])
    expected[UNKNOWN] += times[0] - max(start_ms, lived.since_ms)
    assert course.growth(start_ms, times[-1]).elapsed_ms == +expected


@settings(max_examples=100, deadline=None)
@given(
    looks=st.lists(
        st.tuples(st.integers(0, 10**7), st.dictionaries(st.sampled_from(ACCOUNTS), st.floats(0, 1e9))),
        min_size=1,
        max_size=8,
    ),
    edges=st.tuples(st.integers(-(10**7), 2 * 10**7), st.integers(0, 10**7)),
)
@example(looks=[(5, {FREE: 1e-9})], edges=(0, 5))
@example(looks=[(1, {FREE: 1e9}), (2, {FREE: 0.0}), (3, {WORK: 1e8})], edges=(0, 5))
def test_whatever_a_store_says_no_time_is_told_twice(
    looks: Sequence[tuple[int, dict[Account, float]]], edges: tuple[int, int]
) -> None:
    """Nonsense gives a course too: no more than the time of a window, nothing negative."""
    told = [Look(end_ms, seconds, {}, {}) for end_ms, seconds in sorted(looks, key=lambda one: one[0])]
    course = Course(told, 0)
    start_ms, end_ms = edges[0], edges[0] + edges[1]
    assert whole(course.growth(start_ms, end_ms)) <= end_ms - start_ms
    inside_ms = sum(max(0, min(last, end_ms) - max(first, start_ms)) for first, last in course.stays)
    assert whole(course.growth(start_ms, end_ms)) <= max(inside_ms, 0)


@pytest.mark.parametrize("years", [1, 10, 30])
def test_a_long_life_keeps_its_milliseconds(years: int) -> None:
    """Sums of seconds as floats are exact enough for lifetimes of GPUs."""
    lived = Lived(ENROLLED_MS, [(account, years * 365 * 86_400 // 5 + 1) for account in ACCOUNTS])
    course = Course([look(lived, lived.end_ms - 7 * DAY_MS), look(lived, lived.end_ms)], 0)
    assert course.enrolled_ms == lived.since_ms
    assert course.growth(lived.end_ms - DAY_MS, lived.end_ms).elapsed_ms == {OTHER: DAY_MS}
