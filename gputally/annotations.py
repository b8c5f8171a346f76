"""The mark of a report in Grafana: that it was made, what it says in one line, and where it lies.

There is one for each revision of a window, at the time at which that was first made. Where no revisions are
kept ([report] archive_folder), there is one for the window, and it says what the latest report says.
"""

import argparse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from agent.errors import SettingsError
from agent.tick import State
from exporters.annotations import mark, shown, tag
from exporters.destination import ExporterSettings
from gputally.settings import ReportSettings, Settings, journal_path
from reports.outline import Report
from reports.window import rfc3339
from reports.wording import hours, money, percent

LONGEST_PATH, LONGEST_REMARKS = 300, 200
Say = Callable[[str], None]


def grafana_of(wanted: ReportSettings) -> ExporterSettings:
    """Tell which Grafana is meant. Raises SettingsError where none is."""
    if not wanted.grafana_url or not wanted.grafana_token_file:
        raise SettingsError("--annotate needs a Grafana: set grafana_url and grafana_token_file in [report]")
    try:
        return ExporterSettings(
            name="report",
            kind="grafana",
            url=wanted.grafana_url,
            token_file=wanted.grafana_token_file,
            ca_file=wanted.grafana_ca_file,
        )
    except SettingsError as error:
        raise SettingsError(
            "[report] grafana_url must be an address such as https://grafana.example.org, without ?, #, user"
        ) from error


def whence(options: argparse.Namespace, settings: Settings) -> str:
    """Name what a report is made of, so that those of two fleets have two marks."""
    store = options.source or ("" if options.journal else settings.report.source)
    return str(store or f"{settings.node.resolved()}:{journal_path(options.journal, settings).absolute()}")


def annotate(
    report: Report, settings: Settings, source: str, file: Path | None, *, say: Say, complain: Say
) -> None:
    """Mark in Grafana that a report was made and, if it was, written; what fails is only complained of."""
    from exporters.grafana import Grafana  # noqa: PLC0415  most reports are not marked
    from exporters.settle import Verdict  # noqa: PLC0415

    try:
        grafana = grafana_of(settings.report)
    except SettingsError as error:
        complain(f"the report is not marked in Grafana: {error}")
        return
    body = annotation(report, source, file)
    with closing(Grafana(grafana)) as to:
        outcome = to.put(body, since_ms=report.window.from_ms, renews=report.revision is None)
    if outcome.verdict is Verdict.DELIVERED:
        say(f"the report is marked in {grafana.url}")
    else:
        complain(f"the report is not marked in {grafana.url}: {outcome.reason}")


def annotation(report: Report, source: str, file: Path | None) -> bytes:
    """Write the mark of a report that is made of a source."""
    window = report.window
    number = str(report.revision.number) if report.revision else ""
    key = "report", source, str(window.from_ms), str(window.to_ms), window.timezone, number
    week = window.label.removeprefix("week ") if window.label.startswith("week ") else ""
    tags = ["report", tag("week", week), tag("revision", number)]
    return mark(_text(report, file), tags, key, report.made_ms)


def _text(report: Report, file: Path | None) -> str:
    window = report.window
    is_week = window.label.startswith("week ")
    label = window.label if is_week else f"{rfc3339(window.from_ms)} to {rfc3339(window.to_ms)}"
    late = report.revision is not None and report.revision.number > 1
    revision = f", revision {report.revision.number}" if late and report.revision else ""
    wrong = "" if report.identity_ok else "the accounts do not add up; "
    busy = report.busy_ratio_mean
    share = "busy share unknown" if busy is None else f"{percent(busy)} busy"
    idle = next((line for line in report.states if line.state is State.HELD_IDLE), None)
    idle_ms = report.sums.elapsed_ms(State.HELD_IDLE)
    cost = _cost(report, idle.cost if idle else None)
    remarks = shown("; ".join(report.remarks), LONGEST_REMARKS)
    which = f"GPU report of {shown(label, LONGEST_PATH)}{revision}"
    what = f"{which}: {wrong}{share}, {hours(idle_ms)} GPU-hours held idle{cost}"
    where = shown(str(file), LONGEST_PATH) if file else ""
    return "; ".join(filter(None, (what, remarks, where)))


def _cost(report: Report, cost: float | None) -> str:
    if cost is None:
        return ""
    default = ", default prices" if report.prices.is_default else ""
    return f" ({shown(report.prices.currency or 'cost', LONGEST_PATH)} {money(cost)}{default})"
