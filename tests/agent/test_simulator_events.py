"""Events of the simulated driver: who hears what, once, in order, and for how long one waits."""

from collections.abc import Iterator
from typing import Any

import pynvml
import pytest

from agent.simulator import uninstall
from tests.agent.faulty import Rig, code_of, place_of

XID, MIG_CHANGE, DOUBLE_BIT, RECOVERY = 0x8, 0x100, 0x2, 0x8000


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def listening(rig: Rig, kinds: int = XID, *indexes: int) -> Any:  # noqa: ANN401  pynvml has no types
    """Make a set that hears events of GPUs."""
    waiting = pynvml.nvmlEventSetCreate()
    for index in indexes or (0,):
        pynvml.nvmlDeviceRegisterEvents(rig.handle(index), kinds, waiting)
    return waiting


def fetched(waiting: Any, most: int = 10) -> list[tuple[int, int]]:  # noqa: ANN401
    """Fetch what a set has, until it has no more."""
    found = []
    for _ in range(most):
        try:
            event = pynvml.nvmlEventSetWait_v2(waiting, 0)
        except pynvml.NVMLError_Timeout:
            break
        found.append((event.eventType, event.eventData))
    return found


def test_an_error_is_told_once() -> None:
    """With its number and the GPU that it happened on."""
    rig = Rig("h200x3!xid=2:79@+5").open()
    waiting = listening(rig, XID, 0, 1, 2)
    event = pynvml.nvmlEventSetWait_v2(waiting, 10_000)
    assert (event.eventType, event.eventData) == (XID, 79)
    assert (event.gpuInstanceId, event.computeInstanceId) == (0xFFFFFFFF, 0xFFFFFFFF)
    assert place_of(event.device) == place_of(rig.handle(2))
    assert pynvml.nvmlDeviceGetUUID(event.device) == rig.simulation.uuid(2)
    assert 5 <= rig.seconds() < 5.1
    rig.at(60)
    assert fetched(waiting) == []


def test_each_set_hears_of_it() -> None:
    """What one fetched, another still has."""
    rig = Rig("h200x1!xid=0:31@+5").open()
    one, other = listening(rig), listening(rig)
    rig.at(6)
    assert fetched(one) == fetched(other) == [(XID, 31)]


def test_only_what_happens_after_registering_is_told() -> None:
    """The past is not made up for, and a second registration tells nothing twice."""
    rig = Rig("h200x1!xid=0:13@+5!xid=0:31@+15").open()
    early = pynvml.nvmlEventSetCreate()
    rig.at(10)
    late = listening(rig)
    pynvml.nvmlDeviceRegisterEvents(rig.handle(), XID, early)
    pynvml.nvmlDeviceRegisterEvents(rig.handle(), XID, early)
    rig.at(20)
    assert fetched(late) == fetched(early) == [(XID, 31)]


def test_only_what_was_asked_for_is_told() -> None:
    """Not other GPUs, not other kinds."""
    rig = Rig("h200x2!xid=0:13@+5!mig=0:none@+6!xid=1:31@+7").open()
    waiting = listening(rig, MIG_CHANGE)
    rig.at(20)
    assert fetched(waiting) == [(MIG_CHANGE, 0)]


def test_nothing_to_tell_takes_the_timeout_and_no_longer() -> None:
    """Zero does not wait at all."""
    rig = Rig("h200x1").open()
    waiting = listening(rig)
    assert code_of(pynvml.nvmlEventSetWait_v2, waiting, 0) == 10
    assert rig.seconds() == 0
    assert code_of(pynvml.nvmlEventSetWait_v2, waiting, 1_510) == 10
    assert rig.seconds() == pytest.approx(1.51)


def test_events_come_in_the_order_of_time() -> None:
    """Of all GPUs and kinds together."""
    rig = Rig("h200x2!xid=0:13@+9!xid=1:31@+3!mig=1:none@+5..+7!ecc=0:0:1@+4!recovery=0:2@+6").open()
    waiting = listening(rig, XID | MIG_CHANGE | DOUBLE_BIT | RECOVERY, 0, 1)
    rig.at(10)
    expected = [(XID, 31), (DOUBLE_BIT, 0), (MIG_CHANGE, 0), (RECOVERY, 2), (MIG_CHANGE, 0), (XID, 13)]
    assert fetched(waiting) == expected


def test_a_layout_that_follows_another_is_one_change() -> None:
    """What is over and what begins at the same moment is told together."""
    rig = Rig("h200x1!mig=0:none@+5..+10!mig=0:1g.18gb@+10..+15").open()
    waiting = listening(rig, MIG_CHANGE)
    rig.at(20)
    assert fetched(waiting) == [(MIG_CHANGE, 0)] * 3


def test_a_storm_is_spread_over_a_second() -> None:
    """As many as were asked for, none lost between two waits."""
    rig = Rig("h200x1!xid=0:63*100@+5").open()
    waiting = listening(rig)
    counts = []
    for seconds in (4.99, 5.25, 5.5, 7):
        rig.at(seconds)
        counts.append(len(fetched(waiting, 200)))
    assert counts == [0, 26, 25, 49]


def test_a_queue_is_bounded_and_loses_the_oldest() -> None:
    """Nobody fetched 10 500 events: the last 10 000 are there."""
    rig = Rig("h200x1!xid=0:13*500@+1!xid=0:31*10000@+5").open()
    waiting = listening(rig)
    rig.at(10)
    numbers = [number for _, number in fetched(waiting, 20_000)]
    assert numbers == [31] * 10_000


def test_registering_needs_kinds_that_are_supported() -> None:
    """One that is not fails the whole call; so does a set that is none, and a lost GPU."""
    rig = Rig("h200x2!lost=1@+10").open()
    waiting, handle, lost = pynvml.nvmlEventSetCreate(), rig.handle(0), rig.handle(1)
    supported = pynvml.nvmlDeviceGetSupportedEventTypes(handle)
    assert supported & XID
    assert code_of(pynvml.nvmlDeviceRegisterEvents, handle, supported, waiting) == 0
    assert code_of(pynvml.nvmlDeviceRegisterEvents, handle, XID | 0x10, waiting) == 3
    assert code_of(pynvml.nvmlDeviceRegisterEvents, handle, XID, None) == 2
    rig.at(12)
    assert code_of(pynvml.nvmlDeviceRegisterEvents, lost, XID, waiting) == 15


def test_a_driver_without_events_refuses_sets() -> None:
    """The word takes all of it away."""
    Rig("h200x1", "events").open()
    assert code_of(pynvml.nvmlEventSetCreate) == 3


def test_a_set_ends_when_it_is_freed_or_the_library_is_shut_down() -> None:
    """Waiting on it is an invalid argument from then on."""
    rig = Rig("h200x1").open()
    freed, forgotten = listening(rig), listening(rig)
    pynvml.nvmlEventSetFree(freed)
    assert code_of(pynvml.nvmlEventSetWait_v2, freed, 1_000) == 2
    assert code_of(pynvml.nvmlEventSetFree, freed) == 2
    rig.reopen()
    assert code_of(pynvml.nvmlEventSetWait_v2, forgotten, 1_000) == 2
    assert rig.seconds() == 0
