"""Findings that are open: what a judgement of each interval opens, keeps open and closes."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from agent.tick import Finding

Key = tuple[str, str]
"""Rule and UUID."""


class Findings:
    """The open findings of a node."""

    def __init__(self, opened: Iterable[Finding] = ()) -> None:
        self._open: dict[Key, Finding] = {(one.rule, one.uuid): one for one in opened}

    @property
    def open(self) -> tuple[Finding, ...]:
        """What is open now, oldest first."""
        return tuple(sorted(self._open.values(), key=lambda one: one.opened_ms))

    def update(self, found: Iterable[Finding], seen: Collection[str], at_ms: int) -> tuple[Finding, ...]:
        """Take what was found on the GPUs that were seen; give what opened and what closed.

        A finding on a GPU that was not seen stays as it is: not seeing is no recovery.
        """
        now = {(one.rule, one.uuid): one for one in found}
        opened = [one for key, one in now.items() if key not in self._open]
        closed = [
            replace(one, closed_ms=at_ms)
            for key, one in self._open.items()
            if one.uuid in seen and key not in now
        ]
        for one in closed:
            del self._open[one.rule, one.uuid]
        self._open |= {(one.rule, one.uuid): one for one in opened}
        return (*opened, *closed)
