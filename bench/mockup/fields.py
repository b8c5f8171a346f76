"""What a panel's JSON says of a field by its name: defaults, overrides, and how a value looks then."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.mockup.look import Look, nth
from bench.mockup.units import MOMENTS, shown

Json = Mapping[str, Any]
TEXT = "string"
"""The unit of a field whose values are shown as they are."""
_FALLBACK = "gray"


class Shown(NamedTuple):
    """A value as text, and the colour that thresholds or mappings give it; empty for none."""

    text: str
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a field is shown."""

    unit: str
    decimals: int | None
    least: float | None
    most: float | None
    fixed: str
    steps: Sequence[tuple[float, str]]
    mappings: Mapping[str, Json]
    no_value: str
    dash: Sequence[float]
    links: Sequence[Json]
    custom: Json
    width: float | None
    cell: str

    def number(self, value: float | None, look: Look, now_ms: int) -> Shown:
        """Show a value of a field of numbers."""
        if value is None or math.isnan(value):
            return Shown(self.no_value, look.text)
        mapped = self.mappings.get(f"{value:g}")
        if mapped:
            return Shown(mapped["text"], look.colour(mapped["color"]))
        text = f"{value:.15g}" if self.unit == TEXT else shown(value, self.unit, self.decimals, now_ms)
        return Shown(text, self.step(value, look))

    def step(self, value: float, look: Look) -> str:
        """Give the colour of the highest threshold that a value reaches."""
        reached = [colour for least, colour in self.steps if value >= least]
        return look.colour(reached[-1]) if reached else _FALLBACK

    def words(self, value: str, now_ms: int) -> str:
        """Show a text, with Grafana's habit: what reads as a number or a time gets the unit of the field."""
        if not value:
            return self.no_value
        if self.unit == TEXT:
            return value
        if self.unit in MOMENTS:
            return "NaN"
        try:
            number = float(value)
        except ValueError:
            return value
        if "_" in value or not math.isfinite(number):
            return value
        return shown(number, self.unit, None, now_ms)

    def line(self, number: int, look: Look) -> str:
        """Give the colour of a line by its number."""
        return look.colour(self.fixed) if self.fixed else nth(number)


def shape(panel: Json, *names: str) -> Shape:
    """Give the shape of a field: defaults, and the overrides that name it."""
    defaults = panel["fieldConfig"]["defaults"]
    told: dict[str, Any] = {}
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] in names:
            told.update({one["id"]: one["value"] for one in override["properties"]})
    thresholds = told.get("thresholds") or defaults.get(
        "thresholds", {"steps": [{"color": "green"}, {"color": "red", "value": 80}]}
    )
    colour = told.get("color", defaults.get("color", {}))
    mapped = (one["options"] for one in defaults.get("mappings", ()))
    return Shape(
        unit=told.get("unit", defaults.get("unit", "none")),
        decimals=told.get("decimals", defaults.get("decimals")),
        least=told.get("min", defaults.get("min")),
        most=told.get("max", defaults.get("max")),
        fixed=colour.get("fixedColor", ""),
        steps=[(_least(one.get("value")), one["color"]) for one in thresholds["steps"]],
        mappings={value: result for options in mapped for value, result in options.items()},
        no_value=defaults.get("noValue", ""),
        dash=told.get("custom.lineStyle", {}).get("dash", ()),
        links=told.get("links", ()),
        custom=defaults.get("custom", {}),
        width=told.get("custom.width"),
        cell=told.get("custom.cellOptions", {}).get("type", "auto"),
    )


def _least(value: float | None) -> float:
    return -math.inf if value is None else value
