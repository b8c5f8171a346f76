"""One interval, ready to be written, and how those that wait for long become one.

While the journal cannot be written its intervals wait in memory. The newest wait whole; of those before, what
the accounts need is kept, and an hour of it is one record.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from agent.accounts import Key
from agent.hourly import FIGURES, GpuHour, Hourly, Merge
from agent.spells import Spell
from agent.tally import HOUR_MS, Entry, Posting, Timeline
from agent.tick import Event, Finding, Tick

_WORK: Mapping[Merge, Callable[[Sequence[float]], float]] = {"max": max, "min": min, "sum": sum}


class Record(NamedTuple):
    """One interval, ready to be written."""

    tick: Tick
    posting: Posting
    grown: frozenset[Key]
    events: tuple[Event, ...] = ()
    left: tuple[Timeline, ...] = ()
    findings: tuple[Finding, ...] = ()
    hourly: Hourly = Hourly()

    def without_readings(self) -> "Record":
        """Give what the accounts need of it."""
        return self._replace(tick=replace(self.tick, readings=())) if self.tick.readings else self


def folded(first: Record, second: Record) -> Record | None:
    """Make one record of two that follow one another; None where that would lose something.

    They are of one hour, and no GPU came or left. All that they say of a GPU is then of one piece of time, as
    what several holders of a GPU had is: whoever cuts it cuts all of it in proportion.
    """
    before, after = first.tick, second.tick
    hour_ms = before.start_ms // HOUR_MS
    if (
        first.left
        or second.left
        or after.node != before.node
        or after.gpus not in (None, before.gpus)
        or after.start_ms < before.end_ms
        or (after.end_ms - 1) // HOUR_MS != hour_ms
    ):
        return None
    return Record(
        replace(
            before,
            end_ms=after.end_ms,
            late_seconds=max(before.late_seconds, after.late_seconds),
            driver_calls=before.driver_calls + after.driver_calls,
            driver_seconds=before.driver_seconds + after.driver_seconds,
        ),
        Posting(
            list(_summed([*first.posting.entries, *second.posting.entries])),
            _latest([*first.posting.spells, *second.posting.spells]),
        ),
        first.grown | second.grown,
        first.events + second.events,
        findings=first.findings + second.findings,
        hourly=_hourly(first.hourly, second.hourly),
    )


def _summed(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Sum up by GPU, state, holder and hour; what is of a GPU and an hour begins together."""
    starts: dict[tuple[str, int], int] = {}
    sums: dict[Entry, list[int]] = {}
    for entry in entries:
        piece = entry.uuid, entry.start_ms // HOUR_MS
        starts[piece] = min(entry.start_ms, starts.get(piece, entry.start_ms))
        amounts = entry[5:10]
        key = Entry(*entry[:4], start_ms=piece[1], elapsed_ms=0, slice=entry.slice)
        total = sums.setdefault(key, [0] * len(amounts))
        for place, amount in enumerate(amounts):
            total[place] += amount
    for key, total in sums.items():
        began_ms = starts[key.uuid, key.start_ms]
        yield Entry(*key[:4], began_ms, total[0], total[1], total[2], total[3], total[4], key.slice)


def _latest(spells: Iterable[Spell]) -> list[Spell]:
    return list({(one.uuid, one.holder, one.slice, one.start_ms): one for one in spells}.values())


def _hourly(first: Hourly, second: Hourly) -> Hourly:
    hours: dict[tuple[int, str], GpuHour] = {}
    for one in (*first.gpus, *second.gpus):
        other = hours.get((one.hour_ms, one.uuid))
        figures = one.figures if other is None else _merged(other.figures, one.figures)
        hours[one.hour_ms, one.uuid] = one._replace(figures=figures)
    xids = dict(first.xids)
    for key, count in second.xids.items():
        xids[key] = xids.get(key, 0) + count
    return Hourly(tuple(hours.values()), xids)


def _merged(first: tuple[float | None, ...], second: tuple[float | None, ...]) -> tuple[float | None, ...]:
    found: list[float | None] = []
    for merge, *both in zip(FIGURES.values(), first, second, strict=True):
        known = [one for one in both if one is not None]
        found.append(_WORK[merge](known) if known else None)
    return tuple(found)
