"""What has to be told of findings: the difference between what the journal has found and what was told.

- A finding that opened is told, and told again as closed; one that did both while nobody could be told is
  told as closed. What came and went meanwhile is told as it is now, with its count.
- While a silence is about a finding, its opening is kept back. If it closes before that ends, it is never
  told. What was told as open is told as closed all the same, and so is what may have been: answers get lost.
- Where an exporter begins, only what is open is told of what was before.

All raise sqlite3.Error.
"""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from agent.remarks import Acknowledgement, acknowledgements, is_silenced, silences
from agent.restore import FINDING_COLUMNS, FOREVER_MS, finding_of
from agent.tick import Finding
from exporters.cursors import Told

_SEAT = """coalesce(
        (SELECT position FROM place WHERE place.gpu_id = finding.gpu_id AND from_ms <= opened_ms
         ORDER BY from_ms DESC LIMIT 1),
        (SELECT position FROM place WHERE place.gpu_id = finding.gpu_id ORDER BY from_ms LIMIT 1))"""
"""Where the GPU sat when the finding opened: labels must not change as long as it lasts."""
_FOUND = f"""
    SELECT finding.id, {_SEAT}, coalesce(gpu.model, ''), told.finding_id, told.closed_ms,
        {FINDING_COLUMNS}
    FROM finding JOIN node ON node.id = node_id LEFT JOIN gpu ON gpu.id = gpu_id
    LEFT JOIN told ON told.finding_id = finding.id AND told.exporter = :exporter"""
_NEWS = f"""{_FOUND}
    WHERE CASE
        WHEN told.finding_id IS NULL THEN finding.closed_ms IS NULL OR finding.closed_ms > :begun_ms
        ELSE told.times != finding.times OR (told.closed_ms IS NULL) != (finding.closed_ms IS NULL)
    END
    ORDER BY coalesce(finding.closed_ms, max(opened_ms, coalesce(told.closed_ms, 0))), finding.id"""
_TOLD_OPEN = f"""{_FOUND}
    WHERE finding.closed_ms IS NULL AND told.closed_ms IS NULL AND told.times > 0
    ORDER BY opened_ms, finding.id"""
_KEY_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiding:
    """A finding as it is told: that it is open, or that it closed. `gpu` is the index, None for the node."""

    number: int
    finding: Finding
    gpu: int | None = None
    model: str = ""
    acknowledged: Acknowledgement | None = None

    @property
    def is_open(self) -> bool:
        """Whether it tells that something is wrong, and not that it is over."""
        return self.finding.closed_ms is None

    @property
    def told(self) -> Told:
        """What the journal keeps of it once it was told."""
        return self.number, self.finding.times, self.finding.closed_ms

    @property
    def tried(self) -> Told:
        """What the journal keeps of it when it was sent, but no answer came."""
        return self.number, -self.finding.times, None

    @property
    def key(self) -> str:
        """What is the same however often this is told, and another for anything else."""
        one = self.finding
        said = one.node, one.uuid, one.rule, one.opened_ms, one.times, self.is_open
        return sha256(json.dumps(said).encode()).hexdigest()[:_KEY_DIGITS]


class News(NamedTuple):
    """What has to be told: the first of it, how much it is in all, and since when the first has waited.

    `settled` need not be told any more.
    """

    first: list[Tiding]
    waiting: int
    since_ms: int
    settled: list[Tiding]


def news(db: sqlite3.Connection, exporter: str, begun_ms: int, at_ms: int, most: int) -> News:
    """Read what an exporter has to tell at a moment, oldest first, at most so many of it."""
    known = silences(db, 0)
    found = News([], 0, 0, [])
    for one, is_thought_open in _tidings(db, _NEWS, exporter, begun_ms):
        closed_ms = one.finding.closed_ms
        if closed_ms is None or not is_thought_open:
            if closed_ms is not None and is_silenced(one.finding, known, closed_ms):
                found.settled.append(one)
                continue
            if is_silenced(one.finding, known, at_ms):
                continue
        since_ms = one.finding.opened_ms if closed_ms is None else closed_ms
        found = found._replace(waiting=found.waiting + 1, since_ms=found.since_ms or since_ms)
        if len(found.first) < most:
            found.first.append(one)
    return found


def told_open(db: sqlite3.Connection, exporter: str) -> list[Tiding]:
    """Read what is open and was told so, oldest first."""
    return [one for one, _ in _tidings(db, _TOLD_OPEN, exporter, FOREVER_MS)]


def begun_at(db: sqlite3.Connection) -> int:
    """Give the moment until which everything is history for an exporter that begins now."""
    return int(db.execute("SELECT coalesce(max(closed_ms), 0) FROM finding").fetchone()[0])


def _tidings(
    db: sqlite3.Connection, query: str, exporter: str, begun_ms: int
) -> Iterator[tuple[Tiding, bool]]:
    """Read findings, each with whether the receiver may think that it is open."""
    acknowledged = acknowledgements(db)
    for number, gpu, model, told, told_closed_ms, *row in db.execute(
        query, {"exporter": exporter, "begun_ms": begun_ms}
    ):
        yield (
            Tiding(
                number=number,
                finding=finding_of(row),
                gpu=gpu,
                model=model,
                acknowledged=acknowledged.get(number),
            ),
            told is not None and told_closed_ms is None,
        )
