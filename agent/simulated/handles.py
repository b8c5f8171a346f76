"""Handles that the simulated driver gives out: addresses that stand for something, and are never read."""

from ctypes import addressof, c_void_p

from agent.simulated.calling import OK, Argument, target


def put_handle(address: int, out: Argument, offset: int = 0) -> int:
    """Write an address into the pointer that a reference refers to, or into one of a struct."""
    c_void_p.from_address(addressof(target(out)) + offset).value = address
    return OK
