"""A node on which rules find things as told, and receivers that are told of them."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from agent.books import Books
from agent.clock import VirtualClock
from agent.remarks import Silence, acknowledge, end_silence, silence, writing
from agent.tick import Finding, Hold
from exporters.alerts import MOST, REPEAT_MS
from exporters.alerts import encode as alerts_of
from exporters.settle import DELIVERED, Outcome, Verdict
from exporters.teller import Encode, Teller, Telling
from exporters.webhook import KEY_HEADER
from exporters.webhook import encode as message_of
from tests.agent.histories import INTERVAL_MS, MIDNIGHT, NODE, TRAINING, books_at, gpu_of, rows, steady_tick

NAME = "pager"
LABELS = {"cluster": "emea"}
HOT, IDLE, LOST = ("thermal_margin_low", 0), ("held_idle_long", 1), ("gpu_down", 1)
DOWN = Outcome(Verdict.UNREACHABLE, "HTTP 503")
REFUSED = Outcome(Verdict.REFUSED, "HTTP 400: bad")
Where = tuple[str, int]
"""A rule, and the index of the GPU."""
_WHAT = "id rule severity node gpu uuid model opened_at closed_at times"
_MORE = "summary action held_by labels acknowledged"


class Node:
    """A node of two GPUs; its clock goes on by an interval with each tick."""

    def __init__(self, path: Path, books: Books, start_ms: int) -> None:
        self.path = path
        self.clock = VirtualClock(start_ms)
        self._books = books
        self.text = "close to its limit"

    def tick(self, *found: Where, times: int = 1) -> None:
        """Live through an interval at whose end these are found."""
        for _ in range(times):
            tick = steady_tick(self.clock.wall_ms())
            self.clock.wait(INTERVAL_MS / 1000)
            holds = {gpu_of(index).uuid: (Hold(TRAINING),) for index in range(2)}
            told = [self._finding(rule, index, tick.end_ms) for rule, index in found]
            self._books.post(tick, holds, judge=lambda _, told=told: told)  # type: ignore[misc]
            assert self._books.commit(tick.end_ms) is None

    def _finding(self, rule: str, index: int, at_ms: int) -> Finding:
        return Finding(
            rule=rule,
            severity="warning",
            node=NODE,
            uuid=gpu_of(index).uuid,
            opened_ms=at_ms,
            summary=self.text,
            action="look at it",
        )

    def silence(self, seconds: float, where: Where | None = None) -> None:
        """Want to hear nothing of a rule on a GPU, or of anything, for so long from now on."""
        from_ms = self.clock.wall_ms()
        one = Silence(from_ms=from_ms, until_ms=from_ms + round(seconds * 1000), author="ada", reason="known")
        if where:
            one = replace(one, rule=where[0], uuid=gpu_of(where[1]).uuid)
        with writing(self.path) as db:
            silence(db, one)

    def end_silences(self) -> None:
        """Want to hear of all again."""
        with writing(self.path) as db:
            for (number,) in db.execute("SELECT id FROM silence").fetchall():
                end_silence(db, number, self.clock.wall_ms())

    def acknowledge(self) -> None:
        """Say of all that is open that it is known."""
        numbers = [number for (number,) in rows(self.path, "SELECT id FROM finding WHERE closed_ms IS NULL")]
        with writing(self.path) as db:
            acknowledge(db, numbers, at_ms=self.clock.wall_ms(), author="ada", reason="fan ordered")


@contextmanager
def node(path: Path, start_ms: int = MIDNIGHT) -> Iterator[Node]:
    """Let a node live, on a journal that is made or goes on."""
    with books_at(path, now_ms=start_ms) as books:
        yield Node(path, books, start_ms)


class Said(NamedTuple):
    """What a message says, in short."""

    status: str
    rule: str
    gpu: int
    times: int
    key: str
    finding: Mapping[str, Any]

    @property
    def short(self) -> tuple[str, str, int]:
        """Without what tells one from another of the kind."""
        return self.status, self.rule, self.gpu


def said(body: bytes, headers: Mapping[str, str]) -> Said:
    """Read a message; anything that is not as documented fails."""
    told = json.loads(body)
    assert list(told) == ["schema_version", "status", "key", "finding"]
    assert told["schema_version"] == 1
    assert told["status"] in ("firing", "resolved")
    assert headers[KEY_HEADER] == told["key"]
    assert len(told["key"]) == 32
    one = told["finding"]
    assert list(one) == [*_WHAT.split(), *_MORE.split()]
    assert (one["closed_at"] is None) == (told["status"] == "firing")
    for moment in (one["opened_at"], one["closed_at"]):
        assert moment is None or datetime.fromisoformat(moment).tzinfo is not None
    return Said(told["status"], one["rule"], one["gpu"], one["times"], told["key"], one)


class Receiver:
    """Takes messages as `act` says, which settles each; what it took is kept."""

    def __init__(self) -> None:
        self.act: Callable[[Any], Outcome] = lambda _: DELIVERED
        self.asked = 0
        self.taken: list[Said] = []

    def send(self, body: bytes, more: Mapping[str, str] | None = None) -> Outcome:
        """Settle a message."""
        self.asked += 1
        one = said(body, more or {})
        outcome = self.act(one)
        if outcome.verdict is Verdict.DELIVERED:
            self.taken.append(one)
        return outcome

    def close(self) -> None:
        """End nothing."""

    @property
    def short(self) -> list[tuple[str, str, int]]:
        """What it took, in short."""
        return [one.short for one in self.taken]


class Alerts(Receiver):
    """Takes lists of alerts."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[dict[str, Any]]] = []

    def send(self, body: bytes, more: Mapping[str, str] | None = None) -> Outcome:
        """Settle a list."""
        assert not more
        self.asked += 1
        told = json.loads(body)
        outcome = self.act(told)
        if outcome.verdict is Verdict.DELIVERED:
            self.batches.append(told)
        return outcome


def teller(one: Node, to: Receiver) -> Teller:
    """Make what tells a receiver, as it begins after a start of the agent."""
    encode: Encode = alerts_of if isinstance(to, Alerts) else message_of
    repeats = isinstance(to, Alerts)
    telling = Telling(
        name=NAME, encode=encode, post=to, most=MOST if repeats else 1, repeat_ms=REPEAT_MS if repeats else 0
    )
    return Teller(telling, one.path, LABELS, one.clock)


def settle(one: Teller) -> float:
    """Let it tell all that there is; give how long it rests then."""
    for _ in range(1000):
        pause = one.step()
        if pause:
            return pause
    raise AssertionError("it never rests")
