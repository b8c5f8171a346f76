"""Drawings: the figures in words, one colour for a state, nothing of a name obeyed."""

import re
from itertools import combinations
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tally import HOUR_MS
from agent.tick import State
from reports.compared import Names
from reports.forms import charts
from reports.forms.colours import DARK, LIGHT, RAMP, STATES, contrast, luminance
from reports.forms.svg import tidy
from reports.outline import StateLine
from reports.sections import CapacityLine, DayLine, ForecastLine, Group, GroupLine, Step
from reports.sums import Amounts

NAMES = Names("this week", "last week")
HOSTILE = "</text><script>1</script>\"'&\n\u202e"
SHAPES = {"svg", "g", "path", "line", "rect", "circle", "text", "tspan", "title"}
SEVEREST = {
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritan": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
"""How colours look to people who lack a kind of cones (Machado and others, 2009), on linear RGB."""


def elements(svg: str) -> list[tuple[str, ET.Element]]:
    """Take a drawing apart; it must be well-formed XML."""
    return [(one.tag.split("}")[-1], one) for one in ET.fromstring(svg).iter()]  # noqa: S314  our own


def titles(svg: str) -> list[str]:
    """Give what marks say under the pointer."""
    return [one.text or "" for name, one in elements(svg) if name == "title"]


def fills(svg: str) -> set[str]:
    """Give the colours of areas."""
    return {one.get("fill", "") for name, one in elements(svg) if name == "path"}


def line(state: State, hours: int, share: float) -> StateLine:
    """Make a line of the fleet's account."""
    return StateLine(state=state, amounts=Amounts(elapsed_ms=hours * HOUR_MS), share_ratio=share, cost=None)


def test_the_bar_of_the_fleet_says_each_share() -> None:
    """In the picture's text, and under the pointer with the hours."""
    drawn = charts.fleet_bar([line(State.ACTIVE, 75, 0.75), line(State.HELD_IDLE, 25, 0.25)])
    assert drawn.alt == "Share of all GPU-hours: active 75.0 %; held_idle 25.0 %"
    assert titles(drawn.svg) == ["active: 75.0 %, 75.0 GPU-h", "held_idle: 25.0 %, 25.0 GPU-h"]
    assert f'aria-label="{drawn.alt}"' in drawn.svg
    assert {STATES[State.ACTIVE].fill, STATES[State.HELD_IDLE].fill} <= fills(drawn.svg)


def test_a_bar_is_as_long_as_its_share() -> None:
    """Three quarters of the axis are three times a quarter."""
    drawn = charts.fleet_bar([line(State.ACTIVE, 75, 0.75), line(State.HELD_IDLE, 25, 0.25)])
    widths = [
        float(re.findall(r"h([\d.]+)v", one.get("d", ""))[0])
        for name, one in elements(drawn.svg)
        if name == "path" and len(one)
    ]
    assert widths[0] == pytest.approx(3 * widths[1], rel=0.01)


def test_groups_and_days_say_their_shares() -> None:
    """A state without time has no part of the bar."""
    elapsed = {State.ACTIVE: 3 * HOUR_MS, State.FREE: HOUR_MS, State.DOWN: 0}
    group = GroupLine(
        group=Group("hall1", "H200"),
        gpus=1,
        inventory_ms=4 * HOUR_MS,
        elapsed_ms=elapsed,
        busy_ratio_mean=None,
        cost=None,
    )
    drawn = charts.group_bars([group])
    assert drawn.alt.endswith("hall1 · H200: active 75.0 %, free 25.0 %")
    assert titles(drawn.svg) == [
        "hall1 · H200: active 75.0 %, 3.0 GPU-h",
        "hall1 · H200: free 25.0 %, 1.0 GPU-h",
    ]
    day = charts.day_bars([DayLine(0, elapsed, 0)], ["Mon 16 Nov"])
    assert day.alt.endswith("Mon 16 Nov: active 75.0 %, free 25.0 %")


def test_groups_that_look_the_same_when_cut_keep_a_bar_each() -> None:
    """Names that differ only in their middle are numbered."""
    lines = [
        GroupLine(
            group=Group("", "A" * 60 + letter + "B" * 60),
            gpus=1,
            inventory_ms=HOUR_MS,
            elapsed_ms={State.FREE: HOUR_MS},
            busy_ratio_mean=None,
            cost=None,
        )
        for letter in "xy"
    ]
    assert len(titles(charts.group_bars(lines).svg)) == 2
    texts = [one.text or "" for name, one in elements(charts.group_bars(lines).svg) if name == "text"]
    assert sum(text.startswith("AAAA") for text in texts) == 2


def test_the_bridge_leads_from_last_week_to_this() -> None:
    """Steps of a kind are summed, whatever their group; the parts add up to the whole."""
    steps = [
        Step(kind="last", group=None, gpu_ms=100 * HOUR_MS),
        Step(kind="inventory", group=None, gpu_ms=20 * HOUR_MS),
        Step(kind="rate", group=Group("a", "b"), gpu_ms=-30 * HOUR_MS),
        Step(kind="rate", group=None, gpu_ms=5 * HOUR_MS),
        Step(kind="this", group=None, gpu_ms=95 * HOUR_MS),
    ]
    drawn = charts.waterfall(steps, NAMES)
    assert drawn.alt == (
        "Active GPU-hours, from last week to this week: last week 100.0; inventory +20.0; "
        "rate of use −25.0; this week 95.0"  # noqa: RUF001  a minus
    )
    heights = {
        title.split(":")[0]: float(re.findall(r"v(-?[\d.]+)h", one.get("d", ""))[0])
        for name, one in elements(drawn.svg)
        if name == "path"
        for title in [titles(ET.tostring(one, encoding="unicode"))[0] if len(one) else ""]
        if title
    }
    assert abs(heights["rate of use"]) == pytest.approx(1.25 * abs(heights["inventory"]), rel=0.02)


def test_a_bridge_without_any_change_is_drawn() -> None:
    """Equal ends do not make an axis of no length."""
    steps = [Step(kind=kind, group=None, gpu_ms=HOUR_MS) for kind in ("last", "this")]
    assert "this week 1.0" in charts.waterfall(steps, NAMES).alt


def test_capacity_says_what_is_left() -> None:
    """Usable, held on average and at the 95th percentile, and the rest."""
    found = CapacityLine(
        group=Group("hall1", ""),
        gpus=100,
        usable=96,
        held_mean=70,
        held_p95=81.5,
        held_p99=84,
        peak=90,
        peak_ms=0,
        headroom=14.5,
        returnable=6,
    )
    drawn = charts.capacity_bars([found])
    assert drawn.alt.endswith("hall1: 96.0 usable, held 70.0 on average, 81.5 at p95, 14.5 headroom")


@pytest.mark.parametrize(("crossing", "said"), [(10, "crosses in 10 weeks"), (None, "does not cross")])
def test_a_forecast_says_when_it_crosses(crossing: int | None, said: str) -> None:
    """Or that it does not."""
    found = ForecastLine(
        group=Group("hall1", "H200"),
        weeks=2,
        demand=((-charts.WEEK_MS, 10.0), (0, 11.0)),
        slope_per_week=1.0,
        limit=21.0,
        crossing_ms=None if crossing is None else crossing * charts.WEEK_MS,
        crossing_early_ms=None,
        crossing_late_ms=None,
        reclaimed_ms=None,
    )
    drawn = charts.forecast_lines(found, 0)
    assert drawn.alt == (
        f"Demand of hall1 · H200: 10.0; 11.0 GPUs in 2 weeks, +1.00 a week; limit 21.0; {said}"
    )
    assert "limit 21.0" in titles(drawn.svg)


def test_a_forecast_without_weeks_is_drawn() -> None:
    """Nothing seen is no error."""
    found = ForecastLine(
        group=Group("", ""),
        weeks=0,
        demand=(),
        slope_per_week=0.0,
        limit=1.0,
        crossing_ms=None,
        crossing_early_ms=None,
        crossing_late_ms=None,
        reclaimed_ms=None,
    )
    assert charts.forecast_lines(found, 0).alt.startswith("Demand of all:")


def test_a_hostile_name_is_shown_and_not_obeyed() -> None:
    """It is text in the drawing, with its escapes written out; only shapes and text are in it."""
    group = GroupLine(
        group=Group("", HOSTILE),
        gpus=1,
        inventory_ms=HOUR_MS,
        elapsed_ms={State.FREE: HOUR_MS},
        busy_ratio_mean=None,
        cost=None,
    )
    drawn = charts.group_bars([group])
    assert {name for name, _ in elements(drawn.svg)} <= SHAPES
    assert "<script" not in drawn.svg
    assert "\u202e" not in drawn.svg
    assert titles(drawn.svg) == ["</text><script>1</script>\"'&\\n\\u202e: free 100.0 %, 1.0 GPU-h"]


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=40)
)
def test_only_shapes_and_text_pass(name: str) -> None:
    """Scripts, styles, links, pictures, handlers and strange attributes are dropped from any drawing."""
    root = ET.Element("svg", {"width": "10", "height": "5", "onload": "x()"})
    for tag in ("script", "style", "a", "image", "foreignObject", "text"):
        ET.SubElement(root, tag, {"href": "javascript:x()", "onclick": "x()", "fill": "#15191d"}).text = name
    ET.SubElement(root, "path", {"d": "M0,0h1v1h-1Z", "aria-label": name, "style": "x:y"})
    found = elements(tidy(ET.tostring(root, encoding="unicode").replace("<svg", "<svg", 1), name, {}))
    assert {tag for tag, _ in found} <= SHAPES
    assert {key for _, one in found for key in one.keys()} <= {  # noqa: SIM118  an element is no mapping
        "role",
        "aria-label",
        "viewBox",
        "width",
        "height",
        "font-family",
        "fill",
        "d",
    }


def test_colours_follow_the_scheme_and_states_do_not() -> None:
    """A colour with a role has its class beside it; without style sheets the light colour stands."""
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg"><text fill="{LIGHT.ink}">a</text></svg>'
    assert f'<text fill="{LIGHT.ink}" class="f-ink">a</text>' in tidy(drawn, "x", {LIGHT.ink: "ink"})
    assert not {tone.fill for tone in STATES.values()} & set(LIGHT[:7])


def test_every_state_has_its_own_colour() -> None:
    """Eight states, eight colours."""
    assert set(STATES) == set(State)
    assert len({tone.fill for tone in STATES.values()}) == len(State)


def test_text_is_legible_in_both_schemes() -> None:
    """A contrast of at least 4.5, on states and on every step of the ramp, too."""
    for scheme in (LIGHT, DARK):
        for ink in (scheme.ink, scheme.soft, scheme.good, scheme.bad, scheme.link):
            assert contrast(ink, scheme.page) >= 4.5
            assert contrast(ink, scheme.panel) >= 4.5
    for tone in (*STATES.values(), *RAMP):
        assert contrast(tone.fill, tone.ink) >= 4.5


def test_contrast_is_that_of_wcag() -> None:
    """Black on white has 21; the grey that is known to just pass does."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_the_ramp_darkens() -> None:
    """More is darker, so that it can be read without seeing colours."""
    levels = [luminance(tone.fill) for tone in RAMP]
    assert levels == sorted(levels, reverse=True)


def linear(colour: str) -> tuple[float, ...]:
    """Give linear RGB of `#rrggbb`."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return tuple(one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)


def lab(rgb: tuple[float, ...]) -> tuple[float, float, float]:
    """Give CIE L*a*b* of linear RGB."""
    matrix = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    white = (0.9505, 1.0, 1.089)
    xyz = [sum(a * max(0.0, b) for a, b in zip(row, rgb, strict=True)) for row in matrix]
    x, y, z = (
        (one / of) ** (1 / 3) if one / of > 0.008856 else 7.787 * one / of + 16 / 116
        for one, of in zip(xyz, white, strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("kind", ["nobody", *SEVEREST])
def test_the_colour_blind_tell_states_apart(kind: str) -> None:
    """Any two states are far enough from each other for people who lack a kind of cones."""
    seen = {}
    for state, tone in STATES.items():
        rgb = linear(tone.fill)
        if kind in SEVEREST:
            rgb = tuple(sum(a * b for a, b in zip(row, rgb, strict=True)) for row in SEVEREST[kind])
        seen[state] = lab(rgb)
    for one, other in combinations(State, 2):
        distance = sum((a - b) ** 2 for a, b in zip(seen[one], seen[other], strict=True)) ** 0.5
        assert distance >= 10, (one, other, round(distance, 1))
