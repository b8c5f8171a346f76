"""Ticks read back from the journal as rows: what the page shows of an interval, for any interval that rests.

The figures of an interval go with each tick. What hardly changes (identity, states, holders, throttle times,
links and other parts, accounts) goes when it changes, and every two minutes, so that no store takes it for
gone.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.pieces import PARTS, SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.restore import HOLDER as COLUMNS
from agent.tick import FAULTS, Condition, State
from agent.view import slice_states_of
from exporters import past
from exporters.catalogue import HOLDER, IDENTITY
from exporters.past import FindingRow, PostingRow, ReadRow, Seat, SliceRow, TickRow, XidSum
from exporters.rows import GPU, OWN, Row

SLOW_MS = 120_000
NEWEST = 2**62
Labels = tuple[tuple[str, str], ...]
_PLAIN = tuple((at, name) for at, (name, metric) in enumerate(QUANTITIES.items()) if not metric.family)
_FAMILIES = tuple(
    (at, metric.family, metric.labels) for at, metric in enumerate(QUANTITIES.values()) if metric.family
)
_SLICE_FIELDS = tuple(f"slice_{name}" for name in SLICE_QUANTITIES)
_STATES = tuple(State)
_WHO = tuple((COLUMNS.index(name), label) for name, label in HOLDER.items())


@dataclass(slots=True)
class _Total:
    """A running account, in ms, mJ and µs. A young one is published as 0."""

    elapsed_ms: int = 0
    energy_mj: int = 0
    busy_us: int = 0
    young: bool = False


_Key = tuple[int, str, str, str]
"""GPU, node, state, owner."""


class History:
    """Reads ticks in the order of their numbers; accounts run along, so one instance reads on and on.

    `after` is the number of the tick before the first that is read. Raises sqlite3.Error.
    """

    def __init__(self, db: sqlite3.Connection, after: int, static: Mapping[str, str]) -> None:
        self._db = db
        self._static = tuple(static.items())
        self._at = after
        self._totals = _totals_at(db, after)
        self._seats: Mapping[int, Sequence[Seat]] = {}
        self._parts: dict[int, dict[tuple[str, str], tuple[Labels, float]]] = {}
        self._parts_ms = -1
        self._findings: Sequence[FindingRow] = ()
        self._xids: Sequence[XidSum] = ()
        self._told: dict[tuple[int, object], object] = {}

    def ticks(self, most: int, until: int = NEWEST) -> list[tuple[TickRow, list[Row]]]:
        """Read the next ticks: at most so many, and none after the number `until`."""
        ticks = past.ticks(self._db, (self._at, until), most)
        if not ticks:
            return []
        span, self._at = (self._at, ticks[-1].id), ticks[-1].id
        self._seats = past.seats(self._db)
        readings, slices = past.readings(self._db, span), past.slices(self._db, span)
        postings = past.postings(self._db, span)
        self._findings = past.findings(self._db, ticks[0].start_ms, ticks[-1].end_ms)
        self._xids = past.xids(self._db)
        return [
            (tick, list(self._rows(tick, readings[tick.id], slices[tick.id], postings[tick.id])))
            for tick in ticks
        ]

    def _labels_of(self, gpu_id: int, at_ms: int) -> Labels | None:
        """Give the labels of every series of a GPU, by where it sat at the end of an interval."""
        seat = self._seat(gpu_id, at_ms)
        if seat is None:
            return None
        own = (
            ("node", seat.node),
            ("gpu", str(seat.position)),
            ("uuid", seat.uuid),
            ("model", seat.identity["model"]),
        )
        return _filled((*own, *self._static))

    def _seat(self, gpu_id: int, at_ms: int) -> Seat | None:
        seats = self._seats.get(gpu_id, ())
        inside = (one for one in reversed(seats) if one.from_ms < at_ms <= one.to_ms)
        return next(inside, seats[-1] if seats else None)

    def _rows(
        self,
        tick: TickRow,
        readings: Iterable[ReadRow],
        slices: Iterable[SliceRow],
        postings: Sequence[PostingRow],
    ) -> Iterator[Row]:
        slow = tick.end_ms // SLOW_MS != tick.start_ms // SLOW_MS
        at_ms = tick.end_ms
        labels: dict[int, Labels] = {}
        for gpu_id in self._seats:
            found = self._labels_of(gpu_id, at_ms)
            if found:
                labels[gpu_id] = found
        for reading in readings:
            yield from self._of_reading(labels[reading.gpu_id], reading, at_ms, slow=slow)
            seat = self._seat(reading.gpu_id, at_ms)
            if slow and seat:
                identity = ((name, str(seat.identity[name])) for name in IDENTITY)
                yield Row(GPU, _filled((*labels[reading.gpu_id], *identity)), (("info", 1.0),), at_ms)
        told = slice_states_of(
            (one.slice, State(one.state), one.start_ms, one.elapsed_ms) for one in postings if one.slice
        )
        for one in slices:
            yield _of_slice(labels[one.gpu_id], one, at_ms)
            state_of_it = told.get(one.uuid)
            if self._is_new(one.gpu_id, ("slice", one.uuid), state_of_it) or slow:
                yield from _of_slice_state(labels[one.gpu_id], one, state_of_it, at_ms)
        for gpu_id, (state, holders) in _held(postings).items():
            if gpu_id in labels and (self._is_new(gpu_id, "held", (state, holders)) or slow):
                yield from _of_holders(labels[gpu_id], state, holders, at_ms)
        yield from self._accounts(tick, labels, postings, slow=slow)
        yield from self._errors(labels, tick.start_ms, at_ms, slow=slow)
        if slow:
            yield from self._of_parts(labels, at_ms)
        own = _filled((("node", tick.node), *self._static))
        yield Row(OWN, own, (("tick_late_seconds", tick.late_seconds),), at_ms)

    def _is_new(self, gpu_id: int, what: object, value: object) -> bool:
        """Tell whether something is another than it was in the tick before."""
        if self._told.get((gpu_id, what)) == value:
            return False
        self._told[gpu_id, what] = value
        return True

    def _of_reading(self, labels: Labels, reading: ReadRow, at_ms: int, *, slow: bool) -> Iterator[Row]:
        values = reading.values
        known = [(name, value) for at, name in _PLAIN if (value := values[at]) is not None]
        yield Row(GPU, labels, (*known, ("up", float(reading.condition == Condition.OK.value))), at_ms)
        for why in FAULTS:
            now = float(reading.condition == why.value)
            if self._is_new(reading.gpu_id, why, now) or slow:
                yield Row(GPU, (*labels, ("condition", why.value)), (("condition", now),), at_ms)
        for at, family, more in _FAMILIES:
            value = values[at]
            if value is not None and (self._is_new(reading.gpu_id, at, value) or slow):
                yield Row(GPU, (*labels, *more), ((family, value),), at_ms)

    def _errors(
        self, labels: Mapping[int, Labels], start_ms: int, at_ms: int, *, slow: bool
    ) -> Iterator[Row]:
        """Give the findings that were open, and XIDs as far as their counts are known.

        An XID is born as 0 in the interval in which it first came, so that a rate sees it.
        """
        for one in self._findings:
            if one.gpu_id in labels and one.opened_ms <= at_ms < one.closed_ms:
                which = (("rule", one.rule), ("severity", one.severity))
                if self._is_new(one.gpu_id, which, one.opened_ms) or slow:
                    yield Row(GPU, (*labels[one.gpu_id], *which), (("finding", 1.0),), at_ms)
        for xid in self._xids:
            is_born = start_ms <= xid.first_ms <= at_ms
            if xid.gpu_id in labels and (is_born or xid.last_ms <= at_ms):
                counted = (0.0, xid.first_ms / 1000) if is_born else (float(xid.times), xid.last_ms / 1000)
                if self._is_new(xid.gpu_id, ("xid", xid.number), counted) or slow:
                    figures = zip(("xid_errors_total", "xid_last_timestamp_seconds"), counted, strict=True)
                    yield Row(GPU, (*labels[xid.gpu_id], ("xid", str(xid.number))), tuple(figures), at_ms)

    def _accounts(
        self, tick: TickRow, labels: Mapping[int, Labels], postings: Iterable[PostingRow], *, slow: bool
    ) -> Iterator[Row]:
        """Let the accounts grow; give those that did, or all when it is time. A new one is born as 0."""
        grown = {key for key, one in self._totals.items() if one.young}  # born as 0 in the tick before
        for key in grown:
            self._totals[key].young = False
        for posting in postings:
            key = posting.gpu_id, tick.node, posting.state, posting.owner
            total = self._totals.get(key)
            if total is None:
                total = self._totals[key] = _Total(young=True)
            total.elapsed_ms += posting.elapsed_ms
            total.energy_mj += posting.energy_mj
            total.busy_us += posting.busy_us
            grown.add(key)
        busy_us: dict[tuple[int, str], int] = {}
        for key, total in self._totals.items():
            gpu_id, node, state, owner = key
            if node != tick.node or gpu_id not in labels:
                continue
            shown = _NOTHING if total.young else total
            busy_us[gpu_id, owner] = busy_us.get((gpu_id, owner), 0) + shown.busy_us
            if slow or key in grown:
                whose = _filled((*labels[gpu_id], ("state", state), ("owner", owner)))
                figures = (
                    ("tally_seconds_total", shown.elapsed_ms / 1000),
                    ("tally_joules_total", shown.energy_mj / 1000),
                )
                yield Row(GPU, whose, figures, tick.end_ms)
        changed = {(gpu_id, owner) for gpu_id, _, _, owner in grown}
        for (gpu_id, owner), total_us in busy_us.items():
            if slow or (gpu_id, owner) in changed:
                whose = _filled((*labels[gpu_id], ("owner", owner)))
                yield Row(GPU, whose, (("tally_busy_seconds_total", total_us / 1e6),), tick.end_ms)

    def _of_parts(self, labels: Mapping[int, Labels], at_ms: int) -> Iterator[Row]:
        """Give links, fans and other parts as they stood; changes are taken in as they come."""
        for gpu_id, quantity, which, value in past.parts(self._db, self._parts_ms, at_ms):
            if quantity in PARTS:
                told = tuple(zip(PARTS[quantity].labels, json.loads(which), strict=True))
                self._parts.setdefault(gpu_id, {})[quantity, which] = told, value
        self._parts_ms = max(at_ms, self._parts_ms)
        for gpu_id, parts in self._parts.items():
            own = labels.get(gpu_id)
            for (quantity, _), (told, value) in parts.items() if own else ():
                yield Row(GPU, (own or ()) + told, ((quantity, value),), at_ms)


_NOTHING = _Total()


def _totals_at(db: sqlite3.Connection, after: int) -> dict[_Key, _Total]:
    """Tell the accounts as they stood: what they are, less all that came after."""
    totals = {one[:4]: _Total(*one[4:]) for one in past.accounts(db)}
    for one in past.added_since(db, after):
        total = totals.get(one[:4])
        if total:
            total.elapsed_ms -= one.elapsed_ms
            total.energy_mj -= one.energy_mj
            total.busy_us -= one.busy_us
    return {key: total for key, total in totals.items() if not key[3] or total.elapsed_ms or total.energy_mj}


def _of_slice(labels: Labels, one: SliceRow, at_ms: int) -> Row:
    told = zip(_SLICE_FIELDS, one.values, strict=True)
    known = [(name, value) for name, value in told if value is not None]
    which = _filled((*labels, ("slice", one.uuid), ("profile", one.profile)))
    return Row(GPU, which, (("slice_info", one.weight_ratio), *known), at_ms)


def _of_slice_state(labels: Labels, one: SliceRow, now: State | None, at_ms: int) -> Iterator[Row]:
    which = _filled((*labels, ("slice", one.uuid), ("profile", one.profile)))
    for each in _STATES if now else ():
        yield Row(GPU, (*which, ("state", each.value)), (("slice_state", float(each is now)),), at_ms)


def _held(postings: Iterable[PostingRow]) -> dict[int, tuple[State, tuple[Labels, ...]]]:
    """Tell the state of each GPU, and who holds it, at the end of an interval; see agent.view.states_of."""
    postings = tuple(postings)
    latest: dict[int, int] = {}
    for one in postings:
        if one.elapsed_ms:
            latest[one.gpu_id] = max(one.start_ms, latest.get(one.gpu_id, 0))
    found: dict[int, tuple[State, tuple[Labels, ...]]] = {}
    for one in postings:
        if latest.get(one.gpu_id) != one.start_ms or not (one.elapsed_ms or one.holder):
            continue
        state, holders = found.get(one.gpu_id, (State(one.state), ()))
        if one.holder:
            holder = one.holder
            who = tuple([(label, holder[at]) for at, label in _WHO if holder[at]])
            if one.slice:
                who = (*who, ("slice", one.slice))
            holders = tuple(dict.fromkeys((*holders, who)))
        found[one.gpu_id] = min(state, State(one.state), key=_STATES.index), holders
    return found


def _of_holders(labels: Labels, state: State, holders: Iterable[Labels], at_ms: int) -> Iterator[Row]:
    for each in _STATES:
        yield Row(GPU, (*labels, ("state", each.value)), (("state", float(each is state)),), at_ms)
    for who in holders:
        yield Row(GPU, (*labels, *who), (("holder_info", 1.0),), at_ms)


def _filled(labels: Iterable[tuple[str, str]]) -> Labels:
    return tuple([label for label in labels if label[1]])
