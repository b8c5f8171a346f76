"""The accounts' arithmetic: from readings to entries that tile the time of every GPU.

For each GPU the entries follow one another without a hole or an overlap: what no reading covers is
entered as unknown, what was entered is never entered again. Every amount is a whole number of
milliseconds, microseconds or millijoules, and a split hands out exactly what it was given. No entry
crosses an hour.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

from agent.spells import Spell
from agent.states import StateSettings, Verdict, judge_parts
from agent.tick import Hold, Holder, Reading, State

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ENERGY_SLACK = 1.5
"""A GPU may draw this much over its limit for moments; more is not believed (facts on NVML counters)."""
LIMIT_WATTS_UNKNOWN = 2000.0


class Entry(NamedTuple):
    """One line of the ledger: a stretch of one GPU in one state, or a holder's part of it.

    `elapsed_ms` is that part of the stretch; `busy_us` is busy time in it and `busy_seen_ms` the time for
    which busy was known; `energy_mj` and `energy_seen_ms` likewise.
    """

    uuid: str
    node: str
    state: State
    holder: Holder | None
    start_ms: int
    elapsed_ms: int
    busy_us: int = 0
    busy_seen_ms: int = 0
    energy_mj: int = 0
    energy_seen_ms: int = 0
    slice: str = ""


Seat = tuple[Holder, str]
"""A holder, and the slice of a GPU that it holds; empty for the whole GPU."""


@dataclass(slots=True)
class Timeline:
    """What must be remembered of a GPU between intervals, and across restarts."""

    uuid: str
    node: str
    until_ms: int
    seen_ms: int = 0
    energy_joules: float | None = None
    energy_at_ms: int = 0
    boot_id: str = ""
    spells: dict["Seat", Spell] = field(default_factory=dict)


class Posting(NamedTuple):
    """What an interval adds to the books."""

    entries: list[Entry]
    spells: list[Spell]


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Split a whole number into whole parts that sum to it; equal parts if all weights are 0."""
    if not any(weights):
        weights = [1] * len(weights)
    parts, seen, given, whole = [], 0, 0, sum(weights)
    for weight in weights:
        seen += weight
        upto = total * seen // whole
        parts.append(upto - given)
        given = upto
    return parts


def _hours(start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    if end_ms <= (start_ms // HOUR_MS + 1) * HOUR_MS:
        return [(start_ms, end_ms)]
    marks = [start_ms, *range((start_ms // HOUR_MS + 1) * HOUR_MS, end_ms, HOUR_MS), end_ms]
    return list(pairwise(marks))


class _Part(NamedTuple):
    """A holder's part of an interval: its weight, and from when on its time is idle."""

    state: State
    holder: Holder | None
    weight: int
    slice: str = ""
    idle_ms: int | None = None


def _shares(holds: Sequence[Hold]) -> list[float]:
    """Give shares that sum to 1: equal ones where any is not known, or all are 0."""
    shares = [max(0.0, hold.share or 0.0) for hold in holds]
    whole = sum(shares)
    if not whole or any(hold.share is None for hold in holds):
        return [1 / len(holds)] * len(holds)
    return [share / whole for share in shares]


class Tally:
    """Keeps the timelines of all GPUs and turns readings into entries."""

    def __init__(
        self, settings: StateSettings, *, boot_id: str = "", timelines: Mapping[str, Timeline] | None = None
    ) -> None:
        self.settings = settings
        self._boot_id = boot_id
        self.timelines: dict[str, Timeline] = dict(timelines or {})

    def enroll(self, uuid: str, node: str, at_ms: int) -> None:
        """Begin the account of a GPU, or move it to another node; its time is owed from `at_ms` on."""
        known = self.timelines.get(uuid)
        if known is None:
            self.timelines[uuid] = Timeline(uuid=uuid, node=node, until_ms=at_ms, seen_ms=at_ms)
        else:
            known.node = node

    def post(
        self,
        readings: Sequence[Reading],
        holds: Mapping[str, Sequence[Hold]],
        drained: Callable[[str], bool] = lambda _: False,
    ) -> Posting:
        """Enter readings of enrolled GPUs; time before a reading that nothing covered is unknown.

        A reading that lies in time already entered (the clock was set back) is cut, at worst to nothing.
        """
        posting = Posting([], [])
        for reading in readings:
            verdicts = judge_parts(
                reading, holds.get(reading.uuid, ()), self.settings, drained=drained(reading.uuid)
            )
            self._enter(reading, verdicts, posting)
        return posting

    def close(
        self, until_ms: int, uuids: Sequence[str] | None = None, state: State = State.UNKNOWN
    ) -> Posting:
        """Enter all time of the GPUs (of all, by default) up to a moment, as unknown or as told."""
        posting = Posting([], [])
        for uuid in self.timelines if uuids is None else uuids:
            self._fill(self.timelines[uuid], until_ms, state, posting)
        return posting

    def _fill(self, line: Timeline, until_ms: int, state: State, posting: Posting) -> None:
        if until_ms <= line.until_ms:
            return
        gap_ms = until_ms - line.until_ms
        for start_ms, end_ms in _hours(line.until_ms, until_ms):
            posting.entries.append(Entry(line.uuid, line.node, state, None, start_ms, end_ms - start_ms))
        line.until_ms = until_ms
        self._unseen(line, gap_ms, posting, ends=state is not State.UNKNOWN)

    def _unseen(self, line: Timeline, gap_ms: int, posting: Posting, *, ends: bool = False) -> None:
        limit_ms = self.settings.spell_unknown_seconds * 1000
        for seat, spell in list(line.spells.items()):
            line.spells[seat] = spell.unseen(gap_ms)
            if ends or line.spells[seat].unknown_ms > limit_ms:
                _end_spell(line, seat, posting)
            else:
                posting.spells.append(line.spells[seat])

    def _enter(self, reading: Reading, verdicts: Sequence[Verdict], posting: Posting) -> None:
        line = self.timelines[reading.uuid]
        if reading.end_ms <= line.until_ms:
            return
        self._fill(line, reading.start_ms, State.UNKNOWN, posting)
        span = line.until_ms, reading.end_ms
        length_ms = span[1] - span[0]
        energy_mj = self._energy(reading, line, length_ms, posting)
        busy_us = None if reading.busy_ratio is None else round(reading.busy_ratio * length_ms * 1000)
        line.until_ms = reading.end_ms
        if all(verdict.state is State.UNKNOWN for verdict in verdicts):
            self._unseen(line, length_ms, posting)
        elif line.spells:
            _end_others(line, verdicts, posting)
        parts = [part for verdict in verdicts for part in self._parts(line, verdict, span, posting)]
        posting.entries.extend(_split(line, parts, span, (busy_us, energy_mj)))

    def _energy(self, reading: Reading, line: Timeline, length_ms: int, posting: Posting) -> int | None:
        """Millijoules of the interval; what the counter says beyond it belongs to the gap before it."""
        mean_mj = None if reading.power_watts is None else round(reading.power_watts * length_ms)
        if reading.energy_joules_total is None and mean_mj is None:
            return None  # the chain goes on: the next value tells what this interval used
        old, since_ms, boot_id = line.energy_joules, line.energy_at_ms, line.boot_id
        line.energy_joules, line.energy_at_ms = reading.energy_joules_total, reading.end_ms
        line.boot_id = self._boot_id
        if old is None or reading.energy_joules_total is None or boot_id != self._boot_id:
            return mean_mj
        total_mj = round((reading.energy_joules_total - old) * 1000)
        limit_watts = reading.power_limit_watts or LIMIT_WATTS_UNKNOWN
        span_ms = reading.end_ms - since_ms
        if not 0 <= total_mj <= ENERGY_SLACK * limit_watts * span_ms:
            return mean_mj
        gap_ms = span_ms - length_ms
        if gap_ms <= 0:
            return total_mj
        if mean_mj is None:
            mean_mj = apportion(total_mj, [length_ms, gap_ms])[0]
        mean_mj = min(mean_mj, total_mj)
        posting.entries.extend(_energy_of_gap(line, since_ms, gap_ms, total_mj - mean_mj))
        return mean_mj

    def _parts(
        self, line: Timeline, verdict: Verdict, span: tuple[int, int], posting: Posting
    ) -> Iterator[_Part]:
        """Share a verdict's weight among its holders; the spells of those without activity grow."""
        if not verdict.holds:
            yield _Part(verdict.state, None, _whole_number(verdict.weight), verdict.slice)
            return
        for hold, share in zip(verdict.holds, _shares(verdict.holds), strict=True):
            idle_ms = None
            if verdict.state is State.HELD_GAP:
                idle_ms = self._lengthen(line, (hold.holder, verdict.slice), span, posting)
            weight = _whole_number(verdict.weight * share)
            yield _Part(verdict.state, hold.holder, weight, verdict.slice, idle_ms)

    def _lengthen(self, line: Timeline, seat: Seat, span: tuple[int, int], posting: Posting) -> int:
        """Grow a spell; give the moment from which its time is idle."""
        patience_ms = self.settings.patience_ms(seat[0].workload)
        spell = line.spells.get(seat) or Spell(
            uuid=line.uuid, holder=seat[0], slice=seat[1], start_ms=span[0], end_ms=span[0]
        )
        line.spells[seat] = spell.lengthened(*span, patience_ms)
        posting.spells.append(line.spells[seat])
        return span[0] + spell.until_idle_ms(patience_ms)


def _whole_number(weight: float) -> int:
    return round(weight * 1_000_000_000)


def _end_others(line: Timeline, verdicts: Sequence[Verdict], posting: Posting) -> None:
    """End the spells of all that no longer hold without activity what they held; unknown time ends none."""
    present = {
        (hold.holder, verdict.slice)
        for verdict in verdicts
        if verdict.state is State.HELD_GAP
        for hold in verdict.holds
    }
    unseen = {verdict.slice for verdict in verdicts if verdict.state is State.UNKNOWN}
    for seat in [known for known in line.spells if known not in present and known[1] not in unseen]:
        _end_spell(line, seat, posting)


def _end_spell(line: Timeline, seat: Seat, posting: Posting) -> None:
    posting.spells.append(replace(line.spells.pop(seat), unknown_ms=0, ended=True))


def _energy_of_gap(line: Timeline, start_ms: int, length_ms: int, energy_mj: int) -> Iterator[Entry]:
    """Energy of unknown time whose milliseconds are entered already, by the hours it took."""
    hours = _hours(start_ms, start_ms + length_ms)
    lengths = [end_ms - start_ms for start_ms, end_ms in hours]
    for (piece_ms, _), part_ms, part_mj in zip(hours, lengths, apportion(energy_mj, lengths), strict=True):
        yield Entry(line.uuid, line.node, State.UNKNOWN, None, piece_ms, 0, 0, 0, part_mj, part_ms)


def _split(
    line: Timeline,
    parts: Sequence[_Part],
    span: tuple[int, int],
    amounts: tuple[int | None, int | None],
) -> Iterator[Entry]:
    """Cut an interval at hours and at the ends of patience, and share each piece among the parts.

    `amounts` are the interval's busy microseconds and millijoules, None where they are not known.
    """
    start_ms, end_ms = span
    if len(parts) == 1 and end_ms <= (start_ms // HOUR_MS + 1) * HOUR_MS:
        state, holder, _, piece, idle_ms = parts[0]
        if idle_ms is None or not start_ms < idle_ms < end_ms:  # nothing to cut, as nearly always
            idle = idle_ms is not None and idle_ms <= start_ms
            state = State.HELD_IDLE if idle else state
            yield _whole(line, state, holder, span, amounts)._replace(slice=piece)
            return
    weights = [part.weight for part in parts]
    if not any(weights):
        weights = [1] * len(parts)
    marks = {edge for piece in _hours(*span) for edge in piece}
    marks.update(part.idle_ms for part in parts if part.idle_ms and start_ms < part.idle_ms < end_ms)
    pieces = list(pairwise(sorted(marks)))
    lengths = [end_ms - start_ms for start_ms, end_ms in pieces]
    busy, energy = (None if amount is None else apportion(amount, lengths) for amount in amounts)
    for number, (piece_ms, _) in enumerate(pieces):
        elapsed = apportion(lengths[number], weights)
        told = [part.holder is not None or ms > 0 for part, ms in zip(parts, elapsed, strict=True)]
        shares = [weight if one else 0 for weight, one in zip(weights, told, strict=True)]
        busy_us = apportion(busy[number], shares) if busy else [0] * len(weights)
        energy_mj = apportion(energy[number], shares) if energy else [0] * len(weights)
        for place, part in enumerate(parts):
            if not told[place]:
                continue
            idle = part.idle_ms is not None and piece_ms >= part.idle_ms
            yield Entry(
                line.uuid,
                line.node,
                State.HELD_IDLE if idle else part.state,
                part.holder,
                piece_ms,
                elapsed[place],
                busy_us[place],
                elapsed[place] if busy else 0,
                energy_mj[place],
                elapsed[place] if energy else 0,
                part.slice,
            )


def _whole(
    line: Timeline,
    state: State,
    holder: Holder | None,
    span: tuple[int, int],
    amounts: tuple[int | None, int | None],
) -> Entry:
    start_ms, end_ms = span
    busy_us, energy_mj = amounts
    elapsed_ms = end_ms - start_ms
    return Entry(
        line.uuid,
        line.node,
        state,
        holder,
        start_ms,
        elapsed_ms,
        busy_us or 0,
        0 if busy_us is None else elapsed_ms,
        energy_mj or 0,
        0 if energy_mj is None else elapsed_ms,
    )
