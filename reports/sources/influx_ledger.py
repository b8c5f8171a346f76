"""The accounts of a fleet in InfluxDB, as agents push them: measurement `gpu`, a field for each quantity."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.facts import FREE_THROUGHOUT_MS, FreeHour, HourSum
from reports.sections import Group
from reports.sources.free_hours import counted
from reports.sources.influxql import Points, any_of, name
from reports.sources.ledger import BEFORE_MS, Account, Known, Looks, Quantity, Seat
from reports.sources.runs import FINDING_STEP_MS, findings_of
from reports.sums import Amounts
from reports.window import Window

MOST_SEATS = 200
_MOST_STEPS = 10_000
_STATES = {state.value: state for state in State}


class Asked(Protocol):
    """A store as reports/sources/influxql.py asks it."""

    url: str

    def points(self, statement: str) -> Iterator[Points]:
        """Ask a statement."""


class InfluxLedger:
    """A fleet's accounts in a database, see ledger.py; `pool_label` names the tag of pools."""

    def __init__(self, store: Asked, pool_label: str) -> None:
        self.name = store.url
        self._store = store
        self._pool = (pool_label,) if pool_label else ()

    def seats(self, from_ms: int, to_ms: int) -> dict[Seat, Known]:
        """Name the GPUs that told who they are."""
        tags = ("uuid", "node", "gpu", "model", "serial", *self._pool)
        found: dict[Seat, Known] = {}
        for told, _ in self._asked("last", "info", (from_ms, to_ms), tags):
            position = told.get("gpu", "")
            found[_seat(told)] = Known(
                int(position) if position.isascii() and position.isdecimal() else 0,
                told.get("model", ""),
                told.get("serial", ""),
                self._pool_of(told),
            )
        return found

    def first(self, from_ms: int, to_ms: int) -> int:
        """Count what GPUs told of themselves, hour by hour, where there is nothing at the beginning."""
        if any(points for _, points in self._asked("last", "info", (from_ms - BEFORE_MS, from_ms), ())):
            return from_ms
        told = self._asked("count", "info", (from_ms, to_ms), (), step_ms=HOUR_MS)
        moments = [at_ms + HOUR_MS - 1 for _, points in told for at_ms, count in points if count]
        return min((*moments, to_ms)) if moments else from_ms

    def looks(
        self, quantity: Quantity, moments: Sequence[int], back_ms: int, seats: Sequence[Seat] | None = None
    ) -> Looks:
        """Look at accounts: at one moment, or at the ends of steps."""
        field = f"tally_{quantity}_total"
        tags = ("node", "uuid", "owner", *(() if quantity == "busy_seconds" else ("state",)))
        found: Looks = {}
        for where in _parts(seats):
            for told, points in self._at(field, moments, back_ms, tags, where):
                state = _STATES.get(told.get("state", ""))
                if state is not None or quantity == "busy_seconds":
                    found.setdefault(_seat(told), {})[Account(state, told.get("owner", ""))] = points
        return found

    def _at(
        self, field: str, moments: Sequence[int], back_ms: int, tags: Sequence[str], where: str
    ) -> Iterator[Points]:
        if len(moments) == 1:
            span = moments[0] - back_ms, moments[0]
            for told, points in self._asked("last", field, span, tags, where=where):
                yield Points(told, [(moments[0], value) for _, value in points])
            return
        step_ms = moments[1] - moments[0]
        span = moments[0] - -(-back_ms // step_ms) * step_ms, moments[-1]
        for told, points in self._asked("last", field, span, tags, step_ms=step_ms, where=where):
            ends = [(at_ms + step_ms - 1, value) for at_ms, value in points]
            yield Points(told, list(_held(ends, moments, back_ms)))

    def _asked(
        self,
        function: str,
        field: str,
        span: tuple[int, int],
        tags: Iterable[str],
        *,
        step_ms: int = 0,
        where: str = "",
        measurement: str = "gpu",
    ) -> Iterator[Points]:
        """Ask for a field in a time (from, to], by steps that end at its edges."""
        return self._store.points(
            f"SELECT {function}({name(field)}) FROM {name(measurement)} WHERE {_within(span)}{where} "
            f"{_by(span, tags, step_ms)}"
        )

    def ends(self, moments: Sequence[int], back_ms: int) -> dict[str, dict[int, int]]:
        """Tell the moments of the nodes' last rows: what is pushed has the end of its interval."""
        found: dict[str, dict[int, int]] = {}
        if len(moments) > 1:
            return found
        span = moments[0] - back_ms, moments[0]
        for told, points in self._asked("last", "tick_late_seconds", span, ("node",), measurement="gputally"):
            if points:
                found[told.get("node", "")] = {moments[0]: points[-1][0]}
        return found

    def hours(self, window: Window) -> Iterator[HourSum]:
        """Sum up what each account grew by from hour to hour."""
        for told, at_ms, seconds in self._hourly("seconds", ("state",), window):
            state = _STATES.get(told.get("state", ""))
            if state is not None:
                yield HourSum(at_ms, self._group(told), state, Amounts(elapsed_ms=round(seconds * 1000)))
        for told, at_ms, seconds in self._hourly("busy_seconds", (), window):
            yield HourSum(at_ms, self._group(told), State.ACTIVE, Amounts(busy_us=round(seconds * 1e6)))
        for told, at_ms, joules in self._hourly("joules", ("state",), window):
            state = _STATES.get(told.get("state", ""))
            if state is not None:
                yield HourSum(at_ms, self._group(told), state, Amounts(energy_mj=round(joules * 1000)))

    def free(self, window: Window) -> Iterator[FreeHour]:
        """Count by node and hour the GPUs whose free time grew by an hour."""
        rows = (
            (at_ms, self._group(told), round(count))
            for told, at_ms, count in self._free_gpus(window)
            if count
        )
        yield from counted(rows)

    def _free_gpus(self, window: Window) -> Iterator[tuple[Mapping[str, str], int, float]]:
        """Give tags, the beginning of each hour, and how many GPUs of a node were free throughout it."""
        span, before = (window.from_ms, window.to_ms), (window.from_ms - HOUR_MS, window.to_ms)
        each = ("node", "uuid", "model", *self._pool)
        inner = (
            f"SELECT non_negative_difference(last({name('tally_seconds_total')})) AS grown FROM gpu "
            f"WHERE {_within(before)} AND {any_of('state', [State.FREE])} {_by(before, each, HOUR_MS)}"
        )
        statement = (
            f"SELECT count(grown) FROM ({inner}) WHERE grown >= {FREE_THROUGHOUT_MS // 1000} AND "
            f"{_within(span)} {_by(span, ('node', 'model', *self._pool), HOUR_MS)}"
        )
        for told, points in self._store.points(statement):
            for at_ms, value in points:
                yield told, at_ms // HOUR_MS * HOUR_MS, value

    def _hourly(
        self, quantity: Quantity, more: Sequence[str], window: Window
    ) -> Iterator[tuple[Mapping[str, str], int, float]]:
        """Give tags, the beginning of each hour, and what accounts grew by within it."""
        span = window.from_ms, window.to_ms
        before = window.from_ms - HOUR_MS, window.to_ms
        each = ("node", "uuid", "owner", "model", *self._pool, *more)
        inner = (
            f"SELECT non_negative_difference(last({name(f'tally_{quantity}_total')})) AS grown FROM gpu "
            f"WHERE {_within(before)} {_by(before, each, HOUR_MS)}"
        )
        statement = (
            f"SELECT sum(grown) FROM ({inner}) WHERE {_within(span)} "
            f"{_by(span, ('model', *self._pool, *more), HOUR_MS)}"
        )
        for told, points in self._store.points(statement):
            for at_ms, value in points:
                yield told, at_ms // HOUR_MS * HOUR_MS, value

    def _group(self, told: Mapping[str, str]) -> Group:
        return Group(self._pool_of(told), told.get("model", ""))

    def _pool_of(self, told: Mapping[str, str]) -> str:
        return told.get(self._pool[0], "") if self._pool else ""

    def sliced(self, from_ms: int, to_ms: int) -> dict[str, float]:
        """Ask at both ends, and for the time between where they differ."""
        ends = [
            {
                told.get("uuid", "")
                for told, points in self._asked("last", "mig_mode_flag", (at_ms - HOUR_MS, at_ms), ("uuid",))
                if points and points[-1][1] == 1
            }
            for at_ms in (from_ms, to_ms)
        ]
        found = dict.fromkeys(ends[0] & ends[1], 1.0)
        changed = sorted(ends[0] ^ ends[1])
        for first in range(0, len(changed), MOST_SEATS):
            where = f" AND {any_of('uuid', changed[first : first + MOST_SEATS])}"
            for told, points in self._asked(
                "mean", "mig_mode_flag", (from_ms, to_ms), ("uuid",), where=where
            ):
                found[told.get("uuid", "")] = points[-1][1] if points else 0.0
        return found

    def throttled(self, window: Window) -> dict[Seat, dict[str, int]]:
        """Tell what the counters of lowered clocks grew by."""
        found: dict[Seat, dict[str, int]] = {}
        for told, seconds in self._between("throttle_seconds_total", "reason", window):
            found.setdefault(_seat(told), {})[told.get("reason", "")] = round(seconds * 1000)
        return found

    def xids(self, window: Window) -> dict[Seat, dict[int, int]]:
        """Tell what the counters of XIDs grew by."""
        found: dict[Seat, dict[int, int]] = {}
        for told, times in self._between("xid_errors_total", "xid", window):
            number = told.get("xid", "")
            if number.isascii() and number.isdecimal():
                found.setdefault(_seat(told), {})[int(number)] = round(times)
        return found

    def _between(self, field: str, tag: str, window: Window) -> Iterator[tuple[Mapping[str, str], float]]:
        """Give what counters grew by from edge to edge; one that is new grew from 0."""
        tags = ("node", "uuid", tag)
        before = {
            (_seat(told), told.get(tag, "")): points[-1][1]
            for told, points in self._asked("last", field, (window.from_ms - HOUR_MS, window.from_ms), tags)
            if points
        }
        for told, points in self._asked("last", field, (window.to_ms - HOUR_MS, window.to_ms), tags):
            more = points[-1][1] - before.get((_seat(told), told.get(tag, "")), 0.0) if points else 0.0
            if more > 0:
                yield told, more

    def findings(self, window: Window) -> list[Finding]:
        """Tell when findings were open, to within the time after which they are told again."""
        lasts_ms = window.to_ms - window.from_ms
        step_ms = FINDING_STEP_MS * -(-lasts_ms // (FINDING_STEP_MS * _MOST_STEPS))
        tags = ("node", "uuid", "rule", "severity")
        span = window.from_ms, window.to_ms
        told = self._asked("last", "finding", span, tags, step_ms=step_ms)
        seen = ((tags, [at_ms + step_ms - 1 for at_ms, value in points if value]) for tags, points in told)
        return findings_of(seen, step_ms, window.to_ms)


def _held(
    points: Iterable[tuple[int, float]], moments: Iterable[int], back_ms: int
) -> Iterator[tuple[int, float]]:
    """Give the last point within some time before each moment."""
    left, last = iter(points), None
    coming = next(left, None)
    for at_ms in moments:
        while coming is not None and coming[0] <= at_ms:
            last, coming = coming, next(left, None)
        if last is not None and at_ms - last[0] < back_ms:
            yield at_ms, last[1]


def _seat(told: Mapping[str, str]) -> Seat:
    return Seat(told.get("uuid", ""), told.get("node", ""))


def _parts(seats: Sequence[Seat] | None) -> Iterator[str]:
    if seats is None:
        yield ""
        return
    uuids = sorted({seat.uuid for seat in seats})
    for first in range(0, len(uuids), MOST_SEATS):
        yield f" AND {any_of('uuid', uuids[first : first + MOST_SEATS])}"


def _within(span: tuple[int, int]) -> str:
    return f"time > {span[0]}ms AND time <= {span[1]}ms"


def _by(span: tuple[int, int], tags: Iterable[str], step_ms: int) -> str:
    by = [name(tag) for tag in tags]
    if (
        step_ms
    ):  # steps of InfluxQL hold their beginning and not their end: a millisecond later they are as ours
        by = [f"time({step_ms}ms, {span[0] % step_ms + 1}ms)", *by]
    return f"GROUP BY {', '.join(by)}{' fill(none)' if step_ms else ''}" if by else ""
