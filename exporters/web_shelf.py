"""A page as it was last made, plain and compressed, for everybody who asks before there is something new.

Making the page of 8 GPUs takes tens of milliseconds. Whoever comes meanwhile gets the one before.
"""

import gzip
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from exporters.web_request import Answer

_FAST = 2
_VARY = (("Vary", "Accept, Accept-Encoding"),)
_SMALL = (*_VARY, ("Content-Encoding", "gzip"))
_REMEMBERED = 0b111
_REGULAR = 2
"""In so many of three intervals a page must have been asked for to be made before it is asked for again."""


class _Kept(NamedTuple):
    number: int | None
    plain: Answer
    small: Answer

    def coded(self, *, compressed: bool) -> Answer:
        return self.small if compressed else self.plain

    def will_do(self, number: int | None) -> bool:
        """Whether it may be given while the edition of a number is made."""
        if self.number is None or number is None:
            return self.number == number
        return number - self.number <= 1


_EMPTY = Answer(HTTPStatus.OK, b"")
_NOTHING = _Kept(-2, _EMPTY, _EMPTY)


class Shelf:
    """Keeps a page: `make` gives its body and type, `number` tells its editions apart.

    The number is that of the latest view, None where none is to be shown. Safe to use from several threads.
    """

    def __init__(
        self, make: Callable[[], tuple[bytes, str]], number: Callable[[], int | None] = lambda: None
    ) -> None:
        self._make = make
        self._number = number
        self._lock = threading.Lock()
        self._kept = _NOTHING
        self._is_due = False
        self._asked = 0  # a bit for each interval, the present one last

    def ready(self, *, compressed: bool) -> Answer | None:
        """Give the page if that costs nothing; None sends the caller, and nobody after it, to `take`."""
        self._asked |= 1
        kept, number = self._kept, self._number()
        if kept.number == number or (self._is_due and kept.will_do(number)):
            return kept.coded(compressed=compressed)
        self._is_due = True
        return None

    def take(self, *, compressed: bool) -> Answer:
        """Give the page, made anew unless somebody is at it; only where there is none to show yet, wait."""
        kept = self._kept
        if self._lock.acquire(blocking=not kept.will_do(self._number())):
            try:
                kept = self._kept = self._made(self._kept)
            finally:
                self._is_due = False
                self._lock.release()
        return kept.coded(compressed=compressed)

    def is_wanted(self) -> bool:
        """Begin an interval; say whether the page will be asked for, by what was in the last three.

        If so, those who ask before it is made get the last one.
        """
        is_regular = self._asked.bit_count() >= _REGULAR
        self._asked = self._asked << 1 & _REMEMBERED
        self._is_due = self._is_due or is_regular
        return is_regular

    def _made(self, kept: _Kept) -> _Kept:
        number = self._number()  # before the page is made: this can only be newer
        body, kind = self._make()
        if kept.plain.body is body:
            return kept._replace(number=number)
        small = gzip.compress(body, _FAST, mtime=0)
        return _Kept(
            number, Answer(HTTPStatus.OK, body, kind, _VARY), Answer(HTTPStatus.OK, small, kind, _SMALL)
        )
