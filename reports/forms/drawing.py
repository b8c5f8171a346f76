"""How a drawing is made: values go in, and SVG comes out whose colours follow the scheme of the page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import vl_convert

from agent.tick import State
from reports.forms.colours import LIGHT, STATES
from reports.forms.svg import tidy
from reports.wording import printable

WIDTH = 1040
_ROLES = {
    LIGHT.ink: "ink",
    LIGHT.soft: "soft",
    LIGHT.line: "line",
    LIGHT.page: "page",
    LIGHT.panel: "panel",
    LIGHT.good: "good",
    LIGHT.bad: "bad",
}
_CONFIG: dict[str, Any] = {
    "background": None,
    "view": {"stroke": None},
    "font": "DejaVu Sans",
    "text": {"color": LIGHT.ink, "fontSize": 12},
    "axis": {
        "labelColor": LIGHT.ink,
        "titleColor": LIGHT.soft,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "domainColor": LIGHT.line,
        "tickColor": LIGHT.line,
        "gridColor": LIGHT.line,
        "labelLimit": 330,
    },
}


class Drawing(NamedTuple):
    """A picture, and the same in words."""

    svg: str
    alt: str


Value = str | float | None


def data(rows: Iterable[Mapping[str, Value]]) -> alt.Data:
    """Give rows to a drawing; whatever text is in them is made printable."""
    shown = [
        {key: printable(value) if isinstance(value, str) else value for key, value in row.items()}
        for row in rows
    ]
    return alt.Data(values=shown)  # type: ignore[no-untyped-call]


def draw(chart: alt.Chart | alt.LayerChart, words: str, height: float, width: float = WIDTH) -> Drawing:
    """Draw a chart of that size in pixels, which is called `words`."""
    spec = chart.properties(
        width=width, height=height, autosize=alt.AutoSizeParams(type="fit", contains="padding")
    )
    drawn = vl_convert.vegalite_to_svg({**spec.to_dict(), "config": _CONFIG})
    return Drawing(tidy(drawn, printable(words), _ROLES), words)


def colour(states: Sequence[State]) -> alt.Color:
    """Give states their colours, without a legend."""
    fills = [STATES[state].fill for state in states]
    scale = alt.Scale(domain=[state.value for state in states], range=fills)
    return alt.Color("state:N", scale=scale, legend=None)
