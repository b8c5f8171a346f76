"""One probe process, as its parent holds it: read without waiting, judged fairly, ended without force."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.cadence import SamplerSettings
from agent.child import Child, command
from agent.errors import FrameError
from agent.frames import MAX_BYTES, Absent, Alive, encode
from agent.mission import Mission, mission_of
from tests.agent.children import LENIENT_SECONDS, Kept, lives, stand_in
from tests.command.waiting import until

SILENT = "select.select([0], [], [], 20)"
DEAF = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
Begin = Callable[[str], Child]


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Know every child that is started."""
    kept = Kept()
    yield kept
    kept.end()


@pytest.fixture
def begin(kept: Kept) -> Iterator[Begin]:
    """Start children, and end them after the test."""
    made: list[Child] = []

    def make(code: str) -> Child:
        child = Child(mission, stand_in(code))
        made.append(child)
        return child

    yield make
    for child in made:
        if child.end(0.3) is None:
            kept.may_live(child.pid)
        child.ended()
        child.forget()


def mission(cell: int) -> Mission:
    """Tell a child where its cell is."""
    return Mission(node="hall2-n017", settings=SamplerSettings(), cell=cell)


def descriptors() -> set[str]:
    """List what this process has open."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def whole(child: Child) -> list[object]:
    """Read a child to its end, and give its frames."""
    found: list[object] = []
    while True:
        open_still = child.read()
        while (frame := child.frame()) is not None:
            found.append(frame)
        if not open_still:
            return found


def test_the_command_is_our_own_module_with_the_mission() -> None:
    """A probe is this interpreter with agent.probe, told everything in one argument."""
    told = mission(7)
    interpreter, *rest, text = command(told)
    assert (Path(interpreter).is_absolute(), rest) == (True, ["-m", "agent.probe"])
    assert mission_of(text) == told


def test_reading_never_waits(begin: Begin) -> None:
    """Of a child that says nothing there is nothing, at once."""
    child = begin(SILENT)
    assert (child.read(), child.frame()) == (True, None)


def test_frames_come_out_whole_whatever_the_pieces(begin: Begin) -> None:
    """Bytes one by one, two frames at once and half a frame at the end: whole frames and no more."""
    one, two = encode(Absent("piecewise")), encode(Alive()) * 2
    child = begin(f"[say(bytes([byte])) for byte in {one!r}]; say({two!r}); say({one[:9]!r})")
    assert whole(child) == [Absent("piecewise"), Alive(), Alive()]


def test_a_huge_length_is_refused_before_it_is_waited_for(begin: Begin) -> None:
    """Memory is bounded: a child that announces more than a frame may be is no probe."""
    child = begin(f"say({(MAX_BYTES + 1).to_bytes(4)!r}); {SILENT}")

    def refused() -> bool:
        child.read()
        try:
            child.frame()
        except FrameError as error:
            return "announced a frame of" in str(error)
        return False

    until(refused, "the refusal")


def test_orders_arrive_line_by_line(begin: Begin) -> None:
    """What the parent orders the child reads from its input; to one that is gone it is said in vain."""
    child = begin("line = sys.stdin.readline(); say((12).to_bytes(4) + b'%12d' % len(line))")
    child.order("admit 3")
    until(lambda: not child.read(), "the end of its output")
    assert bytes(child._buffer) == (12).to_bytes(4) + b"%12d" % len("admit 3\n")
    until(child.ended, "its end")
    for _ in range(3):
        child.order("admit 4")


def test_a_call_in_progress_is_known(begin: Begin) -> None:
    """The parent reads which function is at work on which GPU."""
    child = begin(f"enter(3, 'nvmlDeviceGetTemperature'); {SILENT}")
    call = until(child.in_call, "a call")
    assert (call.gpu, call.function) == (3, "nvmlDeviceGetTemperature")
    assert 0 < time.monotonic() - call.since_ns / 1e9 < LENIENT_SECONDS


def suspected(child: Child) -> bool:
    """Look at a call for the first time; tell whether it lasts longer than it may."""
    assert child.hangs(0.2, LENIENT_SECONDS) is None
    return child.judge_in(0.2, 0.3) == 0.3


def test_a_call_hangs_when_it_lasts_and_is_still_the_same(begin: Begin) -> None:
    """It takes two looks: a machine that stood still as a whole makes nobody hang."""
    child = begin(f"enter(3); {SILENT}")
    until(lambda: suspected(child), "a call that lasts long")
    call = until(lambda: child.hangs(0.2, 0.3), "a call that hangs")
    assert call.gpu == 3


def test_a_call_that_came_back_between_two_looks_does_not_hang(begin: Begin) -> None:
    """Another call on the same GPU, however late the look, begins the suspicion anew."""
    child = begin(f"enter(3); sys.stdin.readline(); enter(3); say(b'x'); {SILENT}")
    until(lambda: suspected(child), "a call that lasts long")
    child.order("go on")
    until(lambda: child.read() and child._buffer, "the second call")
    assert child.hangs(0.2, 0.0) is None


def test_no_gpu_hangs_while_none_is_asked(begin: Begin) -> None:
    """A long call on the driver as a whole, or none at all, is no GPU's fault, and nobody waits for it."""
    child = begin(f"enter(-1, 'nvmlInit'); {SILENT}")
    until(child.in_call, "a call")
    for one in (child, begin(SILENT)):
        assert [one.hangs(0.0, 0.0) for _ in range(3)] == [None] * 3
        assert one.judge_in(0.4, 0.1) == 0.4


def test_the_beat_of_a_probe_is_known(begin: Begin) -> None:
    """When it polled last the parent reads by the clock that nobody sets; before the first time it is 0."""
    assert begin(SILENT).beat_seconds() == 0
    child = begin(f"beat(); {SILENT}")
    beat_seconds = until(child.beat_seconds, "a beat")
    assert 0 < time.monotonic() - beat_seconds < LENIENT_SECONDS


def test_a_child_that_is_dismissed_ends_by_itself(begin: Begin) -> None:
    """The end of its input is the first thing that it is asked by, and its exit code is told."""
    assert begin(f"{SILENT}; sys.exit(4)").end(LENIENT_SECONDS) == 4


def test_a_child_that_does_not_read_is_asked_by_a_signal(begin: Begin) -> None:
    """The second is SIGTERM."""
    assert begin("time.sleep(600)").end(0.3) == -signal.SIGTERM


def test_a_child_that_heeds_neither_is_left_alone(begin: Begin) -> None:
    """Nothing stronger follows: what hangs in the driver lives on, and nobody waits for it."""
    child = begin(f"{DEAF}; enter(0); [time.sleep(9) for _ in iter(int, 1)]")
    until(child.in_call, "its call")
    assert child.end(0.1) is None
    assert not child.ended()
    assert lives(child.pid)


def test_a_child_ends_in_a_session_of_its_own(begin: Begin) -> None:
    """An interrupt at the terminal is the parent's, who hears the probe out."""
    child = begin(SILENT)
    assert os.getsid(child.pid) == child.pid


def test_what_cannot_be_started_leaves_nothing_open() -> None:
    """When there is no such program the error is told, and no descriptor stays behind."""
    before = descriptors()
    for _ in range(3):
        with pytest.raises(OSError, match="No such file"):
            Child(mission, lambda _: ["/nonexistent/python3"])
    assert descriptors() == before


def test_a_child_that_ended_leaves_nothing_open(kept: Kept) -> None:
    """Pipes and cell are closed, so that an agent that replaces its probe for years runs out of nothing."""
    before = descriptors()
    for _ in range(3):
        child = Child(mission, stand_in(""))
        child.end(LENIENT_SECONDS)
        assert child.ended()
        assert child.ended()
    assert descriptors() == before
    assert kept.new() == set()
