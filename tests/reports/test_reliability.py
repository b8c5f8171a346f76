"""Failures: what belongs together is one incident, means are of what there was, boards to replace."""

import pytest

from agent.tally import HOUR_MS
from agent.tick import Finding, State
from reports.content.reliability import FAILURES, REPLACE, incidents_of, reliability
from reports.facts import Facts, GpuFacts
from reports.outline import Report
from rules.load import built_in
from tests.reports.made import Did, found, made
from tests.reports.small import MONDAY_MS


def report(*findings: Finding) -> Report:
    """Make a week of GPU A, 10 hours down, 8 drained and 50 not seen, and of GPU B, which was free."""
    return made(
        Did("A", {State.ACTIVE: 100.0, State.DOWN: 10.0, State.DRAINED: 8.0, State.UNKNOWN: 50.0}, owner="a"),
        Did("B", {State.FREE: 168.0}, node="n2"),
        findings=findings,
    )


@pytest.mark.parametrize("name", sorted(FAILURES))
def test_each_rule_is_built_in(name: str) -> None:
    """And is about GPUs."""
    assert built_in()[name].about == "gpu"


def test_what_replaces_a_board_is_a_failure() -> None:
    """The one set is part of the other."""
    assert REPLACE < FAILURES


def test_a_week_without_failures_has_no_means() -> None:
    """Nothing to divide by."""
    told = reliability(report(), Facts())
    assert (told.incidents, told.between_failures_hours, told.to_repair_hours) == (0, None, None)
    assert (told.down_ms, told.lines, told.xids) == (10 * HOUR_MS, (), {})


def test_means_are_worked_out_by_hand() -> None:
    """336 hours less 68 that A was not up are 268, over two failures; these took 1 and 4 hours."""
    told = reliability(report(found("gpu_down", "A", 1, 2), found("gpu_hung", "B", 50, 54)), Facts())
    assert (told.incidents, told.between_failures_hours, told.to_repair_hours) == (2, 134.0, 2.5)


def test_findings_that_overlap_are_one_incident() -> None:
    """An XID, an hour down, and nine minutes later a reset that is asked for; twelve minutes are another."""
    rows = (
        found("xid_critical", "A", 10, 10.2),
        found("gpu_down", "A", 10.1, 11),
        found("recovery_reset_asked", "A", 11.15, 12),
        found("gpu_down", "A", 12.2, 13),
    )
    first, second = incidents_of(rows)
    assert first.rules == ("xid_critical", "gpu_down", "recovery_reset_asked")
    assert (first.opened_ms, first.closed_ms) == (MONDAY_MS + 10 * HOUR_MS, MONDAY_MS + 12 * HOUR_MS)
    assert second.opened_ms == MONDAY_MS + round(12.2 * HOUR_MS)


def test_the_longer_finding_ends_an_incident() -> None:
    """A short one within a long one does not shorten it; one that is open keeps it open."""
    (closed,) = incidents_of([found("gpu_down", "A", 1, 9), found("xid_critical", "A", 2, 3)])
    assert closed.closed_ms == MONDAY_MS + 9 * HOUR_MS
    (going_on,) = incidents_of([found("gpu_down", "A", 1), found("xid_critical", "A", 2, 3)])
    assert going_on.closed_ms is None


def test_failures_of_two_gpus_are_two() -> None:
    """Although they came together."""
    assert len(incidents_of([found("gpu_down", "A", 1, 2), found("gpu_down", "B", 1, 2)])) == 2


def test_what_is_no_failure_is_no_incident() -> None:
    """Idle, hot, or about the node."""
    rows = [
        found("held_idle", "A", 1, 2),
        found("thermal_margin_low", "A", 1, 2),
        found("gpu_down", "", 1, 2),
    ]
    assert incidents_of(rows) == ()


def test_a_failure_of_the_week_before_counts_when_it_is_repaired() -> None:
    """It began before, so it is not counted here; it took 20 hours and ended here."""
    told = reliability(report(found("gpu_down", "A", -10, 10)), Facts())
    assert (told.incidents, told.between_failures_hours, told.to_repair_hours) == (0, None, 20.0)
    assert [(line.uuid, line.incidents) for line in told.lines] == [("A", 0)]


def test_a_failure_that_goes_on_has_no_length_yet() -> None:
    """It is counted, and no repair."""
    told = reliability(report(found("gpu_down", "A", 160)), Facts())
    assert (told.incidents, told.to_repair_hours) == (1, None)


def test_lines_name_the_gpu_and_what_was_found() -> None:
    """Boards to be replaced come first, then those down longest."""
    told = reliability(
        report(
            found("gpu_down", "A", 1, 2),
            found("xid_critical", "A", 20, 21),
            found("row_remap_failed", "B", 3, node="n2"),
        ),
        Facts(gpus={("A", "n1"): GpuFacts(xids={79: 2, 13: 1}), ("B", "n2"): GpuFacts(xids={79: 1})}),
    )
    first, second = told.lines
    assert (first.uuid, first.serial, first.node, first.replace) == ("B", "S-B", "n2", True)
    assert (second.uuid, second.incidents, second.replace) == ("A", 2, False)
    assert (second.rules, second.xids) == (("gpu_down", "xid_critical"), {13: 1, 79: 2})
    assert second.down_ms == 10 * HOUR_MS
    assert told.xids == {13: 1, 79: 3}


def test_a_gpu_that_the_window_does_not_know_is_named_all_the_same() -> None:
    """A finding about a GPU without accounts."""
    (line,) = reliability(report(found("gpu_missing", "C", 1)), Facts()).lines
    assert (line.uuid, line.serial, line.model, line.down_ms) == ("C", "", "", 0)
