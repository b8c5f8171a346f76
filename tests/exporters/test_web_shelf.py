"""A page on its shelf: who gets it at once, who makes it, and how old it may be."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from exporters.web_shelf import Shelf

SECONDS = 30.0


class Numbered:
    """Editions of a page that wait to be made until they may, and say their number."""

    def __init__(self) -> None:
        self.number: int | None = 1
        self.may = threading.Event()
        self.may.set()
        self.making = threading.Event()
        self.shelf = Shelf(self.make, lambda: self.number)

    def make(self) -> tuple[bytes, str]:
        """Make the page."""
        number = self.number
        self.making.set()
        assert self.may.wait(SECONDS)
        return f"{number}".encode(), "text/plain"

    def ready(self) -> bytes | None:
        """Give what is had at once."""
        answer = self.shelf.ready(compressed=False)
        return None if answer is None else answer.body

    def take(self) -> bytes:
        """Give what is had for waiting."""
        return self.shelf.take(compressed=False).body


def test_a_page_is_had_at_once_until_there_is_something_new() -> None:
    """One client is sent to make the new edition, those after it get the last one until it is there."""
    page = Numbered()
    assert page.ready() is None
    assert page.take() == b"1"
    assert page.ready() == b"1"
    page.number = 2
    assert page.ready() is None
    assert page.ready() == b"1"
    assert page.take() == b"2"
    assert page.ready() == b"2"


@pytest.mark.parametrize("number", [3, None])
def test_a_page_is_never_older_than_one_making(number: int | None) -> None:
    """Nobody gets a page of two editions ago, nor one with GPUs when none are to be seen: they wait."""
    page = Numbered()
    assert page.take() == b"1"
    page.number = number
    assert page.ready() is None
    page.may.clear()
    page.making.clear()
    with ThreadPoolExecutor(2) as others:
        first = others.submit(page.take)
        assert page.making.wait(SECONDS)
        assert page.ready() is None
        second = others.submit(page.take)
        page.may.set()
        assert first.result() == second.result() == f"{number}".encode()
    assert page.ready() == f"{number}".encode()
