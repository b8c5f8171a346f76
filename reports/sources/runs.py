"""Findings as a store has them: moments at which they were open, joined to findings."""

from collections.abc import Iterable, Iterator, Mapping

from agent.tick import Finding

FINDING_STEP_MS = 120_000
"""Findings are told at least so often by who pushes them."""
APART_MS = 360_000
"""Whoever is scraped tells them less often: what is seen again so soon was open meanwhile."""


def findings_of(
    seen: Iterable[tuple[Mapping[str, str], list[int]]], step_ms: int, to_ms: int
) -> list[Finding]:
    """Make findings of the moments at which they were seen open; what is open at the end did not close."""
    apart_ms = max(step_ms, APART_MS)
    found = [
        Finding(
            rule=labels.get("rule", ""),
            severity=labels.get("severity", ""),
            node=labels.get("node", ""),
            uuid=labels.get("uuid", ""),
            opened_ms=first_ms,
            closed_ms=None if last_ms >= to_ms - apart_ms else last_ms + step_ms,
        )
        for labels, moments in seen
        for first_ms, last_ms in runs(moments, apart_ms)
    ]
    return sorted(found, key=lambda one: (one.opened_ms, one.node, one.uuid, one.rule))


def runs(moments: Iterable[int], apart_ms: int) -> Iterator[tuple[int, int]]:
    """Join moments that are no further apart: the first and the last of each run."""
    first_ms = last_ms = None
    for at_ms in moments:
        if first_ms is None or last_ms is None or at_ms - last_ms > apart_ms:
            if first_ms is not None and last_ms is not None:
                yield first_ms, last_ms
            first_ms = at_ms
        last_ms = at_ms
    if first_ms is not None and last_ms is not None:
        yield first_ms, last_ms
