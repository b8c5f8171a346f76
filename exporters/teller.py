"""Tells one receiver what rules found: each change once it was told is never told again.

- What was told is written down only when the receiver has answered; until then it is told again, with pauses.
- A receiver that forgets hears of what is open again and again; while nothing is, it hears nothing.
- What is refused among several is sent in halves, so that one bad finding holds up none of the others.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.clock import Clock, SystemClock
from agent.restore import FOREVER_MS
from exporters.courier import Courier, log
from exporters.cursors import TELLS, Cursor
from exporters.message import Message
from exporters.settle import DELIVERED, Outcome, Verdict
from exporters.tidings import Tiding, begun_at, news, told_open

MOST_BYTES = 1024 * 1024
MOST_AT_ONCE = 256
"""So many findings are read before the journal is asked again."""
LEAST_REST_SECONDS, REST_SECONDS = 0.1, 30.0
"""How long to wait for a tick before looking by oneself."""
REFUSED_REST_MS = 900_000
"""What is open and was refused is said again only after this: not everything refused is so for good."""


class Post(Protocol):
    """Sends messages to one receiver."""

    def send(self, body: bytes, more: Mapping[str, str] | None = None) -> Outcome:
        """Send a message with more headers; never raises for what a receiver or a network may do."""

    def close(self) -> None:
        """Let go of connections."""


Encode = Callable[[Sequence[Tiding], Mapping[str, str], int], Message]
"""Writes what is told, with the node's labels, at a moment. Of nothing it writes what tries the receiver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What a teller needs to know of its receiver.

    `most` is how many findings go into one message; `repeat_ms` after how long what is open is sent again, 0
    for never.
    """

    name: str
    encode: Encode
    post: Post
    most: int = 1
    repeat_ms: int = 0
    spread_seconds: float = 0.0


class Teller(Courier):
    """Tells one receiver."""

    def __init__(
        self, telling: Telling, journal: Path, labels: Mapping[str, str], clock: Clock | None = None
    ) -> None:
        super().__init__(telling.name, journal, telling.post.close, telling.spread_seconds)
        self._telling = telling
        self._labels = labels
        self._clock = clock or SystemClock(lambda _: True)
        self._due_ms: dict[int, int] = {}
        """By finding: when it is to be said again that it is open."""

    def _step(self) -> float:
        db = self._open()
        cursor = self._cursors.load(self.name)
        if cursor.tick_id != TELLS:
            cursor = Cursor(self.name, TELLS, begun_at(db), resends=cursor.resends)
            self._cursors.save(cursor)
        found = news(db, self.name, cursor.tick_ms, self._clock.wall_ms(), MOST_AT_ONCE)
        if found.settled:
            self._cursors.save(cursor, [one.told for one in found.settled])
        self.standing = cursor.standing(found.waiting)
        told = found.first or self._to_repeat(db)
        if not told:
            if not cursor.failure:
                self._well()  # it was the journal that failed
            return self._rest_seconds()
        outcome, tried = self._tell(told, cursor, is_news=bool(found.first))
        if outcome.verdict is Verdict.UNREACHABLE:
            return self._fail(cursor, outcome, [one.tried for one in tried if found.first and one.is_open])
        return 0.0

    def _to_repeat(self, db: sqlite3.Connection) -> list[Tiding]:
        """Give all that is open, once one of it is due to be said again."""
        if not self._telling.repeat_ms:
            return []
        found = told_open(db, self.name)
        self._due_ms = {one.number: self._due_ms.get(one.number, 0) for one in found}
        at_ms = self._monotonic_ms()
        if all(due_ms > at_ms for due_ms in self._due_ms.values()):
            return []
        soon_ms = at_ms + self._telling.repeat_ms
        return [one for one in found if self._due_ms[one.number] <= soon_ms]

    def _rest_seconds(self) -> float:
        rest_ms = min(self._due_ms.values(), default=FOREVER_MS) - self._monotonic_ms()
        return min(REST_SECONDS, max(LEAST_REST_SECONDS, rest_ms / 1000))

    def _tell(
        self, tidings: Sequence[Tiding], cursor: Cursor, *, is_news: bool
    ) -> tuple[Outcome, Sequence[Tiding]]:
        """Send messages until all is settled, or one is not: that is given."""
        most = self._telling.most
        parts = [tidings[first : first + most] for first in range(0, len(tidings), most)][::-1]
        while parts and not self._closed:
            part = parts.pop()
            body, more = self._telling.encode(part, self._labels, self._clock.wall_ms())
            if len(body) <= MOST_BYTES or len(part) == 1:
                outcome = self._telling.post.send(body, more)
                if outcome.verdict is Verdict.UNREACHABLE:
                    return outcome, part
                if outcome.verdict is Verdict.DELIVERED or len(part) == 1:
                    self._settle(part, outcome, cursor, is_news=is_news)
                    continue
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]
        return DELIVERED, ()

    def _settle(self, part: Sequence[Tiding], outcome: Outcome, cursor: Cursor, *, is_news: bool) -> None:
        """Write down what was told, or refused for good; say when the rest is to be said again."""
        is_refused = outcome.verdict is Verdict.REFUSED
        if self._telling.repeat_ms:
            due_ms = self._monotonic_ms() + (REFUSED_REST_MS if is_refused else self._telling.repeat_ms)
            self._due_ms |= {one.number: due_ms for one in part if one.is_open}
        count = len(part) if is_news else 0
        if is_refused:
            cursor.refused_rows += count
            cursor.refusal = outcome.reason
            self._say_refused(part[0], outcome.reason)
        else:
            cursor.delivered_ticks += count
        cursor.success_ms, cursor.failure = self._clock.wall_ms(), ""
        self._cursors.save(cursor, [one.told for one in part] if is_news else ())
        self.standing = cursor.standing(self.standing.waiting_ticks - count)
        self._well()

    def _say_refused(self, one: Tiding, reason: str) -> None:
        """Tell the first of a kind."""
        if reason != self._refusal:
            self._refusal = reason
            log.warning(
                "exporter %s: finding %d (%s) is refused: %s", self.name, one.number, one.finding.rule, reason
            )

    def _monotonic_ms(self) -> int:
        return self._clock.monotonic_ns() // 1_000_000
