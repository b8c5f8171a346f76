"""How the simulated driver takes arguments and gives answers: as C functions do."""

from ctypes import c_char, c_void_p, cast
from typing import Any, NamedTuple

from agent.simulated.scenario import Simulation

Argument = Any
"""A C number, a reference made by `byref`, a buffer, an array or a handle: whatever ctypes callers pass."""

OK, UNINITIALIZED, INVALID, REFUSED, NOT_FOUND, TOO_SMALL, LOST, WRONG_VERSION = 0, 1, 2, 3, 6, 7, 15, 25
NO_PERMISSION, TIMEOUT, NO_MEMORY = 4, 10, 20


class Look(NamedTuple):
    """One look at one GPU at one moment, by a driver that refuses some things."""

    simulation: Simulation
    refused: frozenset[str]
    gpu: int
    at_us: int


def plain(value: Argument) -> Any:  # noqa: ANN401  bytes or int, as the function says
    """Return what a C number or string holds."""
    return getattr(value, "value", value)


def target(out: Argument) -> Any:  # noqa: ANN401  the ctypes object itself
    """Return what a reference refers to."""
    return getattr(out, "_obj", out)


def address(buffer: Argument) -> int:
    """Return where a buffer, an array, a pointer or what a reference refers to lies in memory; 0 for NULL."""
    return cast(buffer, c_void_p).value or 0


def raw(buffer: Argument, length: int) -> Any:  # noqa: ANN401  an array that can be packed into
    """Return the first bytes of a buffer as they lie in memory, to be read and written as C does."""
    return (c_char * length).from_address(address(buffer))


def put_number(value: int, out: Argument) -> int:
    """Write a number where the reference says."""
    target(out).value = value
    return OK


def put_text(text: str, buffer: Argument, length: Argument = None) -> int:
    """Write text and its NUL into a buffer, if it has room."""
    content = text.encode()
    if len(content) >= (len(buffer) if length is None else plain(length)):
        return TOO_SMALL
    buffer.value = content
    return OK
