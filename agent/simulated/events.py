"""Events of the simulated driver: sets that wait for them, and what happens when.

A set hears what happens to a GPU after it was registered, each event once, in the order of time. What nobody
fetches waits in a queue of bounded length; the oldest go first.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.simulated.calling import INVALID, OK, REFUSED, TIMEOUT, Argument, Look, address, plain, target
from agent.simulated.failing import STEP_SECONDS, Wait
from agent.simulated.faults import ALWAYS_US, Faults
from agent.simulated.handles import put_handle
from agent.simulated.models import DOUBLE_BIT_ERROR, MIG_CHANGE, RECOVERY_ACTION, XID
from agent.simulated.partitions import Partitions
from agent.simulated.phases import SECOND_US

QUEUE_LENGTH = 10_000
NO_INSTANCE = 0xFFFFFFFF
FIRST_SET = 0x5E7000


class Happening(NamedTuple):
    """Something that the driver reports of a GPU."""

    at_us: int
    gpu: int
    kind: int
    data: int


class Registration(NamedTuple):
    """What a set wants to hear of a GPU, and since when."""

    gpu: int
    kinds: int
    since_us: int


@dataclass(slots=True)
class EventSet:
    """What a set waits for, what it has not given out yet, and up to when it has looked."""

    registrations: list[Registration] = field(default_factory=list)
    queue: deque[Happening] = field(default_factory=lambda: deque(maxlen=QUEUE_LENGTH))
    looked_us: int = 0

    def wants(self, happening: Happening) -> bool:
        """Tell whether an event is one that the set was registered for before."""
        return any(
            wish.gpu == happening.gpu and wish.kinds & happening.kind and wish.since_us < happening.at_us
            for wish in self.registrations
        )


def happenings(
    faults: Faults, partitions: Partitions, gpu: int, after_us: int, until_us: int
) -> Iterator[Happening]:
    """Give what happens to a GPU in (after, until], in no order."""

    def within(at_us: int) -> bool:
        return at_us > ALWAYS_US and after_us < at_us <= until_us

    for fault in faults.of("xid", gpu):
        number, count = fault.numbers
        moments = range(count)
        first, end = (
            bisect_right(moments, edge_us, key=lambda n: fault.start_us + n * SECOND_US // count)
            for edge_us in (after_us, until_us)
        )
        for place in moments[first:end]:
            yield Happening(fault.start_us + place * SECOND_US // count, gpu, XID, number)
    for fault in faults.of("ecc", gpu):
        if fault.numbers[1] and within(fault.start_us):
            yield Happening(fault.start_us, gpu, DOUBLE_BIT_ERROR, 0)
    for fault in faults.of("recovery", gpu):
        if within(fault.start_us):
            yield Happening(fault.start_us, gpu, RECOVERY_ACTION, fault.numbers[0])
    for at_us in partitions.changes(gpu):
        if within(at_us):
            yield Happening(at_us, gpu, MIG_CHANGE, 0)


class EventSets:
    """The event sets of a library. `handle_of` gives the address that stands for a GPU."""

    def __init__(
        self,
        happened: Callable[[int, int, int], Iterator[Happening]],
        handle_of: Callable[[int], int],
        now_us: Callable[[], int],
        wait: Wait,
    ) -> None:
        self._happened = happened
        self._handle_of = handle_of
        self._now_us = now_us
        self._wait = wait
        self._sets: dict[int, EventSet] = {}
        self._next = FIRST_SET

    def clear(self) -> None:
        """Forget all sets, as the last shutdown does."""
        self._sets.clear()

    def create(self, out: Argument) -> int:
        """Give out a new set. No number is ever used again."""
        self._next += 1
        self._sets[self._next] = EventSet(looked_us=self._now_us())
        return put_handle(self._next, out)

    def free(self, pointer: Argument) -> int:
        """Take a set back."""
        return OK if self._sets.pop(address(pointer), None) else INVALID

    def register(self, look: Look, kinds: Argument, pointer: Argument) -> int:
        """Let a set hear events of a GPU from now on; all of the kinds must be known to it."""
        waiting = self._sets.get(address(pointer))
        if waiting is None:
            return INVALID
        if plain(kinds) & ~look.simulation.model.event_types:
            return REFUSED
        self._look(waiting)
        waiting.registrations.append(Registration(look.gpu, plain(kinds), look.at_us))
        return OK

    def wait(self, pointer: Argument, out: Argument, timeout_ms: Argument) -> int:
        """Give out the oldest event that the set has, or wait for one."""
        left_seconds = plain(timeout_ms) / 1_000
        while (waiting := self._sets.get(address(pointer))) is not None:
            self._look(waiting)
            if waiting.queue:
                self._tell(waiting.queue.popleft(), target(out))
                return OK
            if left_seconds <= 0:
                return TIMEOUT
            self._wait(min(left_seconds, STEP_SECONDS))
            left_seconds -= STEP_SECONDS
        return INVALID

    def _look(self, waiting: EventSet) -> None:
        """Take into the queue what happened since the last look."""
        after_us, waiting.looked_us = waiting.looked_us, max(waiting.looked_us, self._now_us())
        gpus = {wish.gpu for wish in waiting.registrations}
        fresh = (one for gpu in gpus for one in self._happened(gpu, after_us, waiting.looked_us))
        waiting.queue.extend(sorted(filter(waiting.wants, fresh)))

    def _tell(self, happening: Happening, told: Argument) -> None:
        put_handle(self._handle_of(happening.gpu), told, type(told).device.offset)
        told.eventType = happening.kind
        told.eventData = happening.data
        told.gpuInstanceId = told.computeInstanceId = NO_INSTANCE
