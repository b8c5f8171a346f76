"""The mock-up of dashboards: it understands all of our JSON, and shows what Grafana would, warts included."""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from agent.store import Series, Value
from bench.mockup.asking import ALL, Answer, View, chosen_at, length_of, step_of
from bench.mockup.axes import moments
from bench.mockup.frames import frames_of, transformed
from bench.mockup.known import StrangeError, check
from bench.mockup.look import DARK, LIGHT
from bench.mockup.page import Page, page, place_of
from bench.mockup.units import shown
from dashboards.build import RULES, files
from dashboards.outline import Board, Config, Panel, Query, Row, Step, Variable
from dashboards.sdk import to_json

NOW_MS = 1_789_380_000_000
HOUR_MS = 3_600_000
BOARDS = {name: json.loads(text) for name, text in files(Config()).items() if name != RULES}
OVERRIDES = [
    {"matcher": {"id": "byName", "options": "GPUs"}, "properties": [{"id": "unit", "value": "none"}]},
    {
        "matcher": {"id": "byName", "options": "Node"},
        "properties": [
            {"id": "links", "value": [{"title": "Show", "url": "/d/x?node=${__data.fields.Node}"}]}
        ],
    },
]
FILTERED = {"id": "filterFieldsByName", "options": {"include": {"pattern": "^(owner|gpu|node|Value.*)$"}}}
MERGED: Mapping[str, Any] = {"id": "merge", "options": {}}
ORGANIZED = {
    "id": "organize",
    "options": {
        "excludeByName": {},
        "indexByName": {"owner": 0, "gpu": 1, "node": 2, "Value #A": 3, "Value #B": 4},
        "renameByName": {
            "owner": "Owner",
            "gpu": "GPU",
            "node": "Node",
            "Value #A": "GPUs",
            "Value #B": "Idle",
        },
    },
}
BOARD = Board(
    name="small",
    title="gputally / Small",
    says="One panel of each kind.",
    since="now-1h",
    variables=(
        Variable("pool", "Pool", "label_values(gpu_info, pool)"),
        Variable("node", "Node", 'label_values(gpu_info{pool=~"$pool"}, node)', every=False),
    ),
    rows=(
        Row(
            "All <of> it",
            (
                Panel(
                    title="Busy",
                    says="How much.",
                    kind="stat",
                    unit="percentunit",
                    queries=(Query('busy{node="$node"}', instant=True),),
                    steps=(Step(None, "red"), Step(0.5, "green")),
                    decimals=1,
                    width=4,
                    height=4,
                ),
                Panel(
                    title="States",
                    says="Which.",
                    kind="state_timeline",
                    unit="none",
                    queries=(Query("state", "GPU {{gpu}}"),),
                    colours=(("active", "#0072b2"), ("free", "#009e73")),
                    width=20,
                    height=4,
                ),
                Panel(
                    title="Power",
                    says="Watts.",
                    kind="timeseries",
                    unit="watt",
                    queries=(Query("power", "{{model}}"),),
                    stacked=True,
                    least=0,
                    colours=(("H200", "#123456"),),
                    dashed=("H200",),
                ),
                Panel(
                    title="Reasons",
                    says="Why.",
                    kind="bars",
                    unit="s",
                    queries=(Query("reasons", "{{reason}}", instant=True),),
                    steps=(Step(None, "blue"),),
                ),
                Panel(
                    title="Owners",
                    says="What each has.",
                    kind="table",
                    unit="celsius",
                    queries=(Query("held", "GPUs", instant=True), Query("idle", "Idle", instant=True)),
                    labels=(("owner", "Owner"), ("gpu", "GPU"), ("node", "Node")),
                ),
                Panel(
                    title="Nothing",
                    says="Nobody.",
                    kind="table",
                    unit="none",
                    queries=(Query("none", instant=True),),
                    labels=(("node", "Node"),),
                ),
            ),
        ),
    ),
)
Told = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]
TOLD: Told = {
    'count by (node) (gpu_info{pool=~".*"})': [({"node": "n1"}, 4), ({"node": "n2"}, 4)],
    'busy{node="n2"}': [({}, 0.4251)],
    "state": [({"gpu": "0"}, 0), ({"gpu": "1"}, 1)],
    "power": [({"model": "H200"}, 700), ({"model": "T4"}, 70)],
    "reasons": [({"reason": "heat"}, 90), ({"reason": "cap"}, 45)],
    "held": [
        ({"owner": "ann", "gpu": "4", "node": "n1"}, 3),
        ({"owner": "bob", "gpu": "x", "node": "n2"}, 7),
    ],
    "idle": [({"owner": "ann", "gpu": "4", "node": "n1"}, 2.5)],
}


class MadeUp:
    """Answers from a list."""

    def __init__(self, told: Told) -> None:
        self.told = told

    def values(self, query: str, at_ms: int) -> list[Value]:
        """Give what is in the list; all is of the end."""
        assert at_ms == NOW_MS
        return [Value(labels, value) for labels, value in self.told.get(query, ())]

    def steps(self, query: str, first_ms: int, last_ms: int, step_ms: int) -> list[Series]:
        """Give the same value at every step, with a hole in the middle."""
        times = [
            at_ms for at_ms in range(first_ms, last_ms + 1, step_ms) if (at_ms - first_ms) // 600_000 != 3
        ]
        return [
            Series(labels, [(at_ms, value) for at_ms in times]) for labels, value in self.told.get(query, ())
        ]


def small() -> dict[str, Any]:
    """Give the JSON of the small dashboard; its table of two queries has its own."""
    found: dict[str, Any] = json.loads(to_json(BOARD, [BOARD]))
    table = next(one for one in found["panels"] if one["title"] == "Owners")
    table["fieldConfig"] = {"defaults": {"unit": "celsius", "noValue": "-"}, "overrides": OVERRIDES}
    table["transformations"] = [FILTERED, MERGED, ORGANIZED]
    table["options"]["sortBy"] = [{"displayName": "GPUs", "desc": True}]
    return found


def drawn(board: dict[str, Any] | None = None) -> Page:
    """Draw it."""
    board = board or small()
    source = MadeUp(TOLD)
    chosen = chosen_at(board, source, NOW_MS, {"node": "n2"})
    assert chosen == {"pool": ALL, "node": "n2"}
    from_ms = NOW_MS - length_of(board["time"]["from"])
    return page(board, View(source=source, chosen=chosen, from_ms=from_ms, until_ms=NOW_MS), DARK)


def part(html: str, title: str) -> str:
    """Give the panel with a title."""
    (found,) = (one for one in html.split("<section")[1:] if f">{title} <i>" in one)
    return found


@pytest.mark.parametrize("name", BOARDS)
def test_all_of_the_json_is_understood(name: str) -> None:
    """Every place and value of each dashboard."""
    check(BOARDS[name])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("type",), "heatmap"),
        (("options", "textMode"), "name"),
        (("fieldConfig", "defaults", "unit"), "furlong"),
        (("fieldConfig", "defaults", "displayName"), "x"),
        (("transformations",), [{"id": "joinByField", "options": {"byField": "node"}}]),
        (
            ("fieldConfig", "overrides"),
            [
                {
                    "matcher": {"id": "byName", "options": "a"},
                    "properties": [{"id": "custom.hidden", "value": 1}],
                }
            ],
        ),
    ],
    ids=lambda told: told[-1] if isinstance(told, tuple) else "",
)
def test_what_is_not_understood_is_named(place: tuple[str, ...], value: object) -> None:
    """An error says which panel and what."""
    board = copy.deepcopy(BOARDS["fleet.json"])
    panel = next(one for one in board["panels"] if one["type"] == "stat")
    inner = panel
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    with pytest.raises(StrangeError, match=f"panel {re.escape(repr(panel['title']))} of gputally / Fleet"):
        check(board)


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "words"),
    [
        (12.0, "none", None, "12"),
        (0.5, "none", None, "0.500"),
        (1234.5, "none", 1, "1234.5"),
        (0.4251, "percentunit", 1, "42.5%"),
        (61.25, "celsius", 0, "61 °C"),
        (98_784_247_808, "bytes", 1, "92.0 GiB"),
        (0, "bytes", None, "0 B"),
        (2.2e9, "Bps", 1, "2.2 GB/s"),
        (1.755e9, "hertz", None, "1.76 GHz"),
        (4012, "watt", 1, "4.0 kW"),
        (87_900, "watth", 1, "87.9 kWh"),
        (1500, "kwatth", 1, "1.5 MWh"),
        (0.05, "cps", None, "0.0500 c/s"),
        (1234.5, "currencyUSD", 1, "$1.2K"),
        (-5, "currencyUSD", None, "-$5"),
        (0.25, "s", None, "250 ms"),
        (45, "s", 0, "45 s"),
        (90, "s", 1, "1.5 min"),
        (172_800, "s", 1, "2.0 days"),
        (36, "h", 1, "1.5 days"),
        (12_300, "short", 1, "12.3 K"),
        (NOW_MS - 30 * 60_000, "dateTimeFromNow", None, "30 minutes ago"),
        (NOW_MS - 3 * HOUR_MS, "dateTimeFromNow", 0, "3 hours ago"),
    ],
)
def test_units_are_written_as_grafana_does(value: float, unit: str, decimals: int | None, words: str) -> None:
    """Three digits that count where no decimals are told; halves go up."""
    assert shown(value, unit, decimals, NOW_MS) == words


def test_a_stat_has_the_colour_of_its_threshold_and_the_chosen_node() -> None:
    """The page holds the value of the node that was chosen, in red below a half."""
    text = part(drawn().html, "Busy")
    assert "42.5%" in text
    assert DARK.colour("red") in text
    assert DARK.colour("green") not in text


def test_states_have_their_colours_and_holes() -> None:
    """Each GPU is a row; where nothing was told, nothing is drawn."""
    text = part(drawn().html, "States")
    assert text.count("<rect") == 4
    assert text.count('fill="#0072b2"') == text.count('fill="#009e73"') == 2
    assert "GPU 1" in text


def test_stacked_lines_lie_on_each_other() -> None:
    """The second line begins where the first ends, a dashed line is dashed, and holes stay."""
    text = part(drawn().html, "Power")
    paths = re.findall(r'<polyline points="([^"]+)" stroke="([^"]+)"', text)
    heights = {colour: {point.split(",")[1] for point in points.split()} for points, colour in paths}
    (low,), (high,) = heights.pop("#123456"), heights.popitem()[1]
    assert float(low) > float(high)
    assert text.count("stroke-dasharray") == text.count('stroke="#123456"') == 2
    assert len(paths) == 4
    assert "H200" in text.split('class="legend"')[1]


def test_bars_are_as_long_as_their_values() -> None:
    """From the least that the JSON says to the largest value."""
    text = part(drawn().html, "Reasons")
    long, short = (float(one) for one in re.findall(r"width:([\d.]+)px;background", text))
    assert long == pytest.approx(2 * short, abs=0.2)
    assert "1.50 min" in text


def test_a_table_is_merged_sorted_and_linked() -> None:
    """Rows of both queries are one, the most is at the top, and a node leads to its dashboard."""
    text = part(drawn().html, "Owners")
    assert re.findall(r'class="head[^>]*><span>([^<]+)', text) == ["Owner", "GPU", "Node", "GPUs", "Idle"]
    cells = re.findall(r'class="cell[^>]*>(?:<a title="([^"]*)">|<span>)([^<]*)', text)
    assert [one for _, one in cells] == ["bob", "x", "n2", "7", "-", "ann", "4 °C", "n1", "3", "2.50 °C"]
    assert cells[2][0] == "Show: /d/x?node=n2"


def test_what_a_reader_would_miss_is_said() -> None:
    """Texts that get a unit, columns beyond the edge, and empty panels."""
    remarks = drawn().remarks
    assert "Owners: column GPU: the text '4' is shown as '4 °C'" in remarks
    assert "Nothing: empty" in remarks
    narrow = small()
    next(one for one in narrow["panels"] if one["title"] == "Owners")["gridPos"]["w"] = 8
    assert "Owners: scrolls sideways: 3 of 5 columns fit, hidden or cut: GPUs, Idle" in drawn(narrow).remarks


def test_columns_may_have_widths_and_colours_of_their_own() -> None:
    """What the others share is the rest, and a cell that shows its threshold has its colour."""
    board = small()
    table = next(one for one in board["panels"] if one["title"] == "Owners")
    steps = [{"color": "green", "value": None}, {"color": "orange", "value": 5}]
    told = {"custom.width": 60, "custom.cellOptions": {"type": "color-text"}}
    told["thresholds"] = {"mode": "absolute", "steps": steps}
    properties = [{"id": name, "value": value} for name, value in told.items()]
    table["fieldConfig"] = copy.deepcopy(table["fieldConfig"])
    table["fieldConfig"]["overrides"].append(
        {"matcher": {"id": "byName", "options": "GPUs"}, "properties": properties}
    )
    cells = re.findall(r'style="width:60.0px(?:;color:([^"]*))?"', part(drawn(board).html, "Owners"))
    assert cells == ["", DARK.colour("orange"), DARK.colour("green")]


def test_a_legend_of_states_tells_what_is_seen() -> None:
    """By the names that the JSON gives to figures."""
    board = small()
    states = next(one for one in board["panels"] if one["title"] == "States")
    states["options"]["legend"]["showLegend"] = True
    legend = part(drawn(board).html, "States").split('class="legend"')[1]
    assert re.findall(r"</i>(\w+)", legend) == ["active", "free"]


def test_panels_that_overlap_are_told() -> None:
    """By their titles."""
    board = small()
    board["panels"][2]["gridPos"]["x"] = 0
    assert "Busy: lies on States" in drawn(board).remarks


def test_merging_gives_up_where_a_query_finds_nothing() -> None:
    """As Grafana does: once its time is filtered out, an empty frame has no column in common."""
    told = [Answer("A", [Value(labels, value) for labels, value in TOLD["held"]]), Answer("B", [])]
    late = transformed({"transformations": [FILTERED, MERGED]}, frames_of(told, NOW_MS))
    early = transformed({"transformations": [MERGED, FILTERED]}, frames_of(told, NOW_MS))
    assert [list(frame.columns) for frame in late] == [["gpu", "node", "owner", "Value #A"], ["Value #B"]]
    assert [list(frame.columns) for frame in early] == [["gpu", "node", "owner", "Value #A", "Value #B"]]
    assert early[0].columns["Value #B"] == [None, None]


def test_places_are_those_of_the_grid() -> None:
    """30 px and a gap of 8 for each row; 24 columns fill the page."""
    place = place_of({"gridPos": {"x": 12, "y": 2, "w": 12, "h": 4}})
    assert place == pytest.approx((788, 76, 780, 144))


def test_a_page_needs_nothing_else_and_names_are_harmless() -> None:
    """Nothing is loaded, and a title is text; the light theme has its own colours."""
    html = drawn().html
    assert "All &lt;of&gt; it" in html
    assert not re.search(r"<script|<img|<link|url\(|src=", html)
    assert DARK.canvas in html
    assert LIGHT.colour("red") != DARK.colour("red")


def test_variables_that_are_not_known_are_errors() -> None:
    """Nothing is asked with a name left in it."""
    view = View(source=MadeUp({}), chosen={"pool": "a"}, from_ms=NOW_MS - HOUR_MS, until_ms=NOW_MS)
    assert view.filled('x{pool="$pool"}[$__rate_interval] / ${pool} [$__range]', 30_000) == (
        'x{pool="a"}[60s] / a [3600s]'
    )
    with pytest.raises(StrangeError, match=r"\$node"):
        view.filled("$node", 30_000)


def test_steps_and_ticks_of_time() -> None:
    """A step for about each pixel, rounded; ticks that do not touch."""
    assert [step_of(hours * HOUR_MS, 500) for hours in (1, 6, 24, 168)] == [
        15_000,
        30_000,
        120_000,
        1_200_000,
    ]
    told = [text for _, text in moments(NOW_MS - 6 * HOUR_MS, NOW_MS, 500)]
    assert told == ["04:00", "05:00", "06:00", "07:00", "08:00", "09:00", "10:00"]
