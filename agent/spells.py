"""Spells: unbroken stretches in which somebody held a GPU and did nothing with it.

A spell's age is the time that was seen without activity; unknown time neither ages it nor, up to a limit,
ends it. Activity, a change of holder, and any state but held end it. Only what lies beyond the holder's
patience is idle: the time before stays a gap for good, since a reclaiming policy could not have had it.
"""

from dataclasses import dataclass, replace

from agent.tick import Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """One spell of one holder on one GPU or a slice of it; times in ms since the epoch, durations in ms."""

    uuid: str
    holder: Holder
    start_ms: int
    end_ms: int
    slice: str = ""
    seen_ms: int = 0
    beyond_ms: int = 0
    unknown_ms: int = 0
    ended: bool = False

    def until_idle_ms(self, patience_ms: int) -> int:
        """How much longer the holder may pause before its time counts as idle."""
        return max(0, patience_ms - self.seen_ms)

    def lengthened(self, start_ms: int, end_ms: int, patience_ms: int) -> "Spell":
        """Grow by an interval that was seen without activity."""
        length_ms = end_ms - start_ms
        beyond_ms = max(0, length_ms - self.until_idle_ms(patience_ms))
        return Spell(
            uuid=self.uuid,
            holder=self.holder,
            slice=self.slice,
            start_ms=self.start_ms,
            end_ms=end_ms,
            seen_ms=self.seen_ms + length_ms,
            beyond_ms=self.beyond_ms + beyond_ms,
        )

    def unseen(self, length_ms: int) -> "Spell":
        """Note unknown time behind the last interval that was seen."""
        return replace(self, unknown_ms=self.unknown_ms + length_ms)
