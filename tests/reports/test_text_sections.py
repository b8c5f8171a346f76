"""The sections as text: what stands out is said, columns align, and nothing raw from outside."""

from dataclasses import replace

import pytest

from agent.tick import State
from reports.assemble import sections
from reports.facts import Facts, GpuFacts
from reports.sections import Group, Sections
from reports.sums import Identity
from reports.text_sections import section_parts
from reports.wording import cells
from tests.reports.made import WEEK, Did, before, found, hour, made, spell, stay, tenure

EVIL = "\x1b[31m\n\u202e<b>=1+1"
MODEL = f"NVIDIA H200{EVIL}"
GROUP = Group(f"pool{EVIL}", MODEL)
NODE = f"n{EVIL}"
OWNER = f"al{EVIL}"


def hostile() -> tuple[Sections, list[tuple[str, list[str]]]]:
    """Write sections of a fleet whose every name is hostile."""
    held = {State.ACTIVE: 100.0, State.HELD_IDLE: 58.0, State.UNKNOWN: 10.0}
    report = made(
        Did("A" + EVIL, held, owner=OWNER, node=NODE, model=MODEL, busy=0.1, watts=300.0),
        price=2.0,
        findings=[found("row_remap_failed", "A" + EVIL, 1, node=NODE)],
        spells=[spell("A" + EVIL, OWNER, EVIL, 0, 58)],
    )
    facts = Facts(
        hours=tuple(
            one
            for n in range(168)
            for one in (hour(n, State.ACTIVE, 1.0 + n, group=GROUP, busy=0.1, watts=9e5),)
        ),
        gpus={("A" + EVIL, NODE): GpuFacts(throttle_ms={"sw_thermal": 10**7}, xids={79: 1}, heat_lost_ms=5)},
        stays=(stay("A" + EVIL, EVIL, -90, -10), stay("A" + EVIL, NODE, 0)),
        tenures=(
            tenure(
                EVIL, held, owner=OWNER, gpus=("A" + EVIL,), end=168, activity=0.05, memory=1e9, node=NODE
            ),
        ),
        pools={NODE: GROUP.pool},
        memory_bytes={MODEL: 1.5e11},
        weeks=tuple(before(n, {GROUP: {State.ACTIVE: 168.0}}, p95=100.0 - n) for n in range(1, 8)),
        identities={"A" + EVIL: Identity(MODEL, EVIL), "B": Identity(MODEL, EVIL)},
        missing={"findings": ""},
    )
    made_ = sections(report, facts, pue=1.3, grams_per_kwh=400.0, carbon_source=EVIL)
    return made_, section_parts(replace(made_, absent={"days": EVIL}), report, 120)


def test_no_name_speaks_to_the_terminal() -> None:
    """Every part is there, and no character of any is obeyed."""
    _, parts = hostile()
    assert len(parts) == 15
    for title, lines in parts:
        for line in lines:
            assert all(char == "\n" or char.isprintable() for char in line), title


@pytest.mark.parametrize("width", [80, 100, 160])
def test_lines_keep_to_the_width(width: int) -> None:
    """Whatever the names."""
    made_, _ = hostile()
    report = made(Did("A", {State.FREE: 1.0}), price=2.0)
    parts = section_parts(made_, report, width)
    rows = [(title, row) for title, lines in parts for line in lines for row in line.splitlines()]
    assert [(title, cells(row)) for title, row in rows if cells(row) > width] == []
    assert all(cells(title) <= 80 for title, _ in rows)


def test_without_sections_nothing_is_written() -> None:
    """Not even titles."""
    assert section_parts(Sections(), made(Did("A", {State.FREE: 1.0})), 100) == []


def parts_of(told: Sections, price: float | None = None) -> dict[str, list[str]]:
    """Write sections by the first word of their titles."""
    report = made(Did("A", {State.FREE: 1.0}), price=price)
    return {title.split()[0]: lines for title, lines in section_parts(told, report, 100)}


def test_the_scorecard_shows_all_columns() -> None:
    """This week, the last, the mean, noise, verdict; what is not known is a dash."""
    report = made(Did("A", {State.ACTIVE: 84.0, State.FREE: 84.0}, owner="a", busy=0.5, watts=100.0))
    weeks = (before(1, {Group("", "M"): {State.ACTIVE: 42.0, State.FREE: 126.0}}, busy=0.5),)
    lines = parts_of(sections(report, Facts(weeks=weeks)))["This"]
    assert lines[:4] == [
        "  figure        this week     last  4-week mean  noise",
        "  availability    100.0 %  100.0 %      100.0 %      -  same",
        "  coverage        100.0 %  100.0 %      100.0 %      -  same",
        "  occupancy        50.0 %   25.0 %       25.0 %      -  better",
    ]
    assert lines[9] == "  energy         16.8 kWh        -            -      -  -"
    assert lines[-1] == "  last is 2026-11-09 00:00 to 2026-11-16 00:00"


def test_the_bridge_has_signs() -> None:
    """The ends have none."""
    report = made(Did("A", {State.ACTIVE: 84.0, State.FREE: 84.0}, owner="a"))
    weeks = (before(1, {Group("", "NVIDIA H200"): {State.ACTIVE: 100.0, State.FREE: 68.0}}),)
    assert parts_of(sections(report, Facts(weeks=weeks)))["Active"] == [
        "                                     GPU-h",
        "  last week                          100.0",
        "  more or less GPU time in all        +0.0",
        "  shares of the groups in it          +0.0",
        "  more or less of it seen             +0.0",
        "  how active they were: NVIDIA H200  -16.0",
        "  this week                           84.0",
    ]


def test_the_week_is_drawn_in_tenths() -> None:
    """Half busy in one hour, nothing in the next, and nothing owed in the others."""
    rows = (hour(24, State.ACTIVE, 1.0, busy=0.55), hour(25, State.FREE, 1.0))
    told = sections(made(Did("A", {State.FREE: 168.0})), Facts(hours=rows))
    lines = parts_of(replace(told, heat_map=told.heat_map))["The"]
    busy = lines.index("  busy, of the inventory")
    assert lines[busy + 1] == "       0           6           12          18"
    assert lines[busy + 3] == "  Tue  5 0" + " -" * 22
    assert lines[-1] == "  busy on Monday to Friday 27.5 %, on Saturday and Sunday -"


def test_costs_are_shown_only_with_a_price() -> None:
    """A column of dashes tells nothing."""
    report = made(Did("A", {State.HELD_IDLE: 168.0}, owner="a"), price=2.0)
    told = sections(report, Facts())
    assert "cost" in parts_of(told, price=2.0)["Idle"][0]
    assert "336.00" in parts_of(told, price=2.0)["Idle"][1]
    assert "cost" not in parts_of(told)["Idle"][0]


def test_long_registers_are_folded() -> None:
    """Twenty rows, and how many more there are."""
    stays = tuple(stay(f"G{n:02}", "n1", 0, position=n) for n in range(25))
    told = sections(made(Did("A", {State.FREE: 168.0})), Facts(stays=stays))
    lines = parts_of(told)["Register"]
    assert len(lines) == 22
    assert lines[-1] == "  ... and 5 more GPUs, not shown"


def test_a_forecast_says_when() -> None:
    """50 to 60 of 85 by 2 a week: full twelve weeks after the end of the window."""
    group = Group("", "NVIDIA H200")
    weeks = tuple(before(n, {group: {State.ACTIVE: 168.0}}, p95=60.0 - 2 * n) for n in range(1, 6))
    rows = [hour(n, State.ACTIVE, 60.0) for n in range(168)] + [hour(n, State.FREE, 40.0) for n in range(168)]
    told = sections(made(Did("A", {State.ACTIVE: 168.0}, owner="a")), Facts(hours=tuple(rows), weeks=weeks))
    assert WEEK.label == "week 2026-W47"
    text = " ".join(" ".join(line.split()) for line in parts_of(told)["When"])
    assert text == (
        "- NVIDIA H200: demand 60.0 of 85.0 GPUs, +2.00 GPUs a week over 6 weeks; full on 2027-02-15 "
        "80 % interval: 2027-02-15 to 2027-02-15"
    )


def test_what_is_full_now_has_no_interval() -> None:
    """90 of 100 GPUs, week after week; a drawing says nothing of clocks that did not change."""
    group = Group("", "NVIDIA H200")
    weeks = tuple(before(n, {group: {State.ACTIVE: 168.0}}, p95=90.0) for n in range(1, 6))
    rows = [hour(n, State.ACTIVE, 90.0) for n in range(168)] + [hour(n, State.FREE, 10.0) for n in range(168)]
    told = sections(made(Did("A", {State.ACTIVE: 168.0}, owner="a")), Facts(hours=tuple(rows), weeks=weeks))
    parts = parts_of(told)
    assert " ".join(parts["When"]).endswith("full now")
    assert "clocks" not in " ".join(parts["The"])


def test_days_show_all_of_their_time() -> None:
    """24 hours of one GPU, of which 3 down, drained and in service are out."""
    rows = (
        *(hour(n, State.ACTIVE, 1.0, busy=0.5) for n in range(20)),
        hour(20, State.DOWN, 1.0),
        hour(21, State.DRAINED, 1.0),
        hour(22, State.SERVICE, 1.0),
        hour(23, State.UNKNOWN, 1.0),
    )
    told = sections(made(Did("A", {State.FREE: 168.0})), Facts(hours=rows))
    assert parts_of(told)["GPU-hours"] == [
        "  day         active  gap  idle  free  out  unknown  busy",
        "  2026-11-16    20.0  0.0   0.0   0.0  3.0      1.0  10.0",
    ]
