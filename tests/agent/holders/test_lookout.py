"""Lookouts: a world that is slow, stuck, failing or absent never makes anybody wait."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

import pytest

from agent.holders.contract import Answer, Question, WorldError
from agent.holders.lookout import KEEP_SECONDS, STUCK_SECONDS, Lookout
from tests.agent.holders.worlds import GPU, JOB, OTHER
from tests.command.waiting import until

GIVEN = Answer(given={"GPU-1": (JOB,)})


class World:
    """A world that does what it is told, and counts how often it was asked."""

    name = "slurm"

    def __init__(self, act: Callable[[Question], Answer] = lambda _: GIVEN) -> None:
        self.act = act
        self.questions: list[Question] = []
        self.closed = threading.Event()

    def look(self, question: Question) -> Answer:
        """Answer."""
        self.questions.append(question)
        return self.act(question)

    def close(self) -> None:
        """Note the end."""
        self.closed.set()


def _asked(world: World, times: int) -> bool:
    return len(world.questions) == times


def fails(_: Question) -> Answer:
    """Fail as a world does."""
    raise WorldError("slurmctld does not answer: see whether it runs")


def test_the_answer_is_there_when_the_world_has_answered() -> None:
    """The first question starts it; until then nothing is known, and nothing is wrong."""
    world = World()
    with closing(Lookout(world)) as lookout:
        assert lookout.answer() == Answer()
        lookout.put(Question(gpus=(GPU,)))
        lookout.settle(10)
        assert lookout.answer() == GIVEN
        assert world.questions == [Question(gpus=(GPU,))]
    assert world.closed.wait(10)


def test_new_devices_and_new_keys_are_asked_about_at_once() -> None:
    """What was asked before waits for its time."""
    world = World()
    with closing(Lookout(world, refresh_seconds=3600)) as lookout:
        lookout.put(Question(gpus=(GPU,)))
        until(lambda: len(world.questions) == 1, "the first question")
        lookout.settle(10)
        lookout.put(Question(gpus=(GPU,)))
        for number, question in enumerate(
            (Question(gpus=(GPU, OTHER)), Question(gpus=(GPU, OTHER), keys=frozenset({"slurm:4711"}))), 2
        ):
            lookout.put(question)
            until(partial(_asked, world, number), "a question at once")
            assert world.questions[-1] == question


def test_a_world_that_never_answers_holds_nobody_up() -> None:
    """Putting a question and taking the answer do not wait; after a while it is said to be stuck."""
    release, now = threading.Event(), [0.0]
    entered = threading.Event()

    def hang(_: Question) -> Answer:
        entered.set()
        release.wait(60)
        return GIVEN

    lookout = Lookout(World(hang), monotonic=lambda: now[0])
    try:
        lookout.put(Question())
        assert entered.wait(10)
        began = time.perf_counter()
        for _ in range(1000):
            lookout.put(Question(keys=frozenset({"slurm:1"})))
            assert lookout.answer() == Answer()
        assert time.perf_counter() - began < 5
        now[0] = STUCK_SECONDS + 1
        assert lookout.answer() == Answer(trouble="slurm has not answered for 21 s")
        release.set()
        until(lambda: lookout.answer() == GIVEN, "the answer")
    finally:
        release.set()
        lookout.close()


def test_what_was_told_last_holds_for_a_while() -> None:
    """A scheduler that restarts renames nobody; one that stays away is not believed for ever."""
    now = [0.0]
    world = World()
    with closing(Lookout(world, monotonic=lambda: now[0])) as lookout:
        lookout.put(Question())
        lookout.settle(10)
        world.act = fails
        lookout.put(Question(gpus=(GPU,)))
        until(lambda: bool(lookout.answer().trouble), "trouble")
        assert lookout.answer().given == GIVEN.given
        assert lookout.answer().trouble == "slurmctld does not answer: see whether it runs"
        now[0] = KEEP_SECONDS + 1
        assert lookout.answer().given == {}
        assert lookout.answer().trouble


@pytest.mark.parametrize("error", [ValueError("odd"), RecursionError(), KeyError("x")])
def test_a_bug_in_a_world_is_trouble_and_no_end(error: Exception) -> None:
    """The thread goes on, and the next answer counts."""

    def breaks(_: Question) -> Answer:
        raise error

    world = World(breaks)
    with closing(Lookout(world, refresh_seconds=0.01)) as lookout:
        lookout.put(Question())
        until(lambda: "slurm failed" in lookout.answer().trouble, "trouble")
        world.act = lambda _: GIVEN
        until(lambda: lookout.answer() == GIVEN, "the answer")


def test_a_world_that_is_not_here_is_no_trouble() -> None:
    """It is not asked; nothing is known of it and nothing wrong."""
    world = World()
    with closing(Lookout(world, available=lambda: False)) as lookout:
        lookout.put(Question())
        lookout.settle(10)
        assert lookout.answer() == Answer()
        assert world.questions == []


def test_failures_are_repeated_ever_less_often_but_within_a_minute() -> None:
    """The pauses double up to a minute: whoever is given GPUs is named within that of a recovery."""
    lookout = Lookout(World(fails), refresh_seconds=15)
    pauses = [lookout._look() for _ in range(5)]
    assert pauses == [15, 30, 60, 60, 60]
    lookout._world.act = lambda _: GIVEN  # type: ignore[attr-defined]
    assert lookout._look() == 15
