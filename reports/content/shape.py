"""When GPUs work: days of the week against hours of the day, and day by day, in the zone of the window.

Accounts are by hours of UTC, people live by those of their zone. Where these do not fall together, as in
India, an hour is split among the local hours it overlaps in proportion to the time; so is what is left of an
hour at an edge of the accounted time. Clocks differ from UTC by whole quarters of an hour, so an hour is
looked at by quarters: that also holds on days on which clocks change. The parts of an hour are whole ms that
sum to it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta, tzinfo

from agent.tally import HOUR_MS
from agent.tick import State
from reports.facts import Facts
from reports.outline import Report
from reports.sections import DayLine, HeatMap
from reports.sums import ratio
from reports.window import Window, at, moment_of, zone

QUARTER_MS = HOUR_MS // 4
SATURDAY = 5
HELD = (State.ACTIVE, State.HELD_GAP, State.HELD_IDLE)


@dataclass(slots=True)
class _Sum:
    elapsed_ms: Counter[State] = field(default_factory=Counter)
    busy_us: int = 0

    def add(self, other: "_Sum") -> None:
        self.elapsed_ms.update(other.elapsed_ms)
        self.busy_us += other.busy_us

    @property
    def effective(self) -> float | None:
        return ratio(self.busy_us / 1000, self.elapsed_ms.total())

    @property
    def occupied(self) -> float | None:
        held_ms = sum(self.elapsed_ms[state] for state in HELD)
        return ratio(held_ms, held_ms + self.elapsed_ms[State.FREE])


def heat_map(report: Report, facts: Facts) -> HeatMap | None:
    """Add up the weeks of a window by day of the week and hour; None where hours are not known."""
    cells: defaultdict[tuple[int, int], _Sum] = defaultdict(_Sum)
    for (day, hour), part in _local_hours(report.covered, facts).items():
        cells[day.weekday(), hour].add(part)
    if not cells:
        return None
    places = [[cells.get((day, hour), _Sum()) for hour in range(24)] for day in range(7)]
    return HeatMap(
        effective=tuple(tuple(cell.effective for cell in row) for row in places),
        occupied=tuple(tuple(cell.occupied for cell in row) for row in places),
        changed=tuple(sorted(set(_changed(report.covered)))),
        weekday_effective=_together(cell for row in places[:SATURDAY] for cell in row).effective,
        weekend_effective=_together(cell for row in places[SATURDAY:] for cell in row).effective,
    )


def days(report: Report, facts: Facts) -> tuple[DayLine, ...]:
    """Account for each local day of a window, oldest first; days of which there is nothing are left out."""
    found: defaultdict[date, _Sum] = defaultdict(_Sum)
    for (day, _), part in _local_hours(report.covered, facts).items():
        found[day].add(part)
    where = zone(report.covered.timezone)
    return tuple(
        DayLine(
            start_ms=moment_of(day.isoformat(), where),
            elapsed_ms={state: found[day].elapsed_ms[state] for state in State},
            busy_ms=round(found[day].busy_us / 1000),
        )
        for day in sorted(found)
    )


def _together(parts: Iterable[_Sum]) -> _Sum:
    whole = _Sum()
    for part in parts:
        whole.add(part)
    return whole


def _local_hours(covered: Window, facts: Facts) -> dict[tuple[date, int], _Sum]:
    """Sum hours of UTC up by local day and hour."""
    utc_hours: defaultdict[int, _Sum] = defaultdict(_Sum)
    for row in facts.hours:
        utc_hours[row.hour_ms].add(_Sum(Counter({row.state: row.amounts.elapsed_ms}), row.amounts.busy_us))
    where = zone(covered.timezone)
    found: defaultdict[tuple[date, int], _Sum] = defaultdict(_Sum)
    for hour_ms, whole in utc_hours.items():
        for place, part in _split(whole, _overlaps(hour_ms, covered, where)):
            found[place].add(part)
    return found


def _overlaps(hour_ms: int, covered: Window, where: tzinfo) -> Counter[tuple[date, int]]:
    """Tell for how many ms an hour of UTC overlaps each local hour, within the accounted time."""
    found: Counter[tuple[date, int]] = Counter()
    for quarter_ms in range(hour_ms, hour_ms + HOUR_MS, QUARTER_MS):
        start_ms = max(quarter_ms, covered.from_ms)
        length_ms = min(quarter_ms + QUARTER_MS, covered.to_ms) - start_ms
        if length_ms > 0:
            local = at(quarter_ms, where)
            found[local.date(), local.hour] += length_ms
    return found


def _split(whole: _Sum, overlaps: Counter[tuple[date, int]]) -> Iterator[tuple[tuple[date, int], _Sum]]:
    """Hand out exactly what there is, in proportion."""
    total, upto = overlaps.total(), 0
    for place, length in overlaps.items():
        before, upto = upto, upto + length

        def part(amount: int, before: int = before, upto: int = upto) -> int:
            return amount * upto // total - amount * before // total

        elapsed_ms = Counter({state: part(ms) for state, ms in whole.elapsed_ms.items()})
        yield place, _Sum(elapsed_ms, part(whole.busy_us))


def _changed(covered: Window) -> Iterator[tuple[int, int]]:
    """Name the days and hours that clocks skipped or repeated, in part or whole."""
    where = zone(covered.timezone)
    first_ms = covered.from_ms // QUARTER_MS * QUARTER_MS
    before = at(first_ms, where).utcoffset() or timedelta()
    for quarter_ms in range(first_ms, covered.to_ms, QUARTER_MS):
        after = at(quarter_ms, where).utcoffset() or timedelta()
        moment = at(quarter_ms, UTC)
        local, end = moment + min(before, after), moment + max(before, after)
        while local < end:
            yield local.weekday(), local.hour
            local = local.replace(minute=0) + timedelta(hours=1)
        before = after
