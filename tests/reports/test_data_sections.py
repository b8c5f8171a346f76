"""The sections as JSON: base units, exact figures, null for what is not known, and no NaN."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.assemble import NEEDS, sections
from reports.facts import Facts, GpuFacts
from reports.forms.data import to_json
from reports.forms.data_sections import KEYS, sections_of
from reports.outline import Report
from reports.sections import (
    AssetLine,
    Energy,
    ForecastLine,
    Group,
    HeatMap,
    Reliability,
    Score,
    Sections,
    SickLine,
    SizeLine,
    Step,
    Unit,
)
from reports.window import Window
from tests.reports.hostile import hostile
from tests.reports.made import H200, WEEK, Did, before, hour, made, spell, stay, tenure
from tests.reports.small import MONDAY_MS

IDLE = {State.ACTIVE: 100.0, State.HELD_IDLE: 68.0}
EVIL = "\x1b[31m\n\u2028\ud7ff<b>\x00"


def told(report: Report) -> Any:  # noqa: ANN401  JSON has no types
    """Write a report as JSON and read it."""
    return json.loads(to_json(report), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def only(**some: Any) -> Any:  # noqa: ANN401  sections of any kind
    """Give the JSON of a report that has these sections alone."""
    return told(replace(made(Did("A", {State.FREE: 1.0})), sections=Sections(**some)))


def week() -> Report:
    """Make a week in which alice held a GPU idle for 68 hours, and 30 in the week before."""
    report = made(
        Did("A", IDLE, owner="alice", busy=0.5, watts=360.0),
        price=2.0,
        spells=[spell("A", "alice", "7", 0, 70)],
    )
    facts = Facts(
        hours=(hour(0, State.ACTIVE, 1.0, busy=0.5, watts=360.0), hour(1, State.HELD_IDLE, 1.0)),
        gpus={
            ("A", "n1"): GpuFacts(
                throttle_ms={"sw_thermal": 90_500, "power_cap": 7}, heat_lost_ms=4_500, power_max_watts=700.0
            )
        },
        stays=(stay("A", "n0", -20, -10, position=3), stay("A", "n1", -10)),
        tenures=(tenure("7", IDLE, end=168, activity=0.1, memory=1e10),),
        memory_bytes={H200.model: 1.5e11},
        weeks=(before(1, {H200: {State.ACTIVE: 168.0}}, idle={"alice": 30.0}, p95=1.0, busy=0.5),),
    )
    return replace(report, sections=sections(report, facts))


def test_sections_in_base_units() -> None:
    """Worked out by hand: 68 of 168 hours idle at 2, of which spells are 70 hours."""
    data = told(week())
    assert data["groups"] == [
        {
            "group": {"pool": "", "model": "NVIDIA H200"},
            "gpus": 1,
            "gpu_seconds": 604_800.0,
            "states": {state.value: 0.0 for state in State} | {"active": 360_000.0, "held_idle": 244_800.0},
            "busy_ratio_mean": 0.5,
            "cost": 336.0,
        }
    ]
    (line,) = data["waste"]
    assert line == {
        "owner": "alice",
        "idle_gpu_seconds": 244_800.0,
        "share_ratio": pytest.approx(68 / 168),
        "cost": 136.0,
        "compared_idle_gpu_seconds": 108_000.0,
        "weeks_in_a_row": 2,
        "holder": "job 7",
        "node": "n1",
        "uuid": "A",
        "spell_seconds": 252_000.0,
        "memory_bytes": 1e10,
    }
    assert data["days"] == [
        {
            "from": "2026-11-16T00:00:00Z",
            "states": {state.value: 0.0 for state in State} | {"active": 3600.0, "held_idle": 3600.0},
            "busy_gpu_seconds": 1800.0,
        }
    ]
    assert data["throttling"] == [
        {
            "uuid": "A",
            "node": "n1",
            "index": 0,
            "model": "NVIDIA H200",
            "throttle_seconds": {"power_cap": 0.007, "sw_thermal": 90.5},
            "lost_seconds": 4.5,
            "temperature_celsius_max": None,
            "margin_celsius_min": None,
            "power_watts_max": 700.0,
        }
    ]


def test_capacity_is_in_gpus() -> None:
    """One GPU was held in both of the hours that are known."""
    assert told(week())["capacity"] == [
        {
            "group": {"pool": "", "model": "NVIDIA H200"},
            "gpus": 1.0,
            "usable_gpus": 1.0,
            "held_gpus_mean": 1.0,
            "held_gpus_p95": 1.0,
            "held_gpus_p99": 1.0,
            "held_gpus_peak": 1.0,
            "peak_hour": "2026-11-16T00:00:00Z",
            "headroom_gpus": 0.0,
            "returnable_gpus": 0,
        }
    ]


def test_what_is_compared_with_has_a_name() -> None:
    """Edges and label of the week; null without one."""
    other = Window(from_ms=WEEK.from_ms - 604_800_000, to_ms=WEEK.from_ms, label="week 2026-W46")
    assert only(last=other)["compared_with"] == {
        "from": "2026-11-09T00:00:00Z",
        "to": "2026-11-16T00:00:00Z",
        "timezone": "UTC",
        "seconds": 604_800.0,
        "label": "week 2026-W46",
    }
    assert only()["compared_with"] is None


@pytest.mark.parametrize(
    ("unit", "name", "value", "printed"),
    [
        ("ratio", "ratio", 0.123456789, 0.123456789),
        ("gpu_hours", "gpu_seconds", 1.5, 5400.0),
        ("hours", "seconds", 0.5, 1800.0),
        ("kwh", "joules", 2.0, 7_200_000.0),
        ("money", "cost", 1.23456789, 1.234568),
        ("count", "count", 3.0, 3.0),
    ],
)
def test_scores_are_told_in_base_units(unit: Unit, name: str, value: float, printed: float) -> None:
    """Hours are seconds and kWh are joules; what is not known is null."""
    score = Score(
        name="x", meaning="y", unit=unit, value=value, last=value, mean4=None, noise=value, verdict="worse"
    )
    assert only(scores=(score,))["scorecard"] == [
        {
            "name": "x",
            "meaning": "y",
            "unit": name,
            "value": printed,
            "compared": printed,
            "mean_of_4": None,
            "noise": printed,
            "verdict": "worse",
        }
    ]


def test_steps_lead_from_one_end_to_the_other() -> None:
    """To the millisecond; a step of all GPUs has no group."""
    steps = (
        Step(kind="last", group=None, gpu_ms=3_600_001),
        Step(kind="rate", group=Group("train", "M"), gpu_ms=-1_000),
        Step(kind="this", group=None, gpu_ms=3_599_001),
    )
    assert only(bridge=steps)["bridge"] == [
        {"kind": "last", "group": None, "gpu_seconds": 3600.001},
        {"kind": "rate", "group": {"pool": "train", "model": "M"}, "gpu_seconds": -1.0},
        {"kind": "this", "group": None, "gpu_seconds": 3599.001},
    ]


def test_right_sizing_says_what_is_saved() -> None:
    """In GPU-seconds and money."""
    line = SizeLine(
        owner="a",
        holder="job 1",
        model="M",
        gpu_ms=36 * HOUR_MS,
        activity_mean=0.1,
        memory_max_bytes=5e9,
        advice="a MIG slice of 1/7",
        saving_ms=HOUR_MS,
        cost=2.3456785,
    )
    assert only(sizes=(line,))["right_sizing"] == [
        {
            "owner": "a",
            "holder": "job 1",
            "model": "M",
            "gpu_seconds": 129_600.0,
            "activity_ratio_mean": 0.1,
            "memory_bytes_max": 5e9,
            "advice": "a MIG slice of 1/7",
            "saved_gpu_seconds": 3600.0,
            "saved_cost": 2.345678,
        }
    ]


def test_the_heat_map_keeps_its_holes() -> None:
    """Cells in which nothing was owed are null."""
    row = (None, 0.25, *(None,) * 22)
    shape = HeatMap(
        effective=(row,) * 7,
        occupied=(row,) * 7,
        changed=((6, 2),),
        weekday_effective=0.25,
        weekend_effective=None,
    )
    data = only(heat_map=shape)["heat_map"]
    assert data["effective_ratio"] == data["occupied_ratio"] == [[None, 0.25] + [None] * 22] * 7
    assert data["clock_changes"] == [{"weekday": 6, "hour": 2}]
    assert (data["weekday_effective_ratio"], data["weekend_effective_ratio"]) == (0.25, None)


def test_energy_is_in_joules_and_watts() -> None:
    """2 kWh, a PUE of 1.5, 400 g/kWh: 1.2 kg."""
    energy = Energy(
        kwh=2.0,
        idle_kwh=None,
        seen_ratio=0.5,
        kwh_with_overhead=3.0,
        pue_ratio=1.5,
        carbon_kg=1.2,
        carbon_grams_per_kwh=400.0,
        carbon_source="a table",
        peak_kilowatts=0.7,
    )
    assert only(energy=energy)["energy_detail"] == {
        "joules": 7_200_000.0,
        "idle_joules": None,
        "seen_ratio": 0.5,
        "with_overhead_joules": 10_800_000.0,
        "pue_ratio": 1.5,
        "peak_watts": 700.0,
        "carbon_kilograms": 1.2,
        "carbon_grams_per_kwh": 400.0,
        "carbon_source": "a table",
    }


def test_reliability_counts_by_gpu() -> None:
    """XIDs are named by their number, as text: keys of JSON are nothing else."""
    sick = SickLine(
        uuid="A",
        serial="7",
        node="n1",
        model="M",
        down_ms=1_500,
        incidents=2,
        rules=("gpu_down",),
        xids={79: 3, 48: 1},
        replace=True,
    )
    found = Reliability(
        incidents=2,
        down_ms=1_500,
        between_failures_hours=10.0,
        to_repair_hours=None,
        xids={48: 1, 79: 3},
        lines=(sick,),
    )
    assert only(reliability=found)["reliability"] == {
        "incidents": 2,
        "down_gpu_seconds": 1.5,
        "between_failures_gpu_seconds": 36_000.0,
        "to_repair_seconds": None,
        "xids": {"48": 1, "79": 3},
        "gpus": [
            {
                "uuid": "A",
                "serial": "7",
                "node": "n1",
                "model": "M",
                "down_seconds": 1.5,
                "incidents": 2,
                "rules": ["gpu_down"],
                "xids": {"48": 1, "79": 3},
                "replace": True,
            }
        ],
    }


def test_the_register_has_places() -> None:
    """Moments in UTC."""
    line = AssetLine(
        uuid="A",
        serial="7",
        model="M",
        node="n2",
        index=None,
        since_ms=MONDAY_MS,
        first_seen_ms=MONDAY_MS - 1,
        last_seen_ms=MONDAY_MS + HOUR_MS,
        seen_ms=1_500,
        active_ms=500,
        state="ok",
        moves=(("n1", MONDAY_MS - HOUR_MS, MONDAY_MS),),
    )
    (found,) = only(assets=(line,))["assets"]
    assert (found["since"], found["first_seen"]) == ("2026-11-16T00:00:00Z", "2026-11-15T23:59:59.999Z")
    assert (found["index"], found["seen_seconds"], found["active_seconds"]) == (None, 1.5, 0.5)
    assert found["moves"] == [{"node": "n1", "from": "2026-11-15T23:00:00Z", "to": "2026-11-16T00:00:00Z"}]


def test_a_forecast_may_never_get_there() -> None:
    """What does not come within three years is null."""
    line = ForecastLine(
        group=Group("p", "M"),
        weeks=6,
        demand=((MONDAY_MS, 5.5),),
        slope_per_week=0.1,
        limit=6.8,
        crossing_ms=MONDAY_MS,
        crossing_early_ms=MONDAY_MS,
        crossing_late_ms=None,
        reclaimed_ms=None,
    )
    assert only(forecast=(line,))["forecast"] == [
        {
            "group": {"pool": "p", "model": "M"},
            "weeks": 6,
            "demand": [{"week_from": "2026-11-16T00:00:00Z", "gpus": 5.5}],
            "gpus_per_week": 0.1,
            "limit_gpus": 6.8,
            "full": "2026-11-16T00:00:00Z",
            "full_earliest": "2026-11-16T00:00:00Z",
            "full_latest": None,
            "full_without_idle": None,
        }
    ]


def test_what_is_absent_is_named_by_its_key() -> None:
    """Programs find the reason beside what is empty."""
    report = made(Did("A", {State.FREE: 168.0}))
    data = told(replace(report, sections=sections(report, Facts(missing={"findings": "nobody looked"}))))
    assert set(data["absent"]) == {KEYS.get(name, name) for name in NEEDS}
    assert set(data["absent"]) <= set(data)
    assert data["absent"]["findings"] == data["absent"]["reliability"] == "nobody looked"
    assert data["absent"]["scorecard"] == "there is no week before this one to compare with"


def test_without_sections_all_keys_are_there() -> None:
    """Programs need not ask first."""
    report = made(Did("A", {State.FREE: 1.0}))
    assert sections_of(report).keys() == sections_of(week()).keys()
    assert [one for one in sections_of(report).values() if one] == [{"nodes": [], "remarks": []}]


def test_every_section_has_a_key() -> None:
    """A new one cannot be forgotten."""
    named = {"last": "compared_with", "energy": "energy_detail", "quality": "data_quality", **KEYS}
    assert {named.get(one.name, one.name) for one in fields(Sections)} <= sections_of(week()).keys()


def test_no_name_is_more_than_text() -> None:
    """Names come back as they were, in plain ASCII."""
    text = to_json(hostile(EVIL))
    assert text.isascii()
    assert text.splitlines() == text.split("\n")[:-1]
    data = told(hostile(EVIL))
    assert data["waste"][0]["owner"] == f"al{EVIL}"
    assert data["remarks"] == [EVIL]
