"""One error told by two sources, NVML and the kernel's log, is one error.

Per GPU and number, an occurrence of one source is that of the other if it is within ten seconds of one that
is not matched yet; times are compared by the second. What either source tells more often counts.
"""

from collections.abc import Hashable
from typing import Literal

from agent.xid_bursts import SLOT_MS

WINDOW_MS = 10_000
KEPT_MS = 120_000
"""How long an occurrence waits: the sources may be read at different moments."""

_WINDOW_SLOTS = WINDOW_MS // SLOT_MS
_KEPT_SLOTS = KEPT_MS // SLOT_MS

Source = Literal["nvml", "kernel"]
_Waiting = dict[Source, dict[int, int]]


class Pairs:
    """Occurrences that wait for the other source, by the second."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, _Waiting] = {}
        self._swept_ms = 0

    def unmatched(self, key: Hashable, source: Source, at_ms: int, count: int) -> int:
        """Say how many of these the other source has not told."""
        waiting = self._waiting.setdefault(key, {"nvml": {}, "kernel": {}})
        theirs = waiting["kernel" if source == "nvml" else "nvml"]
        slot = at_ms // SLOT_MS
        for other in sorted(slot_ for slot_ in theirs if abs(slot_ - slot) <= _WINDOW_SLOTS):
            matched = min(count, theirs[other])
            count -= matched
            theirs[other] -= matched
            if theirs[other] == 0:
                del theirs[other]
            if count == 0:
                return 0
        mine = waiting[source]
        mine[slot] = mine.get(slot, 0) + count
        if len(mine) > _KEPT_SLOTS:
            del mine[min(mine)]
        return count

    def forget(self, now_ms: int) -> None:
        """Drop what has waited too long, about once a minute."""
        if abs(now_ms - self._swept_ms) < KEPT_MS // 2:
            return
        self._swept_ms = now_ms
        oldest = now_ms // SLOT_MS - _KEPT_SLOTS
        for key, waiting in list(self._waiting.items()):
            for slots in waiting.values():
                for slot in [slot for slot in slots if slot < oldest]:
                    del slots[slot]
            if not any(waiting.values()):
                del self._waiting[key]
