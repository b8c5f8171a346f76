"""A week that is compared with: what it is called, and that all of a report compares with it alone."""

from dataclasses import replace

import pytest

from agent.errors import ReportError
from agent.tally import HOUR_MS
from agent.tick import State
from reports.compared import Names, label, names
from reports.content.assemble import sections
from reports.content.bridge import bridge
from reports.content.quality import quality
from reports.content.scorecard import scores
from reports.content.waste import waste
from reports.content.weeks import week_of
from reports.facts import Facts, Week
from reports.forms.html import to_html
from reports.window import Span, Window, week_to_compare
from tests.reports.made import H200, WEEK, WEEK_MS, Did, before, made

DAY_MS = 24 * HOUR_MS
W40 = Window(from_ms=WEEK.from_ms - 7 * WEEK_MS, to_ms=WEEK.to_ms - 7 * WEEK_MS, label="week 2026-W40")
W46 = Window(from_ms=WEEK.from_ms - WEEK_MS, to_ms=WEEK.from_ms, label="week 2026-W46")
SPAN = Span(first_ms=W40.from_ms, last_ms=WEEK.to_ms, enrolled_ms=W40.from_ms)


def week(number: int, active: float, idle: float = 0.0) -> Week:
    """Make a week before in which a GPU was active and held idle by alice, and free for the rest."""
    hours = {State.ACTIVE: active, State.HELD_IDLE: idle, State.FREE: 168.0 - active - idle}
    return before(number, {H200: hours}, idle={"alice": idle})


THIS = made(Did("A", {State.ACTIVE: 84.0, State.HELD_IDLE: 84.0}, owner="alice"))
PAST = tuple(week(number, 40.0 + number) for number in range(1, 6))
OTHER = replace(week(7, 21.0, 42.0), window=W40)
FACTS = Facts(weeks=PAST, compared=OTHER)


def test_the_week_before_is_the_last() -> None:
    """Whatever its label; another one has its own name."""
    assert names(WEEK, W46) == names(WEEK, None) == Names("this week", "last week")
    assert names(WEEK, W40) == Names("this week", "week 2026-W40")


def test_a_day_has_a_time_before() -> None:
    """It is no week, nor is what is before it."""
    day = Window(from_ms=WEEK.from_ms, to_ms=WEEK.from_ms + DAY_MS)
    earlier = Window(from_ms=WEEK.from_ms - DAY_MS, to_ms=WEEK.from_ms)
    assert names(day, earlier) == Names("this time", "the time before")
    assert names(day, W40) == Names("this time", "week 2026-W40")


def test_a_window_without_a_label_is_called_by_its_days() -> None:
    """In its time zone, the last day included."""
    berlin = Window(
        from_ms=W40.from_ms - 2 * HOUR_MS, to_ms=W40.to_ms - 2 * HOUR_MS, timezone="Europe/Berlin"
    )
    assert label(berlin) == "2026-09-28 to 2026-10-04"


def test_the_scorecard_compares_with_it_and_means_of_the_weeks_before() -> None:
    """21 of 63 held hours active then, 84 of 168 now; the mean of 41 to 44 is 42.5 of 42.5."""
    score = {one.name: one for one in scores(THIS, FACTS)}
    assert score["idle_share"].last == pytest.approx(42 / 168)
    assert score["activity"].last == pytest.approx(21 / 63)
    assert score["activity"].mean4 == 1.0
    assert score["occupancy"].mean4 == pytest.approx(42.5 / 168)
    assert score["occupancy"].noise == pytest.approx(3 * 1 / 168)
    assert score["activity"].verdict == "better"


def test_it_needs_no_weeks_before() -> None:
    """Mean, noise and trend are not known then."""
    alone = Facts(compared=OTHER)
    score = {one.name: one for one in scores(THIS, alone)}["activity"]
    assert score.last == pytest.approx(21 / 63)
    assert (score.mean4, score.noise) == (None, None)
    told = sections(THIS, alone)
    assert "scores" not in told.absent
    assert "bridge" not in told.absent
    assert told.absent["forecast"] == "there is no week before this one"


def test_the_bridge_begins_there() -> None:
    """21 hours then, 84 now."""
    steps = bridge(THIS, FACTS)
    assert (steps[0].gpu_ms, steps[-1].gpu_ms) == (21 * HOUR_MS, 84 * HOUR_MS)
    assert sum(step.gpu_ms for step in steps[:-1]) == 84 * HOUR_MS


def test_waste_compares_with_it_and_counts_the_weeks_before() -> None:
    """Alice held 42 hours idle then, and none last week: this is the first in a row."""
    (line,) = waste(THIS, FACTS)
    assert (line.idle_last_ms, line.weeks) == (42 * HOUR_MS, 1)


def test_sections_name_its_window() -> None:
    """It need not be the one before; by default it is."""
    assert sections(THIS, FACTS).last == W40
    assert sections(THIS, Facts(weeks=PAST)).last == PAST[0].window
    assert sections(THIS, Facts()).last is None


def test_a_bad_week_is_remarked_upon() -> None:
    """Half of it was not seen."""
    poor = replace(before(7, {H200: {State.FREE: 84.0, State.UNKNOWN: 84.0}}), window=W40)
    remark = "week 2026-W40 was covered too badly to be compared with"
    assert remark in quality(THIS, Facts(compared=poor)).remarks
    assert remark not in quality(THIS, FACTS).remarks


def test_weeks_of_a_source_without_findings_count_no_failures() -> None:
    """They are not 0."""
    assert week_of(THIS, Facts(missing={"findings": "-"})).incidents is None
    assert week_of(THIS, Facts()).incidents == 0


def test_the_page_calls_it_by_its_name() -> None:
    """Titles, columns, the drawing and the top of the page."""
    report = replace(THIS, sections=sections(THIS, FACTS))
    page = to_html(report, report.sections)
    for text in (
        "Better or worse than week 2026-W40?",
        "Bridge from week 2026-W40",
        "This week beside week 2026-W40",
        "Active GPU-hours, from week 2026-W40 to this week; the axis does not begin at 0",
        "week 2026-W40 21.0; ",
    ):
        assert text in page, text
    assert "last week" not in page


def test_the_page_says_that_there_is_none() -> None:
    """The scorecard is there in part, the bridge is not."""
    page = to_html(THIS, sections(THIS, Facts()))
    assert page.count("In part only: there is no week before this one to compare with") == 1


def test_the_page_says_why_there_are_no_findings() -> None:
    """And does not call it good news."""
    page = to_html(THIS, sections(THIS, Facts(missing={"findings": "nobody looked for them"})))
    assert "No rule found anything." not in page
    assert page.count("nobody looked for them") == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-W47", "week 2026-W47 is the week of the report"),
        ("2026-W48", "week 2026-W48 ends at 2026-11-30T00:00:00Z, the report begins at 2026-11-16T00:00:00Z"),
        (
            "2026-W39",
            "there is nothing of week 2026-W39 to compare with: the journal covers 2026-09-28T00:00:00Z",
        ),
        ("2026-W54", "there is no week 2026-W54"),
        ("last", "'last' is not an ISO week: write it as 2026-W47"),
    ],
)
def test_weeks_that_cannot_be_compared_with(text: str, why: str) -> None:
    """Not one, the same, a later one, one of which there is nothing."""
    with pytest.raises(ReportError) as caught:
        week_to_compare(text, WEEK, [SPAN])
    assert str(caught.value).startswith(why)


def test_a_week_that_can_be() -> None:
    """Any span will do; it is of the window's time zone."""
    none = Span(first_ms=WEEK.from_ms, last_ms=WEEK.to_ms, enrolled_ms=WEEK.from_ms)
    assert week_to_compare("2026-W40", WEEK, [none, SPAN]) == W40
    berlin = replace(WEEK, timezone="Europe/Berlin")
    assert week_to_compare("2026-W46", berlin, [SPAN]).from_ms == W46.from_ms - HOUR_MS


def test_a_window_within_a_week_is_not_compared_with_it() -> None:
    """What is compared must be over when the window begins."""
    day = Window(from_ms=WEEK.from_ms + DAY_MS, to_ms=WEEK.from_ms + 2 * DAY_MS)
    with pytest.raises(ReportError, match="--compare names an earlier week"):
        week_to_compare("2026-W47", day, [SPAN])
