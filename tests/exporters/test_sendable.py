"""Text that every store can take."""

from hypothesis import given

from exporters.sendable import LONGEST_BYTES, sendable
from tests.exporters.difficult import DIFFICULT, texts, unicode_of


@given(texts)
def test_all_but_halves_of_characters_stays(text: str) -> None:
    """What can be encoded is not touched."""
    assert sendable(text) == unicode_of(text)


def test_difficult_texts_stay_different() -> None:
    """No two of them become one."""
    assert len({sendable(text) for text in DIFFICULT}) == len(DIFFICULT)


def test_what_is_too_long_is_cut_within_the_bound_and_stays_different() -> None:
    """Two long texts that differ at the end only are still two."""
    for letter in "xé😀":
        whole = letter * LONGEST_BYTES
        first, second = sendable(f"{whole}1"), sendable(f"{whole}2")
        assert first != second
        assert len(first.encode()) <= LONGEST_BYTES
        assert first.startswith(letter * 3_000)
    assert sendable("x" * LONGEST_BYTES) == "x" * LONGEST_BYTES
