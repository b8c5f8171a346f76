"""XIDs in heaps: all of one error, GPU and source within a second.

A storm brings hundreds of thousands of them; whatever is decided per XID is decided per burst instead.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from agent.tick import Xid
from agent.xid_catalogue import BY_TEXT, meaning_of

SLOT_MS = 1000


@dataclass(slots=True, kw_only=True)
class Burst:
    """What came within one second; `text` is the first that told more than the number."""

    at_ms: int
    last_ms: int
    uuid: str
    number: int
    source: Literal["nvml", "kernel"]
    text: str
    pci_bus: str
    count: int = 1


def bursts_of(xids: Iterable[Xid], now_ms: int) -> list[Burst]:
    """Heap up XIDs, in order of time; none is later than now.

    Where only the text tells how grave an error is, a burst is of one severity: the grave one among many
    harmless ones must not be lost.
    """
    found: dict[tuple[str, str, int, str, int, str], Burst] = {}
    for told_ms, uuid, number, source, text, pci_bus in xids:
        at_ms = min(told_ms, now_ms)
        severity = meaning_of(number, text).severity if text and number in BY_TEXT else ""
        key = (uuid, pci_bus, number, source, at_ms // SLOT_MS, severity)
        burst = found.get(key)
        if burst is None:
            found[key] = Burst(
                at_ms=at_ms,
                last_ms=at_ms,
                uuid=uuid,
                number=number,
                source=source,
                text=text,
                pci_bus=pci_bus,
            )
            continue
        burst.count += 1
        if at_ms > burst.last_ms:
            burst.last_ms = at_ms
        elif at_ms < burst.at_ms:
            burst.at_ms = at_ms
        if text and not burst.text:
            burst.text = text
    return sorted(found.values(), key=lambda burst: burst.at_ms)
