"""How the fleet fared, as text: when it worked, heat, energy, failures, the register, what to distrust."""

from collections.abc import Iterator, Mapping

from reports.content.heat import THERMAL
from reports.content.quality import FULL
from reports.forms.text_page import SHOWN, Page, place
from reports.sections import HeatMap
from reports.window import rfc3339
from reports.wording import NONE, Column, hours, number, percent

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MOST_SHOWN_VIOLATIONS = 5
_HEAD = "     " + "".join(f"{hour:<2}" if hour % 6 == 0 else "  " for hour in range(24))


def heat_map(page: Page) -> Iterator[str]:
    """Draw the week in tenths: a digit for each hour of each day."""
    shape = page.sections.heat_map
    if shape is None:
        return
    changed = ", c after an hour in which clocks changed" if shape.changed else ""
    yield page.item(f"tenths by local hour: 0 is below 10 %, 9 is 90 % and more, - is no time{changed}")
    yield from page.drawing(_drawn(shape))
    workdays, weekend = percent(shape.weekday_effective), percent(shape.weekend_effective)
    yield page.item(f"busy on Monday to Friday {workdays}, on Saturday and Sunday {weekend}")


def _drawn(shape: HeatMap) -> Iterator[str]:
    for title, cells in (
        ("busy, of the inventory", shape.effective),
        ("held, of what could be", shape.occupied),
    ):
        yield title
        yield _HEAD.rstrip()
        for day, row in enumerate(cells):
            tenths = (_cell(shape, day, hour, row[hour]) for hour in range(24))
            yield f"{DAYS[day]}  {''.join(tenths)}".rstrip()


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
        shown = (NONE if value is None else number(value, 0) for value in figures)
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
    if told.pue_ratio > 1:
        whole = _amount(told.kwh_with_overhead, "kWh")
        yield page.fact("building", f"{whole} at a PUE of {told.pue_ratio:,.2f}")
    if told.carbon_grams_per_kwh is not None:
        source = f" ({told.carbon_source})" if told.carbon_source else ""
        grams = f"{told.carbon_grams_per_kwh:,.0f} g/kWh{source}"
        yield page.fact("carbon", f"{_amount(told.carbon_kg, 'kg')} CO2 at {grams}")


def _amount(value: float | None, unit: str) -> str:
    return "not known" if value is None else f"{number(value)} {unit}"


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
    """Write what to distrust: what is missing, accounts that do not add up, nodes that were seen badly."""
    yield from (page.item(f"not in this report: {sentence}", "- ") for sentence in page.report.unread)
    yield from _violations(page)
    span = page.report.span
    if span.first_ms > span.enrolled_ms >= 0:
        first, enrolled = rfc3339(span.first_ms), rfc3339(span.enrolled_ms)
        yield page.item(f"GPUs are known since {enrolled}, their accounts reach back to {first}", "- ")
    for remark in page.sections.quality.remarks or _energy_seen(page):
        yield page.item(remark, "- ")
    columns = [Column("node", "name"), Column("GPU-h"), Column("unknown"), Column("coverage")]
    rows = [
        [line.node, hours(line.inventory_ms), hours(line.unknown_ms), percent(line.coverage_ratio)]
        for line in page.sections.quality.nodes
    ]
    yield from page.rows(columns, rows, "nodes")


def _violations(page: Page) -> Iterator[str]:
    for row in page.report.violations[:MOST_SHOWN_VIOLATIONS]:
        text = (
            f"{row.uuid} in the hour from {rfc3339(row.hour_ms)}: was there {row.owed_ms / 1000:,.3f} s, "
            f"its states sum to {row.entered_ms / 1000:,.3f} s"
        )
        yield page.item(text, "- ")
    yield from page.left_out(page.report.violation_count - MOST_SHOWN_VIOLATIONS, "hours that do not add up")
    if not page.report.identity_ok:
        yield page.item(
            "the accounts or the inventory were changed outside gputally, or it has a defect", "- "
        )


def _energy_seen(page: Page) -> Iterator[str]:
    """Say of how much energy is known, where the section on quality does not."""
    seen = page.report.energy_seen_ratio
    if seen is None or seen < FULL:
        yield f"energy was seen for {percent(seen)} of the time; the rest is missing, not 0"


def absent(page: Page) -> Iterator[str]:
    """Write which sections are missing, and why; the scorecard says so in its own place."""
    for name, why in page.sections.absent.items():
        if name != "scores":
            yield page.item(f"{name.replace('_', ' ')}: {why}", "- ")
