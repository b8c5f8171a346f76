"""The book of XIDs: how often each came to each GPU, over all boots, and what is said of it.

An error that NVML and the kernel's log both tell counts once. Counts survive restarts of the agent and of
the host. Whatever comes, memory is bounded: beyond so many numbers of a GPU the rest counts as number 0,
beyond so many GPUs the rest counts as a GPU that nobody knows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from agent.kernel_log import normal_pci
from agent.tally import HOUR_MS
from agent.tick import Event, Gpu, Xid
from agent.xid_bursts import Burst, bursts_of
from agent.xid_news import News, Place
from agent.xid_pairs import Pairs

MOST_NUMBERS = 256
MOST_GPUS = 256
BEYOND = 0
SAME_TIME_MS = 1000
"""How far the kernel's time of an XID may be off after a restart: the clock may have been slewed."""

Key = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class XidCount:
    """How often an XID came to a GPU: over all boots, and in the present one."""

    count: int
    first_ms: int
    last_ms: int
    count_this_boot: int
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class XidRow:
    """What the journal keeps: one row per GPU, number and boot."""

    uuid: str
    number: int
    boot_id: str
    count: int
    first_ms: int
    last_ms: int


class XidBook:
    """Takes XIDs, counts them and gives events; all XIDs of an interval, of both sources, in one `take`."""

    def __init__(self, boot_id: str, node: str) -> None:
        self._boot_id = boot_id
        self._uuids: dict[str, str] = {}
        self._numbers: dict[str, set[int]] = {}
        self._unknown: set[str] = set()
        self._before: dict[Key, XidRow] = {}
        self._here: dict[Key, XidRow] = {}
        self._counts: dict[Key, XidCount] = {}
        self._changed: set[Key] = set()
        self._by_hour: Counter[tuple[int, str, int]] = Counter()
        self._counted_ms: dict[Key, int] = {}
        self._pairs = Pairs()
        self._news = News(node)

    @property
    def counts(self) -> Mapping[Key, XidCount]:
        """(UUID, number) → how often; the UUID is empty for GPUs that nobody knows."""
        return MappingProxyType(self._counts)

    def know(self, gpus: Iterable[Gpu]) -> None:
        """Note which GPU sits where; one that is gone is remembered, as its errors come late."""
        for gpu in gpus:
            if gpu.pci_bus:
                name = normal_pci(gpu.pci_bus)
                self._uuids.pop(name, None)
                self._uuids[name] = gpu.uuid
                if len(self._uuids) > MOST_GPUS:
                    del self._uuids[next(iter(self._uuids))]

    def restore(self, rows: Iterable[XidRow]) -> None:
        """Go on from what the journal holds, of this boot and of earlier ones; before the first `take`."""
        for told in rows:
            place, number = self._within_bounds(Place(told.uuid), told.number)
            row = replace(told, uuid=place.uuid, number=number)
            key = (row.uuid, row.number)
            if row.boot_id == self._boot_id:
                self._here[key] = _added(self._here.get(key), row)
                self._counted_ms[key] = self._here[key].last_ms
            else:
                self._before[key] = _added(self._before.get(key), row)
            self._recount(key)

    def take(self, xids: Sequence[Xid], now_ms: int) -> list[Event]:
        """Count XIDs and give the events that are due."""
        for burst in bursts_of(xids, now_ms):
            place, number = self._within_bounds(self._place(burst), burst.number)
            if self._old(place, number, burst):
                continue
            new = self._pairs.unmatched((place, number), burst.source, burst.at_ms, burst.count)
            self._count(place, number, burst, new)
            self._news.note(place, number, burst, new)
        self._pairs.forget(now_ms)
        return self._news.events(now_ms)

    def flush(self, now_ms: int) -> list[Event]:
        """Give the sums that wait for their minute to end: before the agent ends."""
        return self._news.flush(now_ms)

    def take_hours(self) -> Mapping[tuple[int, str, int], int]:
        """Give how many were counted since the last time, by hour in ms, UUID and number."""
        taken, self._by_hour = self._by_hour, Counter()
        return taken

    def changed(self) -> tuple[XidRow, ...]:
        """Give the rows that the journal does not hold yet; `saved` says that it does."""
        return tuple(self._here[key] for key in sorted(self._changed))

    def rows(self) -> tuple[XidRow, ...]:
        """Give all rows, for a journal that begins anew; earlier boots are one row."""
        return (*self._before.values(), *self._here.values())

    def saved(self, rows: Iterable[XidRow]) -> None:
        """Note that rows are in the journal; one that changed meanwhile stays to be written."""
        for row in rows:
            key = (row.uuid, row.number)
            if self._here.get(key) == row:
                self._changed.discard(key)

    def _place(self, burst: Burst) -> Place:
        if burst.uuid:
            return Place(burst.uuid)
        pci_bus = normal_pci(burst.pci_bus)
        uuid = self._uuids.get(pci_bus, "")
        return Place(uuid) if uuid else Place("", pci_bus)

    def _within_bounds(self, place: Place, number: int) -> tuple[Place, int]:
        if place.uuid not in self._numbers and len(self._numbers) >= MOST_GPUS:
            place = Place("")
        if not place.uuid and place.pci_bus not in self._unknown:
            if len(self._unknown) >= MOST_GPUS:
                place = Place("")
            self._unknown.add(place.pci_bus)
        numbers = self._numbers.setdefault(place.uuid, set())
        if number not in numbers:
            if len(numbers) >= MOST_NUMBERS:
                number = BEYOND
            numbers.add(number)
        return place, number

    def _old(self, place: Place, number: int, burst: Burst) -> bool:
        """Say whether the kernel's log tells again what was counted before the agent was started."""
        key = (place.uuid, number)
        counted_ms = self._counted_ms.get(key)
        if counted_ms is None or burst.source != "kernel":
            return False
        if burst.at_ms <= counted_ms + SAME_TIME_MS:
            return True
        del self._counted_ms[key]  # the log is in order: what follows is new
        return False

    def _count(self, place: Place, number: int, burst: Burst, new: int) -> None:
        key = (place.uuid, number)
        if not new and key not in self._here:
            return
        if new:
            self._by_hour[burst.at_ms // HOUR_MS * HOUR_MS, place.uuid, number] += new
        told = XidRow(
            uuid=place.uuid,
            number=number,
            boot_id=self._boot_id,
            count=new,
            first_ms=burst.at_ms,
            last_ms=burst.last_ms,
        )
        row = _added(self._here.get(key), told)
        if row != self._here.get(key):
            self._here[key] = row
            self._changed.add(key)
            self._recount(key)

    def _recount(self, key: Key) -> None:
        here, before = self._here.get(key), self._before.get(key)
        total = _added(before, here) if here else before
        if total:
            self._counts[key] = XidCount(
                count=total.count,
                first_ms=total.first_ms,
                last_ms=total.last_ms,
                count_this_boot=here.count if here else 0,
                boot_id=self._boot_id,
            )


def _added(known: XidRow | None, row: XidRow) -> XidRow:
    if known is None:
        return row
    return replace(
        known,
        count=known.count + row.count,
        first_ms=min(known.first_ms, row.first_ms),
        last_ms=max(known.last_ms, row.last_ms),
    )
