"""Every GPU-second is accounted for, once, whatever happens: random histories in a real journal."""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.tally import apportion
from agent.tick import Condition, slice_of
from tests.agent.histories import Interval, Step, View, World, histories

_UNHURRIED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


def run(history: Sequence[Step]) -> None:
    """Play a history and compare the journal with what it must hold."""
    with tempfile.TemporaryDirectory() as folder, closing(World(Path(folder) / "journal.db")) as world:
        for step in history:
            world.play(step)
        world.check()


@given(histories(25))
@settings(max_examples=200, deadline=None, suppress_health_check=_UNHURRIED)
def test_states_of_an_hour_sum_to_the_time_that_passed(history: list[Step]) -> None:
    """Per GPU and hour the states sum to the time owed, to the millisecond, and no counter goes down."""
    run(history)


@pytest.mark.slow
@given(histories(80))
@settings(max_examples=3_000, deadline=None, suppress_health_check=_UNHURRIED)
def test_states_of_an_hour_sum_to_the_time_that_passed_in_long_histories(history: list[Step]) -> None:
    """The same holds for thousands of longer histories."""
    run(history)


def test_busy_time_of_a_slice_too_small_for_a_millisecond_is_not_lost() -> None:
    """Of one millisecond a seventh is nothing: its busy time goes to the rest of the GPU."""
    piece = slice_of("MIG-0a", "1g.18gb", 1 / 7, {})
    views = tuple(
        View(
            shown="read",
            condition=Condition.OK,
            late_ms=0,
            values={"busy_ratio": 0.02},
            watts=60,
            energy_jump=0.0,
            holds=(),
            drained=False,
            slices=slices,
        )
        for slices in ((), (piece,), (piece, replace(piece, uuid="MIG-0b")))
    )
    run([Interval(length_ms=1, probe=True, views=views)])


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**9), min_size=1, max_size=12))
def test_parts_sum_to_the_whole(total: int, weights: list[int]) -> None:
    """A split hands out exactly what it was given, in whole parts, and none of them is negative."""
    parts = apportion(total, weights)
    assert total == sum(parts)
    assert len(weights) == len(parts)
    assert min(parts) >= 0


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**6), min_size=1, max_size=12))
def test_parts_follow_their_weights(total: int, weights: list[int]) -> None:
    """Each part is within one of its fair share; equal shares where all weights are 0."""
    fair = weights if any(weights) else [1] * len(weights)
    for part, weight in zip(apportion(total, weights), fair, strict=True):
        assert abs(part * sum(fair) - total * weight) < sum(fair)
