"""The sections as text: what stands out is said, columns align, and nothing raw from outside."""

from dataclasses import replace

import pytest

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.assemble import sections
from reports.facts import Facts
from reports.forms.text_sections import PARTS, section_parts
from reports.sections import Group, Sections
from reports.window import Window
from reports.wording import cells
from tests.reports.hostile import hostile
from tests.reports.made import WEEK, WEEK_MS, Did, before, hour, made, stay

EVIL = "\x1b[31m\n\u202e<b>=1+1"


def test_no_name_speaks_to_the_terminal() -> None:
    """Every part is there, and no character of any is obeyed."""
    report = hostile(EVIL)
    assert report.sections is not None
    parts = section_parts(report.sections, report, 120)
    assert len(parts) == len(PARTS)
    for title, lines in parts:
        for line in lines:
            assert all(char == "\n" or char.isprintable() for char in line), title


@pytest.mark.parametrize("width", [80, 100, 160])
def test_lines_keep_to_the_width(width: int) -> None:
    """Whatever the names."""
    report = hostile(EVIL)
    assert report.sections is not None
    parts = section_parts(report.sections, report, width)
    rows = [(title, row) for title, lines in parts for line in lines for row in line.splitlines()]
    assert [(title, cells(row)) for title, row in rows if cells(row) > width] == []
    assert all(cells(title) <= 80 for title, _ in rows)


def test_without_sections_nothing_is_written() -> None:
    """Not even titles, but for what the accounts themselves lack."""
    assert section_parts(Sections(), made(Did("A", {State.FREE: 1.0}, watts=60.0)), 100) == []
    (part,) = section_parts(Sections(), made(Did("A", {State.FREE: 1.0})), 100)
    lacks = "  - energy was seen for 0.0 % of the time; the rest is missing, not 0"
    assert part == ("What to distrust", [lacks])


def parts_of(told: Sections, price: float | None = None) -> dict[str, list[str]]:
    """Write sections by the first word of their titles."""
    report = made(Did("A", {State.FREE: 1.0}), price=price)
    return {title.split()[0]: lines for title, lines in section_parts(told, report, 100)}


def test_the_scorecard_shows_all_columns() -> None:
    """This week, the last, the mean, verdict; noise is known of none, and of the costs nothing at all."""
    report = made(Did("A", {State.ACTIVE: 84.0, State.FREE: 84.0}, owner="a", busy=0.5, watts=100.0))
    weeks = (before(1, {Group("", "M"): {State.ACTIVE: 42.0, State.FREE: 126.0}}, busy=0.5),)
    lines = parts_of(sections(report, Facts(weeks=weeks)))["Scorecard,"]
    assert lines[:4] == [
        "  figure        this week  last week  4-week mean",
        "  availability    100.0 %    100.0 %      100.0 %  same",
        "  coverage        100.0 %    100.0 %      100.0 %  same",
        "  occupancy        50.0 %     25.0 %       25.0 %  better",
    ]
    assert lines[8] == "  energy         16.8 kWh          -            -  -"
    assert lines[-1] == "  last week is 2026-11-09 00:00 to 2026-11-16 00:00"


def test_a_scorecard_alone_compares_nothing() -> None:
    """Without another week there is one column, and why."""
    report = made(Did("A", {State.ACTIVE: 84.0, State.FREE: 84.0}, owner="a", busy=0.5))
    title, lines = section_parts(sections(report, Facts()), report, 100)[0]
    assert (title, lines[0], lines[3]) == (
        "Scorecard",
        "  figure        this week",
        "  occupancy        50.0 %",
    )
    assert lines[-1] == "  there is no week before this one to compare with"


def test_another_week_is_called_by_its_name() -> None:
    """Wherever the last would be; active 84 and 42 hours, idle 0 and 30."""
    week = replace(WEEK, from_ms=WEEK.from_ms - 7 * WEEK_MS, to_ms=WEEK.to_ms - 7 * WEEK_MS)
    group = Group("", "NVIDIA H200")
    other = replace(
        before(7, {group: {State.ACTIVE: 42.0, State.FREE: 126.0}}, idle={"a": 30.0}),
        window=replace(week, label="week 2026-W40"),
    )
    report = made(
        Did("A", {State.ACTIVE: 84.0, State.HELD_IDLE: 84.0}, owner="a", busy=0.5, watts=1.0), price=1.0
    )
    facts = Facts(weeks=(before(1, {group: {State.ACTIVE: 168.0}}),), compared=other)
    parts = dict(section_parts(sections(report, facts), report, 120))
    scores = parts["Scorecard, this week against week 2026-W40; noise is change without a reason"]
    assert scores[0] == "  figure        this week  week 2026-W40  4-week mean"
    assert scores[3] == "  occupancy       100.0 %         25.0 %      100.0 %  better"
    assert scores[-1] == "  week 2026-W40 is 2026-09-28 00:00 to 2026-10-05 00:00"
    bridge = parts["Active GPU-hours, from week 2026-W40 to this week"]
    assert (bridge[1].split(), bridge[-1].split()) == (
        ["week", "2026-W40", "42.0"],
        ["this", "week", "84.0"],
    )
    waste = parts["Idle hours by owner, and by whom first; weeks in a row"]
    assert waste[0].split()[4:6] == ["2026-W40", "weeks"]
    assert waste[1].split()[5:7] == ["30.0", "1"]
    assert "last" not in "".join(title + "".join(lines) for title, lines in parts.items())


def test_a_day_is_no_week() -> None:
    """It is compared with the time before."""
    day = Window(from_ms=WEEK.from_ms, to_ms=WEEK.from_ms + 24 * HOUR_MS)
    report = made(Did("A", {State.ACTIVE: 24.0}, owner="a"), window=day)
    earlier = replace(
        before(1, {Group("", "NVIDIA H200"): {State.ACTIVE: 24.0}}),
        window=Window(from_ms=day.from_ms - 24 * HOUR_MS, to_ms=day.from_ms),
    )
    title, lines = section_parts(sections(report, Facts(weeks=(earlier,))), report, 100)[0]
    assert title == "Scorecard, this time against the time before; noise is change without a reason"
    assert lines[0] == "  figure        this time  the time before  mean of 4"


def test_the_bridge_has_signs() -> None:
    """The ends have none, nor has what is nothing."""
    report = made(Did("A", {State.ACTIVE: 84.0, State.FREE: 84.0}, owner="a"))
    weeks = (before(1, {Group("", "NVIDIA H200"): {State.ACTIVE: 100.0, State.FREE: 68.0}}),)
    assert parts_of(sections(report, Facts(weeks=weeks)))["Active"] == [
        "                                     GPU-h",
        "  last week                          100.0",
        "  more or less GPU time in all         0.0",
        "  shares of the groups in it           0.0",
        "  more or less of it seen              0.0",
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
    assert lines[-1] == "  ... and 5 more GPUs, not shown; --format json has all of them"


def test_a_forecast_says_when() -> None:
    """50 to 60 of 85 by 2 a week: full twelve weeks after the end of the window."""
    group = Group("", "NVIDIA H200")
    weeks = tuple(before(n, {group: {State.ACTIVE: 168.0}}, p95=60.0 - 2 * n) for n in range(1, 6))
    rows = [hour(n, State.ACTIVE, 60.0) for n in range(168)] + [hour(n, State.FREE, 40.0) for n in range(168)]
    told = sections(made(Did("A", {State.ACTIVE: 168.0}, owner="a")), Facts(hours=tuple(rows), weeks=weeks))
    assert WEEK.label == "week 2026-W47"
    text = " ".join(" ".join(line.split()) for line in parts_of(told)["When"])
    assert text == (
        "- NVIDIA H200: demand 60.0 GPUs, full at 85.0, trend +2.00 a week over 6 weeks; full on 2027-02-15"
    )


def test_what_is_full_has_no_interval() -> None:
    """90 of 100 GPUs, week after week; a drawing says nothing of clocks that did not change."""
    group = Group("", "NVIDIA H200")
    weeks = tuple(before(n, {group: {State.ACTIVE: 168.0}}, p95=90.0) for n in range(1, 6))
    rows = [hour(n, State.ACTIVE, 90.0) for n in range(168)] + [hour(n, State.FREE, 10.0) for n in range(168)]
    told = sections(made(Did("A", {State.ACTIVE: 168.0}, owner="a")), Facts(hours=tuple(rows), weeks=weeks))
    parts = parts_of(told)
    assert " ".join(parts["When"]).endswith("full at 85.0, trend 0.00 a week over 6 weeks; full already")
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
