"""Which parts of a dashboard's JSON this understands, place by place. All else is an error that names it.

A place maps to the values that are drawn as Grafana would, or to None where any value is. Places of options
that only matter under the mouse (tooltips), or nowhere in a picture, take any value on purpose.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from bench.mockup.fields import TEXT
from bench.mockup.units import FORMATS

Values = frozenset[Any] | None
ANY: Values = None
UNITS: Values = frozenset({*FORMATS, TEXT})


class StrangeError(ValueError):
    """A part of the JSON that a picture would pass over in silence."""


def _only(*values: object) -> Values:
    return frozenset(values)


BOARD: Mapping[str, Values] = {
    **dict.fromkeys(("title", "description", "uid", "tags[]", "refresh", "editable", "schemaVersion"), ANY),
    **dict.fromkeys(("graphTooltip", "fiscalYearStartMonth", "weekStart"), ANY),
    "time.from": ANY,
    "time.to": _only("now"),
    "timezone": _only("utc"),
    **{f"links[].{name}": ANY for name in ("title", "url", "tooltip", "includeVars", "keepTime")},
    **{f"links[].{name}": _only(False) for name in ("asDropdown", "targetBlank")},
    "links[].type": _only("link"),
    "links[].icon": _only(""),
    **{f"templating.list[].{name}": ANY for name in ("name", "label", "query", "query.query", "query.refId")},
    **{
        f"templating.list[].{name}": ANY for name in ("multi", "includeAll", "auto", "auto_count", "auto_min")
    },
    **{f"templating.list[].{name}": ANY for name in ("allowCustomValue", "skipUrlSync", "refresh")},
    "templating.list[].type": _only("query", "datasource"),
    "templating.list[].sort": _only(7),
    "templating.list[].allValue": _only(".*"),
    "templating.list[].current.selected": ANY,
    "templating.list[].current.text": _only("All"),
    "templating.list[].current.value": _only("$__all"),
    "templating.list[].datasource.type": _only("prometheus"),
    "templating.list[].datasource.uid": ANY,
    **{
        f"annotations.list[].{name}": ANY for name in ("name", "iconColor", "type", "hide", "builtIn", "expr")
    },
    **{f"annotations.list[].target.{name}": ANY for name in ("limit", "matchAny", "tags[]", "type")},
    "annotations.list[].datasource.type": _only("grafana", "prometheus"),
    "annotations.list[].datasource.uid": ANY,
    "annotations.list[].enable": _only(True),
}
_FIELD = "fieldConfig.defaults"
_EVERY: Mapping[str, Values] = {
    **dict.fromkeys(("id", "title", "description", "repeatDirection", "datasource.uid"), ANY),
    **dict.fromkeys((f"gridPos.{name}" for name in "hwxy"), ANY),
    "datasource.type": _only("prometheus"),
    "transparent": _only(False),
    "type": ANY,
    **dict.fromkeys((f"targets[].{name}" for name in ("expr", "legendFormat", "refId")), ANY),
    "targets[].instant": _only(True, False),
    "targets[].range": _only(True, False),
    "targets[].datasource.uid": ANY,
    "targets[].datasource.type": _only("prometheus"),
    f"{_FIELD}.unit": UNITS,
    f"{_FIELD}.noValue": ANY,
    f"{_FIELD}.decimals": ANY,
    "fieldConfig.overrides[].matcher.id": _only("byName"),
    "fieldConfig.overrides[].matcher.options": ANY,
}
_STEPS: Mapping[str, Values] = {
    f"{_FIELD}.thresholds.mode": _only("absolute"),
    f"{_FIELD}.thresholds.steps[].value": ANY,
    f"{_FIELD}.thresholds.steps[].color": ANY,
}
_BY_STEPS: Mapping[str, Values] = {**_STEPS, f"{_FIELD}.color.mode": _only("thresholds")}
_RANGE: Mapping[str, Values] = {f"{_FIELD}.min": ANY, f"{_FIELD}.max": ANY}
_LAST: Mapping[str, Values] = {"options.reduceOptions.calcs[]": _only("lastNotNull")}
_MOUSE: Mapping[str, Values] = {"options.tooltip.mode": ANY, "options.tooltip.sort": ANY}
_LEGEND: Mapping[str, Values] = {
    "options.legend.displayMode": _only("list"),
    "options.legend.placement": _only("bottom"),
    "options.legend.showLegend": _only(True, False),
}
_HIDDEN: Mapping[str, Values] = {**_LEGEND, "options.legend.showLegend": _only(False)}
_COLOUR = "fieldConfig.overrides[].properties[]."
_MAPPED = f"{_FIELD}.mappings[].options.*."
_PANELS: Mapping[str, Mapping[str, Values]] = {
    "row": {**_EVERY, "collapsed": _only(False)},
    "stat": {
        **_EVERY,
        **_BY_STEPS,
        **_LAST,
        "options.colorMode": _only("value", "none"),
        "options.graphMode": _only("none"),
        "options.justifyMode": _only("auto"),
        "options.orientation": _only("auto"),
        "options.textMode": _only("auto"),
        "options.wideLayout": _only(True),
        "options.showPercentChange": _only(False),
        "options.percentChangeColorMode": ANY,
    },
    "timeseries": {
        **_EVERY,
        **_STEPS,
        **_RANGE,
        **_LEGEND,
        **_MOUSE,
        f"{_FIELD}.custom.fillOpacity": ANY,
        f"{_FIELD}.custom.lineWidth": ANY,
        f"{_FIELD}.custom.drawStyle": _only("line", "points", "bars"),
        f"{_FIELD}.custom.pointSize": ANY,
        f"{_FIELD}.custom.axisSoftMin": ANY,
        f"{_FIELD}.custom.axisSoftMax": ANY,
        f"{_FIELD}.custom.showPoints": _only("auto"),
        f"{_FIELD}.custom.spanNulls": _only(False),
        f"{_FIELD}.custom.stacking.group": _only("A"),
        f"{_FIELD}.custom.stacking.mode": _only("normal"),
        f"{_FIELD}.custom.thresholdsStyle.mode": _only("dashed"),
        f"{_COLOUR}id": _only("color", "custom.lineStyle"),
        f"{_COLOUR}value.mode": _only("fixed"),
        f"{_COLOUR}value.fixedColor": ANY,
        f"{_COLOUR}value.fill": _only("dash"),
        f"{_COLOUR}value.dash[]": ANY,
    },
    "table": {
        **_EVERY,
        **_STEPS,
        f"{_FIELD}.custom.align": _only("auto"),
        f"{_FIELD}.custom.cellOptions.type": _only("auto"),
        f"{_FIELD}.custom.inspect": _only(False),
        f"{_FIELD}.custom.minWidth": ANY,
        "options.cellHeight": _only("sm"),
        "options.footer.show": _only(False),
        "options.footer.countRows": _only(False),
        "options.frameIndex": _only(0),
        "options.showHeader": _only(True),
        "options.showTypeIcons": _only(False),
        "options.sortBy[].desc": _only(True, False),
        "options.sortBy[].displayName": ANY,
        "targets[].format": _only("table"),
        "transformations[].id": _only("filterFieldsByName", "merge", "organize"),
        "transformations[].options.include.pattern": ANY,
        "transformations[].options.indexByName.*": ANY,
        "transformations[].options.renameByName.*": ANY,
        "transformations[].options.excludeByName.*": _only(True),
        f"{_COLOUR}id": _only(
            *("unit", "links", "decimals", "thresholds", "custom.width", "custom.cellOptions")
        ),
        f"{_COLOUR}value": ANY,
        f"{_COLOUR}value.type": _only("auto", "color-text", "color-background"),
        f"{_COLOUR}value.mode": _only("absolute", "basic"),
        f"{_COLOUR}value.steps[].value": ANY,
        f"{_COLOUR}value.steps[].color": ANY,
        f"{_COLOUR}value[].title": ANY,
        f"{_COLOUR}value[].url": ANY,
    },
    "state-timeline": {
        **_EVERY,
        **_BY_STEPS,
        **_LEGEND,
        **_MOUSE,
        f"{_FIELD}.mappings[].type": _only("value"),
        **dict.fromkeys((f"{_MAPPED}{name}" for name in ("text", "color", "index")), ANY),
        "options.alignValue": _only("left"),
        "options.mergeValues": _only(True),
        "options.perPage": ANY,
        "options.rowHeight": ANY,
        "options.showValue": _only("never"),
    },
    "bargauge": {
        **_EVERY,
        **_BY_STEPS,
        **_RANGE,
        **_LAST,
        **_HIDDEN,
        "options.displayMode": _only("basic"),
        "options.orientation": _only("horizontal"),
        "options.namePlacement": _only("auto"),
        "options.sizing": _only("auto"),
        "options.valueMode": _only("color"),
        "options.showUnfilled": _only(True),
        **{f"options.{name}": ANY for name in ("minVizHeight", "maxVizHeight", "minVizWidth")},
        "options.text.titleSize": ANY,
        "options.text.valueSize": ANY,
    },
}
_KEYS = ("indexByName", "renameByName", "excludeByName", "mappings[].options")
"""Below these the keys are a site's own words."""


def check(board: Mapping[str, Any]) -> None:
    """Look at the whole of a dashboard. Raises StrangeError for the first thing that is not understood."""
    whole = {name: part for name, part in board.items() if name != "panels"}
    _all_known(f"dashboard {board['title']}", whole, BOARD)
    for panel in board["panels"]:
        where = f"panel {panel.get('title')!r} of {board['title']}"
        if panel["type"] not in _PANELS:
            raise StrangeError(f"{where}: a panel of type {panel['type']!r} is not known here")
        _all_known(where, panel, _PANELS[panel["type"]])
        for override in panel.get("fieldConfig", {}).get("overrides", ()):
            for told in override["properties"]:
                if told["id"] == "unit" and told["value"] not in FORMATS and told["value"] != TEXT:
                    raise StrangeError(f"{where}: the unit {told['value']!r} is not known here")


def _all_known(where: str, part: object, known: Mapping[str, Values]) -> None:
    for place, value in _leaves(part, ""):
        if place not in known:
            raise StrangeError(f"{where}: {place} = {value!r} is not known here")
        values = known[place]
        if values is not None and value not in values:
            raise StrangeError(f"{where}: {place} = {value!r} is drawn as {sorted(values, key=str)} only")


def _leaves(part: object, place: str) -> Iterator[tuple[str, object]]:
    """Give what lies at the ends of a piece of JSON, by its place."""
    if isinstance(part, Mapping):
        free = place.endswith(_KEYS)
        for name, inner in part.items():
            below = "*" if free else str(name)
            yield from _leaves(inner, f"{place}.{below}" if place else below)
    elif isinstance(part, list):
        for inner in part:
            yield from _leaves(inner, f"{place}[]")
    else:
        yield place, part
