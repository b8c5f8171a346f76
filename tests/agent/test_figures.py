"""Figures as text: what goes in comes out to the last bit, and nothing else is believed."""

import struct
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.figures import Figures, read_numbers, write_numbers

NAMES = ("power_watts", "busy_ratio", "energy_joules_total")
_finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(_finite, max_size=20))
def test_numbers_come_back(numbers: list[float]) -> None:
    """Every finite number, to the last bit."""
    told = read_numbers(write_numbers(numbers))
    assert struct.pack(f"{len(told)}d", *told) == struct.pack(f"{len(numbers)}d", *numbers)


@given(st.dictionaries(st.sampled_from(NAMES), _finite | st.none()))
def test_figures_come_back_by_name(known: dict[str, float | None]) -> None:
    """What is not known is left out, and so is a name that is not on the list."""
    figures = Figures(NAMES)
    known_here = {name: number for name, number in known.items() if number is not None}
    assert figures.read(figures.write({**known, "fan_speed_ratio": 0.4})) == known_here


@given(st.text(max_size=80))
def test_other_text_is_no_figures(text: str) -> None:
    """Whatever is not exactly such a text raises ValueError."""
    with pytest.raises(ValueError, match=r".*"):
        Figures(NAMES).read(text)


@pytest.mark.parametrize("names", [NAMES[::-1], NAMES[:2], (*NAMES, "x"), ("a", "b", "c")])
def test_figures_of_other_names_are_not_ours(names: tuple[str, ...]) -> None:
    """Another version's list: other names, another order, more of them or fewer."""
    with pytest.raises(ValueError, match="figures"):
        Figures(NAMES).read(Figures(names).write(dict.fromkeys(names, 1.0)))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_only_finite_numbers_are_read(number: float) -> None:
    """A row has a figure, or is not there."""
    with pytest.raises(ValueError, match="bounds"):
        read_numbers(write_numbers([1.0, number]))


def test_half_a_number_is_none() -> None:
    """Bytes that do not make whole numbers raise ValueError."""
    with pytest.raises(ValueError, match="12 bytes"):
        read_numbers(b64encode(bytes(12)).decode())
