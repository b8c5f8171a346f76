"""Cells that the forms write alike."""

from dataclasses import replace

import pytest

from agent.tick import State
from reports.forms import cells
from reports.outline import Decision, SpellLine
from reports.window import Window
from reports.wording import number, signed
from tests.reports.made import WEEK, Did, found, made, spell

REPORT = made(
    Did("A", {State.HELD_IDLE: 84.0, State.ACTIVE: 84.0}, owner="alice", busy=0.5, watts=1000.0), price=2.0
)


def test_an_owner() -> None:
    """Idle, gap, active, service, busy, kWh, cost."""
    line = REPORT.owners[0]
    assert cells.owner_cells(REPORT, line) == [
        "alice",
        "84.0",
        "0.0",
        "84.0",
        "0.0",
        "50.0 %",
        "168.00",
        "336.00",
    ]
    free = made(Did("A", {State.HELD_IDLE: 1.0}, owner="alice"))
    assert cells.owner_cells(free, free.owners[0]) == ["alice", "1.0", "0.0", "0.0", "0.0", "-", "-"]


def test_a_gpu() -> None:
    """One that sits nowhere has no index."""
    line = replace(REPORT.gpus[0], index=None, model="")
    told = ["n1", "-", "A", "-", "84.0", "0.0", "0.0", "0.0", "84.0", "50.0 %"]
    assert cells.gpu_cells(line) == told


def test_a_spell() -> None:
    """In the zone of the window; one that goes on says so."""
    report = replace(REPORT, window=replace(WEEK, timezone="Europe/Berlin"))
    line = SpellLine(spell=spell("A", "", "7", 0, 10), node="n1", index=3)
    told = ("n1", "3 A", "-", "job 7", "2026-11-16 01:00", "10.0", "9.5", "")
    assert cells.spell_cells(report, line) == told
    alive = SpellLine(spell=spell("A", "", "7", 0, 10)._replace(ended=False), node="n1", index=None)
    assert cells.spell_cells(report, alive)[1::6] == ("A", "goes on")


def test_a_finding() -> None:
    """Where, since when, until when, and what to do."""
    one = replace(found("hot", "A", 0, 1), summary="it is hot", action="cool it")
    assert cells.finding_cells(one) == (
        "critical",
        "hot",
        "n1 A",
        "2026-11-16T00:00:00Z",
        "closed 2026-11-16T01:00:00Z",
        "it is hot; cool it",
    )
    about_node = replace(found("late", "", 0), summary="late")
    assert cells.finding_cells(about_node)[2:] == ("n1", "2026-11-16T00:00:00Z", "open", "late")


def test_what_hangs_on_a_decision() -> None:
    """Money only where there is some."""
    one = Decision(kind="free", text="", gpu_ms=5_400_000, cost=3.0)
    assert cells.amount(REPORT, one) == "1.5 GPU-h, cost 3.00"
    assert cells.amount(REPORT, replace(one, cost=None)) == "1.5 GPU-h"


def test_costs_have_a_column_only_with_a_price() -> None:
    """A column of dashes tells nothing."""
    assert (cells.cost_titles(REPORT), cells.cost_cells(REPORT, None)) == (["cost"], ["-"])
    free = made(Did("A", {State.FREE: 1.0}))
    assert (cells.cost_titles(free), cells.cost_cells(free, None)) == ([], [])


def test_another_window_is_told_once() -> None:
    """A name that says which it is needs no label beside it."""
    other = Window(from_ms=WEEK.from_ms, to_ms=WEEK.to_ms, label="week 2026-W47")
    edges = "2026-11-16 00:00 to 2026-11-23 00:00"
    assert cells.compared_with(REPORT, other, "last week") == f"week 2026-W47, {edges}"
    assert cells.compared_with(REPORT, other, "week 2026-W47") == edges
    assert cells.compared_with(REPORT, replace(other, label=""), "last week") == edges


@pytest.mark.parametrize(
    ("value", "digits", "plain", "change"),
    [
        (-0.04, 1, "0.0", "0.0"),
        (0.0, 1, "0.0", "0.0"),
        (0.04, 1, "0.0", "0.0"),
        (-0.06, 1, "-0.1", "-0.1"),
        (1234.5, 1, "1,234.5", "+1,234.5"),
        (-0.004, 2, "0.00", "0.00"),
        (-0.4, 0, "0", "0"),
        (-10.0, 0, "-10", "-10"),
        (100.0, 0, "100", "+100"),
    ],
)
def test_nothing_has_no_sign(value: float, digits: int, plain: str, change: str) -> None:
    """Nor has what is shown as nothing."""
    assert (number(value, digits), signed(value, digits)) == (plain, change)
