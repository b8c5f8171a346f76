"""The node's own page: what every GPU does now, for a person with a browser and nothing else installed."""

from datetime import UTC, datetime
from html import escape

from agent.tick import Condition, Reading, State, said
from agent.view import View

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h1 small { font-weight: normal; opacity: .7; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:nth-child(-n+3), td:nth-child(-n+3), th:last-child, td:last-child { text-align: left; }
.state { border-radius: .6rem; padding: .05rem .55rem; color: #fff; background: #777; }
.active { background: #2a7d46; } .held_gap { background: #857415; } .held_idle { background: #b4470b; }
.free { background: #3b6fb0; } .down { background: #a11d2b; } .unknown { background: #666; }
.service { background: #6a4c93; } .drained { background: #4d5b6a; }
p.note { opacity: .75; }
ul.findings { padding-left: 1.2rem; } ul.findings li { border-left: 4px solid #b4470b; padding-left: .6rem; }
ul.findings li { list-style: none; margin: .3rem 0; } ul.findings .critical { border-color: #a11d2b; }
"""
NONE = "-"
_HEAD = ("GPU", "Model", "State", "Busy", "SM active", "Memory", "Power", "Temperature", "SM clock", "Holder")


def homepage(view: View | None, version: str) -> bytes:
    """Give the page as UTF-8 HTML; without a view it says that there is nothing to show yet."""
    title = f"gputally {escape(version)}"
    if view is None:
        body = "<p>No interval has been read lately: the log of gputally says why.</p>"
    else:
        title = f"{escape(view.tick.node)} <small>{title}</small>"
        order = sorted(view.gpus, key=lambda uuid: view.gpus[uuid].index)
        rows = "".join(_row(view, uuid) for uuid in order)
        head = "".join(f"<th>{name}</th>" for name in _HEAD)
        note = f"<p class='note'>{escape(view.health.absent)}</p>" if view.health.absent else ""
        note += _findings(view)
        body = f"{note}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{_foot(view)}"
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta http-equiv='refresh' content='10'>"
        "<meta name='viewport' content='width=device-width'><title>gputally</title>"
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>"
    ).encode()


def _findings(view: View) -> str:
    """Say what is open and what to do, above the table."""
    where: dict[tuple[bool, str, str, str], list[str]] = {}
    for one in sorted(view.findings, key=lambda one: one in view.silenced):
        place = f"GPU {view.gpus[one.uuid].index}" if one.uuid in view.gpus else one.node
        where.setdefault((one in view.silenced, one.severity, one.summary, one.action), []).append(place)
    told = []
    for (quiet, severity, summary, action), places in where.items():
        text = f"{'silenced: ' * quiet}{', '.join(places)}: {summary}. Do: {action}"
        told.append(f"<li class='{escape(severity)}'>{escape(text)}</li>")
    return f"<ul class='findings'>{''.join(told)}</ul>" if told else ""


def _row(view: View, uuid: str) -> str:
    gpu, reading = view.gpus[uuid], view.readings.get(uuid)
    state = view.states.get(uuid, State.UNKNOWN).value
    holders = ", ".join(f"{one.owner}: {said(one.kind, one.name)}" for one, _ in view.holders.get(uuid, ()))
    cells = [
        f"<td title='{escape(uuid)}'>{gpu.index}</td><td>{escape(gpu.model)}</td>",
        f"<td><span class='state {state}'>{state}</span>{_condition(reading)}</td>",
        *(f"<td>{cell}</td>" for cell in (_measured(reading) if reading else (NONE,) * 6)),
        f"<td>{escape(holders) or NONE}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _condition(reading: Reading | None) -> str:
    well = reading is None or reading.condition is Condition.OK
    return "" if well or reading is None else f" {reading.condition.value}"


def _measured(reading: Reading) -> tuple[str, ...]:
    return (
        _cell(reading.busy_ratio, 100, "{:.1f} %"),
        _cell(reading.sm_active_ratio, 100, "{:.1f} %"),
        _of(reading.memory_used_bytes, reading.memory_total_bytes, 2**30, "{:,.1f}", "{:,.0f} GiB"),
        _of(reading.power_watts, reading.power_limit_watts, 1, "{:,.0f}", "{:,.0f} W"),
        _cell(reading.temperature_max_celsius, 1, "{:.0f} °C"),
        _cell(reading.sm_clock_hertz, 1e-6, "{:,.0f} MHz"),
    )


def _cell(value: float | None, factor: float, form: str) -> str:
    return NONE if value is None else form.format(value * factor)


def _of(value: float | None, whole: float | None, unit: float, form: str, whole_form: str) -> str:
    told = [_cell(value, 1 / unit, form), _cell(whole, 1 / unit, whole_form)]
    return NONE if value is None and whole is None else " of ".join(told)


def _foot(view: View) -> str:
    ended = datetime.fromtimestamp(view.tick.end_ms / 1000, UTC)
    links = "<a href='/metrics'>metrics</a> · <a href='/api/v1/status'>status as JSON</a>"
    return (
        f"<p class='note'>Over the {view.interval_seconds:g} s that ended at {ended:%Y-%m-%d %H:%M:%S} UTC: "
        f"means, and the highest temperature. {links}</p>"
    )
