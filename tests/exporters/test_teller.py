"""Tellers: what rules found is told once, in its order, whatever becomes of agent, receiver and journal."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporters.courier import LONGEST_PAUSE_SECONDS
from exporters.cursors import TELLS, Cursor, Cursors
from exporters.settle import DELIVERED, Outcome, Verdict
from exporters.teller import REST_SECONDS, Teller
from tests.agent.histories import INTERVAL_MS, MIDNIGHT, rows
from tests.command.waiting import until
from tests.exporters.findings import (
    DOWN,
    HOT,
    IDLE,
    LOST,
    NAME,
    REFUSED,
    Node,
    Receiver,
    Said,
    node,
    settle,
    teller,
)

FIRING_HOT, RESOLVED_HOT = ("firing", *HOT), ("resolved", *HOT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a journal that is not there yet."""
    return tmp_path / "j.db"


@pytest.fixture
def living(path: Path) -> Iterator[Node]:
    """Let a node live."""
    with node(path) as one:
        one.tick()
        yield one


def cursor(one: Node) -> Cursor:
    """Read what is kept of a teller."""
    return Cursors(one.path).load(NAME)


def test_opening_and_closing_are_told_once_each(living: Node) -> None:
    """One message for each, whatever number of ticks and looks lies between them."""
    to = Receiver()
    one = teller(living, to)
    for found in ((), (HOT,), (HOT,), (HOT, IDLE), (IDLE,), (IDLE,), ()):
        living.tick(*found)
        for _ in range(3):
            settle(one)
    assert to.short == [FIRING_HOT, ("firing", *IDLE), RESOLVED_HOT, ("resolved", *IDLE)]
    assert to.asked == 4
    assert (cursor(living).delivered_ticks, cursor(living).tick_id) == (4, TELLS)
    assert len({one.key for one in to.taken}) == 4


def test_a_message_says_all_of_a_finding(living: Node) -> None:
    """Whom it is about, when, who held the GPU, what to do, and the node's labels."""
    to = Receiver()
    one = teller(living, to)
    settle(one)
    living.tick(HOT)
    settle(one)
    found = dict(to.taken[0].finding)
    assert found.pop("id") == 1
    assert found == {
        "rule": "thermal_margin_low",
        "severity": "warning",
        "node": "hall2-n017",
        "gpu": 0,
        "uuid": "GPU-5c1b0e4a-0000",
        "model": "NVIDIA H200",
        "opened_at": "2026-01-06T00:00:20.000Z",
        "closed_at": None,
        "times": 1,
        "summary": "close to its limit",
        "action": "look at it",
        "held_by": "job 4711 of vision",
        "labels": {"cluster": "emea"},
        "acknowledged": None,
    }


def test_nothing_is_asked_while_nothing_changes(living: Node) -> None:
    """A healthy node makes no requests, and neither does a sick one that was told of."""
    to = Receiver()
    one = teller(living, to)
    assert settle(one) == REST_SECONDS
    assert to.asked == 0
    living.tick(HOT)
    settle(one)
    living.tick(HOT, times=30)
    assert settle(one) == REST_SECONDS
    assert to.asked == 1


def test_what_was_before_the_first_start_is_told_only_if_it_is_open(living: Node) -> None:
    """Years of history stay where they are."""
    living.tick(HOT)
    living.tick(IDLE)
    to = Receiver()
    one = teller(living, to)
    settle(one)
    assert to.short == [("firing", *IDLE)]
    living.tick()
    settle(one)
    settle(teller(living, to))
    assert to.short == [("firing", *IDLE), ("resolved", *IDLE)]


def test_what_changed_while_no_agent_ran_is_told_by_the_next(living: Node) -> None:
    """Openings, ends, and what was there only meanwhile: in the order of time, each once."""
    to = Receiver()
    living.tick(HOT)
    settle(teller(living, to))
    living.tick(HOT, IDLE)
    living.tick(IDLE)
    living.tick()
    living.tick(LOST)
    for _ in range(3):
        settle(teller(living, to))
    assert to.short == [FIRING_HOT, RESOLVED_HOT, ("resolved", *IDLE), ("firing", *LOST)]
    idle = to.taken[2].finding
    assert (idle["opened_at"], idle["closed_at"]) == ("2026-01-06T00:00:30.000Z", "2026-01-06T00:00:50.000Z")


def test_an_unreachable_receiver_is_told_later(living: Node) -> None:
    """Pauses grow to a minute; what waits is counted; then it goes in order, and nothing twice."""
    to = Receiver()
    to.act = lambda _: DOWN
    one = teller(living, to)
    settle(one)
    living.tick(HOT)
    living.tick(IDLE)
    pauses = [one.step() for _ in range(12)]
    assert min(pauses[8:]) >= LONGEST_PAUSE_SECONDS / 2
    assert (one.standing.waiting_ticks, one.standing.failure) == (2, "HTTP 503")
    assert cursor(living).failure == "HTTP 503"
    living.tick()
    to.act = lambda _: DELIVERED
    settle(one)
    assert to.short == [RESOLVED_HOT, ("resolved", *IDLE)]
    assert (one.standing.waiting_ticks, one.standing.failure, cursor(living).failure) == (0, "", "")


def test_a_receiver_that_asks_for_time_is_left_alone(living: Node) -> None:
    """Retry-After is the least pause."""
    to = Receiver()
    to.act = lambda _: Outcome(Verdict.UNREACHABLE, "HTTP 429", 123.0)
    living.tick(HOT)
    assert teller(living, to).step() == 123.0


def test_a_lost_answer_is_told_again_under_the_same_key(living: Node) -> None:
    """The receiver had taken it: header and body tell it that it has it already."""
    to = Receiver()

    def loses(one: Said) -> Outcome:
        to.taken.append(one)
        return DOWN

    to.act = loses
    one = teller(living, to)
    living.tick(HOT)
    one.step()
    living.tick(HOT, IDLE)
    to.act = lambda _: DELIVERED
    settle(one)
    assert to.short == [FIRING_HOT, FIRING_HOT, ("firing", *IDLE)]
    assert to.taken[0].key == to.taken[1].key != to.taken[2].key


def test_a_kill_between_answer_and_note_tells_again_under_the_same_key(
    living: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not written down as told was not told; the next agent cannot know better."""
    to = Receiver()
    settle(teller(living, to))
    living.tick(HOT)
    with monkeypatch.context() as patch:
        patch.setattr(Teller, "_settle", _killed)
        with pytest.raises(KeyboardInterrupt):
            teller(living, to).step()
    assert len(to.taken) == 1
    settle(teller(living, to))
    settle(teller(living, to))
    assert to.short == [FIRING_HOT, FIRING_HOT]
    assert to.taken[0].key == to.taken[1].key


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_what_is_refused_for_good_holds_nothing_up(living: Node) -> None:
    """It is counted and never told again; its end is a message of its own."""
    to = Receiver()
    to.act = lambda one: REFUSED if one.short == FIRING_HOT else DELIVERED
    one = teller(living, to)
    settle(one)
    living.tick(HOT, IDLE)
    settle(one)
    settle(teller(living, to))
    living.tick()
    settle(one)
    assert sorted(to.short) == [("firing", *IDLE), ("resolved", *IDLE), RESOLVED_HOT]
    assert to.asked == 4
    assert (cursor(living).refused_rows, cursor(living).refusal) == (1, "HTTP 400: bad")


def test_what_comes_and_goes_is_one_finding_told_each_time(living: Node) -> None:
    """The count grows, and each time has a key of its own."""
    to = Receiver()
    one = teller(living, to)
    for found in ((HOT,), (), (HOT,), ()):
        living.tick(*found)
        settle(one)
    assert [(one.status, one.times) for one in to.taken] == [
        ("firing", 1),
        ("resolved", 1),
        ("firing", 2),
        ("resolved", 2),
    ]
    assert {one.finding["id"] for one in to.taken} == {1}
    assert len({one.key for one in to.taken}) == 4


def test_what_came_and_went_unheard_is_told_as_it_is_now(living: Node) -> None:
    """Not one by one: with its count, which tells how often."""
    to = Receiver()
    one = teller(living, to)
    living.tick(HOT)
    settle(one)
    for found in ((), (HOT,), (), (HOT,)):
        living.tick(*found)
    settle(one)
    for found in ((), (HOT,), ()):
        living.tick(*found)
    settle(one)
    settle(one)
    assert [(one.status, one.times) for one in to.taken] == [("firing", 1), ("firing", 3), ("resolved", 4)]


def test_what_may_have_been_told_is_told_as_closed_in_silence(living: Node) -> None:
    """Its answer was lost: the receiver may wait for its end."""
    to = Receiver()
    to.act = lambda _: DOWN
    living.tick(HOT)
    settle(teller(living, to))
    to.act = lambda _: DELIVERED
    living.silence(600)
    living.tick(HOT)
    settle(teller(living, to))
    assert to.taken == []
    living.tick()
    settle(teller(living, to))
    settle(teller(living, to))
    assert to.short == [RESOLVED_HOT]


def test_what_opens_again_before_its_end_was_heard_is_told(living: Node) -> None:
    """The receiver may have taken the end, whose answer was lost."""
    to = Receiver()
    one = teller(living, to)
    living.tick(HOT)
    settle(one)
    to.act = lambda _: DOWN
    living.tick()
    settle(one)
    living.tick(HOT)
    to.act = lambda _: DELIVERED
    settle(one)
    assert [(one.status, one.times) for one in to.taken] == [("firing", 1), ("firing", 2)]


def test_a_silence_keeps_back_what_opens(living: Node) -> None:
    """When it ends, what is still open is told; what closed by then never is."""
    to = Receiver()
    one = teller(living, to)
    settle(one)
    living.silence(60)
    living.tick(HOT, IDLE)
    settle(one)
    living.tick(HOT)
    settle(one)
    assert to.asked == 0
    assert one.standing.waiting_ticks == 0
    living.tick(HOT, times=5)
    settle(one)
    assert to.short == [FIRING_HOT]
    living.tick()
    settle(teller(living, to))
    assert to.short == [FIRING_HOT, RESOLVED_HOT]


@pytest.mark.parametrize("looked", [False, True])
def test_what_closed_in_silence_stays_untold_though_nobody_looked(living: Node, *, looked: bool) -> None:
    """Also by an agent that was away all the time."""
    to = Receiver()
    settle(teller(living, to))
    living.silence(25)
    living.tick(HOT)
    living.tick()
    if looked:
        settle(teller(living, to))
    living.tick(times=5)
    settle(teller(living, to))
    assert to.asked == 0


def test_a_silence_is_about_a_rule_on_a_gpu(living: Node) -> None:
    """All else is told."""
    to = Receiver()
    one = teller(living, to)
    living.silence(600, HOT)
    living.tick(HOT, ("thermal_margin_low", 1), IDLE)
    settle(one)
    assert sorted(to.short) == [("firing", *IDLE), ("firing", "thermal_margin_low", 1)]
    living.end_silences()
    settle(one)
    assert to.short[2:] == [FIRING_HOT]


def test_the_end_of_what_was_told_is_told_in_silence_as_well(living: Node) -> None:
    """Else it would be thought open for ever; and when it comes again in silence, nothing is said."""
    to = Receiver()
    one = teller(living, to)
    living.tick(HOT)
    settle(one)
    living.silence(600)
    for found in ((HOT,), (), (HOT,), ()):
        living.tick(*found)
        settle(one)
    assert to.short == [FIRING_HOT, RESOLVED_HOT]


def test_an_acknowledgement_is_told_along(living: Node) -> None:
    """By itself it is no news."""
    to = Receiver()
    one = teller(living, to)
    living.tick(HOT)
    settle(one)
    living.acknowledge()
    settle(one)
    assert to.asked == 1
    living.tick()
    settle(one)
    assert to.taken[0].finding["acknowledged"] is None
    assert to.taken[1].finding["acknowledged"] == {
        "at": "2026-01-06T00:00:20.000Z",
        "author": "ada",
        "reason": "fan ordered",
    }


def test_a_finding_without_a_gpu_is_told(living: Node) -> None:
    """Rules may be about the node."""
    with Cursors(living.path)._writing() as db:
        db.execute(
            "INSERT INTO finding (node_id, rule, severity, opened_ms, summary, action)"
            " VALUES (1, 'clock_skew', 'info', ?, '', '')",
            (MIDNIGHT,),
        )
    to = Receiver()
    settle(teller(living, to))
    assert (to.taken[0].finding["gpu"], to.taken[0].finding["uuid"]) == (None, "")


def test_what_the_receiver_lost_is_told_again_when_asked_for(living: Node) -> None:
    """What is open, and what closed since; under the same keys."""
    to = Receiver()
    one = teller(living, to)
    for found in ((HOT,), (), (IDLE,), (IDLE,)):
        living.tick(*found)
        settle(one)
    first = list(to.taken)
    to.taken.clear()
    Cursors(living.path).untell(NAME, MIDNIGHT + 4 * INTERVAL_MS)
    settle(one)
    assert to.taken == first[2:]
    to.taken.clear()
    Cursors(living.path).untell(NAME, MIDNIGHT)
    settle(one)
    assert to.taken == first[1:]


def test_being_asked_to_tell_again_during_a_message_is_not_forgotten(living: Node) -> None:
    """What is noted then as told is what was asked for again."""
    to = Receiver()
    one = teller(living, to)
    living.tick(HOT)
    settle(one)
    living.tick(HOT, IDLE)

    def act(_: Said) -> Outcome:
        to.act = lambda _: DELIVERED
        Cursors(living.path).untell(NAME, MIDNIGHT)
        return DELIVERED

    to.act = act
    settle(one)
    assert to.short == [FIRING_HOT, ("firing", *IDLE), FIRING_HOT, ("firing", *IDLE)]


def test_another_journal_in_its_place_tells_what_is_open(living: Node, tmp_path: Path) -> None:
    """A broken journal is moved aside; what goes on in the new one is told under the same key."""
    to = Receiver()
    one = teller(living, to)
    living.tick(HOT)
    settle(one)
    other = tmp_path / "other.db"
    with node(other) as second:
        second.tick()
        second.tick(HOT)
    for end in ("-wal", "-shm"):
        living.path.with_name(living.path.name + end).unlink(missing_ok=True)
    other.rename(living.path)
    settle(one)
    assert to.taken[0].key == to.taken[1].key


def test_two_tellers_do_not_know_of_each_other(living: Node) -> None:
    """Each has what it told written down by itself."""
    first, second = Receiver(), Receiver()
    one, other = teller(living, first), teller(living, second)
    other.name = "second"
    living.tick(HOT)
    for _ in range(2):
        settle(one)
        settle(other)
    assert (first.short, second.short) == ([FIRING_HOT], [FIRING_HOT])


def test_it_runs_on_a_thread_and_ends_at_once(living: Node) -> None:
    """Woken by ticks, closed within its time."""
    to = Receiver()
    one = teller(living, to)
    one.start()
    living.tick(HOT)
    one.wake()
    until(lambda: cursor(living).delivered_ticks == 1, "the first message")
    living.tick()
    one.wake()
    until(lambda: cursor(living).delivered_ticks == 2, "the second message")
    one.close()
    assert one._thread is not None
    assert not one._thread.is_alive()


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_each_side_ends_with_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Outages, lost answers, kills and silences: in the end the receiver believes what the journal says.

    Nothing that was noted as told is told twice, and ends follow openings.
    """
    chance = random.Random(seed)  # noqa: S311
    to = Receiver()
    lost: list[str] = []

    def act(one: Said) -> Outcome:
        fate = chance.random()
        if fate < 0.15:
            to.taken.append(one)
            lost.append(one.key)
        return DOWN if fate < 0.35 else DELIVERED

    to.act = act
    places = (HOT, IDLE, LOST, ("thermal_margin_low", 1))
    found: set[tuple[str, int]] = set()
    with node(tmp_path_factory.mktemp("random") / "j.db") as living:
        living.tick()
        one = teller(living, to)
        one.step()
        for _ in range(40):
            found ^= {chance.choice(places)} if chance.random() < 0.5 else set()
            if chance.random() < 0.1:
                living.silence(chance.choice((15, 45, 120)), chance.choice((None, *places)))
            living.tick(*found, times=chance.choice((1, 1, 2)))
            if chance.random() < 0.15:
                one = teller(living, to)
            if chance.random() < 0.7:
                one.step()
        living.end_silences()
        to.act = lambda _: DELIVERED
        living.clock.wait(1)
        settle(one)
        count = cursor(living).delivered_ticks
        kept = rows(living.path, "SELECT count(*) FROM told")[0][0]
    keys = [one.key for one in to.taken]
    assert len(keys) - len(set(keys)) <= len(lost)
    assert count == len(keys) - len(lost)
    assert kept <= len(keys) + 40
    last = {(one.rule, one.gpu): one.status for one in to.taken}
    assert {where for where, status in last.items() if status == "firing"} == found
