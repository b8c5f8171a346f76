"""Asks one world on a thread of its own, and keeps its latest answer at hand.

A world that fails is asked again after a while that grows; what it told last holds for some minutes, so that
a scheduler's restart renames nobody. One that does not come back from a question is said to be stuck.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from agent.holders.contract import Answer, Question, World, WorldError

KEEP_SECONDS = 300.0
"""For so long an answer holds after the world has failed."""
STUCK_SECONDS = 20.0
ABSENT_SECONDS = 30.0
"""How often a world that is not on this node is looked for."""
MOST_SECONDS = 60.0
"""The longest that a failing world waits: who is given GPUs is named within a minute of its recovery."""
NOTHING = Answer()
log = logging.getLogger("gputally")


class Lookout:
    """One world. `put` and `answer` never wait; `settle` waits for the first answer, at the start."""

    def __init__(
        self,
        world: World,
        available: Callable[[], bool] = lambda: True,
        refresh_seconds: float = 15.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = world.name
        self._world = world
        self._available = available
        self._refresh_seconds = refresh_seconds
        self._monotonic = monotonic
        self._question = Question()
        self._answer = NOTHING
        self._answered_at = 0.0
        self._asked_at: float | None = None
        self._trouble = ""
        self._failures = 0
        self._wake = threading.Condition()
        self._due = self._closed = self._settled = False
        self._thread: threading.Thread | None = None

    def present(self) -> bool:
        """Tell whether the world is on this node."""
        return self._available()

    def put(self, question: Question) -> None:
        """Take the latest question; new keys and new devices are asked about at once."""
        with self._wake:
            news = not question.keys <= self._question.keys or (question.gpus, question.slices) != (
                self._question.gpus,
                self._question.slices,
            )
            self._question = question
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name=f"holders-{self.name}", daemon=True)
                self._thread.start()
            elif news and not self._failures:
                self._due = True
                self._wake.notify()

    def answer(self) -> Answer:
        """Give what is known now, with what went wrong."""
        now = self._monotonic()
        with self._wake:
            trouble, asked_at = self._trouble, self._asked_at
            known = self._answer
            if asked_at is not None and now - asked_at > STUCK_SECONDS:
                trouble = f"{self.name} has not answered for {now - asked_at:.0f} s"
            if trouble and now - self._answered_at > KEEP_SECONDS:
                known = NOTHING
        return replace(known, trouble=trouble) if trouble else known

    def settle(self, seconds: float) -> None:
        """Wait until it was asked once, whatever came of it, but no longer than so many seconds."""
        with self._wake:
            self._wake.wait_for(lambda: self._settled or self._thread is None or self._closed, seconds)

    def _run(self) -> None:
        while True:
            pause_seconds = self._look()
            with self._wake:
                self._settled = True
                self._wake.notify_all()
                self._wake.wait_for(lambda: self._due or self._closed, pause_seconds)
                self._due = False
                if self._closed:
                    break
        self._world.close()

    def _look(self) -> float:
        """Ask once; give the seconds until the next time."""
        if not self._available():
            self._take(NOTHING, "")
            return ABSENT_SECONDS
        with self._wake:
            question, self._asked_at = self._question, self._monotonic()
        try:
            answer = self._world.look(question)
        except WorldError as error:
            return self._fail(str(error))
        except Exception as error:  # a world's bug must not end what names holders
            log.debug("%s failed", self.name, exc_info=True)
            return self._fail(f"{self.name} failed: {error!r}")
        self._take(answer, answer.trouble)
        self._failures = 0
        return self._refresh_seconds

    def _take(self, answer: Answer, trouble: str) -> None:
        with self._wake:
            self._answer, self._answered_at = answer, self._monotonic()
            self._asked_at, self._trouble = None, trouble

    def _fail(self, trouble: str) -> float:
        with self._wake:
            self._asked_at, self._trouble = None, trouble
            self._failures += 1
            return min(MOST_SECONDS, self._refresh_seconds * 2.0 ** min(self._failures - 1, 6))

    def close(self) -> None:
        """End the thread; one that is stuck in its world is left behind."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread:
            self._thread.join(timeout=0.5)
