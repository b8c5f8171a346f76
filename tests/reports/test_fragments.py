"""Fragmentation: free GPUs count by node and hour, and a job begins where enough of them are."""

import pytest

from agent.tally import HOUR_MS
from agent.tick import State
from reports.content.fragments import fragments
from reports.content.outlook import worthwhile
from reports.facts import Facts, FreeHour
from reports.outline import Report
from reports.sections import Fit, FragmentLine, Group, GroupLine, Sections
from reports.sources.free_hours import counted
from reports.window import Window
from tests.reports.made import H200, Did, hour, made
from tests.reports.small import MONDAY_MS


def report(hours: float = 4, nodes: int = 3, each: int = 4, start: float = 0.0) -> Report:
    """Make a report of some hours of nodes with so many GPUs each."""
    window = Window(
        from_ms=MONDAY_MS + round(start * HOUR_MS), to_ms=MONDAY_MS + round((start + hours) * HOUR_MS)
    )
    gpus = (
        Did(f"{node}-{gpu}", {State.FREE: hours}, node=f"n{node}")
        for node in range(nodes)
        for gpu in range(each)
    )
    return made(*gpus, window=window)


def free(number: int, *nodes: int, group: Group = H200) -> tuple[FreeHour, ...]:
    """Say how many GPUs were free in an hour on each of some nodes."""
    return counted((MONDAY_MS + number * HOUR_MS, group, gpus) for gpus in nodes)


def facts(*hours: tuple[int, ...], spare: float = 0.0) -> Facts:
    """Make facts of hours in which so many GPUs were free on nodes; and some in pieces."""
    return Facts(
        hours=tuple(
            row
            for number, nodes in enumerate(hours)
            for row in (hour(number, State.FREE, sum(nodes) + spare), hour(number, State.ACTIVE, 1.0))
        ),
        free=tuple(row for number, nodes in enumerate(hours) for row in free(number, *nodes)),
    )


def test_jobs_begin_where_enough_gpus_are_free_together() -> None:
    """Four hours of three nodes: 3 + 3 + 2 free, a whole node, one GPU, none."""
    (line,) = fragments(report(), facts((3, 3, 2), (4,), (1,), ()))
    assert line == FragmentLine(
        group=H200,
        node_gpus=4,
        free_mean=13 / 4,
        pieces_ms=0,
        largest_p50=1,
        largest_p5=0,
        fits=(
            Fit(1, 13 / 4, 0.75, 0),
            Fit(2, (3 + 2) / 4, 0.5, 3 * HOUR_MS),
            Fit(4, 1 / 4, 0.25, 9 * HOUR_MS),
        ),
    )


@pytest.mark.parametrize(
    ("each", "sizes"), [(1, (1,)), (4, (1, 2, 4)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))]
)
def test_sizes_go_up_to_a_whole_node(each: int, sizes: tuple[int, ...]) -> None:
    """Whatever its size."""
    (line,) = fragments(report(nodes=1, each=each), facts((1,)))
    assert tuple(fit.gpus for fit in line.fits) == sizes


def test_a_gpu_that_was_replaced_makes_no_larger_node() -> None:
    """Two halves of a time in one place are one GPU."""
    halves = [Did(uuid, {State.FREE: 2.0}) for uuid in ("A", "B")]
    told = made(*halves, window=Window(from_ms=MONDAY_MS, to_ms=MONDAY_MS + 4 * HOUR_MS))
    (line,) = fragments(told, facts((1,), (1,), (1,), (1,)))
    assert line.node_gpus == 1


def test_what_is_free_in_pieces_is_told_apart() -> None:
    """Half a GPU beside each hour's whole ones."""
    (line,) = fragments(report(hours=2), facts((2,), (2,), spare=0.5))
    assert (line.free_mean, line.pieces_ms) == (2.0, HOUR_MS)


def test_hours_at_the_edges_are_left_out() -> None:
    """A window from half past twelve has one whole hour of the three that it touches."""
    (line,) = fragments(report(hours=2, start=0.5), facts((1,), (4,), (1,)))
    assert (line.free_mean, line.largest_p50) == (4.0, 4)


def test_groups_are_told_apart_and_those_without_free_gpus_left_out() -> None:
    """By pool and model; what is free of another group is of no use."""
    other = Group("train", "NVIDIA L4")
    told = Facts(
        hours=(hour(0, State.FREE, 1.0), hour(0, State.ACTIVE, 1.0, group=other)),
        free=(*free(0, 1), *free(0, 4, group=Group("", "stranger"))),
    )
    (line,) = fragments(report(hours=1), told)
    assert (line.group, line.free_mean) == (H200, 1.0)


def test_a_planner_is_told_to_pack() -> None:
    """Eight nodes of 4 with one free GPU each: eight are free, and no whole node, at 2 for an hour."""
    lines = fragments(report(hours=2, nodes=8), facts((1,) * 8, (1,) * 8))
    costly = GroupLine(
        group=H200, gpus=32, inventory_ms=64 * HOUR_MS, elapsed_ms={}, busy_ratio_mean=None, cost=128.0
    )
    (told,) = worthwhile(report(hours=2, nodes=8), Sections(fragments=lines, groups=(costly,)))
    assert (told.kind, told.gpu_ms, told.cost) == ("pack", 16 * HOUR_MS, 32.0)
    assert told.text == (
        "place small jobs of NVIDIA H200 together: 8.0 GPUs were free in the mean, "
        "yet a job of 4 on one node could begin in 0.0 % of the hours only"
    )


def test_nobody_is_told_to_pack_what_would_not_make_a_node() -> None:
    """Three free GPUs are no node of four; whole nodes that are free in half of the hours will do."""
    few = fragments(report(hours=2), facts((1, 1, 1), (1, 1, 1)))
    half = fragments(report(hours=2), facts((4,), (1, 1, 2)))
    assert not list(worthwhile(report(), Sections(fragments=few)))
    assert not list(worthwhile(report(), Sections(fragments=half)))
