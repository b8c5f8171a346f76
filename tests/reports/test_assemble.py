"""All sections together: what can be made is there, and what cannot says why."""

from dataclasses import fields, replace

import pytest

from agent.tick import State
from reports.content.assemble import NEEDS, sections
from reports.facts import Facts, GpuFacts
from reports.forms.text_sections import section_parts
from reports.outline import Report
from reports.sections import Sections
from tests.reports.made import H200, Did, before, hour, made, stay, tenure
from tests.reports.small import day, report_of

WORK = {State.ACTIVE: 168.0}


def report() -> Report:
    """Make a week of work."""
    return made(Did("A", WORK, owner="alice", busy=0.5, watts=300.0), price=2.0)


def full(weeks: int) -> Facts:
    """Make facts that lack nothing but weeks."""
    return Facts(
        hours=(
            *(hour(n, State.ACTIVE, 1.0, busy=0.5, watts=300.0) for n in range(168)),
            hour(167, State.FREE, 0.5),
        ),
        gpus={("A", "n1"): GpuFacts()},
        stays=(stay("A", "n1", 0),),
        tenures=(tenure("1", WORK, end=168, activity=0.1, memory=1e9),),
        memory_bytes={H200.model: 1.5e11},
        weeks=tuple(before(number, {H200: WORK}, p95=1.0) for number in range(1, weeks + 1)),
    )


def test_nothing_is_absent_where_all_is_known() -> None:
    """Each section has what it is about; no waste and no heat is good news, not absence."""
    found = sections(report(), full(6))
    assert found.absent == {}
    empty = {one.name for one in fields(Sections) if getattr(found, one.name) in ((), None)}
    assert empty == {"waste", "heat"}
    assert found.last == full(6).weeks[0].window
    assert found.energy is not None
    assert (found.energy.pue_ratio, found.energy.carbon_source) == (1.0, "")


def test_a_source_that_tells_nothing_more_than_the_accounts() -> None:
    """Everything that needs more is absent with a sentence, and the rest is there."""
    found = sections(report(), Facts())
    assert set(found.absent) == set(NEEDS) - {"reliability", "findings"}
    assert all(sentence and not sentence.endswith(".") for sentence in found.absent.values())
    assert found.scores
    assert found.groups
    assert found.energy is not None
    assert found.reliability is not None


def test_what_a_source_says_of_itself_is_the_reason() -> None:
    """Its sentence stands for ours; findings that it has not are no reliability."""
    missing = {"hours": "the store keeps no hours", "findings": "the store keeps no findings", "gpus": "-"}
    found = sections(report(), Facts(missing=missing, gpus={("A", "n1"): GpuFacts()}))
    assert {name for name, why in found.absent.items() if why == "the store keeps no hours"} == {
        "capacity",
        "days",
        "fragments",
        "heat_map",
    }
    assert found.absent["reliability"] == "the store keeps no findings"
    assert found.reliability is None
    assert "heat" not in found.absent


@pytest.mark.parametrize(
    ("weeks", "why"),
    [
        (1, "a trend needs 6 weeks, and there are 2"),
        (4, "a trend needs 6 weeks, and there are 5"),
        (5, None),
    ],
)
def test_a_forecast_says_how_many_weeks_it_lacks(weeks: int, why: str | None) -> None:
    """This week is one of them."""
    assert sections(report(), full(weeks)).absent.get("forecast") == why


def test_weeks_that_were_badly_covered_make_no_forecast() -> None:
    """There are enough, and none is fit."""
    poor = tuple(
        before(number, {H200: {State.ACTIVE: 84.0, State.UNKNOWN: 84.0}}, p95=1.0) for number in range(1, 8)
    )
    told = full(0)
    facts = Facts(hours=told.hours, weeks=poor)
    assert "well covered" in sections(report(), facts).absent["forecast"]


@pytest.mark.parametrize("deeds", [(), (Did("A", {}),), (Did("A", {State.DOWN: 168.0}),)])
@pytest.mark.parametrize("hours", [{}, {State.UNKNOWN: 168.0}, {State.DOWN: 168.0}])
def test_a_fleet_of_nothing_divides_by_nothing(deeds: tuple[Did, ...], hours: dict[State, float]) -> None:
    """No GPUs, GPUs without time, GPUs that were down all the time; this week, and before."""
    told = full(0)
    weeks = tuple(before(number, {H200: hours}, p95=0.0) for number in range(1, 9))
    found = sections(made(*deeds, price=2.0), replace(told, weeks=weeks))
    assert {score.name: score.verdict for score in found.scores}["effective"] == "unknown"
    parts = section_parts(found, made(*deeds, price=2.0), 100)
    assert parts[0][0].startswith("Scorecard, this week against last week")


def test_a_journal_of_four_hours(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A report as the command makes it goes through all sections."""
    found = sections(report_of(day(tmp_path_factory.mktemp("all") / "journal.db"), price=2.0), Facts())
    assert {score.name: score.value for score in found.scores}["coverage"] == pytest.approx(11 / 13)
    assert [line.owner for line in found.waste] == ["alice"]
    assert found.absent["capacity"] == "the source does not tell what happened hour by hour"
