"""How the fleet fared, as text: when it worked, heat, energy, failures, the register, what to distrust."""

from collections.abc import Iterator, Mapping

from reports.heat import THERMAL
from reports.sections import HeatMap
from reports.text_page import SHOWN, Page, place
from reports.wording import NONE, Column, hours, percent

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HEAD = "       " + "".join(f"{hour:<2}" if hour % 6 == 0 else "  " for hour in range(24))


def heat_map(page: Page) -> Iterator[str]:
    """Draw the week in tenths: a digit for each hour of each day."""
    shape = page.sections.heat_map
    if shape is None:
        return
    changed = ", c after an hour in which clocks changed" if shape.changed else ""
    yield page.item(f"tenths by local hour: 0 is below 10 %, 9 is 90 % and more, - is no time{changed}")
    for title, cells in (
        ("busy, of the inventory", shape.effective),
        ("held, of what could be", shape.occupied),
    ):
        yield f"  {title}"
        yield _HEAD.rstrip()
        for day, row in enumerate(cells):
            yield (
                f"  {DAYS[day]}  "
                + "".join(_cell(shape, day, hour, row[hour]) for hour in range(24)).rstrip()
            )
    workdays, weekend = percent(shape.weekday_effective), percent(shape.weekend_effective)
    yield page.item(f"busy on Monday to Friday {workdays}, on Saturday and Sunday {weekend}")


def _cell(shape: HeatMap, day: int, hour: int, ratio: float | None) -> str:
    digit = "-" if ratio is None else str(max(0, min(9, int(ratio * 10))))
    return digit + ("c" if (day, hour) in shape.changed else " ")


def days(page: Page) -> Iterator[str]:
    """Write where the GPU time of each day went."""
    columns = [Column("day", "text"), *(Column(title) for title, _ in SHOWN), Column("busy")]
    rows = []
    for line in page.sections.days:
        amounts = [hours(sum(line.elapsed_ms.get(state, 0) for state in states)) for _, states in SHOWN]
        rows.append([page.day(line.start_ms), *amounts, hours(line.busy_ms)])
    yield from page.rows(columns, rows, "days")


def heat(page: Page) -> Iterator[str]:
    """Write the GPUs that heat or the power brake slowed down."""
    columns = [Column("gpu", "name"), Column("uuid", "name"), Column("heat h"), Column("brake h")]
    columns += [Column("lost h"), Column("max C"), Column("margin"), Column("max W")]
    rows = []
    for line in page.sections.heat:
        thermal = sum(line.throttle_ms.get(reason, 0) for reason in THERMAL)
        brake = line.throttle_ms.get("power_brake", 0)
        lost = NONE if line.lost_ms is None else hours(line.lost_ms)
        figures = (line.temperature_max_celsius, line.margin_least_celsius, line.power_max_watts)
        shown = (NONE if value is None else f"{value:,.0f}" for value in figures)
        rows.append([place(line.node, line.index), line.uuid, hours(thermal), hours(brake), lost, *shown])
    yield from page.rows(columns, rows, "GPUs")


def energy(page: Page) -> Iterator[str]:
    """Write energy and carbon."""
    told = page.sections.energy
    if told is None:
        return
    seen = "" if told.seen_ratio is None else f", seen for {percent(told.seen_ratio)} of the time"
    yield page.fact("GPUs", f"{_amount(told.kwh, 'kWh')}{seen}")
    yield page.fact("no work", f"{_amount(told.idle_kwh, 'kWh')} of it while paused, idle, free or out")
    yield page.fact("peak", f"{_amount(told.peak_kilowatts, 'kW')} in the mean of an hour")
    yield page.fact("building", f"{_amount(told.kwh_with_overhead, 'kWh')} at a PUE of {told.pue_ratio:,.2f}")
    if told.carbon_grams_per_kwh is not None:
        source = f" ({told.carbon_source})" if told.carbon_source else ""
        grams = f"{told.carbon_grams_per_kwh:,.0f} g/kWh{source}"
        yield page.fact("carbon", f"{_amount(told.carbon_kg, 'kg')} CO2 at {grams}")


def _amount(value: float | None, unit: str) -> str:
    return "not known" if value is None else f"{value:,.1f} {unit}"


def reliability(page: Page) -> Iterator[str]:
    """Write how often GPUs failed, and which."""
    told = page.sections.reliability
    if told is None:
        return
    between = told.between_failures_hours
    mean = "" if between is None else f", one in {between:,.0f} GPU-hours"
    yield page.fact("failures", f"{told.incidents:,}{mean}")
    yield page.fact("down", f"{hours(told.down_ms)} GPU-hours")
    if told.to_repair_hours is not None:
        yield page.fact("to repair", f"{told.to_repair_hours:,.1f} h in the mean of those that ended")
    if told.xids:
        yield page.fact("XIDs", _counts(told.xids))
    columns = [Column("node", "name"), Column("serial", "name"), Column("uuid", "name"), Column("down h")]
    columns += [Column("failures"), Column("found", "name"), Column("", "text")]
    rows = [
        [
            line.node,
            line.serial or NONE,
            line.uuid,
            hours(line.down_ms),
            f"{line.incidents:,}",
            ", ".join(line.rules),
            "replace" if line.replace else "",
        ]
        for line in told.lines
    ]
    yield from page.rows(columns, rows, "GPUs")


def _counts(xids: Mapping[int, int]) -> str:
    return ", ".join(f"{number} ({count:,}x)" for number, count in xids.items())


def assets(page: Page) -> Iterator[str]:
    """Write the register."""
    columns = [
        Column("gpu", "name"),
        Column("serial", "name"),
        Column("uuid", "name"),
        Column("model", "name"),
    ]
    columns += [Column("since", "text"), Column("seen h"), Column("active"), Column("moves")]
    columns += [Column("state", "name")]
    rows = [
        [
            place(line.node, line.index),
            line.serial or NONE,
            line.uuid,
            line.model or NONE,
            page.day(line.since_ms),
            hours(line.seen_ms),
            percent(line.active_ms / line.seen_ms if line.seen_ms else None),
            f"{len(line.moves):,}",
            line.state,
        ]
        for line in page.sections.assets
    ]
    yield from page.rows(columns, rows, "GPUs")


def quality(page: Page) -> Iterator[str]:
    """Write what to distrust."""
    for remark in page.sections.quality.remarks:
        yield page.item(remark, "- ")
    columns = [Column("node", "name"), Column("GPU-h"), Column("unknown"), Column("coverage")]
    rows = [
        [line.node, hours(line.inventory_ms), hours(line.unknown_ms), percent(line.coverage_ratio)]
        for line in page.sections.quality.nodes
    ]
    yield from page.rows(columns, rows, "nodes")


def absent(page: Page) -> Iterator[str]:
    """Write which sections are missing, and why."""
    for name, why in page.sections.absent.items():
        yield page.item(f"{name.replace('_', ' ')}: {why}", "- ")
