"""A mission: what the parent tells a probe arrives as it was told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cadence import SamplerSettings
from agent.mission import Mission, mission_of
from agent.tick import Gpu
from tests.agent.histories import gpu_of

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    node=_texts,
    cell=st.integers(0, 2**20),
    simulation=_texts,
    shunned=st.dictionaries(
        st.integers(0, 200), st.none() | st.builds(Gpu, uuid=_texts, index=st.integers(0, 9), model=_texts)
    ),
)
def test_a_mission_comes_back_as_it_was(
    node: str, cell: int, simulation: str, shunned: dict[int, Gpu | None]
) -> None:
    """Node, settings, cell, simulation and the GPUs that hang, by index, known or not."""
    told = Mission(
        node=node,
        settings=SamplerSettings(interval_seconds=2.5, poll_seconds=0.25),
        cell=cell,
        simulation=simulation,
        shunned=shunned,
    )
    assert mission_of(told.encode()) == told


def test_a_known_gpu_keeps_its_whole_identity() -> None:
    """A GPU that hangs cannot be asked who it is: all that was known of it goes along."""
    told = Mission(node="n", settings=SamplerSettings(), cell=3, shunned={0: gpu_of(0), 5: None})
    assert mission_of(told.encode()).shunned == {0: gpu_of(0), 5: None}


@pytest.mark.parametrize("text", ["", "{}", "[]", '["n"]', '["n", {"interval": 3}, 3, "", []]'])
def test_what_is_no_mission_is_refused(text: str) -> None:
    """A probe that was started in any other way ends at once."""
    with pytest.raises((ValueError, TypeError)):
        mission_of(text)
