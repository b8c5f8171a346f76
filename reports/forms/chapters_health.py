"""The chapters on the machines themselves: heat, power and carbon, failures, findings."""

from collections.abc import Iterator, Mapping

from reports.forms.grid import Block, Cell, Head, Note, Row, Table, hours_cell, number_cell, percent_cell
from reports.forms.story import MOST_ROWS, Story, index_cell
from reports.sections import Energy, HeatLine, SickLine
from reports.wording import NONE, hours

_FINDING_HEADS = (
    *(Head("severity", "text"), Head("rule", "text"), Head("node", "name"), Head("GPU", "id")),
    *(Head("opened", "moment"), Head("closed", "moment"), Head("what", "text"), Head("what to do", "text")),
)
_SEVERITIES = {"critical": "bad", "warning": "bad", "info": "soft"}


def power(story: Story) -> Iterator[Block]:
    """Say what energy was drawn, and what heat cost."""
    energy, lines = story.sections.energy, story.sections.heat
    if energy is not None:
        yield Table(
            caption="Energy and carbon of the window",
            heads=[Head("figure", "text"), Head("amount"), Head("basis", "text")],
            rows=list(_energy(energy)),
            fixed=True,
        )
    elif why := story.why_absent("energy"):
        yield Note(sentences=[f"Energy is not shown: {why}"])
    if lines:
        heads = [Head("node", "name"), Head("#"), Head("GPU", "id"), Head("model", "name")]
        heads += [Head("clocks lowered h, by reason", "text"), Head("lost h, estimated"), Head("hottest °C")]
        yield Table(
            caption="GPUs that heat or power slowed down, or that were close to a limit",
            heads=[*heads, Head("least margin °C"), Head("most W")],
            rows=[_heat(story, line) for line in lines[:MOST_ROWS]],
            left_out=max(0, len(lines) - MOST_ROWS),
            what="GPUs",
        )
    else:
        why = story.why_absent("heat")
        yield Note(
            sentences=[f"Heat is not shown: {why}" if why else "No GPU was slowed down by heat, or nearly."]
        )


def _energy(energy: Energy) -> Iterator[Row]:
    seen = percent_cell(energy.seen_ratio).text
    yield [
        Cell("energy of the GPUs"),
        number_cell(energy.kwh, 1, "kWh"),
        Cell(f"seen for {seen} of the time"),
    ]
    yield [
        Cell("of it without work"),
        number_cell(energy.idle_kwh, 1, "kWh"),
        Cell("idle, gap, free, drained, down"),
    ]
    yield [Cell("peak"), number_cell(energy.peak_kilowatts, 1, "kW"), Cell("mean of the hour that drew most")]
    yield [
        Cell("with cooling and losses"),
        number_cell(energy.kwh_with_overhead, 1, "kWh"),
        Cell(f"PUE {energy.pue_ratio:,.2f}"),
    ]
    grams = energy.carbon_grams_per_kwh
    intensity = "" if grams is None else f"{grams:,.0f} g/kWh"
    basis = ", ".join(part for part in (intensity, energy.carbon_source) if part)
    yield [Cell("carbon"), number_cell(energy.carbon_kg, 1, "kg"), Cell(basis or "no intensity is set")]


def _heat(story: Story, line: HeatLine) -> Row:
    lowered = sorted(line.throttle_ms.items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        story.node_cell(line.node),
        index_cell(line.index),
        story.gpu_cell(line.uuid),
        Cell(line.model or NONE),
        Cell(
            ", ".join(f"{reason} {hours(ms)}" for reason, ms in lowered) or NONE,
            sum(line.throttle_ms.values()),
        ),
        hours_cell(line.lost_ms),
        number_cell(line.temperature_max_celsius),
        number_cell(line.margin_least_celsius),
        number_cell(line.power_max_watts),
    ]


def reliability(story: Story) -> Iterator[Block]:
    """Say how often GPUs failed, and which should go back."""
    found = story.sections.reliability
    if found is None:
        return
    rows: list[Row] = [
        [Cell("incidents that began in the window"), number_cell(found.incidents)],
        [Cell("GPU-hours down"), hours_cell(found.down_ms)],
        [Cell("mean time between failures, GPU-h"), number_cell(found.between_failures_hours, 1)],
        [Cell("mean time to repair, h"), number_cell(found.to_repair_hours, 1)],
        [Cell("XIDs, how often"), Cell(_xids(found.xids))],
    ]
    yield Table(
        caption="Failures of the fleet", heads=[Head("figure", "text"), Head("amount")], rows=rows, fixed=True
    )
    lines = sorted(found.lines, key=lambda line: (not line.replace, -line.down_ms))
    returned = sum(line.replace for line in lines)
    if not lines:
        yield Note(sentences=["No GPU failed."])
        return
    heads = [Head("GPU", "id"), Head("serial", "name"), Head("node", "name"), Head("model", "name")]
    heads += [
        Head("down h"),
        Head("incidents"),
        Head("found", "text"),
        Head("XIDs", "text"),
        Head("send back", "text"),
    ]
    yield Table(
        caption=f"GPUs that failed; {returned:,} of them to be sent back (RMA)",
        heads=heads,
        rows=[_sick(story, line) for line in lines[:MOST_ROWS]],
        left_out=max(0, len(lines) - MOST_ROWS),
        what="GPUs",
    )


def _xids(times: Mapping[int, int]) -> str:
    return ", ".join(f"{number} ({count:,})" for number, count in sorted(times.items())) or NONE


def _sick(story: Story, line: SickLine) -> Row:
    return [
        story.gpu_cell(line.uuid),
        Cell(line.serial or NONE),
        story.node_cell(line.node),
        Cell(line.model or NONE),
        hours_cell(line.down_ms),
        number_cell(line.incidents),
        Cell(", ".join(line.rules) or NONE),
        Cell(_xids(line.xids)),
        Cell("yes", 1, tone="bad") if line.replace else Cell("no", 0),
    ]


def findings(story: Story) -> Iterator[Block]:
    """List what rules found, open ones first, the gravest of them first."""
    order = tuple(_SEVERITIES)
    lines = sorted(
        story.report.findings,
        key=lambda one: (
            one.closed_ms is not None,
            order.index(one.severity) if one.severity in order else len(order),
            one.opened_ms,
        ),
    )
    if not lines:
        yield Note(sentences=["No rule found anything."])
        return
    rows: list[Row] = [
        [
            Cell(one.severity, tone=_SEVERITIES.get(one.severity, "")),  # type: ignore[arg-type]
            Cell(one.rule),
            story.node_cell(one.node),
            story.gpu_cell(one.uuid),
            story.moment_cell(one.opened_ms),
            Cell("open", tone="bad") if one.closed_ms is None else story.moment_cell(one.closed_ms),
            Cell(one.summary),
            Cell(one.action),
        ]
        for one in lines[:MOST_ROWS]
    ]
    still = sum(one.closed_ms is None for one in lines)
    yield Table(
        caption=f"Findings: {still:,} open, {len(lines) - still:,} closed",
        heads=_FINDING_HEADS,
        rows=rows,
        left_out=max(0, len(lines) - MOST_ROWS),
        what="findings",
    )
