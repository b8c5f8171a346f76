"""Panels of each kind by Grafana's own types. Needs grafana-foundation-sdk; decision 16."""

from collections.abc import Iterable, Mapping
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models

from dashboards.outline import Language, Panel, Step
from dashboards.targets import SOURCE, Builder, source_of, target

UID = "gputally-"
PREFIXES: Mapping[Language, str] = {"promql": "", "influxql": "influx-"}
"""What stands before the name of a dashboard in each language."""
FIRST = ord("A")
TEXT = "string"
"""Grafana's unit of text."""
TIME = "Time"
LEAST_COLUMN = 60
"""Pixels: Grafana's own 150 push figures beyond the edge."""
_LONG = ("uuid",)
"""Labels that stand behind the figures: whoever wants to know follows the link."""
_WIDTHS = {"gpu": 60, "severity": 90, "kind": 80, "holder": 210, "rule": 210, "flag": 240}
_LINKS = {"node": ("node", "node"), "uuid": ("gpu", "uuid")}
"""Columns that lead to a dashboard: its name, and which variable is chosen there."""


def built(panel: Panel, language: Language) -> Builder:
    """Give what builds a panel."""
    make = {"stat": _stat, "timeseries": _lines, "state_timeline": _timeline, "bars": _bars}
    made = _table(panel, language) if panel.kind == "table" else make[panel.kind](panel)
    made.title(panel.title).description(panel.says).datasource(source_of(language))
    made.no_value("none" if panel.quiet else "-")
    if panel.kind != "table":  # there they are for single columns
        made.unit(panel.unit)
        if panel.steps:
            made.thresholds(_thresholds(panel.steps))
        if panel.decimals is not None:
            made.decimals(panel.decimals)
    for number, query in enumerate(panel.queries):
        made.with_target(target(query, chr(FIRST + number), language, as_table=panel.kind == "table"))
    return made


def _thresholds(steps: Iterable[Step]) -> Builder:
    told = [models.Threshold(value=one.value, color=one.colour) for one in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(told)


def _stat(panel: Panel) -> Builder:
    return (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .color_mode(kinds.BigValueColorMode.VALUE if panel.steps else kinds.BigValueColorMode.NONE)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _lines(panel: Panel) -> Builder:
    built = (
        timeseries.Panel()
        .tooltip(
            common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .line_width(1)
        .fill_opacity(70 if panel.stacked else 0)
        .span_nulls(False)
        .show_points(kinds.VisibilityMode.AUTO)
    )
    if panel.single:
        built.draw_style(kinds.GraphDrawStyle.BARS)
    if panel.stacked:
        built.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    if panel.steps:
        built.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED)
        )
    if panel.least is not None:
        built.min(panel.least)
    if panel.most is not None:
        built.max(panel.most)
    for name in panel.dashed:
        line = {"fill": "dash", "dash": [8, 6]}
        built.override_by_name(name, [models.DynamicConfigValue(id_val="custom.lineStyle", value=line)])
    for name, colour in panel.colours:
        fixed = {"mode": "fixed", "fixedColor": colour}
        built.override_by_name(name, [models.DynamicConfigValue(id_val="color", value=fixed)])
    return built


def _timeline(panel: Panel) -> Builder:
    told: Mapping[str, Any] = {
        str(number): models.ValueMappingResult(text=name, color=colour, index=number)
        for number, (name, colour) in enumerate(panel.colours)
    }
    return (
        statetimeline.Panel()
        .mappings([models.ValueMap(options=dict(told))])
        .show_value(kinds.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .merge_values(True)
        .row_height(0.8)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _bars(panel: Panel) -> Builder:
    least = 0.0 if panel.least is None else panel.least
    return (
        bargauge.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .display_mode(kinds.BarGaugeDisplayMode.BASIC)
        .max_viz_height(40)
        .text(common.VizTextDisplayOptions().title_size(14).value_size(16))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .min(least)
    )


def _table(panel: Panel, language: Language) -> Builder:
    """Make a table: a unit of the whole would turn names that read as numbers into figures of that unit."""
    several = len(panel.queries) > 1
    values = (
        {f"Value #{chr(FIRST + number)}": one.legend for number, one in enumerate(panel.queries)}
        if several
        else {"value" if language == "influxql" else "Value": panel.value or "Value"}
    )
    shown = values if panel.value else {}
    labels = dict(panel.labels)
    last = {name: labels.pop(name) for name in _LONG if name in labels}
    titles = {**labels, **shown, **last}
    built = table.Panel().show_header(True).unit(TEXT).min_width(LEAST_COLUMN)
    alike = (TIME,) if several else ()  # what frames without a row have as well: without it none is merged
    kept = {"include": {"pattern": f"^({'|'.join((*alike, *titles))})$"}}
    built.with_transformation(models.DataTransformerConfig(id_val="filterFieldsByName", options=kept))
    if several:
        built.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    order = {name: number for number, name in enumerate(titles)}
    told = {"indexByName": order, "renameByName": titles, "excludeByName": dict.fromkeys(alike, True)}
    built.with_transformation(models.DataTransformerConfig(id_val="organize", options=told))
    if panel.by_name:
        built.sort_by([common.TableSortByFieldState().display_name(panel.labels[0][1]).desc(False)])
    elif shown:
        first = next(iter(shown.values()))
        built.sort_by([common.TableSortByFieldState().display_name(first).desc(not panel.smallest)])
    for number, (title, query) in enumerate(zip(shown.values(), panel.queries, strict=False)):
        built.override_by_name(title, _of_figure(panel, query.unit or panel.unit, is_first=not number))
    for label, title in panel.labels:
        wide = (
            [models.DynamicConfigValue(id_val="custom.width", value=_WIDTHS[label])]
            if label in _WIDTHS
            else []
        )
        if label in _LINKS:
            wide.append(models.DynamicConfigValue(id_val="links", value=[_way(label, title, language)]))
        if wide:
            built.override_by_name(title, wide)
    return built


def _of_figure(panel: Panel, unit: str, *, is_first: bool) -> list[models.DynamicConfigValue]:
    """Say how a figure's column is written; thresholds are for the first, by which rows are sorted."""
    told: dict[str, object] = {"unit": unit}
    if panel.decimals is not None:
        told["decimals"] = panel.decimals
    if panel.steps and is_first:
        steps = [{"value": one.value, "color": one.colour} for one in panel.steps]
        told["thresholds"] = {"mode": "absolute", "steps": steps}
        told["custom.cellOptions"] = {"type": "color-text"}
    return [models.DynamicConfigValue(id_val=name, value=value) for name, value in told.items()]


def _way(label: str, title: str, language: Language) -> Mapping[str, object]:
    """Lead from a cell to the dashboard of what it names, at the same time."""
    board, variable = _LINKS[label]
    board = f"{PREFIXES[language]}{board}"
    chosen = f"var-{variable}=${{__data.fields.{title}}}&${{__url_time_range}}&${{{SOURCE}:queryparam}}"
    return {"title": f"Show this {'GPU' if label == 'uuid' else label}", "url": f"/d/{UID}{board}?{chosen}"}
