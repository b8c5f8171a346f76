"""Reports out of a store's accounts: who was there, for how long, and what nobody saw."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ReportError, StoreError
from agent.tally import DAY_MS, HOUR_MS
from agent.tick import Finding, State
from reports.facts import FreeHour, HourSum
from reports.report import build
from reports.sources.from_ledger import Drawn, gather_from
from reports.sources.ledger import Account, Known, Looks, Quantity, Seat
from reports.sources.ledger_facts import facts_from
from reports.window import Window
from tests.reports.small import MINUTE_MS, MONDAY_MS

WEEK = Window(from_ms=MONDAY_MS, to_ms=MONDAY_MS + 7 * DAY_MS)
NOW_MS = WEEK.to_ms + 2 * DAY_MS
A, B, C = Seat("GPU-a", "n1"), Seat("GPU-b", "n1"), Seat("GPU-c", "n2")
ALICE, BOB = "alice", 'bob "the\nbuilder"\\'
ACTIVE, FREE, IDLE, DOWN, UNKNOWN = State.ACTIVE, State.FREE, State.HELD_IDLE, State.DOWN, State.UNKNOWN
Piece = tuple[float, State, str]
"""From which hour of Monday on, the GPU is in a state, and who holds it."""


@dataclass(kw_only=True)
class Life:
    """A GPU in a node: its pieces until it ends, when its agent was silent, and since when it tells.

    Times are hours of Monday. A lost journal is a life of its own; a GPU that returned goes on with the
    accounts that it had `before`.
    """

    seat: Seat
    pieces: Sequence[Piece]
    end: float = 1e6
    silent: tuple[float, float] = (0.0, 0.0)
    told_since: float = -1e6
    before: "Life | None" = None

    def accounts(self, hour: float) -> dict[Account, float]:
        """Give the accounts in seconds as they stood."""
        found = {Account(state, ""): 0.0 for state in State}
        if self.before:
            found |= self.before.accounts(self.before.end)
        edges = [*(begin for begin, _, _ in self.pieces), self.end]
        for (first, last), (_, state, owner) in zip(pairwise(edges), self.pieces, strict=True):
            seconds = max(0.0, min(hour, last) - first) * 3600
            if seconds:
                account = Account(state, owner)
                found[account] = found.get(account, 0.0) + seconds
        return found

    def told_at(self, hour: float) -> float | None:
        """Tell as of when a store has accounts at a moment; None where it has none yet."""
        hour = min(hour, self.end)
        if self.silent[0] <= hour < self.silent[1]:
            hour = self.silent[0]
        return hour if hour > max(self.pieces[0][0], self.told_since) else None


@dataclass
class Memory:
    """A store of such lives; agents tell every `interval` hours, and may say up to when."""

    lives: Sequence[Life]
    interval: float = 5 / 60
    late: float = 0.0
    says_ends: bool = True
    cut: Mapping[str, float] = field(default_factory=dict)
    name: str = "http://store"
    asked: list[tuple[int, int]] = field(default_factory=list)

    def seats(self, from_ms: int, to_ms: int) -> Mapping[Seat, Known]:
        """Name those that told anything in a time."""
        found = {}
        for number, life in enumerate(self.lives):
            first = max(life.pieces[0][0], life.told_since)
            silent = life.silent[0] <= hours(from_ms) and hours(to_ms) <= life.silent[1]
            if first < hours(to_ms) and life.end > hours(from_ms) and not silent:
                found[life.seat] = Known(number, "NVIDIA H200", f"S{number}", "")
        return found

    def first(self, from_ms: int, to_ms: int) -> int:
        """Tell since when there is anything."""
        begin = min((max(life.pieces[0][0], life.told_since) for life in self.lives), default=0.0)
        begin_ms = MONDAY_MS + round(begin * HOUR_MS)
        return from_ms if begin_ms <= from_ms or begin_ms >= to_ms else -(-begin_ms // HOUR_MS) * HOUR_MS

    def _last(self, life: Life, at_ms: int, back_ms: int) -> float | None:
        """Tell as of when the store knows a life at a moment, if it looks so far back."""
        at = hours(at_ms) - self.late
        told = life.told_at(at)
        if told is None or at - told > back_ms / HOUR_MS:
            return None
        ticks = (told - life.pieces[0][0]) // self.interval * self.interval + life.pieces[0][0]
        return told if told == life.end else ticks

    def looks(
        self, quantity: Quantity, moments: Sequence[int], back_ms: int, seats: Sequence[Seat] | None = None
    ) -> Looks:
        """Give the latest accounts at moments."""
        self.asked.append((len(moments), len(seats) if seats is not None else 0))
        found: Looks = {}
        factor = {"seconds": 1.0, "joules": 500.0, "busy_seconds": 0.5}[quantity]
        for life in self.lives:
            if seats is not None and life.seat.uuid not in {seat.uuid for seat in seats}:
                continue
            for at_ms in moments:
                last = self._last(life, at_ms, back_ms)
                if last is None:
                    continue
                for account, seconds in life.accounts(last).items():
                    key = account
                    if quantity == "busy_seconds":
                        if account.state is not ACTIVE:
                            continue
                        key = Account(None, account.owner)
                    samples = dict(found.setdefault(life.seat, {}).get(key, ()))
                    samples[at_ms] = seconds * factor  # of two journals the later one is told
                    found[life.seat][key] = sorted(samples.items())
        return found

    def ends(self, moments: Sequence[int], back_ms: int) -> Mapping[str, Mapping[int, int]]:
        """Say up to when nodes told."""
        found: dict[str, dict[int, int]] = {}
        for life in self.lives if self.says_ends else ():
            for at_ms in moments:
                last = self._last(life, at_ms, back_ms)
                if last is not None and last < life.end:
                    end_of = found.setdefault(life.seat.node, {})
                    end_of[at_ms] = max(MONDAY_MS + round(last * HOUR_MS), end_of.get(at_ms, 0))
        return found

    def hours(self, window: Window) -> Iterator[HourSum]:  # noqa: ARG002
        """Give none."""
        return iter(())

    def free(self, window: Window) -> Iterator[FreeHour]:  # noqa: ARG002
        """Give none."""
        return iter(())

    def sliced(self, from_ms: int, to_ms: int) -> Mapping[str, float]:  # noqa: ARG002
        """Tell which are cut."""
        return self.cut

    def throttled(self, window: Window) -> Mapping[Seat, Mapping[str, int]]:  # noqa: ARG002
        """None was."""
        return {}

    def xids(self, window: Window) -> Mapping[Seat, Mapping[int, int]]:  # noqa: ARG002
        """None came."""
        return {}

    def findings(self, window: Window) -> list[Finding]:  # noqa: ARG002
        """Tell one of a node."""
        return [Finding(rule="r", severity="warning", node="n1", uuid=A.uuid, opened_ms=MONDAY_MS)]


def hours(at_ms: int) -> float:
    """Give a moment in hours of Monday."""
    return (at_ms - MONDAY_MS) / HOUR_MS


def ms(hour: float) -> int:
    """Give hours of Monday as a moment."""
    return MONDAY_MS + round(hour * HOUR_MS)


def gather(memory: Memory, window: Window = WEEK, now_ms: int = NOW_MS) -> Drawn:
    """Read a window; fail unless it adds up."""
    drawn = gather_from(memory, window, now_ms=now_ms)
    report = build(drawn.gathered, window, now_ms=now_ms)
    assert report.identity_ok
    assert report.sums.total.elapsed_ms == report.inventory.gpu_ms
    return drawn


def told(drawn: Drawn) -> dict[tuple[Seat, State, str], float]:
    """Give the hours of each account of each GPU."""
    found: Counter[tuple[Seat, State, str]] = Counter()
    for row in drawn.gathered.rows:
        found[Seat(row.uuid, row.node), row.state, row.owner] += row.amounts.elapsed_ms
    return {key: round(elapsed_ms / HOUR_MS, 6) for key, elapsed_ms in found.items() if elapsed_ms}


def there(drawn: Drawn) -> dict[Seat, list[tuple[float, float]]]:
    """Give the hours in which each GPU was in a node; what follows at once is one."""
    found: dict[Seat, list[tuple[float, float]]] = {}
    for one in sorted(drawn.gathered.stretches):
        stays = found.setdefault(Seat(one.uuid, one.node), [])
        first, last = hours(one.start_ms), hours(one.end_ms)
        if stays and stays[-1][1] == first:
            first = stays.pop()[0]
        stays.append((first, last))
    return found


WORKING = Life(seat=A, pieces=[(-500, FREE, ""), (10, ACTIVE, ALICE), (100, IDLE, BOB)])
RESTING = Life(seat=C, pieces=[(-300, FREE, "")])


def test_plain_gpus_are_told_from_two_looks_exactly() -> None:
    """10 h free, 90 h of one owner, 68 h of another whose name has quotes and a new line."""
    memory = Memory([WORKING, RESTING])
    drawn = gather(memory)
    assert told(drawn) == {
        (A, FREE, ""): 10,
        (A, ACTIVE, ALICE): 90,
        (A, IDLE, BOB): 68,
        (C, FREE, ""): 168,
    }
    assert there(drawn) == {A: [(0, 168)], C: [(0, 168)]}
    assert drawn.gathered.covered == WEEK
    assert {one[0] for one in memory.asked} == {1}
    row = next(row for row in drawn.gathered.rows if row.state is ACTIVE)
    assert row.amounts.energy_mj == 90 * HOUR_MS * 500
    assert row.amounts.busy_us == 90 * HOUR_MS * 500
    assert (row.amounts.busy_seen_ms, row.amounts.energy_seen_ms) == (90 * HOUR_MS, 90 * HOUR_MS)
    assert [one.rule for one in drawn.gathered.findings] == ["r"]
    life = drawn.lives[A.uuid]
    assert (life.until_ms, life.active_ms, life.seen_ms) == (WEEK.to_ms, 90 * HOUR_MS, 668 * HOUR_MS)


@pytest.mark.parametrize("says_ends", [True, False])
def test_looks_that_come_late_are_made_good_by_one_after_the_edge(*, says_ends: bool) -> None:
    """Agents tell 7 s late: all time is there, and states that change near an edge are off by no more."""
    pieces = [(-500, FREE, ""), (-0.5, ACTIVE, ALICE), (167.5, FREE, "")]
    memory = Memory([Life(seat=A, pieces=pieces)], late=7 / 3600, interval=10 / 3600, says_ends=says_ends)
    drawn = gather(memory)
    assert told(drawn)[A, ACTIVE, ALICE] == pytest.approx(167.5, abs=0.01)
    assert told(drawn)[A, FREE, ""] == pytest.approx(0.5, abs=0.01)
    assert there(drawn) == {A: [(0, 168)]}


def test_a_late_node_owes_nothing_before() -> None:
    """Enrolled on Thursday at 07:35, and from then on exactly; four times a day somebody looked before."""
    memory = Memory([WORKING, Life(seat=C, pieces=[(79 + 35 / 60, FREE, ""), (80, ACTIVE, BOB)])])
    drawn = gather(memory)
    assert there(drawn)[C][0] == pytest.approx((79 + 35 / 60, 168))
    assert told(drawn)[C, ACTIVE, BOB] == 88
    assert told(drawn)[C, FREE, ""] == pytest.approx(25 / 60, abs=1e-5)
    assert [one for one in memory.asked if one[0] > 1] == [(28, 1)]


def test_a_node_that_vanished_is_owed_to_the_end_as_unknown() -> None:
    """The last that it told is of Wednesday, 02:10."""
    silent = (50 + 10 / 60, 1e6)
    drawn = gather(Memory([WORKING, Life(seat=C, pieces=[(-300, ACTIVE, BOB)], silent=silent)]))
    assert there(drawn)[C] == [(0, 168)]
    assert told(drawn)[C, ACTIVE, BOB] == pytest.approx(50 + 10 / 60, abs=1e-5)
    assert told(drawn)[C, UNKNOWN, ""] == pytest.approx(168 - 50 - 10 / 60, abs=1e-5)


def test_a_gpu_that_left_is_owed_until_it_left() -> None:
    """Its node goes on without it: it was down for two hours, then let go of."""
    gone = Life(seat=B, pieces=[(-300, FREE, ""), (60, DOWN, "")], end=62)
    drawn = gather(Memory([WORKING, gone]))
    assert there(drawn)[B] == [(0, 62)]
    assert told(drawn)[B, FREE, ""] == 60
    assert told(drawn)[B, DOWN, ""] == 2


def test_a_gpu_that_was_moved_counts_once() -> None:
    """Both nodes tell of it: the old one that it is down, until the new one has it; then the new one."""
    there_too = Seat(A.uuid, "n2")
    before = Life(seat=A, pieces=[(-300, ACTIVE, ALICE), (40, DOWN, "")])
    after = Life(seat=there_too, pieces=[(43, FREE, ""), (44, ACTIVE, BOB)])
    drawn = gather(Memory([before, after, Life(seat=B, pieces=[(-300, FREE, "")]), RESTING]))
    assert told(drawn) == {
        (A, ACTIVE, ALICE): 40,
        (A, DOWN, ""): 3,
        (there_too, FREE, ""): 1,
        (there_too, ACTIVE, BOB): 124,
        (B, FREE, ""): 168,
        (C, FREE, ""): 168,
    }
    assert there(drawn)[A] == [(0, 43)]
    assert there(drawn)[there_too] == [(43, 168)]
    report = build(drawn.gathered, WEEK, now_ms=NOW_MS)
    assert report.inventory.gpus == 3
    assert drawn.lives[A.uuid].active_ms == (340 + NOW_HOURS_OF_BOB) * HOUR_MS


NOW_HOURS_OF_BOB = 192 - 44
"""Lives are told up to the last look: a day after the window."""


def test_a_gpu_that_was_replaced_gives_way_to_another() -> None:
    """The old one is down from then on, the new one begins: both are there."""
    old = Life(seat=B, pieces=[(-300, ACTIVE, ALICE), (100, DOWN, "")])
    new = Life(seat=Seat("GPU-new", "n1"), pieces=[(101, FREE, "")])
    drawn = gather(Memory([WORKING, old, new]))
    assert told(drawn)[B, DOWN, ""] == 68
    assert there(drawn)[new.seat] == [(101, 168)]
    assert told(drawn)[new.seat, FREE, ""] == 67


def test_a_gpu_that_left_and_returned_is_not_owed_meanwhile() -> None:
    """It was let go of on Tuesday and is back on Friday, with the accounts that it had."""
    gone = Life(seat=B, pieces=[(-300, FREE, ""), (20, DOWN, "")], end=30)
    back = Life(seat=B, pieces=[(100, ACTIVE, BOB), (150, FREE, "")], before=gone)
    drawn = gather(Memory([WORKING, gone, back]))
    assert there(drawn)[B] == [(0, 30), (100, 168)]
    assert told(drawn)[B, FREE, ""] == 20 + 18
    assert told(drawn)[B, DOWN, ""] == 10
    assert told(drawn)[B, ACTIVE, BOB] == 50
    assert (B, UNKNOWN, "") not in told(drawn)


@pytest.mark.parametrize("edge", [0, 168])
@pytest.mark.parametrize("around", [(-3, 2), (-0.5, 0.5), (-30, 20), (-200, 3)])
def test_an_agent_that_was_silent_over_an_edge_tells_of_it_afterwards(
    edge: int, around: tuple[float, float]
) -> None:
    """Its host was off; when it is back all of that is entered as down. What lies near is split evenly."""
    first, last = edge + around[0], edge + around[1]
    pieces = [(-700, FREE, ""), (first, DOWN, ""), (last, ACTIVE, ALICE)]
    drawn = gather(Memory([WORKING, Life(seat=C, pieces=pieces, silent=(first, last))]))
    inside = max(0.0, min(last, 168) - max(first, 0))
    assert there(drawn)[C] == [(0, 168)]
    assert told(drawn)[C, DOWN, ""] == pytest.approx(inside, abs=1.1)
    assert told(drawn).get((C, UNKNOWN, ""), 0.0) == 0.0
    other = (C, ACTIVE, ALICE) if edge == 0 else (C, FREE, "")
    assert told(drawn).get(other, 0.0) == pytest.approx(168 - inside, abs=1.1)


def test_a_store_that_began_in_mid_window_tells_from_then_on() -> None:
    """The covered time begins with it; GPUs were there before, and nobody says what they did."""
    lives = [replace(one, told_since=30 + 20 / 60) for one in (WORKING, RESTING)]
    drawn = gather(Memory(lives))
    first = hours(drawn.gathered.covered.from_ms)
    assert 30 < first <= 31
    assert drawn.gathered.covered.to_ms == WEEK.to_ms
    assert there(drawn) == {A: [(first, 168)], C: [(first, 168)]}
    assert told(drawn) == {
        (A, ACTIVE, ALICE): pytest.approx(100 - first, abs=1e-5),
        (A, IDLE, BOB): 68,
        (C, FREE, ""): pytest.approx(168 - first, abs=1e-5),
    }


@pytest.mark.parametrize("begin", [53, 50.75])
def test_a_journal_that_was_lost_leaves_what_nobody_saw(begin: float) -> None:
    """To the minute: the old one ends at hour 50.55, the new one begins hours or minutes later."""
    old = Life(seat=C, pieces=[(-300, ACTIVE, BOB)], end=50.55)
    new = Life(seat=C, pieces=[(begin, FREE, ""), (60, ACTIVE, BOB)])
    drawn = gather(Memory([WORKING, old, new], interval=1 / 60))
    assert there(drawn)[C] == [(0, 168)]
    assert told(drawn)[C, UNKNOWN, ""] == pytest.approx(begin - 50.55, abs=1 / 30)
    assert told(drawn)[C, ACTIVE, BOB] == pytest.approx(50.55 + 108, abs=1 / 30)
    assert told(drawn)[C, FREE, ""] == 60 - begin


@pytest.mark.parametrize("silent_since", [-5, -200])
def test_a_journal_that_was_lost_over_the_beginning_is_no_new_gpu(silent_since: float) -> None:
    """The node was set up anew on Tuesday: its GPU was there before, and is owed."""
    old = Life(seat=C, pieces=[(-700, ACTIVE, BOB)], end=silent_since)
    new = Life(seat=C, pieces=[(30, FREE, "")])
    drawn = gather(Memory([WORKING, old, new]))
    assert there(drawn)[C] == [(0, 168)]
    assert told(drawn)[C, UNKNOWN, ""] == 30
    assert told(drawn)[C, FREE, ""] == 138


def test_a_late_node_that_lost_its_journal_is_owed_from_the_beginning() -> None:
    """It came on Tuesday, and forgot on Thursday: what is told at the end is not all."""
    old = Life(seat=C, pieces=[(30, FREE, ""), (31, ACTIVE, BOB)], end=80.5)
    new = Life(seat=C, pieces=[(90, FREE, ""), (92, ACTIVE, BOB)])
    drawn = gather(Memory([WORKING, old, new]))
    assert there(drawn)[C] == [(30, 168)]
    assert told(drawn)[C, ACTIVE, BOB] == pytest.approx(49.5 + 76, abs=0.1)
    assert told(drawn)[C, UNKNOWN, ""] == pytest.approx(9.5, abs=0.1)
    assert told(drawn)[C, FREE, ""] == 3


def test_small_accounts_that_stores_still_tell_are_not_taken_for_new_ones() -> None:
    """An owner had some minutes, long ago; after the journal was lost he has less, then more."""
    old = Life(seat=C, pieces=[(-300, FREE, ""), (-9, ACTIVE, BOB), (-8.8, FREE, "")], end=50.9)
    new = Life(seat=C, pieces=[(51.1, FREE, ""), (90, ACTIVE, BOB), (91, IDLE, BOB)])
    memory = Memory([WORKING, old, new])
    plain = memory.looks

    def still(
        quantity: Quantity, moments: Sequence[int], back_ms: int, seats: Sequence[Seat] | None = None
    ) -> Looks:
        found = plain(quantity, moments, back_ms, seats)
        account = Account(None if quantity == "busy_seconds" else ACTIVE, BOB)
        for at_ms in moments:
            if ms(50.9) < at_ms <= ms(50.9) + back_ms and C in found:
                samples = dict(found[C].get(account, ()))
                samples[at_ms] = old.accounts(50.9)[Account(ACTIVE, BOB)]
                found[C][account] = sorted(samples.items())
        return found

    memory.looks = still  # type: ignore[method-assign]
    drawn = gather(memory)
    assert there(drawn)[C] == [(0, 168)]
    assert told(drawn)[C, ACTIVE, BOB] == 1
    assert told(drawn)[C, IDLE, BOB] == 77
    assert told(drawn)[C, UNKNOWN, ""] == pytest.approx(0.2, abs=0.1)


def test_a_store_with_nothing_says_what_was_looked_for() -> None:
    """Its name, the metric, and the time."""
    with pytest.raises(
        ReportError, match=r"http://store holds no accounts \(gpu_tally_seconds_total\) of 2026"
    ):
        gather_from(Memory([]), WEEK, now_ms=NOW_MS)
    only_later = Memory([Life(seat=A, pieces=[(170, FREE, "")])])
    with pytest.raises(ReportError, match="holds no accounts"):
        gather_from(only_later, WEEK, now_ms=NOW_MS)
    only_before = Memory([Life(seat=A, pieces=[(-170, FREE, "")], end=-100)])
    with pytest.raises(ReportError, match="holds no accounts"):
        gather_from(only_before, WEEK, now_ms=NOW_MS)
    once = Memory([Life(seat=A, pieces=[(-170, FREE, "")], told_since=10, end=10.01)])
    with pytest.raises(ReportError, match="holds no accounts"):
        gather_from(once, WEEK, now_ms=NOW_MS)


@pytest.mark.parametrize("now", [-1, 0, 0.01])
def test_a_window_of_the_future_is_refused(now: float) -> None:
    """So is one that began this minute."""
    with pytest.raises(ReportError, match="lies in the future"):
        gather_from(Memory([WORKING]), WEEK, now_ms=ms(now))


@pytest.mark.parametrize("interval", [5 / 60, 1 / 360])
def test_a_window_that_has_not_ended_is_told_up_to_now(interval: float) -> None:
    """Up to the last interval that ended a minute ago; looks at edges will do."""
    memory = Memory([WORKING, RESTING], interval=interval)
    drawn = gather(memory, now_ms=ms(50) + 3 * MINUTE_MS)
    until = hours(drawn.gathered.covered.to_ms)
    assert until == pytest.approx(50 + (0 if interval > 1 / 60 else 2 / 60), abs=1e-6)
    assert told(drawn)[A, ACTIVE, ALICE] == pytest.approx(until - 10, abs=1e-5)
    assert there(drawn) == {A: [(0, until)], C: [(0, until)]}
    assert {one[0] for one in memory.asked} == {1}


def test_cut_gpus_do_not_tell_how_busy_they_are() -> None:
    """What is not seen is not taken for idle: for the share of the time in which they were cut."""
    memory = Memory([WORKING, RESTING], cut={A.uuid: 1.0, C.uuid: 0.25})
    rows = gather(memory).gathered.rows
    seen = {(row.uuid, row.state): row.amounts.busy_seen_ms for row in rows}
    assert seen[A.uuid, ACTIVE] == 0
    assert seen[C.uuid, FREE] == 0.75 * 168 * HOUR_MS
    assert all(row.amounts.energy_seen_ms == row.amounts.elapsed_ms for row in rows)


def test_facts_say_who_stayed() -> None:
    """GPUs that are there at the end stay; one that left did not; what hours lack is unknown."""
    gone = Life(seat=B, pieces=[(-300, FREE, "")], end=62)
    memory = Memory([WORKING, gone])
    drawn = gather(memory)
    facts = facts_from(memory, drawn)
    assert {(one.uuid, one.to_ms) for one in facts.stays} == {(A.uuid, None), (B.uuid, ms(62))}
    assert sum(one.amounts.elapsed_ms for one in facts.hours) == (168 + 62) * HOUR_MS


@pytest.mark.parametrize("value", [-1.0, 1e300])
def test_accounts_that_nobody_can_have_are_refused(value: float) -> None:
    """A store that tells them is broken, and no report is made of it."""
    memory = Memory([WORKING])
    plain = memory.looks

    def broken(
        quantity: Quantity, moments: Sequence[int], back_ms: int, seats: Sequence[Seat] | None = None
    ) -> Looks:
        found = plain(quantity, moments, back_ms, seats)
        found[A][next(iter(found[A]))] = [(moments[0], value)]
        return found

    memory.looks = broken  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="http://store tells an account of 'GPU-a' that nobody can have"):
        gather_from(memory, WEEK, now_ms=NOW_MS)


STATES = st.sampled_from([(FREE, ""), (ACTIVE, ALICE), (ACTIVE, BOB), (IDLE, BOB), (DOWN, ""), (UNKNOWN, "")])


@st.composite
def lives(draw: st.DrawFn, seat: Seat) -> Life:
    """Draw a GPU that came, and maybe fell silent, and came back or did not."""
    begin = draw(st.sampled_from([-400.0, -10.0, 3.25, 100.0]))
    steps = draw(st.lists(st.tuples(st.integers(1, 90), STATES), min_size=1, max_size=6))
    pieces: list[Piece] = []
    for length, (state, owner) in steps:
        pieces.append((begin, state, owner))
        begin += length
    first = draw(st.sampled_from([0.0, -30.0, -3.0, 55.5, 130.0, 166.0]))
    last = first + draw(st.sampled_from([0.0, 0.25, 5.0, 40.0, 1e6]))
    return Life(
        seat=seat, pieces=pieces, silent=(first, last), end=draw(st.sampled_from([1e6, 1e6, 120.0, 167.9]))
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data(), late=st.sampled_from([0.0, 3 / 3600]), says_ends=st.booleans())
def test_whatever_gpus_do_their_time_is_told_once(
    data: st.DataObject, late: float, *, says_ends: bool
) -> None:
    """States sum to the inventory to the ms, and no GPU is there for longer than the window."""
    several = [data.draw(lives(seat)) for seat in (A, B, C)]
    memory = Memory(several, late=late, says_ends=says_ends)
    try:
        drawn = gather(memory)
    except ReportError:
        return
    for seat, stays in there(drawn).items():
        assert sum(last - first for first, last in stays) <= 168 + 1e-9, seat
    by_gpu: Counter[str] = Counter()
    for row in drawn.gathered.rows:
        assert row.amounts.elapsed_ms >= 0
        assert row.amounts.busy_us <= row.amounts.elapsed_ms * 1000
        by_gpu[row.uuid] += row.amounts.elapsed_ms
    for stretch in drawn.gathered.stretches:
        by_gpu[stretch.uuid] -= stretch.end_ms - stretch.start_ms
    assert not any(by_gpu.values())
