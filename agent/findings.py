"""Findings that are open: what a judgement of each interval opens, keeps open and closes."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from agent.tick import Finding

FLAP_MS = 3_600_000
"""What opens again so soon after it closed is the same finding, once more."""
Key = tuple[str, str]
"""Rule and UUID."""


class Findings:
    """The findings of a node that are open, and those that closed of late."""

    def __init__(self, known: Iterable[Finding] = ()) -> None:
        known = list(known)
        self._open = {(one.rule, one.uuid): one for one in known if one.closed_ms is None}
        self._closed = {(one.rule, one.uuid): one for one in known if one.closed_ms is not None}

    @property
    def open(self) -> tuple[Finding, ...]:
        """What is open now, oldest first."""
        return tuple(sorted(self._open.values(), key=lambda one: one.opened_ms))

    def update(self, found: Iterable[Finding], seen: Collection[str], at_ms: int) -> tuple[Finding, ...]:
        """Take what was found on the GPUs that were seen; give what opened and what closed.

        A finding on a GPU that was not seen stays as it is: not seeing is no recovery.
        """
        now = {(one.rule, one.uuid): one for one in found}
        opened = {key: self._opened(key, one, at_ms) for key, one in now.items() if key not in self._open}
        closed = {
            key: replace(one, closed_ms=at_ms)
            for key, one in self._open.items()
            if one.uuid in seen and key not in now
        }
        for key in closed:
            del self._open[key]
        self._open |= opened
        late = [key for key, one in self._closed.items() if at_ms - (one.closed_ms or 0) > FLAP_MS]
        for key in late:
            del self._closed[key]
        self._closed |= closed
        return (*opened.values(), *closed.values())

    def _opened(self, key: Key, one: Finding, at_ms: int) -> Finding:
        before = self._closed.pop(key, None)
        if before is None or at_ms - (before.closed_ms or 0) > FLAP_MS:
            return one
        return replace(one, opened_ms=before.opened_ms, times=before.times + 1)
